//! From the shared model to one worker's live objects.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::access_log;
use crate::config::model::{Address, Bootstrap, SocketOptions};
use crate::drain::motion::{Frozen, Mover, Reason};
use crate::drain::{Drain, Phase, Plan};
use crate::handoff::motion::Staging;
use crate::http::filter::Extension;
use crate::l4;
use crate::listener::{Crowd, Set, Sockets, Thawed, WorkerContext};
use crate::local::Local;
use crate::net::{BindAddress, BindOptions};
use crate::stats::{Scope, Store};
use crate::tls::Contexts;
use crate::upstream::{Clusters, Counts, Shared};

/// What all workers are built from.
pub(super) struct Parts {
    bootstrap: Arc<Bootstrap>,
    /// In the order of the bootstrap's listeners.
    sockets: Vec<Vec<OwnedFd>>,
    store: Store,
    /// Circuit breakers and the like, over all workers.
    shared: Shared,
    tls: Contexts,
    own_address: Option<IpAddr>,
    /// The files of access logs.
    files: access_log::Files,
    next_connection: Arc<AtomicU64>,
    /// Over all workers.
    crowd: Crowd,
    /// HTTP filters beside our own.
    http_filters: &'static [Extension],
    /// Network filters beside our own.
    network_filters: &'static [l4::extension::Extension],
}

impl Parts {
    /// Of a configuration, the listening sockets of its listeners in order, and the statistics.
    pub(super) fn new(
        bootstrap: Arc<Bootstrap>,
        sockets: Vec<Vec<OwnedFd>>,
        store: Store,
        files: access_log::Files,
        http_filters: &'static [Extension],
        network_filters: &'static [l4::extension::Extension],
    ) -> Self {
        let shared = Shared::new(&bootstrap.clusters);
        let crowd = Crowd::new(&bootstrap.listeners);
        // Two epochs write into one log for a while: their numbers must not meet.
        let next_connection = Arc::new(AtomicU64::new(store.epoch() << 32));
        Self {
            bootstrap,
            sockets,
            store,
            shared,
            tls: Contexts::default(),
            own_address: own_address(),
            files,
            next_connection,
            crowd,
            http_filters,
            network_filters,
        }
    }

    /// The TLS contexts, with the keys of session tickets.
    pub(super) fn tls(&self) -> &Contexts {
        &self.tls
    }
}

/// One worker's live objects.
pub(super) struct Assembly {
    listeners: Set,
    clusters: Rc<Clusters>,
    drain: Drain,
    bootstrap: Arc<Bootstrap>,
}

impl Assembly {
    /// Builds them, in the worker's `LocalSet`.
    ///
    /// # Errors
    /// No descriptors left, or a listener that cannot be built, in words.
    pub(super) fn build(parts: &Parts, worker: usize, drain: &Drain) -> Result<Self, String> {
        let scope = Scope::root(&parts.store, parts.store.lane_or_private());
        let local = Local::new();
        let clusters = Rc::new(Clusters::build(&parts.bootstrap.clusters, &parts.shared, &scope, &local));
        let context = WorkerContext {
            worker,
            scope,
            local,
            clusters: clusters.clone(),
            drain: drain.clone(),
            http_filters: parts.http_filters,
            network_filters: parts.network_filters,
            tls: parts.tls.clone(),
            own_address: parts.own_address,
            files: parts.files.clone(),
            crowd: parts.crowd.clone(),
            next_connection: parts.next_connection.clone(),
        };
        let mut listeners = Vec::with_capacity(parts.bootstrap.listeners.len());
        for (listener, sockets) in parts.bootstrap.listeners.iter().zip(&parts.sockets) {
            let sockets = sockets.iter().map(OwnedFd::try_clone).collect::<Result<Vec<_>, _>>();
            let sockets = sockets.map_err(|error| format!("listener '{}': {error}", listener.name))?;
            listeners.push(Sockets { listener: listener.clone(), sockets });
        }
        let listeners = Set::new(context, listeners).map_err(|error| error.to_string())?;
        Ok(Self { listeners, clusters, drain: drain.clone(), bootstrap: parts.bootstrap.clone() })
    }

    /// Accepts on every listener.
    ///
    /// # Errors
    /// A socket that cannot be watched, in words.
    pub(super) fn accept(&self) -> Result<(), String> {
        self.listeners.accept().map_err(|error| error.to_string())
    }

    /// Moves the drain of everything here to a phase.
    pub(super) fn drain(&self, phase: Phase) {
        self.drain.set(phase);
        self.clusters.set_draining(phase != Phase::Serving);
    }

    /// Begins a drain in which connections move, and says how many never do.
    pub(super) fn move_to(&self, mover: Mover, plan: Plan) -> usize {
        let unmovable = self.drain.unmovable();
        self.drain.move_to(mover, plan);
        self.clusters.set_draining(true);
        unmovable
    }

    /// Puts a connection from another epoch together.
    ///
    /// # Errors
    /// Why it cannot be had.
    pub(super) fn thaw(&self, frozen: Frozen) -> Result<Thawed, Reason> {
        self.listeners.thaw(frozen)
    }

    /// Puts connections from another epoch together, and begins with them when that one has let go of them.
    pub(super) fn stage(&self, staging: Staging) {
        let Staging { frozen, refused, verdict } = staging;
        let mut staged = Vec::with_capacity(frozen.len());
        let mut reasons = Vec::new();
        for (index, frozen) in frozen {
            match self.thaw(frozen) {
                Ok(thawed) => staged.push(thawed),
                Err(reason) => reasons.push((index, reason)),
            }
        }
        // Nobody waits any more: there will be no verdict either.
        if refused.send(reasons).is_err() {
            return;
        }
        tokio::task::spawn_local(async move {
            if verdict.await.is_ok() {
                staged.into_iter().for_each(Thawed::begin);
            }
        });
    }

    /// What has been seen of every host, in the order of the configuration's clusters and endpoints.
    pub(super) fn hosts(&self) -> Vec<Counts> {
        let clusters = self.bootstrap.clusters.iter().filter_map(|model| self.clusters.get(&model.name));
        clusters.flat_map(|cluster| cluster.hosts().iter().map(|host| host.counts().clone())).collect()
    }

    /// Closes the listening sockets.
    pub(super) fn let_go(&self) {
        self.listeners.let_go();
    }

    /// Accepts nothing more.
    pub(super) fn stop_accepting(&self) {
        self.listeners.stop_accepting();
    }
}

/// The model's address and options as the socket layer takes them.
pub(super) fn bind_to(address: &Address, options: &SocketOptions) -> (BindAddress, BindOptions) {
    let address = match address {
        Address::Tcp(address) => BindAddress::Tcp(*address),
        Address::Unix { path, mode } => BindAddress::Unix { path: path.clone(), mode: *mode },
    };
    let SocketOptions { backlog, freebind, transparent, ipv4_compat, fast_open } = *options;
    (address, BindOptions { backlog, freebind, transparent, ipv4_compat, fast_open, reuse_port: false })
}

/// An address of this machine that is not loopback: the one from which it would reach another. No packet is sent.
fn own_address() -> Option<IpAddr> {
    // TEST-NET-1 (RFC 5737): any routed address does, this one is nobody's.
    let elsewhere = (Ipv4Addr::new(192, 0, 2, 1), 9);
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(elsewhere).ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}
