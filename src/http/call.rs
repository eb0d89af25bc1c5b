//! A request that this proxy makes itself, to a cluster: a copy of a client's, or a filter's question.
//!
//! ```text
//!   Call::new(stream, cluster, timeout) ── send(head, body, take) ──▶ cluster ▶ host ▶ pool ▶ Exchange, as for a client's request
//!                                                                       ◀── the answer's head; its body went to `take`
//! ```
//!
//! The cluster's balancer, limits, protocol, connections and statistics are those of all its requests (D11); by origin it is
//! counted as `internal`. There is one try, but for a kept connection that turns out to be dead. It has a timeout of its own and may outlive the request
//! it is made for: whoever does not wait for it spawns it on the worker. On reload it stays with the clusters that it began with. It does not move to another epoch; a drain waits for
//! it, and cuts it at the deadline. How many there may be at once is the circuit breakers' to say, and how much of a body is held that of who gives the body.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

use crate::codec::head::{RequestHead, ResponseHead};
use crate::upstream::Cluster;

use super::body::{Body, Frame};
use super::failure::Failure;
use super::filter::{Request, Response};
use super::forward;
use super::stream::{Own, Stream};

/// A request of our own that has not been sent yet.
pub(super) struct Call {
    own: Own,
    cluster: Rc<Cluster>,
    timeout: Option<Duration>,
}

impl Call {
    /// On behalf of a client's request. `timeout` begins with the end of what is sent; `None` is none.
    pub(super) fn new(stream: &Stream<'_>, cluster: Rc<Cluster>, timeout: Option<Duration>) -> Self {
        Self { own: Own::of(stream), cluster, timeout }
    }

    /// Sends it and takes the answer, the body of which goes to `take` as it comes.
    ///
    /// # Errors
    /// There was no whole answer, or `take` said that it is enough. It is counted.
    pub(super) async fn send(
        self,
        head: RequestHead,
        body: Body<'static>,
        mut take: impl FnMut(Bytes) -> Result<(), Failure>,
    ) -> Result<ResponseHead, Failure> {
        let Self { own, cluster, timeout } = self;
        let stream = Stream::own(&own, &head, timeout);
        let body = stream.watch(&own, body);
        let mut forwarding = forward::call(Request { head, body }, &cluster, &stream);
        let answered = poll_fn(|context| {
            let polled = Pin::new(&mut forwarding).poll(context);
            or_ended(polled, &stream, context)
        });
        let Response { head, mut body, .. } =
            answered.await.inspect_err(|failure| stream.count_own_failure(*failure))?;
        stream.count_own(head.status.as_u16());
        loop {
            let frame = poll_fn(|context| {
                let polled = body.poll_frame(context);
                or_ended(polled, &stream, context)
            });
            match frame.await? {
                Frame::Data(data) => take(data)?,
                Frame::End(_) => return Ok(head),
            }
        }
    }
}

/// Ends a wait when its time is up.
fn or_ended<T>(
    polled: Poll<Result<T, Failure>>,
    stream: &Stream<'_>,
    context: &mut Context<'_>,
) -> Poll<Result<T, Failure>> {
    if polled.is_pending() { stream.poll_ended(context).map(Err) } else { polled }
}
