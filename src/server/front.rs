//! The admin endpoint of this epoch: its socket, what it is shown, and what it asks for.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::warn;

use super::Options;
use super::phase::{Ending, Phase};
use super::runtime::Keeper;
use crate::admin::{self, Action, Admin, ClusterStatus, HostStatus, Info, Listener, ListenerStatus, State, View};
use crate::config::model::{self, Bootstrap};
use crate::drain::Strategy;
use crate::runtime::Snapshot;
use crate::stats::tags::Tags;
use crate::stats::{Reporter, Scope, Segment};
use crate::upstream::Counts;

/// Requests of operators that may wait for the main loop; one more is refused with a log line.
const WAITING: usize = 16;

/// What stands behind the endpoint.
pub(super) struct Behind {
    pub(super) root: Scope,
    pub(super) bootstrap: Arc<Bootstrap>,
    pub(super) runtime: Rc<Keeper>,
    pub(super) reporter: Rc<RefCell<Reporter>>,
    pub(super) tags: Tags,
    pub(super) started: Instant,
    pub(super) epoch: u64,
    /// What is in force, the supervisor's word before the command line's.
    pub(super) limits: Ending,
}

/// The endpoint, serving or not.
pub(super) struct Front {
    sockets: Vec<OwnedFd>,
    admin: Rc<Admin>,
    state: Rc<Cell<State>>,
    hosts: Rc<RefCell<Vec<Counts>>>,
    requests: mpsc::Receiver<Action>,
    /// Ends what serves; empty while nothing does.
    serving: Vec<oneshot::Sender<()>>,
    /// What still answers, serving or stopped.
    answering: Vec<Answering>,
}

struct Answering {
    leave: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// How long the end of the process waits for answers at the admin endpoint.
const LEAVING_TIME: Duration = Duration::from_secs(1);

impl Front {
    /// Builds it; nothing is served yet. Writes the address where the command line wants it.
    ///
    /// # Errors
    /// The address file cannot be written, in words.
    pub(super) fn new(behind: Behind, sockets: Vec<OwnedFd>, options: &Options) -> Result<Self, String> {
        if let (Some(path), Some(socket)) = (&options.admin_address_path, sockets.first()) {
            let address = bound(socket).unwrap_or_default();
            std::fs::write(path, address).map_err(|error| format!("cannot write '{}': {error}", path.display()))?;
        }
        let state = Rc::new(Cell::new(State::Initializing));
        let (asks, requests) = mpsc::channel(WAITING);
        let hosts = Rc::<RefCell<Vec<Counts>>>::default();
        let view = Shown {
            state: state.clone(),
            hosts: hosts.clone(),
            bootstrap: behind.bootstrap,
            runtime: behind.runtime,
            version: options.version.clone(),
            options: admin::Options {
                restart_epoch: behind.epoch,
                drain_time: format!("{}s", behind.limits.drain_time.as_secs()),
                drain_strategy: match behind.limits.strategy {
                    Strategy::Gradual => "Gradual",
                    Strategy::Immediate | Strategy::Unhealthy => "Immediate",
                },
                ..options.command_line.clone()
            },
            started: behind.started,
            segment: behind.root.store().segment().clone(),
            asks,
        };
        let admin = Admin::new(&behind.root, Box::new(view), behind.reporter, behind.tags);
        Ok(Self { sockets, admin, state, hosts, requests, serving: Vec::new(), answering: Vec::new() })
    }

    /// Answers at the endpoint from now on, or again.
    ///
    /// # Errors
    /// The socket cannot be watched, in words.
    pub(super) fn serve(&mut self) -> Result<(), String> {
        self.state.set(State::Live);
        if !self.serving.is_empty() {
            return Ok(());
        }
        for socket in &self.sockets {
            let listener = watch(socket).map_err(|error| format!("admin endpoint: {error}"))?;
            let (stop, stopped) = oneshot::channel();
            let (leave, leaving) = oneshot::channel();
            // Told to, or the endpoint is gone: the same.
            let either = async |told: oneshot::Receiver<()>| drop(told.await);
            let serving = admin::serve(listener, self.admin.clone(), either(stopped), either(leaving));
            self.serving.push(stop);
            self.answering.retain(|answering| !answering.task.is_finished());
            self.answering.push(Answering { leave, task: tokio::task::spawn_local(serving) });
        }
        Ok(())
    }

    /// The process ends: whoever has been accepted is still answered.
    pub(super) async fn leave(mut self) {
        self.stop();
        let tasks: Vec<JoinHandle<()>> = self
            .answering
            .drain(..)
            .map(|Answering { leave, task }| {
                // Where nobody listens, it has ended.
                let _ = leave.send(());
                task
            })
            .collect();
        let answered = async {
            for task in tasks {
                let _ = task.await;
            }
        };
        if timeout(LEAVING_TIME, answered).await.is_err() {
            warn!("an answer at the admin endpoint was cut");
        }
    }

    /// Takes no more connections; answers under way are finished.
    pub(super) fn stop(&mut self) {
        self.serving.clear();
    }

    /// What `/ready` and `/server_info` say.
    pub(super) fn show(&self, phase: Phase) {
        self.state.set(match phase {
            Phase::Ready => State::Initializing,
            Phase::Accepting => State::Live,
            Phase::Failing | Phase::Stopped | Phase::Draining(_) | Phase::Closing => State::Draining,
        });
    }

    /// What `/clusters` says of the hosts, in the order of the configuration; at most a second old.
    pub(super) fn show_hosts(&self, hosts: Vec<Counts>) {
        self.hosts.replace(hosts);
    }

    /// What it says.
    pub(super) fn state(&self) -> State {
        self.state.get()
    }

    /// The next request of an operator. Cancel safe.
    pub(super) async fn request(&mut self) -> Action {
        match self.requests.recv().await {
            Some(action) => action,
            None => std::future::pending().await,
        }
    }
}

/// What the endpoint may see.
struct Shown {
    state: Rc<Cell<State>>,
    hosts: Rc<RefCell<Vec<Counts>>>,
    bootstrap: Arc<Bootstrap>,
    runtime: Rc<Keeper>,
    version: String,
    options: admin::Options,
    started: Instant,
    segment: Segment,
    asks: mpsc::Sender<Action>,
}

impl View for Shown {
    fn state(&self) -> State {
        self.state.get()
    }

    fn info(&self) -> Info {
        let uptime = self.started.elapsed().as_secs();
        let all = self.segment.age().as_secs().max(uptime);
        Info::new(&self.version, self.state(), (uptime, all), self.options.clone(), &self.bootstrap.node)
    }

    fn listeners(&self) -> Vec<ListenerStatus> {
        let status = |listener: &Arc<model::Listener>| ListenerStatus {
            name: listener.name.clone(),
            addresses: listener.addresses.clone(),
        };
        self.bootstrap.listeners.iter().map(status).collect()
    }

    fn clusters(&self) -> Vec<ClusterStatus> {
        let counts = self.hosts.borrow();
        let mut counts = counts.iter().cloned().chain(std::iter::repeat_with(Counts::default));
        let clusters = self.bootstrap.clusters.iter();
        clusters.map(|cluster| cluster_status(cluster, &mut counts)).collect()
    }

    fn runtime(&self) -> Arc<Snapshot> {
        self.runtime.snapshot()
    }

    fn modify_runtime(&self, changes: &[(String, String)]) -> Result<(), String> {
        self.runtime.override_with(changes)
    }

    fn act(&self, action: Action) {
        if let Err(refused) = self.asks.try_send(action) {
            warn!("too many requests of operators at once: {refused}");
        }
    }
}

fn cluster_status(cluster: &model::Cluster, counts: &mut impl Iterator<Item = Counts>) -> ClusterStatus {
    let host = |(endpoint, counts): (&model::Endpoint, Counts)| HostStatus {
        address: endpoint.address.clone(),
        hostname: endpoint.hostname.clone(),
        healthy: endpoint.healthy,
        weight: endpoint.weight,
        locality: endpoint.locality.clone(),
        cx_active: counts.cx_active.get(),
        cx_connect_fail: counts.cx_connect_fail.get(),
        cx_total: counts.cx_total.get(),
        rq_active: counts.rq_active.get(),
        rq_error: counts.rq_error.get(),
        rq_success: counts.rq_success.get(),
        rq_timeout: counts.rq_timeout.get(),
        rq_total: counts.rq_total.get(),
    };
    ClusterStatus {
        name: cluster.name.clone(),
        observability_name: cluster.stat_name.clone(),
        added_via_api: false,
        limits: cluster.limits,
        hosts: cluster.endpoints.iter().zip(counts).map(host).collect(),
    }
}

/// A duplicate of the socket that this thread's reactor watches.
fn watch(socket: &OwnedFd) -> std::io::Result<Listener> {
    let own = socket.try_clone()?;
    if SockRef::from(&own).local_addr()?.is_unix() {
        let listener = std::os::unix::net::UnixListener::from(own);
        listener.set_nonblocking(true)?;
        return Ok(Listener::Unix(tokio::net::UnixListener::from_std(listener)?));
    }
    let listener = std::net::TcpListener::from(own);
    listener.set_nonblocking(true)?;
    Ok(Listener::Tcp(tokio::net::TcpListener::from_std(listener)?))
}

/// `ip:port`, or the path.
fn bound(socket: &OwnedFd) -> Option<String> {
    let address = SockRef::from(socket).local_addr().ok()?;
    let ip: Option<SocketAddr> = address.as_socket();
    ip.map(|ip| ip.to_string()).or_else(|| address.as_pathname().map(|path| path.display().to_string()))
}
