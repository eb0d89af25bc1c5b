//! The two ends of an exchange over HTTP/2: a client, and the hosts' side of a connection that begins with the preface.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::ext::Protocol;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tokio::task::{LocalSet, spawn_local};

use super::client::Fates;
use super::support::PATIENCE;
use super::theme::{Act, Asked, Exchange, Fields, Step};
use super::upstream::{Busy, State};

fn on_a_runtime(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, work);
}

/// What one stream has brought.
#[derive(Default)]
struct Got {
    lines: Vec<String>,
    data: String,
    end: Option<String>,
    /// It counts as answered: its response is whole, or a tunnel.
    answered: bool,
}

/// What the client got; see [`super::client::run`].
pub(crate) fn client(address: SocketAddr, exchange: &Exchange, fates: &Fates, me: usize) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    on_a_runtime(async {
        let socket = tokio::net::TcpStream::connect(address).await.unwrap();
        let (mut send, connection) = h2::client::handshake(socket).await.unwrap();
        let closed: Rc<Cell<bool>> = Rc::default();
        let over = closed.clone();
        spawn_local(async move {
            let _ = connection.await;
            over.set(true);
        });
        let mut streams: Vec<(Rc<RefCell<Got>>, SendStream<Bytes>)> = Vec::new();
        let mut left = false;
        for step in &exchange.client {
            let latest = streams.last_mut();
            match step {
                Step::Ask(asked) => {
                    let got: Rc<RefCell<Got>> = Rc::default();
                    send = send.ready().await.unwrap();
                    let sent = send.send_request(request(asked), asked.ends);
                    let Ok((response, stream)) = sent else { panic!("{}: cannot be asked", exchange.name) };
                    spawn_local(read(response, asked.method == "CONNECT", got.clone()));
                    streams.push((got, stream));
                }
                Step::Send(bytes) => {
                    if let Some((_, stream)) = latest {
                        let _ = stream.send_data(Bytes::copy_from_slice(bytes), false);
                    }
                }
                Step::Fin => {
                    if let Some((_, stream)) = latest {
                        let _ = stream.send_data(Bytes::new(), true);
                    }
                }
                Step::Cancel => {
                    if let Some((_, stream)) = latest {
                        stream.send_reset(Reason::CANCEL);
                    }
                }
                Step::Trailers(fields) => {
                    if let Some((_, stream)) = latest {
                        let _ = stream.send_trailers(map(fields));
                    }
                }
                Step::Await(text) => {
                    let text = String::from_utf8_lossy(text).into_owned();
                    let got = latest.map(|(got, _)| got.clone()).unwrap_or_default();
                    until(|| {
                        let got = got.borrow();
                        got.end.is_some()
                            || got.data.contains(&text)
                            || got.lines.iter().any(|line| line.contains(&text))
                    })
                    .await;
                }
                Step::Pause(time) => tokio::time::sleep(Duration::from_millis(*time)).await,
                Step::Leave => left = true,
            }
        }
        let ended = || closed.get() || streams.iter().all(|(got, _)| got.borrow().end.is_some());
        if left {
            fates.stayed(me);
        } else {
            until(|| ended() || streams.iter().filter(|(got, _)| got.borrow().answered).count() >= exchange.responses)
                .await;
            let answered = Instant::now();
            fates.answered(me, ended());
            until(|| fates.is_over(me, answered)).await;
            if ended() {
                fates.answered(me, true);
            }
        }
        for (got, _) in &streams {
            let got = got.borrow();
            let mut lines = got.lines.clone();
            if !got.data.is_empty() {
                lines.push(format!("data: {}", got.data));
            }
            lines.push(got.end.clone().unwrap_or_else(|| "stream open".into()));
            all.push(lines);
        }
        all.push(vec![format!(
            "connection {}",
            if left {
                "left"
            } else if closed.get() {
                "closed"
            } else {
                "open"
            }
        )]);
    });
    all
}

async fn until(done: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

fn request(asked: &Asked) -> Request<()> {
    let uri = match (asked.path.as_str(), asked.method.as_str()) {
        ("-", _) => asked.authority.clone(),
        (path, _) => format!("http://{}{path}", asked.authority),
    };
    let mut request = Request::builder().method(asked.method.as_str()).uri(uri);
    for (name, value) in &asked.headers {
        request = request.header(name, value);
    }
    let mut request = request.body(()).unwrap();
    if let Some(protocol) = &asked.protocol {
        request.extensions_mut().insert(Protocol::from(protocol.as_str()));
    }
    request
}

fn map(fields: &Fields) -> HeaderMap {
    let field =
        |(name, value): &(String, String)| (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap());
    fields.iter().map(field).collect()
}

fn fields(headers: &HeaderMap) -> Vec<String> {
    let mut fields: Vec<String> =
        headers.iter().map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()))).collect();
    fields.sort();
    fields
}

async fn read(response: h2::client::ResponseFuture, connect: bool, got: Rc<RefCell<Got>>) {
    let ended = |end: String| {
        let mut got = got.borrow_mut();
        got.end = Some(end);
        got.answered = true;
    };
    let response = match response.await {
        Ok(response) => response,
        Err(error) => return ended(told(&error)),
    };
    {
        let mut got = got.borrow_mut();
        got.lines.push(format!("status {}", response.status().as_u16()));
        got.lines.extend(fields(response.headers()));
        got.answered = connect && response.status().is_success();
    }
    let mut body = response.into_body();
    while let Some(data) = body.data().await {
        match data {
            Ok(data) => {
                let _ = body.flow_control().release_capacity(data.len());
                got.borrow_mut().data.push_str(&data.escape_ascii().to_string());
            }
            Err(error) => return ended(told(&error)),
        }
    }
    match body.trailers().await {
        Ok(trailers) => ended(format!("stream ended {}", fields(&trailers.unwrap_or_default()).join(", "))),
        Err(error) => ended(told(&error)),
    }
}

fn told(error: &h2::Error) -> String {
    match error.reason() {
        Some(reason) if error.is_reset() => format!("stream reset: {reason:?}"),
        _ => "stream lost".into(),
    }
}

/// The hosts' side of a connection. Host `c` does not take extended CONNECT.
pub(crate) fn serve(name: &str, socket: std::net::TcpStream, state: &Mutex<State>) {
    on_a_runtime(async {
        socket.set_nonblocking(true).unwrap();
        let cut = socket.try_clone().unwrap();
        let socket = tokio::net::TcpStream::from_std(socket).unwrap();
        let mut builder = h2::server::Builder::new();
        if name != "c" {
            builder.enable_connect_protocol();
        }
        let Ok(mut connection) = builder.handshake::<_, Bytes>(socket).await else { return };
        let mut work = futures_util::stream::FuturesUnordered::new();
        loop {
            use futures_util::StreamExt as _;
            tokio::select! {
                accepted = connection.accept() => match accepted {
                    Some(Ok((request, respond))) => work.push(answer(name, request, respond, &cut, state)),
                    _ => return,
                },
                Some(()) = work.next() => {}
            }
        }
    });
}

async fn answer(
    name: &str,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    cut: &std::net::TcpStream,
    state: &Mutex<State>,
) {
    let (parts, mut body) = request.into_parts();
    let connect = parts.method == "CONNECT";
    let mut first = format!("at {name}: {} {}", parts.method, parts.uri);
    if let Some(protocol) = parts.extensions.get::<Protocol>() {
        let _ = write!(first, " {}", protocol.as_str());
    }
    let (number, acts) =
        state.lock().unwrap().take(name, std::iter::once(first).chain(fields(&parts.headers)).collect());
    let _busy = Busy(state);
    let note = |line: String| state.lock().unwrap().note(number, line);
    if acts.first() != Some(&Act::Head) && !connect {
        let mut all = Vec::new();
        let read = take(&mut body, usize::MAX, &mut all).await;
        if !all.is_empty() || read != "end" {
            note(format!("body {read}: {}", all.escape_ascii()));
        }
        if read == "end"
            && let Ok(Some(trailers)) = body.trailers().await
        {
            note(format!("trailers {}", fields(&trailers).join(", ")));
        }
    }
    let mut stream: Option<SendStream<Bytes>> = None;
    let mut ended = false;
    for (number, act) in acts.iter().enumerate() {
        match act {
            Act::Head => {}
            Act::Send(bytes) => match &mut stream {
                Some(stream) => drop(stream.send_data(Bytes::copy_from_slice(bytes), false)),
                None => {
                    let (head, rest) = response(bytes);
                    // What comes next may be more of it.
                    let more = matches!(acts.get(number + 1), Some(act) if !matches!(act, Act::Fin));
                    ended = !connect && rest.is_empty() && !more;
                    let Ok(mut sent) = respond.send_response(head, ended) else { return };
                    if !rest.is_empty() {
                        let _ = sent.send_data(Bytes::from(rest), false);
                    }
                    stream = Some(sent);
                }
            },
            Act::Read(count) => {
                let mut all = Vec::new();
                let read = take(&mut body, *count, &mut all).await;
                note(format!("read {read}: {:?}", String::from_utf8_lossy(&all)));
            }
            Act::Pause(time) => tokio::time::sleep(Duration::from_millis(*time)).await,
            Act::Fin => {
                ended = true;
                if let Some(stream) = &mut stream {
                    let _ = stream.send_data(Bytes::new(), true);
                }
            }
            Act::Close => {
                let _ = cut.shutdown(std::net::Shutdown::Both);
                return;
            }
            Act::Trailers(fields) => {
                ended = true;
                if let Some(stream) = &mut stream {
                    let _ = stream.send_trailers(map(fields));
                }
            }
            Act::Gone => {
                ended = true;
                // Before the head it is the one, behind it the other that hears of it.
                let gone = async {
                    match &mut stream {
                        Some(stream) => std::future::poll_fn(|context| stream.poll_reset(context)).await,
                        None => std::future::poll_fn(|context| respond.poll_reset(context)).await,
                    }
                };
                note(match tokio::time::timeout(PATIENCE, gone).await {
                    Ok(Ok(reason)) => format!("reset: {reason:?}"),
                    Ok(Err(_)) => "cut".into(),
                    Err(_) => "not reset".into(),
                });
            }
            Act::Reset(reason) => {
                let known = (0..=13).map(Reason::from).find(|known| format!("{known:?}") == *reason);
                respond.send_reset(known.unwrap_or(Reason::INTERNAL_ERROR));
                return;
            }
        }
    }
    if !connect
        && !ended
        && let Some(stream) = &mut stream
    {
        let _ = stream.send_data(Bytes::new(), true);
    }
    if connect {
        let mut all = Vec::new();
        let read = take(&mut body, usize::MAX, &mut all).await;
        note(format!("at last {read}: {:?}", String::from_utf8_lossy(&all)));
        // The stream is dropped, and with it reset, only when it has ended both ways, or the connection has.
        std::future::pending::<()>().await;
    }
}

async fn take(body: &mut RecvStream, count: usize, all: &mut Vec<u8>) -> String {
    while all.len() < count {
        match body.data().await {
            Some(Ok(data)) => {
                let _ = body.flow_control().release_capacity(data.len());
                all.extend_from_slice(&data);
            }
            Some(Err(error)) => return told(&error),
            None => return "end".into(),
        }
    }
    "whole".into()
}

/// A head as HTTP/1 writes it, and what is behind it.
fn response(bytes: &[u8]) -> (Response<()>, Vec<u8>) {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
    let (head, rest) = (String::from_utf8_lossy(&bytes[..end]), &bytes[end + 4..]);
    let mut lines = head.split("\r\n");
    let status: u16 = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let mut response = Response::builder().status(status);
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        response = response.header(name, value);
    }
    (response.body(()).unwrap(), rest.to_vec())
}
