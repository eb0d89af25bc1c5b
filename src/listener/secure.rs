//! What happens to a connection before its filter chain gets it: its first bytes are looked at where chains are matched by them, and TLS shakes hands.
//!
//! A task of its own does that and ends with it, so that nothing of it is kept while the connection lives. Every wait is bounded: by the
//! `listener_filters_timeout`, by the handshake's time, by the drain's deadline. A connection with TLS does not move to another epoch: it stays and drains.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tracing::debug;

use super::connection::{Admission, Line};
use crate::config::model::Inspection;
use crate::drain::{Held, Phase};
use crate::l4::Connection;
use crate::net::tls::{Hello, Inspected, inspect};
use crate::stats::names::TlsInspectorStats;

/// How long a handshake may take where nothing is said. Envoy sets no limit then; a client that never finishes would cost memory for an hour.
const HANDSHAKE: Duration = Duration::from_secs(15);

/// What is known of a client's first bytes when a filter chain is chosen.
#[derive(Debug, Default)]
pub struct Saw {
    /// The client's hello, if it speaks TLS.
    pub hello: Option<Hello>,
}

/// How first bytes are looked at, and how it went.
pub(super) struct Inspector {
    pub(super) settings: Inspection,
    pub(super) stats: TlsInspectorStats,
}

/// Why a wait ended in vain.
enum Cut {
    Late,
    Over,
}

/// Everything up to the filter chain, for a connection that needs more than to be matched.
pub(super) async fn settle(admission: Rc<Admission>, mut connection: Connection) {
    let mut saw = Saw::default();
    if let Some(inspector) = &admission.inspector {
        let Some(seen) = look(&admission, inspector, &connection).await else { return };
        saw = seen;
    }
    if let Some(name) = saw.hello.as_ref().and_then(|hello| hello.server_name.as_deref()) {
        connection.guard.named(name);
    }
    let Some(line) = admission.matcher.find(&connection.facts, &saw).cloned() else {
        connection.guard.unmatched();
        admission.stats.no_filter_chain_match.inc();
        return;
    };
    if line.tls.is_some() {
        connection.held.never_moves();
        let Some(secured) = shake_hands(&admission, &line, connection, saw.hello).await else { return };
        connection = secured;
    }
    tokio::task::spawn_local(line.chain.run(connection));
}

/// `None`: there is nothing to go on with.
async fn look(admission: &Admission, inspector: &Inspector, connection: &Connection) -> Option<Saw> {
    let Inspector { settings, stats } = inspector;
    let _waiting = Waiting::new(admission);
    let found = bounded(admission, &connection.held, settings.timeout, inspect(&connection.stream, settings.max_hello));
    let (found, bytes) = match found.await {
        Ok(Ok(found)) => found,
        Ok(Err(_)) => {
            admission.stats.downstream_listener_filter_error.inc();
            return None;
        }
        Err(Cut::Over) => return None,
        Err(Cut::Late) => {
            admission.stats.downstream_pre_cx_timeout.inc();
            return settings.continue_on_timeout.then(Saw::default);
        }
    };
    stats.bytes_processed.record(bytes as u64);
    match found {
        Inspected::Tls(hello) => {
            stats.tls_found.inc();
            let sni = hello.server_name.is_some();
            if sni { &stats.sni_found } else { &stats.sni_not_found }.inc();
            let none = hello.protocols.is_empty();
            if none { &stats.alpn_not_found } else { &stats.alpn_found }.inc();
            Some(Saw { hello: Some(hello) })
        }
        Inspected::Malformed if settings.close_on_errors => {
            stats.tls_not_found.inc();
            None
        }
        Inspected::Plain | Inspected::Malformed => {
            stats.tls_not_found.inc();
            Some(Saw::default())
        }
        Inspected::TooLarge => {
            stats.client_hello_too_large.inc();
            None
        }
        Inspected::Closed => {
            admission.stats.downstream_listener_filter_remote_close.inc();
            None
        }
    }
}

async fn shake_hands(
    admission: &Admission,
    line: &Line,
    connection: Connection,
    hello: Option<Hello>,
) -> Option<Connection> {
    let acceptor = line.tls.as_ref()?;
    let Connection { stream, mut facts, held, guard } = connection;
    let work = async {
        let hello = match hello {
            Some(hello) => hello,
            None => match inspect(&stream, crate::net::tls::LONGEST_HELLO).await {
                Ok((Inspected::Tls(hello), _)) => hello,
                // What is no TLS the handshake itself refuses, with the alert that is due.
                Ok((Inspected::Plain | Inspected::Malformed | Inspected::TooLarge, _)) => Hello::default(),
                Ok((Inspected::Closed, _)) | Err(_) => return None,
            },
        };
        acceptor.accept(stream, hello).await.inspect_err(|error| debug!(peer = %facts.peer, "TLS: {error}")).ok()
    };
    match bounded(admission, &held, Some(line.handshake_timeout.unwrap_or(HANDSHAKE)), work).await {
        Ok(secured) => {
            let (stream, tls) = secured?;
            facts.tls = Some(tls);
            Some(Connection { stream, facts, held, guard })
        }
        Err(Cut::Late) => {
            admission.stats.downstream_cx_transport_socket_connect_timeout.inc();
            None
        }
        Err(Cut::Over) => None,
    }
}

/// Has `work` done within a time, and before the drain is over.
async fn bounded<T>(
    admission: &Admission,
    held: &Held,
    time: Option<Duration>,
    work: impl Future<Output = T>,
) -> Result<T, Cut> {
    let timer = admission.local.timers().timer();
    let deadline = time.map(|time| timer.at(Instant::now() + time));
    let phase = Cell::new(held.phase());
    let mut work = pin!(work);
    poll_fn(|context| {
        if let Poll::Ready(result) = work.as_mut().poll(context) {
            return Poll::Ready(Ok(result));
        }
        while phase.get() != Phase::Over {
            match pin!(held.changed(phase.get())).poll(context) {
                Poll::Ready(now) => phase.set(now),
                Poll::Pending => break,
            }
        }
        if phase.get() == Phase::Over {
            return Poll::Ready(Err(Cut::Over));
        }
        match deadline {
            Some(deadline) => timer.poll_until(context, deadline).map(|()| Err(Cut::Late)),
            None => Poll::Pending,
        }
    })
    .await
}

/// That a connection is being looked at.
struct Waiting<'a> {
    admission: &'a Admission,
}

impl<'a> Waiting<'a> {
    fn new(admission: &'a Admission) -> Self {
        admission.stats.downstream_pre_cx_active.inc();
        Self { admission }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.admission.stats.downstream_pre_cx_active.dec();
    }
}
