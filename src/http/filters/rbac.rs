//! `envoy.filters.http.rbac`: who may do what.
//!
//! Rules decide, or a matcher in their place; shadow rules only count. What a route says replaces the rules of the chain; one
//! that says nothing of rules leaves the request alone. The statistics are always those of the chain. The results of both stand
//! in the dynamic metadata. The filter looks at heads and connections alone and hands the request on as it is: one in flight can move to
//! another epoch.

mod matching;
mod settings;

use std::rc::Rc;

use super::denial::{self, Denial};
use super::owned::Owned;
use crate::config::extension::{HttpFilterKind, RouteKind};
use crate::config::model::Settings;
use crate::http::filter::{Answer, Building, Extension, Filter, Next, Request};
use crate::http::record::Record;
use crate::stats::Scope;
use crate::stats::names::{self, RbacShadowStats, RbacStats};

use matching::{Asked, Judge, Verdict};
use settings::{Basis, Control};

/// Where the results stand.
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

/// A worker's part of settings.
struct Own {
    rules: Option<Bench<RbacStats>>,
    shadow: Option<Bench<RbacShadowStats>>,
}

/// What decides, and where its policies are counted.
struct Bench<S> {
    judge: Judge,
    /// By policy; empty where they are not counted.
    policies: Vec<S>,
    /// Where the name of the policy, and the result, stand in the metadata.
    keys: [String; 2],
}

impl<S> Bench<S> {
    fn new(basis: &Basis, is_counted: bool, prefix: &str, stats: impl Fn(&str) -> S) -> Self {
        let judge = Judge::new(basis);
        let policies = judge.names.iter().filter(|_| is_counted).map(|name| stats(name)).collect();
        let keys = ["effective_policy_id", "engine_result"].map(|name| format!("{prefix}{name}"));
        Self { judge, policies, keys }
    }

    /// Leaves what has been judged.
    fn tell(&self, verdict: Verdict, record: &Record) {
        let [policy, result] = &self.keys;
        if let Some(name) = self.name(verdict.policy) {
            record.set_metadata(METADATA, policy, name.into());
        }
        record.set_metadata(METADATA, result, if verdict.allowed { "allowed" } else { "denied" }.into());
    }

    fn name(&self, policy: Option<usize>) -> Option<&str> {
        self.judge.names.get(policy?).map(String::as_str)
    }
}

impl Own {
    fn new(control: &Control, rules_scope: &Scope, shadow_scope: &Scope) -> Self {
        let rules = |name: &str| RbacStats::new(&names::rbac_policy(rules_scope, name));
        let shadow = |name: &str| RbacShadowStats::new(&names::rbac_policy(shadow_scope, name));
        Self {
            rules: control
                .rules
                .as_ref()
                .map(|basis| Bench::new(basis, control.per_policy, &format!("{}enforced_", control.prefix), rules)),
            shadow: control.shadow.as_ref().map(|basis| {
                Bench::new(basis, control.per_policy, &format!("{}shadow_", control.shadow_prefix), shadow)
            }),
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

    fn shadow(&self, bench: &Bench<RbacShadowStats>, asked: &Asked<'_>) -> Verdict {
        let verdict = bench.judge.judge(asked);
        let of_policy = verdict.policy.and_then(|at| bench.policies.get(at));
        let (counter, of_policy) = if verdict.allowed {
            (&self.shadow_stats.shadow_allowed, of_policy.map(|stats| &stats.shadow_allowed))
        } else {
            (&self.shadow_stats.shadow_denied, of_policy.map(|stats| &stats.shadow_denied))
        };
        counter.inc();
        of_policy.into_iter().for_each(|counter| counter.inc());
        verdict
    }
}

impl Filter for Rbac {
    fn call<'a>(&'a self, request: Request<'a>, next: Next<'a>) -> Answer<'a> {
        let own = self.own(next.route_settings());
        let asked = Asked { head: &request.head, stream: next.stream() };
        let record = next.stream().record();
        let shadow = own.shadow.as_ref().map(|bench| (bench, self.shadow(bench, &asked)));
        let tell_shadow = || shadow.iter().for_each(|(bench, verdict)| bench.tell(*verdict, record));
        let Some(bench) = &own.rules else {
            tell_shadow();
            return next.run(request);
        };
        let verdict = bench.judge.judge(&asked);
        let Verdict { allowed, policy, hint } = verdict;
        let of_policy = policy.and_then(|at| bench.policies.get(at));
        if let Some(hint) = hint {
            record.set_metadata(COMMON, "access_log_hint", hint.into());
        }
        if allowed {
            self.stats.allowed.inc();
            of_policy.into_iter().for_each(|stats| stats.allowed.inc());
            tell_shadow();
            bench.tell(verdict, record);
            return next.run(request);
        }
        self.stats.denied.inc();
        of_policy.into_iter().for_each(|stats| stats.denied.inc());
        let name = bench.name(policy).unwrap_or("none");
        // An access log's line is split at blanks.
        let name = name.replace(|letter: char| letter.is_whitespace() || letter.is_control(), "_");
        let details = format!("rbac_access_denied_matched_policy[{name}]");
        let denial = Denial { status: 403, grpc_status: None, body: "RBAC: access denied", details: &details };
        let mut response = denial::reply(&denial, &request.head, next.stream());
        next.pass_over(&mut response);
        // As in Envoy, where the reply is made first.
        tell_shadow();
        bench.tell(verdict, record);
        Answer::later(std::future::ready(Ok(response)))
    }
}
