use super::*;

/// A name, what is left of it, its tags.
type Row = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// Names, what is left of them and their tags, as Envoy 1.40 showed or its documentation says.
#[test]
fn default_tags() {
    let table: &[Row] = &[
        ("server.uptime", "server.uptime", &[]),
        ("cluster.up.upstream_cx_total", "cluster.upstream_cx_total", &[("cluster_name", "up")]),
        ("cluster.a.b.upstream_cx_total", "cluster.b.upstream_cx_total", &[("cluster_name", "a")]),
        ("cluster.up.upstream_rq_200", "cluster.upstream_rq", &[("response_code", "200"), ("cluster_name", "up")]),
        (
            "cluster.up.external.upstream_rq_5xx",
            "cluster.external.upstream_rq_xx",
            &[("response_code_class", "5"), ("cluster_name", "up")],
        ),
        ("cluster.up.upstream_rq_0rtt", "cluster.upstream_rq_0rtt", &[("cluster_name", "up")]),
        ("cluster.up.upstream_rq_1234", "cluster.upstream_rq_1234", &[("cluster_name", "up")]),
        (
            "cluster.up.circuit_breakers.default.rq_open",
            "cluster.circuit_breakers.default.rq_open",
            &[("cluster_name", "up")],
        ),
        (
            "http.in.downstream_rq_2xx",
            "http.downstream_rq_xx",
            &[("response_code_class", "2"), ("http_conn_manager_prefix", "in")],
        ),
        (
            "http.in.rds.my.routes.update_success",
            "http.rds.update_success",
            &[("rds_route_config", "my.routes"), ("http_conn_manager_prefix", "in")],
        ),
        (
            "http.in.user_agent.ios.downstream_rq_total",
            "http.user_agent.downstream_rq_total",
            &[("http_user_agent", "ios"), ("http_conn_manager_prefix", "in")],
        ),
        (
            "listener.127.0.0.1_80.downstream_cx_total",
            "listener.downstream_cx_total",
            &[("listener_address", "127.0.0.1_80")],
        ),
        ("listener.[__1]_80.downstream_cx_total", "listener.downstream_cx_total", &[("listener_address", "[__1]_80")]),
        ("listener.my.own.downstream_cx_total", "listener.own.downstream_cx_total", &[("listener_address", "my")]),
        ("listener.1.2.3.downstream_cx_total", "listener.2.3.downstream_cx_total", &[("listener_address", "1")]),
        (
            "listener.127.0.0.1_80.http.in.downstream_rq_4xx",
            "listener.http.downstream_rq_xx",
            &[("response_code_class", "4"), ("http_conn_manager_prefix", "in"), ("listener_address", "127.0.0.1_80")],
        ),
        (
            "listener.127.0.0.1_80.worker_12.downstream_cx_total",
            "listener.worker_downstream_cx_total",
            &[("worker_id", "12"), ("listener_address", "127.0.0.1_80")],
        ),
        ("listener.admin.downstream_cx_total", "listener.admin.downstream_cx_total", &[]),
        (
            "listener.admin.http.admin.downstream_rq_2xx",
            "listener.admin.http.downstream_rq_xx",
            &[("response_code_class", "2"), ("http_conn_manager_prefix", "admin")],
        ),
        (
            "listener.1.1.1.1_1.ssl.ciphers.AES",
            "listener.ssl.ciphers",
            &[("ssl_cipher", "AES"), ("listener_address", "1.1.1.1_1")],
        ),
        ("server.worker_0.watchdog_miss", "server.worker_watchdog_miss", &[("worker_id", "0")]),
        (
            "vhost.v.vcluster.c.upstream_rq_200",
            "vhost.vcluster.upstream_rq",
            &[("response_code", "200"), ("virtual_cluster", "c"), ("virtual_host", "v")],
        ),
        (
            "mongo.m.collection.c.callsite.s.query.total",
            "mongo.collection.callsite.query.total",
            &[("mongo_callsite", "s"), ("mongo_collection", "c"), ("mongo_prefix", "m")],
        ),
        ("tcp.t.downstream_cx_total", "tcp.downstream_cx_total", &[("tcp_prefix", "t")]),
        ("sds.cert.update_success", "sds.update_success", &[("xds_resource_name", "cert")]),
        ("cluster", "cluster", &[]),
        ("", "", &[]),
        ("cluster..x", "cluster..x", &[]),
        ("_rq_200", "_rq", &[("response_code", "200")]),
        ("clüster.ü.x_rq_2xx", "clüster.ü.x_rq_xx", &[("response_code_class", "2")]),
    ];
    let tags = Tags::default();
    for (name, left, expected) in table {
        let extracted = tags.extract(name);
        let found: Vec<(&str, &str)> = extracted
            .tags
            .iter()
            .map(|(tag, value)| (tag.strip_prefix("envoy.").unwrap_or(tag), value.as_str()))
            .collect();
        assert_eq!((extracted.name.as_str(), found.as_slice()), (*left, *expected), "{name}");
    }
}

fn rule(name: &str, value: RuleValue) -> Rule {
    Rule { name: name.to_owned(), value }
}

#[test]
fn configured_tags() {
    let rules = [
        rule("where", RuleValue::Fixed("here".to_owned())),
        rule("tier", RuleValue::Regex(r"^cluster\.((\w+)_)".to_owned())),
        rule("all", RuleValue::Regex(r"(total)".to_owned())),
        rule("none", RuleValue::Regex("cluster".to_owned())),
    ];
    let tags = Tags::new(&rules, true).unwrap();
    let extracted = tags.extract("cluster.gold_up.upstream_cx_total");
    assert_eq!(extracted.name, "cluster.upstream_cx_");
    let values: Vec<(&str, &str)> = extracted.tags.iter().map(|(tag, value)| (*tag, value.as_str())).collect();
    assert_eq!(values, [("where", "here"), ("all", "total"), ("envoy.cluster_name", "gold_up"), ("tier", "gold")]);
}

#[test]
fn without_the_defaults_only_what_is_named() {
    let rules = [rule("envoy.cluster_name", RuleValue::Default)];
    let tags = Tags::new(&rules, false).unwrap();
    let extracted = tags.extract("cluster.up.upstream_rq_200");
    assert_eq!(extracted.name, "cluster.upstream_rq_200");
    assert_eq!(extracted.tags, [("envoy.cluster_name", "up".to_owned())]);
}

#[test]
fn bad_rules_are_refused() {
    let bad = |value| Tags::new(&[rule("x", value)], true).unwrap_err().to_string();
    assert!(bad(RuleValue::Regex("(".to_owned())).starts_with("tag 'x': regex parse error"));
    assert_eq!(bad(RuleValue::Default), "No regex specified for tag specifier and no default regex for name: 'x'");
}
