//! What is counted for routes with a `stat_prefix` and for virtual clusters. Most configurations have neither, and pay a look at two
//! empty lists.

use std::collections::HashMap;

use crate::codec::head::RequestHead;
use crate::config::model::RouteConfiguration;
use crate::route::Table;
use crate::stats::Scope;
use crate::stats::names::{self, CodeCounters, RouteCounters};

use super::record::Record;
use super::stream::Stream;

/// The statistics of one route table.
pub(super) struct RouteStats {
    routes: HashMap<usize, Counted>,
    /// Of each virtual host its virtual clusters, and `other` behind them.
    clusters: Vec<Vec<Counted>>,
    has_clusters: bool,
}

/// What is counted together.
pub(super) struct Counted {
    pub(super) stats: RouteCounters,
    pub(super) codes: CodeCounters,
}

impl Counted {
    fn new(scope: &Scope) -> Self {
        Self { stats: RouteCounters::new(scope), codes: CodeCounters::new(scope) }
    }
}

impl RouteStats {
    /// Of a table; `root` is the root of the statistics.
    pub(super) fn new(root: &Scope, configuration: &RouteConfiguration, table: &Table) -> Self {
        let prefixed = table.entries().filter(|route| !route.stat_prefix.is_empty());
        let routes = prefixed
            .map(|route| (route.index, Counted::new(&names::route(root, &route.virtual_host, &route.stat_prefix))))
            .collect();
        let clusters: Vec<Vec<Counted>> = configuration
            .virtual_hosts
            .iter()
            .map(|host| {
                let named = host.virtual_clusters.iter().map(|cluster| cluster.name.as_str());
                let other = (!host.virtual_clusters.is_empty()).then_some("other");
                named.chain(other).map(|name| Counted::new(&names::virtual_cluster(root, &host.name, name))).collect()
            })
            .collect();
        Self { routes, has_clusters: clusters.iter().any(|clusters| !clusters.is_empty()), clusters }
    }

    /// A request goes to a cluster: notes which virtual cluster it is of.
    pub(super) fn begin(&self, stream: &Stream<'_>, head: &RequestHead) {
        if self.has_clusters
            && let Some(decision) = &*stream.record().route.borrow()
        {
            stream.record().virtual_cluster.set(stream.manager().virtual_cluster(decision, head));
        }
    }

    /// Whether a request is counted here.
    pub(super) fn counts(&self, record: &Record) -> bool {
        let counted = std::cell::Cell::new(false);
        self.each(record, |_| counted.set(true));
        counted.get()
    }

    /// Counts something where a request is counted.
    pub(super) fn each(&self, record: &Record, count: impl Fn(&Counted)) {
        if self.routes.is_empty() && !self.has_clusters {
            return;
        }
        let Some(decision) = &*record.route.borrow() else { return };
        self.routes.get(&decision.route.index).into_iter().for_each(&count);
        if let Some(at) = record.virtual_cluster.get() {
            self.clusters.get(decision.route.host).and_then(|clusters| clusters.get(at)).into_iter().for_each(&count);
        }
    }
}
