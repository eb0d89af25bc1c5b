//! What a client saw, each kind of failure apart.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::time::Duration;

use super::message::ReadError;

/// How one request failed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Failure {
    /// The connection was refused.
    Refused,
    /// RST (or EPIPE): while connecting, writing or reading.
    Reset,
    /// Closed before the first byte of the answer.
    EofBeforeAnswer,
    /// Closed in the middle of the answer.
    EofMidAnswer,
    /// No whole answer in time.
    Timeout,
    /// An answer, but not 200.
    BadStatus(u16),
    /// Anything else, with its text.
    Other(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted => {
                Self::Reset
            }
            io::ErrorKind::TimedOut => Self::Timeout,
            _ => Self::Other(error.to_string()),
        }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Eof(false) => Self::EofBeforeAnswer,
            ReadError::Eof(true) => Self::EofMidAnswer,
            ReadError::Io(error) => error.into(),
            ReadError::Malformed(what) => Self::Other(what),
        }
    }
}

/// Counts of one client or of many.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Requests answered with 200, wholly.
    pub(crate) ok: u64,
    /// Requests that failed, by how.
    pub(crate) failures: BTreeMap<Failure, u64>,
    /// Of the failures: those on a connection that had carried an answer before, with no byte of this answer seen
    /// (the keep-alive race).
    pub(crate) races: u64,
    /// Connections opened.
    pub(crate) connections: u64,
    /// Connections the proxy closed while no request was on the wire, and the client saw it before it wrote one.
    pub(crate) closed_idle: u64,
    /// Connections ended by `connection: close` on an answer.
    pub(crate) closed_by_answer: u64,
    /// The longest time from the first byte of a request to the last of its answer, the client's own pauses taken off.
    pub(crate) worst: Duration,
    /// The client's ports of connections on which a request failed, or that the proxy closed; 0 where none came about.
    pub(crate) lost: Vec<u16>,
    total: Duration,
}

impl Tally {
    /// Notes an answered request.
    pub(crate) fn answered(&mut self, took: Duration) {
        self.ok += 1;
        self.worst = self.worst.max(took);
        self.total += took;
    }

    /// Notes a failed request.
    pub(crate) fn failed(&mut self, failure: Failure, reused: bool, took: Duration) {
        if reused && matches!(failure, Failure::Reset | Failure::EofBeforeAnswer) {
            self.races += 1;
        }
        *self.failures.entry(failure).or_default() += 1;
        self.worst = self.worst.max(took);
    }

    /// All failures together.
    pub(crate) fn errors(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Failures of one kind.
    pub(crate) fn count(&self, failure: &Failure) -> u64 {
        self.failures.get(failure).copied().unwrap_or(0)
    }

    /// Adds another client's counts.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.ok += other.ok;
        for (failure, count) in &other.failures {
            *self.failures.entry(failure.clone()).or_default() += count;
        }
        self.races += other.races;
        self.connections += other.connections;
        self.closed_idle += other.closed_idle;
        self.closed_by_answer += other.closed_by_answer;
        self.worst = self.worst.max(other.worst);
        self.lost.extend(&other.lost);
        self.total += other.total;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mean = self.total.checked_div(u32::try_from(self.ok).unwrap_or(u32::MAX)).unwrap_or_default();
        write!(
            f,
            "ok {} errors {} {:?} | mean {mean:.1?} worst {:.1?} | connections {} closed by answer {} idle {} races {}",
            self.ok,
            self.errors(),
            self.failures,
            self.worst,
            self.connections,
            self.closed_by_answer,
            self.closed_idle,
            self.races,
        )
    }
}
