//! Exchanges over HTTP/2: their part of the form of [`super::theme`], the client, and the hosts.
//!
//! ```text
//! http2                         the client speaks HTTP/2, and what follows is for its streams
//! > POST /a.B/C                 it opens a stream ...
//! > te: trailers                ... with this field; pseudo-headers too: `:authority`, `:scheme`, `:protocol`
//! data \0\0\0\0\x01x            it sends data on the stream that was opened last
//! end                           it ends the stream; right behind the fields, with the head
//! trailers a: 1; b: 2           ... with trailers
//! rst CANCEL                    it resets the stream
//! await TEXT                    it waits until some stream has got this; `pause` and `leave` are as ever
//! responses 2                   how many streams must have ended for the exchange to be over
//! <: 200                        a host that the proxy speaks HTTP/2 with answers with this status ...
//! <: grpc-status: 0             ... with this field
//! <data TEXT                    it sends data
//! <end                          it ends the stream; right behind the fields, with the head
//! <trailers grpc-status: 0      ... with trailers
//! <rst CANCEL                   it resets the stream
//! <gone                         it waits until the proxy has reset the stream, and notes with what
//! <goaway                       it says that it takes no more streams on the connection
//! ```
//!
//! `<head`, `<read`, `<pause`, `<close` and `<next` mean what they do over HTTP/1. Which protocol a host speaks, the first bytes of a connection
//! say; the cluster's settings say what the proxy sends.

pub(crate) mod client;
pub(crate) mod host;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::theme::{Act, Exchange, Step, bytes_of};

/// Name and value.
pub(crate) type Fields = Vec<(String, String)>;

/// What the client does.
#[derive(Debug)]
pub(crate) enum Ask {
    /// It opens a stream; `ends` says that this is all.
    Open {
        method: String,
        path: String,
        fields: Fields,
        ends: bool,
    },
    Data(Vec<u8>),
    End,
    Trailers(Fields),
    Reset(h2::Reason),
}

/// What a host does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    /// It answers with a head; `ends` says that this is all.
    Head {
        status: u16,
        fields: Fields,
        ends: bool,
    },
    Data(Vec<u8>),
    End,
    Trailers(Fields),
    Reset(h2::Reason),
    Gone,
    GoAway,
}

/// Reads a line of the client's; `None` where it is not about HTTP/2.
pub(crate) fn client_line(exchange: &mut Exchange, line: &str) -> Option<()> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let step = match (word, exchange.client.last_mut()) {
        (">", Some(Step::Http2(Ask::Open { fields, ends: false, .. }))) if rest.contains(": ") => {
            fields.push(field(rest)?);
            return Some(());
        }
        (">", _) => {
            let (method, path) = rest.split_once(' ')?;
            Ask::Open { method: text(method), path: text(path), fields: Vec::new(), ends: false }
        }
        ("end", Some(Step::Http2(Ask::Open { ends, .. }))) => {
            *ends = true;
            return Some(());
        }
        ("end", _) => Ask::End,
        ("data", _) => Ask::Data(bytes_of(rest)),
        ("trailers", _) => Ask::Trailers(fields(rest)?),
        ("rst", _) => Ask::Reset(reason(rest)?),
        _ => return None,
    };
    exchange.client.push(Step::Http2(step));
    Some(())
}

/// Reads a line of the host's, without its `<`; `None` where it is not about HTTP/2.
pub(crate) fn host_line(acts: &mut Vec<Act>, line: &str) -> Option<()> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let act = match (word, acts.last_mut()) {
        (":", Some(Act::Http2(Answer::Head { fields, ends: false, .. }))) if rest.contains(": ") => {
            fields.push(field(rest)?);
            return Some(());
        }
        (":", _) => Answer::Head { status: rest.parse().ok()?, fields: Vec::new(), ends: false },
        ("end", Some(Act::Http2(Answer::Head { ends, .. }))) => {
            *ends = true;
            return Some(());
        }
        ("end", _) => Answer::End,
        ("data", _) => Answer::Data(bytes_of(rest)),
        ("trailers", _) => Answer::Trailers(fields(rest)?),
        ("rst", _) => Answer::Reset(reason(rest)?),
        ("gone", _) => Answer::Gone,
        ("goaway", _) => Answer::GoAway,
        _ => return None,
    };
    acts.push(Act::Http2(act));
    Some(())
}

fn text(text: &str) -> String {
    String::from_utf8(bytes_of(text)).unwrap()
}

fn field(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(": ")?;
    Some((text(name), text(value)))
}

fn fields(line: &str) -> Option<Fields> {
    line.split("; ").map(field).collect()
}

fn reason(name: &str) -> Option<h2::Reason> {
    (0..=13).map(h2::Reason::from).find(|reason| format!("{reason:?}") == name)
}

/// As the crate wants them.
fn map(fields: &Fields) -> HeaderMap {
    let field = |(name, value): &(String, String)| {
        (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap())
    };
    fields.iter().map(field).collect()
}

/// As they are compared: sorted.
fn lines(map: &HeaderMap, mark: &str) -> Vec<String> {
    let line =
        |(name, value): (&HeaderName, &HeaderValue)| format!("{mark}{name}: {}", value.as_bytes().escape_ascii());
    let mut lines: Vec<String> = map.iter().map(line).collect();
    lines.sort();
    lines
}

/// Runs to its end on a runtime of its own.
fn alone<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, work)
}

/// Sends data as the window allows; `false` when the stream is gone.
async fn send(stream: &mut h2::SendStream<bytes::Bytes>, data: &[u8]) -> bool {
    let data = bytes::Bytes::copy_from_slice(data);
    super::support::http2::send_all(stream, data, false).await.is_ok()
}
