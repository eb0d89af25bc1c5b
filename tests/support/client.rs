//! A client that sends what it is told and never tries again.

use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::wire::{Message, Wire};

/// One connection to the proxy.
#[derive(Debug)]
pub struct Client {
    pub wire: Wire,
}

impl Client {
    /// Connects.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        Self { wire: Wire::new(TcpStream::connect(address).unwrap()) }
    }

    /// Sends bytes.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.wire.socket.write_all(bytes.as_ref()).unwrap();
    }

    /// The next response with its body; interim ones come out like any other.
    #[track_caller]
    pub fn response(&mut self) -> Message {
        self.try_response().unwrap()
    }

    /// The same, or what went wrong.
    pub fn try_response(&mut self) -> io::Result<Message> {
        let mut message = self.wire.head()?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let status = message.status();
        if status >= 200 && status != 204 && status != 304 {
            self.wire.body(&mut message, true)?;
        }
        Ok(message)
    }

    /// The next response to a HEAD.
    #[track_caller]
    pub fn head(&mut self) -> Message {
        self.wire.head().unwrap().unwrap()
    }

    /// Sends a GET and waits for its response.
    #[track_caller]
    pub fn get(&mut self, path: &str) -> Message {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n"));
        self.response()
    }

    /// Ends the sending side.
    pub fn finish(&mut self) {
        self.wire.socket.shutdown(Shutdown::Write).unwrap();
    }

    /// The proxy has closed, and sent nothing more before; a reset is a close too.
    #[track_caller]
    pub fn assert_closed(&mut self) {
        match self.wire.rest() {
            Ok(rest) => assert_eq!(String::from_utf8_lossy(&rest), "", "bytes before the close"),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}"),
        }
    }

    /// The proxy has not closed and sends nothing.
    #[track_caller]
    pub fn assert_open(&mut self) {
        self.wire.socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let error = self.wire.rest().expect_err("closed");
        assert!(matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut), "{error}");
        self.wire.socket.set_read_timeout(Some(super::PATIENCE)).unwrap();
    }
}
