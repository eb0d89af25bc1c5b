//! The closed loop: every connection has exactly one request in flight, and sends the next when the answer is whole.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::response::{Seen, look};
use super::{ANSWER_LIMIT, Outcome, request};
use crate::Result;
use crate::args::{LoadArgs, Mode};
use crate::process::cpu_time;
use crate::sys::{Poll, connect, is_later};

/// More than this and the peer does not work: no need to go on.
const TOO_MANY_ERRORS: u64 = 1_000;
/// Latencies kept, in memory that cannot grow beyond it.
const SAMPLES: usize = 8_000_000;
/// A request older than this at the end was never going to be answered.
const STALLED: Duration = Duration::from_secs(2);

struct Client {
    stream: TcpStream,
    sent: Instant,
    /// An answer that has not come whole; almost always empty.
    partial: Vec<u8>,
}

struct Loop<'a> {
    args: &'a LoadArgs,
    poll: Poll,
    clients: Vec<Client>,
    request: Vec<u8>,
    turn: usize,
    counting: bool,
    latencies: Vec<u32>,
    outcome: Outcome,
}

/// Warms up, then counts for the window.
pub(super) fn run(args: &LoadArgs) -> Result<Outcome> {
    let mut state = Loop {
        args,
        poll: Poll::new()?,
        clients: Vec::new(),
        request: request("/"),
        turn: 0,
        counting: false,
        latencies: Vec::with_capacity(1 << 20),
        outcome: Outcome::default(),
    };
    for index in 0..args.connections {
        let client = state.open(index)?;
        state.clients.push(client);
    }
    state.go_until(Instant::now() + Duration::from_millis(args.warm))?;
    state.counting = true;
    let (cpu, start) = (cpu_time(&args.pids)?, Instant::now());
    state.go_until(start + Duration::from_millis(args.window))?;
    let (cpu, length) = (cpu_time(&args.pids)? - cpu, start.elapsed());
    Ok(state.finish(cpu, length))
}

impl Loop<'_> {
    fn go_until(&mut self, end: Instant) -> Result<()> {
        let mut ready = Vec::new();
        let mut buffer = vec![0; ANSWER_LIMIT];
        while Instant::now() < end {
            self.poll.wait(&mut ready, Some(end))?;
            for &index in &ready {
                self.receive(index, &mut buffer)?;
            }
            if self.outcome.errors > TOO_MANY_ERRORS {
                let first = self.outcome.first_error.take().unwrap_or_default();
                return Err(format!("{} errors, the first: {first}", self.outcome.errors).into());
            }
        }
        Ok(())
    }

    fn receive(&mut self, index: usize, buffer: &mut [u8]) -> Result<()> {
        let Some(client) = self.clients.get_mut(index) else { return Ok(()) };
        let seen = match client.stream.read(buffer) {
            Ok(0) => Seen::Bad("closed instead of answering".to_owned()),
            Ok(count) => {
                let new = buffer.get(..count).unwrap_or_default();
                if client.partial.is_empty() {
                    let seen = look(new);
                    if seen == Seen::Part {
                        client.partial.extend_from_slice(new);
                    }
                    seen
                } else {
                    client.partial.extend_from_slice(new);
                    look(&client.partial)
                }
            }
            Err(error) if is_later(&error) => Seen::Part,
            Err(error) => Seen::Bad(error.to_string()),
        };
        match seen {
            Seen::Part => Ok(()),
            Seen::Whole => self.answered(index),
            Seen::Bad(why) => {
                self.outcome.error(why);
                self.reopen(index)
            }
        }
    }

    fn answered(&mut self, index: usize) -> Result<()> {
        let Some(client) = self.clients.get_mut(index) else { return Ok(()) };
        let now = Instant::now();
        if self.counting {
            self.outcome.requests += 1;
            if self.latencies.len() < SAMPLES {
                self.latencies.push(u32::try_from((now - client.sent).as_nanos()).unwrap_or(u32::MAX));
            }
        }
        if self.args.mode == Mode::Fresh {
            return self.reopen(index);
        }
        client.partial.clear();
        client.sent = now;
        if let Err(error) = client.stream.write_all(&self.request) {
            self.outcome.error(error);
            return self.reopen(index);
        }
        Ok(())
    }

    fn reopen(&mut self, index: usize) -> Result<()> {
        // The old stream is closed by the assignment, which also takes it out of the poll.
        self.clients[index] = self.open(index)?;
        Ok(())
    }

    fn open(&mut self, index: usize) -> Result<Client> {
        self.turn = self.turn.wrapping_add(1);
        let sent = Instant::now();
        let mut stream = connect(self.args.target, self.turn, true)?;
        stream.write_all(&self.request)?;
        stream.set_nonblocking(true)?;
        self.poll.add(&stream, index)?;
        Ok(Client { stream, sent, partial: Vec::new() })
    }

    fn finish(mut self, cpu: u64, length: Duration) -> Outcome {
        for client in &self.clients {
            if client.sent.elapsed() > STALLED {
                self.outcome.error("never answered");
            }
        }
        self.outcome.of_window(cpu, length, self.latencies)
    }
}
