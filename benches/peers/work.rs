//! What is measured: the works and the figures each of them gives.

use crate::args::Mode;

/// One figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Figure {
    /// User and system microseconds of the peer's processes for each request.
    Cpu,
    /// Median latency, milliseconds.
    P50,
    /// 99th percentile of latency, milliseconds.
    P99,
    /// PSS of the peer's processes, megabytes (10^6 bytes).
    Memory,
    /// Growth of PSS over the peer at rest, kilobytes (10^3 bytes) for each connection.
    MemoryEach,
}

/// One kind of measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Work {
    /// On the command line and in the tables.
    pub(crate) name: &'static str,
    /// What the clients do; nothing for a peer at rest.
    pub(crate) mode: Option<Mode>,
    /// How many connections; `None` is the number on the command line.
    connections: Option<u32>,
    /// In words.
    pub(crate) what: &'static str,
}

/// All works, in the order in which they are done.
pub(crate) const WORKS: [Work; 8] = [
    timed("h1-1", Mode::Keep, 1, "one keep-alive connection"),
    timed("h1-64", Mode::Keep, 64, "64 keep-alive connections, closed loop"),
    timed("h1-500", Mode::Keep, 500, "500 keep-alive connections, closed loop"),
    timed("fresh-64", Mode::Fresh, 64, "a new connection for every request, 64 at a time"),
    Work { name: "rest", mode: None, connections: Some(0), what: "memory after its first request" },
    timed("busy-500", Mode::Busy, 500, "memory with 500 requests in flight"),
    Work { name: "idle", mode: Some(Mode::Idle), connections: None, what: "memory with idle keep-alive connections" },
    Work { name: "busy", mode: Some(Mode::Busy), connections: None, what: "memory with that many requests in flight" },
];

const fn timed(name: &'static str, mode: Mode, connections: u32, what: &'static str) -> Work {
    Work { name, mode: Some(mode), connections: Some(connections), what }
}

impl Work {
    /// How many connections it opens, where `many` is the number on the command line.
    pub(crate) fn connections(&self, many: u32) -> u32 {
        self.connections.unwrap_or(many)
    }

    /// Whether it is a memory work, done in fewer rounds because it hardly varies.
    pub(crate) fn is_memory(&self) -> bool {
        !matches!(self.mode, Some(Mode::Keep | Mode::Fresh))
    }

    /// The figures it gives.
    pub(crate) fn figures(&self) -> &'static [Figure] {
        match self.mode {
            // With one connection the peer sleeps between requests, and its account is mostly the machine's price of waking.
            Some(Mode::Keep) if self.connections == Some(1) => &[Figure::P50, Figure::P99],
            Some(Mode::Keep | Mode::Fresh) => &[Figure::Cpu, Figure::P50, Figure::P99],
            Some(Mode::Idle) => &[Figure::MemoryEach],
            Some(Mode::Busy) | None => &[Figure::Memory],
        }
    }
}
