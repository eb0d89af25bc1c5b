//! The client of an exchange over HTTP/2.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::SendStream;
use h2::client::{ResponseFuture, SendRequest};
use http::{Method, Request, Uri};
use tokio::task::spawn_local;

use super::super::client::{ANSWERED, CLOSED, Fates, LONG, STAYED, WHILE};
use super::super::support::PATIENCE;
use super::super::theme::{Exchange, Step};
use super::{Ask, Fields, alone, lines, map, send};

/// What came on one stream.
#[derive(Default)]
struct Came {
    interim: Vec<Vec<String>>,
    head: Vec<String>,
    body: Vec<u8>,
    trailers: Vec<String>,
    end: Option<String>,
}

/// What the client got: lines for each stream, and the fate of the connection.
pub(crate) fn run(address: SocketAddr, exchange: &Exchange, fates: &Fates, me: usize) -> Vec<Vec<String>> {
    alone(talk(address, exchange, fates, me))
}

async fn talk(address: SocketAddr, exchange: &Exchange, fates: &Fates, me: usize) -> Vec<Vec<String>> {
    let socket = tokio::net::TcpStream::connect(address).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let (client, connection) = h2::client::handshake(socket).await.unwrap();
    let closed: Rc<RefCell<Option<String>>> = Rc::default();
    let ended = closed.clone();
    let driver = spawn_local(async move {
        let end = match connection.await {
            Ok(()) => "closed".to_owned(),
            Err(error) => match error.reason() {
                Some(reason) => format!("closed: {reason:?}"),
                None => "closed".to_owned(),
            },
        };
        *ended.borrow_mut() = Some(end);
    });
    let all: Rc<RefCell<Vec<Came>>> = Rc::default();
    let mut sending: Option<SendStream<Bytes>> = None;
    let mut left = false;
    for step in &exchange.client {
        match step {
            Step::Http2(Ask::Open { method, path, fields, ends }) => {
                sending = open(&client, &all, (method, path, fields, *ends)).await;
            }
            Step::Http2(ask) => {
                if let Some(stream) = &mut sending {
                    tell(stream, ask).await;
                }
            }
            Step::Await(text) => until(&closed, || all.borrow().iter().any(|came| came.has(text))).await,
            Step::Pause(time) => tokio::time::sleep(Duration::from_millis(*time)).await,
            Step::Leave => left = true,
            Step::Send(_) | Step::Fin => panic!("{}: bytes on a connection of HTTP/2", exchange.name),
        }
    }
    let fate = &fates.0[me];
    let end = if left {
        fate.store(STAYED, std::sync::atomic::Ordering::Relaxed);
        driver.abort();
        "left".to_owned()
    } else {
        let over = || all.borrow().iter().filter(|came| came.end.is_some()).count() >= exchange.responses;
        until(&closed, over).await;
        watch(&closed, fates, me).await;
        closed.borrow().clone().unwrap_or_else(|| "open".to_owned())
    };
    let mut lines: Vec<Vec<String>> = all.borrow().iter().flat_map(Came::lines).collect();
    lines.push(vec![format!("connection {end}")]);
    lines
}

/// Watches an answered connection for as long as the other proxy's is.
async fn watch(closed: &RefCell<Option<String>>, fates: &Fates, me: usize) {
    use std::sync::atomic::Ordering::Relaxed;
    let (fate, other) = (&fates.0[me], &fates.0[1 - me]);
    let is_closed = || closed.borrow().is_some();
    let answered = Instant::now();
    fate.store(if is_closed() { CLOSED } else { ANSWERED }, Relaxed);
    until(closed, || {
        if answered.elapsed() > WHILE {
            fate.store(STAYED, Relaxed);
        }
        let other = other.load(Relaxed);
        other == STAYED && answered.elapsed() > WHILE || other == CLOSED && answered.elapsed() > LONG
    })
    .await;
    if is_closed() {
        fate.store(CLOSED, Relaxed);
    }
}

/// Waits until something is so, or the connection is closed, or the time is up.
async fn until(closed: &RefCell<Option<String>>, done: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while closed.borrow().is_none() && !done() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

async fn open(
    client: &SendRequest<Bytes>,
    all: &Rc<RefCell<Vec<Came>>>,
    (method, path, fields, ends): (&str, &str, &Fields, bool),
) -> Option<SendStream<Bytes>> {
    let pseudo = |name: &str| fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
    let (scheme, authority) = (pseudo(":scheme").unwrap_or("http"), pseudo(":authority").unwrap_or("test"));
    let mut request = Request::new(());
    *request.method_mut() = method.parse::<Method>().unwrap();
    *request.uri_mut() = match (method, pseudo(":protocol")) {
        ("CONNECT", None) => authority.parse().unwrap(),
        _ => Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build().unwrap(),
    };
    if let Some(protocol) = pseudo(":protocol") {
        request.extensions_mut().insert(h2::ext::Protocol::from(protocol));
        // It may be asked for once the proxy's settings have come.
        let deadline = Instant::now() + Duration::from_secs(1);
        while !client.is_extended_connect_protocol_enabled() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }
    *request.headers_mut() = map(&fields.iter().filter(|(name, _)| !name.starts_with(':')).cloned().collect());
    let at = all.borrow().len();
    all.borrow_mut().push(Came::default());
    let sent = match client.clone().ready().await {
        Ok(mut client) => client.send_request(request, ends),
        Err(error) => Err(error),
    };
    match sent {
        Ok((response, stream)) => {
            spawn_local(take(response, all.clone(), at));
            Some(stream)
        }
        Err(error) => {
            all.borrow_mut()[at].end = Some(format!("not sent: {error}"));
            None
        }
    }
}

async fn tell(stream: &mut SendStream<Bytes>, ask: &Ask) {
    match ask {
        Ask::Open { .. } => {}
        Ask::Data(data) => drop(send(stream, data).await),
        Ask::End => drop(stream.send_data(Bytes::new(), true)),
        Ask::Trailers(fields) => drop(stream.send_trailers(map(fields))),
        Ask::Reset(reason) => stream.send_reset(*reason),
    }
}

/// Takes all that comes on a stream.
async fn take(mut response: ResponseFuture, all: Rc<RefCell<Vec<Came>>>, at: usize) {
    let interim = Cell::new(true);
    let answer = loop {
        let all = all.clone();
        let next = std::future::poll_fn(|context| {
            if interim.get()
                && let std::task::Poll::Ready(said) = response.poll_informational(context)
            {
                match said {
                    Some(Ok(head)) => {
                        let mut lines_of = vec![format!("HTTP/2 {}", head.status().as_u16())];
                        lines_of.extend(lines(head.headers(), ""));
                        all.borrow_mut()[at].interim.push(lines_of);
                        return std::task::Poll::Ready(None);
                    }
                    _ => interim.set(false),
                }
            }
            Pin::new(&mut response).poll(context).map(Some)
        })
        .await;
        if let Some(answer) = next {
            break answer;
        }
    };
    let end = |error: h2::Error| match error.reason() {
        Some(reason) if error.is_reset() && error.is_remote() => format!("reset: {reason:?}"),
        Some(_) if error.is_reset() => "reset by us".to_owned(),
        _ => "cut".to_owned(),
    };
    let mut body = match answer {
        Ok(response) => {
            let mut head = vec![format!("HTTP/2 {}", response.status().as_u16())];
            head.extend(lines(response.headers(), ""));
            let came = &mut all.borrow_mut()[at];
            came.head = head;
            response.into_body()
        }
        Err(error) => {
            all.borrow_mut()[at].end = Some(end(error));
            return;
        }
    };
    while let Some(data) = body.data().await {
        match data {
            Ok(data) => {
                let _ = body.flow_control().release_capacity(data.len());
                all.borrow_mut()[at].body.extend_from_slice(&data);
            }
            Err(error) => {
                all.borrow_mut()[at].end = Some(end(error));
                return;
            }
        }
    }
    let trailers = body.trailers().await;
    let came = &mut all.borrow_mut()[at];
    came.end = Some(match trailers {
        Ok(trailers) => {
            came.trailers = lines(&trailers.unwrap_or_default(), "trailer ");
            "end".to_owned()
        }
        Err(error) => end(error),
    });
}

impl Came {
    fn has(&self, text: &[u8]) -> bool {
        let in_head = self.head.iter().any(|line| line.as_bytes() == text);
        in_head || self.body.windows(text.len()).any(|window| window == text)
    }

    fn lines(&self) -> Vec<Vec<String>> {
        let mut all = self.interim.clone();
        let mut own = self.head.clone();
        if !self.body.is_empty() {
            own.push(format!("data: {}", self.body.escape_ascii()));
        }
        own.extend(self.trailers.iter().cloned());
        own.push(self.end.clone().unwrap_or_else(|| "not ended".to_owned()));
        all.push(own);
        all
    }
}
