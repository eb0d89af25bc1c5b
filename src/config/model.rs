//! The validated configuration: plain data, no live objects, no protobuf.
//!
//! `config::convert` makes it from typed messages, whether they came from a file or from xDS; everything above
//! (`listener`, `http`, `upstream`, `stats`, `admin`) is built from it. Two models can be compared, which is what a reload does.
//! All defaults have been applied: a field here is the value in force.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

mod access_log;
mod client_cert;
mod cluster;
mod filter;
mod http;
mod http2;
mod http_target;
mod internal_redirect;
mod ip_detection;
mod listener;
mod local_reply;
mod matcher;
mod matching;
mod metadata;
mod mirror;
mod rate_limit;
mod retry;
mod route;
mod runtime;
mod stats;
mod tls;
mod uri_template;

pub use access_log::*;
pub use client_cert::*;
pub use cluster::*;
pub use filter::*;
pub use http::*;
pub use http_target::*;
pub use http2::*;
pub use internal_redirect::*;
pub use ip_detection::*;
pub use listener::*;
pub use local_reply::*;
pub use matcher::*;
pub use matching::*;
pub use metadata::*;
pub use mirror::*;
pub use rate_limit::*;
pub use retry::*;
pub use route::*;
pub use runtime::*;
pub use stats::*;
pub use tls::*;
pub use uri_template::*;

/// A whole bootstrap (`envoy.config.bootstrap.v3.Bootstrap`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bootstrap {
    /// Who this proxy is.
    pub node: Node,
    /// The admin endpoint, if there is one.
    pub admin: Option<Admin>,
    /// `static_resources.listeners`, names unique.
    pub listeners: Vec<Arc<Listener>>,
    /// `static_resources.clusters`, names unique.
    pub clusters: Vec<Arc<Cluster>>,
    /// `layered_runtime`.
    pub runtime: RuntimeLayers,
    /// Statistics: tags, sinks, flush interval.
    pub stats: Stats,
}

/// `envoy.config.core.v3.Node`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// `node.id`.
    pub id: String,
    /// `node.cluster`.
    pub cluster: String,
    /// `node.locality`.
    pub locality: Locality,
}

/// `envoy.config.core.v3.Locality`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Locality {
    /// Region.
    pub region: String,
    /// Zone.
    pub zone: String,
    /// Sub-zone.
    pub sub_zone: String,
}

/// `envoy.config.bootstrap.v3.Admin`.
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// Where it listens.
    pub address: Address,
}

/// An address that can be bound or connected to (`envoy.config.core.v3.Address`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// `socket_address` with protocol TCP.
    Tcp(SocketAddr),
    /// `pipe`.
    Unix {
        /// File path, or a name starting with `@` for the abstract name space.
        path: PathBuf,
        /// `pipe.mode`; 0 leaves the process's umask in force.
        mode: u32,
    },
}

impl std::fmt::Display for Address {
    /// As Envoy prints it: `ip:port` or the path.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix { path, .. } => write!(f, "{}", path.display()),
        }
    }
}
