//! Connections that stand: idle after one request, or busy with one that the origin holds back.
//!
//! Says [`READY`] when all stand, waits for its standard input to end while the controller looks at the peer's memory, then
//! proves that they stood: the busy ones are released and must get their answers, the idle ones must answer once more.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::{ANSWER_LIMIT, Outcome, READY, ask_once, read_answer, request};
use crate::Result;
use crate::args::{LoadArgs, Mode};
use crate::sys::{connect, eventually};

/// For one answer, and for all held requests to reach the origin.
const LIMIT: Duration = Duration::from_secs(20);

/// Opens them, waits, proves them.
pub(super) fn run(args: &LoadArgs) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut streams = Vec::with_capacity(args.connections);
    let first = request(if args.mode == Mode::Busy { "/hold" } else { "/" });
    let mut buffer = vec![0; ANSWER_LIMIT];
    for turn in 0..args.connections {
        let mut stream = open(args.target, turn)?;
        stream.write_all(&first)?;
        if args.mode == Mode::Idle {
            read_answer(&mut stream, &mut buffer)?;
        }
        streams.push(stream);
    }
    if args.mode == Mode::Busy {
        let mut held = 0;
        eventually(LIMIT, || {
            held = ask_origin(args.origin, "/held").unwrap_or(0);
            (held == args.connections).then_some(())
        })
        .ok_or_else(|| format!("only {held} of {} requests reached the origin", args.connections))?;
    }
    println!("{READY}");
    io::copy(&mut io::stdin(), &mut io::sink())?;
    if args.mode == Mode::Busy {
        ask_origin(args.origin, "/release")?;
    }
    let again = request("/");
    for stream in &mut streams {
        let sent = if args.mode == Mode::Idle { stream.write_all(&again).map_err(Into::into) } else { Ok(()) };
        match sent.and_then(|()| read_answer(stream, &mut buffer).map(drop)) {
            Ok(()) => outcome.requests += 1,
            Err(error) => outcome.error(error),
        }
    }
    Ok(outcome)
}

fn open(target: SocketAddr, turn: usize) -> Result<TcpStream> {
    let stream = connect(target, turn, true)?;
    stream.set_read_timeout(Some(LIMIT))?;
    Ok(stream)
}

/// Asks the origin itself, not through the peer, for a number.
fn ask_origin(origin: SocketAddr, path: &str) -> Result<usize> {
    let body = ask_once(&mut open(origin, 0)?, path)?;
    Ok(std::str::from_utf8(&body)?.parse()?)
}
