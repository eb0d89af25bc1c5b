//! gRPC for scenarios: messages, and a host that is spoken to over HTTP/2.

use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::sync::oneshot;
use tokio::task::{LocalSet, spawn_local};

use super::http2::send_all;

/// A message with its prefix.
pub fn message(content: impl AsRef<[u8]>) -> Bytes {
    let content = content.as_ref();
    let mut out = BytesMut::new();
    out.put_u8(0);
    out.put_u32(content.len().try_into().unwrap());
    out.put_slice(content);
    out.freeze()
}

/// A call of `path`, such as `/a.Service/Method`.
pub fn call(path: &str) -> Request<()> {
    let request = Request::post(format!("http://test{path}"));
    request.header("content-type", "application/grpc").header("te", "trailers").body(()).unwrap()
}

/// A cluster's settings for [`Host`], in YAML below its name.
pub const HTTP2: &str = "    typed_extension_protocol_options:\n      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:\n        \
     \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions\n        \
     explicit_http_config: { http2_protocol_options: {} }\n";

/// The text of a configuration whose cluster `origin` is spoken to over HTTP/2.
pub fn over_http2(text: &str) -> String {
    text.replace("  - name: origin\n", &format!("  - name: origin\n{HTTP2}"))
}

/// A host. By the method's name:
///
/// - `Echo` sends back what comes, as it comes, and ends with status 0;
/// - `Status7` is trailers only, with that status;
/// - `Fails` reads the request, sends a message and ends with status 13;
/// - `Large` answers with a message of 100,000 bytes;
/// - `Html` is a page of 100,000 bytes with 502;
/// - `Waits` does not answer, and is gone when it is given up.
pub struct Host {
    pub address: SocketAddr,
    gone: std::sync::mpsc::Receiver<Reason>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Host {
    pub fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, gone) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(LocalSet::new().run_until(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let accepting = async {
                    loop {
                        let (stream, _) = listener.accept().await.unwrap();
                        let tell = tell.clone();
                        spawn_local(async move {
                            let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                            while let Some(Ok((request, respond))) = connection.accept().await {
                                spawn_local(answer(request, respond, tell.clone()));
                            }
                        });
                    }
                };
                tokio::select! { () = accepting => {} _ = stopped => {} }
            }));
        });
        Self { address, gone, stop: Some(stop), thread: Some(thread) }
    }

    /// The reason with which the next call was given up.
    pub fn gone(&self) -> Reason {
        self.gone.recv_timeout(super::PATIENCE).unwrap()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn head(status: u16, kind: &'static str) -> Response<()> {
    Response::builder().status(status).header("content-type", kind).body(()).unwrap()
}

fn trailers(status: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), HeaderValue::from_static(status))])
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    tell: std::sync::mpsc::Sender<Reason>,
) -> Option<()> {
    let (parts, mut body) = request.into_parts();
    let mut begin = |status, kind| respond.send_response(head(status, kind), false).ok();
    match parts.uri.path().rsplit('/').next().unwrap_or_default() {
        "Echo" => {
            let mut stream = begin(200, "application/grpc")?;
            while let Some(data) = body.data().await {
                let data = data.ok()?;
                body.flow_control().release_capacity(data.len()).ok()?;
                send_all(&mut stream, data, false).await.ok()?;
            }
            stream.send_trailers(trailers("0")).ok()
        }
        "Status7" => {
            let mut head = head(200, "application/grpc");
            head.headers_mut().extend(trailers("7"));
            respond.send_response(head, true).ok().map(drop)
        }
        "Fails" => {
            super::http2::all(&mut body).await.ok()?;
            whole(begin(200, "application/grpc")?, message("half"), Some("13")).await
        }
        "Large" => whole(begin(200, "application/grpc")?, message([b'l'; 100_000]), Some("0")).await,
        "Html" => whole(begin(502, "text/html")?, Bytes::from_static(&[b'<'; 100_000]), None).await,
        _ => {
            let reason = std::future::poll_fn(|context| respond.poll_reset(context)).await.ok()?;
            tell.send(reason).ok()
        }
    }
}

async fn whole(mut stream: SendStream<Bytes>, data: Bytes, status: Option<&'static str>) -> Option<()> {
    send_all(&mut stream, data, status.is_none()).await.ok()?;
    status.map_or(Some(()), |status| stream.send_trailers(trailers(status)).ok())
}
