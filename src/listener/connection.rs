//! An accepted connection: counted, matched to its filter chain, and set on its way.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::access_log::{self, Logs};
use crate::config::model::LogType;
use crate::drain::Drain;
use crate::drain::motion::{Frozen, Reason};
use crate::fault::Flag;
use crate::l4::{Arrival, Chain, Connection, Facts, Guard, Work};
use crate::local::Local;
use crate::net::{PeerAddress, Stream};
use crate::stats::names::{ListenerStats, ListenerWorkerStats};
use crate::tls::Acceptor;

use super::chain::Matcher;
use super::room::{Full, Room};
use super::secure::{self, Inspector, Saw};

/// What every new connection of a listener meets.
pub(super) struct Admission {
    pub(super) name: Rc<str>,
    pub(super) matcher: Matcher<Line>,
    /// First bytes are looked at before the filter chain is chosen.
    pub(super) inspector: Option<Inspector>,
    pub(super) local: Local,
    pub(super) stats: Rc<ListenerStats>,
    pub(super) worker_stats: ListenerWorkerStats,
    /// `access_log` of the listener.
    pub(super) logs: Option<Rc<Logs>>,
    /// Where there are limits.
    pub(super) room: Option<Room>,
    pub(super) drain: Drain,
    /// The number of the next connection, over all workers.
    pub(super) next: Arc<AtomicU64>,
}

/// A filter chain, and what a connection passes before it.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) chain: Chain,
    pub(super) tls: Option<Rc<Acceptor>>,
    pub(super) handshake_timeout: Option<Duration>,
}

impl Admission {
    /// Begins a connection as a task of this thread.
    pub(super) fn begin(self: &Rc<Self>, stream: Stream, peer: PeerAddress) {
        // Closed at once, and not counted as one that was there.
        if let Some(Err(full)) = self.room.as_ref().map(Room::look) {
            return match full {
                Full::Own => &self.stats.downstream_cx_overflow,
                Full::All => &self.stats.downstream_global_cx_overflow,
            }
            .inc();
        }
        let accepted = Instant::now();
        self.stats.downstream_cx_total.inc();
        self.worker_stats.downstream_cx_total.inc();
        let mut presence = Presence::new(self.clone(), accepted);
        // A connection that has no address any more, or takes no options, is gone.
        let Ok(local) = stream.local_address() else { return };
        if stream.set_nodelay().is_err() {
            return;
        }
        let facts = Facts { peer, local, accepted, listener: self.name.clone(), tls: None, id: self.number() };
        presence.log(&facts);
        let plain = match self.inspector.is_none().then(|| self.matcher.find(&facts, &Saw::default())) {
            Some(None) => {
                presence.unmatched();
                return self.stats.no_filter_chain_match.inc();
            }
            Some(Some(Line { chain, tls: None, .. })) => Some(chain),
            Some(Some(_)) | None => None,
        };
        let connection = Connection { stream, facts, held: self.drain.join(), guard: Box::new(presence) };
        match plain {
            Some(chain) => tokio::task::spawn_local(chain.run(connection)),
            None => tokio::task::spawn_local(secure::settle(self.clone(), connection)),
        };
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes a connection over from another epoch; it goes on when the work is polled.
    ///
    /// # Errors
    /// Why it cannot be.
    pub(super) fn thaw(self: &Rc<Self>, frozen: Frozen) -> Result<Work, Reason> {
        let Frozen { kind, listener: _, peer, local, age, sockets, record } = frozen;
        let mut sockets = sockets.into_iter();
        let stream = sockets.next().and_then(|socket| Stream::from_fd(socket).ok()).ok_or(Reason::Socket)?;
        let address =
            |known: Option<std::net::SocketAddr>, asked: fn(&Stream) -> std::io::Result<PeerAddress>| match known {
                Some(known) => Ok(PeerAddress::from(known)),
                None => asked(&stream).map_err(|_| Reason::Socket),
            };
        let (peer, local) = (address(peer, Stream::peer_address)?, address(local, Stream::local_address)?);
        let accepted = Instant::now().checked_sub(age).ok_or(Reason::Record)?;
        let facts = Facts { peer, local, accepted, listener: self.name.clone(), tls: None, id: self.number() };
        // Only what speaks no TLS moves, so a chain that wants it is not for this one.
        let line = self.matcher.find(&facts, &Saw::default()).filter(|line| line.tls.is_none());
        let chain = &line.ok_or(Reason::NoFilterChain)?.chain;
        let mut guard = Box::new(Presence::new(self.clone(), accepted));
        guard.log(&facts);
        guard.moved();
        let connection = Connection { stream, facts, held: self.drain.join(), guard };
        chain.thaw(Arrival { connection, kind, sockets: sockets.collect(), record })
    }
}

/// That a connection of a listener exists.
struct Presence {
    admission: Rc<Admission>,
    accepted: Instant,
    /// It ends elsewhere.
    moved: bool,
    /// Its line in the listener's access log.
    line: Option<Box<access_log::Line>>,
}

impl Presence {
    fn new(admission: Rc<Admission>, accepted: Instant) -> Self {
        if let Some(room) = &admission.room {
            room.enter();
        }
        admission.stats.downstream_cx_active.inc();
        admission.worker_stats.downstream_cx_active.inc();
        Self { admission, accepted, moved: false, line: None }
    }

    /// It has a line where there is a log.
    fn log(&mut self, facts: &Facts) {
        self.line = self.admission.logs.as_ref().map(|logs| {
            let mut line = Box::new(access_log::Line::new(logs.clone(), facts.accepted));
            let context = &mut line.live.context;
            context.connection_id = facts.id;
            context.stream_id = uuid::Uuid::new_v4().to_string();
            context.listener = facts.listener.to_string();
            context.peer = facts.peer.to_string();
            context.local = facts.local.to_string();
            line
        });
    }
}

impl Guard for Presence {
    fn moved(&mut self) {
        self.moved = true;
    }

    fn arrived(&mut self) {
        self.moved = false;
    }

    fn named(&mut self, server_name: &str) {
        if let Some(line) = &mut self.line {
            line.live.context.server_name = server_name.to_owned();
        }
    }

    fn unmatched(&mut self) {
        if let Some(line) = &mut self.line {
            line.live.context.flags |= Flag::NoRouteFound.bit();
            line.live.context.details = "filter_chain_not_found".to_owned();
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        if let Some(room) = &self.admission.room {
            room.leave();
        }
        let stats = &self.admission.stats;
        stats.downstream_cx_active.dec();
        self.admission.worker_stats.downstream_cx_active.dec();
        if !self.moved {
            stats.downstream_cx_destroy.inc();
            if let Some(line) = &self.line {
                line.write(LogType::NotSet);
            }
            stats.downstream_cx_length_ms.record(self.accepted.elapsed().as_millis() as u64);
        }
    }
}
