//! Connections to hosts that carry bytes and nothing else: each belongs to one client's connection from its beginning to its end.
//!
//! Nothing is kept and nothing is lent again. A [`Connection`] is a socket and a [`Place`]: what it takes of the cluster's limits and how it shows in
//! its statistics. The two can be taken apart, because the socket may move to another epoch while the place is given up here and taken there.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::BytesMut;

use super::Refused;
use crate::config::model::Address;
use crate::local::Timer;
use crate::net::{PeerAddress, Stream};
use crate::upstream::cluster::Common;
use crate::upstream::limits::{Kind, Ticket};

/// A connection to a host.
pub struct Connection {
    stream: Stream,
    place: Place,
}

/// What a connection takes of its cluster.
pub struct Place {
    common: Rc<Common>,
    address: Address,
    opened: Instant,
    end: Cell<End>,
    _connection: Ticket,
    _request: Ticket,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Local,
    Remote,
    /// It goes on in another epoch, or has not begun here.
    Moved,
}

impl Connection {
    /// Connects to a host.
    ///
    /// # Errors
    /// See [`Refused`]; all of it is counted here.
    pub(in crate::upstream) async fn open(
        common: &Rc<Common>,
        address: &Address,
        timer: &Timer,
    ) -> Result<Self, Refused> {
        let stats = &common.stats;
        let Some(connection) = common.limits.take(Kind::Connections) else {
            stats.upstream_cx_overflow.inc();
            return Err(Refused::Overflow);
        };
        let Some(pending) = common.limits.take(Kind::Pending) else {
            stats.upstream_rq_pending_overflow.inc();
            return Err(Refused::Overflow);
        };
        stats.upstream_cx_total.inc();
        stats.upstream_rq_pending_total.inc();
        let opening = Opening::new(common);
        let started = Instant::now();
        let deadline = timer.at(started + common.model.connect_timeout);
        let stream = {
            let mut connecting = std::pin::pin!(super::open(address, &common.model));
            poll_fn(|context| match connecting.as_mut().poll(context) {
                Poll::Ready(outcome) => Poll::Ready(outcome.map_err(Refused::Connect)),
                Poll::Pending => timer.poll_until(context, deadline).map(|()| Err(Refused::Timeout)),
            })
            .await
        };
        drop(opening);
        drop(pending);
        let stream = stream.inspect_err(|refused| {
            stats.upstream_rq_pending_failure_eject.inc();
            super::count_unmade(stats, matches!(refused, Refused::Timeout));
        })?;
        let opened = Instant::now();
        stats.upstream_cx_connect_ms.record((opened - started).as_millis() as u64);
        let Some(request) = common.limits.take(Kind::Requests) else {
            stats.upstream_rq_pending_overflow.inc();
            return Err(Refused::Overflow);
        };
        stats.upstream_rq_total.inc();
        Ok(Self { stream, place: Place::new(common, address.clone(), opened, connection, request) })
    }

    /// The two together again.
    pub fn new(stream: Stream, place: Place) -> Self {
        Self { stream, place }
    }

    /// The socket and its place.
    pub fn into_parts(self) -> (Stream, Place) {
        (self.stream, self.place)
    }

    /// Our own address.
    ///
    /// # Errors
    /// The system does not say.
    pub fn local_address(&self) -> io::Result<PeerAddress> {
        self.stream.local_address()
    }

    /// Its place.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Reads into `buffer`, taking a block where it has none. `Ready(Ok(0))` is the end.
    pub fn poll_fill(&mut self, context: &mut Context<'_>, buffer: &mut BytesMut) -> Poll<io::Result<usize>> {
        let common = &self.place.common;
        let filled = ready!(common.local.poll_fill(&mut self.stream, context, buffer));
        match &filled {
            Ok(0) | Err(_) => self.place.end.set(End::Remote),
            Ok(read) => common.stats.upstream_cx_rx_bytes_total.add(*read as u64),
        }
        Poll::Ready(filled)
    }

    /// Writes some of `bytes`.
    pub fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(self.stream.poll_write_slices(context, &[IoSlice::new(bytes)]));
        match &written {
            Ok(written) => self.place.common.stats.upstream_cx_tx_bytes_total.add(*written as u64),
            Err(_) => self.place.end.set(End::Remote),
        }
        Poll::Ready(written)
    }

    /// Ends the sending side.
    pub fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_end(context)
    }

    /// Makes the close a reset: the host must not take it for an end.
    pub fn reset_on_close(&self) {
        // A socket that cannot be told so is gone already.
        let _ = self.stream.reset_on_close();
    }
}

impl Place {
    /// A place for a connection that another epoch has opened: counted as open, not as opened, and until [`Self::arrived`] not as
    /// closed either.
    pub(in crate::upstream) fn take(common: &Rc<Common>, address: Address, opened: Instant) -> Option<Self> {
        let connection = common.limits.take(Kind::Connections)?;
        let request = common.limits.take(Kind::Requests)?;
        let place = Self::new(common, address, opened, connection, request);
        place.end.set(End::Moved);
        Some(place)
    }

    fn new(common: &Rc<Common>, address: Address, opened: Instant, connection: Ticket, request: Ticket) -> Self {
        common.stats.upstream_cx_active.inc();
        common.stats.upstream_rq_active.inc();
        Self {
            common: common.clone(),
            address,
            opened,
            end: Cell::new(End::Local),
            _connection: connection,
            _request: request,
        }
    }

    /// The cluster's name.
    pub fn cluster(&self) -> &str {
        &self.common.model.name
    }

    /// Where the host is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// When the connection was made.
    pub fn opened(&self) -> Instant {
        self.opened
    }

    /// The connection is ours from now on: its end will be one.
    pub fn arrived(&self) {
        self.end.set(End::Local);
    }

    /// Gives the place up without an end: the connection lives on elsewhere.
    pub fn moved(self) {
        self.end.set(End::Moved);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let stats = &self.common.stats;
        stats.upstream_cx_active.dec();
        stats.upstream_rq_active.dec();
        let destroy = match self.end.get() {
            End::Moved => return,
            End::Local => &stats.upstream_cx_destroy_local,
            End::Remote => &stats.upstream_cx_destroy_remote,
        };
        destroy.inc();
        stats.upstream_cx_destroy.inc();
        stats.upstream_cx_length_ms.record(self.opened.elapsed().as_millis() as u64);
    }
}

/// That a connection is being made.
struct Opening<'a> {
    common: &'a Common,
}

impl<'a> Opening<'a> {
    fn new(common: &'a Common) -> Self {
        common.stats.upstream_cx_active.inc();
        common.stats.upstream_rq_pending_active.inc();
        Self { common }
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.common.stats.upstream_cx_active.dec();
        self.common.stats.upstream_rq_pending_active.dec();
    }
}
