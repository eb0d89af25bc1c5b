//! A client's connection and a host's, joined: bytes both ways until both sides have ended. One loop for everything that becomes a tunnel:
//! the TCP proxy's connections, and what HTTP becomes after an upgrade or a CONNECT. Either side is a socket, or one stream of an HTTP/2 connection.
//!
//! Whoever joins two connections stays the tunnel's [`Owner`]: it says what is counted and for how long nothing may move, hears how the tunnel
//! ended, and writes down what it must know itself when the tunnel moves. All that a tunnel is stands in [`Tunnel`], nothing in the locals of
//! a task: between any two polls, in any state of its two halves, it can be taken apart and written down. A reload does not touch it; on a drain
//! it moves to the next epoch at once, and one that is not taken stays until the drain's deadline. One with a side that is a stream never moves.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use h2::Reason;

use crate::access_log::Context as Line;
use crate::drain::motion::{Frozen, Kind, Outcome, Permit};
use crate::drain::{Held, Phase};
use crate::local::{Deadline, Local, Timer};
use crate::net::Stream;
use crate::stats::Gauge;

mod client;
mod flow;
mod frozen;
mod host;
mod http2;
#[cfg(test)]
mod tests;

use super::Facts;
pub use client::Client;
use client::Counted;
use flow::{Broken, Flow, Gone, Side};
use frozen::Record;
pub use frozen::Thawed;
pub use host::{Host, HostStream};
pub use http2::End as Http2;

/// What a tunnel does not know of itself.
pub trait Owner {
    /// As what it moves.
    const KIND: Kind;

    /// The worker's timers and blocks.
    fn local(&self) -> &Local;

    /// For how long nothing may move; `None` for as long as one likes.
    fn idle_timeout(&self) -> Option<Duration>;

    /// How old the client's connection may become, from its accept on.
    fn max_age(&self) -> Option<Duration>;

    /// So many bytes came from the client.
    fn received(&self, bytes: u64);

    /// The client took so many bytes.
    fn sent(&self, bytes: u64);

    /// One side has begun (`true`) or ceased to be waited for: who sends to it is read no further meanwhile.
    fn paused(&self, waited_for: Who, paused: bool);

    /// Gauges of what was read of the client and of the host and is not yet written.
    fn buffered(&self) -> [Gauge; 2];

    /// What the line in the access logs says so far; `None` where there are no logs.
    fn log(&self) -> Option<Line>;

    /// What the owner must know itself where the tunnel goes on. A record as the owner likes it.
    fn write_down(&self) -> Vec<u8> {
        Vec::new()
    }

    /// It goes on in another epoch: nothing has ended.
    fn moved(&mut self);

    /// It has come from another epoch and is ours from now on.
    fn arrived(&mut self);

    /// It is over.
    fn ended(self, end: End, totals: Totals);
}

/// One of the two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The client.
    Client,
    /// The host.
    Host,
}

/// How a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Both sides said that they had no more to say, or took no more; this one was first.
    Whole(Who),
    /// This side broke off.
    Broken(Who),
    /// This side gave up its stream, on a connection that goes on.
    Reset(Who),
    /// Nothing moved for [`Owner::idle_timeout`].
    Idle,
    /// [`Owner::max_age`].
    TooOld,
    /// The drain's deadline passed.
    Drained,
}

/// What went through a tunnel in its whole life, wherever it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Bytes that came from the client.
    pub received: u64,
    /// Bytes that the client took.
    pub sent: u64,
}

/// A tunnel.
pub struct Tunnel<O> {
    client: Client,
    host: Host,
    rest: Rest<O>,
}

/// What two connections are joined with.
pub struct Join<O> {
    /// The client's side.
    pub client: Client,
    /// The host's connection.
    pub host: Host,
    /// Who joins them.
    pub owner: O,
    /// What is known about the client.
    pub facts: Facts,
    /// The client's part in the drain.
    pub held: Held,
    /// The client's timer.
    pub timer: Timer,
    /// What was read of the client and is for the host.
    pub up: BytesMut,
    /// What is for the client before anything that will be read of the host.
    pub down: BytesMut,
}

/// What a tunnel is beside its sockets.
struct Rest<O> {
    owner: O,
    facts: Facts,
    held: Held,
    timer: Timer,
    /// From the client to the host.
    up: Flow,
    /// From the host to the client.
    down: Flow,
    /// Who was the first to end its side.
    first: Option<Who>,
    /// When last a byte was written.
    active: Instant,
    too_old: Deadline,
    phase: Phase,
    /// The wait for room to move.
    permit: Option<Pin<Box<dyn Future<Output = Option<Permit>>>>>,
    buffered: Buffered,
}

/// What a tunnel comes to.
enum Next {
    /// It is to be closed.
    Close(End),
    /// It is to be offered to the next epoch.
    Move(Permit),
}

impl<O: Owner> Tunnel<O> {
    /// Joins them.
    pub fn new(join: Join<O>) -> Self {
        let Join { client, host, owner, facts, held, timer, up, down } = join;
        if !(client.moves() && host.moves()) {
            held.never_moves();
        }
        let end = owner.max_age().and_then(|most| facts.accepted.checked_add(most));
        let rest = Rest {
            too_old: end.map_or(Deadline::NEVER, |end| timer.at(end)),
            phase: held.phase(),
            buffered: Buffered { gauges: owner.buffered(), held: [0; 2] },
            up: Flow::holding(up),
            down: Flow::holding(down),
            first: None,
            active: Instant::now(),
            permit: None,
            owner,
            facts,
            held,
            timer,
        };
        Self { client, host, rest }
    }

    /// One from another epoch, on its sockets and with its owner here; the buffers of `join` are of no account.
    pub fn thaw(join: Join<O>, thawed: Thawed) -> Self {
        let mut this = Self::new(join);
        let rest = &mut this.rest;
        (rest.up, rest.down, rest.first, rest.active) = thawed.into_flows();
        this
    }

    /// It is ours from now on.
    pub fn arrived(&mut self) {
        self.host.arrived();
        self.rest.owner.arrived();
    }

    /// The tunnel's whole life, here.
    pub async fn run(mut self) {
        loop {
            match poll_fn(|context| self.poll(context)).await {
                Next::Close(end) => return self.close(end),
                Next::Move(permit) => match Box::pin(self.offer(permit)).await {
                    Some(back) => self = back,
                    None => return,
                },
            }
        }
    }

    fn close(mut self, end: End) {
        // A side that is told of an end where there was none must not take it for one. (A socket that cannot be told so is gone already.)
        match end {
            End::Broken(Who::Client) | End::Reset(Who::Client) => self.host.reset_on_close(),
            End::Broken(Who::Host) => self.client.reset_on_close(Reason::CONNECT_ERROR),
            End::Reset(Who::Host) => self.client.reset_on_close(Reason::INTERNAL_ERROR),
            End::Whole(_) => self.host.ended(),
            End::Idle | End::TooOld | End::Drained => self.client.cut(),
        }
        let Rest { owner, up, down, .. } = self.rest;
        owner.ended(end, Totals { received: up.read, sent: down.bytes });
    }

    /// Moves bytes. Ready when something else is to be done with the tunnel.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Next> {
        let Self { client, host, rest } = self;
        let written = rest.up.bytes.wrapping_add(rest.down.bytes);
        let blocked = (rest.up.blocked, rest.down.blocked);
        let mut counted = Counted { client, owner: &rest.owner };
        let local = rest.owner.local();
        let up = rest.up.poll(context, &mut counted, host, local);
        let down = rest.down.poll(context, host, &mut counted, local);
        // Who has ended its half, or is not read for now, may still give up the other one.
        let gone = (counted.poll_gone(context, rest.up.blocked), host.poll_gone(context, rest.down.blocked));
        if gone.0 == Poll::Ready(Gone::TakesNoMore) {
            rest.down.finish(local);
        }
        if gone.1 == Poll::Ready(Gone::TakesNoMore) {
            rest.up.finish(local);
        }
        rest.note(blocked);
        if up == Poll::Ready(Err(Broken)) || gone.0 == Poll::Ready(Gone::Broken) {
            let reset = client.was_reset();
            return Poll::Ready(Next::Close(if reset { End::Reset(Who::Client) } else { End::Broken(Who::Client) }));
        }
        if down == Poll::Ready(Err(Broken)) || gone.1 == Poll::Ready(Gone::Broken) {
            let reset = host.was_reset();
            return Poll::Ready(Next::Close(if reset { End::Reset(Who::Host) } else { End::Broken(Who::Host) }));
        }
        if rest.up.over && rest.down.over {
            return Poll::Ready(Next::Close(End::Whole(rest.first.unwrap_or(Who::Host))));
        }
        if rest.up.bytes.wrapping_add(rest.down.bytes) != written {
            rest.active = Instant::now();
        }
        match rest.poll_time_to_close(context) {
            Poll::Ready(end) => Poll::Ready(Next::Close(end)),
            Poll::Pending => rest.poll_time_to_move(context).map(Next::Move),
        }
    }

    /// Offers the tunnel as it stands, and has it back when nobody takes it. `None` when it is gone from here.
    async fn offer(self, permit: Permit) -> Option<Self> {
        let Self { client, host, mut rest } = self;
        // Who never moves is not asked. A socket that the reactor does not let go of is lost, and the tunnel with it.
        let (Client::Socket(client), (socket, place)) = (client, host.into_parts()?) else { return None };
        let sockets = vec![client.into_fd().ok()?, socket.into_fd().ok()?];
        let record = Record::new(&place, &rest);
        let frozen = Frozen {
            kind: O::KIND,
            listener: rest.facts.listener.to_string(),
            peer: rest.facts.peer.socket(),
            local: rest.facts.local.socket(),
            age: rest.facts.accepted.elapsed(),
            sockets,
            record: prost::Message::encode_to_vec(&record),
        };
        match permit.offer(frozen).await {
            Outcome::Taken => {
                place.moved();
                rest.owner.moved();
                None
            }
            Outcome::Refused(frozen, _) => {
                rest.held.stay();
                let mut streams = frozen.sockets.into_iter().map(Stream::from_fd);
                let client = Client::Socket(streams.next()?.ok()?);
                let host = place.with(streams.next()?.ok()?);
                Some(Self { client, host, rest })
            }
        }
    }
}

impl<O: Owner> Rest<O> {
    /// Notes what has changed with the bytes: who has begun or ceased to wait for whom, who has ended, what is held.
    fn note(&mut self, before: (bool, bool)) {
        for (waited_for, before, now) in
            [(Who::Host, before.0, self.up.blocked), (Who::Client, before.1, self.down.blocked)]
        {
            if before != now {
                self.owner.paused(waited_for, now);
            }
        }
        if self.first.is_none() {
            self.first = match (self.up.source_ended, self.down.source_ended) {
                (true, _) => Some(Who::Client),
                (false, true) => Some(Who::Host),
                (false, false) => None,
            };
        }
        self.buffered.set([self.up.buffer.len(), self.down.buffer.len()]);
    }

    /// Ready with room for the offer.
    fn poll_time_to_move(&mut self, context: &mut Context<'_>) -> Poll<Permit> {
        let Some(mover) = self.held.mover() else {
            self.permit = None;
            return Poll::Pending;
        };
        let permit = self.permit.get_or_insert_with(|| Box::pin(mover.permit()));
        let permit = ready!(permit.as_mut().poll(context));
        self.permit = None;
        match permit {
            Some(permit) => Poll::Ready(permit),
            None => {
                self.held.stay();
                Poll::Pending
            }
        }
    }

    fn poll_time_to_close(&mut self, context: &mut Context<'_>) -> Poll<End> {
        while self.phase != Phase::Over {
            match pin!(self.held.changed(self.phase)).poll(context) {
                Poll::Ready(phase) => self.phase = phase,
                Poll::Pending => break,
            }
        }
        if self.phase == Phase::Over {
            return Poll::Ready(End::Drained);
        }
        if self.timer.poll_until(context, self.too_old).is_ready() {
            return Poll::Ready(End::TooOld);
        }
        let Some(idle) = self.owner.idle_timeout() else { return Poll::Pending };
        self.timer.poll_until(context, self.timer.at(self.active + idle)).map(|()| End::Idle)
    }
}

/// What a tunnel adds to the gauges of buffered bytes.
struct Buffered {
    gauges: [Gauge; 2],
    held: [u64; 2],
}

impl Buffered {
    fn set(&mut self, lengths: [usize; 2]) {
        for ((gauge, held), now) in self.gauges.iter().zip(&mut self.held).zip(lengths) {
            let now = now as u64;
            if *held != now {
                gauge.add(now);
                gauge.sub(*held);
                *held = now;
            }
        }
    }
}

impl Drop for Buffered {
    fn drop(&mut self) {
        self.set([0; 2]);
    }
}
