//! Signals, as a value that the main loop waits on.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// SIGTERM or SIGINT.
    Terminate,
    /// SIGUSR1: open log files again.
    ReopenLogs,
    /// SIGHUP: nothing, as Envoy does; a reload is the supervisor's.
    HangUp,
}

/// The signals an epoch handles. SIGPIPE is ignored by Rust's runtime already.
pub(super) struct Signals {
    term: Signal,
    int: Signal,
    usr1: Signal,
    hup: Signal,
}

impl Signals {
    /// Installs the handlers; from here on none of these signals kills the process.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn install() -> io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            usr1: signal(SignalKind::user_defined1())?,
            hup: signal(SignalKind::hangup())?,
        })
    }

    /// The next one. Cancel safe.
    pub(super) async fn next(&mut self) -> Request {
        tokio::select! {
            _ = self.term.recv() => Request::Terminate,
            _ = self.int.recv() => Request::Terminate,
            _ = self.usr1.recv() => Request::ReopenLogs,
            _ = self.hup.recv() => Request::HangUp,
        }
    }
}
