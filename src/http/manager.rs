//! The HTTP connection manager: the network filter that takes a client's connection for life and serves its requests in order.
//!
//! ```text
//!   parked ──bytes──▶ serving ──all answered, nothing unread──▶ parked
//!     │ idle for too long, drain over: looks once more for bytes     │ last response sent: lingering ─▶ closed
//!     └───────────────▶ lingering ─▶ closed                          │ failed midway: cut
//! ```
//!
//! A parked connection is its `Downstream` and nothing else: what serves requests is a future of its own that exists only while there
//! is something to serve. On drain, responses say `connection: close`; at the drain's deadline idle connections close, but
//! only after a last look for a request that has arrived; what is in progress is cut, though never within its first second. Where another epoch
//! takes connections over, a parked one moves, and one that serves moves in the middle of its request if that can be suspended, or else behind it.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use http::{Method, StatusCode};
use thiserror::Error;

use crate::access_log::{self, Logs};
use crate::codec::head::{Headers, RequestHead, ResponseHead};
use crate::codec::http1::{CaseRules, Limits, Parsed, RequestRules, Scan, Underscores};
use crate::config::model;
use crate::drain::Phase;
use crate::drain::motion::{Kind, Reason};
use crate::l4::{Arrival, Connection, Filter, Next, Work};
use crate::local::{Deadline, Local};
use crate::route::{Decision, Facts, HeaderEdits, Table, Tls};
use crate::stats::Scope;
use crate::stats::names::{self, Http2Stats, HttpStats, ListenerHttpStats, TracingStats};
use crate::upstream::{Cluster, Clusters};

use super::downstream::{Downstream, Parts, Woken};
use super::draws::Draws;
use super::failure::Failure;
use super::filter::{Chain, ChainError, Extension};
use super::forward::rewrite;
use super::headers::names::X_REQUEST_ID;
use super::headers::{self, ConnectionFacts, DateCache, Ids, ResponseFacts, Rules, Turned};
use super::http2;
use super::local_reply;
use super::presence::Protocol;
use super::proxy_status;
use super::route_stats::RouteStats;
use super::stream::{self, After, Stream};
use super::upgrade::{Switch, Switched};

/// What is read and thrown away of a client that is still sending when its connection ends, in bytes.
const LINGER_BYTES: usize = 1024 * 1024;
/// How long a head that is incomplete when the drain is over may take, from its first bytes on, to complete.
const LAST_HEAD: Duration = stream::LAST_REQUEST;

/// A connection manager of one worker.
pub struct Manager {
    pub(super) config: Arc<model::HttpConnectionManager>,
    pub(super) stats: HttpStats,
    pub(super) listener_stats: ListenerHttpStats,
    pub(super) tracing_stats: TracingStats,
    pub(super) http2_stats: Http2Stats,
    pub(super) routes: Table,
    pub(super) chain: Chain,
    pub(super) local: Local,
    pub(super) rules: RequestRules,
    /// `None`: nothing is logged.
    pub(super) logs: Option<Rc<Logs>>,
    pub(super) route_stats: RouteStats,
    /// By the target of the decision.
    clusters: Vec<Option<Rc<Cluster>>>,
    /// By name, for what comes from another epoch and for requests that name their cluster.
    pub(super) named: Rc<Clusters>,
    draws: Draws,
    header_rules: Rules,
    /// `early_header_mutation_extensions`.
    early: Vec<HeaderEdits>,
    /// `local_reply_config`.
    pub(super) replies: Option<local_reply::Rules>,
    pub(super) own_address: Option<IpAddr>,
    pub(super) buffer_limit: u32,
    date: RefCell<DateCache>,
}

/// What a manager is built with.
pub struct Build<'a> {
    /// The root of the statistics.
    pub scope: &'a Scope,
    /// The scope of its listener.
    pub listener_scope: &'a Scope,
    /// The worker's clusters.
    pub clusters: &'a Rc<Clusters>,
    /// The worker's timers and blocks.
    pub local: &'a Local,
    /// HTTP filters that can be built beside our own.
    pub extensions: &'a [Extension],
    /// An address of this machine that is not loopback, for `x-forwarded-for`.
    pub own_address: Option<IpAddr>,
    /// `per_connection_buffer_limit_bytes` of its listener.
    pub buffer_limit: u32,
    /// The files of access logs.
    pub files: &'a access_log::Files,
}

/// A configuration that no manager can be built from.
#[derive(Debug, Error)]
pub enum BuildError {
    /// A configured text that no header can carry.
    #[error("not a header value: {0}")]
    Header(#[from] http::header::InvalidHeaderValue),
    /// The HTTP filters.
    #[error(transparent)]
    Filters(#[from] ChainError),
    /// An access log.
    #[error(transparent)]
    AccessLog(#[from] access_log::OpenError),
}

impl Manager {
    /// Builds the manager of one filter chain.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub fn build(config: Arc<model::HttpConnectionManager>, with: &Build<'_>) -> Result<Rc<Self>, BuildError> {
        let scope = names::http(with.scope, &config.stat_prefix);
        let routes = Table::compile(&config.routes);
        let clusters = routes.targets().map(|name| with.clusters.get(name?).cloned()).collect();
        Ok(Rc::new(Self {
            stats: HttpStats::new(&scope),
            listener_stats: ListenerHttpStats::new(&names::listener_http(with.listener_scope, &config.stat_prefix)),
            tracing_stats: TracingStats::new(&scope.scope("tracing")),
            http2_stats: Http2Stats::new(&names::http2(with.scope)),
            chain: Chain::build(&config.http_filters, with.extensions, &scope, with.clusters, with.local)?,
            rules: request_rules(&config),
            logs: Logs::build(&config.access_logs, with.files)?,
            header_rules: Rules::compile(&config)?,
            early: config.early_headers.iter().map(HeaderEdits::compile).collect(),
            replies: config.local_replies.as_ref().map(local_reply::Rules::compile),
            route_stats: RouteStats::new(with.scope, &config.routes, &routes),
            routes,
            clusters,
            named: with.clusters.clone(),
            draws: Draws::new(),
            local: with.local.clone(),
            own_address: with.own_address,
            buffer_limit: with.buffer_limit,
            date: RefCell::default(),
            config,
        }))
    }

    /// The cluster of a route.
    pub(super) fn cluster(&self, decision: &Decision) -> Option<&Rc<Cluster>> {
        match decision.named_cluster() {
            Some(name) => self.named.get(name),
            None => self.clusters.get(decision.target()?)?.as_ref(),
        }
    }

    /// How long a connection that is to end waits for one more request: each a little longer, so that not all end at the same moment.
    pub(super) fn drain_timeout(&self) -> Duration {
        let base = self.config.drain_timeout;
        match self.config.drain_jitter {
            0 => base,
            percent => {
                let part = self.draws.next() % (u64::from(percent) * 10_000 + 1);
                base + base.mul_f64(part as f64 / 1_000_000.0)
            }
        }
    }

    /// A random number, for draws.
    pub(super) fn draw(&self) -> u64 {
        self.draws.next()
    }

    /// Decides where a request goes.
    pub(super) fn route(&self, head: &RequestHead, stream: &Stream<'_>) -> Option<Decision> {
        let random = self.draws.next();
        // A certificate that is kept has been verified; one that has not is not kept.
        let tls = stream.facts().tls.as_ref();
        let tls = tls.map(|tls| Tls { presented: tls.peer.is_some(), validated: tls.peer.is_some() });
        self.routes.route(&Facts { head, tls, internal: stream.record().internal.get(), random, around: stream })
    }

    /// Puts the target of a request that was not made by its client in the form that the rules want.
    pub(super) fn normalize(&self, head: &mut RequestHead, stream: &Stream<'_>) -> Result<(), Turned> {
        let port = stream.facts().local.socket().map(|local| local.port());
        headers::normalize(head, &self.header_rules, port)
    }

    /// The virtual cluster of a request.
    pub(super) fn virtual_cluster(&self, decision: &Decision, head: &RequestHead) -> Option<usize> {
        self.routes.virtual_cluster(decision, &Facts::of(head))
    }

    /// Applies the header rules to a request, and notes what they found out.
    pub(super) fn prepare_request(&self, head: &mut RequestHead, stream: &Stream<'_>) -> Result<(), Turned> {
        for edits in &self.early {
            let seen = edits.has_formats().then(|| head.clone());
            edits.apply(&mut head.headers, &mut |pieces| rewrite::value(pieces, stream, seen.as_ref(), None));
        }
        let secured = stream.facts().tls.as_deref();
        let facts = ConnectionFacts {
            upgrade: stream.switch() != Switch::No && head.method != Method::CONNECT,
            peer: stream.facts().peer.ip(),
            local_port: stream.facts().local.socket().map(|local| local.port()),
            own_address: self.own_address,
            tls: secured.is_some(),
            mutual: secured.is_some_and(|secured| secured.peer.is_some()),
        };
        let client = headers::prepare_request(head, &self.header_rules, &facts, &mut Ids::random())?;
        if facts.mutual {
            headers::announce_certificate(&mut head.headers, &self.header_rules, secured);
        }
        let record = stream.record();
        record.internal.set(client.internal);
        record.client.set(client.address);
        record.controls.set(client.controls);
        record.grpc.set(client.grpc);
        if self.config.always_set_request_id_in_response {
            *record.request_id.borrow_mut() = head.headers.get(&X_REQUEST_ID).cloned();
        }
        Ok(())
    }

    /// Applies the header rules to a response.
    pub(super) fn prepare_response(&self, head: &mut ResponseHead, stream: &Stream<'_>) {
        let mut request = Headers::new();
        if let Some(id) = stream.record().request_id.borrow_mut().take() {
            request.append(X_REQUEST_ID.clone(), id);
        }
        if let Some(config) = &self.config.proxy_status {
            proxy_status::announce(config, head, stream.record());
        }
        let date = self.date.borrow_mut().value(SystemTime::now());
        let upgrade = head.status == StatusCode::SWITCHING_PROTOCOLS;
        headers::prepare_response(head, &self.header_rules, &ResponseFacts { request: &request, date, upgrade });
    }

    /// The life of a connection, from a moment on at which it is known what for, or not.
    #[allow(clippy::manual_async_fn, reason = "an async function holds its arguments twice: as given, and as its own")]
    fn run(mut conn: Downstream, mut woken: Option<Woken>) -> impl Future<Output = ()> {
        async move {
            loop {
                if woken.is_none()
                    && let Some(mover) = conn.held.mover()
                {
                    let Some(back) = Box::pin(conn.hand_over(mover)).await else { return };
                    (conn, woken) = back;
                    continue;
                }
                let Some(after) = next(&conn, woken.take()).await else { break };
                match after {
                    After::Keep => {}
                    After::Close { linger: wait } => {
                        // Over TLS the end has to be said, or the client must take what it has got for cut off.
                        if wait || conn.facts.tls.is_some() {
                            Box::pin(linger(&conn)).await;
                        }
                        break;
                    }
                    After::Cut { reset } => {
                        if reset {
                            conn.reset_on_close();
                        }
                        break;
                    }
                    After::Tunnel(switching) => {
                        let manager = conn.manager.clone();
                        return Box::pin(switching.run(manager, conn.into_parts())).await;
                    }
                    After::Http2 => {
                        let manager = conn.manager.clone();
                        return Box::pin(http2::run(manager, conn.into_parts())).await;
                    }
                    After::Move => {
                        let Some(back) = Box::pin(conn.hand_over_busy()).await else { return };
                        (conn, woken) = back;
                    }
                }
            }
        }
    }
}

impl Filter for Manager {
    fn call(self: Rc<Self>, connection: Connection, _next: Next) -> Work {
        let parts = Parts::new(&self, connection);
        // What was agreed on by TLS is spoken; else the first bytes tell.
        let agreed = parts.facts.tls.as_ref().and_then(|tls| tls.protocol.as_deref());
        if match self.config.codec {
            model::CodecType::Http1 => false,
            model::CodecType::Http2 => true,
            model::CodecType::Auto => agreed == Some(b"h2"),
        } {
            return Box::pin(http2::run(self, parts));
        }
        Box::pin(Self::run(Downstream::new(&self, parts), None))
    }

    fn thaw(self: Rc<Self>, arrival: Arrival) -> Result<Work, Reason> {
        let mut conn = match arrival.kind {
            Kind::Http1 => Downstream::thaw(&self, arrival)?,
            Kind::Exchange => Downstream::thaw_busy(&self, arrival)?,
            Kind::Upgrade => {
                let mut tunnel = Switched::thaw(&self, arrival)?;
                return Ok(Box::pin(async move {
                    tunnel.arrived();
                    tunnel.run().await;
                }));
            }
            Kind::Tcp => return Err(Reason::OtherFilter),
        };
        Ok(Box::pin(async move {
            let woken = conn.arrived();
            Self::run(conn, woken).await;
        }))
    }
}

/// Waits parked unless it is known what for, and serves what comes; `None` when the client has closed.
async fn next(conn: &Downstream, woken: Option<Woken>) -> Option<After> {
    let woken = match woken {
        Some(woken) => woken,
        None if conn.has_unread() => Woken::Bytes,
        None => poll_fn(|context| conn.poll_parked(context)).await,
    };
    match woken {
        Woken::Move => Some(After::Keep),
        // The future that serves is on the heap for as long as it serves: parked, nothing of it is left.
        Woken::Bytes | Woken::Flight => Some(Box::pin(serve(conn)).await),
        Woken::Gone => None,
        Woken::Close => Some(After::Close { linger: true }),
    }
}

/// Serves requests for as long as there are bytes of one; first the one that is in flight.
async fn serve(conn: &Downstream) -> After {
    loop {
        let after = if let Some(flight) = conn.flight.take() {
            stream::resume(conn, flight).await
        } else {
            let started = Instant::now();
            let mut waiting = Waiting::new(conn, started);
            match poll_fn(|context| waiting.poll(context)).await {
                Ok(Found::Head(parsed)) => {
                    let (stream, head, mut begun) = stream::open(conn, parsed, started);
                    let answer = stream.begin(head);
                    let course = stream.answer(answer, &mut begun).await;
                    stream.finish(course, begun)
                }
                Ok(Found::Nothing) => return After::Keep,
                Ok(Found::Http2) => return After::Http2,
                Err(Failure::DownstreamClosed) => return After::Close { linger: false },
                Err(Failure::Drained) => return After::Cut { reset: false },
                Err(failure) => {
                    conn.discard();
                    return stream::refuse(conn, failure, started).await;
                }
            }
        };
        if !matches!(after, After::Keep) || !conn.has_unread() || conn.held.may_move() {
            conn.settle();
            return after;
        }
    }
}

/// What the bytes of a connection turn out to be.
#[allow(clippy::large_enum_variant, reason = "it lives for a moment, and a box would be an allocation per request")]
enum Found {
    /// A request.
    Head(Parsed<RequestHead>),
    /// Nothing is left that could be the beginning of a request.
    Nothing,
    /// The beginning of an HTTP/2 connection.
    Http2,
}

/// The wait for a request head of which there are bytes.
struct Waiting<'a> {
    conn: &'a Downstream,
    started: Instant,
    scan: Scan,
    header_timeout: Deadline,
    idle: Deadline,
    /// The drain is over: what has arrived is still served.
    late: bool,
}

impl<'a> Waiting<'a> {
    fn new(conn: &'a Downstream, started: Instant) -> Self {
        let config = &conn.manager.config;
        let timer = |timeout: Option<Duration>| timeout.map_or(Deadline::NEVER, |t| conn.timer.at(started + t));
        let late = conn.held.phase() == Phase::Over;
        let idle = timer(if late { Some(LAST_HEAD) } else { config.stream_idle_timeout });
        Self { conn, started, scan: Scan::new(), header_timeout: timer(config.request_headers_timeout), idle, late }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Found, Failure>> {
        let conn = self.conn;
        loop {
            match conn.protocol() {
                Some(Protocol::Http2) => return Poll::Ready(Ok(Found::Http2)),
                Some(Protocol::Http1) => {
                    conn.speaks(Protocol::Http1);
                    match conn.parse(&mut self.scan)? {
                        Some(parsed) => return Poll::Ready(Ok(Found::Head(parsed))),
                        None if !conn.has_unread() => return Poll::Ready(Ok(Found::Nothing)),
                        None => {}
                    }
                }
                None => {}
            }
            match conn.poll_fill(context) {
                Poll::Ready(Ok(read)) if read > 0 => {}
                Poll::Ready(_) => return Poll::Ready(Err(Failure::DownstreamClosed)),
                Poll::Pending => break,
            }
        }
        if conn.held.may_move() {
            // The next epoch reads the rest of it.
            return Poll::Ready(Ok(Found::Nothing));
        }
        if !self.late && conn.poll_over(context).is_ready() {
            self.late = true;
            self.idle = conn.timer.at(self.started + LAST_HEAD);
        }
        if conn.timer.poll_until(context, self.header_timeout).is_ready() {
            return Poll::Ready(Err(Failure::HeaderTimeout));
        }
        conn.timer
            .poll_until(context, self.idle)
            .map(|()| Err(if self.late { Failure::Drained } else { Failure::StreamIdle { request_complete: false } }))
    }
}

/// Ends our side and reads on for a while, so that the client can read the last response: closing a socket with unread bytes
/// makes the system throw away what the other side has not read.
async fn linger(conn: &Downstream) {
    let Some(wait) = conn.manager.config.delayed_close_timeout else {
        // Without a wait there is still one chance to say that this is the end.
        if conn.facts.tls.is_some() {
            let _ = poll_fn(|context| Poll::Ready(conn.poll_shutdown(context))).await;
        }
        return;
    };
    let deadline = conn.timer.at(Instant::now() + wait);
    let mut left = LINGER_BYTES;
    poll_fn(|context| {
        if let Poll::Ready(Err(_)) = conn.poll_shutdown(context) {
            return Poll::Ready(());
        }
        loop {
            match conn.poll_fill(context) {
                Poll::Ready(Ok(read)) if read > 0 && read < left => {
                    left -= read;
                    conn.discard();
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        conn.timer.poll_until(context, deadline).map(|()| conn.manager.stats.downstream_cx_delayed_close_timeout.inc())
    })
    .await;
}

/// What is kept of how names are written.
pub(super) fn case_rules(model: model::PreserveCase) -> CaseRules {
    let model::PreserveCase { proper, reason } = model;
    CaseRules { proper, reason }
}

fn request_rules(config: &model::HttpConnectionManager) -> RequestRules {
    RequestRules {
        limits: Limits { bytes: config.max_request_headers_bytes as usize, count: config.max_headers_count as usize },
        allow_absolute_url: config.http1.allow_absolute_url,
        allow_chunked_length: config.http1.allow_chunked_length,
        accept_http_10: config.http1.accept_http_10,
        custom_methods: config.http1.custom_methods,
        default_host: config.http1.default_host_for_http_10.clone().into(),
        ignored_upgrades: config.http1.ignored_upgrades.clone(),
        cases: config.http1.preserve_case.map(case_rules),
        underscores: match config.underscores {
            model::Underscores::Allow => Underscores::Allow,
            model::Underscores::RejectRequest => Underscores::Reject,
            model::Underscores::DropHeader => Underscores::Drop,
        },
    }
}

#[cfg(test)]
mod tests;
