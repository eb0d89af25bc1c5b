//! What a retry policy comes to, and what it may not say.

use std::sync::Arc;

use super::*;
use crate::config::model::*;
use crate::config::{LoadOptions, Loaded, Source, load};

/// One virtual host with these fields, one route of which the action has these, and a cluster with these.
fn yaml(host: &str, route: &str, action: &str, cluster: &str) -> String {
    format!(
        r#"
static_resources:
  clusters:
  - name: app
    {cluster}
  listeners:
  - name: front
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: front
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              {host}
              routes:
              - match: {{ prefix: / }}
                {route}
                route:
                  cluster: app
                  {action}
"#
    )
}

fn loaded(yaml: String) -> Result<Loaded, crate::config::Faults> {
    load(&Source { path: None, yaml: Some(yaml) }, &LoadOptions::default())
}

fn tries(host: &str, route: &str, action: &str) -> Arc<Tries> {
    let loaded = loaded(yaml(host, route, action, "")).unwrap_or_else(|faults| panic!("{faults}"));
    let NetworkFilter::HttpConnectionManager(manager) = &loaded.bootstrap.listeners[0].filter_chains[0].filters[0]
    else {
        panic!("no connection manager");
    };
    match &manager.routes.virtual_hosts[0].routes[0].action {
        RouteAction::Forward(forward) => forward.tries.clone(),
        other => panic!("{other:?}"),
    }
}

/// The only fault of a policy, without its place.
fn fault(policy: &str) -> String {
    let faults = loaded(yaml("", "", &format!("retry_policy: {policy}"), "")).unwrap_err().to_string();
    let place = "--config-yaml:28:";
    let path = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config.route_config.virtual_hosts[0]\
                .routes[0].route.retry_policy";
    assert!(faults.starts_with(place) && faults.trim_end().lines().count() == 1, "{faults}");
    let (_, text) = faults.split_once(path).unwrap_or_else(|| panic!("{faults}"));
    text.trim_end().to_owned()
}

#[test]
fn without_a_policy_there_are_no_retries() {
    assert_eq!(*tries("", "", ""), Tries::default());
    assert!(Tries::default().policy.on.is_empty());
}

#[test]
fn every_field_has_its_value() {
    let seconds = Duration::from_secs;
    let found = tries(
        "",
        "",
        r#"retry_policy:
                    retry_on: "5xx, connect-failure,unavailable"
                    num_retries: 4
                    per_try_timeout: 2s
                    per_try_idle_timeout: 1s
                    retry_back_off: { base_interval: 3s }
                    rate_limited_retry_back_off:
                      max_interval: 7s
                      reset_headers: [ { name: Retry-After }, { name: x-reset, format: UNIX_TIMESTAMP } ]
                    retriable_status_codes: [409, 999]
                    retriable_headers:
                    - { name: X-Again }
                    - { name: yy, range_match: { start: 1, end: 9 }, invert_match: true }
                    retriable_request_headers: [ { name: z, string_match: { prefix: AB, ignore_case: true } } ]
                    host_selection_retry_max_attempts: 6
                    refresh_cluster_on_retry: true
                    retry_host_predicate:
                    - name: envoy.retry_host_predicates.previous_hosts
                      typed_config:
                        "@type": type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"#,
    );
    let header = |name: &str, pattern, invert| {
        let field = HeadField::named(name).unwrap();
        HeaderMatch { field, pattern, invert, missing_is_empty: false }
    };
    let prefix = StringMatch { pattern: StringPattern::Prefix("AB".into()), ignore_case: true };
    let expected = RetryPolicy {
        on: RetryOn::STATUS_5XX.or(RetryOn::CONNECT_FAILURE).or(RetryOn::GRPC_UNAVAILABLE),
        retries: 4,
        per_try_timeout: Some(seconds(2)),
        per_try_idle_timeout: Some(seconds(1)),
        base_interval: seconds(3),
        max_interval: seconds(30),
        base_ms: 0.into(),
        reset_headers: vec![
            ResetHeader { name: "retry-after".into(), is_timestamp: false },
            ResetHeader { name: "x-reset".into(), is_timestamp: true },
        ],
        reset_max_interval: seconds(7),
        status_codes: vec![409, 999],
        headers: vec![
            header("x-again", HeaderPattern::Present(true), false),
            header("yy", HeaderPattern::Range { start: 1, end: 9 }, true),
        ],
        request_headers: vec![header("z", HeaderPattern::Text(prefix), false)],
        avoid_previous_hosts: true,
        host_attempts: 6,
    };
    assert_eq!(found.policy, expected);
}

#[test]
fn the_route_goes_before_its_virtual_host() {
    let host = "retry_policy: { retry_on: reset, num_retries: 9 }\n              \
                include_request_attempt_count: true\n              request_body_buffer_limit: 100";
    let of_host = tries(host, "", "");
    assert_eq!((of_host.policy.on, of_host.policy.retries), (RetryOn::RESET, 9));
    assert!(of_host.count_in_request && !of_host.count_in_response);
    assert_eq!((of_host.body_limit, of_host.request_limit), (Some(100), None));
    let of_route = tries(host, "per_request_buffer_limit_bytes: 7", "retry_policy: { retry_on: 5xx }");
    assert_eq!((of_route.policy.on, of_route.policy.retries), (RetryOn::STATUS_5XX, 1), "as a whole");
    assert!(of_route.count_in_request);
    assert_eq!((of_route.body_limit, of_route.request_limit), (None, Some(7)));
}

#[test]
fn circuit_breakers_of_retries() {
    let cluster =
        "circuit_breakers: { thresholds: [ { max_retries: 7, retry_budget: { budget_percent: { value: 12.5 } } } ] }";
    let loaded = loaded(yaml("", "", "", cluster)).unwrap();
    let limits = loaded.bootstrap.clusters[0].limits;
    assert_eq!(limits.max_retries, 7);
    assert_eq!(limits.retry_budget, Some(RetryBudget { percent: 12.5, min_concurrency: 3 }));
}

#[test]
fn a_condition_that_does_not_exist_is_passed_over_with_a_word() {
    let loaded = loaded(yaml("", "", "retry_policy: { retry_on: '5xx,conect-failure' }", "")).unwrap();
    let [warning] = &loaded.warnings[..] else { panic!("{:?}", loaded.warnings) };
    let text = warning.to_string();
    assert!(
        text.contains(":28:")
            && text.ends_with("retry_on: there is no condition 'conect-failure': nothing is retried for it"),
        "{text}"
    );
}

#[test]
fn what_a_policy_may_not_say() {
    let mut wrong = Vec::new();
    let refused = ": is not supported yet, and ignoring it would change traffic or security";
    let named = |name: &str, type_: &str| {
        format!("{{ name: {name}, typed_config: {{ '@type': type.googleapis.com/envoy.extensions.retry.{type_} }} }}")
    };
    for (policy, expected) in [
        ("{ retry_back_off: { base_interval: 2s, max_interval: 1s } }".to_owned(), ".retry_back_off.max_interval: must be greater than or equal to the base_interval".to_owned()),
        ("{ retry_back_off: { base_interval: 0s } }".into(), ".retry_back_off.base_interval: must be > 0s, is 0s".into()),
        ("{ retry_back_off: {} }".into(), ".retry_back_off.base_interval: is required".into()),
        ("{ per_try_timeout: -1s }".into(), ".per_try_timeout: must be a positive duration".into()),
        ("{ rate_limited_retry_back_off: {} }".into(), ".rate_limited_retry_back_off.reset_headers: must have at least 1 items, has 0".into()),
        ("{ retriable_headers: [ { name: a, safe_regex_match: { regex: '((' } } ] }".into(), ".retriable_headers[0].safe_regex_match.regex: not a regular expression: unclosed group".into()),
        (
            "{ retriable_headers: [ { name: a, string_match: { ignore_case: true, safe_regex: { regex: a } } } ] }".into(),
            ".retriable_headers[0].string_match.ignore_case: has no effect on safe_regex".into(),
        ),
        (format!("{{ retry_priority: {} }}", named("p", "priority.previous_priorities.v3.PreviousPrioritiesConfig, update_frequency: 2")), format!(".retry_priority{refused}")),
        (
            format!("{{ retry_host_predicate: [ {} ] }}", named("p", "host.omit_canary_hosts.v3.OmitCanaryHostsPredicate")),
            ".retry_host_predicate[0].typed_config: the retry host predicate envoy.extensions.retry.host.omit_canary_hosts.v3.OmitCanaryHostsPredicate is not supported yet; known: envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate".into(),
        ),
        (
            "{ retry_host_predicate: [ { name: envoy.retry_host_predicates.previous_hosts } ] }".into(),
            ".retry_host_predicate[0].typed_config: 'envoy.retry_host_predicates.previous_hosts' has no \"@type\" that would say which retry host predicate it is; known: envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate".into(),
        ),
    ] {
        let found = fault(&policy);
        if found != expected {
            wrong.push(format!("{policy}: {found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let both = "per_request_buffer_limit_bytes: 1\n                request_body_buffer_limit: 2";
    let warnings = loaded(yaml("", both, "", "")).unwrap().warnings;
    let text = "per_request_buffer_limit_bytes: has no effect beside request_body_buffer_limit";
    assert!(warnings.iter().any(|warning| warning.to_string().ends_with(text)), "{warnings:?}");
    let percent = "circuit_breakers: { thresholds: [ { retry_budget: { budget_percent: { value: 101 } } } ] }";
    let text = loaded(yaml("", "", "", percent)).unwrap_err().to_string();
    assert!(
        text.contains(":5:") && text.contains("thresholds[0].retry_budget.budget_percent.value: must be"),
        "{text}"
    );
}
