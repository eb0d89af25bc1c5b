//! What is remembered about one request, for statistics now and access logs later.

use std::any::Any;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Instant;

use http::{HeaderValue, Method, StatusCode};

use crate::access_log::{Context, Left, Line, Live};
use crate::codec::head::RequestHead;
use crate::fault::Flag;
use crate::route::Decision;
use crate::upstream::{Cluster, Host};

use super::failure::Failure;
use super::filter::Response;
use super::filter_state::State;
use super::redirects::{Again, Redirects};

/// What a filter does to a reply that is made behind it, or instead of it.
pub type OnReply = Rc<dyn for<'r> Fn(&mut Response<'r>)>;

/// What filters leave for one another, and for whoever makes replies.
#[derive(Default)]
struct Shared {
    replies: Vec<OnReply>,
    metadata: BTreeMap<String, serde_json::Map<String, serde_json::Value>>,
    objects: HashMap<String, Rc<dyn Any>>,
    redirects: Redirects,
    /// `x-envoy-upstream-alt-stat-name`.
    alt_stat: Option<String>,
}

/// The record of one request. Filled by whoever learns something; read when the request has ended.
pub struct Record {
    /// When its first byte was seen.
    pub started: Instant,
    /// The method; the head itself is gone once it has been sent on.
    pub method: Method,
    /// It came from inside (Envoy's `x-envoy-internal`).
    pub internal: Cell<bool>,
    /// It asks after the proxy's health: it is not counted among the responses.
    pub is_health_check: Cell<bool>,
    /// It is gRPC's.
    pub grpc: Cell<bool>,
    /// It may ask something of the router: see [`super::headers::Client::controls`].
    pub controls: Cell<bool>,
    /// Tries that there have been, 0 before the first (`%UPSTREAM_REQUEST_ATTEMPT_COUNT%`).
    pub attempts: Cell<u32>,
    /// The response says that it comes from a canary.
    pub(super) canary: Cell<bool>,
    /// A timeout is told as 204 (`x-envoy-upstream-rq-timeout-alt-response`).
    pub(super) alt_response: Cell<bool>,
    /// Its route has high priority.
    pub(super) high: Cell<bool>,
    /// Tries that are under way beside the last one.
    pub(super) beside: Cell<u8>,
    /// The response says so (`include_attempt_count_in_response`).
    pub announces_attempts: Cell<bool>,
    /// The trusted client address.
    pub client: Cell<Option<IpAddr>>,
    /// The request's id, where the response repeats it.
    pub request_id: RefCell<Option<HeaderValue>>,
    /// What the client gets is none of the cluster's doing: a limit of the manager's own, or a fault of the client's.
    pub(super) uncharged: Cell<bool>,
    /// The status the client got, 0 for none.
    pub status: Cell<u16>,
    /// The status that cluster and host are charged with, where the client got another; else 0.
    charged: Cell<u16>,
    /// Body bytes received from the client.
    pub received: Cell<u64>,
    /// Body bytes sent to the client, as the client's framing counts them.
    pub sent: Cell<u64>,
    /// The route that matched, pinned for the request's life.
    pub route: RefCell<Option<Decision>>,
    /// The place of its virtual cluster among those of its virtual host.
    pub virtual_cluster: Cell<Option<usize>>,
    /// The cluster it went to, or would have gone to.
    pub cluster: RefCell<Option<Rc<Cluster>>>,
    /// The host it went to.
    pub host: RefCell<Option<Rc<Host>>>,
    /// When all of the request had been received.
    pub received_at: Cell<Option<Instant>>,
    /// When the host's response head came.
    pub answered_at: Cell<Option<Instant>>,
    /// What is kept for its line in the access logs; none where there are no logs.
    log: RefCell<Option<Box<Line>>>,
    /// The request's head, where the response's headers, or a reply of ours, will be made of it.
    pub(super) head: RefCell<Option<Box<RequestHead>>>,
    /// What filters leave for one another; most requests have none.
    shared: RefCell<Option<Box<Shared>>>,
    flags: Cell<u32>,
    details: RefCell<Cow<'static, str>>,
}

impl Record {
    pub(super) fn new(method: Method, started: Instant) -> Self {
        Self {
            started,
            method,
            internal: Cell::new(false),
            is_health_check: Cell::new(false),
            grpc: Cell::new(false),
            controls: Cell::new(false),
            attempts: Cell::new(0),
            canary: Cell::new(false),
            alt_response: Cell::new(false),
            high: Cell::new(false),
            beside: Cell::new(0),
            announces_attempts: Cell::new(false),
            client: Cell::new(None),
            request_id: RefCell::new(None),
            uncharged: Cell::new(false),
            status: Cell::new(0),
            charged: Cell::new(0),
            received: Cell::new(0),
            sent: Cell::new(0),
            route: RefCell::new(None),
            virtual_cluster: Cell::new(None),
            cluster: RefCell::new(None),
            host: RefCell::new(None),
            received_at: Cell::new(None),
            answered_at: Cell::new(None),
            log: RefCell::new(None),
            head: RefCell::new(None),
            shared: RefCell::new(None),
            flags: Cell::new(0),
            details: RefCell::new(Cow::Borrowed("")),
        }
    }

    /// Begins to keep what its line will say.
    pub(super) fn log_as(&self, line: Line) {
        *self.log.borrow_mut() = Some(Box::new(line));
    }

    /// Notes something for its line; nothing is done where there is none.
    pub(super) fn log(&self, note: impl FnOnce(&mut Live)) {
        if let Some(line) = &mut *self.log.borrow_mut() {
            note(&mut line.live);
        }
    }

    /// Takes what was kept for its line: whoever has it writes the line.
    pub(super) fn take_log(&self) -> Option<Box<Line>> {
        self.log.borrow_mut().take()
    }

    /// What was kept for its line, as it is written down for another epoch.
    pub(super) fn log_record(&self) -> Option<Context> {
        self.log.borrow().as_ref().map(|line| line.to_record())
    }

    /// Sets a value of the dynamic metadata of a namespace (most often a filter's name).
    pub fn set_metadata(&self, namespace: &str, key: &str, value: serde_json::Value) {
        let mut shared = self.shared.borrow_mut();
        let metadata = &mut shared.get_or_insert_default().metadata;
        metadata.entry(namespace.to_owned()).or_default().insert(key.to_owned(), value);
    }

    /// A value of the dynamic metadata.
    pub fn metadata(&self, namespace: &str, key: &str) -> Option<serde_json::Value> {
        self.shared.borrow().as_ref()?.metadata.get(namespace)?.get(key).cloned()
    }

    /// Works on the dynamic metadata of a namespace; `None` where there is none of it yet, which is left so unless it is made.
    pub fn change_metadata<R>(
        &self,
        namespace: &str,
        change: impl FnOnce(Option<&mut serde_json::Map<String, serde_json::Value>>) -> R,
    ) -> R {
        change(self.shared.borrow_mut().as_mut().and_then(|shared| shared.metadata.get_mut(namespace)))
    }

    /// Sets an object of the filter state.
    pub fn set_object<T: Any>(&self, key: &str, object: T) {
        self.shared.borrow_mut().get_or_insert_default().objects.insert(key.to_owned(), Rc::new(object));
    }

    /// An object of the filter state, where it is of that type.
    pub fn object<T: Any>(&self, key: &str) -> Option<Rc<T>> {
        self.shared.borrow().as_ref()?.objects.get(key)?.clone().downcast().ok()
    }

    /// A filter wants to have its hand in a reply of ours, whoever makes it and why: a deadline that passes does not go up the filters. The
    /// reply is shown as the client would get it; [`super::filter::Filter::dress`] comes before it has been put into words.
    pub fn on_reply(&self, hook: OnReply) {
        self.shared.borrow_mut().get_or_insert_default().replies.push(hook);
    }

    /// Shows a reply of ours to the filters that asked for it, the last of the chain first.
    pub(super) fn show_reply(&self, reply: &mut Response<'_>) {
        let hooks = self.shared.borrow().as_ref().map_or_else(Vec::new, |shared| shared.replies.clone());
        for hook in hooks.iter().rev() {
            hook(reply);
        }
    }

    /// An object of the filter state that was made from a text.
    pub fn state(&self, key: &str) -> Option<Rc<State>> {
        self.object(key)
    }

    /// Works on the dynamic metadata of a namespace, without changing them; `None` where there is none of it.
    pub fn with_metadata<R>(
        &self,
        namespace: &str,
        work: impl FnOnce(Option<&serde_json::Map<String, serde_json::Value>>) -> R,
    ) -> R {
        work(self.shared.borrow().as_ref().and_then(|shared| shared.metadata.get(namespace)))
    }

    /// What filters have left, for the line in the access logs.
    pub(super) fn left(&self) -> Option<Left> {
        let shared = self.shared.borrow();
        let Shared { metadata, objects, redirects: _, replies: _, alt_stat: _ } = &**shared.as_ref()?;
        let metadata = metadata.iter().map(|(namespace, values)| (namespace.clone(), values.clone().into()));
        let states = objects.iter().filter_map(|(key, object)| Some((key.clone(), object.downcast_ref::<State>()?)));
        let states = states.map(|(key, state)| match state {
            State::Text(text) | State::Hashable(text) => (key, text.as_str().into()),
            // An address shows with a port, which it does not have.
            State::Address(address) => (key, vec![SocketAddr::new(*address, 0).to_string()].into()),
        });
        Some(Left { metadata: metadata.collect(), states: states.collect() })
    }

    /// Whether there is something that another epoch would miss: objects of filters' own, and redirects. What has been said of the request,
    /// metadata and texts of the filter state, goes with its line in the access logs; nobody else asks for it once the request is on its way.
    pub(super) fn must_stay(&self) -> bool {
        let shared = self.shared.borrow();
        let Some(shared) = &*shared else { return false };
        let Redirects { count, next, .. } = &shared.redirects;
        *count > 0
            || next.is_some()
            || shared.alt_stat.is_some()
            || shared.objects.values().any(|object| !object.is::<State>())
    }

    /// The response is counted under this name too.
    pub(super) fn count_as(&self, name: String) {
        self.shared.borrow_mut().get_or_insert_default().alt_stat = Some(name);
    }

    /// A name under which the response is counted once more.
    pub(super) fn with_alt_stat(&self, count: impl FnOnce(&str)) {
        if let Some(name) = self.shared.borrow().as_ref().and_then(|shared| shared.alt_stat.as_deref()) {
            count(name);
        }
    }

    /// What it has followed so far.
    pub(super) fn redirects<R>(&self, look: impl FnOnce(&Redirects) -> R) -> R {
        match &*self.shared.borrow() {
            Some(shared) => look(&shared.redirects),
            None => look(&Redirects::default()),
        }
    }

    /// It follows one more.
    pub(super) fn redirected(&self, note: impl FnOnce(&mut Redirects)) {
        note(&mut self.shared.borrow_mut().get_or_insert_default().redirects);
    }

    /// What it is to ask again; once.
    pub(super) fn take_again(&self) -> Option<Again> {
        self.shared.borrow_mut().as_mut()?.redirects.next.take()
    }

    /// It is asked again, from the start: nothing is left of what came of it, but for what it has followed. All of it is there.
    pub(super) fn begin_again(&self, now: Instant) {
        if let Some(shared) = &mut *self.shared.borrow_mut() {
            shared.metadata.clear();
            shared.objects.clear();
            shared.alt_stat = None;
            shared.replies.clear();
        }
        self.received_at.set(Some(now));
        self.attempts.set(0);
        self.canary.set(false);
        self.alt_response.set(false);
        self.high.set(false);
        self.beside.set(0);
        self.announces_attempts.set(false);
        self.uncharged.set(false);
        self.status.set(0);
        self.charged.set(0);
        self.virtual_cluster.set(None);
        self.answered_at.set(None);
        self.flags.set(0);
        *self.cluster.borrow_mut() = None;
        *self.host.borrow_mut() = None;
        *self.head.borrow_mut() = None;
        *self.details.borrow_mut() = Cow::Borrowed("");
    }

    /// One more try begins.
    pub(super) fn count_try(&self) {
        self.attempts.set(self.attempts.get().saturating_add(1));
        self.log(|live| live.context.attempts = live.context.attempts.saturating_add(1));
    }

    /// Whatever the client is told from here on, cluster and host are charged with this status, where nothing has been said yet.
    pub(super) fn charge_unless_charged(&self, status: StatusCode) {
        if self.charged.get() == 0 {
            self.charged.set(status.as_u16());
        }
    }

    /// The same, whatever has been said.
    pub fn charge(&self, status: StatusCode) {
        self.charged.set(status.as_u16());
    }

    /// The status that they are charged with, of a response with that status.
    pub(super) fn charged(&self, status: u16) -> u16 {
        match self.charged.get() {
            0 => status,
            charged => charged,
        }
    }

    /// Sets a response flag.
    pub fn flag(&self, flag: Flag) {
        self.flags.set(self.flags.get() | 1 << flag as u32);
    }

    /// Whether a response flag is set.
    pub fn has_flag(&self, flag: Flag) -> bool {
        self.flags.get() & 1 << flag as u32 != 0
    }

    /// All response flags, a bit each.
    pub(super) fn flags(&self) -> u32 {
        self.flags.get()
    }

    /// Sets `%RESPONSE_CODE_DETAILS%`.
    pub fn set_details(&self, details: impl Into<Cow<'static, str>>) {
        *self.details.borrow_mut() = details.into();
    }

    /// `%RESPONSE_CODE_DETAILS%`.
    pub fn details(&self) -> Cow<'static, str> {
        self.details.borrow().clone()
    }

    /// Notes a failure's flag and details.
    pub(super) fn failed(&self, failure: Failure, begun: bool) {
        if let Some(flag) = failure.fault().flag {
            self.flag(flag);
        }
        self.set_details(failure.details(begun));
    }
}
