//! Heads from bytes: httparse for the grammar, the rules about lengths, codings and targets on top.

use std::mem::MaybeUninit;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Method, StatusCode, Version, header};
use httparse::Status;
use memchr::memchr;

use super::cases::{CaseRules, Cases};
use super::facts::{Facts, request_framing, response_framing};
use super::target::{Target, is_authority, is_known};
use super::{Framing, Limits, Refusal, Scan};
use crate::codec::head::{Headers, RequestHead, ResponseHead, tokens};
use crate::config::model::StringMatch;

/// Empty lines tolerated before a request line (RFC 9112, 2.2).
const MAX_BLANK_LINES: u8 = 8;
/// Room for the headers that a proxy adds, so that the list is allocated once.
const SPARE_HEADERS: usize = 10;
/// Up to this many header fields are parsed without an allocation.
const STACK_HEADERS: usize = 128;

/// How requests are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestRules {
    /// Size and count.
    pub limits: Limits,
    /// `allow_absolute_url`: a target such as `http://host/path` replaces the host.
    pub allow_absolute_url: bool,
    /// `allow_chunked_length`: `content-length` beside `transfer-encoding` is dropped instead of refused.
    pub allow_chunked_length: bool,
    /// `headers_with_underscores_action`.
    pub underscores: Underscores,
    /// `accept_http_10`.
    pub accept_http_10: bool,
    /// `allow_custom_methods`: any method that is a token.
    pub custom_methods: bool,
    /// `default_host_for_http_10`: the host of a 1.0 request that names none; empty refuses it.
    pub default_host: Bytes,
    /// `ignore_http_11_upgrade`: these upgrades are not asked for.
    pub ignored_upgrades: Vec<StringMatch>,
    /// `header_key_format.stateful_formatter`: how names are written is kept.
    pub cases: Option<CaseRules>,
}

/// How responses are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResponseRules {
    /// `allow_chunked_length`: `content-length` beside `transfer-encoding` is dropped instead of refused.
    pub allow_chunked_length: bool,
    /// `header_key_format.stateful_formatter`: how names are written is kept.
    pub cases: Option<CaseRules>,
}

impl Default for RequestRules {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            allow_absolute_url: true,
            allow_chunked_length: false,
            underscores: Underscores::Allow,
            accept_http_10: false,
            custom_methods: false,
            default_host: Bytes::new(),
            ignored_upgrades: Vec::new(),
            cases: None,
        }
    }
}

/// What to do with header names that contain an underscore.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Underscores {
    /// Pass them on.
    #[default]
    Allow,
    /// Refuse the request.
    Reject,
    /// Drop the header.
    Drop,
}

/// A head with what follows from it for the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed<H> {
    /// The head. `transfer-encoding`, `connection` and the like are still in it.
    pub head: H,
    /// The body that follows. After a 101, or a 2xx to CONNECT, this is [`Framing::until_close`]: what follows is a tunnel.
    pub framing: Framing,
    /// The peer will take another message on this connection once this one is through.
    pub keep_alive: bool,
    /// The client waits for `100 Continue`.
    pub expect_continue: bool,
    /// The head asks for (or grants) an upgrade: `upgrade` is there and `connection` names it.
    pub upgrade: bool,
    /// A request that names no host and must: it is answered with [`Refusal::MISSING_HOST`].
    pub hostless: bool,
}

/// Takes a request head from the front of `buffer`, once it is complete. `scan` belongs to the buffer; it is fresh again
/// after a head.
///
/// # Errors
/// What to answer before the connection is closed. Checks that need no more than a well-formed head (a fragment in the path,
/// what `connection` names) are those of `http::headers`, so that they can be answered like any request.
pub fn parse_request(
    buffer: &mut BytesMut,
    scan: &mut Scan,
    rules: &RequestRules,
) -> Result<Option<Parsed<RequestHead>>, Refusal> {
    if !skip_blank_lines(buffer, scan)? {
        return Ok(None);
    }
    let Some((bytes, lines)) = cut_head(buffer, scan, true, &rules.limits, |part| judge_request(part, rules))? else {
        return Ok(None);
    };
    with_fields(lines, |slots| request_from(&bytes, slots, rules)).map(Some)
}

/// Takes a response head from the front of `buffer`, once it is complete. `method` is that of the request it answers.
/// Informational heads come out like any other: `head.status` tells, and the final head follows.
///
/// # Errors
/// The upstream broke the protocol; the details say how.
pub fn parse_response(
    buffer: &mut BytesMut,
    scan: &mut Scan,
    limits: &Limits,
    method: &Method,
    rules: ResponseRules,
) -> Result<Option<Parsed<ResponseHead>>, Refusal> {
    let Some((bytes, lines)) = cut_head(buffer, scan, true, limits, judge_response)? else {
        return Ok(None);
    };
    with_fields(lines, |slots| response_from(&bytes, slots, method, rules)).map(Some)
}

/// Takes the trailers and the empty line after them from the front of `buffer`, once they are complete.
pub(super) fn parse_trailers(
    buffer: &mut BytesMut,
    scan: &mut Scan,
    limits: &Limits,
) -> Result<Option<Headers>, Refusal> {
    let Some((bytes, fields)) = cut_head(buffer, scan, false, limits, judge_fields)? else {
        return Ok(None);
    };
    if fields == 0 {
        return Ok(Some(Headers::new()));
    }
    let mut headers = Headers::with_capacity(fields);
    let mut slots = vec![httparse::EMPTY_HEADER; fields];
    match httparse::parse_headers(&bytes, &mut slots) {
        Ok(Status::Complete((_, parsed))) => {
            for field in parsed {
                let (name, value) = entry(&bytes, field)?;
                headers.append(name, value);
            }
            Ok(Some(headers))
        }
        Ok(Status::Partial) => Err(Refusal::CODEC_ERROR),
        Err(error) => Err(malformed(error, b"")),
    }
}

/// Cuts a complete head off the buffer; its bytes and how many lines it has. Of one that is not complete, what is there is
/// judged, so that what is certain is refused at once and always for the same reason, however the bytes arrive.
fn cut_head(
    buffer: &mut BytesMut,
    scan: &mut Scan,
    first: bool,
    limits: &Limits,
    judge: impl Fn(&[u8]) -> Result<(), Refusal>,
) -> Result<Option<(Bytes, usize)>, Refusal> {
    let judge = |part: &[u8], begins: bool| if begins { judge(part) } else { judge_fields(part) };
    match scan.find_end(buffer, first, limits) {
        Ok(Some(length)) => {
            let lines = scan.lines();
            *scan = Scan::default();
            Ok(Some((buffer.split_to(length).freeze(), lines)))
        }
        Ok(None) => {
            if let Some((part, begins)) = scan.unjudged(buffer) {
                judge(part, begins)?;
            }
            Ok(None)
        }
        Err(stop) => {
            judge(&buffer[scan.judged()..stop.at], scan.judged() == 0)?;
            Err(stop.refusal)
        }
    }
}

type Slot<'b> = MaybeUninit<httparse::Header<'b>>;

/// Runs `parse` with room for the headers in so many lines: on the stack where it fits.
#[inline]
fn with_fields<'b, T>(lines: usize, parse: impl FnOnce(&mut [Slot<'b>]) -> T) -> T {
    if lines <= STACK_HEADERS {
        parse(&mut [const { MaybeUninit::uninit() }; STACK_HEADERS])
    } else {
        let mut slots = Vec::new();
        slots.resize_with(lines, MaybeUninit::uninit);
        parse(&mut slots)
    }
}

/// Drops empty lines before the head; false when more bytes are needed to know.
fn skip_blank_lines(buffer: &mut BytesMut, scan: &mut Scan) -> Result<bool, Refusal> {
    while scan.lines() == 0 && buffer.first() == Some(&b'\r') {
        match buffer.get(1) {
            None => return Ok(false),
            Some(b'\n') if scan.blanks < MAX_BLANK_LINES => {
                buffer.advance(2);
                scan.drop_blank_line();
            }
            Some(_) => return Err(Refusal::CODEC_ERROR),
        }
    }
    Ok(!buffer.is_empty())
}

/// Judges the beginning of a request head, line after line.
fn judge_request(part: &[u8], rules: &RequestRules) -> Result<(), Refusal> {
    let (line, rest) = part.split_at(memchr(b'\n', part).map_or(part.len(), |at| at + 1));
    let mut request = httparse::Request::new(&mut []);
    request.parse(line).map_err(|error| malformed(error, line))?;
    match request.method {
        Some(method) if !rules.custom_methods && !is_known(method.as_bytes()) => Err(Refusal::CODEC_ERROR),
        _ => judge_fields(rest),
    }
}

/// The same for a response head.
fn judge_response(part: &[u8]) -> Result<(), Refusal> {
    let (line, rest) = part.split_at(memchr(b'\n', part).map_or(part.len(), |at| at + 1));
    httparse::Response::new(&mut []).parse(line).map_err(|_| Refusal::CODEC_ERROR)?;
    judge_fields(rest)
}

/// The same for header lines.
fn judge_fields(part: &[u8]) -> Result<(), Refusal> {
    let mut slots = vec![httparse::EMPTY_HEADER; count_lines(part)];
    httparse::parse_headers(part, &mut slots).map(drop).map_err(|error| malformed(error, b""))
}

/// How Envoy names what httparse refused; `line` is the request line, as far as it is there.
fn malformed(error: httparse::Error, line: &[u8]) -> Refusal {
    match error {
        httparse::Error::HeaderValue => return Refusal::INVALID_CHARACTERS,
        httparse::Error::HeaderName => return Refusal::CODEC_ERROR,
        _ => {}
    }
    let end = memchr(b'\r', line);
    let mut words = line[..end.unwrap_or(line.len())].split(|byte| *byte == b' ');
    if !words.next().is_some_and(is_known) {
        return Refusal::CODEC_ERROR;
    }
    match (words.next(), words.next()) {
        (Some(target), _) if target.iter().any(u8::is_ascii_control) => Refusal::INVALID_CHARACTERS,
        // `GET /path` and nothing more is HTTP/0.9.
        (Some([b'/', ..]), None) if end.is_some() => Refusal::LOW_VERSION,
        (Some(_), Some([b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', ..])) if error == httparse::Error::Version => {
            Refusal::LOW_VERSION
        }
        _ => Refusal::CODEC_ERROR,
    }
}

fn count_lines(part: &[u8]) -> usize {
    memchr::memchr_iter(b'\n', part).count() + 1
}

fn request_from<'b>(
    bytes: &'b Bytes,
    slots: &mut [Slot<'b>],
    rules: &RequestRules,
) -> Result<Parsed<RequestHead>, Refusal> {
    let mut raw = httparse::Request::new(&mut []);
    match raw.parse_with_uninit_headers(bytes, slots) {
        Ok(Status::Complete(_)) => {}
        // Why, is for the judge to say, who looks at one line after the other.
        Ok(Status::Partial) | Err(_) => return Err(judge_request(bytes, rules).err().unwrap_or(Refusal::CODEC_ERROR)),
    }
    let (Some(method), Some(target), Some(minor)) = (raw.method, raw.path, raw.version) else {
        return Err(Refusal::CODEC_ERROR);
    };
    if !rules.custom_methods && !is_known(method.as_bytes()) {
        return Err(Refusal::CODEC_ERROR);
    }
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| Refusal::CODEC_ERROR)?;
    let version = version(minor);
    if version == Version::HTTP_10 && !rules.accept_http_10 {
        return Err(Refusal::LOW_VERSION);
    }
    let mut headers = Headers::with_capacity(raw.headers.len() + SPARE_HEADERS);
    let mut facts = Facts::default();
    let mut authority = None;
    let mut cases = rules.cases.map(|kept| Cases::new(kept, None));
    for field in &*raw.headers {
        if rules.underscores != Underscores::Allow && memchr(b'_', field.name.as_bytes()).is_some() {
            match rules.underscores {
                Underscores::Reject => return Err(Refusal::UNEXPECTED_UNDERSCORE),
                _ => continue,
            }
        }
        let (name, value) = entry(bytes, field)?;
        if let Some(cases) = &mut cases {
            cases.note(bytes.slice_ref(field.name.as_bytes()));
        }
        if name == header::HOST {
            authority = Some(join_host(authority, bytes.slice_ref(field.value)));
        } else {
            facts.note(&name, field.value)?;
            headers.append(name, value);
        }
    }
    let framing = request_framing(&facts, &method, version, &mut headers, rules)?;
    let target = Target::split(&bytes.slice_ref(target.as_bytes()), &method, rules.allow_absolute_url)?;
    let named = target.authority.or(authority);
    let hostless = named.is_none() && (version != Version::HTTP_10 || rules.default_host.is_empty());
    let authority = match named {
        Some(authority) if is_authority(&authority) => authority,
        Some(_) => return Err(Refusal::INVALID_AUTHORITY),
        None if version == Version::HTTP_10 && !rules.default_host.is_empty() => rules.default_host.clone(),
        None => Bytes::new(),
    };
    let mut upgrade = facts.upgrades() && version == Version::HTTP_11;
    if upgrade && !rules.ignored_upgrades.is_empty() {
        upgrade = keep_upgrades(&mut headers, &rules.ignored_upgrades);
    }
    let head = RequestHead { method, scheme: target.scheme, authority, path: target.path, version, headers, cases };
    Ok(Parsed {
        head,
        framing,
        keep_alive: facts.keep_alive(version),
        expect_continue: facts.expect_continue && version == Version::HTTP_11,
        upgrade,
        hostless,
    })
}

/// Takes the upgrades that are to be ignored out of a request; tells whether it still asks for one.
fn keep_upgrades(headers: &mut Headers, ignored: &[StringMatch]) -> bool {
    let without = |headers: &Headers, name: &HeaderName, drop: &dyn Fn(&[u8]) -> bool| {
        let kept: Vec<&[u8]> =
            headers.get_all(name).flat_map(|value| tokens(value.as_bytes())).filter(|token| !drop(token)).collect();
        (!kept.is_empty()).then(|| HeaderValue::from_bytes(&kept.join(&b", "[..])).ok()).flatten()
    };
    let left = without(headers, &header::UPGRADE, &|token| ignored.iter().any(|matcher| matcher.matches(token)));
    if let Some(left) = left {
        headers.set(header::UPGRADE, left);
        return true;
    }
    headers.remove(&header::UPGRADE);
    match without(headers, &header::CONNECTION, &|token| token.eq_ignore_ascii_case(b"upgrade")) {
        Some(left) => headers.set(header::CONNECTION, left),
        None => drop(headers.remove(&header::CONNECTION)),
    }
    false
}

fn response_from<'b>(
    bytes: &'b Bytes,
    slots: &mut [Slot<'b>],
    method: &Method,
    rules: ResponseRules,
) -> Result<Parsed<ResponseHead>, Refusal> {
    let mut raw = httparse::Response::new(&mut []);
    match httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut raw, bytes, slots) {
        Ok(Status::Complete(_)) => {}
        Ok(Status::Partial) | Err(_) => return Err(judge_response(bytes).err().unwrap_or(Refusal::CODEC_ERROR)),
    }
    let (Some(code), Some(minor)) = (raw.code, raw.version) else {
        return Err(Refusal::CODEC_ERROR);
    };
    let status = StatusCode::from_u16(code).map_err(|_| Refusal::CODEC_ERROR)?;
    let version = version(minor);
    let mut headers = Headers::with_capacity(raw.headers.len() + SPARE_HEADERS);
    let mut facts = Facts::default();
    let mut cases =
        rules.cases.map(|kept| Cases::new(kept, raw.reason.map(|reason| bytes.slice_ref(reason.as_bytes()))));
    for field in &*raw.headers {
        let (name, value) = entry(bytes, field)?;
        if let Some(cases) = &mut cases {
            cases.note(bytes.slice_ref(field.name.as_bytes()));
        }
        facts.note(&name, field.value)?;
        headers.append(name, value);
    }
    let framing = response_framing(&facts, method, status, &mut headers, rules)?;
    // Without a length the end of the connection is the end of the message; a switched protocol never comes back; and a 1.0
    // sender that speaks of codings may mean something else by them.
    let coded = facts.coding.is_some() && version == Version::HTTP_10;
    let keep_alive = facts.keep_alive(version) && !framing.is_until_close() && !coded;
    Ok(Parsed {
        head: ResponseHead { status, version, headers, cases },
        framing,
        keep_alive,
        expect_continue: false,
        upgrade: status == StatusCode::SWITCHING_PROTOCOLS && facts.upgrades(),
        hostless: false,
    })
}

fn version(minor: u8) -> Version {
    if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 }
}

/// A name and a value that share the memory of the head.
#[inline(always)]
fn entry(bytes: &Bytes, field: &httparse::Header<'_>) -> Result<(HeaderName, HeaderValue), Refusal> {
    let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Refusal::CODEC_ERROR)?;
    let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value)).map_err(|_| Refusal::CODEC_ERROR)?;
    Ok((name, value))
}

/// Several hosts become one value, as Envoy joins them: no virtual host but `*` can match it.
fn join_host(first: Option<Bytes>, next: Bytes) -> Bytes {
    match first {
        None => next,
        Some(first) => [&first[..], b",", &next[..]].concat().into(),
    }
}
