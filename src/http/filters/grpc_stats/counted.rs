//! A body whose messages are counted while it is pulled.

use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use super::super::grpc;
use super::super::grpc::frames::Frames;
use crate::http::body::{Body, Frame, Source};
use crate::http::failure::Failure;
use crate::http::record::Record;
use crate::stats::names::GrpcCounters;

/// Which body it is.
pub(super) enum Way<'a> {
    Request,
    Response {
        /// Its messages are gRPC's.
        counts: bool,
        /// How long the host took is counted at its end.
        timed: Option<&'a Record>,
    },
}

/// The body.
pub(super) struct Counted<'a> {
    body: Body<'a>,
    frames: Frames,
    counters: Rc<GrpcCounters>,
    way: Way<'a>,
}

impl<'a> Counted<'a> {
    /// Around a body.
    pub(super) fn around(body: Body<'a>, counters: Rc<GrpcCounters>, way: Way<'a>) -> Body<'a> {
        Body::Other(Box::new(Self { body, frames: Frames::default(), counters, way }))
    }
}

impl Source for Counted<'_> {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Result<Frame, Failure>> {
        let frame = ready!(self.body.poll_frame(context))?;
        match (&frame, &self.way) {
            (Frame::Data(data), Way::Request) => match self.frames.count(data) {
                0 => {}
                begun => self.counters.asked(begun),
            },
            (Frame::Data(data), Way::Response { counts: true, .. }) => match self.frames.count(data) {
                0 => {}
                begun => self.counters.answered(begun),
            },
            (Frame::End(trailers), Way::Response { timed, .. }) => {
                if let Some(status) = grpc::status(trailers) {
                    self.counters.ended(status);
                }
                timed.iter().for_each(|record| time(&self.counters, record));
            }
            (Frame::Data(_), Way::Response { counts: false, .. }) | (Frame::End(_), Way::Request) => {}
        }
        Poll::Ready(Ok(frame))
    }

    fn length(&self) -> Option<u64> {
        self.body.length()
    }

    fn poll_beside(&mut self, context: &mut Context<'_>) {
        self.body.poll_beside(context);
    }
}

/// Counts how long the host took, from the end of the request to now.
pub(super) fn time(counters: &GrpcCounters, record: &Record) {
    if let Some(received_at) = record.received_at.get() {
        let time = Instant::now().saturating_duration_since(received_at);
        counters.took(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    }
}
