//! What is counted of gRPC calls: `cluster.<name>.grpc.` or `.grpc-web.`, with service and method behind it where methods are counted apart.

use std::cell::OnceCell;

use super::{Counter, Histogram, Scope};

/// Calls by their status, each counter made on first use as in Envoy. A status that gRPC does not know has no counter of its own: hosts may
/// not fill the table of names with inventions.
pub struct GrpcCounters {
    scope: Scope,
    statuses: [OnceCell<Counter>; Self::STATUSES],
    success: OnceCell<Counter>,
    failure: OnceCell<Counter>,
    total: OnceCell<Counter>,
    request_message_count: OnceCell<Counter>,
    response_message_count: OnceCell<Counter>,
    upstream_rq_time: OnceCell<Histogram>,
}

impl GrpcCounters {
    /// `OK` is the first, `UNAUTHENTICATED` the last.
    const STATUSES: usize = 17;

    /// From the scope of a cluster. `protocol` is `grpc` or `grpc-web`, `method` a service and a method.
    pub fn new(cluster: &Scope, protocol: &str, method: Option<(&str, &str)>) -> Self {
        let scope = cluster.scope(protocol);
        let scope = method.map_or(scope.clone(), |(service, method)| scope.scope(service).scope(method));
        Self {
            scope,
            statuses: Default::default(),
            success: OnceCell::new(),
            failure: OnceCell::new(),
            total: OnceCell::new(),
            request_message_count: OnceCell::new(),
            response_message_count: OnceCell::new(),
            upstream_rq_time: OnceCell::new(),
        }
    }

    /// Counts a call that has ended with this `grpc-status`.
    pub fn ended(&self, status: &[u8]) {
        let known = (0..Self::STATUSES).find(|number| number.to_string().as_bytes() == status);
        if let Some((number, counter)) = known.and_then(|number| Some((number, self.statuses.get(number)?))) {
            counter.get_or_init(|| self.scope.counter(&number.to_string())).inc();
        }
        let (outcome, name) = if known == Some(0) { (&self.success, "success") } else { (&self.failure, "failure") };
        outcome.get_or_init(|| self.scope.counter(name)).inc();
        self.total.get_or_init(|| self.scope.counter("total")).inc();
    }

    /// Counts messages of a request.
    pub fn asked(&self, messages: u64) {
        self.request_message_count.get_or_init(|| self.scope.counter("request_message_count")).add(messages);
    }

    /// Counts messages of a response.
    pub fn answered(&self, messages: u64) {
        self.response_message_count.get_or_init(|| self.scope.counter("response_message_count")).add(messages);
    }

    /// Counts the milliseconds that a host took.
    pub fn took(&self, millis: u64) {
        self.upstream_rq_time.get_or_init(|| self.scope.histogram("upstream_rq_time")).record(millis);
    }
}
