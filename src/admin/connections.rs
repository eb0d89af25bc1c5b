//! Accepting and serving admin connections.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE};
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{Admin, endpoints};

/// Connections at the same time; the next ones wait in the backlog.
const CONNECTIONS: usize = 64;
/// Until a request's head must have come; also how long a connection may be idle.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// A request's head, in bytes.
const HEAD_SIZE: usize = 16 * 1024;
/// A request's headers.
const HEADERS: usize = 100;
/// A form, in bytes.
const FORM_SIZE: usize = 64 * 1024;
/// A connection's life. Whoever reads slowly for longer has lost interest.
const LIFE: Duration = Duration::from_secs(600);
/// How long a connection that is to end waits for one more request, to tell its client in the answer: a scraper that
/// keeps its connection must not find it closed under the request it is just sending. Longer than the usual scrape
/// interval.
const LINGER: Duration = Duration::from_secs(65);
/// What is left of it after that.
const GRACE: Duration = Duration::from_secs(5);
/// Before accepting is tried again when the process has no descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// A listening socket, lent or bound, in non-blocking mode.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// Unix stream.
    Unix(UnixListener),
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

impl From<UnixListener> for Listener {
    fn from(listener: UnixListener) -> Self {
        Self::Unix(listener)
    }
}

trait Stream: AsyncRead + AsyncWrite {}
impl<T: AsyncRead + AsyncWrite> Stream for T {}

impl Listener {
    async fn accept(&self) -> io::Result<Box<dyn Stream + Unpin>> {
        Ok(match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
            Self::Unix(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

/// How far the end of an endpoint has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ending {
    Serves,
    Stopped,
    Leaves,
}

/// Serves until `stop` is ready; then accepts no more, and returns when the connections that are left have ended: each
/// says `connection: close` in its next answer, and is closed without one after a minute. When `leave` is ready the process is
/// about to end: idle connections are closed, and what has been accepted or asked is still answered within a few seconds.
/// Must run on a `LocalSet`.
pub async fn serve(
    listener: impl Into<Listener>,
    admin: Rc<Admin>,
    stop: impl Future<Output = ()>,
    leave: impl Future<Output = ()>,
) {
    let listener = listener.into();
    let mut stop = pin!(stop);
    let mut connections = JoinSet::new();
    let (ending, ends) = watch::channel(Ending::Serves);
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok(stream) => {
                    connections.spawn_local(connection(stream, admin.clone(), ends.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "admin: accept");
                    sleep(PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    let _ = ending.send(Ending::Stopped);
    let mut leave = pin!(leave);
    loop {
        tokio::select! {
            joined = connections.join_next() => if joined.is_none() { return },
            () = &mut leave => break,
        }
    }
    let _ = ending.send(Ending::Leaves);
    while connections.join_next().await.is_some() {}
}

async fn connection(stream: Box<dyn Stream + Unpin>, admin: Rc<Admin>, mut ends: watch::Receiver<Ending>) {
    let opened = Instant::now();
    admin.traffic.opened();
    let last = Cell::new(false);
    let asked = Cell::new(false);
    let service = service_fn(|request| {
        asked.set(true);
        let (admin, last) = (&admin, &last);
        async move {
            let mut response = answer(admin, request).await;
            if last.get() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_SIZE)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let mut served = pin!(served);
    let mut ended = tokio::select! {
        result = served.as_mut() => Some(result),
        _ = ends.wait_for(|ending| *ending > Ending::Serves) => None,
        () = sleep(LIFE) => None,
    };
    if ended.is_none() {
        last.set(true);
        ended = tokio::select! {
            result = served.as_mut() => Some(result),
            _ = ends.wait_for(|ending| *ending > Ending::Stopped) => None,
            () = sleep(LINGER) => None,
        };
    }
    if ended.is_none() {
        // Closes an idle connection, and one that has asked when it is answered. One that has not asked yet since it was accepted would
        // be closed as well: its first request is on the wire, and `last` ends it with the answer.
        if asked.get() {
            served.as_mut().graceful_shutdown();
        }
        ended = timeout(GRACE, served).await.ok();
    }
    match ended {
        Some(Ok(())) => {}
        Some(Err(error)) => tracing::debug!(%error, "admin: connection"),
        None => tracing::debug!("admin: a connection was cut, it did not end"),
    }
    admin.traffic.closed(milliseconds(opened));
}

fn milliseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

async fn answer(admin: &Admin, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let begun = Instant::now();
    admin.traffic.asked();
    let (head, body) = request.into_parts();
    let uri = &head.uri;
    let kind = head.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let form = if endpoints::takes_form(uri.path(), uri.query(), kind) { form(body).await } else { None };
    let query = form.as_deref().or(uri.query()).unwrap_or_default();
    let reply = endpoints::answer(admin, &head.method, uri.path(), query);
    admin.traffic.answered(reply.status.as_u16(), milliseconds(begun));
    reply.into_response()
}

/// A form that a client sends; `None` for one that is too long, too slow or no text.
async fn form(body: Incoming) -> Option<String> {
    let collected = timeout(HEAD_TIME, Limited::new(body, FORM_SIZE).collect()).await.ok()?.ok()?;
    String::from_utf8(collected.to_bytes().to_vec()).ok()
}
