//! TLS over a stream, with the interface of the plain one: `Stream::Tls`.
//!
//! The cryptography is rustls'; what stands here is the traffic between it, the socket and the caller. It is driven without buffers of its own: ciphertext
//! is read into a block that lives only while there is something in it, and so does what has been encrypted and not yet sent. A connection between two
//! requests is its keys and nothing else.
//!
//! A write is done when the system has taken all of its ciphertext: whoever waits in a write comes back with the same bytes in front, as the contract of
//! any polled write has it. Dropping the stream says nothing to the peer, so that a message that was cut is seen as cut; [`super::Stream::poll_end`] says
//! `close_notify` first.
//!
//! It does not move to another process: rustls gives its secrets away but takes none. Where the kernel holds the keys (kTLS) the socket alone would be
//! enough to go on; the place to hand them over is the end of [`TlsStream::accept`], by `dangerous_into_kernel_connection`, and what comes out would be a
//! plain `Stream` again.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus, WriteTraffic};
use rustls::{CommonState, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use super::Stream;

mod hello;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use hello::fuzz_hello;
pub use hello::{Hello, Inspected, LONGEST_HELLO, inspect};

/// Ciphertext that is read at once: a record of the greatest length, and then some.
const BLOCK: usize = 32 * 1024;
/// Most ciphertext that waits to be worked through: the longest handshake message that rustls takes, and a record.
const MOST_RECEIVED: usize = 96 * 1024;
/// Plaintext that is encrypted at once.
const MOST_AT_ONCE: usize = 48 * 1024;
/// Longest plaintext of a record (RFC 8446, section 5.1).
const RECORD: usize = 16 * 1024;
/// What a record adds at most to its plaintext, in any suite.
const RECORD_OVERHEAD: usize = 64;
/// While more than this waits to be sent, nothing more is read: what is read may want an answer.
const MOST_UNSENT: usize = 64 * 1024;

/// A handshake that failed, or a session that the peer broke.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// By TLS: the peer, or what it showed.
    #[error(transparent)]
    Protocol(#[from] rustls::Error),
    /// By the socket.
    #[error(transparent)]
    Socket(#[from] io::Error),
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        match error {
            TlsError::Protocol(error) => Self::new(io::ErrorKind::InvalidData, error),
            TlsError::Socket(error) => error,
        }
    }
}

/// The server's side of a TLS connection.
pub struct TlsStream {
    pub(super) socket: Stream,
    session: UnbufferedServerConnection,
    /// Read from the socket and not worked through.
    received: BytesMut,
    /// Decrypted and not taken.
    plain: BytesMut,
    /// Encrypted and not sent.
    unsent: BytesMut,
    /// How much plaintext of the write in progress stands in `unsent`.
    written: usize,
    /// The peer has said that it sends no more.
    peer_closed: bool,
    /// We have said so.
    ended: bool,
    /// It is broken: nothing more is read or written.
    failed: bool,
}

impl std::fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsStream").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl TlsStream {
    /// Does the handshake over `socket`, of which nothing has been read. The caller bounds the time.
    ///
    /// # Errors
    /// The peer, or the socket; what TLS has to say to the peer about it has been sent, if the socket took it.
    pub async fn accept(socket: Stream, config: Arc<ServerConfig>) -> Result<Self, TlsError> {
        let mut this = Self {
            socket,
            session: UnbufferedServerConnection::new(config)?,
            received: BytesMut::new(),
            plain: BytesMut::new(),
            unsent: BytesMut::new(),
            written: 0,
            peer_closed: false,
            ended: false,
            failed: false,
        };
        std::future::poll_fn(|context| this.poll_handshake(context)).await?;
        Ok(this)
    }

    /// What was agreed on.
    pub fn session(&self) -> &CommonState {
        &self.session
    }

    fn poll_handshake(&mut self, context: &mut Context<'_>) -> Poll<Result<(), TlsError>> {
        loop {
            let progress = self.advance(None, |_, _| {});
            // Whatever came of it, what TLS says to the peer is sent first.
            let sent = self.poll_flush(context);
            progress?;
            ready!(sent)?;
            if !self.session.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            if self.peer_closed || ready!(self.poll_receive(context))? == 0 {
                return Poll::Ready(Err(TlsError::Socket(io::ErrorKind::UnexpectedEof.into())));
            }
        }
    }

    /// Works through what has been received: plaintext goes to `sink` and what finds no room there waits; `traffic` is called when nothing is left to do and
    /// the session can send.
    fn advance(
        &mut self,
        mut sink: Option<&mut ReadBuf<'_>>,
        traffic: impl FnOnce(&mut WriteTraffic<'_, rustls::server::ServerConnectionData>, &mut BytesMut),
    ) -> Result<(), rustls::Error> {
        let Self { session, received, plain, unsent, .. } = self;
        let mut traffic = Some(traffic);
        loop {
            let UnbufferedStatus { mut discard, state } = session.process_tls_records(received);
            let more = match state {
                Ok(ConnectionState::ReadTraffic(mut records)) => {
                    while let Some(record) = records.next_record() {
                        let record = record?;
                        discard += record.discard;
                        let room = sink.as_ref().map_or(0, |sink| sink.remaining());
                        let (now, later) = record.payload.split_at(room.min(record.payload.len()));
                        if let Some(sink) = sink.as_mut().filter(|_| plain.is_empty()) {
                            sink.put_slice(now);
                            plain.extend_from_slice(later);
                        } else {
                            plain.extend_from_slice(record.payload);
                        }
                    }
                    // What finds no room waits encrypted, unless somebody waits for his turn to write.
                    sink.is_none() || plain.is_empty()
                }
                Ok(ConnectionState::EncodeTlsData(mut message)) => {
                    encode(&mut message, unsent)?;
                    true
                }
                Ok(ConnectionState::TransmitTlsData(message)) => {
                    // It is ours now and keeps its place in the queue.
                    message.done();
                    true
                }
                Ok(ConnectionState::PeerClosed) => {
                    self.peer_closed = true;
                    true
                }
                Ok(ConnectionState::WriteTraffic(mut session)) => {
                    if let Some(traffic) = traffic.take() {
                        traffic(&mut session, unsent);
                    }
                    false
                }
                // Early data is never offered, so none is read.
                Ok(_) => false,
                Err(error) => {
                    received.advance(discard.min(received.len()));
                    self.failed = true;
                    self.say_why();
                    return Err(error);
                }
            };
            received.advance(discard.min(received.len()));
            if !more {
                return Ok(());
            }
        }
    }

    /// Queues the alert that tells the peer what it did wrong. What it has sent must not be looked at again: it would be wrong again.
    fn say_why(&mut self) {
        while self.session.wants_write() {
            match self.session.process_tls_records(&mut self.received).state {
                Ok(ConnectionState::EncodeTlsData(mut message)) => {
                    if encode(&mut message, &mut self.unsent).is_err() {
                        return;
                    }
                }
                _ => return,
            }
        }
    }

    /// Reads ciphertext; 0 is the end of the socket.
    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.received.len() >= MOST_RECEIVED {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        // Before memory is asked for: most that look find nothing.
        if self.socket.poll_readable(context).is_pending() {
            self.settle();
            return Poll::Pending;
        }
        if self.received.capacity() - self.received.len() < BLOCK / 2 {
            self.received.reserve(BLOCK);
        }
        let read = std::pin::pin!(self.socket.read_buf(&mut self.received)).poll(context);
        if read.is_pending() {
            self.settle();
        }
        read
    }

    /// Before a wait: an empty block goes, and a few bytes of a record in a large one move to a small one.
    fn settle(&mut self) {
        if self.received.is_empty() {
            self.received = BytesMut::new();
        } else if self.received.capacity() >= BLOCK / 2 && self.received.len() < BLOCK / 8 {
            self.received = BytesMut::from(&self.received[..]);
        }
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let sent = ready!(self.socket.poll_write_slices(context, &[IoSlice::new(&self.unsent)]))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent.advance(sent);
        }
        self.unsent = BytesMut::new();
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if !self.plain.is_empty() {
                let taken = self.plain.split_to(self.plain.len().min(buffer.remaining()));
                buffer.put_slice(&taken);
                if self.plain.is_empty() {
                    self.plain = BytesMut::new();
                }
                return Poll::Ready(Ok(()));
            }
            if self.failed {
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            let before = buffer.filled().len();
            let progress = self.advance(Some(buffer), |_, _| {});
            // What waits to be sent has no other chance while nobody writes.
            match self.poll_flush(context) {
                Poll::Ready(sent) => sent?,
                Poll::Pending if self.unsent.len() > MOST_UNSENT => return Poll::Pending,
                Poll::Pending => {}
            }
            progress.map_err(TlsError::Protocol)?;
            if buffer.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
            if self.peer_closed {
                self.settle();
                return Poll::Ready(Ok(()));
            }
            if ready!(self.poll_receive(context))? == 0 {
                // The end of the socket is not the end of what the peer says: anybody could have cut it.
                self.failed = true;
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    pub(super) fn poll_write(&mut self, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.written == 0 {
            // Behind what waits from before there may be no end.
            if self.unsent.len() > MOST_UNSENT {
                ready!(self.poll_flush(context))?;
            }
            self.written = self.encrypt(slices)?;
        }
        ready!(self.poll_flush(context))?;
        Poll::Ready(Ok(std::mem::take(&mut self.written)))
    }

    /// Encrypts the beginning of `slices`, and says how much of it.
    fn encrypt(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.failed || self.ended {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        if total == 0 {
            return Ok(0);
        }
        let mut outcome = Ok(0);
        let mut did = false;
        let sent = |session: &mut WriteTraffic<'_, _>, unsent: &mut BytesMut| {
            did = true;
            outcome = encrypt_into(session, slices, unsent);
        };
        self.advance(None, sent).map_err(TlsError::Protocol)?;
        // A session that both sides have closed has no more traffic.
        if did { outcome } else { Err(io::ErrorKind::BrokenPipe.into()) }
    }

    pub(super) fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.ended && !self.failed {
            self.ended = true;
            self.advance(None, |session, unsent| {
                let start = unsent.len();
                unsent.resize(start + 2 * RECORD_OVERHEAD, 0);
                let length = session.queue_close_notify(&mut unsent[start..]).unwrap_or(0);
                unsent.truncate(start + length);
            })
            .map_err(TlsError::Protocol)?;
        }
        ready!(self.poll_flush(context))?;
        self.socket.poll_end(context)
    }

    pub(super) fn has_arrived(&self) -> io::Result<bool> {
        if self.plain.is_empty() && self.received.is_empty() { self.socket.has_arrived() } else { Ok(true) }
    }
}

/// Encrypts the beginning of `slices` into `unsent`: small ones go into one record, large ones are not copied first.
fn encrypt_into<Data>(
    session: &mut WriteTraffic<'_, Data>,
    slices: &[IoSlice<'_>],
    unsent: &mut BytesMut,
) -> io::Result<usize> {
    let mut taken = 0;
    let mut gathered = Vec::new();
    for slice in slices {
        let part = &slice[..slice.len().min(MOST_AT_ONCE - taken)];
        if gathered.len() + part.len() > RECORD {
            seal(session, &gathered, unsent)?;
            gathered.clear();
        }
        if part.len() > RECORD || (gathered.is_empty() && slices.len() == 1) {
            seal(session, part, unsent)?;
        } else {
            gathered.extend_from_slice(part);
        }
        taken += part.len();
        if taken == MOST_AT_ONCE {
            break;
        }
    }
    seal(session, &gathered, unsent)?;
    Ok(taken)
}

fn seal<Data>(session: &mut WriteTraffic<'_, Data>, data: &[u8], unsent: &mut BytesMut) -> io::Result<()> {
    if data.is_empty() {
        return Ok(());
    }
    let start = unsent.len();
    // One record more: an update of the keys may go before.
    let records = data.len().div_ceil(RECORD) + 1;
    unsent.resize(start + data.len() + records * RECORD_OVERHEAD, 0);
    let mut sealed = session.encrypt(data, &mut unsent[start..]);
    if let Err(EncryptError::InsufficientSize(size)) = sealed {
        unsent.resize(start + size.required_size, 0);
        sealed = session.encrypt(data, &mut unsent[start..]);
    }
    unsent.truncate(start + sealed.as_ref().copied().unwrap_or(0));
    sealed.map(drop).map_err(|error| io::Error::new(io::ErrorKind::BrokenPipe, error))
}

fn encode<Data>(
    message: &mut rustls::unbuffered::EncodeTlsData<'_, Data>,
    unsent: &mut BytesMut,
) -> Result<(), rustls::Error> {
    let start = unsent.len();
    if let Err(EncodeError::InsufficientSize(size)) = message.encode(&mut []) {
        unsent.resize(start + size.required_size, 0);
        message.encode(&mut unsent[start..]).map(drop).map_err(|error| rustls::Error::General(error.to_string()))?;
    }
    Ok(())
}

impl AsyncRead for TlsStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Self::poll_read(self.get_mut(), context, buffer)
    }
}
