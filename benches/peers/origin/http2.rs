//! The origin over HTTP/2 in the clear: the same answer to everything.

use std::net::TcpListener;

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use tokio::net::TcpStream;
use tokio::task::{LocalSet, spawn_local};

use crate::Result;
use crate::sys::listen;

/// As many as any peer asks for.
const STREAMS: u32 = 10_000;
const BODY: &[u8] = &[b'0'; 128];

/// Serves until it is killed.
pub(crate) fn serve(port: u16) -> Result<()> {
    let listener = listen(port)?;
    println!("{}", listener.local_addr()?.port());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, accept(listener))
}

async fn accept(listener: TcpListener) -> Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        // What breaks here, the load sees.
        spawn_local(async move { drop(converse(stream).await) });
    }
}

async fn converse(stream: TcpStream) -> Result<()> {
    let mut connection =
        h2::server::Builder::new().max_concurrent_streams(STREAMS).handshake::<_, Bytes>(stream).await?;
    while let Some(accepted) = connection.accept().await {
        let (_, mut respond) = accepted?;
        let mut response = Response::new(());
        let fields = response.headers_mut();
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        fields.insert(header::ETAG, HeaderValue::from_static("\"33a64df551425fcc55e4d42a148795d9f25f89d4\""));
        fields.insert(header::CONTENT_LENGTH, HeaderValue::from_static("128"));
        respond.send_response(response, false)?.send_data(Bytes::from_static(BODY), true)?;
    }
    Ok(())
}
