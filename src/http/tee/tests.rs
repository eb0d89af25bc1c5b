use std::cell::Cell;

use super::*;

/// A body of these pieces; `whole` says whether it comes to its end.
struct Pieces {
    data: VecDeque<Bytes>,
    length: Option<u64>,
    whole: bool,
}

impl Source for Pieces {
    fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<Result<Frame, Failure>> {
        Poll::Ready(match self.data.pop_front() {
            Some(data) => Ok(Frame::Data(data)),
            None if self.whole => Ok(Frame::End(Headers::new())),
            None => Err(Failure::DownstreamClosed),
        })
    }

    fn length(&self) -> Option<u64> {
        self.length
    }
}

fn body(sizes: &[usize], whole: bool) -> Body<'static> {
    let data = sizes.iter().map(|size| vec![b'x'; *size].into()).collect();
    Body::Other(Box::new(Pieces { data, length: None, whole }))
}

fn next(source: &mut dyn Source) -> Poll<Result<Option<usize>, Failure>> {
    match source.poll_frame(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(Frame::Data(data))) => Poll::Ready(Ok(Some(data.len()))),
        Poll::Ready(Ok(Frame::End(_))) => Poll::Ready(Ok(None)),
        Poll::Ready(Err(failure)) => Poll::Ready(Err(failure)),
        Poll::Pending => Poll::Pending,
    }
}

const CUT: Poll<Result<Option<usize>, Failure>> = Poll::Ready(Err(Failure::DownstreamClosed));

#[test]
fn copies_follow_at_their_own_pace() {
    let (mut tee, mut copies) = Tee::new(body(&[3, 5000, 2], true), 2, 6000, || panic!("nobody is behind"));
    assert_eq!(next(&mut copies[0]), Poll::Pending);
    for expected in [Some(3), Some(5000), Some(2), None] {
        assert_eq!(next(&mut tee), Poll::Ready(Ok(expected)));
        assert_eq!(next(&mut copies[0]), Poll::Ready(Ok(expected)), "as it comes");
    }
    drop(tee);
    for expected in [Some(3), Some(5000), Some(2), None] {
        assert_eq!(next(&mut copies[1]), Poll::Ready(Ok(expected)), "all of it later");
    }
}

#[test]
fn who_falls_behind_is_given_up_and_nobody_else() {
    let abandoned = Cell::new(0);
    let (mut tee, mut copies) = Tee::new(body(&[600, 500, 1], true), 2, 1000, || abandoned.set(abandoned.get() + 1));
    assert_eq!(next(&mut tee), Poll::Ready(Ok(Some(600))));
    assert_eq!(next(&mut copies[0]), Poll::Ready(Ok(Some(600))));
    assert_eq!(next(&mut tee), Poll::Ready(Ok(Some(500))));
    assert_eq!(abandoned.get(), 1);
    assert_eq!(next(&mut copies[1]), CUT, "half a body is none");
    assert_eq!(next(&mut copies[0]), Poll::Ready(Ok(Some(500))));
    assert_eq!(next(&mut tee), Poll::Ready(Ok(Some(1))));
    assert_eq!(abandoned.get(), 1, "it is counted once");
}

#[test]
fn a_body_that_ends_early_is_cut_for_all() {
    let (mut tee, mut copies) = Tee::new(body(&[3], false), 1, 1000, || panic!("nobody is behind"));
    assert_eq!(next(&mut tee), Poll::Ready(Ok(Some(3))));
    assert_eq!(next(&mut tee), CUT);
    drop(tee);
    assert_eq!(next(&mut copies[0]), Poll::Ready(Ok(Some(3))));
    assert_eq!(next(&mut copies[0]), CUT);
}

#[test]
fn a_copy_that_nobody_takes_is_not_kept() {
    let (mut tee, copies) = Tee::new(body(&[3, 3], true), 1, 1000, || panic!("nobody is behind"));
    drop(copies);
    assert_eq!(next(&mut tee), Poll::Ready(Ok(Some(3))));
    assert!(tee.copies.is_empty());
}

#[test]
fn a_body_of_a_known_length_is_whole_with_its_last_byte() {
    let data = [Bytes::from_static(b"abc")].into();
    let source = Body::Other(Box::new(Pieces { data, length: Some(3), whole: true }));
    let (mut tee, mut copies) = Tee::new(source, 1, 1000, || panic!("nobody is behind"));
    assert_eq!(copies[0].length(), Some(3));
    assert_eq!(next(&mut tee), Poll::Ready(Ok(Some(3))));
    drop(tee);
    assert_eq!(next(&mut copies[0]), Poll::Ready(Ok(Some(3))));
    assert_eq!(next(&mut copies[0]), Poll::Ready(Ok(None)));
}
