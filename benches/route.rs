//! Routing decisions by the size of the table: they should not grow with it. A thousand virtual hosts share one list of a thousand routes each
//! (the model keeps routes behind an `Arc`), as many paths as patterns and prefixes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot run should say so")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use heirloom::codec::RequestHead;
use heirloom::config::model::{PathMatch, Regex, Route, RouteAction, RouteConfiguration, VirtualHost};
use heirloom::route::{Facts, Table};
use http::Method;

fn route(path: PathMatch) -> Arc<Route> {
    Arc::new(Route::new(path, RouteAction::to("c")))
}

fn prefix(prefix: String) -> PathMatch {
    PathMatch::Prefix { prefix, case_sensitive: true }
}

fn routes(count: usize) -> Vec<Arc<Route>> {
    (0..count)
        .map(|at| match at % 4 {
            0 => PathMatch::Exact { path: format!("/exact/{at}"), case_sensitive: true },
            1 => PathMatch::Regex(Regex::new(&format!("/regex/{at}/[0-9]+")).unwrap()),
            // Of many lengths, and nested in one another.
            2 => prefix(format!("/prefix/{}/", "x".repeat(at % 64))),
            _ => prefix(format!("/prefix/{at}/")),
        })
        .chain([prefix("/".into())])
        .map(route)
        .collect()
}

fn table(hosts: usize, count: usize) -> Table {
    let routes = routes(count);
    let host = |name: String, domains: Vec<String>| VirtualHost {
        name,
        domains,
        routes: routes.clone(),
        ..VirtualHost::default()
    };
    let mut virtual_hosts: Vec<_> = (0..hosts)
        .map(|at| host(format!("h{at}"), vec![format!("h{at}.example.com"), format!("*.h{at}.example.com")]))
        .collect();
    virtual_hosts.push(host("any".into(), vec!["*".into()]));
    Table::compile(&RouteConfiguration { virtual_hosts, ..RouteConfiguration::default() })
}

fn decisions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route");
    group.sample_size(20).measurement_time(std::time::Duration::from_secs(1));
    group.warm_up_time(std::time::Duration::from_millis(300));
    for (name, hosts, count) in
        [("one host of 4", 0, 4), ("10 hosts of 10", 10, 10), ("1000 hosts of 1000", 1000, 1000)]
    {
        let table = table(hosts, count);
        for (case, authority, path) in [
            ("exact host, exact path", "h0.example.com", "/exact/8?x=1"),
            ("exact host, prefix", "h0.example.com", "/prefix/3/and/more"),
            ("exact host, regex", "h0.example.com", "/regex/1/77"),
            ("wildcard host, last prefix", "a.h0.example.com", "/none/of/those/that/are/here"),
        ] {
            let head = RequestHead::new(Method::GET, authority, path);
            assert!(table.route(&Facts::of(&head)).is_some());
            group.bench_function(format!("{name}: {case}"), |b| b.iter(|| table.route(&Facts::of(black_box(&head)))));
        }
    }
    group.finish();
}

criterion_group!(benches, decisions);
criterion_main!(benches);
