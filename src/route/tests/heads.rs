//! What routes do to heads: rewrites, redirects, header operations, draws, hashes.

use http::{HeaderName, HeaderValue};
use xxhash_rust::xxh64::xxh64;

use super::*;
use crate::codec::head::{Headers, Scheme};
use crate::config::model::{
    AppendAction, ClusterSpecifier, Forward, HashPolicy, HashSource, HeadField, HeaderAddition, HeaderOps, HeaderRules,
    HeaderText, HostRewrite, PathRewrite, Piece, Redirect, RedirectPath, RouteFilter, RouteFilters, Settings,
    Substitution, UriRewrite, UriTemplate, WeightedCluster, WeightedClusters, WeightedName,
};

fn head(authority: &str, path: &str) -> RequestHead {
    let (authority, path) = (Bytes::copy_from_slice(authority.as_bytes()), Bytes::copy_from_slice(path.as_bytes()));
    let mut head = RequestHead::new(Method::GET, authority, path);
    head.scheme = Some(Scheme::Http);
    put(&mut head, "x-forwarded-proto", "http");
    head
}

fn put(head: &mut RequestHead, name: &str, value: &str) {
    head.headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
}

fn decide(route: Route, head: &RequestHead) -> Decision {
    let host = VirtualHost { domains: vec!["*".into()], routes: vec![Arc::new(route)], ..VirtualHost::default() };
    table(vec![host]).route(&Facts::of(head)).unwrap()
}

fn forward(change: impl FnOnce(&mut Forward)) -> RouteAction {
    let mut forward = Forward::to("c");
    change(&mut forward);
    RouteAction::Forward(Box::new(forward))
}

fn get(head: &RequestHead, name: &'static str) -> Option<String> {
    let value = head.headers.get(&HeaderName::from_static(name))?;
    Some(value.to_str().unwrap().to_owned())
}

#[test]
fn paths_are_rewritten_and_queries_kept() {
    let substitution = |pattern: &str, text: &str| PathRewrite::Regex(Substitution::new(pattern, text).unwrap());
    let template = UriTemplate::new("/t/{a}/x/{b=**}").unwrap();
    let filled = PathRewrite::Template(UriRewrite::new(&template, "/{b}/-/{a}").unwrap());
    let whole = crate::config::model::Regex::new("/rx/.*").unwrap();
    let rows = [
        (prefix("/p"), PathRewrite::Prefix("/".into()), "/p/x?q", "//x?q"),
        (exact("/p"), PathRewrite::Prefix("/new".into()), "/p?q", "/new?q"),
        (PathMatch::Regex(whole), PathRewrite::Prefix("/whole".into()), "/rx/a?q", "/whole?q"),
        (prefix("/r"), substitution("/r/([^/]+)", r"/\1/x"), "/r/foo/r/bar?/r/z", "/foo/x/bar/x?/r/z"),
        (prefix("/"), substitution("o", r"\\\0"), "/foo", r"/f\o\o"),
        (PathMatch::Template(template), filled, "/t/1/x/2/3?q=4", "/2/3/-/1?q=4"),
    ];
    for (path, rewrite_to, from, expected) in rows {
        let mut head = head("h", from);
        let decision = decide(Route::new(path, forward(|forward| forward.path_rewrite = rewrite_to)), &head);
        rewrite(&mut head, &decision, false);
        assert_eq!(head.path, expected.as_bytes(), "{from}");
        assert_eq!(get(&head, "x-envoy-original-path").as_deref(), Some(from));
    }
    assert!(Substitution::new("(a)", r"\2").is_err());
    assert!(Substitution::new("a", r"\x").is_err());
    assert!(UriRewrite::new(&UriTemplate::new("/{a}").unwrap(), "/{b}").is_err());
}

#[test]
fn hosts_are_rewritten_and_the_old_one_is_told() {
    let from_path = HostRewrite::PathRegex(Substitution::new("^/hr/([^/]+).*$", r"\1.org").unwrap());
    let from_header = HostRewrite::Header(HeadField::named("x-h").unwrap());
    let rows = [
        (HostRewrite::Literal("lit".into()), "lit"),
        (from_header, "named"),
        (from_path, "www.org"),
        (HostRewrite::Header(HeadField::named("x-absent").unwrap()), "old"),
        (HostRewrite::Auto, "end.point"),
    ];
    for (host_rewrite, expected) in rows {
        let mut head = head("old", "/hr/www/x?q");
        put(&mut head, "x-h", "named");
        put(&mut head, "x-forwarded-host", "first");
        let action = forward(|forward| {
            forward.host_rewrite = host_rewrite;
            forward.append_forwarded_host = true;
        });
        let decision = decide(Route::new(prefix("/"), action), &head);
        let RouteAction::Forward(forward) = decision.action() else { panic!() };
        rewrite(&mut head, &decision, false);
        set_endpoint_host(&mut head, forward, "end.point", false);
        assert_eq!(head.authority, expected.as_bytes());
        let changed = expected != "old";
        assert_eq!(get(&head, "x-envoy-original-host").as_deref(), changed.then_some("old"), "{expected}");
        assert_eq!(get(&head, "x-forwarded-host").as_deref(), Some(if changed { "first,old" } else { "first" }));
    }
}

#[test]
fn redirects_are_put_together_as_in_envoy() {
    let plain = || Redirect {
        scheme: String::new(),
        host: String::new(),
        port: None,
        path: RedirectPath::Rewrite(PathRewrite::None),
        status: 301,
        strip_query: false,
    };
    let path = |path: &str| RedirectPath::Path(path.into());
    let expression = PathRewrite::Regex(Substitution::new("^/r4/(.*)$", r"/\1/z").unwrap());
    let rows = [
        (Redirect { scheme: "https".into(), ..plain() }, "foo:80", "/r1/a?b", "https://foo/r1/a?b"),
        (Redirect { scheme: "https".into(), ..plain() }, "foo:81", "/r1", "https://foo:81/r1"),
        (
            Redirect { port: Some(8443), path: path("/x?y=1"), strip_query: true, ..plain() },
            "foo:80",
            "/r?q",
            "http://foo:8443/x?y=1",
        ),
        (Redirect { port: Some(1), path: path("/x"), ..plain() }, "[::1]:77", "/r?q", "http://[::1]:1/x?q"),
        (Redirect { path: path("/x"), strip_query: true, ..plain() }, "[::1]", "/r?q", "http://[::1]/x"),
        (
            Redirect {
                host: "other".into(),
                path: RedirectPath::Rewrite(PathRewrite::Prefix("/new".into())),
                ..plain()
            },
            "foo",
            "/r/a?b",
            "http://other/new/a?b",
        ),
        (
            Redirect { path: RedirectPath::Rewrite(expression), strip_query: true, ..plain() },
            "foo",
            "/r4/a/b?c",
            "http://foo/a/b/z",
        ),
    ];
    for (redirect, authority, path, expected) in rows {
        let head = head(authority, path);
        let decision = decide(Route::new(prefix("/r"), RouteAction::Redirect(Box::new(redirect))), &head);
        assert_eq!(location(&head, &decision).unwrap(), expected, "{authority}{path}");
    }
    for (status, expected) in [(200, None), (201, Some("http://foo/d?x")), (302, Some("http://foo/d?x")), (404, None)] {
        let head = head("foo", "/d?x");
        let decision =
            decide(Route::new(prefix("/"), RouteAction::DirectResponse { status, body: Bytes::new() }), &head);
        assert_eq!(location(&head, &decision).as_ref().map(|value| value.to_str().unwrap()), expected);
    }
}

fn add(name: &str, value: &str, action: AppendAction) -> HeaderAddition {
    let value = HeaderText::Fixed(HeaderValue::from_str(value).unwrap());
    HeaderAddition { name: name.parse().unwrap(), value, action, keep_empty: false }
}

fn shown(headers: &Headers) -> Vec<String> {
    headers.iter().map(|(name, value)| format!("{name}={}", value.to_str().unwrap())).collect()
}

#[test]
fn header_operations_of_all_levels_in_order() {
    use AppendAction::{AppendIfExistsOrAdd as Append, OverwriteIfExistsOrAdd as Overwrite};
    let rules = |level: &str| {
        let add = vec![add("x-level", level, Append), add("x-over", level, Overwrite)];
        HeaderRules { request: HeaderOps::default(), response: HeaderOps { remove: Vec::new(), add } }
    };
    let weighted = WeightedCluster {
        cluster: WeightedName::Name("c".into()),
        weight: 1.into(),
        host_rewrite: "weighted.host".into(),
        rules: rules("weighted"),
        filters: RouteFilters::default(),
    };
    let clusters = WeightedClusters { clusters: vec![weighted], draw_from: None };
    let action = forward(|forward| forward.cluster = ClusterSpecifier::Weighted(clusters));
    let route = Arc::new(Route { rules: rules("route"), ..Route::new(prefix("/"), action) });
    let host =
        VirtualHost { domains: vec!["*".into()], routes: vec![route], rules: rules("host"), ..VirtualHost::default() };
    let mut configuration =
        RouteConfiguration { virtual_hosts: vec![host], rules: rules("table"), ..RouteConfiguration::default() };
    let least = ["x-level=weighted", "x-level=route", "x-level=host", "x-over=table", "x-level=table"];
    let most = ["x-level=weighted", "x-level=table", "x-level=host", "x-over=route", "x-level=route"];
    for (most_specific_wins, expected) in [(false, least), (true, most)] {
        configuration.most_specific_wins = most_specific_wins;
        let mut head = head("h", "/");
        let decision = Table::compile(&configuration).route(&Facts::of(&head)).unwrap();
        let mut headers = Headers::new();
        assert!(decision.has_response_rules());
        decision.apply_to_response(&mut headers, &mut |_| None);
        assert_eq!(shown(&headers), expected);
        rewrite(&mut head, &decision, false);
        assert_eq!(head.authority, "weighted.host".as_bytes());
    }
}

#[test]
fn every_append_action() {
    use AppendAction::{AddIfAbsent, AppendIfExistsOrAdd, OverwriteIfExists, OverwriteIfExistsOrAdd};
    let rows = [
        (AppendIfExistsOrAdd, "b=new", "a=old a=new"),
        (AddIfAbsent, "b=new", "a=old"),
        (OverwriteIfExistsOrAdd, "b=new", "a=new"),
        (OverwriteIfExists, "", "a=new"),
    ];
    for (action, absent, present) in rows {
        for (name, expected) in [("b", absent), ("a", present)] {
            let ops = HeaderOps { remove: vec!["gone".parse().unwrap()], add: vec![add(name, "new", action)] };
            let rules = HeaderRules { request: ops, response: HeaderOps::default() };
            let head = head("h", "/");
            let decision = decide(Route { rules, ..Route::new(prefix("/"), to("c")) }, &head);
            let mut headers = Headers::new();
            headers.append("a".parse().unwrap(), HeaderValue::from_static("old"));
            headers.append("gone".parse().unwrap(), HeaderValue::from_static("x"));
            decision.apply_to_request(&mut headers, &mut |_| None);
            let all: Vec<String> =
                shown(&headers).into_iter().filter(|one| name == "a" || !one.starts_with('a')).collect();
            assert_eq!(
                all.join(" "),
                if name == "a" { expected.to_owned() } else { expected.replace("a=old", "") },
                "{action:?}"
            );
            assert!(!decision.has_response_rules());
        }
    }
}

#[test]
fn empty_values_add_nothing_and_formats_are_asked_for() {
    let kept = HeaderAddition { keep_empty: true, ..add("kept", "", AppendAction::default()) };
    let format = HeaderText::Format(vec![Piece::Literal("x".into())]);
    let made = HeaderAddition { value: format, ..add("o", "", AppendAction::default()) };
    let ops = vec![add("dropped", "", AppendAction::default()), kept, made];
    let rules = HeaderRules { request: HeaderOps { remove: Vec::new(), add: ops }, response: HeaderOps::default() };
    let head = head("h", "/");
    let decision = decide(Route { rules, ..Route::new(prefix("/"), to("c")) }, &head);
    let mut headers = Headers::new();
    decision.apply_to_request(&mut headers, &mut |pieces| HeaderValue::from_str(&pieces.len().to_string()).ok());
    assert_eq!(shown(&headers), ["kept=", "o=1"]);
    assert_eq!(decision.has_formats(), (true, false));
}

#[test]
fn weights_and_names_from_the_request() {
    let cluster = |name: WeightedName, weight: u32| WeightedCluster {
        cluster: name,
        weight: weight.into(),
        host_rewrite: String::new(),
        rules: HeaderRules::default(),
        filters: RouteFilters(vec![RouteFilter {
            name: "f".into(),
            disabled: false,
            settings: Some(Settings::new(weight)),
        }]),
    };
    let clusters = vec![
        cluster(WeightedName::Name("a".into()), 1),
        cluster(WeightedName::Name("none".into()), 0),
        cluster(WeightedName::Header(HeadField::named("x-c").unwrap()), 3),
    ];
    let draw_from = HeadField::named("x-draw");
    let action = forward(|forward| {
        forward.cluster = ClusterSpecifier::Weighted(WeightedClusters { clusters, draw_from });
    });
    let host = VirtualHost {
        domains: vec!["*".into()],
        routes: vec![Arc::new(Route::new(prefix("/"), action))],
        filters: RouteFilters(vec![RouteFilter { name: "f".into(), disabled: true, settings: None }]),
        ..VirtualHost::default()
    };
    let table = table(vec![host]);
    assert_eq!(table.targets().collect::<Vec<_>>(), [Some("a"), Some("none"), None]);
    let mut head = head("h", "/");
    put(&mut head, "x-c", "named");
    let drawn = |head: &RequestHead, random| {
        let decision = table.route(&Facts { random, ..Facts::of(head) }).unwrap();
        let said: Vec<bool> = decision.filter_levels("f").map(|said| said.disabled).collect();
        assert_eq!(said, [false, true]);
        assert_eq!(decision.settings::<u32>("f").copied(), Some(if decision.target() == Some(0) { 1 } else { 3 }));
        (decision.target(), decision.named_cluster().map(ToOwned::to_owned))
    };
    for random in 0..8 {
        let expected = if random % 4 == 0 { (Some(0), None) } else { (Some(2), Some("named".to_owned())) };
        assert_eq!(drawn(&head, random), expected, "{random}");
    }
    put(&mut head, "x-draw", "4");
    assert_eq!(drawn(&head, 1).0, Some(0));
}

#[test]
fn hashes_are_those_of_envoy() {
    let policy = |source| HashPolicy { source, terminal: false };
    let of_header = policy(HashSource::Header(HeadField::named("x-h").unwrap(), None));
    let of_query = policy(HashSource::Query("q".into()));
    let of_ip = policy(HashSource::SourceIp);
    let mut head = head("h", "/?q=2");
    put(&mut head, "x-h", "one");
    let ip = "10.0.0.1".parse().ok();
    let one = xxh64(b"one", 0);
    let both = one.rotate_left(1) ^ xxh64(b"2", 0);
    let of = |policies: &[HashPolicy]| hash(policies, &head, ip, "peer", &Nothing).hash;
    assert_eq!(of(&[]), None);
    assert_eq!(of(std::slice::from_ref(&of_header)), Some(one));
    assert_eq!(of(&[of_header.clone(), of_query.clone()]), Some(both));
    assert_eq!(of(&[HashPolicy { terminal: true, ..of_header }, of_query]), Some(one));
    assert_eq!(of(&[of_ip]), Some(xxh64(b"10.0.0.1", 0)));
    let cookie = |ttl: Option<u64>| {
        let ttl = ttl.map(std::time::Duration::from_secs);
        policy(HashSource::Cookie {
            name: "c".into(),
            ttl,
            path: "/".into(),
            attributes: vec![("SameSite".into(), "Lax".into())],
        })
    };
    assert_eq!(of(&[cookie(None)]), None);
    let made = hash(&[cookie(Some(60))], &head, ip, "peer", &Nothing);
    let value = format!("{:016x}", xxh64(b"peer", 0));
    assert_eq!(made.cookies, [format!("c=\"{value}\"; Max-Age=60; Path=/; SameSite=Lax; HttpOnly")]);
    put(&mut head, "cookie", &format!("c=\"{value}\""));
    let again = hash(&[cookie(Some(60))], &head, ip, "other", &Nothing);
    assert_eq!((again.hash, again.cookies), (made.hash, Vec::new()));
}
