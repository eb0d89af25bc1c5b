//! HTTP/2 as bytes (RFC 9113): frames that no library would write, and what comes back.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 0x1;
pub const ACK: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;
pub const PADDED: u8 = 0x8;
pub const PRIORITIZED: u8 = 0x20;

/// Error codes (RFC 9113, 7).
pub const PROTOCOL: u32 = 1;
pub const FLOW_CONTROL: u32 = 3;
pub const CLOSED: u32 = 5;
pub const FRAME_SIZE: u32 = 6;
pub const REFUSED: u32 = 7;
pub const COMPRESSION: u32 = 9;

/// The payload of the ping that ends a case.
const LAST: &[u8; 8] = b"the last";

/// A frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// SETTINGS with these values.
pub fn settings(values: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> =
        values.iter().flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
    frame(SETTINGS, 0, 0, &payload)
}

/// A number as payload.
pub fn window_update(stream: u32, by: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes())
}

/// RST_STREAM with CANCEL.
pub fn cancel(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())
}

/// A header block: every field a literal that is not remembered (RFC 7541, 6.2.2), names as they are.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            assert!(text.len() < 127);
            bytes.push(text.len() as u8);
            bytes.extend_from_slice(text.as_bytes());
        }
    }
    bytes
}

/// What a request begins with.
pub const GET: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "test")];
pub const POST: [(&str, &str); 4] = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "test")];

/// HEADERS with everything in it.
pub fn headers(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, flags | END_HEADERS, stream, &block(fields))
}

/// A GET without a body.
pub fn get(stream: u32) -> Vec<u8> {
    headers(stream, END_STREAM, &GET)
}

/// A GET with more fields.
pub fn get_with(fields: &[(&str, &str)]) -> Vec<u8> {
    headers(1, END_STREAM, &[&GET[..], fields].concat())
}

/// The head of a POST whose body follows.
pub fn post(stream: u32) -> Vec<u8> {
    headers(stream, 0, &POST)
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// GOAWAY with a code.
    GoAway(u32),
    /// RST_STREAM of a stream, with a code.
    Reset(u32, u32),
    /// A head, by its status.
    Status(u32, u16),
    /// DATA of so many bytes, and whether it ends the stream.
    Data(u32, usize, bool),
    /// A ping's answer.
    Pong(Vec<u8>),
    /// Their settings are acknowledged, or ours come.
    Settings(bool),
    /// The connection has ended.
    End,
    /// Any other frame, by its kind.
    Other(u8),
}

/// A connection as bytes.
pub struct Raw {
    pub socket: TcpStream,
    read: Vec<u8>,
    pub events: Vec<Event>,
}

impl Raw {
    /// Connects, and says nothing.
    pub fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).unwrap())
    }

    /// Over a connection that there is.
    pub fn over(socket: TcpStream) -> Self {
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        Self { socket, read: Vec::new(), events: Vec::new() }
    }

    /// Reads what a client says before its first frame.
    pub fn skip_preface(&mut self) {
        let until = Instant::now() + super::PATIENCE;
        while self.read.len() < PREFACE.len() {
            assert!(Instant::now() < until, "no preface");
            let mut bytes = [0; 1024];
            match self.socket.read(&mut bytes) {
                Ok(0) => panic!("the connection ended before its preface"),
                Ok(length) => self.read.extend_from_slice(&bytes[..length]),
                Err(_) => {}
            }
        }
        assert!(self.read.starts_with(PREFACE), "no preface");
        self.read.drain(..PREFACE.len());
        self.take_frames();
    }

    /// Sends bytes; a peer that has closed does not take them, which shows in what it sent.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes);
    }

    /// The ping whose answer says that everything before it has been looked at.
    pub fn send_last_ping(&mut self) {
        self.send(&frame(PING, 0, 0, LAST));
    }

    /// No more comes from here.
    pub fn finish(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Whether the last ping has been answered.
    pub fn is_alive(&self) -> bool {
        self.events.iter().any(|event| matches!(event, Event::Pong(payload) if payload == LAST))
    }

    /// Whether the connection has ended.
    pub fn is_over(&self) -> bool {
        self.events.contains(&Event::End)
    }

    /// Reads until `enough` says so, the connection ends or patience does; says which.
    pub fn read_until(&mut self, enough: impl Fn(&Self) -> bool) -> bool {
        let until = Instant::now() + super::PATIENCE;
        while !enough(self) {
            if self.is_over() || Instant::now() > until {
                return false;
            }
            let mut bytes = [0; 16 * 1024];
            match self.socket.read(&mut bytes) {
                Ok(0) => self.events.push(Event::End),
                Ok(length) => {
                    self.read.extend_from_slice(&bytes[..length]);
                    self.take_frames();
                }
                Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                }
                Err(_) => self.events.push(Event::End),
            }
        }
        true
    }

    fn take_frames(&mut self) {
        while let Some(header) = self.read.first_chunk::<9>() {
            let [high, middle, low, kind, flags, a, b, c, d] = *header;
            let length = u32::from_be_bytes([0, high, middle, low]) as usize;
            let stream = u32::from_be_bytes([a, b, c, d]);
            let Some(payload) = self.read.get(9..9 + length) else { return };
            let number = |from: usize| u32::from_be_bytes(payload[from..from + 4].try_into().unwrap());
            let event = match kind {
                DATA => Event::Data(stream, length, flags & END_STREAM != 0),
                HEADERS => Event::Status(stream, status(payload)),
                RST_STREAM => Event::Reset(stream, number(0)),
                GOAWAY => Event::GoAway(number(4)),
                PING if flags & ACK != 0 => Event::Pong(payload.to_vec()),
                SETTINGS => Event::Settings(flags & ACK != 0),
                kind => Event::Other(kind),
            };
            self.events.push(event);
            self.read.drain(..9 + length);
        }
    }
}

/// The status that a header block begins with (RFC 7541, appendices A and B); 0 for trailers, and for what is not understood.
fn status(block: &[u8]) -> u16 {
    const STATIC: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    // A change of the table's size may come first.
    let block = &block[block.iter().take_while(|byte| **byte & 0xe0 == 0x20).count()..];
    match block {
        [index @ 0x88..=0x8e, ..] => STATIC[usize::from(index - 0x88)],
        [0x48 | 0x08, length, text @ ..] => {
            let text = &text[..usize::from(length & 0x7f)];
            if length & 0x80 == 0 {
                return std::str::from_utf8(text).unwrap_or_default().parse().unwrap_or(0);
            }
            let bits = text.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
            digits(bits << (64 - 8 * text.len()))
        }
        _ => 0,
    }
}

/// Three digits in the code of Huffman, from the left.
fn digits(mut bits: u64) -> u16 {
    let mut number = 0;
    for _ in 0..3 {
        // 0 to 2 have five bits, the others six.
        let (digit, length) = match bits >> 59 {
            short @ 0..=2 => (short, 5),
            _ => ((bits >> 58) - 0b01_1001 + 3, 6),
        };
        number = number * 10 + digit as u16;
        bits <<= length;
    }
    number
}
