//! The data path in this process: one worker thread with its listener, without configuration files, supervisor or admin.

use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use heirloom::access_log::{Files, Settings};
use heirloom::config::model;
use heirloom::drain::{Drain, Phase};
use heirloom::http::filter::Extension;
use heirloom::l4;
use heirloom::listener::{Crowd, Set, Sockets, WorkerContext};
use heirloom::local::Local;
use heirloom::stats::Scope;
use heirloom::upstream::{Clusters, Shared};

use super::client::Client;

/// A running proxy.
pub struct Proxy {
    pub address: SocketAddr,
    orders: tokio::sync::mpsc::UnboundedSender<Order>,
    thread: Option<JoinHandle<()>>,
}

type Order = Box<dyn FnOnce(&Worker) + Send>;

/// Gives orders to a proxy's worker from any thread.
#[derive(Clone)]
pub struct Handle {
    orders: tokio::sync::mpsc::UnboundedSender<Order>,
}

impl Handle {
    /// Runs something on the worker's thread.
    pub fn on_worker<T: Send + 'static>(&self, order: impl FnOnce(&Worker) -> T + Send + 'static) -> T {
        let (answer, answered) = mpsc::channel();
        self.orders.send(Box::new(move |worker| drop(answer.send(order(worker))))).unwrap();
        answered.recv().unwrap()
    }
}

/// What orders are given to, on the worker's thread.
pub struct Worker {
    pub scope: Scope,
    pub drain: Drain,
    pub set: Set,
    pub clusters: Rc<Clusters>,
}

impl Proxy {
    /// A listener with this manager, and these clusters.
    pub fn start(manager: model::HttpConnectionManager, clusters: Vec<model::Cluster>) -> Self {
        Self::start_with(super::models::listener(manager), clusters, &[])
    }

    /// The same with network filters.
    pub fn start_over(listener: model::Listener, network_filters: &'static [l4::extension::Extension]) -> Self {
        Self::start_as(listener, Vec::new(), &[], network_filters)
    }

    /// The same with HTTP filters.
    pub fn start_with(
        listener: model::Listener,
        clusters: Vec<model::Cluster>,
        http_filters: &'static [Extension],
    ) -> Self {
        Self::start_as(listener, clusters, http_filters, &[])
    }

    fn start_as(
        listener: model::Listener,
        clusters: Vec<model::Cluster>,
        http_filters: &'static [Extension],
        network_filters: &'static [l4::extension::Extension],
    ) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let (orders, mut inbox) = tokio::sync::mpsc::unbounded_channel::<Order>();
        let (ready, is_ready) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let tasks = tokio::task::LocalSet::new();
            tasks.block_on(&runtime, async move {
                let clusters: Vec<_> = clusters.into_iter().map(Arc::new).collect();
                // Lines are written soon, so that a scenario need not wait for them.
                let soon = Settings { interval: std::time::Duration::from_millis(5), ..Settings::default() };
                let files = Files::new(soon);
                let (scope, drain, local) = (Scope::detached(), Drain::new(), Local::new());
                let clusters = Rc::new(Clusters::build(&clusters, &Shared::new(&clusters), &scope, &local));
                let listener = Arc::new(listener);
                let context = WorkerContext {
                    worker: 0,
                    scope: scope.clone(),
                    local,
                    clusters: clusters.clone(),
                    drain: drain.clone(),
                    http_filters,
                    network_filters,
                    tls: heirloom::tls::Contexts::default(),
                    own_address: None,
                    crowd: Crowd::new(std::slice::from_ref(&listener)),
                    files: files.clone(),
                    next_connection: Arc::default(),
                };
                let sockets = Sockets { listener, sockets: vec![socket.into()] };
                let set = Set::new(context, vec![sockets]).unwrap();
                set.accept().unwrap();
                let worker = Worker { scope, drain, set, clusters };
                ready.send(()).unwrap();
                while let Some(order) = inbox.recv().await {
                    order(&worker);
                }
                files.finish();
            });
        });
        is_ready.recv().unwrap();
        Self { address, orders, thread: Some(thread) }
    }

    /// A new connection.
    #[track_caller]
    pub fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// Runs something on the worker's thread.
    pub fn on_worker<T: Send + 'static>(&self, order: impl FnOnce(&Worker) -> T + Send + 'static) -> T {
        self.handle().on_worker(order)
    }

    /// For orders from other threads; drop it before the proxy.
    pub fn handle(&self) -> Handle {
        Handle { orders: self.orders.clone() }
    }

    /// A counter's value.
    pub fn counter(&self, name: &str) -> u64 {
        let name = name.to_owned();
        self.on_worker(move |worker| worker.scope.counter(&name).lane_value())
    }

    /// A gauge's value.
    pub fn gauge(&self, name: &str) -> u64 {
        let name = name.to_owned();
        self.on_worker(move |worker| worker.scope.gauge(&name).lane_value())
    }

    /// Changes the drain's phase.
    pub fn drain(&self, phase: Phase) {
        self.on_worker(move |worker| worker.drain.set(phase));
    }

    /// Waits until a counter has a value.
    #[track_caller]
    pub fn await_counter(&self, name: &str, value: u64) {
        let mut seen = 0;
        let deadline = std::time::Instant::now() + super::PATIENCE;
        while std::time::Instant::now() < deadline {
            seen = self.counter(name);
            if seen == value {
                return;
            }
            std::thread::park_timeout(std::time::Duration::from_millis(2));
        }
        panic!("{name} is {seen}, not {value}");
    }

    /// Waits until a gauge has a value.
    #[track_caller]
    pub fn await_gauge(&self, name: &str, value: u64) {
        super::eventually(&format!("{name} is {value}"), || self.gauge(name) == value);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let (orders, _) = tokio::sync::mpsc::unbounded_channel();
        self.orders = orders;
        // Who has a handle may never let go of it when the test is lost.
        if !std::thread::panicking() {
            let ended = self.thread.take().map(JoinHandle::join);
            assert!(!matches!(ended, Some(Err(_))), "the worker panicked");
        }
    }
}
