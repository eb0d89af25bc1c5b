//! Filters that work on some requests only, and filters that the request decides on.

use crate::motion::moves_past;
use crate::support::configured::{faults, place, start, text};
use crate::support::proxy::Proxy;

const ANYWHERE: ([u8; 4], u16) = ([127, 0, 0, 1], 1);
const HELLO: &str =
    "routes: [{ match: { prefix: / }, direct_response: { status: 200, body: { inline_string: hello } } }]";
const BY: &str = "input: { name: i, typed_config: { \"@type\": type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput, header_name: x-by } }";
const SKIP: &str = "action: { name: a, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.filters.common.matcher.action.v3.SkipFilter } }";

/// A filter that denies all, with a prefix of its own for what it counts.
fn deny(prefix: &str) -> String {
    format!("{{ name: {prefix}, typed_config: {{ \"@\": rbac.v3.RBAC, rules: {{}}, rules_stat_prefix: {prefix} }} }}")
}

fn pass(prefix: &str) -> String {
    format!(
        "{{ name: {prefix}, typed_config: {{ \"@\": rbac.v3.RBAC, rules: {{ action: DENY }}, rules_stat_prefix: {prefix} }} }}"
    )
}

fn execute(what: &str) -> String {
    format!("{{ action: {{ name: a, typed_config: {{ \"@\": composite.v3.ExecuteFilterAction, {what} }} }} }}")
}

/// By the value of `x-by`.
fn tree(map: &[(&str, &str)]) -> String {
    let map: Vec<String> = map.iter().map(|(key, then)| format!("{key}: {then}")).collect();
    format!("{{ matcher_tree: {{ {BY}, exact_match_map: {{ map: {{ {} }} }} }} }}", map.join(", "))
}

fn begin(filters: &str, host: &str) -> Proxy {
    start(text(filters, host, ANYWHERE.into()))
}

fn status(proxy: &Proxy, path: &str, by: &str) -> u16 {
    let mut client = proxy.connect();
    client.send(format!("GET {path} HTTP/1.1\r\nhost: a.test\r\nx-by: {by}\r\n\r\n"));
    client.response().status()
}

fn denied(proxy: &Proxy, prefix: &str) -> u64 {
    proxy.counter(&format!("http.test.rbac.{prefix}.denied"))
}

#[test]
fn a_filter_is_left_out_where_the_matcher_says_so() {
    let matcher = tree(&[("friend", &format!("{{ {SKIP} }}"))]);
    let filters = format!(
        "- name: m\n  typed_config: {{ \"@type\": type.googleapis.com/envoy.extensions.common.matching.v3.ExtensionWithMatcher, \
         extension_config: {}, xds_matcher: {matcher} }}\n",
        deny("in")
    );
    let other = tree(&[("brother", &format!("{{ {SKIP} }}"))]);
    let host = format!(
        "routes:\n- match: {{ prefix: /other }}\n  direct_response: {{ status: 200 }}\n  typed_per_filter_config: {{ m: {{ \"@type\": \
         type.googleapis.com/envoy.extensions.common.matching.v3.ExtensionWithMatcherPerRoute, xds_matcher: {other} }} }}\n- match: \
         {{ prefix: / }}\n  direct_response: {{ status: 200 }}\n"
    );
    let proxy = begin(&filters, &host);
    assert_eq!([status(&proxy, "/", "friend"), status(&proxy, "/", "brother")], [200, 403]);
    assert_eq!([status(&proxy, "/other", "friend"), status(&proxy, "/other", "brother")], [403, 200]);
    assert_eq!(denied(&proxy, "in"), 2);
}

#[test]
fn the_request_decides_which_filters_work_on_it() {
    let none = "sample_percent: { default_value: { numerator: 0 } }";
    let named = execute("filter_chain_name: all");
    let matcher = tree(&[
        ("one", &execute(&format!("typed_config: {}", deny("one")))),
        ("never", &execute(&format!("{none}, typed_config: {}", deny("one")))),
        ("chain", &execute(&format!("filter_chain: {{ typed_config: [{}, {}] }}", pass("first"), deny("second")))),
        ("through", &execute(&format!("filter_chain: {{ typed_config: [{}, {}] }}", pass("first"), pass("third")))),
        ("named", &named),
        ("nobody", &execute("filter_chain_name: nobody")),
    ]);
    let filters = format!(
        "- name: c\n  typed_config: {{ \"@\": composite.v3.Composite, named_filter_chains: {{ all: {{ typed_config: [{}] }} }}, matcher: {matcher} }}\n- \
         name: last\n  typed_config: {{ \"@\": rbac.v3.RBAC, rules: {{ action: DENY }}, rules_stat_prefix: last }}\n",
        deny("named")
    );
    let on_route = tree(&[("route", &execute(&format!("typed_config: {}", deny("routed")))), ("known", &named)]);
    let host = format!(
        "routes:\n- match: {{ prefix: /own }}\n  direct_response: {{ status: 200 }}\n  typed_per_filter_config: {{ c: {{ \"@\": \
         composite.v3.CompositePerRoute, matcher: {on_route} }} }}\n- match: {{ prefix: / }}\n  direct_response: {{ status: 200 }}\n"
    );
    let proxy = begin(&filters, &host);
    let of = |by: &str| status(&proxy, "/", by);
    assert_eq!([of("one"), of("never"), of("chain"), of("through")], [403, 200, 403, 200]);
    assert_eq!([of("named"), of("nobody"), of("else")], [403, 200, 200]);
    let count = |name: &str| proxy.counter(&format!("http.test.composite.filter_delegation_{name}"));
    assert_eq!((count("success"), count("error")), (4, 0));
    assert_eq!(["one", "second", "named"].map(|prefix| denied(&proxy, prefix)), [1, 1, 1]);
    let allowed = |prefix: &str| proxy.counter(&format!("http.test.rbac.{prefix}.allowed"));
    assert_eq!(["first", "third", "last"].map(allowed), [2, 1, 4], "who gets through goes on behind the composite");
    let own = |by: &str| status(&proxy, "/own", by);
    assert_eq!([own("route"), own("route"), own("known"), own("one")], [403, 403, 403, 200]);
    assert_eq!((denied(&proxy, "routed"), count("success")), (2, 7));
}

#[test]
fn a_composite_within_a_delegate_has_its_matcher() {
    let matcher =
        tree(&[("one", &execute(&format!("typed_config: {}", deny("one")))), ("skip", &format!("{{ {SKIP} }}"))]);
    let filters = format!(
        "- name: m\n  typed_config: {{ \"@type\": type.googleapis.com/envoy.extensions.common.matching.v3.ExtensionWithMatcher, \
         extension_config: {{ name: c, typed_config: {{ \"@\": composite.v3.Composite }} }}, xds_matcher: {matcher} }}\n"
    );
    let proxy = begin(&filters, HELLO);
    assert_eq!(["one", "skip", "else"].map(|by| status(&proxy, "/", by)), [403, 200, 200]);
    assert_eq!(proxy.counter("http.test.composite.filter_delegation_success"), 1);
}

#[test]
fn a_request_moves_past_filters_that_it_has_decided_on() {
    let matcher = format!(
        "{{ on_no_match: {} }}",
        execute(&format!("filter_chain: {{ typed_config: [{}, {}] }}", pass("a"), pass("b")))
    );
    let filters = format!("- name: c\n  typed_config: {{ \"@\": composite.v3.Composite, matcher: {matcher} }}\n");
    let filters = filters.replace("\"@\": ", "\"@type\": type.googleapis.com/envoy.extensions.filters.http.");
    let (from, _) = moves_past(&filters);
    assert_eq!(from.counter("http.test.composite.filter_delegation_success"), 1);
}

#[test]
fn faults_have_their_place() {
    let of = |matcher: &str| {
        faults(&format!("- name: c\n  typed_config: {{ \"@\": composite.v3.Composite, matcher: {matcher} }}\n"), HELLO)
    };
    let place = place(0);
    let action = "matcher.on_no_match.action.typed_config";
    let router = "{ name: r, typed_config: { \"@\": router.v3.Router } }";
    let within = format!(
        "filter_chain: {{ typed_config: [{{ name: c, typed_config: {{ \"@\": composite.v3.Composite }} }}, {}] }}",
        pass("a")
    );
    for (what, fault) in [
        ("sample_percent: { default_value: { numerator: 1 } }".to_owned(), format!("{action}: one of typed_config, filter_chain and filter_chain_name must be set")),
        (format!("filter_chain_name: a, typed_config: {}", pass("a")), format!("{action}: only one of ")),
        ("dynamic_config: { name: a }".to_owned(), format!("{action}.dynamic_config: is not supported yet")),
        (format!("typed_config: {router}"), format!("{action}.typed_config.typed_config: the HTTP filter envoy.extensions.filters.http.router.v3.Router is not supported here")),
        (within, format!("{action}.filter_chain.typed_config[0]: a filter that leads to further filters is not supported within a filter chain")),
        (
            "typed_config: { name: r, typed_config: { \"@\": rbac.v3.RBAC, rules: { policies: { it: { permissions: [{ url_path: { path: { safe_regex: { regex: \"(\" } } } }], principals: [{ any: true }] } } } } }".to_owned(),
            format!("{action}.typed_config.typed_config.rules.policies.it.permissions[0].url_path.path.safe_regex.regex: not a regular expression"),
        ),
    ] {
        let told = of(&format!("{{ on_no_match: {} }}", execute(&what)));
        assert!(told.contains(&format!("{place}.{fault}")), "{fault} is not in\n{told}");
    }
    let told = of(
        "{ on_no_match: { action: { name: a, typed_config: { \"@type\": type.googleapis.com/envoy.config.rbac.v3.Action, name: a } } } }",
    );
    assert!(told.contains("the action envoy.config.rbac.v3.Action is not supported here; known: "), "{told}");
    let told = of(&format!(
        "{{ on_no_match: {} }}",
        execute("filter_chain_name: a").replacen("{ ", "{ keep_matching: true, ", 1)
    ));
    assert!(told.contains("on_no_match.keep_matching: keep_matching is not supported in this context"), "{told}");
}
