//! `envoy.filters.http.rbac`: who may do what.
//!
//! Rules decide, shadow rules only count and leave their result as dynamic metadata. What a route says replaces the rules of the chain; one
//! that says nothing of rules leaves the request alone. The statistics are always those of the chain. The filter looks at heads and connections
//! alone and hands the request on as it is: one in flight can move to another epoch, but for a request that shadow rules or
//! those of action `LOG` have looked at, because its metadata would be lost.

mod matching;
mod settings;

use std::rc::Rc;

use super::denial::{self, Denial};
use super::owned::Owned;
use crate::config::extension::{HttpFilterKind, RouteKind};
use crate::config::model::Settings;
use crate::http::filter::{Answer, Building, Extension, Filter, Next, Request};
use crate::stats::Scope;
use crate::stats::names::{self, RbacShadowStats, RbacStats};

use matching::{Asked, Verdict};
use settings::{Action, Control, Rules};

/// Where the results of shadow rules stand.
const METADATA: &str = "envoy.filters.http.rbac";

/// Where `LOG` says whether a request is to be logged.
const COMMON: &str = "envoy.common";

/// The filter.
pub(super) const EXTENSION: Extension = Extension {
    kind: HttpFilterKind {
        type_name: "envoy.extensions.filters.http.rbac.v3.RBAC",
        settings: settings::of_chain,
        route: Some(RouteKind {
            type_name: "envoy.extensions.filters.http.rbac.v3.RBACPerRoute",
            settings: settings::of_route,
        }),
    },
    build,
};

fn build(with: &Building<'_>) -> Result<Rc<dyn Filter>, String> {
    let control: &Control = with.model.settings.get().ok_or("has no settings of its own")?;
    let rules_scope = names::rbac(with.scope, &control.prefix);
    let shadow_scope = names::rbac(with.scope, &control.shadow_prefix);
    Ok(Rc::new(Rbac {
        stats: RbacStats::new(&rules_scope),
        shadow_stats: RbacShadowStats::new(&shadow_scope),
        chain: Rc::new(Own::new(control, &rules_scope, &shadow_scope)),
        routes: Owned::default(),
        rules_scope,
        shadow_scope,
    }))
}

struct Rbac {
    stats: RbacStats,
    shadow_stats: RbacShadowStats,
    chain: Rc<Own>,
    routes: Owned<Own>,
    rules_scope: Scope,
    shadow_scope: Scope,
}

/// A worker's part of settings: expressions have caches of their own.
struct Own {
    control: Control,
    /// By policy, where they are counted.
    policies: Vec<RbacStats>,
    shadow_policies: Vec<RbacShadowStats>,
}

impl Own {
    fn new(control: &Control, rules_scope: &Scope, shadow_scope: &Scope) -> Self {
        let names = |rules: &Option<Rules>| {
            let counted = rules.iter().filter(|_| control.per_policy).flat_map(|rules| &rules.policies);
            counted.map(|policy| policy.name.clone()).collect::<Vec<_>>()
        };
        let policy = |name: String| RbacStats::new(&names::rbac_policy(rules_scope, &name));
        let shadow_policy = |name: String| RbacShadowStats::new(&names::rbac_policy(shadow_scope, &name));
        Self {
            policies: names(&control.rules).into_iter().map(policy).collect(),
            shadow_policies: names(&control.shadow).into_iter().map(shadow_policy).collect(),
            control: control.clone(),
        }
    }
}

impl Rbac {
    /// The settings that hold for a request.
    fn own(&self, said: Option<Settings>) -> Rc<Own> {
        let make = |said: &Settings| Some(Own::new(said.get()?, &self.rules_scope, &self.shadow_scope));
        let own = said.and_then(|said| self.routes.get::<Control>(&said, || make(&said)));
        own.unwrap_or_else(|| self.chain.clone())
    }

    fn shadow(&self, own: &Own, rules: &Rules, asked: &Asked<'_>) {
        let Verdict { allowed, policy } = matching::judge(rules, asked);
        let of_policy = policy.and_then(|at| own.shadow_policies.get(at));
        let (counter, of_policy) = if allowed {
            (&self.shadow_stats.shadow_allowed, of_policy.map(|stats| &stats.shadow_allowed))
        } else {
            (&self.shadow_stats.shadow_denied, of_policy.map(|stats| &stats.shadow_denied))
        };
        counter.inc();
        of_policy.into_iter().for_each(|counter| counter.inc());
        let record = asked.stream.record();
        let key = |name: &str| format!("{}{name}", own.control.shadow_prefix);
        if let Some(policy) = policy.and_then(|at| rules.policies.get(at)) {
            record.set_metadata(METADATA, &key("shadow_effective_policy_id"), policy.name.as_str().into());
        }
        let result = if allowed { "allowed" } else { "denied" };
        record.set_metadata(METADATA, &key("shadow_engine_result"), result.into());
    }
}

impl Filter for Rbac {
    fn call<'a>(&'a self, request: Request<'a>, next: Next<'a>) -> Answer<'a> {
        let own = self.own(next.route_settings());
        let asked = Asked { head: &request.head, stream: next.stream() };
        if let Some(rules) = &own.control.shadow {
            self.shadow(&own, rules, &asked);
        }
        let Some(rules) = &own.control.rules else { return next.run(request) };
        let Verdict { allowed, policy } = matching::judge(rules, &asked);
        let of_policy = policy.and_then(|at| own.policies.get(at));
        if rules.action == Action::Log {
            next.stream().record().set_metadata(COMMON, "access_log_hint", policy.is_some().into());
        }
        if allowed {
            self.stats.allowed.inc();
            of_policy.into_iter().for_each(|stats| stats.allowed.inc());
            return next.run(request);
        }
        self.stats.denied.inc();
        of_policy.into_iter().for_each(|stats| stats.denied.inc());
        let name = policy.and_then(|at| rules.policies.get(at)).map_or("none", |policy| &policy.name);
        // An access log's line is split at blanks.
        let name = name.replace(|letter: char| letter.is_whitespace() || letter.is_control(), "_");
        let details = format!("rbac_access_denied_matched_policy[{name}]");
        let denial = Denial { status: 403, grpc_status: None, body: "RBAC: access denied", details: &details };
        let mut response = denial::reply(&denial, &request.head, next.stream());
        next.pass_over(&mut response);
        Answer::later(std::future::ready(Ok(response)))
    }
}
