//! A body that is compressed or decompressed while it is pulled.
//!
//! Every frame that comes is flushed, so that a stream of events stays one. What has been made and not been taken is at most [`ROOM`]; more
//! is made when it has been taken, and the other side is pulled when all of a frame has been worked through.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncWrite;

use crate::codec::head::Headers;
use crate::http::body::{Body, Frame, Source};
use crate::http::failure::Failure;
use crate::stats::Counter;

/// Bytes that wait to be taken.
const ROOM: usize = 16 * 1024;

/// Bytes that may be made of however few.
const HARMLESS: u64 = 64 * 1024;

/// Where the coder writes: it is told to wait when there is no room.
pub(super) struct Sink(Rc<RefCell<BytesMut>>);

impl AsyncWrite for Sink {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut out = self.0.borrow_mut();
        let most = ROOM.saturating_sub(out.len()).min(bytes.len());
        if most == 0 && !bytes.is_empty() {
            // Nobody has to be woken: whoever polls empties it and asks again.
            return Poll::Pending;
        }
        out.extend_from_slice(bytes.get(..most).unwrap_or_default());
        Poll::Ready(Ok(most))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What there is to do.
enum State {
    Pull,
    Work(Bytes),
    Flush,
    Finish(Headers),
    End(Headers),
}

/// The body.
pub(super) struct Recoded<'a> {
    body: Body<'a>,
    out: Rc<RefCell<BytesMut>>,
    coder: Pin<Box<dyn AsyncWrite>>,
    state: State,
    taken: Counter,
    made: Counter,
    fault: Failure,
    ratio: Option<u32>,
    /// Bytes taken and made.
    sums: (u64, u64),
}

impl<'a> Recoded<'a> {
    /// Around a body; `taken` and `made` count bytes. What cannot be recoded ends the message with `fault`.
    pub(super) fn new(
        body: Body<'a>,
        coder: impl FnOnce(Sink) -> Pin<Box<dyn AsyncWrite>>,
        (taken, made): (Counter, Counter),
        fault: Failure,
    ) -> Self {
        let out = Rc::new(RefCell::new(BytesMut::new()));
        let coder = coder(Sink(out.clone()));
        Self { body, out, coder, state: State::Pull, taken, made, fault, ratio: None, sums: (0, 0) }
    }

    /// More than so many times what came is a fault, once it is more than [`HARMLESS`].
    pub(super) fn limited(self, ratio: u32) -> Self {
        Self { ratio: Some(ratio), ..self }
    }
}

impl Source for Recoded<'_> {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Result<Frame, Failure>> {
        loop {
            if !self.out.borrow().is_empty() {
                let data = self.out.borrow_mut().split().freeze();
                self.made.add(data.len() as u64);
                self.sums.1 += data.len() as u64;
                let most = self.ratio.map(|ratio| self.sums.0.saturating_mul(ratio.into()).max(HARMLESS));
                if most.is_some_and(|most| self.sums.1 > most) {
                    return Poll::Ready(Err(self.fault));
                }
                return Poll::Ready(Ok(Frame::Data(data)));
            }
            let worked = match &mut self.state {
                State::Pull => {
                    match self.body.poll_frame(context) {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(Err(failure)) => return Poll::Ready(Err(failure)),
                        Poll::Ready(Ok(Frame::Data(data))) => {
                            self.taken.add(data.len() as u64);
                            self.sums.0 += data.len() as u64;
                            self.state = State::Work(data);
                        }
                        Poll::Ready(Ok(Frame::End(trailers))) => self.state = State::Finish(trailers),
                    }
                    continue;
                }
                State::Work(data) => self.coder.as_mut().poll_write(context, data),
                State::Flush => self.coder.as_mut().poll_flush(context).map_ok(|()| 0),
                State::Finish(_) => self.coder.as_mut().poll_shutdown(context).map_ok(|()| 0),
                State::End(trailers) => return Poll::Ready(Ok(Frame::End(std::mem::take(trailers)))),
            };
            match worked {
                Poll::Ready(Ok(count)) => self.worked(count)?,
                Poll::Ready(Err(_)) => return Poll::Ready(Err(self.fault)),
                // It waits for room, of which there is some once what it has made is taken.
                Poll::Pending if self.out.borrow().is_empty() => return Poll::Ready(Err(Failure::Internal)),
                Poll::Pending => {}
            }
        }
    }

    fn length(&self) -> Option<u64> {
        None
    }

    fn poll_beside(&mut self, context: &mut Context<'_>) {
        self.body.poll_beside(context);
    }
}

impl Recoded<'_> {
    /// A step has been made.
    fn worked(&mut self, count: usize) -> Result<(), Failure> {
        match &mut self.state {
            // A coder that takes nothing would be asked for ever.
            State::Work(data) if count == 0 && !data.is_empty() => return Err(self.fault),
            State::Work(data) => {
                data.advance(count.min(data.len()));
                if data.is_empty() {
                    self.state = State::Flush;
                }
            }
            State::Flush => self.state = State::Pull,
            State::Finish(trailers) => self.state = State::End(std::mem::take(trailers)),
            State::Pull | State::End(_) => {}
        }
        Ok(())
    }
}
