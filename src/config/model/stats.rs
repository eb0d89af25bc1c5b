//! Statistics: tags, sinks.

use std::net::SocketAddr;
use std::time::Duration;

/// Statistics settings of the bootstrap.
#[derive(Clone, Debug, PartialEq)]
pub struct Stats {
    /// `stats_flush_interval`, default 5 s.
    pub flush_interval: Duration,
    /// `stats_config.stats_tags`.
    pub tags: Vec<TagRule>,
    /// `stats_config.use_all_default_tags`, default true.
    pub use_default_tags: bool,
    /// `stats_sinks`.
    pub sinks: Vec<StatsSink>,
}

impl Default for Stats {
    fn default() -> Self {
        Self { flush_interval: Duration::from_secs(5), tags: Vec::new(), use_default_tags: true, sinks: Vec::new() }
    }
}

/// `envoy.config.metrics.v3.TagSpecifier`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagRule {
    /// `tag_name`.
    pub name: String,
    /// How the value is found.
    pub value: TagValue,
}

/// How a tag gets its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagValue {
    /// `fixed_value`.
    Fixed(String),
    /// `regex`, checked when the configuration was loaded: the first capture is cut from the name, the second (or the first) is the value.
    Regex(String),
    /// Neither: the default extractor of that name.
    Default,
}

/// A statistics sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatsSink {
    /// `envoy.stat_sinks.statsd` over UDP.
    Statsd {
        /// Where to.
        address: SocketAddr,
        /// `prefix`, default `envoy`.
        prefix: String,
    },
}
