//! The body of a request that may have to be sent again.
//!
//! ```text
//!   client ──▶ Keeper ──▶ Tap ──▶ first host        every byte goes on at once, and a copy stays
//!                │
//!                └──────▶ Tap ──▶ next host         from the copy, then on from the client
//! ```
//!
//! No more than the route's limit is kept. Behind it there is no other try from here; but where a host may hand back what it has
//! received, the last bytes stay as a window, because they may have been on their way when it did.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes, BytesMut};

use crate::codec::head::Headers;
use crate::http::body::{Body, Frame, Source};
use crate::http::failure::Failure;

/// Data up to this length is copied, so that it does not hold the block that it was read into.
const COPIED: usize = 4 * 1024;

/// A body, and a copy of what has been taken out of it.
pub(super) struct Keeper<'a> {
    body: Body<'a>,
    /// Set once the body has ended.
    trailers: Option<Headers>,
    pieces: VecDeque<Bytes>,
    /// Small data behind the pieces.
    last: BytesMut,
    /// Bytes kept.
    kept: u64,
    /// Bytes taken out of the body.
    taken: u64,
    /// How far the present reading has come.
    at: u64,
    limit: u64,
    beyond: Beyond,
    overflowed: bool,
    forgets: bool,
}

/// What is kept of a body that is larger than the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beyond {
    /// Nothing.
    Drop,
    /// As many of the last bytes as the limit allows.
    Window,
}

impl<'a> Keeper<'a> {
    pub(super) fn new(body: Body<'a>, limit: u64, beyond: Beyond) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            body,
            trailers: None,
            pieces: VecDeque::new(),
            last: BytesMut::new(),
            kept: 0,
            taken: 0,
            at: 0,
            limit,
            beyond,
            overflowed: false,
            forgets: false,
        }))
    }

    /// Whether more came than may be kept: the beginning is gone.
    pub(super) fn has_overflowed(&self) -> bool {
        self.overflowed
    }

    /// Bytes taken out of the body so far.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// The first byte that is still here.
    fn begins(&self) -> u64 {
        self.taken - self.kept
    }

    /// Whether everything from this byte on is here.
    pub(super) fn has_from(&self, at: u64) -> bool {
        (self.begins()..=self.taken).contains(&at)
    }

    /// There will be no other reading: the copy goes as soon as this one is through with it.
    pub(super) fn forget(&mut self) {
        self.forgets = true;
        if self.at == self.taken {
            self.clear();
        }
    }

    /// The next reading begins here.
    pub(super) fn read_from(&mut self, at: u64) {
        self.at = at;
    }

    /// The next frame of the present reading.
    pub(super) fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Result<Frame, Failure>> {
        let mut at = self.at;
        let polled = self.poll_from(&mut at, context);
        self.at = at;
        polled
    }

    /// The next frame of a reading that has come as far as `at`.
    fn poll_from(&mut self, at: &mut u64, context: &mut Context<'_>) -> Poll<Result<Frame, Failure>> {
        if *at < self.taken {
            let data = self.copy_from(*at).ok_or(Failure::Internal)?;
            *at += data.len() as u64;
            return Poll::Ready(Ok(Frame::Data(data)));
        }
        if let Some(trailers) = &self.trailers {
            return Poll::Ready(Ok(Frame::End(trailers.clone())));
        }
        let frame = ready!(self.body.poll_frame(context))?;
        match &frame {
            Frame::Data(data) => {
                self.taken += data.len() as u64;
                *at = self.taken;
                self.keep(data);
            }
            Frame::End(trailers) => {
                self.trailers = Some(trailers.clone());
                self.body = Body::Empty;
            }
        }
        Poll::Ready(Ok(frame))
    }

    /// The body itself, where the present reading has come as far: there will be no other.
    pub(super) fn release(&mut self) -> Option<Body<'a>> {
        let may = self.at == self.taken && self.trailers.is_none();
        may.then(|| std::mem::replace(&mut self.body, Body::Empty))
    }

    /// All of it, taken out, where no more is to come than what is here or can be had at once.
    pub(super) fn take_whole(&mut self) -> Option<(VecDeque<Bytes>, Headers)> {
        let mut context = Context::from_waker(Waker::noop());
        self.at = self.taken;
        while self.trailers.is_none() {
            match self.poll_frame(&mut context) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) | Poll::Pending => return None,
            }
        }
        if self.overflowed {
            return None;
        }
        self.seal();
        self.kept = 0;
        Some((std::mem::take(&mut self.pieces), self.trailers.clone().unwrap_or_default()))
    }

    fn length_from(&self, at: u64) -> Option<u64> {
        let rest = if self.trailers.is_some() { Some(0) } else { self.body.length() };
        rest.map(|rest| rest + (self.taken - at))
    }

    fn keep(&mut self, data: &Bytes) {
        if self.forgets || (self.overflowed && self.beyond == Beyond::Drop) {
            self.clear();
            return;
        }
        if data.len() <= COPIED {
            self.last.extend_from_slice(data);
        } else {
            self.seal();
            self.pieces.push_back(data.clone());
        }
        self.kept += data.len() as u64;
        if self.kept <= self.limit {
            // A long row of small data becomes pieces too, so that a window can let go of its beginning.
            if self.last.len() > 4 * COPIED {
                self.seal();
            }
            return;
        }
        self.overflowed = true;
        match self.beyond {
            Beyond::Drop => self.clear(),
            Beyond::Window => self.shrink(),
        }
    }

    /// Lets go of what is first, down to the limit.
    fn shrink(&mut self) {
        self.seal();
        while let Some(first) = self.pieces.front_mut()
            && self.kept > self.limit
        {
            let excess = usize::try_from(self.kept - self.limit).unwrap_or(usize::MAX).min(first.len());
            self.kept -= excess as u64;
            first.advance(excess);
            if first.is_empty() {
                self.pieces.pop_front();
            }
        }
    }

    fn seal(&mut self) {
        if !self.last.is_empty() {
            self.pieces.push_back(self.last.split().freeze());
        }
    }

    fn clear(&mut self) {
        self.pieces.clear();
        self.last = BytesMut::new();
        self.kept = 0;
    }

    /// What is kept in one piece from `at` on.
    fn copy_from(&mut self, at: u64) -> Option<Bytes> {
        self.seal();
        let mut skip = usize::try_from(at.checked_sub(self.begins())?).ok()?;
        for piece in &self.pieces {
            if skip < piece.len() {
                return Some(piece.slice(skip..));
            }
            skip -= piece.len();
        }
        None
    }
}

/// One reading of a kept body. There is one at a time, but for those beside it.
pub(super) struct Tap<'a> {
    keeper: Rc<RefCell<Keeper<'a>>>,
    /// How far one beside the present one has come.
    own: Option<u64>,
}

impl<'a> Tap<'a> {
    /// From the beginning, which must still be here.
    pub(super) fn new(keeper: &Rc<RefCell<Keeper<'a>>>) -> Self {
        keeper.borrow_mut().read_from(0);
        Self { keeper: keeper.clone(), own: None }
    }

    /// From the beginning too, while the present reading goes on.
    pub(super) fn beside(keeper: &Rc<RefCell<Keeper<'a>>>) -> Self {
        Self { keeper: keeper.clone(), own: Some(0) }
    }
}

impl Source for Tap<'_> {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Result<Frame, Failure>> {
        let mut keeper = self.keeper.borrow_mut();
        match &mut self.own {
            Some(at) => keeper.poll_from(at, context),
            None => keeper.poll_frame(context),
        }
    }

    fn length(&self) -> Option<u64> {
        let keeper = self.keeper.borrow();
        keeper.length_from(self.own.unwrap_or(keeper.at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    /// A body of these pieces.
    struct Pieces(VecDeque<Bytes>);

    impl Source for Pieces {
        fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<Result<Frame, Failure>> {
            Poll::Ready(Ok(self.0.pop_front().map_or(Frame::End(Headers::new()), Frame::Data)))
        }

        fn length(&self) -> Option<u64> {
            None
        }
    }

    fn keeper(sizes: &[usize], limit: u64, beyond: Beyond) -> (Rc<RefCell<Keeper<'static>>>, Vec<u8>) {
        let whole: Vec<u8> = (0..sizes.iter().sum::<usize>()).map(|at| (at % 251) as u8).collect();
        let mut at = 0;
        let pieces = sizes.iter().map(|size| {
            at += size;
            Bytes::copy_from_slice(&whole[at - size..at])
        });
        let pieces = Pieces(pieces.collect());
        (Keeper::new(Body::Other(Box::new(pieces)), limit, beyond), whole)
    }

    /// Reads at most so many frames; all there is at the end.
    fn read(source: &mut dyn Source, frames: usize) -> Result<Vec<u8>, Failure> {
        let mut context = Context::from_waker(Waker::noop());
        let mut bytes = Vec::new();
        for _ in 0..frames {
            match source.poll_frame(&mut context) {
                Poll::Ready(Ok(Frame::Data(data))) => bytes.extend_from_slice(&data),
                Poll::Ready(Ok(Frame::End(_))) => break,
                Poll::Ready(Err(failure)) => return Err(failure),
                Poll::Pending => panic!("pending"),
            }
        }
        Ok(bytes)
    }

    #[test]
    fn what_was_taken_comes_again_and_then_the_rest() {
        let sizes = [1, 2, 5000, 3, 4096, 20_000, 1, 1, 7];
        for first in 0..sizes.len() + 2 {
            let (keeper, whole) = keeper(&sizes, 1 << 20, Beyond::Drop);
            let before = read(&mut Tap::new(&keeper), first).unwrap();
            assert_eq!(before, whole[..before.len()]);
            assert_eq!(read(&mut Tap::new(&keeper), usize::MAX).unwrap(), whole, "after {first} frames");
            assert_eq!(read(&mut Tap::new(&keeper), usize::MAX).unwrap(), whole, "and once more");
        }
    }

    #[test]
    fn beyond_the_limit_nothing_stays_but_the_first_reading_goes_on() {
        let (keeper, whole) = keeper(&[600, 500, 10], 1000, Beyond::Drop);
        assert_eq!(read(&mut Tap::new(&keeper), usize::MAX).unwrap(), whole);
        assert!(keeper.borrow().has_overflowed() && keeper.borrow().kept == 0);
        assert_eq!(read(&mut Tap::new(&keeper), 1), Err(Failure::Internal));
    }

    #[test]
    fn readings_beside_each_other_do_not_disturb_one_another() {
        let (keeper, whole) = keeper(&[10, 5000, 10], 100_000, Beyond::Drop);
        let (mut one, mut other) = (Tap::new(&keeper), Tap::beside(&keeper));
        let mut read_by_one = read(&mut one, 1).unwrap();
        assert_eq!(read(&mut other, 2).unwrap(), whole[..5010], "the second is ahead");
        read_by_one.extend(read(&mut one, usize::MAX).unwrap());
        assert_eq!(read_by_one, whole);
        assert_eq!(read(&mut other, usize::MAX).unwrap(), whole[5010..]);
    }

    #[test]
    fn the_body_itself_goes_on_only_where_its_reading_has_come_to() {
        let (keeper, whole) = keeper(&[10, 10, 10], 1000, Beyond::Drop);
        read(&mut Tap::new(&keeper), 2).unwrap();
        let mut tap = Tap::new(&keeper);
        assert!(keeper.borrow_mut().release().is_none(), "the copy has not been read again");
        read(&mut tap, 1).unwrap();
        let Some(Body::Other(mut rest)) = keeper.borrow_mut().release() else { panic!("no body") };
        assert_eq!(read(&mut *rest, usize::MAX).unwrap(), whole[20..]);
    }

    #[test]
    fn a_copy_that_is_forgotten_is_read_to_its_end() {
        let (keeper, whole) = keeper(&[5000, 5000, 10], 100_000, Beyond::Drop);
        read(&mut Tap::new(&keeper), 2).unwrap();
        let mut tap = Tap::new(&keeper);
        keeper.borrow_mut().forget();
        assert_eq!(keeper.borrow().kept, 10_000);
        assert_eq!(read(&mut tap, usize::MAX).unwrap(), whole);
        assert_eq!(keeper.borrow().kept, 0);
    }

    #[test]
    fn a_window_holds_the_last_bytes_and_no_more_than_the_limit() {
        let sizes = [700; 40];
        let (keeper, whole) = keeper(&sizes, 5000, Beyond::Window);
        assert_eq!(read(&mut Tap::new(&keeper), usize::MAX).unwrap(), whole);
        let kept = keeper.borrow().kept;
        assert!(keeper.borrow().has_overflowed() && kept == 5000, "{kept}");
        let from = whole.len() as u64 - kept;
        assert!(keeper.borrow().has_from(from) && !keeper.borrow().has_from(from - 1));
        keeper.borrow_mut().read_from(from);
        assert_eq!(read(&mut Tap { keeper, own: None }, usize::MAX).unwrap(), whole[from as usize..]);
    }
}
