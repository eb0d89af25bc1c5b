//! Heads and bodies to bytes. Names go out in lower case, values byte for byte; what the body is decides the length headers,
//! never what stands in the list, so a head cannot say one thing and its body another.

use bytes::{BufMut, BytesMut};
use http::{HeaderName, HeaderValue, Method, StatusCode, Version, header};
use thiserror::Error;

use crate::codec::head::{Headers, RequestHead, ResponseHead};

/// The body that follows a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// None, and the head says so where the peer could expect one (`content-length: 0`).
    Empty,
    /// None, because the method was HEAD or the status is 304: a `content-length` in the list is about another message.
    Suppressed,
    /// So many bytes.
    Length(u64),
    /// Of unknown length, in chunks.
    Chunked,
    /// Up to the end of the connection: tunnels, and answers to HTTP/1.0 clients.
    UntilClose,
}

/// Writes a request head. `host` comes first.
pub fn encode_request(head: &RequestHead, body: Body, out: &mut BytesMut) {
    let target: &[u8] = if head.method == Method::CONNECT { &head.authority } else { &head.path };
    out.reserve(48 + target.len() + head.authority.len() + size_of(&head.headers));
    out.put_slice(head.method.as_str().as_bytes());
    out.put_u8(b' ');
    out.put_slice(target);
    out.put_slice(b" HTTP/1.1\r\nhost: ");
    out.put_slice(&head.authority);
    out.put_slice(b"\r\n");
    // Only methods that carry a body by their nature announce that there is none.
    let bodiless = matches!(head.method, Method::GET | Method::HEAD | Method::DELETE | Method::CONNECT | Method::TRACE);
    let body = match body {
        Body::Empty if bodiless => Announce::IfListed,
        body => Announce::of(body),
    };
    fields(&head.headers, body, out);
}

/// Writes a response head.
pub fn encode_response(head: &ResponseHead, body: Body, out: &mut BytesMut) {
    out.reserve(48 + size_of(&head.headers));
    out.put_slice(if head.version == Version::HTTP_10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    out.put_slice(head.status.as_str().as_bytes());
    out.put_u8(b' ');
    match head.cases.as_ref().and_then(|cases| cases.reason()) {
        Some(reason) => out.put_slice(reason),
        None => out.put_slice(reason(head.status).as_bytes()),
    }
    out.put_slice(b"\r\n");
    let bodiless = head.status.is_informational() || head.status == StatusCode::NO_CONTENT;
    let body = match body {
        _ if bodiless => Announce::Nothing,
        // The answer to a HEAD without a length: GET would have got chunks.
        Body::Suppressed
            if head.status != StatusCode::NOT_MODIFIED
                && head.version == Version::HTTP_11
                && !head.headers.contains(&header::CONTENT_LENGTH) =>
        {
            Announce::Chunked
        }
        body => Announce::of(body),
    };
    fields(&head.headers, body, out);
}

/// The phrase that Envoy writes: those of the registered statuses.
fn reason(status: StatusCode) -> &'static str {
    match status {
        StatusCode::IM_A_TEAPOT => "Unknown",
        _ => match (status.canonical_reason(), status.as_u16()) {
            (Some(reason), _) => reason,
            (None, 599) => "Last Unassigned Server Error Code",
            (None, _) => "Unknown",
        },
    }
}

/// What the head says about its body.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Announce {
    Nothing,
    /// A length in the list is about another message.
    AsListed,
    /// A length in the list can only be 0.
    IfListed,
    Length(u64),
    Chunked,
}

impl Announce {
    fn of(body: Body) -> Self {
        match body {
            Body::Empty => Self::Length(0),
            Body::Suppressed => Self::AsListed,
            Body::Length(length) => Self::Length(length),
            Body::Chunked => Self::Chunked,
            Body::UntilClose => Self::Nothing,
        }
    }
}

fn fields(headers: &Headers, announce: Announce, out: &mut BytesMut) {
    let mut length = match announce {
        Announce::Length(length) => Some(length),
        Announce::IfListed if headers.contains(&header::CONTENT_LENGTH) => Some(0),
        _ => None,
    };
    for (name, value) in headers.iter() {
        if *name == header::CONTENT_LENGTH && announce != Announce::AsListed {
            if let Some(length) = length.take() {
                content_length(length, out);
            }
        } else if *name != header::TRANSFER_ENCODING {
            field(name, value, out);
        }
    }
    if let Some(length) = length {
        content_length(length, out);
    }
    if announce == Announce::Chunked {
        out.put_slice(b"transfer-encoding: chunked\r\n");
    }
    out.put_slice(b"\r\n");
}

fn field(name: &HeaderName, value: &HeaderValue, out: &mut BytesMut) {
    out.put_slice(name.as_str().as_bytes());
    out.put_slice(b": ");
    out.put_slice(value.as_bytes());
    out.put_slice(b"\r\n");
}

/// Begins the words of all names in an encoded head with capitals (`proper_case_words`).
pub fn proper_case(head: &mut [u8]) {
    let (mut in_name, mut begins) = (false, true);
    for byte in head {
        match *byte {
            b'\n' => (in_name, begins) = (true, true),
            b':' => in_name = false,
            letter if in_name => {
                if begins {
                    byte.make_ascii_uppercase();
                }
                begins = !letter.is_ascii_alphanumeric();
            }
            _ => {}
        }
    }
}

fn content_length(length: u64, out: &mut BytesMut) {
    out.put_slice(b"content-length: ");
    out.put_slice(itoa::Buffer::new().format(length).as_bytes());
    out.put_slice(b"\r\n");
}

fn size_of(headers: &Headers) -> usize {
    // The four bytes around each field, and the length headers.
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum::<usize>() + 48
}

/// A body that does not keep what its head promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("body and announced length differ")]
pub struct BodyMismatch;

/// Writes the body that [`Body`] announced, and holds it to that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyWriter {
    state: Writing,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Writing {
    Nothing,
    Left(u64),
    Chunks,
    UntilClose,
}

impl BodyWriter {
    /// For the body of a head that was just written.
    pub const fn new(body: Body) -> Self {
        let state = match body {
            Body::Empty | Body::Suppressed => Writing::Nothing,
            Body::Length(length) => Writing::Left(length),
            Body::Chunked => Writing::Chunks,
            Body::UntilClose => Writing::UntilClose,
        };
        Self { state }
    }

    /// What is still to be written: [`Self::new`] with it goes on where this one stands.
    pub const fn rest(&self) -> Body {
        match self.state {
            Writing::Nothing => Body::Empty,
            Writing::Left(left) => Body::Length(left),
            Writing::Chunks => Body::Chunked,
            Writing::UntilClose => Body::UntilClose,
        }
    }

    /// Announces `length` bytes of data: what stands before and behind them on the wire. For vectored writes without a copy.
    ///
    /// # Errors
    /// More data than announced.
    pub fn frame(&mut self, length: usize) -> Result<(ChunkPrefix, &'static [u8]), BodyMismatch> {
        match &mut self.state {
            _ if length == 0 => Ok((ChunkPrefix::none(), b"")),
            Writing::Nothing => Err(BodyMismatch),
            Writing::Left(left) => {
                *left = left.checked_sub(length as u64).ok_or(BodyMismatch)?;
                Ok((ChunkPrefix::none(), b""))
            }
            Writing::Chunks => Ok((ChunkPrefix::of(length), b"\r\n")),
            Writing::UntilClose => Ok((ChunkPrefix::none(), b"")),
        }
    }

    /// Writes data, framed; an empty slice writes nothing (and does not end a chunked body).
    ///
    /// # Errors
    /// More data than announced.
    pub fn data(&mut self, data: &[u8], out: &mut BytesMut) -> Result<(), BodyMismatch> {
        let (prefix, suffix) = self.frame(data.len())?;
        out.reserve(prefix.as_slice().len() + data.len() + suffix.len());
        out.put_slice(prefix.as_slice());
        out.put_slice(data);
        out.put_slice(suffix);
        Ok(())
    }

    /// Ends the body, with trailers where it is chunked.
    ///
    /// # Errors
    /// Less data than announced: the connection must be cut.
    pub fn end(&mut self, trailers: Option<&Headers>, out: &mut BytesMut) -> Result<(), BodyMismatch> {
        match self.state {
            Writing::Left(left) if left > 0 => return Err(BodyMismatch),
            Writing::Chunks => {
                out.put_slice(b"0\r\n");
                for (name, value) in trailers.into_iter().flat_map(Headers::iter) {
                    field(name, value, out);
                }
                out.put_slice(b"\r\n");
            }
            Writing::Nothing | Writing::Left(_) | Writing::UntilClose => {}
        }
        self.state = Writing::Nothing;
        Ok(())
    }
}

/// The line before a chunk, or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkPrefix {
    bytes: [u8; 18],
    from: u8,
}

impl ChunkPrefix {
    const fn none() -> Self {
        Self { bytes: [0; 18], from: 18 }
    }

    fn of(length: usize) -> Self {
        let mut bytes = [0; 18];
        bytes[16] = b'\r';
        bytes[17] = b'\n';
        let mut from = 16;
        let mut rest = length;
        loop {
            from -= 1;
            bytes[from] = b"0123456789abcdef"[rest & 15];
            rest >>= 4;
            if rest == 0 || from == 0 {
                break;
            }
        }
        Self { bytes, from: from as u8 }
    }

    /// The bytes on the wire.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[usize::from(self.from)..]
    }
}
