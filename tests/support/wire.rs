//! Messages read from a socket by the plainest means.

use std::io::{self, Read};
use std::net::TcpStream;

/// Header fields in order.
pub type Fields = Vec<(String, String)>;

/// A message as it stood on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The first line.
    pub line: String,
    /// Names in lower case, values as sent.
    pub headers: Fields,
    /// The body, its framing taken off.
    pub body: Vec<u8>,
    /// It was chunked.
    pub chunked: bool,
    /// Trailers.
    pub trailers: Fields,
}

impl Message {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The status of a response.
    pub fn status(&self) -> u16 {
        self.line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// The method of a request.
    pub fn method(&self) -> &str {
        self.line.split(' ').next().unwrap_or("")
    }

    /// The target of a request.
    pub fn path(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or("")
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap_or("<not text>")
    }
}

/// A socket with what was read from it and not used.
#[derive(Debug)]
pub struct Wire<S = TcpStream> {
    pub socket: S,
    unread: Vec<u8>,
}

impl<S: Read> Wire<S> {
    /// Over whatever can be read; the caller has bounded the time.
    pub fn over(socket: S) -> Self {
        Self { socket, unread: Vec::new() }
    }
}

impl Wire {
    pub fn new(socket: TcpStream) -> Self {
        socket.set_read_timeout(Some(super::PATIENCE)).unwrap();
        socket.set_write_timeout(Some(super::PATIENCE)).unwrap();
        socket.set_nodelay(true).unwrap();
        Self::over(socket)
    }
}

impl<S: Read> Wire<S> {
    /// Reads more; false at the end.
    fn fill(&mut self) -> io::Result<bool> {
        let mut block = vec![0; 64 * 1024];
        let read = self.socket.read(&mut block)?;
        self.unread.extend_from_slice(&block[..read]);
        Ok(read > 0)
    }

    fn line(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some(at) = self.unread.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.unread.drain(..at + 2).take(at).collect();
                return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
            }
            if !self.fill()? {
                return if self.unread.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    fn fields(&mut self) -> io::Result<Fields> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?.ok_or(io::ErrorKind::UnexpectedEof)?;
            if line.is_empty() {
                return Ok(fields);
            }
            let (name, value) = line.split_once(':').ok_or(io::ErrorKind::InvalidData)?;
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    /// The next head; `None` at the end of the connection.
    pub fn head(&mut self) -> io::Result<Option<Message>> {
        let Some(line) = self.line()? else { return Ok(None) };
        let headers = self.fields()?;
        let mut message = Message { line, headers, ..Message::default() };
        message.chunked = message.header("transfer-encoding") == Some("chunked");
        Ok(Some(message))
    }

    /// Reads so many bytes.
    pub fn bytes(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.unread.len() < length {
            if !self.fill()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.unread.drain(..length).collect())
    }

    /// What is there, as soon as there is something; empty at the end.
    pub fn some(&mut self) -> io::Result<Vec<u8>> {
        if self.unread.is_empty() {
            self.fill()?;
        }
        Ok(std::mem::take(&mut self.unread))
    }

    /// Reads up to the end of the connection.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        while self.fill()? {}
        Ok(std::mem::take(&mut self.unread))
    }

    /// Reads one chunk; empty at the last one, whose trailers come with it.
    pub fn chunk(&mut self) -> io::Result<(Vec<u8>, Fields)> {
        let line = self.line()?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let size = usize::from_str_radix(line.split(';').next().unwrap_or(""), 16)
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        if size == 0 {
            return Ok((Vec::new(), self.fields()?));
        }
        let data = self.bytes(size)?;
        assert_eq!(self.bytes(2)?, b"\r\n");
        Ok((data, Vec::new()))
    }

    /// The body of a message whose head was read; up to the end of the connection where `until_close`.
    pub fn body(&mut self, message: &mut Message, until_close: bool) -> io::Result<()> {
        if message.chunked {
            loop {
                let (data, trailers) = self.chunk()?;
                if data.is_empty() {
                    message.trailers = trailers;
                    return Ok(());
                }
                message.body.extend_from_slice(&data);
            }
        }
        match message.header("content-length") {
            Some(length) => message.body = self.bytes(length.parse().unwrap())?,
            None if until_close => message.body = self.rest()?,
            None => {}
        }
        Ok(())
    }
}
