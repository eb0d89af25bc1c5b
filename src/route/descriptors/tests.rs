//! What each action makes of a request.

use http::Method;

use super::*;
use crate::config::model::{Asked as Key, Cidr, Fixed, HeaderPattern, Hits, MetadataPath, QueryPattern, StringMatch};
use crate::route::Nothing;

fn limit(actions: Vec<DescriptorAction>) -> RateLimit {
    RateLimit {
        stage: 0,
        disable_key: String::new(),
        actions,
        limit: None,
        hits: None,
        on_stream_done: false,
        headers: None,
    }
}

fn made(limit: RateLimit) -> Option<(Vec<(String, String)>, i64)> {
    let mut head = RequestHead::new(Method::GET, "a.test", "/p?q=a%20b&r");
    head.headers.append(http::HeaderName::from_static("x-a"), http::HeaderValue::from_static("1"));
    head.headers.append(http::HeaderName::from_static("x-a"), http::HeaderValue::from_static("2"));
    let metadata = serde_json::json!({ "s": "text", "n": 1, "e": "" });
    let metadata = Metadata([("ns".to_owned(), metadata.as_object().unwrap().clone())].into());
    let request = Counted {
        head: &head,
        around: &Nothing,
        client: Some("192.0.2.77".parse().unwrap()),
        cluster: Some("app"),
        route: Some(&metadata),
        format: &|pieces| Some(pieces.len().to_string().into_bytes()),
    };
    let limits = RateLimits::compile(&[limit]);
    let mut descriptors = Vec::new();
    limits.describe(&request, |_| true, &mut descriptors);
    let descriptor = descriptors.pop()?;
    assert!(descriptors.is_empty());
    let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
    let entries = descriptor.entries.iter().map(|entry| (entry.key.to_owned(), text(&entry.value))).collect();
    Some((entries, descriptor.hits))
}

fn entry(action: DescriptorAction) -> Option<(String, String)> {
    made(limit(vec![action])).map(|(mut entries, _)| entries.remove(0))
}

fn is(action: DescriptorAction, key: &str, value: &str) {
    assert_eq!(entry(action.clone()), Some((key.to_owned(), value.to_owned())), "{action:?}");
}

fn field(name: &str) -> HeadField {
    HeadField::named(name).unwrap()
}

fn key(skip_if_absent: bool) -> Key {
    Key { key: "k".to_owned(), skip_if_absent }
}

fn fixed() -> Fixed {
    Fixed { key: "f".to_owned(), value: "v".to_owned() }
}

#[test]
fn actions_make_entries() {
    is(DescriptorAction::SourceCluster("me".to_owned()), "source_cluster", "me");
    is(DescriptorAction::DestinationCluster, "destination_cluster", "app");
    is(DescriptorAction::Header(key(false), field("x-a")), "k", "1");
    is(DescriptorAction::Header(key(false), field(":path")), "k", "/p?q=a%20b&r");
    is(DescriptorAction::Query(key(false), "q".to_owned()), "k", "a b");
    is(DescriptorAction::Query(key(false), "r".to_owned()), "k", "");
    is(DescriptorAction::Address, "remote_address", "192.0.2.77");
    is(DescriptorAction::Network { v4: 24, v6: 64 }, "masked_remote_address", "192.0.2.0/24");
    is(DescriptorAction::Network { v4: 0, v6: 64 }, "masked_remote_address", "0.0.0.0/0");
    is(DescriptorAction::Fixed(fixed()), "f", "v");
    let input = model::MatchInput::RequestHeader(field(":authority"));
    is(DescriptorAction::Input("ext".to_owned(), input), "ext", "a.test");
    assert_eq!(network("2001:db8::1".parse().unwrap(), 32, 32), "2001:db8::/32");
}

#[test]
fn an_action_without_a_value_drops_the_descriptor_or_is_left_out() {
    let absent = |skip| DescriptorAction::Header(key(skip), field("x-b"));
    let with = |action| made(limit(vec![DescriptorAction::Fixed(fixed()), action])).map(|(entries, _)| entries.len());
    assert_eq!(with(absent(false)), None);
    assert_eq!(with(absent(true)), Some(1));
    assert_eq!(made(limit(vec![absent(true)])), None, "nothing is left of it");
    assert_eq!(with(DescriptorAction::Query(key(false), "x".to_owned())), None);
}

#[test]
fn conditions_hold_or_are_expected_not_to() {
    let header = |value: &str, expected| {
        let pattern = HeaderPattern::Text(StringMatch::exact(value));
        let wanted = HeaderMatch { field: field("x-a"), pattern, invert: false, missing_is_empty: false };
        entry(DescriptorAction::Headers(fixed(), expected, vec![wanted])).is_some()
    };
    assert_eq!(
        [header("1", true), header("9", true), header("1", false), header("9", false)],
        [true, false, false, true]
    );
    let query = |name: &str| {
        let wanted = QueryMatch { name: name.to_owned(), pattern: QueryPattern::Present(true) };
        entry(DescriptorAction::Queries(fixed(), true, vec![wanted])).is_some()
    };
    assert_eq!([query("q"), query("z")], [true, false]);
    let within = |network: &str, expected| {
        let range = Cidr { network: network.parse().unwrap(), prefix: 24 };
        entry(DescriptorAction::Within(fixed(), expected, vec![range])).is_some()
    };
    assert_eq!([within("192.0.2.0", true), within("192.0.3.0", true), within("192.0.3.0", false)], [true, false, true]);
}

#[test]
fn metadata_is_a_text_that_is_not_empty() {
    let metadata = |name: &str, default: &str, of_route| {
        let at = MetadataPath { namespace: "ns".to_owned(), path: vec![name.to_owned()] };
        entry(DescriptorAction::Metadata { asked: key(false), at, of_route, default: default.to_owned() })
            .map(|(_, value)| value)
    };
    assert_eq!(metadata("s", "", true).as_deref(), Some("text"));
    assert_eq!(metadata("s", "", false), None, "the request has none");
    assert_eq!([metadata("n", "", true), metadata("e", "", true)], [None, None]);
    assert_eq!(metadata("e", "else", true).as_deref(), Some("else"));
}

#[test]
fn hits_are_what_they_say() {
    let hits = |number, negative| {
        let limit = RateLimit { hits: Some(Hits { number, negative }), ..limit(vec![DescriptorAction::Address]) };
        made(limit).map(|(_, hits)| hits)
    };
    assert_eq!(made(limit(vec![DescriptorAction::Address])).unwrap().1, 1);
    assert_eq!([hits(HitsNumber::Fixed(3), false), hits(HitsNumber::Fixed(3), true)], [Some(3), Some(-3)]);
    assert_eq!(hits(HitsNumber::Format(Vec::new()), false), Some(0));
}
