//! A body that goes two ways: on to where it was going, and as a copy to others, which may be slower or stop.
//!
//! ```text
//!   body ──▶ Tee ──▶ host           at the host's pace alone
//!             ├────▶ Copy           no more than the limit stands in between:
//!             └────▶ Copy           a copy that falls behind further than that is given up
//! ```

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;

use crate::codec::head::Headers;

use super::body::{Body, Frame, Source};
use super::failure::Failure;

/// Data up to this length is copied, so that it does not hold the block that it was read into.
const COPIED: usize = 4 * 1024;

/// A body, and who gets a copy of it.
pub(super) struct Tee<'a, F: FnMut()> {
    body: Body<'a>,
    copies: Vec<Rc<RefCell<Queue>>>,
    /// Called for each copy that is given up because it fell behind.
    abandoned: F,
}

/// What a copy has yet to take.
struct Queue {
    data: VecDeque<Bytes>,
    held: u64,
    limit: u64,
    /// What is to come, where that is known.
    left: Option<u64>,
    end: End,
    waker: Option<Waker>,
}

enum End {
    /// There is more to come.
    Open,
    Whole(Headers),
    /// It fell behind, or the body itself ended early.
    Cut,
}

/// One copy. Dropped, nothing is kept for it any more.
pub(super) struct Copy {
    queue: Rc<RefCell<Queue>>,
}

impl<'a, F: FnMut()> Tee<'a, F> {
    /// A body with so many copies, each of which may be `limit` bytes behind.
    pub(super) fn new(body: Body<'a>, count: usize, limit: u64, abandoned: F) -> (Self, Vec<Copy>) {
        let queue =
            || Queue { data: VecDeque::new(), held: 0, limit, left: body.length(), end: End::Open, waker: None };
        let copies: Vec<_> = (0..count).map(|_| Rc::new(RefCell::new(queue()))).collect();
        let taken = copies.iter().map(|queue| Copy { queue: queue.clone() }).collect();
        (Self { body, copies, abandoned }, taken)
    }

    fn pass_on(&mut self, frame: &Frame) {
        let abandoned = &mut self.abandoned;
        self.copies.retain(|queue| {
            // Whoever had it wants no more.
            if Rc::strong_count(queue) == 1 {
                return false;
            }
            let mut queue = queue.borrow_mut();
            let fits = match frame {
                Frame::Data(data) => queue.push(data),
                Frame::End(trailers) => {
                    queue.end = End::Whole(trailers.clone());
                    false
                }
            };
            if matches!(queue.end, End::Cut) {
                abandoned();
            }
            queue.wake();
            fits
        });
    }
}

impl<F: FnMut()> Source for Tee<'_, F> {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Result<Frame, Failure>> {
        let frame = ready!(self.body.poll_frame(context))?;
        self.pass_on(&frame);
        Poll::Ready(Ok(frame))
    }

    fn length(&self) -> Option<u64> {
        self.body.length()
    }
}

impl<F: FnMut()> Drop for Tee<'_, F> {
    fn drop(&mut self) {
        for queue in &self.copies {
            let mut queue = queue.borrow_mut();
            // A body of a known length need not be asked for its end.
            queue.end = if queue.is_whole() { End::Whole(Headers::new()) } else { End::Cut };
            queue.wake();
        }
    }
}

impl Queue {
    /// False: it has fallen behind too far.
    fn push(&mut self, data: &Bytes) -> bool {
        self.held += data.len() as u64;
        if self.held > self.limit {
            self.data = VecDeque::new();
            self.end = End::Cut;
            return false;
        }
        let copy = if data.len() <= COPIED { Bytes::copy_from_slice(data) } else { data.clone() };
        self.data.push_back(copy);
        true
    }

    /// All that was announced has come.
    fn is_whole(&self) -> bool {
        self.left == Some(self.held)
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Source for Copy {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Result<Frame, Failure>> {
        let mut queue = self.queue.borrow_mut();
        if let Some(data) = queue.data.pop_front() {
            queue.held -= data.len() as u64;
            queue.left = queue.left.map(|left| left.saturating_sub(data.len() as u64));
            return Poll::Ready(Ok(Frame::Data(data)));
        }
        let complete = queue.left == Some(0);
        match &mut queue.end {
            End::Open if complete => Poll::Ready(Ok(Frame::End(Headers::new()))),
            End::Open => {
                queue.waker = Some(context.waker().clone());
                Poll::Pending
            }
            End::Whole(trailers) => Poll::Ready(Ok(Frame::End(std::mem::take(trailers)))),
            End::Cut => Poll::Ready(Err(Failure::DownstreamClosed)),
        }
    }

    fn length(&self) -> Option<u64> {
        self.queue.borrow().left
    }
}

#[cfg(test)]
mod tests;
