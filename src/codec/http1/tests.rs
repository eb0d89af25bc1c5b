//! The codec by table, by split and by mutation. Expectations of refusals are those of Envoy 1.40, observed, except where a
//! comment says that we are stricter.

mod bodies;
mod chaos;
mod requests;
mod responses;
mod writing;

use bytes::{Bytes, BytesMut};
use http::Method;

use super::*;
use crate::codec::head::{Headers, RequestHead, ResponseHead};

/// Everything that a reader of messages learns, comparable.
#[derive(Debug, PartialEq, Eq)]
enum Event<H> {
    Head(Parsed<H>),
    Body(Vec<u8>),
    End(Headers),
    Refused(Refusal),
    Broken(FramingError),
}

type Parse<H> = fn(&mut BytesMut, &mut Scan) -> Result<Option<Parsed<H>>, Refusal>;

/// Feeds pieces one after the other and reads as many messages as there are.
struct Reader<H> {
    buffer: BytesMut,
    scan: Scan,
    framing: Option<Framing>,
    events: Vec<Event<H>>,
    parse: Parse<H>,
    over: bool,
}

fn request_reader() -> Reader<RequestHead> {
    Reader::new(|buffer, scan| parse_request(buffer, scan, &RequestRules::default()))
}

fn response_reader() -> Reader<ResponseHead> {
    Reader::new(|buffer, scan| parse_response(buffer, scan, &Limits::default(), &Method::GET, ResponseRules::default()))
}

impl<H> Reader<H> {
    fn new(parse: Parse<H>) -> Self {
        Self { buffer: BytesMut::new(), scan: Scan::default(), framing: None, events: Vec::new(), parse, over: false }
    }

    fn feed(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
        while !self.over && self.step() {}
    }

    /// False when more bytes are needed.
    fn step(&mut self) -> bool {
        let Some(framing) = &mut self.framing else {
            match (self.parse)(&mut self.buffer, &mut self.scan) {
                Ok(None) => return false,
                Ok(Some(parsed)) => {
                    self.framing = Some(parsed.framing.clone());
                    self.events.push(Event::Head(parsed));
                }
                Err(refusal) => {
                    self.events.push(Event::Refused(refusal));
                    self.over = true;
                }
            }
            return true;
        };
        match framing.decode(&mut self.buffer, &Limits::default()) {
            Ok(Decoded::NeedMore) => return false,
            Ok(Decoded::Data(data)) => match self.events.last_mut() {
                Some(Event::Body(body)) => body.extend_from_slice(&data),
                _ => self.events.push(Event::Body(data.to_vec())),
            },
            Ok(Decoded::End(trailers)) => {
                self.events.push(Event::End(trailers));
                self.framing = None;
            }
            Err(error) => {
                self.events.push(Event::Broken(error));
                self.over = true;
            }
        }
        true
    }

    fn read(mut self, pieces: &[&[u8]]) -> Vec<Event<H>> {
        pieces.iter().for_each(|piece| self.feed(piece));
        self.events
    }
}

/// A request head from text in which every line ends in CR LF.
fn request(text: &str) -> Result<Option<Parsed<RequestHead>>, Refusal> {
    request_by(text, &RequestRules::default())
}

fn request_by(text: &str, rules: &RequestRules) -> Result<Option<Parsed<RequestHead>>, Refusal> {
    parse_request(&mut BytesMut::from(text), &mut Scan::default(), rules)
}

fn response(text: &str, method: &Method) -> Result<Option<Parsed<ResponseHead>>, Refusal> {
    parse_response(
        &mut BytesMut::from(text),
        &mut Scan::default(),
        &Limits::default(),
        method,
        ResponseRules::default(),
    )
}

fn pairs(headers: &Headers) -> Vec<(&str, &[u8])> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect()
}

/// Bytes of which no test depends: a small generator with a seed that a failure prints.
struct Random(u64);

impl Random {
    fn seeded(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn below(&mut self, bound: usize) -> usize {
        // xorshift64*.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}
