//! The client of an exchange: it sends the bytes it was told, and reads until the exchange is over.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use super::support::PATIENCE;
use super::theme::{Exchange, Step};

/// How the two connections of an exchange stand: not answered, answered and open, open for a while, closed.
#[derive(Debug, Default)]
pub(crate) struct Fates([AtomicU8; 2]);

const ANSWERED: u8 = 1;
const STAYED: u8 = 2;
const CLOSED: u8 = 3;

/// How long an answered connection is watched if the other proxy's stays open too.
const WHILE: Duration = Duration::from_millis(120);
/// How long it is watched if the other proxy's was closed.
const LONG: Duration = Duration::from_secs(3);

impl Fates {
    /// An exchange has its answers; whether it is over with that.
    pub(crate) fn answered(&self, me: usize, closed: bool) {
        self.0[me].store(if closed { CLOSED } else { ANSWERED }, Ordering::Relaxed);
    }

    /// It was left as it was.
    pub(crate) fn stayed(&self, me: usize) {
        self.0[me].store(STAYED, Ordering::Relaxed);
    }

    /// Whether it has been watched for long enough.
    pub(crate) fn is_over(&self, me: usize, answered: Instant) -> bool {
        let mine = self.0[me].load(Ordering::Relaxed);
        if mine != CLOSED && answered.elapsed() > WHILE {
            self.stayed(me);
        }
        let other = self.0[1 - me].load(Ordering::Relaxed);
        let long = if mine == CLOSED { WHILE } else { LONG };
        other == STAYED && answered.elapsed() > WHILE || other == CLOSED && answered.elapsed() > long
    }
}

/// What the client got: lines for each response, and the fate of the connection.
pub(crate) fn run(address: SocketAddr, exchange: &Exchange, fates: &Fates, me: usize) -> Vec<Vec<String>> {
    if matches!(exchange.client.first(), Some(Step::Ask(_))) {
        return super::http2::client(address, exchange, fates, me);
    }
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    let mut got = Got::default();
    let mut left = false;
    for step in &exchange.client {
        match step {
            Step::Send(bytes) => {
                got.head |= bytes.starts_with(b"HEAD ");
                got.connect |= bytes.starts_with(b"CONNECT ");
                drop(socket.write_all(bytes));
            }
            Step::Await(text) => got.until(&mut socket, |got| got.has(text)),
            Step::Pause(time) => {
                let over = Instant::now() + Duration::from_millis(*time);
                got.until(&mut socket, |_| Instant::now() >= over);
            }
            Step::Fin => drop(socket.shutdown(Shutdown::Write)),
            Step::Leave => left = true,
            Step::Ask(_) | Step::Cancel | Step::Trailers(_) => panic!("{}: no stream in HTTP/1", exchange.name),
        }
    }
    if left {
        fates.stayed(me);
        return got.lines("left");
    }
    got.until(&mut socket, |got| got.responses().1 >= exchange.responses);
    let answered = Instant::now();
    fates.answered(me, got.closed);
    got.until(&mut socket, |_| fates.is_over(me, answered));
    if got.closed {
        fates.answered(me, true);
    }
    got.lines(if got.closed { "closed" } else { "open" })
}

#[derive(Default)]
struct Got {
    bytes: Vec<u8>,
    closed: bool,
    head: bool,
    connect: bool,
}

impl Got {
    fn has(&self, text: &[u8]) -> bool {
        self.bytes.windows(text.len()).any(|window| window == text)
    }

    /// Reads until something is so, or the connection is closed, or the time is up.
    fn until(&mut self, socket: &mut TcpStream, done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut block = [0; 16 * 1024];
        while !self.closed && !done(self) && Instant::now() < deadline {
            match socket.read(&mut block) {
                Ok(0) => self.closed = true,
                Ok(read) => self.bytes.extend_from_slice(&block[..read]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => self.closed = true,
            }
        }
    }

    fn lines(&self, fate: &str) -> Vec<Vec<String>> {
        let mut lines = self.responses().0;
        lines.push(vec![format!("connection {fate}")]);
        lines
    }

    /// The responses as lines, and how many of them are whole and final.
    fn responses(&self) -> (Vec<Vec<String>>, usize) {
        let mut rest = self.bytes.as_slice();
        let (mut all, mut finals) = (Vec::new(), 0);
        while !rest.is_empty() {
            let (lines, used) = response(rest, self);
            let whole = used.is_some();
            let informational = lines[0].split(' ').nth(1).is_some_and(|code| code.starts_with('1') && code != "101");
            all.push(lines);
            let Some(used) = used else { break };
            finals += usize::from(whole && !informational);
            rest = &rest[used..];
        }
        (all, finals)
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// One response, and how long it is if it is whole.
fn response(bytes: &[u8], got: &Got) -> (Vec<String>, Option<usize>) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let Some(end) = find(bytes, b"\r\n\r\n") else { return (vec![format!("cut: {}", text(bytes))], None) };
    let head = text(&bytes[..end]);
    let mut lines: Vec<String> = head.split("\r\n").map(str::to_owned).collect();
    lines[1..].sort();
    let field = |name: &str| {
        lines
            .iter()
            .filter_map(|line| line.split_once(':'))
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.trim())
    };
    let status = lines[0].split(' ').nth(1).unwrap_or("").to_owned();
    let rest = &bytes[end + 4..];
    let begin = end + 4;
    if status == "101" || got.connect && status.starts_with('2') {
        lines.push(format!("tunnel: {}", text(rest)));
        return (lines, Some(bytes.len()));
    }
    if got.head || status.starts_with('1') || status == "204" || status == "304" {
        return (lines, Some(begin));
    }
    if field("transfer-encoding").is_some() {
        let mut body = Vec::new();
        let mut at = 0;
        while let Some(line) = find(rest.get(at..).unwrap_or_default(), b"\r\n") {
            let Ok(size) = usize::from_str_radix(&text(&rest[at..at + line]), 16) else { break };
            at += line + 2;
            if size == 0 {
                let Some(end) = find(&rest[at - 2..], b"\r\n\r\n") else { break };
                lines.push(format!("body chunked: {}", text(&body)));
                let trailers = text(&rest[at..at + end.max(2) - 2]);
                lines.extend(
                    trailers.split("\r\n").filter(|line| !line.is_empty()).map(|line| format!("trailer {line}")),
                );
                return (lines, Some(begin + at + end + 2));
            }
            body.extend(rest[at..].iter().take(size));
            at += size + 2;
            if at > rest.len() {
                break;
            }
        }
        lines.push(format!("body chunked, cut: {}", text(&body)));
        return (lines, None);
    }
    let length = field("content-length").and_then(|length| length.parse::<usize>().ok());
    match length {
        Some(length) if rest.len() >= length => {
            if length > 0 {
                lines.push(format!("body: {}", text(&rest[..length])));
            }
            (lines, Some(begin + length))
        }
        Some(_) => {
            lines.push(format!("body cut: {}", text(rest)));
            (lines, None)
        }
        None => {
            lines.push(format!("body until close: {}", text(rest)));
            (lines, None)
        }
    }
}
