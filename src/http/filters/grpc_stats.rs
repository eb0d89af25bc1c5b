//! `envoy.filters.http.grpc_stats`: counts gRPC calls by their status, and the messages both ways, on the cluster that they go to.
//!
//! Bodies are looked at as they pass by, and stay streams. A call is counted when its status comes: in a head, in trailers, or in a reply of
//! ours. One that ends without a status is in none of the counters. The filter waits for the response, so a request that it counts stays
//! in its epoch until the response is through; requests that are not gRPC's are passed on as if this filter were not there.

mod counted;
mod settings;

use std::rc::Rc;

use super::grpc;
use super::grpc::calls::Calls;
use crate::config::extension::HttpFilterKind;
use crate::http::body::Body;
use crate::http::filter::{Answer, Building, Extension, Filter, Next, Request};

use counted::{Counted, Way};
use settings::GrpcStats;

/// How it comes into being.
pub(super) const EXTENSION: Extension = Extension {
    kind: HttpFilterKind {
        type_name: "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig",
        settings: settings::read,
        route: None,
    },
    build,
};

fn build(with: &Building<'_>) -> Result<Rc<dyn Filter>, String> {
    let settings: &GrpcStats = with.model.settings.get().ok_or("has no settings of its own")?;
    let calls = Calls::new(with.scope, "grpc", settings.apart.clone());
    Ok(Rc::new(Counts { calls, times: settings.enable_upstream_stats }))
}

struct Counts {
    calls: Calls,
    /// How long hosts took is counted too.
    times: bool,
}

impl Filter for Counts {
    fn call<'a>(&'a self, mut request: Request<'a>, next: Next<'a>) -> Answer<'a> {
        let head = &request.head;
        let cluster = next.cluster().filter(|_| head.is_grpc() && !next.may_become_tunnel());
        let Some(counters) = cluster.and_then(|cluster| self.calls.of(&cluster, head.path_without_query())) else {
            return next.run(request);
        };
        if !matches!(request.body, Body::Empty) {
            request.body = Counted::around(request.body, counters.clone(), Way::Request);
        }
        let replied = counters.clone();
        next.stream().record().on_reply(Rc::new(move |reply| {
            if let Some(status) = grpc::status(&reply.head.headers) {
                replied.ended(status);
            }
        }));
        Answer::later(async move {
            let mut response = next.run(request).await?;
            if response.local || matches!(response.body, Body::Tunnel(_)) {
                return Ok(response);
            }
            if let Some(status) = grpc::status(&response.head.headers) {
                counters.ended(status);
            }
            let ends = response.body.length() == Some(0);
            let timed = self.times.then(|| next.stream().record());
            if ends {
                timed.into_iter().for_each(|record| counted::time(&counters, record));
            } else {
                let way = Way::Response { counts: grpc::is_response(&response.head, false), timed };
                response.body = Counted::around(response.body, counters, way);
            }
            Ok(response)
        })
    }
}
