//! The clients. One thread; a closed loop in [`closed_loop`] (over TLS and HTTP/2 in [`layered`]), connections that only stand there in [`stand`].
//!
//! The load itself reads the peer's CPU clocks at both ends of its window, so that no message between processes blurs the account.

mod closed_loop;
mod layered;
mod response;
mod stand;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::response::{Seen, look};
use crate::Result;
use crate::args::{LoadArgs, Mode};
use crate::work::Front;

pub(crate) use layered::{NAME, answers};

/// What standing connections say when all of them stand.
pub(crate) const READY: &str = "ready";

/// The largest answer that is read.
const ANSWER_LIMIT: usize = 64 * 1_024;

/// What came of it: the last line on standard output, as JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Requests answered within the window, or by standing connections.
    pub(crate) requests: u64,
    /// Anything but a whole 200, over the whole time.
    pub(crate) errors: u64,
    /// What the first error was.
    pub(crate) first_error: Option<String>,
    /// Length of the window.
    pub(crate) nanoseconds: u64,
    /// CPU time of the peer within the window.
    pub(crate) cpu_nanoseconds: u64,
    /// Median time from writing a request (or from connecting, where that is part of it) to the last byte of its answer.
    pub(crate) p50_nanoseconds: u64,
    /// The same, 99th percentile.
    pub(crate) p99_nanoseconds: u64,
}

impl Outcome {
    /// With what a window came to.
    fn of_window(self, cpu: u64, length: Duration, mut latencies: Vec<u32>) -> Self {
        latencies.sort_unstable();
        let last = latencies.len().saturating_sub(1);
        let at = |percent: usize| latencies.get(last * percent / 100).copied().unwrap_or(0).into();
        Self {
            nanoseconds: u64::try_from(length.as_nanos()).unwrap_or(u64::MAX),
            cpu_nanoseconds: cpu,
            p50_nanoseconds: at(50),
            p99_nanoseconds: at(99),
            ..self
        }
    }

    fn error(&mut self, text: impl ToString) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| text.to_string());
    }
}

/// One exchange on a blocking stream, whose read timeout is the caller's: fails unless a whole 200 comes back.
pub(crate) fn ask_once(stream: &mut TcpStream, path: &str) -> Result<Vec<u8>> {
    stream.write_all(&request(path))?;
    let mut buffer = vec![0; ANSWER_LIMIT];
    let count = read_answer(stream, &mut buffer)?;
    Ok(response::body(buffer.get(..count).unwrap_or_default()).to_vec())
}

/// Runs the load and says the outcome.
pub(crate) fn drive(args: &LoadArgs) -> Result<()> {
    let outcome = match args.mode {
        Mode::Keep | Mode::Fresh if args.front == Front::Http1 => closed_loop::run(args)?,
        Mode::Keep | Mode::Fresh => layered::run(args)?,
        Mode::Idle | Mode::Busy => stand::run(args)?,
    };
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}

/// The request as a client writes it; `path` is `/` or one of the origin's others.
fn request(path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nhost: service.example\r\nuser-agent: peers/1\r\naccept: text/plain, */*;q=0.5\r\n\
         accept-encoding: gzip, br\r\n\r\n"
    )
    .into_bytes()
}

/// Reads one whole answer and returns its length, head included.
fn read_answer(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<usize> {
    let mut count = 0;
    loop {
        match stream.read(buffer.get_mut(count..).unwrap_or_default())? {
            0 => return Err("closed instead of answering".into()),
            more => count += more,
        }
        match look(buffer.get(..count).unwrap_or_default()) {
            Seen::Part => {}
            Seen::Whole => return Ok(count),
            Seen::Bad(why) => return Err(why.into()),
        }
    }
}
