//! HTTP/2 connections over a socket, for whichever side we are: settings of the `h2` crate, a socket whose bytes are counted and sieved,
//! and keep-alive pings.
//!
//! `upstream` opens connections with it, `http` accepts them. What a connection is lives in the `h2` crate and cannot be written down:
//! a connection drains where it is, and a reload touches only those that are opened later.

use std::io;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::SendStream;

use crate::codec::http2::{Flood, Sieve};
use crate::config::model::Http2Options;
use crate::local::{Deadline, Timer};
use crate::net::{Stream, Watch, Watched};
use crate::stats::Counter;
use crate::stats::names::Http2Stats;

mod keepalive;

pub use keepalive::Keepalive;

/// What a stream may hold that the peer does not take, in bytes.
const SEND_BUFFER: usize = 64 * 1024;

/// The settings of a connection that we open; `header_bytes` bounds a head.
pub fn client(options: &Http2Options, header_bytes: u32) -> h2::client::Builder {
    let mut builder = h2::client::Builder::new();
    builder
        .enable_push(false)
        .header_table_size(options.hpack_table_size)
        .initial_window_size(options.initial_stream_window)
        .initial_connection_window_size(options.initial_connection_window)
        .max_header_list_size(header_bytes)
        .max_send_buffer_size(SEND_BUFFER);
    builder
}

/// The settings of a connection that a client opens; `header_bytes` bounds a head.
pub fn server(options: &Http2Options, header_bytes: u32) -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    builder
        .header_table_size(options.hpack_table_size)
        .initial_window_size(options.initial_stream_window)
        .initial_connection_window_size(options.initial_connection_window)
        .max_concurrent_streams(options.max_concurrent_streams)
        .max_header_list_size(header_bytes)
        .max_send_buffer_size(SEND_BUFFER);
    if options.allow_connect {
        builder.enable_connect_protocol();
    }
    builder
}

/// Ready with how much a stream takes now, as far as `want` goes; with `None` when it takes no more at all.
pub fn poll_room(stream: &mut SendStream<Bytes>, want: usize, context: &mut Context<'_>) -> Poll<Option<usize>> {
    while stream.capacity() == 0 {
        stream.reserve_capacity(want);
        if !matches!(ready!(stream.poll_capacity(context)), Some(Ok(_))) {
            return Poll::Ready(None);
        }
    }
    Poll::Ready(Some(stream.capacity()))
}

/// The socket of a connection.
pub type Socket = Watched<Eye>;

/// Counts what passes, and ends a connection whose peer floods us.
pub struct Eye {
    sieve: Sieve,
    codec: Http2Stats,
    counters: Counters,
    /// How long the peer may take to read the end, and until when.
    linger: Option<(Timer, Duration, Deadline)>,
    /// The peer ended the connection, or broke it.
    ended: std::rc::Rc<std::cell::Cell<bool>>,
    /// The peer's settings have come, where somebody wants to know.
    settled: Option<std::rc::Rc<std::cell::Cell<bool>>>,
}

/// What an [`Eye`] counts beside the codec's statistics.
#[derive(Clone)]
pub struct Counters {
    /// Bytes received.
    pub received: Counter,
    /// Bytes sent.
    pub sent: Counter,
    /// Connections that broke the protocol.
    pub protocol_error: Counter,
    /// Peers that said that they go away, where that is counted.
    pub goes_away: Option<Counter>,
}

impl Eye {
    /// For a connection that a client opened, or that we open.
    pub fn new(options: &Http2Options, from_client: bool, codec: &Http2Stats, counters: Counters) -> Self {
        let sieve = Sieve::new(options.floods, from_client, Instant::now());
        Self { sieve, codec: codec.clone(), counters, linger: None, ended: std::rc::Rc::default(), settled: None }
    }

    /// After the end the peer has so long to read it and to close (`delayed_close_timeout`); without, the socket is closed at once.
    #[must_use]
    pub fn lingering(mut self, timer: Timer, wait: Duration) -> Self {
        self.linger = Some((timer, wait, Deadline::NEVER));
        self
    }

    /// Becomes true when the peer has ended the connection.
    pub fn ended(&self) -> std::rc::Rc<std::cell::Cell<bool>> {
        self.ended.clone()
    }

    /// Becomes true when the peer's settings have come; the crate knows them once it has been polled.
    pub fn settled(&mut self) -> std::rc::Rc<std::cell::Cell<bool>> {
        self.settled.get_or_insert_default().clone()
    }

    /// Over a socket.
    pub fn over(self, stream: Stream) -> Socket {
        Watched::new(stream, self)
    }

    fn count(&mut self) {
        let tally = self.sieve.take_tally();
        self.codec.rx_reset.add(tally.rx_reset);
        self.codec.tx_reset.add(tally.tx_reset);
        self.codec.goaway_sent.add(tally.goaway_sent);
    }
}

impl Watch for Eye {
    fn received(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            self.ended.set(true);
            return Ok(());
        }
        self.counters.received.add(bytes.len() as u64);
        let went = self.sieve.goes_away();
        let passed = self.sieve.received(bytes, Instant::now());
        if let Some(settled) = self.settled.take_if(|_| self.sieve.has_settings()) {
            settled.set(true);
        }
        self.count();
        if let Some(counter) = &self.counters.goes_away
            && self.sieve.goes_away()
            && !went
        {
            counter.inc();
        }
        passed.map_err(|flood| {
            self.counters.protocol_error.inc();
            match flood {
                Flood::EmptyFrames => self.codec.inbound_empty_frames_flood.inc(),
                Flood::Priority => self.codec.inbound_priority_frames_flood.inc(),
                Flood::WindowUpdate => self.codec.inbound_window_update_frames_flood.inc(),
                Flood::Control => self.codec.outbound_control_flood.inc(),
                Flood::NoSettings => self.codec.rx_messaging_error.inc(),
            }
            io::Error::new(io::ErrorKind::InvalidData, flood)
        })
    }

    fn sent(&mut self, bytes: &[u8]) {
        self.counters.sent.add(bytes.len() as u64);
        self.sieve.sent(bytes);
        self.count();
    }

    fn broken(&mut self) {
        self.ended.set(true);
    }

    fn poll_waited(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some((timer, wait, until)) = &mut self.linger else { return Poll::Ready(()) };
        if *until == Deadline::NEVER {
            *until = timer.at(Instant::now() + *wait);
        }
        timer.poll_until(context, *until)
    }
}
