//! A connection's line in the access logs.

use std::io;
use std::rc::Rc;
use std::time::Instant;

use crate::access_log::{self, Context, Live, Logs};
use crate::config::model::{LogType, Moment};
use crate::fault::Flag;
use crate::l4::Facts;
use crate::upstream::Cluster;
use crate::upstream::pool::Refused;

/// The line of one connection; nothing where there are no logs.
pub(super) struct Line(Option<Box<access_log::Line>>);

impl Line {
    /// Of a connection that has been accepted.
    pub(super) fn new(logs: Option<&Rc<Logs>>, facts: &Facts) -> Self {
        Self(logs.map(|logs| {
            let mut line = Box::new(access_log::Line::new(logs.clone(), facts.accepted));
            line.live.context.connection_id = facts.id;
            line.live.context.stream_id = uuid::Uuid::new_v4().to_string();
            place(&mut line.live.context, facts);
            line
        }))
    }

    /// Of a connection that comes from another epoch.
    pub(super) fn from_record(logs: Option<&Rc<Logs>>, facts: &Facts, record: Option<Context>) -> Self {
        let Some(record) = record else { return Self::new(logs, facts) };
        Self(logs.map(|logs| {
            let mut line = Box::new(access_log::Line::from_record(logs.clone(), record));
            place(&mut line.live.context, facts);
            line
        }))
    }

    /// As it is written down for another epoch.
    pub(super) fn to_record(&self) -> Option<Context> {
        self.0.as_ref().map(|line| line.to_record())
    }

    /// Whether our own address towards the host is shown.
    pub(super) fn shows_upstream_local(&self) -> bool {
        self.0.as_ref().is_some_and(|line| line.wanted().upstream_local)
    }

    /// The cluster that it goes to.
    pub(super) fn cluster(&mut self, cluster: &Cluster) {
        self.note(|live| {
            let model = cluster.model();
            live.context.cluster.clone_from(&model.stat_name);
            live.context.cluster_raw.clone_from(&model.name);
        });
    }

    /// A host is tried.
    pub(super) fn tried(&mut self, host: &crate::upstream::Host) {
        self.note(|live| {
            let address = host.endpoint().address.to_string();
            live.context.host.clone_from(&address);
            let name = &host.endpoint().hostname;
            live.context.host_name.clone_from(if name.is_empty() { &address } else { name });
            live.context.attempts += 1;
            live.tried(address);
            live.reach_once(Moment::ConnectBegin, Instant::now());
        });
    }

    /// A host has taken it.
    pub(super) fn connected(&mut self, upstream_local: String) {
        self.note(|live| {
            let now = Instant::now();
            live.reach(Moment::ConnectEnd, now);
            live.reach(Moment::UpstreamSendBegin, now);
            live.context.upstream_local = upstream_local;
        });
    }

    /// A host has not taken it.
    pub(super) fn refused(&mut self, refused: &Refused) {
        self.flag(Flag::UpstreamConnectionFailure);
        if let Refused::Connect(error) = refused {
            self.note(|live| live.context.upstream_failure = reason(error));
        }
    }

    /// Something went wrong.
    pub(super) fn flag(&mut self, flag: Flag) {
        self.note(|live| live.context.flags |= flag.bit());
    }

    /// Bytes from and to the client so far.
    pub(super) fn bytes(&mut self, received: u64, sent: u64) {
        self.note(|live| (live.context.received, live.context.sent) = (received, sent));
    }

    /// Writes a line about a connection that goes on.
    pub(super) fn write(&self, kind: LogType) {
        if let Some(line) = &self.0 {
            line.write(kind);
        }
    }

    /// The connection has ended: its line.
    pub(super) fn end(self) {
        self.write(LogType::TcpConnectionEnd);
    }

    fn note(&mut self, note: impl FnOnce(&mut Live)) {
        if let Some(line) = &mut self.0 {
            note(&mut line.live);
        }
    }
}

/// What the system says of a connect, in Envoy's words: without its number, and without spaces.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    format!("delayed_connect_error:_{}", text.replace(' ', "_"))
}

fn place(context: &mut Context, facts: &Facts) {
    context.listener = facts.listener.to_string();
    context.peer = facts.peer.to_string();
    context.local = facts.local.to_string();
}
