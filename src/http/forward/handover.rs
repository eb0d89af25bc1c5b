//! A request that its host hands back: status 379, `Partial POST Replay`.
//!
//! A host that is about to stop says so in the middle of an upload, and answers with the part of the body that it has received. What
//! it echoes and what the client still sends go to another host, and the client sees nothing of it. Nothing else of the answer is used:
//! the head is still here, and a host does not get to write another one.
//!
//! ```text
//!   body within the limit      all of it is here: the echo is not even read
//!   larger                     echo ──▶ what was on its way meanwhile (the keeper's window) ──▶ client
//! ```
//!
//! The echo is streamed: what a host hands back may be as large as it likes, and no more of it than one block is here. A replay that
//! cannot be ends as a 503; a 379 never reaches a client.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use crate::http::body::{Frame, Source};
use crate::http::failure::Failure;

use super::Exchange;
use super::keeper::Keeper;

/// The status. It is nobody's standard, so that the reason phrase must say what it means.
pub(super) const STATUS: u16 = 379;
const REASON: &[u8] = b"Partial POST Replay";

/// Whether a response that begins with these bytes hands the request back.
pub(super) fn begins(response: &[u8]) -> bool {
    let Some(rest) = response.strip_prefix(b"HTTP/1.1 379 ") else { return false };
    rest.len() > REASON.len() && rest[..REASON.len()].eq_ignore_ascii_case(REASON) && rest[REASON.len()] == b'\r'
}

/// A body that begins with what a host hands back.
pub(super) struct Echo<'a> {
    host: Option<Exchange<'a>>,
    at: u64,
    /// Of the try that was handed back.
    keeper: Rc<RefCell<Keeper<'a>>>,
}

impl<'a> Echo<'a> {
    pub(super) fn new(host: Exchange<'a>, keeper: Rc<RefCell<Keeper<'a>>>) -> Self {
        Self { host: Some(host), at: 0, keeper }
    }
}

impl Source for Echo<'_> {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Result<Frame, Failure>> {
        if let Some(host) = &mut self.host {
            // Whatever goes wrong with the old host, the new one is not to blame.
            if let Frame::Data(data) = ready!(host.poll_frame(context)).map_err(|_| Failure::HandedBack)? {
                self.at += data.len() as u64;
                // It cannot have received what was never sent.
                if self.at > self.keeper.borrow().taken() {
                    return Poll::Ready(Err(Failure::HandedBack));
                }
                return Poll::Ready(Ok(Frame::Data(data)));
            }
            self.host = None;
            if !self.keeper.borrow().has_from(self.at) {
                return Poll::Ready(Err(Failure::HandedBack));
            }
            self.keeper.borrow_mut().read_from(self.at);
        }
        self.keeper.borrow_mut().poll_frame(context)
    }

    fn length(&self) -> Option<u64> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_status_with_its_reason_hands_back() {
        assert!(begins(b"HTTP/1.1 379 Partial POST Replay\r\n\r\n"));
        assert!(begins(b"HTTP/1.1 379 PARTIAL post replay\r\nx: y\r\n"));
        for other in ["HTTP/1.1 379 Partial POST Replay", "HTTP/1.1 379 \r\n", "HTTP/1.1 379 Partial POST Replay 2\r\n"]
        {
            assert!(!begins(other.as_bytes()), "{other}");
        }
        assert!(!begins(b"HTTP/1.1 503 Partial POST Replay\r\n"));
    }
}
