//! `/server_info`, `/ready`, `/listeners`, `/config_dump`.

use http::StatusCode;
use serde::Serialize;
use serde_json::json;

use super::query::Query;
use super::reply::Reply;
use super::{Admin, State, endpoints};
use crate::config::model::{Address, Locality, Node};

/// `envoy.admin.v3.ServerInfo`, the fields that this proxy can fill.
#[derive(Clone, Debug, Serialize)]
pub struct Info {
    /// `<revision>/<version>/...`, as `--version` prints it.
    pub version: String,
    /// The state's name.
    pub state: &'static str,
    /// Seconds with an `s`: of this epoch.
    pub uptime_current_epoch: String,
    /// Seconds with an `s`: since the first epoch of the lineage began.
    pub uptime_all_epochs: String,
    /// Which epochs understand each other; `disabled` when this one runs alone.
    pub hot_restart_version: String,
    /// The command line.
    pub command_line_options: Options,
    node: NodeInfo,
}

impl Info {
    /// The uptimes in whole seconds.
    pub fn new(version: &str, state: State, uptime: (u64, u64), options: Options, node: &Node) -> Self {
        let hot_restart_version = if options.disable_hot_restart { "disabled" } else { "heirloom.1" };
        Self {
            version: version.to_owned(),
            state: state.name(),
            uptime_current_epoch: seconds(uptime.0),
            uptime_all_epochs: seconds(uptime.1),
            hot_restart_version: hot_restart_version.to_owned(),
            command_line_options: options,
            node: NodeInfo::of(node),
        }
    }
}

/// `envoy.admin.v3.CommandLineOptions`, the fields that this proxy has.
#[derive(Clone, Debug, Serialize)]
pub struct Options {
    /// `--base-id`, a number in a string.
    pub base_id: String,
    /// Workers.
    pub concurrency: usize,
    /// `-c`.
    pub config_path: String,
    /// `--config-yaml`.
    pub config_yaml: String,
    /// `--admin-address-path`.
    pub admin_address_path: String,
    /// `-l`.
    pub log_level: String,
    /// `--log-format`.
    pub log_format: String,
    /// `--log-path`.
    pub log_path: String,
    /// `--service-cluster`.
    pub service_cluster: String,
    /// `--service-node`.
    pub service_node: String,
    /// `--service-zone`.
    pub service_zone: String,
    /// `--drain-time-s`, seconds with an `s`.
    pub drain_time: String,
    /// `--parent-shutdown-time-s`, seconds with an `s`.
    pub parent_shutdown_time: String,
    /// `Serve` or `Validate`.
    pub mode: &'static str,
    /// This epoch runs without a supervisor.
    pub disable_hot_restart: bool,
    /// Which epoch this is.
    pub restart_epoch: u64,
    /// `Gradual` or `Immediate`.
    pub drain_strategy: &'static str,
}

/// A duration as protobuf's JSON has it.
pub(super) fn seconds(seconds: u64) -> String {
    format!("{seconds}s")
}

#[derive(Clone, Debug, Serialize)]
struct NodeInfo {
    id: String,
    cluster: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    locality: Option<LocalityInfo>,
    user_agent_name: &'static str,
}

impl NodeInfo {
    fn of(node: &Node) -> Self {
        let locality = (node.locality != Locality::default()).then(|| LocalityInfo::of(&node.locality));
        Self { id: node.id.clone(), cluster: node.cluster.clone(), locality, user_agent_name: "heirloom" }
    }
}

/// A locality, without what is empty.
#[derive(Clone, Debug, Serialize)]
pub(super) struct LocalityInfo {
    #[serde(skip_serializing_if = "String::is_empty")]
    region: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    zone: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    sub_zone: String,
}

impl LocalityInfo {
    pub(super) fn of(locality: &Locality) -> Self {
        let Locality { region, zone, sub_zone } = locality.clone();
        Self { region, zone, sub_zone }
    }
}

pub(super) fn ready(admin: &Admin, _query: &Query) -> Reply {
    let state = admin.view.state();
    let status = if state == State::Live { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Reply::error(status, format!("{}\n", state.name()))
}

pub(super) fn listeners(admin: &Admin, query: &Query) -> Reply {
    let listeners = admin.view.listeners();
    if query.get("format") == Some("json") {
        let statuses: Vec<serde_json::Value> = listeners
            .iter()
            .map(|listener| {
                let mut status = json!({ "name": listener.name });
                let mut addresses = listener.addresses.iter().map(address);
                if let Some(main) = addresses.next() {
                    status["local_address"] = main;
                }
                let more: Vec<serde_json::Value> = addresses.collect();
                if !more.is_empty() {
                    status["additional_local_addresses"] = more.into();
                }
                status
            })
            .collect();
        return Reply::json(&json!({ "listener_statuses": statuses }));
    }
    let lines = listeners
        .iter()
        .flat_map(|listener| listener.addresses.iter().map(|address| format!("{}::{address}\n", listener.name)));
    Reply::text(lines.collect::<String>())
}

/// `envoy.config.core.v3.Address`.
pub(super) fn address(address: &Address) -> serde_json::Value {
    match address {
        Address::Tcp(address) => {
            json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
        }
        Address::Unix { path, .. } => json!({ "pipe": { "path": path.display().to_string() } }),
    }
}

pub(super) fn config_dump(admin: &Admin, query: &Query) -> Reply {
    if !query.is_empty() {
        return Reply::bad_request("the parameters of /config_dump are not supported yet\n");
    }
    match admin.view.config_dump() {
        Some(dump) => Reply::json(&dump),
        None => endpoints::not_found(),
    }
}
