mod heads;
mod matching;

use std::sync::Arc;

use bytes::Bytes;
use http::Method;

use super::*;
use crate::codec::RequestHead;
use crate::config::model::{PathMatch, Route, RouteAction, RouteConfiguration, VirtualHost};

fn to(name: &str) -> RouteAction {
    RouteAction::to(name)
}

fn prefix(prefix: &str) -> PathMatch {
    PathMatch::Prefix { prefix: prefix.into(), case_sensitive: true }
}

fn exact(path: &str) -> PathMatch {
    PathMatch::Exact { path: path.into(), case_sensitive: true }
}

fn host(name: &str, domains: &[&str], paths: Vec<PathMatch>) -> VirtualHost {
    let routes = paths
        .into_iter()
        .enumerate()
        .map(|(at, path)| Arc::new(Route { name: format!("{name}{at}"), ..Route::new(path, to(name)) }))
        .collect();
    VirtualHost {
        name: name.into(),
        domains: domains.iter().map(ToString::to_string).collect(),
        routes,
        ..VirtualHost::default()
    }
}

fn table(virtual_hosts: Vec<VirtualHost>) -> Table {
    Table::compile(&RouteConfiguration { virtual_hosts, ..RouteConfiguration::default() })
}

fn ask(table: &Table, authority: &str, path: &str) -> Option<String> {
    let head = RequestHead::new(
        Method::GET,
        Bytes::copy_from_slice(authority.as_bytes()),
        Bytes::copy_from_slice(path.as_bytes()),
    );
    table.route(&Facts::of(&head)).map(|decision| decision.route.name.clone())
}

#[test]
fn hosts_by_rank() {
    let all = || vec![prefix("/")];
    let table = table(vec![
        host("any", &["*"], all()),
        host("exact", &["www.foo.com", "foo.com:8080"], all()),
        host("suffix", &["*.foo.com"], all()),
        host("longer", &["*.bar.foo.com", "*-x.foo.com"], all()),
        host("prefix", &["foo.*", "www.*"], all()),
        host("longprefix", &["foo.co*"], all()),
    ]);
    let rows = [
        ("www.foo.com", "exact"),
        ("WWW.Foo.COM", "exact"),
        ("foo.com:8080", "exact"),
        ("foo.com:9", "longprefix"),
        ("foo.com", "longprefix"),
        ("foo.de", "prefix"),
        ("www.foo.com:80", "prefix"),
        ("a.foo.com", "suffix"),
        ("a.bar.foo.com", "longer"),
        ("a-x.foo.com", "longer"),
        // The star stands for at least one character.
        (".foo.com", "any"),
        ("foo.", "any"),
        ("foo.co", "prefix"),
        ("", "any"),
        ("[::1]:80", "any"),
    ];
    for (authority, expected) in rows {
        assert_eq!(ask(&table, authority, "/").as_deref(), Some(&*format!("{expected}0")), "{authority}");
    }
}

#[test]
fn ports_count_unless_they_are_ignored() {
    let mut configuration = RouteConfiguration {
        virtual_hosts: vec![host("a", &["a.com"], vec![prefix("/")]), host("v6", &["[::1]"], vec![prefix("/")])],
        ..RouteConfiguration::default()
    };
    let table = Table::compile(&configuration);
    assert_eq!(ask(&table, "a.com:80", "/"), None);
    configuration.ignore_port_in_host_matching = true;
    let table = Table::compile(&configuration);
    for authority in ["a.com", "a.com:80", "A.com:", "[::1]", "[::1]:80"] {
        assert!(ask(&table, authority, "/").is_some(), "{authority}");
    }
    for authority in ["a.com:x", "b.com:80", "::1", "[::1]80"] {
        assert_eq!(ask(&table, authority, "/"), None, "{authority}");
    }
}

#[test]
fn the_first_match_wins() {
    let insensitive = |path: &str| PathMatch::Prefix { prefix: path.into(), case_sensitive: false };
    let table = table(vec![host(
        "h",
        &["*"],
        vec![
            exact("/a"),
            prefix("/ab"),
            exact("/abc"),
            insensitive("/Shout"),
            prefix("/a"),
            PathMatch::Exact { path: "/SHOUT".into(), case_sensitive: false },
            exact("/a"),
        ],
    )]);
    let rows = [
        ("/a", Some("h0")),
        ("/a?x=/abc", Some("h0")),
        ("/abc", Some("h1")),
        ("/abd", Some("h1")),
        ("/ax", Some("h4")),
        ("/sHOUTING", Some("h3")),
        ("/shout", Some("h3")),
        ("/A", None),
        ("/b", None),
        ("/", None),
    ];
    for (path, expected) in rows {
        assert_eq!(ask(&table, "x", path).as_deref(), expected, "{path}");
    }
}

#[test]
fn one_host_is_picked_and_no_second() {
    let table = table(vec![host("any", &["*"], vec![prefix("/")]), host("a", &["a"], vec![exact("/only")])]);
    assert_eq!(ask(&table, "a", "/other"), None);
    assert_eq!(ask(&table, "b", "/other").as_deref(), Some("any0"));
    assert_eq!(table.len(), 2);
    let indices: Vec<usize> = table.entries().map(|entry| entry.index).collect();
    assert_eq!(indices, [0, 1]);
    let head = RequestHead::new(Method::CONNECT, "b:1", "");
    assert!(table.route(&Facts::of(&head)).is_none());
}

#[test]
fn many_routes_decide_as_few_do() {
    // The same matchers once in one host (found by hash) and once asked one by one.
    let matchers: Vec<PathMatch> = (0..300)
        .map(|at: usize| {
            let path = format!("/{}", (at * 7919 % 512).to_string().repeat(1 + at % 3));
            match at % 5 {
                0 => exact(&path),
                1 => PathMatch::Prefix { prefix: path.to_uppercase(), case_sensitive: false },
                _ => prefix(&path),
            }
        })
        .collect();
    let table = table(vec![host("h", &["*"], matchers.clone())]);
    for number in 0..2000 {
        let path = format!("/{number}{number}");
        let expected = matchers.iter().position(|matcher| match matcher {
            PathMatch::Exact { path: there, .. } => *there == path,
            PathMatch::Prefix { prefix, .. } => path.starts_with(prefix.as_str()),
            other => panic!("{other:?}"),
        });
        assert_eq!(ask(&table, "x", &path), expected.map(|at| format!("h{at}")), "{path}");
    }
}

#[test]
fn a_prefix_with_a_query_never_matches() {
    let table = table(vec![host("h", &["*"], vec![prefix("/a?x"), prefix("")])]);
    assert_eq!(ask(&table, "x", "/a?x").as_deref(), Some("h1"));
}

#[test]
fn a_connect_is_for_connect_matchers_alone() {
    let table = table(vec![host("h", &["*"], vec![prefix("/"), prefix(""), PathMatch::Connect, PathMatch::Connect])]);
    assert_eq!(ask(&table, "x", "/a").as_deref(), Some("h0"));
    let route = |table: &Table| {
        table.route(&Facts::of(&RequestHead::new(Method::CONNECT, "x:80", ""))).map(|it| it.route.name.clone())
    };
    assert_eq!(route(&table).as_deref(), Some("h2"));
    let without = self::table(vec![host("h", &["*"], vec![prefix("/"), prefix("")])]);
    assert_eq!(route(&without), None);
    let only = self::table(vec![host("h", &["*"], vec![PathMatch::Connect])]);
    assert_eq!(ask(&only, "x", "/"), None);
}
