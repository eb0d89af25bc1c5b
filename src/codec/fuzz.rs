//! The codecs over arbitrary bytes. How bytes arrive must not matter, and what is accepted reads the same wherever it is sent on.

use std::fmt::Debug;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Method};

use super::http1::{
    Body, BodyWriter, CaseRules, Decoded, Framing, FramingError, Limits, Parsed, Refusal, RequestRules, ResponseRules,
    Scan, Underscores, encode_request, encode_response, parse_request, parse_response,
};
use super::http2::{Sieve, head};
use super::{Headers, RequestHead};
use crate::config::model::Http2Options;

/// What a reader of one direction saw.
#[derive(Debug, PartialEq)]
enum Event<H> {
    Head(Box<Parsed<H>>),
    Body(Vec<u8>),
    End(Headers),
    Refused(Refusal),
    Broken(FramingError),
}

/// The first byte says in how many lengths the rest comes, and those follow; then the text.
fn cut(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (count, rest) = data.split_first()?;
    rest.split_at_checked(usize::from(count & 7))
}

/// The text in pieces of these lengths, over and over.
fn pieces<'t>(lengths: &[u8], mut text: &'t [u8]) -> Vec<&'t [u8]> {
    let mut pieces = Vec::new();
    for length in lengths.iter().cycle() {
        let (piece, rest) = text.split_at(text.len().min(1 + usize::from(*length)));
        pieces.push(piece);
        text = rest;
        if text.is_empty() {
            break;
        }
    }
    pieces.push(text);
    pieces
}

/// Reads message after message as a connection does. With `frozen`, the state of every body is written down and read back whenever bytes come.
fn read<H>(
    pieces: &[&[u8]],
    frozen: bool,
    limits: &Limits,
    parse: impl Fn(&mut BytesMut, &mut Scan) -> Result<Option<Parsed<H>>, Refusal>,
) -> Vec<Event<H>> {
    let (mut buffer, mut scan, mut framing) = (BytesMut::new(), Scan::default(), None::<Framing>);
    let mut events: Vec<Event<H>> = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        if frozen && let Some(state) = &mut framing {
            let thawed = Framing::from_bytes(&state.to_bytes());
            assert!(thawed.is_ok(), "a state that is not read again: {state:?}");
            *state = thawed.unwrap_or(Framing::none());
        }
        loop {
            let Some(state) = &mut framing else {
                match parse(&mut buffer, &mut scan) {
                    Ok(None) => break,
                    Ok(Some(parsed)) => {
                        framing = Some(parsed.framing.clone());
                        events.push(Event::Head(Box::new(parsed)));
                    }
                    Err(refusal) => {
                        events.push(Event::Refused(refusal));
                        return events;
                    }
                }
                continue;
            };
            match state.decode(&mut buffer, limits) {
                Ok(Decoded::NeedMore) => break,
                Ok(Decoded::Data(data)) => {
                    assert!(!data.is_empty(), "a part of a body that is empty");
                    match events.last_mut() {
                        Some(Event::Body(body)) => body.extend_from_slice(&data),
                        _ => events.push(Event::Body(data.to_vec())),
                    }
                }
                Ok(Decoded::End(trailers)) => {
                    events.push(Event::End(trailers));
                    framing = None;
                }
                Err(error) => {
                    events.push(Event::Broken(error));
                    return events;
                }
            }
        }
    }
    events
}

/// However it comes, it is the same.
fn agree<H: PartialEq + Debug>(
    lengths: &[u8],
    text: &[u8],
    reader: impl Fn(&[&[u8]], bool) -> Vec<Event<H>>,
) -> Vec<Event<H>> {
    // A line that is never completed may be judged early or not: none is left so.
    let text = [text, b"\r\n\r\n"].concat();
    let whole = reader(&[&text], false);
    assert_eq!(reader(&text.chunks(1).collect::<Vec<_>>(), true), whole, "byte by byte");
    assert_eq!(reader(&pieces(lengths, &text), false), whole, "in pieces of {lengths:?}");
    whole
}

/// Names and reasons as they came.
const CASES: CaseRules = CaseRules { proper: true, reason: true };

fn request_rules(flags: u8) -> RequestRules {
    let small = flags & 1 != 0;
    RequestRules {
        limits: if small { Limits { bytes: 64, count: 3 } } else { Limits::default() },
        allow_absolute_url: flags & 2 == 0,
        allow_chunked_length: flags & 4 != 0,
        underscores: match flags >> 3 & 3 {
            0 | 1 => Underscores::Allow,
            2 => Underscores::Drop,
            _ => Underscores::Reject,
        },
        accept_http_10: flags & 32 != 0,
        custom_methods: flags & 64 != 0,
        default_host: if flags & 128 != 0 { Bytes::from_static(b"default.example") } else { Bytes::new() },
        cases: (flags & 6 == 6).then_some(CASES),
        ..RequestRules::default()
    }
}

/// Requests, one after the other: rules, lengths, text.
pub(crate) fn http1_request(data: &[u8]) {
    let Some((flags, data)) = data.split_first() else { return };
    let Some((lengths, text)) = cut(data) else { return };
    let rules = request_rules(*flags);
    let limits = rules.limits;
    let events = agree(lengths, text, |pieces, frozen| {
        read(pieces, frozen, &limits, |buffer, scan| parse_request(buffer, scan, &rules))
    });
    for event in events {
        // One that names no host, or whose target is a URL that is not taken for one, is answered, and goes nowhere.
        if let Event::Head(parsed) = event
            && !parsed.hostless
            && (parsed.head.path.starts_with(b"/") || parsed.head.path == "*" || parsed.head.method == Method::CONNECT)
        {
            goes_on_as_one(&parsed);
        }
    }
}

/// Whatever a request looked like, what goes upstream reads as the same head with the same body: nothing can hide in it.
fn goes_on_as_one(parsed: &Parsed<RequestHead>) {
    let body = match parsed.framing.length_left() {
        Some(0) => Body::Empty,
        Some(length) => Body::Length(length),
        None => Body::Chunked,
    };
    let mut out = BytesMut::new();
    encode_request(&parsed.head, body, &mut out);
    let rules = RequestRules {
        limits: Limits { bytes: 1 << 20, count: 4096 },
        custom_methods: true,
        ..RequestRules::default()
    };
    let again = parse_request(&mut out, &mut Scan::default(), &rules);
    assert!(out.is_empty(), "there is something behind the head: {out:?}");
    let again = again.ok().flatten();
    let of = |parsed: &Parsed<RequestHead>| {
        (parsed.framing.clone(), parsed.head.path.clone(), parsed.head.authority.clone())
    };
    assert_eq!(again.as_ref().map(of), Some(of(parsed)));
}

/// Responses, one after the other: what the request was, lengths, text.
pub(crate) fn http1_response(data: &[u8]) {
    let Some((flags, data)) = data.split_first() else { return };
    let Some((lengths, text)) = cut(data) else { return };
    let method = [Method::GET, Method::HEAD, Method::CONNECT, Method::POST][usize::from(flags & 3)].clone();
    let limits = if flags & 4 != 0 { Limits { bytes: 64, count: 3 } } else { Limits::default() };
    let rules = ResponseRules { allow_chunked_length: flags & 8 != 0, cases: (flags & 16 != 0).then_some(CASES) };
    let events = agree(lengths, text, |pieces, frozen| {
        read(pieces, frozen, &limits, |buffer, scan| parse_response(buffer, scan, &limits, &method, rules))
    });
    for event in events {
        let Event::Head(parsed) = event else { continue };
        let body = match parsed.framing.length_left() {
            Some(0) if parsed.head.status == http::StatusCode::NOT_MODIFIED || method == Method::HEAD => {
                Body::Suppressed
            }
            Some(0) => Body::Empty,
            Some(length) => Body::Length(length),
            None if parsed.framing.is_until_close() => Body::UntilClose,
            None => Body::Chunked,
        };
        let mut out = BytesMut::new();
        encode_response(&parsed.head, body, &mut out);
        let again = parse_response(
            &mut out,
            &mut Scan::default(),
            &Limits { bytes: 1 << 20, count: 4096 },
            &method,
            ResponseRules::default(),
        );
        assert!(out.is_empty(), "there is something behind the head: {out:?}");
        let again = again.ok().flatten().map(|again| (again.head.status, again.framing));
        assert_eq!(again, Some((parsed.head.status, parsed.framing)));
    }
}

/// A body from any state that can be read, and one that we write: lengths, length of the state, state, text.
pub(crate) fn framing(data: &[u8]) {
    let Some((lengths, data)) = cut(data) else { return };
    let Some((length, data)) = data.split_first() else { return };
    let Some((state, text)) = data.split_at_checked(usize::from(*length)) else { return };
    if let Ok(state) = Framing::from_bytes(state) {
        assert_eq!(Framing::from_bytes(&state.to_bytes()).as_ref(), Ok(&state));
        let limits = Limits { bytes: 200, count: 4 };
        let parse = |_: &mut BytesMut, _: &mut Scan| Ok(Some(begun(&state)));
        let once = |pieces: &[&[u8]], frozen| {
            let mut events = read(pieces, frozen, &limits, parse);
            // After the first message the same state would begin again, for ever where it is done.
            let end = events.iter().position(|event| matches!(event, Event::End(_)));
            events.truncate(end.map_or(events.len(), |end| end + 1));
            events
        };
        if !state.is_done() {
            agree(lengths, text, once);
        }
    }
    let mut writer = BodyWriter::new(Body::Chunked);
    let mut wire = BytesMut::new();
    for piece in pieces(lengths, text).into_iter().filter(|piece| !piece.is_empty()) {
        assert!(writer.data(piece, &mut wire).is_ok());
    }
    assert!(writer.end(None, &mut wire).is_ok());
    let (mut body, mut framing) = (Vec::new(), Framing::chunked());
    loop {
        match framing.decode(&mut wire, &Limits::default()) {
            Ok(Decoded::Data(data)) => body.extend_from_slice(&data),
            other => break assert_eq!(other, Ok(Decoded::End(Headers::new()))),
        }
    }
    assert_eq!(body, text);
}

fn begun(state: &Framing) -> Parsed<()> {
    Parsed {
        head: (),
        framing: state.clone(),
        keep_alive: true,
        expect_continue: false,
        upgrade: false,
        hostless: false,
    }
}

/// Frames past the sieve, in both directions: who is the client, lengths, bytes.
pub(crate) fn http2_sieve(data: &[u8]) {
    let Some((flags, data)) = data.split_first() else { return };
    let Some((lengths, text)) = cut(data) else { return };
    let now = Instant::now();
    let pass = |pieces: &[&[u8]]| {
        let mut sieve = Sieve::new(Http2Options::default().floods, flags & 1 != 0, now);
        let result = pieces.iter().try_for_each(|piece| {
            if flags & 2 != 0 {
                sieve.sent(piece);
            }
            sieve.received(piece, now)
        });
        (result, sieve.take_tally(), sieve.goes_away())
    };
    let whole = pass(&[text]);
    // What is sent at the same time is counted sooner or later than what comes, as the pieces fall.
    if flags & 2 == 0 || whole.0.is_ok() {
        for way in [pass(&text.chunks(1).collect::<Vec<_>>()), pass(&pieces(lengths, text))] {
            assert!(flags & 2 != 0 || way == whole, "{way:?} instead of {whole:?}");
        }
    }
}

/// Heads that the `h2` crate has read: `METHOD uri`, then fields, a line each.
pub(crate) fn http2_head(data: &[u8]) {
    let Some((flags, text)) = data.split_first() else { return };
    let mut lines = text.split(|byte| *byte == b'\n');
    let mut words = lines.next().unwrap_or_default().splitn(2, |byte| *byte == b' ');
    let (method, uri) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut request = http::Request::builder().method(method).uri(uri).version(http::Version::HTTP_2);
    let mut answer = http::Response::builder();
    for line in lines {
        let at = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(at);
        let (Ok(name), Ok(value)) =
            (HeaderName::from_lowercase(name), HeaderValue::from_bytes(value.get(1..).unwrap_or_default()))
        else {
            continue;
        };
        request = request.header(&name, &value);
        answer = answer.header(name, value);
    }
    if let Ok(answer) = answer.body(())
        && let Ok(head) = head::response_head(answer.into_parts().0, usize::from(*flags))
    {
        let sent = head::response(head);
        assert!(!sent.headers().contains_key(http::header::CONNECTION));
    }
    let Ok(request) = request.body(()) else { return };
    let (mut parts, ()) = request.into_parts();
    if flags & 1 != 0 && parts.method == Method::CONNECT {
        parts.extensions.insert(h2::ext::Protocol::from_static("websocket"));
    }
    let rules = request_rules(flags & !1);
    let Ok(read) = head::request_head(parts, &rules, &mut 0) else { return };
    let upgrade = read.headers.get(&http::header::UPGRADE).and_then(|value| value.to_str().ok().map(str::to_owned));
    let extended = upgrade.is_some() && read.method == Method::GET;
    let upgrade = upgrade.filter(|_| extended);
    let Ok(sent) = head::request(read.clone(), upgrade.as_deref()) else { return };
    assert!(!sent.headers().contains_key(http::header::CONNECTION) && !sent.headers().contains_key(http::header::HOST));
    let again = head::request_head(sent.into_parts().0, &rules, &mut 0);
    let of = |head: &RequestHead| (head.method.clone(), head.authority.clone(), head.path.clone());
    assert_eq!(again.as_ref().ok().map(of), Some(of(&read)));
    // An HTTP/1 host reads one head, and the same.
    let mut out = BytesMut::new();
    encode_request(&read, Body::Empty, &mut out);
    let rules = RequestRules { limits: Limits { bytes: 1 << 20, count: 4096 }, custom_methods: true, ..rules };
    if let Ok(Some(again)) = parse_request(&mut out, &mut Scan::default(), &rules) {
        assert!(out.is_empty(), "there is something behind the head: {out:?}");
        assert_eq!(again.head.path, read.path);
    }
}
