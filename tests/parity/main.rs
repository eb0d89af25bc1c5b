//! Parity: the same configuration and the same bytes through Envoy 1.40 and through Heirloom.
//!
//! Each file of `themes/` is a configuration and a list of exchanges (its form is told in [`theme`]). An exchange is run through both proxies
//! at once; what the client got, what the upstream got, whether the connection stayed open and which counters moved by how much must be the
//! same. What is not stands in `differences.txt` with its reason, and an entry there that nothing needs any more is a fault too.
//!
//! Envoy is found by `HEIRLOOM_PARITY_ENVOY`, or where `install.sh` puts it; without it every test says that it is skipped, and is.
//! `HEIRLOOM_PARITY_ONLY` is a part of the names of the exchanges to run, and prints what both sides saw.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "in a test a panic is the report")]
#![allow(clippy::print_stderr, reason = "a skipped test says so")]

use std::path::{Path, PathBuf};

mod client;
mod compare;
mod http2;
mod side;
#[path = "../support/mod.rs"]
mod support;
mod theme;
mod upstream;

use compare::Differences;
use side::Side;
use theme::Theme;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity")
}

/// The oracle, where there is one.
fn envoy() -> Option<PathBuf> {
    let installed = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../parity/envoy");
    let path = std::env::var_os("HEIRLOOM_PARITY_ENVOY").map_or(installed, PathBuf::from);
    let version = std::process::Command::new(&path).arg("--version").output().ok()?;
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    assert!(version.contains("/1.40."), "{} is not Envoy 1.40: {version}", path.display());
    Some(path)
}

/// The proxy under test.
fn heirloom() -> PathBuf {
    std::env::var_os("HEIRLOOM_BIN").map_or_else(|| env!("CARGO_BIN_EXE_heirloom").into(), PathBuf::from)
}

fn run(name: &str) {
    let Some(envoy) = envoy() else {
        eprintln!("skipped: no Envoy 1.40 (tests/parity/install.sh, or HEIRLOOM_PARITY_ENVOY=PATH)");
        return;
    };
    let theme = Theme::read(name);
    let only = std::env::var("HEIRLOOM_PARITY_ONLY").ok();
    let mut differences = Differences::read(name);
    let mut envoy = Side::start("envoy", &envoy, &["--use-dynamic-base-id", "-l", "error"], &theme);
    let mut ours = Side::start("heirloom", &heirloom(), &["-l", "error"], &theme);
    let mut wrong = Vec::new();
    for exchange in &theme.exchanges {
        if only.as_ref().is_some_and(|only| !exchange.name.contains(only)) {
            continue;
        }
        let fates = client::Fates::default();
        let (envoy_saw, we_saw) = std::thread::scope(|scope| {
            let other = scope.spawn(|| envoy.run(exchange, &fates, 0));
            let own = ours.run(exchange, &fates, 1);
            (other.join().unwrap(), own)
        });
        if only.is_some() {
            eprintln!("{}: envoy {envoy_saw:#?}\nheirloom {we_saw:#?}", exchange.name);
        }
        let unexpected: Vec<String> = compare::differences(&envoy_saw, &we_saw)
            .into_iter()
            .filter(|line| !differences.knows(&exchange.name, line))
            .collect();
        if !unexpected.is_empty() {
            wrong.push(format!("{name} / {}\n    {}", exchange.name, unexpected.join("\n    ")));
        }
    }
    if only.is_none() {
        wrong.extend(differences.unneeded());
    }
    assert!(wrong.is_empty(), "{} of {} exchanges:\n{}", wrong.len(), theme.exchanges.len(), wrong.join("\n"));
}

macro_rules! themes {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            run(stringify!($name));
        })*

        const THEMES: &[&str] = &[$(stringify!($name)),*];
    };
}

themes! {
    chain
    connect
    cors
    descriptors
    edge
    faults
    forwarded
    forwarded_edge
    grpc
    grpc_http1_bridge
    grpc_reverse_bridge
    grpc_stats
    grpc_stats_all
    grpc_web
    headers
    health
    hedging
    http2_connect
    http2_upgrades
    internal_redirects
    levels
    lifetimes
    local_replies
    matching
    messages
    mirroring
    mixed
    normal_form
    not_extended
    old_fields
    proxy_status
    redirects
    retries
    rewrites
    router
    routing
    runtime
    shaped_replies
    strictness
    tolerant
    trailers
    upgrades
    weighted
}

#[test]
fn every_theme_is_run_and_there_is_enough_of_them() {
    let files = std::fs::read_dir(folder().join("themes")).unwrap();
    let mut names: Vec<String> =
        files.map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    assert_eq!(names, THEMES);
    let exchanges: usize = names.iter().map(|name| Theme::read(name).exchanges.len()).sum();
    assert!(exchanges >= 120, "only {exchanges}");
    Differences::all();
}
