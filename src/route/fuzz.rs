//! Routing of arbitrary requests by a table that has something of everything.

use std::cell::OnceCell;

use bytes::BytesMut;
use http::HeaderValue;

use super::{Facts, Table, cookie, hash, location, query, rewrite};
use crate::codec::RequestHead;
use crate::codec::http1::{Body, Limits, Refusal, RequestRules, Scan, encode_request, parse_request};
use crate::config::model::{NetworkFilter, RouteAction};
use crate::config::{LoadOptions, Source, load};

const CONFIGURATION: &str = include_str!("../../tests/fuzz/routes.yaml");

thread_local! {
    static TABLE: OnceCell<Table> = const { OnceCell::new() };
}

fn table() -> Table {
    let source = Source { yaml: Some(CONFIGURATION.to_owned()), ..Source::default() };
    let loaded = load(&source, &LoadOptions::default());
    assert!(loaded.is_ok(), "{}", loaded.err().map(|faults| faults.to_string()).unwrap_or_default());
    let listeners = loaded.map(|loaded| loaded.bootstrap.listeners).unwrap_or_default();
    let filters = listeners.iter().flat_map(|listener| &listener.filter_chains).flat_map(|chain| &chain.filters);
    let mut tables = filters.filter_map(|filter| match filter {
        NetworkFilter::HttpConnectionManager(manager) => Some(Table::compile(&manager.routes)),
        _ => None,
    });
    let table = tables.next();
    assert!(table.is_some(), "no routes");
    table.unwrap_or_else(|| Table::compile(&Default::default()))
}

/// Draws, then a request.
pub(crate) fn route(data: &[u8]) {
    let Some((random, text)) = data.split_first_chunk::<2>() else { return };
    let reading = RequestRules { custom_methods: true, accept_http_10: true, ..RequestRules::default() };
    let text = [text, b"\r\n\r\n"].concat();
    let Ok(Some(parsed)) = parse_request(&mut BytesMut::from(&*text), &mut Scan::default(), &reading) else { return };
    let head = parsed.head;
    let _ = (cookie(&head, "session"), query(&head, "a"));
    let facts = Facts { random: u64::from(u16::from_le_bytes(*random)), ..Facts::of(&head) };
    TABLE.with(|table| decide(table.get_or_init(self::table), &head, &facts));
}

fn decide(table: &Table, head: &RequestHead, facts: &Facts<'_>) {
    let Some(decision) = table.route(facts) else { return };
    table.virtual_cluster(&decision, facts);
    let _ = (decision.named_cluster(), decision.target());
    if let Some(location) = location(head, &decision) {
        assert!(!location.is_empty());
    }
    let mut sent = head.clone();
    decision.apply_to_request(&mut sent.headers, &mut |_| Some(HeaderValue::from_static("made")));
    if let RouteAction::Forward(forward) = decision.action() {
        let hashed = hash(&forward.hash_policy, head, None, "127.0.0.1:1127.0.0.1:2", &super::Nothing);
        for cookie in hashed.cookies {
            assert!(HeaderValue::from_str(&cookie).is_ok(), "{cookie}");
        }
        rewrite(&mut sent, &decision, false);
        let mut out = BytesMut::new();
        encode_request(&sent, Body::Empty, &mut out);
        let limits = Limits { bytes: 1 << 20, count: 4096 };
        let rules = RequestRules { limits, custom_methods: true, ..RequestRules::default() };
        let again = parse_request(&mut out, &mut Scan::default(), &rules);
        assert!(out.is_empty(), "there is something behind the head: {out:?}");
        match again {
            Ok(again) if sent.path.starts_with(b"/") => {
                assert_eq!(again.map(|parsed| parsed.head.path), Some(sent.path));
            }
            Ok(_) => {}
            // What a host is made of is the operator's business, as in Envoy, as long as it stays on its line.
            Err(refusal) => {
                assert!(!sent.path.starts_with(b"/") || refusal == Refusal::INVALID_AUTHORITY, "{refusal:?}")
            }
        }
    }
}
