//! One endpoint of a cluster, with its connections.

use std::cell::{Cell, OnceCell};
use std::rc::Rc;
use std::time::Instant;

use http::Version;

use crate::config::model::{self, Address};

use super::cluster::Common;
use super::pool::{http1, http2};

/// What a worker has seen of a host, under the names of `/clusters`. Not statistics: they end with the worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections, open or being opened.
    pub cx_active: Cell<u64>,
    /// Connections that could not be opened.
    pub cx_connect_fail: Cell<u64>,
    /// Connections tried.
    pub cx_total: Cell<u64>,
    /// Requests in flight.
    pub rq_active: Cell<u64>,
    /// Requests that ended with a 5xx, or with none.
    pub rq_error: Cell<u64>,
    /// Requests that ended otherwise.
    pub rq_success: Cell<u64>,
    /// Requests whose route timeout passed.
    pub rq_timeout: Cell<u64>,
    /// Requests sent.
    pub rq_total: Cell<u64>,
}

impl Counts {
    /// Adds another worker's.
    pub fn add(&self, other: &Self) {
        let pairs = [
            (&self.cx_active, &other.cx_active),
            (&self.cx_connect_fail, &other.cx_connect_fail),
            (&self.cx_total, &other.cx_total),
            (&self.rq_active, &other.rq_active),
            (&self.rq_error, &other.rq_error),
            (&self.rq_success, &other.rq_success),
            (&self.rq_timeout, &other.rq_timeout),
            (&self.rq_total, &other.rq_total),
        ];
        for (sum, part) in pairs {
            sum.set(sum.get() + part.get());
        }
    }
}

pub(super) fn bump(cell: &Cell<u64>) {
    cell.set(cell.get() + 1);
}

pub(super) fn drop_one(cell: &Cell<u64>) {
    cell.set(cell.get().saturating_sub(1));
}

/// A host.
pub struct Host {
    endpoint: model::Endpoint,
    pools: Pools,
    /// For requests of high priority, made for the first of them.
    high: OnceCell<Pools>,
    common: Rc<Common>,
    counts: Rc<Counts>,
}

/// Its connections for requests of one priority.
struct Pools {
    http1: Rc<http1::Pool>,
    /// Where the cluster may speak it.
    http2: Option<Rc<http2::Pool>>,
}

impl Pools {
    fn new(endpoint: &model::Endpoint, common: &Rc<Common>, counts: &Rc<Counts>, keeps: bool) -> Self {
        let http2 = common.model.protocol.http2().zip(common.http2.as_ref());
        let http2 =
            http2.map(|(options, codec)| http2::Pool::new(endpoint.address.clone(), common, options, codec, counts));
        Self { http1: http1::Pool::new(endpoint.address.clone(), common, counts, keeps), http2 }
    }

    fn sweep(&self, now: Instant) {
        self.http1.sweep(now);
        if let Some(pool) = &self.http2 {
            pool.sweep(now);
        }
    }
}

impl Host {
    pub(super) fn new(endpoint: model::Endpoint, common: &Rc<Common>) -> Rc<Self> {
        Self::with(endpoint, common, true)
    }

    /// One that the cluster does not have any more, for a request that is still with it.
    pub(super) fn departed(address: Address, common: &Rc<Common>) -> Rc<Self> {
        let endpoint = model::Endpoint {
            address,
            weight: 1,
            locality: model::Locality::default(),
            healthy: false,
            hostname: String::new(),
        };
        Self::with(endpoint, common, false)
    }

    fn with(endpoint: model::Endpoint, common: &Rc<Common>, keeps: bool) -> Rc<Self> {
        let counts = Rc::new(Counts::default());
        let pools = Pools::new(&endpoint, common, &counts, keeps);
        Rc::new(Self { endpoint, pools, high: OnceCell::new(), common: common.clone(), counts })
    }

    /// Its configuration.
    pub fn endpoint(&self) -> &model::Endpoint {
        &self.endpoint
    }

    /// What this worker has seen of it.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// A request to it has ended with this status, the upstream's or ours.
    pub fn count_response(&self, status: u16) {
        let counts = self.counts();
        bump(if status >= 500 { &counts.rq_error } else { &counts.rq_success });
    }

    /// A request to it has failed in a way that another host is asked for.
    pub fn count_retried(&self) {
        bump(&self.counts().rq_error);
    }

    /// A request to it has taken longer than its route allows.
    pub fn count_timeout(&self) {
        bump(&self.counts().rq_timeout);
    }

    /// Its HTTP/1 connections.
    pub fn pool(&self) -> &Rc<http1::Pool> {
        &self.pools.http1
    }

    /// Its HTTP/2 connections, for a request that came by `version`; `None` where the cluster is spoken to with HTTP/1.
    pub fn http2(&self, version: Version) -> Option<&Rc<http2::Pool>> {
        self.pools.http2.as_ref().filter(|pool| pool.is_for(version))
    }

    /// Its HTTP/1 connections for requests of high priority.
    pub fn high_pool(&self) -> &Rc<http1::Pool> {
        &self.high().http1
    }

    /// The same of its HTTP/2 connections.
    pub fn high_http2(&self, version: Version) -> Option<&Rc<http2::Pool>> {
        self.high().http2.as_ref().filter(|pool| pool.is_for(version))
    }

    fn high(&self) -> &Pools {
        self.high.get_or_init(|| Pools::new(&self.endpoint, self.common.high(), &self.counts, true))
    }

    /// Closes idle connections that are too old or gone.
    pub(super) fn sweep(&self, now: Instant) {
        self.pools.sweep(now);
        if let Some(high) = self.high.get() {
            high.sweep(now);
        }
    }
}
