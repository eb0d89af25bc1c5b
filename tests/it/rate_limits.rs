//! Descriptors: what routes, virtual hosts and the local rate limit itself make of requests, and the buckets of each.

use crate::support::configured::{faults, place, read, start, text};
use crate::support::origin::{Origin, ok};
use crate::support::proxy::Proxy;
use crate::support::wire::Message;

/// The filter with these settings; nothing fills within a test.
fn limit(settings: &str) -> String {
    format!(
        "- name: lim\n  typed_config: {{ \"@\": local_ratelimit.v3.LocalRateLimit, stat_prefix: lim, \
         enable_x_ratelimit_headers: DRAFT_VERSION_03, filter_enabled: {{ default_value: {{ numerator: 100 }} }}, \
         filter_enforced: {{ default_value: {{ numerator: 100 }} }}, {settings} }}\n"
    )
}

fn bucket(tokens: u32) -> String {
    format!("token_bucket: {{ max_tokens: {tokens}, fill_interval: 3600s }}")
}

fn rule(entries: &str, tokens: u32) -> String {
    format!("{{ entries: [{entries}], {} }}", bucket(tokens))
}

/// A virtual host with these fields, and rate limits of its one route.
fn host(fields: &str, route: &str) -> String {
    format!("{fields}\nroutes: [{{ match: {{ prefix: / }}, route: {{ cluster: origin, {route} }} }}]\n")
}

const GENERIC: &str = "{ actions: [{ generic_key: { descriptor_value: a } }] }";
const BY_USER: &str = "{ actions: [{ request_headers: { header_name: x-user, descriptor_key: user } }] }";

struct Limited {
    proxy: Proxy,
    _origin: Origin,
}

impl Limited {
    fn new(settings: &str, host: &str) -> Self {
        let origin = Origin::http(|_| ok("hello"));
        // Some of it is deprecated, which is a warning.
        let loaded = read(text(&limit(settings), host, origin.address)).unwrap_or_else(|faults| panic!("{faults}"));
        let clusters = loaded.bootstrap.clusters.iter().map(|cluster| (**cluster).clone()).collect();
        Self { proxy: Proxy::start_with((*loaded.bootstrap.listeners[0]).clone(), clusters, &[]), _origin: origin }
    }

    fn ask(&self, head: &str) -> Message {
        let mut client = self.proxy.connect();
        client.send(format!("GET {head}\r\nhost: a.test\r\n\r\n"));
        client.response()
    }

    /// The status, and what is said of the bucket that speaks for it: limit and remaining.
    fn left(&self, head: &str) -> (u16, u32, u32) {
        let response = self.ask(head);
        let number = |name: &str| response.header(name).map_or(0, |value| value.parse().unwrap());
        (response.status(), number("x-ratelimit-limit"), number("x-ratelimit-remaining"))
    }

    fn counted(&self) -> [u64; 5] {
        ["enabled", "ok", "rate_limited", "enforced", "shadow_mode"]
            .map(|name| self.proxy.counter(&format!("lim.http_local_rate_limit.{name}")))
    }
}

const PLAIN: &str = "/ HTTP/1.1";

#[test]
fn a_descriptor_has_a_bucket_of_its_own_and_the_bucket_of_all_counts_too() {
    let rules = format!("descriptors: [{}]", rule("{ key: generic_key, value: a }", 2));
    let routes = host("", &format!("rate_limits: [{GENERIC}]"));
    let both = Limited::new(&format!("{}, {rules}", bucket(10)), &routes);
    assert_eq!([both.left(PLAIN), both.left(PLAIN), both.left(PLAIN)], [(200, 2, 1), (200, 2, 0), (429, 2, 0)]);
    assert_eq!(both.counted(), [3, 2, 1, 1, 0]);
    let small = Limited::new(&format!("{}, {rules}", bucket(1)), &routes);
    assert_eq!([small.left(PLAIN), small.left(PLAIN)], [(200, 2, 1), (429, 1, 0)]);
    let apart = Limited::new(&format!("{}, always_consume_default_token_bucket: false, {rules}", bucket(1)), &routes);
    assert_eq!([apart.left(PLAIN), apart.left(PLAIN), apart.left(PLAIN)], [(200, 2, 1), (200, 2, 0), (429, 2, 0)]);
    let alone = Limited::new(&rules, &routes);
    assert_eq!([alone.left(PLAIN), alone.left(PLAIN), alone.left(PLAIN)], [(200, 2, 1), (200, 2, 0), (429, 2, 0)]);
    let others = Limited::new(&rules, &host("", ""));
    assert_eq!(others.left(PLAIN), (200, 0, 0), "nothing limits it, and nothing is said");
    assert_eq!(others.counted(), [1, 1, 0, 0, 0]);
}

#[test]
fn the_slowest_of_several_speaks_and_a_shadow_only_counts() {
    let routes = host("", &format!("rate_limits: [{GENERIC}, {{ actions: [{{ remote_address: {{}} }}] }}]"));
    let fast = "{ entries: [{ key: remote_address, value: 127.0.0.1 }], token_bucket: { max_tokens: 5, tokens_per_fill: 5, fill_interval: 3600s } }";
    let rules = format!("descriptors: [{fast}, {}]", rule("{ key: generic_key, value: a }", 2));
    let limited = Limited::new(&rules, &routes);
    assert_eq!(
        [limited.left(PLAIN), limited.left(PLAIN), limited.left(PLAIN)],
        [(200, 2, 1), (200, 2, 0), (429, 2, 0)]
    );
    let shadow = rule("{ key: generic_key, value: a }", 1).replace("{ entries", "{ shadow_mode: true, entries");
    let limited = Limited::new(&format!("{}, descriptors: [{shadow}]", bucket(2)), &routes);
    assert_eq!(
        [limited.left(PLAIN), limited.left(PLAIN), limited.left(PLAIN)],
        [(200, 1, 0), (200, 1, 0), (429, 2, 0)]
    );
    assert_eq!(limited.counted(), [3, 1, 2, 1, 1]);
}

#[test]
fn values_left_open_have_a_bucket_each_and_only_the_latest_are_kept() {
    let rules = format!(
        "{}, max_dynamic_descriptors: 2, descriptors: [{}, {}]",
        bucket(100),
        rule("{ key: user }", 1),
        rule("{ key: user, value: vip }", 3),
    );
    let limited = Limited::new(&rules, &host("", &format!("rate_limits: [{BY_USER}]")));
    let of = |user: &str| limited.left(&format!("/ HTTP/1.1\r\nx-user: {user}")).0;
    assert_eq!([of("a"), of("a"), of("b"), of("b")], [200, 429, 200, 429]);
    assert_eq!([of("c"), of("b"), of("a")], [200, 429, 200], "of three, the one that was asked for first is forgotten");
    assert_eq!([of("vip"), of("vip"), of("vip"), of("vip")], [200, 200, 200, 429]);
    assert_eq!(of("z\r\nx-user: y"), 200);
    assert_eq!(of("z"), 429, "the first value counts");
    assert_eq!(limited.left(PLAIN).1, 100, "nobody in particular");
}

#[test]
fn each_connection_has_its_own_buckets_for_descriptors_too() {
    let rules = format!(
        "{}, local_rate_limit_per_downstream_connection: true, descriptors: [{}]",
        bucket(9),
        rule("{ key: user }", 1)
    );
    let limited = Limited::new(&rules, &host("", &format!("rate_limits: [{BY_USER}]")));
    for _ in 0..70 {
        let mut client = limited.proxy.connect();
        let mut of = |user: &str| {
            client.send(format!("GET / HTTP/1.1\r\nhost: a\r\nx-user: {user}\r\n\r\n"));
            client.response().status()
        };
        assert_eq!([of("a"), of("a"), of("b")], [200, 429, 200]);
    }
}

#[test]
fn the_virtual_host_counts_where_the_route_does_not_or_says_so() {
    let rules = format!("descriptors: [{}]", rule("{ key: generic_key, value: a }", 7));
    let others = GENERIC.replace("value: a", "value: z");
    let of_host = format!("rate_limits: [{GENERIC}]");
    let of_route = format!("rate_limits: [{others}]");
    let limit_of = |settings: &str, route: &str| {
        Limited::new(&format!("{}, {rules}, {settings}", bucket(9)), &host(&of_host, route)).left(PLAIN).1
    };
    assert_eq!(limit_of("stage: 0", ""), 7);
    assert_eq!(limit_of("stage: 0", &of_route), 9);
    assert_eq!(limit_of("stage: 0", &format!("{of_route}, include_vh_rate_limits: true")), 7);
    assert_eq!(limit_of("vh_rate_limits: INCLUDE", &of_route), 7);
    assert_eq!(limit_of("vh_rate_limits: IGNORE", ""), 9);
    assert_eq!(limit_of("stage: 1", ""), 9, "they are for another filter");
    let staged = host("", &format!("rate_limits: [{}]", GENERIC.replace("{ actions", "{ stage: 1, actions")));
    assert_eq!(Limited::new(&format!("{}, {rules}, stage: 1", bucket(9)), &staged).left(PLAIN).1, 7);
    let disabled = host("", &format!("rate_limits: [{}]", GENERIC.replace("{ actions", "{ disable_key: x, actions")));
    assert_eq!(Limited::new(&format!("{}, {rules}", bucket(9)), &disabled).left(PLAIN).1, 9);
}

#[test]
fn the_filter_may_make_descriptors_itself_and_count_more_than_once() {
    let rules = format!("descriptors: [{}]", rule("{ key: generic_key, value: a }", 7));
    let own = |more: &str| {
        let own = GENERIC.replace("{ actions", &format!("{{ {more}, actions"));
        Limited::new(&format!("{}, {rules}, rate_limits: [{own}]", bucket(9)), &host("", ""))
    };
    let three = own("hits_addend: { number: 3 }");
    assert_eq!([three.left(PLAIN), three.left(PLAIN), three.left(PLAIN)], [(200, 7, 4), (200, 7, 1), (429, 7, 1)]);
    let given = own("hits_addend: { format: \"%REQ(x-n)%\" }");
    assert_eq!(given.left("/ HTTP/1.1\r\nx-n: 2"), (200, 7, 5));
    assert_eq!(given.left("/ HTTP/1.1\r\nx-n: many"), (200, 9, 7), "no number, no descriptor");
    let back = own("hits_addend: { number: 2, is_negative_hits: true }");
    assert_eq!(back.left(PLAIN), (200, 7, 7));
    assert_eq!(own("x_ratelimit_option: \"OFF\"").left(PLAIN), (200, 0, 0));
}

#[test]
fn actions_are_what_they_say() {
    let metadata = "- name: md\n  typed_config: { \"@\": set_metadata.v3.Config, metadata: [{ metadata_namespace: ns, value: { who: me } }] }\n";
    let input =
        "{ \"@type\": type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput, header_name: x-user }";
    for (action, entry) in [
        ("source_cluster: {}", "{ key: source_cluster, value: service }"),
        ("destination_cluster: {}", "{ key: destination_cluster, value: origin }"),
        ("request_headers: { header_name: \":path\", descriptor_key: p }", "{ key: p, value: \"/a?q=x%20y\" }"),
        ("query_parameters: { query_parameter_name: q, descriptor_key: q }", "{ key: q, value: x y }"),
        ("remote_address: {}", "{ key: remote_address, value: 10.1.2.3 }"),
        ("masked_remote_address: { v4_prefix_mask_len: 16 }", "{ key: masked_remote_address, value: 10.1.0.0/16 }"),
        ("generic_key: { descriptor_key: k, descriptor_value: v }", "{ key: k, value: v }"),
        (
            "header_value_match: { descriptor_value: v, headers: [{ name: x-user, string_match: { exact: me } }] }",
            "{ key: header_match, value: v }",
        ),
        (
            "header_value_match: { descriptor_value: v, expect_match: false, headers: [{ name: x-no }] }",
            "{ key: header_match, value: v }",
        ),
        (
            "query_parameter_value_match: { descriptor_value: v, query_parameters: [{ name: q, present_match: true }] }",
            "{ key: query_match, value: v }",
        ),
        (
            "remote_address_match: { descriptor_value: v, address_matcher: { ranges: [{ address_prefix: 10.0.0.0, prefix_len: 8 }] } }",
            "{ key: remote_address_match, value: v }",
        ),
        ("metadata: { descriptor_key: m, metadata_key: { key: ns, path: [{ key: who }] } }", "{ key: m, value: me }"),
        (
            "metadata: { descriptor_key: m, source: ROUTE_ENTRY, metadata_key: { key: of, path: [{ key: r }] } }",
            "{ key: m, value: route }",
        ),
        (
            "metadata: { descriptor_key: m, default_value: d, metadata_key: { key: ns, path: [{ key: none }] } }",
            "{ key: m, value: d }",
        ),
        (&format!("extension: {{ name: e, typed_config: {input} }}"), "{ key: e, value: me }"),
    ] {
        let filters = format!("{metadata}{}", limit(&format!("{}, descriptors: [{}]", bucket(9), rule(entry, 7))));
        let routes = host("", &format!("rate_limits: [{{ actions: [{{ {action} }}] }}]"))
            .replace("[{ match", "[{ metadata: { filter_metadata: { of: { r: route } } }, match");
        let origin = Origin::http(|_| ok("hello"));
        let limited = Limited { proxy: start(text(&filters, &routes, origin.address)), _origin: origin };
        let head = "/a?q=x%20y HTTP/1.1\r\nx-user: me\r\nx-forwarded-for: 10.1.2.3";
        assert_eq!(limited.left(head), (200, 7, 6), "{action}");
    }
}

#[test]
fn faults_have_their_place() {
    let filters = limit(&bucket(1));
    let of = |limits: &str| faults(&filters, &host("", &format!("rate_limits: [{limits}]")));
    let place = "routes[0].route.rate_limits[0]";
    for (limits, fault) in [
        ("{ actions: [] }", ".actions: "),
        (
            "{ actions: [{ request_headers: { header_name: \"a b\", descriptor_key: k } }] }",
            ".actions[0].request_headers.header_name: ",
        ),
        (
            "{ actions: [{ metadata: { descriptor_key: k, source: CLUSTER_ENTRY, metadata_key: { key: a, path: [{ key: b }] } } }] }",
            ".actions[0].metadata.source: metadata of clusters and hosts are not supported here yet",
        ),
        (
            "{ actions: [{ extension: { name: e, typed_config: { \"@type\": type.googleapis.com/xds.type.matcher.v3.HttpAttributesCelMatchInput } } }] }",
            ".actions[0].extension.typed_config: the matching input xds.type.matcher.v3.HttpAttributesCelMatchInput is not supported yet",
        ),
        (
            "{ hits_addend: {}, actions: [{ remote_address: {} }] }",
            ".hits_addend: one of number and format must be set",
        ),
        (
            "{ hits_addend: { format: \"%REQ(a)%%REQ(b)%\" }, actions: [{ remote_address: {} }] }",
            ".hits_addend.format: must be one command operator and nothing else",
        ),
    ] {
        let told = of(limits);
        assert!(told.contains(&format!("{place}{fault}")), "{fault} is not in\n{told}");
    }
    let told = faults(
        &limit(&format!(
            "rate_limits: [{{ apply_on_stream_done: true, actions: [{{ remote_address: {{}} }}] }}], {}",
            bucket(1)
        )),
        &host("", ""),
    );
    assert!(told.contains(&format!("{}.rate_limits[0].apply_on_stream_done: ", place_of_filter())), "{told}");
}

fn place_of_filter() -> String {
    place(0)
}
