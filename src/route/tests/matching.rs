//! What beside prefixes and exact paths decides.

use http::{HeaderName, HeaderValue};

use super::*;
use crate::config::model::{
    Conditions, CookieMatch, Fraction, HeadField, HeaderMatch, HeaderPattern, QueryMatch, QueryPattern, Regex,
    RequireTls, StringMatch, StringPattern, TlsMatch, UriTemplate, VirtualCluster,
};

fn head(path: &str, headers: &[(&str, &str)]) -> RequestHead {
    let mut head = RequestHead::new(Method::GET, "x", Bytes::copy_from_slice(path.as_bytes()));
    for (name, value) in headers {
        head.headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    head
}

fn asking(conditions: Conditions) -> Table {
    let asked = Route { conditions: Some(Box::new(conditions)), ..Route::new(prefix("/"), to("c")) };
    let host = VirtualHost { domains: vec!["*".into()], routes: vec![Arc::new(asked)], ..VirtualHost::default() };
    table(vec![host])
}

fn regex(text: &str) -> PathMatch {
    PathMatch::Regex(Regex::new(text).unwrap())
}

fn text(pattern: StringPattern) -> StringMatch {
    StringMatch { pattern, ignore_case: false }
}

#[test]
fn headers_match_as_in_envoy() {
    let on = |pattern: HeaderPattern| HeaderMatch {
        field: HeadField::named("x-a").unwrap(),
        pattern,
        invert: false,
        missing_is_empty: false,
    };
    let exact = |value: &str| on(HeaderPattern::Text(StringMatch::exact(value)));
    let invert = |matcher: HeaderMatch| HeaderMatch { invert: true, ..matcher };
    let lenient = |matcher: HeaderMatch| HeaderMatch { missing_is_empty: true, ..matcher };
    let contains = StringMatch { pattern: StringPattern::Contains("B".into()), ignore_case: true };
    let (none, range): (&[&str], _) = (&[], on(HeaderPattern::Range { start: -5, end: 5 }));
    let rows: &[(HeaderMatch, &[&str], bool)] = &[
        (exact("b"), &["b"], true),
        (exact("b"), &["B"], false),
        (exact("b,c"), &["b", "c"], false),
        (exact("b"), &["b", "c"], true),
        (exact("c"), &["b", "c"], true),
        (invert(exact("c")), &["b", "c"], false),
        (invert(exact("b")), none, false),
        (invert(exact("b")), &["c"], true),
        (lenient(invert(exact("b"))), none, true),
        (lenient(exact("")), none, true),
        (on(HeaderPattern::Present(true)), none, false),
        (on(HeaderPattern::Present(true)), &[""], true),
        (on(HeaderPattern::Present(false)), none, true),
        (on(HeaderPattern::Present(false)), &["c"], false),
        (invert(on(HeaderPattern::Present(true))), none, true),
        (lenient(on(HeaderPattern::Present(true))), none, true),
        (range.clone(), &["4"], true),
        (range.clone(), &["+4"], true),
        (range.clone(), &["-5"], true),
        (range.clone(), &["5"], false),
        (range.clone(), &["4x"], false),
        (range, none, false),
        (on(HeaderPattern::Text(contains)), &["abc"], true),
        (on(HeaderPattern::Text(text(StringPattern::Prefix("ab".into())))), &["abc"], true),
        (on(HeaderPattern::Text(text(StringPattern::Suffix("bc".into())))), &["abc"], true),
        (on(HeaderPattern::Text(text(StringPattern::Suffix("xabc".into())))), &["abc"], false),
        (on(HeaderPattern::Text(text(StringPattern::Regex(Regex::new(r"\d{3}").unwrap())))), &["1234"], false),
    ];
    for (matcher, values, expected) in rows {
        let table = asking(Conditions { headers: vec![matcher.clone()], ..Conditions::default() });
        let headers: Vec<(&str, &str)> = values.iter().map(|value| ("x-a", *value)).collect();
        let found = table.route(&Facts::of(&head("/", &headers))).is_some();
        assert_eq!(found, *expected, "{matcher:?} {values:?}");
    }
}

#[test]
fn pseudo_headers_are_headers_too() {
    for (name, value, expected) in
        [(":path", "/p?q", true), ("Host", "x", true), (":method", "GET", true), (":authority", "y", false)]
    {
        let matcher = HeaderMatch {
            field: HeadField::named(name).unwrap(),
            pattern: HeaderPattern::Text(StringMatch::exact(value)),
            invert: false,
            missing_is_empty: false,
        };
        let table = asking(Conditions { headers: vec![matcher], ..Conditions::default() });
        assert_eq!(table.route(&Facts::of(&head("/p?q", &[]))).is_some(), expected, "{name}");
    }
    assert_eq!(HeadField::named("no header"), None);
}

#[test]
fn queries_and_cookies() {
    let rows = [
        ("a=1", QueryPattern::Present(false), false),
        ("b=1", QueryPattern::Present(false), true),
        ("b&a=", QueryPattern::Present(true), true),
        ("b", QueryPattern::Present(true), false),
        ("a=B", QueryPattern::Text(StringMatch { pattern: StringPattern::Exact("b".into()), ignore_case: true }), true),
        ("a=%20", QueryPattern::Text(StringMatch::exact(" ")), false),
        ("a=c&a=b", QueryPattern::Text(StringMatch::exact("b")), false),
    ];
    for (query, pattern, expected) in rows {
        let conditions = Conditions { query: vec![QueryMatch { name: "a".into(), pattern }], ..Conditions::default() };
        let found = asking(conditions).route(&Facts::of(&head(&format!("/?{query}"), &[]))).is_some();
        assert_eq!(found, expected, "{query}");
    }
    for (cookies, invert, expected) in [
        ("a=b", false, true),
        ("x=1; a=\"b\"", false, true),
        ("x=b", false, false),
        ("x=b", true, true),
        ("a=b", true, false),
    ] {
        let cookie = CookieMatch { name: "a".into(), text: StringMatch::exact("b"), invert };
        let table = asking(Conditions { cookies: vec![cookie], ..Conditions::default() });
        let found = table.route(&Facts::of(&head("/", &[("cookie", cookies)]))).is_some();
        assert_eq!(found, expected, "{cookies} {invert}");
    }
}

#[test]
fn grpc_tls_and_draws() {
    let grpc = asking(Conditions { grpc: true, ..Conditions::default() });
    for (kind, expected) in [
        ("application/grpc", true),
        ("application/grpc+proto", true),
        ("application/grpc-web", false),
        ("text/plain", false),
    ] {
        assert_eq!(grpc.route(&Facts::of(&head("/", &[("content-type", kind)]))).is_some(), expected, "{kind}");
    }
    let wanted = TlsMatch { presented: Some(true), validated: None };
    let tls = asking(Conditions { tls: Some(wanted), ..Conditions::default() });
    let head = head("/", &[]);
    let with = |tls: Option<Tls>| Facts { tls, ..Facts::of(&head) };
    assert!(tls.route(&with(None)).is_none());
    assert!(tls.route(&with(Some(Tls { presented: true, validated: false }))).is_some());
    let third = Fraction { numerator: 30, denominator: 100 };
    let drawn = asking(Conditions { fraction: Some(third.into()), ..Conditions::default() });
    let hits = (0..1000).filter(|random| drawn.route(&Facts { random: *random, ..Facts::of(&head) }).is_some()).count();
    assert_eq!(hits, 300);
}

#[test]
fn expressions_templates_and_separated_prefixes_keep_their_place() {
    let template = |text: &str| PathMatch::Template(UriTemplate::new(text).unwrap());
    let separated = |text: &str| PathMatch::SeparatedPrefix { prefix: text.into(), case_sensitive: true };
    let table = table(vec![host(
        "h",
        &["*"],
        vec![
            regex("/a/[0-9]+"),
            separated("/sep"),
            template("/t/*/x"),
            exact("/a/7"),
            regex("/(a|b)/.*"),
            template("/files/{name=**}.json"),
            regex("(?i)/LOUD"),
            prefix("/a"),
        ],
    )]);
    let rows = [
        ("/a/7", Some("h0")),
        ("/a/7x", Some("h4")),
        ("/b/z?q", Some("h4")),
        ("/ax", Some("h7")),
        ("/sep", Some("h1")),
        ("/sep/x", Some("h1")),
        ("/sep?x", Some("h1")),
        ("/separate", None),
        ("/t/1/x", Some("h2")),
        ("/t/a*b=c/x", Some("h2")),
        ("/t//x", None),
        ("/t/1/2/x", None),
        ("/files/a/b.json", Some("h5")),
        ("/loud", Some("h6")),
    ];
    for (path, expected) in rows {
        assert_eq!(ask(&table, "x", path).as_deref(), expected, "{path}");
    }
}

#[test]
fn a_condition_that_fails_lets_the_next_route_try() {
    // Many of them under one path, so that they are found by search; every third asks for its own number.
    let routes: Vec<_> = (0..300)
        .map(|at| {
            let path = if at % 2 == 0 { prefix("/p") } else { exact("/p") };
            let name = HeadField::named("x-n").unwrap();
            let pattern = HeaderPattern::Text(StringMatch::exact(at.to_string()));
            let matcher = HeaderMatch { field: name, pattern, invert: false, missing_is_empty: false };
            let conditions = Box::new(Conditions { headers: vec![matcher], ..Conditions::default() });
            let conditions = (at < 297).then_some(conditions);
            Arc::new(Route { name: at.to_string(), conditions, ..Route::new(path, to("c")) })
        })
        .collect();
    let table = table(vec![VirtualHost { domains: vec!["*".into()], routes, ..VirtualHost::default() }]);
    let found = |path: &str, number: &str| {
        let head = head(path, &[("x-n", number)]);
        table.route(&Facts::of(&head)).map(|decision| decision.route.name.clone())
    };
    for (path, number, expected) in
        [("/p", "0", "0"), ("/p", "77", "77"), ("/p/x", "78", "78"), ("/p/x", "77", "298"), ("/p", "none", "297")]
    {
        assert_eq!(found(path, number).as_deref(), Some(expected), "{path} {number}");
    }
}

#[test]
fn plain_text_is_sent_to_https_where_that_is_required() {
    for (require_tls, internal, proto, redirected) in [
        (RequireTls::None, false, "http", false),
        (RequireTls::All, true, "http", true),
        (RequireTls::All, true, "https", false),
        (RequireTls::External, true, "http", false),
        (RequireTls::External, false, "http", true),
    ] {
        let table = table(vec![VirtualHost { require_tls, ..host("h", &["*"], vec![prefix("/")]) }]);
        let head = head("/a?b", &[("x-forwarded-proto", proto)]);
        let decision = table.route(&Facts { internal, ..Facts::of(&head) }).unwrap();
        let location = location(&head, &decision);
        assert_eq!(location.is_some(), redirected, "{require_tls:?}");
        if let Some(location) = location {
            assert_eq!(location, "https://x/a?b");
        }
    }
}

#[test]
fn path_parameters_can_be_left_out() {
    let mut configuration = RouteConfiguration {
        virtual_hosts: vec![host("h", &["*"], vec![exact("/a")])],
        ..RouteConfiguration::default()
    };
    assert_eq!(ask(&Table::compile(&configuration), "x", "/a;v=1?x"), None);
    configuration.ignore_path_parameters = true;
    assert!(ask(&Table::compile(&configuration), "x", "/a;v=1?x").is_some());
}

#[test]
fn virtual_clusters_count_the_first_that_matches() {
    let to = |name: &str, path: &str| {
        let pattern = HeaderPattern::Text(text(StringPattern::Prefix(path.into())));
        let matcher = HeaderMatch { field: HeadField::Path, pattern, invert: false, missing_is_empty: false };
        VirtualCluster { name: name.into(), headers: vec![matcher] }
    };
    let clusters = vec![to("one", "/one"), to("all", "/o")];
    let table = table(vec![VirtualHost { virtual_clusters: clusters, ..host("h", &["*"], vec![prefix("/")]) }]);
    for (path, expected) in [("/one", 0), ("/other", 1), ("/x", 2)] {
        let head = head(path, &[]);
        let decision = table.route(&Facts::of(&head)).unwrap();
        assert_eq!(table.virtual_cluster(&decision, &Facts::of(&head)), Some(expected), "{path}");
    }
}

#[test]
fn faulty_patterns_are_refused() {
    for text in ["(", "a)(b", "*"] {
        assert!(Regex::new(text).is_err(), "{text}");
    }
    for text in ["no", "/a//b", "/{a", "/{1a}", "/{a}/{a}", "/**/*", "/{a}{b}{c}{d}{e}{f}", "/{a=}", "/ä", "/{a=/x}"] {
        assert!(UriTemplate::new(text).is_err(), "{text}");
    }
    // RE2 knows digits as ASCII.
    assert!(!Regex::new(r"\d").unwrap().matches("٣".as_bytes()));
    assert!(Regex::new("(?i)Ä").unwrap().matches("ä".as_bytes()));
}
