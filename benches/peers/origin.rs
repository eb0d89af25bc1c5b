//! The server behind every peer: one thread, one fixed answer, as fast as it goes, so that it is never what is measured.
//!
//! `GET /` is answered at once. `GET /hold` is kept unanswered until somebody asks for `GET /release`; `GET /held` says how many
//! there are. Only well-formed requests without bodies come here, one at a time per connection; anything else closes it.

pub(crate) mod http2;

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};

use memchr::memmem;

use crate::Result;
use crate::sys::{Poll, is_later, listen};

/// The index that means the listening socket.
const LISTENER: usize = usize::MAX;
/// A head larger than this is not ours.
const LARGEST_HEAD: usize = 16 * 1_024;
/// What `GET /` gets: a head as applications write it, and 128 bytes.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\n\
    content-type: text/plain; charset=utf-8\r\n\
    cache-control: no-cache\r\n\
    etag: \"33a64df551425fcc55e4d42a148795d9f25f89d4\"\r\n\
    content-length: 128\r\n\r\n\
    0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\
    0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

struct Connection {
    stream: TcpStream,
    /// A head that has not come whole; almost always empty.
    partial: Vec<u8>,
}

/// The state of the origin.
struct Origin {
    poll: Poll,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    held: Vec<usize>,
}

/// Serves until it is killed.
pub(crate) fn serve(port: u16) -> Result<()> {
    let listener = listen(port)?;
    let mut origin = Origin { poll: Poll::new()?, connections: Vec::new(), free: Vec::new(), held: Vec::new() };
    origin.poll.add(&listener, LISTENER)?;
    println!("{}", listener.local_addr()?.port());
    let mut ready = Vec::new();
    let mut buffer = vec![0; LARGEST_HEAD];
    loop {
        origin.poll.wait(&mut ready, None)?;
        for &index in &ready {
            if index == LISTENER {
                origin.accept(&listener);
            } else if !origin.answer(index, &mut buffer) {
                origin.close(index);
            }
        }
    }
}

impl Origin {
    fn accept(&mut self, listener: &TcpListener) {
        while let Ok((stream, _)) = listener.accept() {
            let index = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            let ready = stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true));
            if ready.and_then(|()| self.poll.add(&stream, index)).is_ok() {
                self.connections[index] = Some(Connection { stream, partial: Vec::new() });
            } else {
                self.free.push(index);
            }
        }
    }

    fn close(&mut self, index: usize) {
        if self.connections[index].take().is_some() {
            self.held.retain(|held| *held != index);
            self.free.push(index);
        }
    }

    /// Reads what there is and answers it; false closes the connection.
    fn answer(&mut self, index: usize, buffer: &mut [u8]) -> bool {
        let Some(connection) = self.connections[index].as_mut() else { return true };
        let count = match connection.stream.read(buffer) {
            Ok(0) => return false,
            Ok(count) => count,
            Err(error) => return is_later(&error),
        };
        let Some(new) = buffer.get(..count) else { return false };
        if connection.partial.is_empty() && new.ends_with(b"\r\n\r\n") {
            return self.dispatch(index, new).is_ok();
        }
        connection.partial.extend_from_slice(new);
        if connection.partial.len() > LARGEST_HEAD {
            return false;
        }
        if memmem::find(&connection.partial, b"\r\n\r\n").is_none() {
            return true;
        }
        let whole = std::mem::take(&mut connection.partial);
        self.dispatch(index, &whole).is_ok()
    }

    fn dispatch(&mut self, index: usize, head: &[u8]) -> io::Result<()> {
        if head.starts_with(b"GET / ") {
            self.send(index, ANSWER)
        } else if head.starts_with(b"GET /hold ") {
            self.held.push(index);
            Ok(())
        } else if head.starts_with(b"GET /held ") {
            self.send_number(index, self.held.len())
        } else if head.starts_with(b"GET /release ") {
            let held = std::mem::take(&mut self.held);
            for &waiting in &held {
                if self.send(waiting, ANSWER).is_err() {
                    self.close(waiting);
                }
            }
            self.send_number(index, held.len())
        } else {
            Err(io::ErrorKind::InvalidData.into())
        }
    }

    fn send_number(&self, index: usize, number: usize) -> io::Result<()> {
        let body = number.to_string();
        self.send(index, format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes())
    }

    /// With one request at a time the socket buffer has room for every answer, so one that does not fit is an error.
    fn send(&self, index: usize, bytes: &[u8]) -> io::Result<()> {
        match self.connections.get(index).and_then(Option::as_ref) {
            Some(connection) => (&connection.stream).write_all(bytes),
            None => Ok(()),
        }
    }
}
