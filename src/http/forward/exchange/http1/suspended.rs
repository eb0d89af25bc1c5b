//! An exchange that nobody works on: all that it is, and no borrow of anything.

use std::rc::Rc;

use bytes::BytesMut;
use http::Method;

use super::Exchange;
use crate::codec::http1::{Framing, Scan};
use crate::http::body::Body;
use crate::http::forward::Replay;
use crate::http::pump::Pump;
use crate::http::stream::Stream;
use crate::http::upgrade::Switch;
use crate::upstream::Cluster;
use crate::upstream::pool::http1::Lease;

/// Most bytes on their way to the host that an exchange is suspended with: more than a block there are only where a filter
/// gave a whole body at once.
const MOST_PENDING: usize = 128 * 1024;

/// An exchange that has been suspended; the fields are those of `Exchange`.
pub struct Suspended {
    pub(in crate::http) cluster: Rc<Cluster>,
    pub(in crate::http) lease: Option<Lease>,
    pub(in crate::http) method: Method,
    pub(in crate::http) upload: Pump,
    /// The upload's body is the client's; else there is none left.
    pub(in crate::http) uploading: bool,
    pub(in crate::http) upload_broken: bool,
    pub(in crate::http) replay: Option<Replay>,
    pub(in crate::http) again: bool,
    pub(in crate::http) read: BytesMut,
    pub(in crate::http) answered: bool,
    pub(in crate::http) interim: u8,
    pub(in crate::http) framing: Framing,
    pub(in crate::http) keep_alive: bool,
}

impl<'a> Exchange<'a> {
    /// Whether it can be suspended now: nothing of it is anybody else's.
    pub(in crate::http) fn may_suspend(&self) -> bool {
        // One that may become a tunnel moves as such, as soon as it is one.
        self.stream.switch() == Switch::No
            // The next epoch would count it with the others.
            && !self.stream.record().high.get()
            && self.limits.is_none()
            && matches!(self.body, Body::Request(_) | Body::Empty)
            && self.upload.outbox.len() <= MOST_PENDING
            && self.lease.as_ref().is_none_or(Lease::may_move)
    }

    /// Ends the work on it, between two polls, where [`Self::may_suspend`].
    pub(in crate::http) fn suspend(self) -> Suspended {
        Suspended {
            cluster: self.cluster,
            lease: self.lease,
            method: self.method,
            upload: self.upload,
            uploading: matches!(self.body, Body::Request(_)),
            upload_broken: self.upload_broken,
            replay: self.replay,
            again: self.again,
            read: self.read,
            answered: self.answered,
            interim: self.interim,
            framing: self.framing,
            keep_alive: self.keep_alive,
        }
    }

    /// Goes on with it, as a part of `stream`.
    pub(in crate::http) fn resume(stream: &'a Stream<'a>, suspended: Suspended) -> Box<Self> {
        let body = if suspended.uploading { stream.body() } else { Body::Empty };
        Box::new(Self {
            stream,
            cluster: suspended.cluster,
            lease: suspended.lease,
            method: suspended.method,
            upload: suspended.upload,
            body,
            upload_broken: suspended.upload_broken,
            replay: suspended.replay,
            again: suspended.again,
            read: suspended.read,
            answered: suspended.answered,
            interim: suspended.interim,
            // A head of which there is a part is looked at from its beginning.
            scan: Scan::new(),
            framing: suspended.framing,
            keep_alive: suspended.keep_alive,
            limits: None,
            handed_back: false,
            dismissed: false,
            grant: None,
            granted: false,
        })
    }
}
