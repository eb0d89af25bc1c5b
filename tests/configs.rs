//! Every example configuration loads without a fault and without a warning.

#![allow(clippy::unwrap_used, clippy::panic, reason = "in a test a panic is the report")]

use std::path::{Path, PathBuf};

use heirloom::config::{self, LoadOptions, Loaded, Source};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("configs")
}

/// Where the examples have their certificates: there are none in the repository, so each test makes its own.
const CERTIFICATES: &str = "/etc/heirloom/tls";

/// The example with what it names below [`CERTIFICATES`] in a directory of the test.
fn load(path: PathBuf) -> Loaded {
    let directory = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    for (at, _) in text.match_indices(CERTIFICATES) {
        let name: String = text[at..].chars().take_while(|letter| !letter.is_whitespace() && *letter != '}').collect();
        let name = name.trim_start_matches(CERTIFICATES).trim_start_matches('/');
        if let Some(stem) = name.strip_suffix(".pem") {
            let key = rcgen::KeyPair::generate().unwrap();
            let params = rcgen::CertificateParams::new(vec![format!("{stem}.example.com")]).unwrap();
            std::fs::write(directory.path().join(name), params.self_signed(&key).unwrap().pem()).unwrap();
            std::fs::write(directory.path().join(format!("{stem}.key")), key.serialize_pem()).unwrap();
        }
    }
    let path = directory.path().join(path.file_name().unwrap());
    std::fs::write(&path, text.replace(CERTIFICATES, directory.path().to_str().unwrap())).unwrap();
    let source = Source { path: Some(path), yaml: None };
    let http_filters = heirloom::http::filters::kinds(&[]);
    config::load(&source, &LoadOptions { http_filters, ..LoadOptions::default() })
        .unwrap_or_else(|faults| panic!("{faults}"))
}

#[test]
fn every_example_loads_without_fault_or_warning() {
    let mut count = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let loaded = load(path.clone());
            let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
            assert!(warnings.is_empty(), "{}: {warnings:#?}", path.display());
            count += 1;
        }
    }
    assert!(count > 0, "no examples in {}", folder().display());
}

#[test]
fn front_proxy_has_two_routes_to_two_services() {
    use heirloom::config::model::{ClusterSpecifier, NetworkFilter, PathMatch, RouteAction};
    let bootstrap = load(folder().join("front-proxy.yaml")).bootstrap;
    assert_eq!(bootstrap.node.id, "front-proxy");
    assert_eq!(bootstrap.admin.as_ref().unwrap().address.to_string(), "127.0.0.1:9901");
    let names: Vec<&str> = bootstrap.clusters.iter().map(|cluster| cluster.name.as_str()).collect();
    assert_eq!(names, ["service1", "service2"]);
    let front = &bootstrap.listeners[0];
    assert_eq!(front.addresses[0].to_string(), "127.0.0.1:10000");
    assert_eq!(front.stat_prefix, "127.0.0.1_10000");
    let NetworkFilter::HttpConnectionManager(manager) = &front.filter_chains[0].filters[0] else {
        panic!("no connection manager");
    };
    let routes = &manager.routes.virtual_hosts[0].routes;
    let clusters: Vec<&str> = routes
        .iter()
        .map(|route| match &route.action {
            RouteAction::Forward(forward) => match &forward.cluster {
                ClusterSpecifier::Name(name) => name.as_str(),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(clusters, ["service1", "service2"]);
    assert_eq!(routes[1].path, PathMatch::Prefix { prefix: "/service/2".to_owned(), case_sensitive: true });
}
