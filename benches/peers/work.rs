//! What is measured: the works and the figures each of them gives.

use clap::ValueEnum;

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

/// What is spoken with the clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Front {
    /// HTTP/1.1 in the clear.
    Http1,
    /// HTTP/2 in the clear, by prior knowledge.
    Http2,
    /// HTTP/1.1 over TLS 1.3.
    Tls,
    /// HTTP/2 over TLS 1.3, by ALPN.
    TlsHttp2,
}

impl Front {
    /// On the command line of the load.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Whether TLS is spoken.
    pub(crate) fn is_tls(self) -> bool {
        matches!(self, Self::Tls | Self::TlsHttp2)
    }

    /// Whether HTTP/2 is spoken.
    pub(crate) fn is_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::TlsHttp2)
    }
}

/// What is spoken on both sides of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// With the clients.
    pub(crate) front: Front,
    /// Whether it is HTTP/2 with the origin; always in the clear.
    pub(crate) http2_behind: bool,
}

/// HTTP/1.1 on both sides.
const PLAIN: Shape = Shape { front: Front::Http1, http2_behind: false };

/// One kind of measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Work {
    /// On the command line and in the tables.
    pub(crate) name: &'static str,
    /// What the clients do; nothing for a peer at rest.
    pub(crate) mode: Option<Mode>,
    /// How many connections; `None` is the number on the command line.
    connections: Option<u32>,
    /// Requests in flight on each connection.
    pub(crate) streams: u32,
    /// What is spoken.
    pub(crate) shape: Shape,
    /// In words.
    pub(crate) what: &'static str,
}

/// All works, in the order in which they are done.
pub(crate) const WORKS: [Work; 12] = [
    timed("h1-1", Mode::Keep, 1, "one keep-alive connection"),
    timed("h1-64", Mode::Keep, 64, "64 keep-alive connections, closed loop"),
    timed("h1-500", Mode::Keep, 500, "500 keep-alive connections, closed loop"),
    timed("fresh-64", Mode::Fresh, 64, "a new connection for every request, 64 at a time"),
    Work {
        shape: Shape { front: Front::Tls, ..PLAIN },
        ..timed("tls-64", Mode::Keep, 64, "64 keep-alive connections over TLS 1.3, closed loop")
    },
    Work {
        shape: Shape { front: Front::Tls, ..PLAIN },
        ..timed("tls-fresh", Mode::Fresh, 16, "a full TLS 1.3 handshake for every request, 16 at a time")
    },
    Work {
        shape: Shape { front: Front::TlsHttp2, ..PLAIN },
        streams: 32,
        ..timed("h2tls-h1", Mode::Keep, 8, "8 HTTP/2 connections over TLS 1.3 with 32 streams each, HTTP/1.1 behind")
    },
    Work {
        shape: Shape { front: Front::Http2, http2_behind: true },
        streams: 32,
        ..timed("h2-h2", Mode::Keep, 8, "8 HTTP/2 connections with 32 streams each, HTTP/2 behind")
    },
    memory("rest", None, Some(0), "memory after its first request"),
    memory("busy-500", Some(Mode::Busy), Some(500), "memory with 500 requests in flight"),
    memory("idle", Some(Mode::Idle), None, "memory with idle keep-alive connections"),
    memory("busy", Some(Mode::Busy), None, "memory with that many requests in flight"),
];

const fn timed(name: &'static str, mode: Mode, connections: u32, what: &'static str) -> Work {
    memory(name, Some(mode), Some(connections), what)
}

const fn memory(name: &'static str, mode: Option<Mode>, connections: Option<u32>, what: &'static str) -> Work {
    Work { name, mode, connections, streams: 1, shape: PLAIN, what }
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
