//! How a network filter comes into being that this library does not know.
//!
//! A program that links the library has a list of them ([`crate::server::Options::network_filters`]): the type of a filter's settings, how they are
//! read, and what makes the filter from them. `listener` builds each once per filter chain and worker; it lives as long as the chain.

use std::rc::Rc;

use crate::config::extension::NetworkFilterKind;
use crate::config::model::NetworkFilterModel;
use crate::local::Local;
use crate::stats::Scope;
use crate::upstream::Clusters;

use super::Filter;

/// A kind of network filter.
#[derive(Clone, Copy)]
pub struct Extension {
    /// The type of its settings, and what reads them.
    pub kind: NetworkFilterKind,
    /// Makes the filter of one filter chain of one worker.
    ///
    /// # Errors
    /// In words: why it cannot be.
    pub build: fn(&Building<'_>) -> Result<Rc<dyn Filter>, String>,
}

/// What a filter is made from.
pub struct Building<'a> {
    /// Its name in the chain, its settings.
    pub model: &'a NetworkFilterModel,
    /// The root of the statistics.
    pub scope: &'a Scope,
    /// The worker's clusters, for filters that ask somebody or pass connections on.
    pub clusters: &'a Rc<Clusters>,
    /// The worker's timers and blocks.
    pub local: &'a Local,
}

/// The kinds of these filters: what reading a configuration needs to know.
pub fn kinds(extensions: &[Extension]) -> Vec<NetworkFilterKind> {
    extensions.iter().map(|extension| extension.kind).collect()
}

/// Makes a filter.
///
/// # Errors
/// In words: why it cannot be.
pub(crate) fn build(extensions: &[Extension], with: &Building<'_>) -> Result<Rc<dyn Filter>, String> {
    let known = extensions.iter().find(|extension| extension.kind.type_name == with.model.type_name);
    let known = known.ok_or_else(|| format!("no network filter takes the settings {}", with.model.type_name))?;
    (known.build)(with).map_err(|cause| format!("network filter '{}': {cause}", with.model.name))
}
