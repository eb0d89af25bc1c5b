//! All listeners of one worker, and whether they accept.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use thiserror::Error;
use tokio::task::AbortHandle;

use crate::access_log::Logs;
use crate::config::model;
use crate::drain::motion::{Frozen, Reason};
use crate::http::manager::{Build, BuildError, Manager};
use crate::l4::{self, filters::tcp_proxy::TcpProxy};
use crate::net;
use crate::stats::names::{self, ListenerStats, ListenerWorkerStats, TlsInspectorStats};
use crate::tls::Acceptor;

use super::WorkerContext;
use super::accept;
use super::chain::Matcher;
use super::connection::{Admission, Line};
use super::secure::Inspector;

/// A listener's configuration with this worker's duplicates of its sockets, all addresses together.
pub struct Sockets {
    /// The listener.
    pub listener: Arc<model::Listener>,
    /// Listening sockets; several for one address where the supervisor made several.
    pub sockets: Vec<OwnedFd>,
}

/// A set that cannot be built or cannot accept.
#[derive(Debug, Error)]
pub enum SetError {
    /// A filter chain.
    #[error("listener '{listener}': {cause}")]
    Build {
        /// Its name.
        listener: String,
        /// What is wrong.
        cause: BuildError,
    },
    /// A network filter that the program brought along.
    #[error("listener '{listener}': {cause}")]
    Filter {
        /// Its name.
        listener: String,
        /// What is wrong.
        cause: String,
    },
    /// TLS.
    #[error("listener '{listener}': TLS: {cause}")]
    Tls {
        /// Its name.
        listener: String,
        /// What is wrong.
        cause: rustls::Error,
    },
    /// A socket.
    #[error("listener '{listener}': {cause}")]
    Socket {
        /// Its name.
        listener: String,
        /// What the system says.
        cause: io::Error,
    },
}

/// The listeners of one worker. Dropped, it stops accepting; connections live on.
pub struct Set {
    listeners: Vec<Entry>,
    upkeep: Vec<AbortHandle>,
    context: WorkerContext,
}

/// A connection from another epoch that has been put together. Dropped before it begins, it stays where it came from.
pub struct Thawed {
    work: l4::Work,
}

impl Thawed {
    /// It is ours: it goes on from here.
    pub fn begin(self) {
        tokio::task::spawn_local(self.work);
    }
}

struct Entry {
    name: String,
    addresses: Vec<model::Address>,
    sockets: RefCell<Vec<OwnedFd>>,
    admission: Rc<Admission>,
    accepting: RefCell<Vec<AbortHandle>>,
}

impl Set {
    /// Builds the listeners; nothing is accepted yet. Must be called within the worker's `LocalSet`: it also starts the worker's
    /// upkeep (timers, idle upstream connections), which ends with the set.
    ///
    /// # Errors
    /// A listener that cannot be built; all others are let go of as well.
    pub fn new(context: WorkerContext, listeners: Vec<Sockets>) -> Result<Self, SetError> {
        let listeners = listeners
            .into_iter()
            .map(|Sockets { listener, sockets }| {
                let admission = build(&context, &listener)?;
                let (name, addresses) = (listener.name.clone(), listener.addresses.clone());
                let sockets = RefCell::new(sockets);
                Ok(Entry { name, addresses, sockets, admission, accepting: RefCell::default() })
            })
            .collect::<Result<_, _>>()?;
        let timers = context.local.timers().clone();
        let clusters = context.clusters.clone();
        let upkeep = vec![
            tokio::task::spawn_local(async move { timers.run().await }).abort_handle(),
            tokio::task::spawn_local(async move { clusters.sweep().await }).abort_handle(),
        ];
        Ok(Self { listeners, upkeep, context })
    }

    /// Accepts on every socket, from now on or again. Does nothing where it accepts already.
    ///
    /// # Errors
    /// A socket that this thread's reactor does not take; then nothing accepts.
    pub fn accept(&self) -> Result<(), SetError> {
        for entry in &self.listeners {
            if !entry.accepting.borrow().is_empty() {
                continue;
            }
            if let Err(cause) = entry.accept() {
                self.stop_accepting();
                return Err(SetError::Socket { listener: entry.name.clone(), cause });
            }
        }
        Ok(())
    }

    /// Accepts no more. The sockets stay open and listening, here and wherever else they are held; connections that have been
    /// accepted are served.
    pub fn stop_accepting(&self) {
        for entry in &self.listeners {
            for task in entry.accepting.borrow_mut().drain(..) {
                task.abort();
            }
        }
    }

    /// Closes its sockets: it does not accept again. Whoever else holds them keeps them listening.
    pub fn let_go(&self) {
        self.stop_accepting();
        for entry in &self.listeners {
            entry.sockets.borrow_mut().clear();
        }
    }

    /// Takes a connection over from another epoch. Nothing of it is read or written before it begins.
    ///
    /// # Errors
    /// Why not; whoever offered it goes on with it.
    pub fn thaw(&self, frozen: Frozen) -> Result<Thawed, Reason> {
        let named = self.listeners.iter().find(|entry| entry.name == frozen.listener);
        // A listener that was renamed is known by where it listens.
        let at = || self.listeners.iter().find(|entry| frozen.local.is_some_and(|local| entry.listens_at(local)));
        let entry = named.or_else(at).ok_or(Reason::NoListener)?;
        entry.admission.thaw(frozen).map(|work| Thawed { work })
    }

    /// Connections that are alive on this worker.
    pub fn connections(&self) -> usize {
        self.context.drain.active()
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        self.stop_accepting();
        for task in &self.upkeep {
            task.abort();
        }
    }
}

impl Entry {
    /// Whether a connection to this address is one of its own.
    fn listens_at(&self, local: SocketAddr) -> bool {
        self.addresses.iter().any(|address| match address {
            // A connection over IPv4 to a socket for both families has an IPv6 address; either spelling is the same place.
            model::Address::Tcp(own) => {
                let same = own.ip().to_canonical() == local.ip().to_canonical();
                own.port() == local.port() && (same || own.ip().is_unspecified())
            }
            model::Address::Unix { .. } => false,
        })
    }

    fn accept(&self) -> io::Result<()> {
        // Each acceptor has a duplicate: letting go of the reactor closes that, and the socket itself stays with us.
        let sockets = self
            .sockets
            .borrow()
            .iter()
            .map(|socket| net::Listener::from_fd(socket.try_clone()?))
            .collect::<io::Result<Vec<_>>>()?;
        let tasks = sockets.into_iter().map(|socket| {
            tokio::task::spawn_local(accept::run(socket, self.admission.clone(), self.name.clone())).abort_handle()
        });
        self.accepting.borrow_mut().extend(tasks);
        Ok(())
    }
}

fn build(context: &WorkerContext, listener: &Arc<model::Listener>) -> Result<Rc<Admission>, SetError> {
    let scope = names::listener(&context.scope, &listener.stat_prefix);
    let with = Build {
        scope: &context.scope,
        listener_scope: &scope,
        clusters: &context.clusters,
        local: &context.local,
        extensions: context.http_filters,
        own_address: context.own_address,
        buffer_limit: listener.per_connection_buffer_limit,
        files: &context.files,
    };
    let failed = |cause: BuildError| SetError::Build { listener: listener.name.clone(), cause };
    let chain = |chain: &Arc<model::FilterChain>| {
        let filters = chain
            .filters
            .iter()
            .map(|filter| match filter {
                model::NetworkFilter::HttpConnectionManager(config) => {
                    let manager = Manager::build(config.clone(), &with).map_err(failed)?;
                    Ok(manager as Rc<dyn l4::Filter>)
                }
                model::NetworkFilter::TcpProxy(config) => {
                    let (scope, clusters) = (&context.scope, context.clusters.clone());
                    let proxy = TcpProxy::build(config.clone(), scope, clusters, &context.local, &context.files)
                        .map_err(|error| failed(error.into()))?;
                    Ok(proxy as Rc<dyn l4::Filter>)
                }
                model::NetworkFilter::Extension(model) => {
                    let with = l4::extension::Building {
                        model,
                        scope: &context.scope,
                        clusters: &context.clusters,
                        local: &context.local,
                    };
                    l4::extension::build(context.network_filters, &with)
                        .map_err(|cause| SetError::Filter { listener: listener.name.clone(), cause })
                }
            })
            .collect::<Result<_, SetError>>()?;
        let tls = chain.tls.as_ref().map(|tls| context.tls.get(tls)).transpose();
        let tls = tls.map_err(|cause| SetError::Tls { listener: listener.name.clone(), cause })?;
        Ok(Line {
            chain: l4::Chain::new(filters),
            tls: tls.map(|tls| Rc::new(Acceptor::new(tls, &scope))),
            handshake_timeout: chain.handshake_timeout,
        })
    };
    let lines = listener.filter_chains.iter().map(chain).collect::<Result<Vec<_>, SetError>>()?;
    let default = listener.default_filter_chain.as_ref().map(chain).transpose()?;
    let matches = listener.filter_chains.iter().map(|chain| chain.matches.clone());
    let mut matcher = Matcher::new(matches.zip(lines).collect(), default);
    if let Some(tree) = &listener.matcher {
        let names: Vec<&str> = listener.filter_chains.iter().map(|chain| chain.name.as_str()).collect();
        matcher = matcher.by_tree(tree, &names);
    }
    Ok(Rc::new(Admission {
        matcher,
        inspector: listener
            .inspection
            .clone()
            .map(|settings| Inspector { settings, stats: TlsInspectorStats::new(&context.scope) }),
        local: context.local.clone(),
        stats: Rc::new(ListenerStats::new(&scope)),
        worker_stats: ListenerWorkerStats::new(&names::listener_worker(&scope, context.worker)),
        logs: Logs::build(&listener.access_logs, &context.files)
            .map_err(|error| SetError::Build { listener: listener.name.clone(), cause: error.into() })?,
        room: context.crowd.room(listener),
        drain: context.drain.clone(),
        next: context.next_connection.clone(),
        name: listener.name.as_str().into(),
    }))
}
