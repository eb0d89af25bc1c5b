//! Statistics that appear when they are first counted: responses by their code.

use std::cell::{OnceCell, RefCell};

use crate::stats::{Counter, Histogram, Scope};

/// `upstream_rq_<code>`, `upstream_rq_<n>xx` and `upstream_rq_completed` of one scope (a cluster, or its `internal.` or
/// `external.`), the first two made on first use as in Envoy.
pub struct CodeCounters {
    scope: Scope,
    classes: [OnceCell<Counter>; 5],
    codes: RefCell<Vec<(u16, Counter)>>,
    completed: OnceCell<Counter>,
}

impl CodeCounters {
    /// Codes above are not HTTP's: an upstream may not fill the name table with inventions.
    const LAST: u16 = 599;

    /// None of them exists yet.
    pub fn new(scope: &Scope) -> Self {
        Self {
            scope: scope.clone(),
            classes: Default::default(),
            codes: RefCell::default(),
            completed: OnceCell::new(),
        }
    }

    /// Counts a response of that status. A status outside 100–599 counts as completed only.
    pub fn record(&self, status: u16) {
        self.completed.get_or_init(|| self.scope.counter("upstream_rq_completed")).inc();
        if !(100..=Self::LAST).contains(&status) {
            self.scope.counter("upstream_rq_unknown").inc();
            return;
        }
        let class = usize::from(status / 100) - 1;
        self.classes[class].get_or_init(|| self.scope.counter(&format!("upstream_rq_{}xx", class + 1))).inc();
        let mut codes = self.codes.borrow_mut();
        match codes.iter().find(|(code, _)| *code == status) {
            Some((_, counter)) => counter.inc(),
            None => {
                let counter = self.scope.counter(&format!("upstream_rq_{status}"));
                counter.inc();
                codes.push((status, counter));
            }
        }
    }
}

/// What a cluster counts apart: by the origin of the request (`internal.` or `external.`), and of canaries (`canary.`); made on first use as in Envoy.
pub struct OriginStats {
    scope: Scope,
    codes: CodeCounters,
    upstream_rq_time: OnceCell<Histogram>,
}

impl OriginStats {
    /// From the scope of the cluster.
    pub fn new(cluster: &Scope, name: &'static str) -> Self {
        let scope = cluster.scope(name);
        Self { codes: CodeCounters::new(&scope), scope, upstream_rq_time: OnceCell::new() }
    }

    /// Counts a response and, where the upstream gave it, the milliseconds it took.
    pub fn record(&self, status: u16, time: Option<u64>) {
        self.codes.record(status);
        if let Some(time) = time {
            self.record_time(time);
        }
    }

    /// Counts the milliseconds the upstream took, where the response is counted apart.
    pub fn record_time(&self, time: u64) {
        self.upstream_rq_time.get_or_init(|| self.scope.histogram("upstream_rq_time")).record(time);
    }
}
