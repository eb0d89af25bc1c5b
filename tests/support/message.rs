//! HTTP/1 messages as the test clients and the test origin read them: one reader for both sides, without retry and without mercy.
//!
//! The product's codec is deliberately not used here: a fault in it must not be able to hide itself.

use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};

/// A request or a response, read to its end.
pub(crate) struct Message {
    /// `GET /path HTTP/1.1` or `HTTP/1.1 200 OK`.
    pub(crate) first_line: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// Empty when the reader was told to throw bodies away.
    pub(crate) body: Vec<u8>,
    /// How long the body was.
    pub(crate) length: u64,
    /// Whether the connection may carry another message.
    pub(crate) keep_alive: bool,
}

impl Message {
    /// The first value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The second word of the first line: a request's path, a response's status.
    pub(crate) fn second_word(&self) -> &str {
        self.first_line.split(' ').nth(1).unwrap_or_default()
    }
}

/// Why no message came.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The peer closed; `true` if part of a message had come.
    Eof(bool),
    /// The socket failed.
    Io(io::Error),
    /// What came is not HTTP/1.
    Malformed(String),
}

/// Reads messages off one connection; bytes after a message stay for the next one.
#[derive(Default)]
pub(crate) struct Reader {
    buffer: Vec<u8>,
}

enum Ending {
    Length(u64),
    Chunked,
    Close,
}

const MAX_HEAD: usize = 64 * 1024;

impl Reader {
    /// Reads one message. `response` decides what a message without a length means: until close, or no body.
    pub(crate) async fn read(
        &mut self,
        io: &mut (impl AsyncRead + Unpin),
        response: bool,
    ) -> Result<Message, ReadError> {
        let head_end = loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                break at + 4;
            }
            if self.buffer.len() > MAX_HEAD {
                return Err(ReadError::Malformed("head too long".into()));
            }
            let begun = !self.buffer.is_empty();
            self.more(io, begun).await?;
        };
        let head: Vec<u8> = self.buffer.drain(..head_end).collect();
        let (mut message, ending) = parse_head(&head, response)?;
        match ending {
            Ending::Length(length) => self.take(io, length, &mut message).await?,
            Ending::Chunked => self.take_chunks(io, &mut message).await?,
            Ending::Close => loop {
                let have = self.buffer.len() as u64;
                self.take(io, have, &mut message).await?;
                match self.more(io, true).await {
                    Ok(()) => {}
                    Err(ReadError::Eof(_)) => break,
                    Err(error) => return Err(error),
                }
            },
        }
        Ok(message)
    }

    async fn more(&mut self, io: &mut (impl AsyncRead + Unpin), begun: bool) -> Result<(), ReadError> {
        match io.read_buf(&mut self.buffer).await {
            Ok(0) => Err(ReadError::Eof(begun)),
            Ok(_) => Ok(()),
            Err(error) => Err(ReadError::Io(error)),
        }
    }

    async fn take(
        &mut self,
        io: &mut (impl AsyncRead + Unpin),
        mut length: u64,
        message: &mut Message,
    ) -> Result<(), ReadError> {
        message.length += length;
        while length > 0 {
            if self.buffer.is_empty() {
                self.more(io, true).await?;
            }
            let part = self.buffer.len().min(length as usize);
            message.body.extend(self.buffer.drain(..part));
            length -= part as u64;
        }
        Ok(())
    }

    async fn take_chunks(&mut self, io: &mut (impl AsyncRead + Unpin), message: &mut Message) -> Result<(), ReadError> {
        loop {
            let line = self.line(io).await?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16)
                .map_err(|error| ReadError::Malformed(format!("chunk size {line:?}: {error}")))?;
            if size == 0 {
                while !self.line(io).await?.is_empty() {}
                return Ok(());
            }
            self.take(io, size, message).await?;
            if !self.line(io).await?.is_empty() {
                return Err(ReadError::Malformed("chunk longer than it said".into()));
            }
        }
    }

    async fn line(&mut self, io: &mut (impl AsyncRead + Unpin)) -> Result<String, ReadError> {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n") {
                let line = self.buffer.drain(..at + 2).take(at).collect();
                return String::from_utf8(line).map_err(|error| ReadError::Malformed(error.to_string()));
            }
            self.more(io, true).await?;
        }
    }
}

fn parse_head(head: &[u8], response: bool) -> Result<(Message, Ending), ReadError> {
    let malformed = |what: &str| ReadError::Malformed(format!("{what}: {:?}", String::from_utf8_lossy(head)));
    let text = std::str::from_utf8(head).map_err(|_| malformed("not text"))?;
    let mut lines = text.trim_end_matches("\r\n").split("\r\n");
    let first_line = lines.next().unwrap_or_default().to_owned();
    if !first_line.contains("HTTP/1.") {
        return Err(malformed("not HTTP/1"));
    }
    let mut headers = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or_else(|| malformed("header without a colon"))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut message = Message { first_line, headers, body: Vec::new(), length: 0, keep_alive: true };
    let ending = if message.header("transfer-encoding").is_some() {
        Ending::Chunked
    } else if let Some(length) = message.header("content-length") {
        Ending::Length(length.parse().map_err(|_| malformed("content-length"))?)
    } else if response && !matches!(message.second_word(), "204" | "304") {
        Ending::Close
    } else {
        Ending::Length(0)
    };
    message.keep_alive = !matches!(ending, Ending::Close)
        && !message.first_line.contains("HTTP/1.0")
        && !message.header("connection").is_some_and(|value| value.to_ascii_lowercase().contains("close"));
    Ok((message, ending))
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
