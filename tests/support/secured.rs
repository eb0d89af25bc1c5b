//! A client's TLS connection as asynchronous bytes.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The name that the certificate is for.
pub(crate) const NAME: &str = "secure.test";

pub(crate) struct Secured {
    session: ClientConnection,
    socket: TcpStream,
}

/// The socket as rustls reads and writes it.
struct Raw<'a>(&'a TcpStream);

impl Read for Raw<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Raw<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Secured {
    /// Connects and shakes hands, without retry. `protocol` is what is asked for by ALPN, and must be granted.
    pub(crate) async fn open(to: SocketAddr, config: &ClientConfig, protocol: &[u8]) -> io::Result<Self> {
        let mut config = config.clone();
        config.alpn_protocols = vec![protocol.to_vec()];
        let name = ServerName::try_from(NAME).map_err(io::Error::other)?;
        let session = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        let socket = TcpStream::connect(to).await?;
        socket.set_nodelay(true)?;
        let mut this = Self { session, socket };
        std::future::poll_fn(|context| {
            while this.session.is_handshaking() {
                ready!(this.poll_sent(context))?;
                if this.session.is_handshaking() && ready!(this.poll_received(context))? == 0 {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
            }
            this.poll_sent(context)
        })
        .await?;
        assert_eq!(this.session.alpn_protocol(), Some(protocol));
        Ok(this)
    }

    /// Everything that rustls wants to send is with the system.
    fn poll_sent(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut Raw(&self.socket)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.socket.poll_write_ready(context))?
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Takes more from the socket.
    fn poll_received(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            match self.session.read_tls(&mut Raw(&self.socket)) {
                Ok(length) => {
                    self.session.process_new_packets().map_err(io::Error::other)?;
                    return Poll::Ready(Ok(length));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.socket.poll_read_ready(context))?
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncRead for Secured {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            match this.session.reader().read(buffer.initialize_unfilled()) {
                Ok(length) => {
                    buffer.advance(length);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            // An end that TLS has not announced is found by the reader.
            ready!(this.poll_received(context))?;
            // New keys may have been asked for.
            let _ = this.poll_sent(context)?;
        }
    }
}

impl AsyncWrite for Secured {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_sent(context))?;
        let length = this.session.writer().write(bytes)?;
        let _ = this.poll_sent(context)?;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_sent(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.session.send_close_notify();
        this.poll_sent(context)
    }
}
