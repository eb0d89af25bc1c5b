//! What a routing decision costs, with few and with thousands of hosts and routes.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use heirloom::codec::RequestHead;
use heirloom::config::model::{PathMatch, Route, RouteAction, RouteConfiguration, VirtualHost};
use heirloom::route::Table;
use http::Method;

fn route(path: PathMatch) -> Route {
    let action = RouteAction::Cluster {
        cluster: "c".into(),
        timeout: None,
        idle_timeout: None,
        tries: Default::default(),
        upgrades: Vec::new(),
    };
    Route { name: String::new(), path, action }
}

fn table(hosts: usize, routes: usize) -> Table {
    let paths = |count: usize| {
        (0..count)
            .map(|at| {
                route(if at % 2 == 0 {
                    PathMatch::Exact { path: format!("/exact/{at}"), case_sensitive: true }
                } else {
                    PathMatch::Prefix { prefix: format!("/prefix/{at}/"), case_sensitive: true }
                })
            })
            .chain([route(PathMatch::Prefix { prefix: "/".into(), case_sensitive: true })])
            .collect()
    };
    let mut virtual_hosts: Vec<_> = (0..hosts)
        .map(|at| VirtualHost {
            name: format!("h{at}"),
            domains: vec![format!("h{at}.example.com"), format!("*.h{at}.example.com")],
            routes: paths(if at == 0 { routes } else { 1 }),
        })
        .collect();
    virtual_hosts.push(VirtualHost { name: "any".into(), domains: vec!["*".into()], routes: paths(routes) });
    Table::compile(&RouteConfiguration { virtual_hosts, ..RouteConfiguration::default() })
}

fn decisions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route");
    for (name, hosts, routes) in [("one host", 0, 2), ("ten", 10, 10), ("thousands", 5000, 5000)] {
        let table = table(hosts, routes);
        for (case, authority, path) in [
            ("exact host, exact path", "h0.example.com", "/exact/8?x=1"),
            ("wildcard host, last prefix", "a.h0.example.com", "/none/of/those/that/are/here"),
        ] {
            let head = RequestHead::new(Method::GET, authority, path);
            group.bench_function(format!("{name}: {case}"), |b| b.iter(|| table.route(black_box(&head))));
        }
    }
    group.finish();
}

criterion_group!(benches, decisions);
criterion_main!(benches);
