//! Heads from bytes: httparse for the grammar, the rules about lengths, codings and targets on top.

use std::mem::MaybeUninit;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Method, StatusCode, Version, header};
use httparse::Status;
use memchr::memchr;

use super::{Framing, Limits, Refusal, Scan};
use crate::codec::head::{Headers, RequestHead, ResponseHead, Scheme, tokens};

/// Empty lines tolerated before a request line (RFC 9112, 2.2).
const MAX_BLANK_LINES: u8 = 8;
/// Room for the headers that a proxy adds, so that the list is allocated once.
const SPARE_HEADERS: usize = 10;
/// Up to this many header fields are parsed without an allocation.
const STACK_HEADERS: usize = 128;

/// How requests are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestRules {
    /// Size and count.
    pub limits: Limits,
    /// `allow_absolute_url`: a target such as `http://host/path` replaces the host.
    pub allow_absolute_url: bool,
    /// `allow_chunked_length`: `content-length` beside `transfer-encoding` is dropped instead of refused.
    pub allow_chunked_length: bool,
    /// `headers_with_underscores_action`.
    pub underscores: Underscores,
}

impl Default for RequestRules {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            allow_absolute_url: true,
            allow_chunked_length: false,
            underscores: Underscores::Allow,
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
}

/// Takes a request head from the front of `buffer`, once it is complete. `scan` belongs to the buffer; it is fresh again
/// after a head.
///
/// # Errors
/// What to answer before the connection is closed. Checks that need no more than a well-formed head (a missing host, the
/// version, a fragment) are those of `http::headers`, so that they can be answered like any request.
pub fn parse_request(
    buffer: &mut BytesMut,
    scan: &mut Scan,
    rules: &RequestRules,
) -> Result<Option<Parsed<RequestHead>>, Refusal> {
    if !skip_blank_lines(buffer, scan)? {
        return Ok(None);
    }
    let Some(length) = scan.find_end(buffer, true, &rules.limits)? else {
        if let Some((part, first)) = scan.unjudged(buffer) {
            if first { judge_request(part)? } else { judge_fields(part)? }
        }
        return Ok(None);
    };
    let fields = scan.lines().saturating_sub(1);
    let bytes = buffer.split_to(length).freeze();
    *scan = Scan::default();
    with_fields(fields, |slots| request_from(&bytes, slots, rules)).map(Some)
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
) -> Result<Option<Parsed<ResponseHead>>, Refusal> {
    let Some(length) = scan.find_end(buffer, true, limits)? else {
        if let Some((part, first)) = scan.unjudged(buffer) {
            if first { judge_response(part)? } else { judge_fields(part)? }
        }
        return Ok(None);
    };
    let fields = scan.lines().saturating_sub(1);
    let bytes = buffer.split_to(length).freeze();
    *scan = Scan::default();
    with_fields(fields, |slots| response_from(&bytes, slots, method)).map(Some)
}

/// Takes the trailers and the empty line after them from the front of `buffer`, once they are complete.
pub(super) fn parse_trailers(
    buffer: &mut BytesMut,
    scan: &mut Scan,
    limits: &Limits,
) -> Result<Option<Headers>, Refusal> {
    let Some(length) = scan.find_end(buffer, false, limits)? else {
        if let Some((part, _)) = scan.unjudged(buffer) {
            judge_fields(part)?;
        }
        return Ok(None);
    };
    let fields = scan.lines();
    let bytes = buffer.split_to(length).freeze();
    *scan = Scan::default();
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
        Ok(Status::Partial) | Err(_) => Err(Refusal::CODEC_ERROR),
    }
}

type Slot<'b> = MaybeUninit<httparse::Header<'b>>;

/// Runs `parse` with room for `fields` headers: on the stack where it fits.
fn with_fields<'b, T>(fields: usize, parse: impl FnOnce(&mut [Slot<'b>]) -> T) -> T {
    if fields <= STACK_HEADERS {
        parse(&mut [const { MaybeUninit::uninit() }; STACK_HEADERS])
    } else {
        let mut slots = Vec::new();
        slots.resize_with(fields, MaybeUninit::uninit);
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

/// Judges the beginning of a request head that is not complete.
fn judge_request(part: &[u8]) -> Result<(), Refusal> {
    let mut slots = vec![httparse::EMPTY_HEADER; count_lines(part)];
    let mut request = httparse::Request::new(&mut slots);
    request.parse(part).map_err(|_| Refusal::CODEC_ERROR)?;
    match request.method {
        Some(method) if !is_known(method.as_bytes()) => Err(Refusal::CODEC_ERROR),
        _ => Ok(()),
    }
}

/// The same for a response head.
fn judge_response(part: &[u8]) -> Result<(), Refusal> {
    let mut slots = vec![httparse::EMPTY_HEADER; count_lines(part)];
    httparse::Response::new(&mut slots).parse(part).map(drop).map_err(|_| Refusal::CODEC_ERROR)
}

/// The same for header lines.
fn judge_fields(part: &[u8]) -> Result<(), Refusal> {
    let mut slots = vec![httparse::EMPTY_HEADER; count_lines(part)];
    httparse::parse_headers(part, &mut slots).map(drop).map_err(|_| Refusal::CODEC_ERROR)
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
        Ok(Status::Partial) | Err(_) => return Err(Refusal::CODEC_ERROR),
    }
    let (Some(method), Some(target), Some(minor)) = (raw.method, raw.path, raw.version) else {
        return Err(Refusal::CODEC_ERROR);
    };
    if !is_known(method.as_bytes()) {
        return Err(Refusal::CODEC_ERROR);
    }
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| Refusal::CODEC_ERROR)?;
    let version = version(minor);
    let mut headers = Headers::with_capacity(raw.headers.len() + SPARE_HEADERS);
    let mut facts = Facts::default();
    let mut authority = None;
    for field in &*raw.headers {
        if rules.underscores != Underscores::Allow && memchr(b'_', field.name.as_bytes()).is_some() {
            match rules.underscores {
                Underscores::Reject => return Err(Refusal::UNEXPECTED_UNDERSCORE),
                _ => continue,
            }
        }
        let (name, value) = entry(bytes, field)?;
        if name == header::HOST {
            authority = Some(join_host(authority, bytes.slice_ref(field.value)));
        } else {
            facts.note(&name, field.value)?;
            headers.append(name, value);
        }
    }
    let framing = request_framing(&facts, &method, version, &mut headers, rules)?;
    let mut head = RequestHead {
        method,
        scheme: None,
        authority: authority.unwrap_or_default(),
        path: bytes.slice_ref(target.as_bytes()),
        version,
        headers,
    };
    split_target(&mut head, rules)?;
    Ok(Parsed {
        head,
        framing,
        keep_alive: facts.keep_alive(version),
        expect_continue: facts.expect_continue && version == Version::HTTP_11,
        upgrade: facts.upgrades() && version == Version::HTTP_11,
    })
}

fn response_from<'b>(
    bytes: &'b Bytes,
    slots: &mut [Slot<'b>],
    method: &Method,
) -> Result<Parsed<ResponseHead>, Refusal> {
    let mut raw = httparse::Response::new(&mut []);
    match httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut raw, bytes, slots) {
        Ok(Status::Complete(_)) => {}
        Ok(Status::Partial) | Err(_) => return Err(Refusal::CODEC_ERROR),
    }
    let (Some(code), Some(minor)) = (raw.code, raw.version) else {
        return Err(Refusal::CODEC_ERROR);
    };
    let status = StatusCode::from_u16(code).map_err(|_| Refusal::CODEC_ERROR)?;
    let version = version(minor);
    let mut headers = Headers::with_capacity(raw.headers.len() + SPARE_HEADERS);
    let mut facts = Facts::default();
    for field in &*raw.headers {
        let (name, value) = entry(bytes, field)?;
        facts.note(&name, field.value)?;
        headers.append(name, value);
    }
    let framing = response_framing(&facts, method, status, version)?;
    // Without a length the end of the connection is the end of the message; a switched protocol never comes back.
    let keep_alive = facts.keep_alive(version) && !framing.is_until_close();
    Ok(Parsed {
        head: ResponseHead { status, version, headers },
        framing,
        keep_alive,
        expect_continue: false,
        upgrade: status == StatusCode::SWITCHING_PROTOCOLS && facts.upgrades(),
    })
}

fn version(minor: u8) -> Version {
    if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 }
}

/// A name and a value that share the memory of the head.
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

/// What the headers say about the message and the connection.
#[derive(Default)]
struct Facts {
    length: Option<u64>,
    /// `transfer-encoding` is there: and is it exactly `chunked`.
    coding: Option<bool>,
    close: bool,
    keep: bool,
    upgrade_named: bool,
    upgrade: bool,
    expect_continue: bool,
}

impl Facts {
    fn note(&mut self, name: &HeaderName, value: &[u8]) -> Result<(), Refusal> {
        if *name == header::CONTENT_LENGTH {
            let length = decimal(value).ok_or(Refusal::CODEC_ERROR)?;
            if self.length.replace(length).is_some() {
                return Err(Refusal::CODEC_ERROR);
            }
        } else if *name == header::TRANSFER_ENCODING {
            let chunked = self.coding.is_none() && value.eq_ignore_ascii_case(b"chunked");
            self.coding = Some(chunked);
        } else if *name == header::CONNECTION {
            for token in tokens(value) {
                self.close |= token.eq_ignore_ascii_case(b"close");
                self.keep |= token.eq_ignore_ascii_case(b"keep-alive");
                self.upgrade_named |= token.eq_ignore_ascii_case(b"upgrade");
            }
        } else if *name == header::UPGRADE {
            // Cleartext HTTP/2 by upgrade is not a thing we do: as if it were not asked for.
            self.upgrade |= !value.eq_ignore_ascii_case(b"h2c");
        } else if *name == header::EXPECT {
            self.expect_continue |= value.eq_ignore_ascii_case(b"100-continue");
        } else if name.as_str() == "proxy-connection" {
            // Not a standard header, but clients of proxies say it and Envoy listens.
            self.close |= tokens(value).any(|token| token.eq_ignore_ascii_case(b"close"));
        }
        Ok(())
    }

    fn keep_alive(&self, version: Version) -> bool {
        !self.close && (version == Version::HTTP_11 || self.keep)
    }

    fn upgrades(&self) -> bool {
        self.upgrade && self.upgrade_named
    }
}

/// Digits only; `None` when there is anything else, nothing, or too much.
fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0_u64, |sum, byte| {
        if !byte.is_ascii_digit() {
            return None;
        }
        sum.checked_mul(10)?.checked_add(u64::from(byte - b'0'))
    })
}

/// RFC 9112, 6.3, for requests.
fn request_framing(
    facts: &Facts,
    method: &Method,
    version: Version,
    headers: &mut Headers,
    rules: &RequestRules,
) -> Result<Framing, Refusal> {
    match (facts.coding, facts.length) {
        (Some(false), _) => Err(Refusal::INVALID_TRANSFER_ENCODING),
        // A 1.0 sender cannot know the coding: whoever stands before us may have read the message otherwise.
        (Some(true), _) if version == Version::HTTP_10 => Err(Refusal::TRANSFER_ENCODING_NOT_ALLOWED),
        (Some(true), _) if *method == Method::CONNECT => Err(Refusal::TRANSFER_ENCODING_NOT_ALLOWED),
        (Some(true), Some(_)) if !rules.allow_chunked_length => Err(Refusal::LENGTH_AND_CHUNKED),
        (Some(true), length) => {
            if length.is_some() {
                headers.remove(&header::CONTENT_LENGTH);
            }
            Ok(Framing::chunked())
        }
        (None, Some(length)) if *method == Method::CONNECT => {
            if length > 0 {
                return Err(Refusal::LENGTH_NOT_ALLOWED);
            }
            headers.remove(&header::CONTENT_LENGTH);
            Ok(Framing::none())
        }
        (None, length) => Ok(Framing::length(length.unwrap_or(0))),
    }
}

/// RFC 9112, 6.3, for responses.
fn response_framing(facts: &Facts, method: &Method, status: StatusCode, version: Version) -> Result<Framing, Refusal> {
    if facts.coding == Some(false) {
        return Err(Refusal::INVALID_TRANSFER_ENCODING);
    }
    if facts.coding.is_some() && (facts.length.is_some() || version == Version::HTTP_10) {
        return Err(Refusal::LENGTH_AND_CHUNKED);
    }
    if status == StatusCode::SWITCHING_PROTOCOLS || (*method == Method::CONNECT && status.is_success()) {
        return Ok(Framing::until_close());
    }
    let bodiless = status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
        || *method == Method::HEAD;
    Ok(match (facts.coding, facts.length) {
        _ if bodiless => Framing::none(),
        (Some(_), _) => Framing::chunked(),
        (None, Some(length)) => Framing::length(length),
        (None, None) => Framing::until_close(),
    })
}

/// The request target, RFC 9112, 3.2: origin-form, absolute-form, authority-form for CONNECT, `*` for OPTIONS.
fn split_target(head: &mut RequestHead, rules: &RequestRules) -> Result<(), Refusal> {
    let target = head.path.clone();
    // Printable ASCII only; httparse lets more pass.
    if !target.iter().all(u8::is_ascii_graphic) {
        return Err(Refusal::CODEC_ERROR);
    }
    if head.method == Method::CONNECT {
        if target.contains(&b'/') || !is_authority(&target) {
            return Err(Refusal::CODEC_ERROR);
        }
        head.authority = target;
        head.path = Bytes::new();
        return Ok(());
    }
    match target.first() {
        Some(b'/') => return Ok(()),
        Some(b'*') if head.method == Method::OPTIONS && target.len() == 1 => return Ok(()),
        Some(b'*') => return Err(Refusal::INVALID_URL),
        _ => {}
    }
    let (scheme, rest) = absolute(&target).ok_or(Refusal::CODEC_ERROR)?;
    if !rules.allow_absolute_url {
        return Err(Refusal::INVALID_URL);
    }
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    if !is_authority(&rest[..end]) {
        return Err(Refusal::CODEC_ERROR);
    }
    head.scheme = Some(scheme);
    head.authority = target.slice_ref(&rest[..end]);
    head.path = match rest.get(end) {
        None => Bytes::from_static(b"/"),
        Some(b'/') => target.slice_ref(&rest[end..]),
        // `http://host?query`: the path is empty, which is written `/`.
        Some(_) => [b"/", &rest[end..]].concat().into(),
    };
    Ok(())
}

/// Cuts `http://` or `https://` off.
fn absolute(target: &[u8]) -> Option<(Scheme, &[u8])> {
    for scheme in [Scheme::Http, Scheme::Https] {
        let (name, mark) = (scheme.as_str().as_bytes(), b"://");
        let length = name.len() + mark.len();
        if target.len() > length
            && target[..name.len()].eq_ignore_ascii_case(name)
            && target[name.len()..].starts_with(mark)
        {
            return Some((scheme, &target[length..]));
        }
    }
    None
}

/// Host and port, without user information: nothing upstream may see a name that we did not route by.
fn is_authority(text: &[u8]) -> bool {
    !text.is_empty()
        && text.iter().all(|byte| {
            byte.is_ascii_alphanumeric()
                || matches!(
                    byte,
                    b'-' | b'.'
                        | b'_'
                        | b'~'
                        | b':'
                        | b'['
                        | b']'
                        | b'%'
                        | b'!'
                        | b'$'
                        | b'&'
                        | b'\''
                        | b'('
                        | b')'
                        | b'*'
                        | b'+'
                        | b','
                        | b';'
                        | b'='
                )
        })
}

/// The methods that Envoy accepts without `allow_custom_methods`.
fn is_known(method: &[u8]) -> bool {
    matches!(
        method,
        b"GET"
            | b"POST"
            | b"PUT"
            | b"HEAD"
            | b"DELETE"
            | b"OPTIONS"
            | b"PATCH"
            | b"CONNECT"
            | b"TRACE"
            | b"ACL"
            | b"BIND"
            | b"CHECKOUT"
            | b"COPY"
            | b"LINK"
            | b"LOCK"
            | b"MERGE"
            | b"MKACTIVITY"
            | b"MKCALENDAR"
            | b"MKCOL"
            | b"MOVE"
            | b"M-SEARCH"
            | b"NOTIFY"
            | b"PROPFIND"
            | b"PROPPATCH"
            | b"PURGE"
            | b"REBIND"
            | b"REPORT"
            | b"SEARCH"
            | b"SOURCE"
            | b"SUBSCRIBE"
            | b"UNBIND"
            | b"UNLINK"
            | b"UNLOCK"
            | b"UNSUBSCRIBE"
    )
}
