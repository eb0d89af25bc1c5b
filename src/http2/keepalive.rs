//! Pings at intervals (`connection_keepalive`), and how long their answers may take.

use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use h2::{Ping, PingPong};

use crate::config::model::Http2Keepalive;
use crate::local::{Deadline, Timer};

/// The pings of one connection.
pub struct Keepalive {
    ping: PingPong,
    options: Http2Keepalive,
    interval: Duration,
    timer: Timer,
    due: Deadline,
    /// One is unanswered.
    sent: bool,
}

impl Keepalive {
    /// Of a connection; `None` where the configuration asks for no intervals.
    pub fn new(ping: Option<PingPong>, options: Option<Http2Keepalive>, timer: Timer) -> Option<Self> {
        let options = options?;
        let interval = options.interval?;
        Some(Self { ping: ping?, options, interval, timer, due: Deadline::NEVER, sent: false })
    }

    /// Sends and awaits pings; ready when one has not been answered in time.
    pub fn poll_dead(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.sent
                && let Poll::Ready(answer) = self.ping.poll_pong(context)
            {
                if answer.is_err() {
                    // The connection has ended, which others find out.
                    return Poll::Pending;
                }
                self.sent = false;
                self.due = Deadline::NEVER;
            }
            if self.due == Deadline::NEVER {
                let longer = self.interval * draw(self.options.jitter) / 100;
                self.due = self.timer.at(Instant::now() + self.interval + longer);
            }
            ready!(self.timer.poll_until(context, self.due));
            if self.sent || self.ping.send_ping(Ping::opaque()).is_err() {
                return Poll::Ready(());
            }
            self.sent = true;
            self.due = self.timer.at(Instant::now() + self.options.timeout);
        }
    }
}

/// A number up to `most`: connections must not all ping at once, and nothing here is worth a generator.
fn draw(most: u32) -> u32 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish() as u32 % (most + 1)
}
