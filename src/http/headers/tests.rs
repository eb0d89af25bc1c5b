//! Heads as Envoy 1.40 was seen to write them.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::BytesMut;
use http::{HeaderValue, Method, StatusCode};

use super::*;
use crate::codec::http1::{
    Body, Limits, Refusal, RequestRules, Scan, encode_request, encode_response, parse_request, parse_response,
};
use crate::codec::{RequestHead, ResponseHead, Scheme};
use crate::config::model::RouteConfiguration;

fn manager() -> HttpConnectionManager {
    HttpConnectionManager {
        stat_prefix: "h".into(),
        routes: Arc::new(RouteConfiguration {
            internal_only_headers: vec!["x-secret".into()],
            ..RouteConfiguration::default()
        }),
        ..HttpConnectionManager::default()
    }
}

fn edge() -> HttpConnectionManager {
    HttpConnectionManager { use_remote_address: true, ..manager() }
}

/// A client on loopback, as all captures had.
fn local() -> ConnectionFacts {
    ConnectionFacts {
        upgrade: false,
        mutual: false,
        local_port: Some(8080),
        peer: Some(IpAddr::from([127, 0, 0, 1])),
        own_address: Some(IpAddr::from([192, 0, 2, 2])),
        tls: false,
    }
}

fn head(fields: &str) -> RequestHead {
    let text = format!("GET /x HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    parse_request(&mut BytesMut::from(&*text), &mut Scan::default(), &RequestRules::default()).unwrap().unwrap().head
}

/// What the upstream sees after its first two lines.
fn sent(manager: &HttpConnectionManager, connection: &ConnectionFacts, fields: &str) -> (Client, String) {
    let mut head = head(fields);
    let rules = Rules::compile(manager).unwrap();
    let mut ids = Ids::fixed(HeaderValue::from_static("ID"));
    let client = prepare_request(&mut head, &rules, connection, &mut ids).unwrap();
    announce_timeout(&mut head.headers, Duration::from_secs(15));
    let mut out = BytesMut::new();
    encode_request(&head, Body::Empty, &mut out);
    let text = String::from_utf8(out.to_vec()).unwrap();
    (client, text.strip_prefix("GET /x HTTP/1.1\r\nhost: a\r\n").unwrap().strip_suffix("\r\n").unwrap().into())
}

#[track_caller]
fn upstream_sees(manager: &HttpConnectionManager, fields: &str, expected: &[&str]) {
    let (_, text) = sent(manager, &local(), fields);
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn a_plain_request() {
    upstream_sees(
        &manager(),
        "Foo: 1\r\n",
        &["foo: 1", "x-forwarded-proto: http", "x-request-id: ID", "x-envoy-expected-rq-timeout-ms: 15000"],
    );
}

#[test]
fn an_edge_that_names_itself() {
    let manager =
        HttpConnectionManager { add_user_agent: Some(("ncl".into(), "nid".into())), via: "gw".into(), ..edge() };
    upstream_sees(
        &manager,
        "User-Agent: c\r\nAccept: */*\r\nTE: trailers, gzip\r\nKeep-Alive: 1\r\nProxy-Connection: x\r\n\
         Connection: X-Foo\r\nX-Foo: 1\r\nMiXed-CaSe: V\r\n",
        &[
            "user-agent: c",
            "accept: */*",
            "te: trailers",
            "mixed-case: V",
            "x-forwarded-for: 192.0.2.2",
            "x-forwarded-proto: http",
            "x-envoy-downstream-service-cluster: ncl",
            "x-envoy-downstream-service-node: nid",
            "via: gw",
            "x-envoy-external-address: 127.0.0.1",
            "x-request-id: ID",
            "x-envoy-expected-rq-timeout-ms: 15000",
        ],
    );
    upstream_sees(
        &manager,
        "Via: c\r\nX-Request-Id: mine\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 5.6.7.8\r\nX-Forwarded-Proto: https\r\n\
         X-Envoy-Internal: true\r\nX-Envoy-Expected-Rq-Timeout-Ms: 1\r\nX-Envoy-Original-Path: /o\r\n\
         X-Envoy-External-Address: 9.9.9.9\r\nX-Envoy-Downstream-Service-Cluster: x\r\nX-Forwarded-Client-Cert: y\r\n\
         X-Envoy-Attempt-Count: 3\r\nX-Envoy-Peer-Metadata: z\r\nX-Envoy-Upstream-Rq-Timeout-Ms: 7\r\nX-Secret: s\r\n",
        &[
            "via: c, gw",
            "x-request-id: ID",
            "x-forwarded-for: 1.2.3.4,5.6.7.8,192.0.2.2",
            "x-forwarded-proto: http",
            "x-envoy-external-address: 127.0.0.1",
            "x-envoy-attempt-count: 3",
            "x-envoy-peer-metadata: z",
            "x-envoy-downstream-service-cluster: ncl",
            "user-agent: ncl",
            "x-envoy-downstream-service-node: nid",
            "x-envoy-expected-rq-timeout-ms: 15000",
        ],
    );
}

#[test]
fn behind_a_trusted_proxy() {
    upstream_sees(
        &manager(),
        "X-Request-Id: mine\r\nX-Forwarded-For: 1.2.3.4, 5.6.7.8\r\nX-Forwarded-Proto: ftp\r\nX-Envoy-Internal: true\r\n\
         X-Envoy-Expected-Rq-Timeout-Ms: 1\r\nX-Envoy-Original-Path: /o\r\nX-Envoy-External-Address: 9.9.9.9\r\n\
         X-Envoy-Downstream-Service-Cluster: x\r\nX-Envoy-Upstream-Rq-Timeout-Ms: 7\r\n",
        &[
            "x-request-id: mine",
            "x-forwarded-for: 1.2.3.4, 5.6.7.8",
            "x-forwarded-proto: ftp",
            "x-envoy-original-path: /o",
            "x-envoy-external-address: 9.9.9.9",
            "x-envoy-downstream-service-cluster: x",
            "x-envoy-expected-rq-timeout-ms: 15000",
        ],
    );
    let hops = HttpConnectionManager { xff_num_trusted_hops: 1, ..edge() };
    upstream_sees(
        &hops,
        "X-Forwarded-For: 1.2.3.4, 5.6.7.8\r\nX-Forwarded-Proto: https\r\nX-Request-Id: mine\r\n",
        &[
            "x-forwarded-for: 1.2.3.4, 5.6.7.8,192.0.2.2",
            "x-forwarded-proto: https",
            "x-request-id: ID",
            "x-envoy-external-address: 5.6.7.8",
            "x-envoy-expected-rq-timeout-ms: 15000",
        ],
    );
}

#[test]
fn the_client_by_rule() {
    let address = |text: &str| Some(text.parse::<IpAddr>().unwrap());
    // use_remote_address, trusted hops, x-forwarded-for, expected
    let rows = [
        (true, 0, "", "127.0.0.1"),
        (true, 0, "1.1.1.1", "127.0.0.1"),
        (true, 1, "1.1.1.1, 2.2.2.2", "2.2.2.2"),
        (true, 2, "1.1.1.1, 2.2.2.2", "1.1.1.1"),
        (true, 3, "1.1.1.1, 2.2.2.2", "127.0.0.1"),
        (true, 1, "bogus", "127.0.0.1"),
        (false, 0, "", "127.0.0.1"),
        (false, 0, "1.1.1.1, 2.2.2.2", "2.2.2.2"),
        (false, 1, "1.1.1.1, 2.2.2.2", "1.1.1.1"),
        (false, 2, "1.1.1.1, 2.2.2.2", "127.0.0.1"),
        (false, 0, "1.1.1.1, x", "127.0.0.1"),
        (false, 0, "2001:db8::1", "2001:db8::1"),
    ];
    for (use_remote_address, xff_num_trusted_hops, forwarded, expected) in rows {
        let manager = HttpConnectionManager { use_remote_address, xff_num_trusted_hops, ..manager() };
        let fields = if forwarded.is_empty() { String::new() } else { format!("X-Forwarded-For: {forwarded}\r\n") };
        let (client, _) = sent(&manager, &local(), &fields);
        let row = (use_remote_address, xff_num_trusted_hops, forwarded);
        assert_eq!(
            (client.address, client.internal, client.edge),
            (address(expected), false, use_remote_address),
            "{row:?}"
        );
    }
}

#[test]
fn the_client_by_detection() {
    let header = |trusted, reject| IpDetection::Header { name: "x-real".parse().unwrap(), trusted, reject };
    let forwarded = |hops, append| IpDetection::Forwarded { trusted: None, hops, append };
    let detect = |ip_detection: Vec<IpDetection>, fields: &str| {
        let inside = vec![Cidr { network: [10, 0, 0, 0].into(), prefix: 8 }];
        let manager = HttpConnectionManager { ip_detection, internal_addresses: inside, ..manager() };
        let mut head = head(fields);
        let rules = Rules::compile(&manager).unwrap();
        prepare_request(&mut head, &rules, &local(), &mut Ids::random()).map(|client| {
            let forwarded = head.headers.get(&names::X_FORWARDED_FOR).map(|value| value.to_str().unwrap().to_owned());
            (client.address.unwrap().to_string(), client.internal, forwarded)
        })
    };
    let is =
        |address: &str, internal, forwarded: Option<&str>| Ok((address.into(), internal, forwarded.map(Into::into)));
    assert_eq!(detect(vec![header(false, None)], "X-Real: 10.1.1.1\r\n"), is("10.1.1.1", false, None));
    assert_eq!(detect(vec![header(true, None)], "X-Real: 10.1.1.1\r\n"), is("10.1.1.1", true, None));
    assert_eq!(detect(vec![header(true, None)], "X-Real: 1.1.1.1:80\r\n"), is("127.0.0.1", false, None));
    assert_eq!(detect(vec![header(true, None)], "X-Real: 2001:db8::1\r\n"), is("2001:db8::1", false, None));
    let refused = Err(Turned::Refused(Refusal::unknown_client(401)));
    assert_eq!(detect(vec![header(false, Some(401))], "X-Real: bogus\r\n"), refused);
    assert_eq!(detect(vec![header(false, Some(401))], ""), refused);
    let alone = "X-Forwarded-For: 10.2.2.2\r\n";
    let two = "X-Forwarded-For: 1.2.3.4, 10.2.2.2\r\n";
    assert_eq!(detect(vec![forwarded(0, false)], alone), is("10.2.2.2", true, Some("10.2.2.2")));
    assert_eq!(detect(vec![forwarded(0, false)], two), is("10.2.2.2", false, Some("1.2.3.4, 10.2.2.2")));
    assert_eq!(detect(vec![forwarded(1, false)], two), is("1.2.3.4", false, Some("1.2.3.4, 10.2.2.2")));
    assert_eq!(detect(vec![forwarded(1, true)], alone), is("127.0.0.1", false, Some("10.2.2.2,192.0.2.2")));
    assert_eq!(detect(vec![header(false, None), forwarded(0, false)], alone), is("10.2.2.2", true, Some("10.2.2.2")));
    let both = vec![forwarded(1, true), header(false, None)];
    assert_eq!(detect(both, "X-Real: 1.1.1.1\r\n"), is("1.1.1.1", false, Some("192.0.2.2")));
}

#[test]
fn internal_requests() {
    let inside = |use_remote_address| HttpConnectionManager {
        use_remote_address,
        internal_addresses: vec![
            Cidr { network: [10, 0, 0, 0].into(), prefix: 8 },
            Cidr { network: [127, 0, 0, 1].into(), prefix: 32 },
            Cidr { network: "fd00::".parse().unwrap(), prefix: 7 },
        ],
        internal_unix_sockets: true,
        ..manager()
    };
    let secret = "X-Secret: s\r\nX-Envoy-Max-Retries: 3\r\nX-Request-Id: mine\r\n";
    let (client, text) = sent(&inside(true), &local(), secret);
    assert!(client.internal && !client.edge);
    assert_eq!(
        text.lines().collect::<Vec<_>>(),
        [
            "x-secret: s",
            "x-envoy-max-retries: 3",
            "x-request-id: mine",
            "x-forwarded-for: 192.0.2.2",
            "x-forwarded-proto: http",
            "x-envoy-internal: true",
            "x-envoy-expected-rq-timeout-ms: 15000",
        ]
    );
    // use_remote_address, x-forwarded-for, internal
    let rows = [
        (true, "10.0.0.1", false),
        (false, "10.0.0.1", true),
        (false, "10.0.0.1, 10.0.0.2", false),
        (false, "11.0.0.1", false),
        (false, "fdff::1", true),
        (false, "fe00::1", false),
    ];
    for (use_remote_address, forwarded, internal) in rows {
        let (client, text) = sent(&inside(use_remote_address), &local(), &format!("X-Forwarded-For: {forwarded}\r\n"));
        assert_eq!(client.internal, internal, "{forwarded}");
        assert_eq!(text.contains("x-envoy-internal: true\r\n"), internal, "{forwarded}");
    }
    let unix = ConnectionFacts { peer: None, ..local() };
    let (client, text) = sent(&inside(true), &unix, "");
    assert!(client.internal && client.address.is_none() && !text.contains("x-forwarded-for"));
}

#[test]
fn request_ids() {
    // preserve, generate, given, sent
    let rows = [
        (false, true, Some("mine"), Some("ID")),
        (true, true, Some("mine"), Some("mine")),
        (true, true, None, Some("ID")),
        (false, false, None, None),
        (false, false, Some("mine"), Some("mine")),
    ];
    for (preserve_external_request_id, generate_request_id, given, expected) in rows {
        let manager = HttpConnectionManager { preserve_external_request_id, generate_request_id, ..edge() };
        let fields = given.map(|id| format!("X-Request-Id: {id}\r\n")).unwrap_or_default();
        let (_, text) = sent(&manager, &local(), &fields);
        let id = text.lines().find_map(|line| line.strip_prefix("x-request-id: "));
        assert_eq!(id, expected, "{given:?}");
    }
    let mut made = head("");
    prepare_request(&mut made, &Rules::compile(&manager()).unwrap(), &local(), &mut Ids::random()).unwrap();
    let id = made.headers.get(&names::X_REQUEST_ID).unwrap().to_str().unwrap().to_owned();
    assert_eq!(uuid::Uuid::parse_str(&id).unwrap().get_version_num(), 4);
}

#[test]
fn addresses_of_all_kinds_are_written() {
    let from = |peer: &str, own: Option<IpAddr>| ConnectionFacts {
        upgrade: false,
        mutual: false,
        local_port: Some(8080),
        peer: Some(peer.parse().unwrap()),
        own_address: own,
        tls: true,
    };
    let rows = [
        (
            from("203.0.113.255", None),
            "x-forwarded-for: 203.0.113.255\r\nx-forwarded-proto: https\r\nx-envoy-external-address: 203.0.113.255\r\n",
        ),
        (
            from("2001:db8::1", None),
            "x-forwarded-for: 2001:db8::1\r\nx-forwarded-proto: https\r\nx-envoy-external-address: 2001:db8::1\r\n",
        ),
        (from("::1", None), "x-forwarded-for: ::1\r\nx-forwarded-proto: https\r\nx-envoy-external-address: ::1\r\n"),
        (
            from("127.3.0.1", local().own_address),
            "x-forwarded-for: 192.0.2.2\r\nx-forwarded-proto: https\r\nx-envoy-external-address: 127.3.0.1\r\n",
        ),
    ];
    for (connection, expected) in rows {
        let (_, text) = sent(&edge(), &connection, "");
        assert!(text.starts_with(expected), "{text}");
    }
    let silent = HttpConnectionManager { skip_xff_append: true, ..edge() };
    upstream_sees(
        &silent,
        "X-Forwarded-For: 1.2.3.4\r\n",
        &[
            "x-forwarded-for: 1.2.3.4",
            "x-forwarded-proto: http",
            "x-envoy-external-address: 127.0.0.1",
            "x-request-id: ID",
            "x-envoy-expected-rq-timeout-ms: 15000",
        ],
    );
}

#[test]
fn hop_by_hop() {
    let rows = [
        ("Connection: close\r\nFoo: 1\r\n", "foo: 1\r\n"),
        ("Connection: te, close\r\nTE: trailers, gzip\r\n", "te: trailers\r\n"),
        ("TE: gzip\r\n", ""),
        ("TE: Trailers;q=0.5\r\n", "te: trailers\r\n"),
        ("Connection: connection, Cookie\r\nCookie: 1\r\n", ""),
        ("Connection: a,b,c,d,e,f,g,h,i\r\nB: 1\r\nZ: 1\r\n", "z: 1\r\n"),
        ("Connection: b\r\nConnection: c\r\nB: 1\r\nC: 1\r\n", ""),
        ("Upgrade: websocket\r\n", ""),
        ("Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n", ""),
        ("Transfer-Encoding: chunked\r\n", ""),
        ("Expect: 100-continue\r\n", ""),
        ("Expect: foo\r\n", "expect: foo\r\n"),
    ];
    for (fields, expected) in rows {
        let (_, text) = sent(&manager(), &local(), fields);
        let added = "x-forwarded-proto: http\r\nx-request-id: ID\r\nx-envoy-expected-rq-timeout-ms: 15000\r\n";
        assert_eq!(text, format!("{expected}{added}"), "{fields:?}");
    }
}

#[test]
fn requests_that_are_refused() {
    let rules = Rules::compile(&manager()).unwrap();
    let refused = |mut head: RequestHead| prepare_request(&mut head, &rules, &local(), &mut Ids::random()).unwrap_err();
    for fields in [
        "Connection: x-forwarded-for\r\n",
        "Connection: X-Forwarded-Host\r\n",
        "Connection: close, x-forwarded-proto\r\n",
        "Connection: :path\r\n",
        "Connection: a,b,c,d,e,f,g,h,i,j\r\n",
        "Connection: a,b,c,d,e\r\nConnection: f,g,h,i,j\r\n",
    ] {
        assert_eq!(refused(head(fields)), Refusal::CONNECTION_HEADER.into(), "{fields:?}");
    }
    assert_eq!(refused(RequestHead::new(Method::GET, "a", "/x#f")), Refusal::PATH.into());
    assert_eq!(refused(RequestHead::new(Method::GET, "a", "/x?y#f")), Refusal::PATH.into());
    assert_eq!(refused(RequestHead::new(Method::OPTIONS, "a", "*")), Refusal::ABSOLUTE_PATH.into());
}

#[test]
fn the_scheme_is_known_afterwards() {
    let rules = Rules::compile(&manager()).unwrap();
    let scheme = |fields: &str, tls: bool, scheme| {
        let mut head = head(fields);
        head.scheme = scheme;
        prepare_request(&mut head, &rules, &ConnectionFacts { tls, ..local() }, &mut Ids::random()).unwrap();
        head.scheme.unwrap()
    };
    assert_eq!(scheme("", false, None), Scheme::Http);
    assert_eq!(scheme("", true, None), Scheme::Https);
    assert_eq!(scheme("X-Forwarded-Proto: https\r\n", false, None), Scheme::Https);
    assert_eq!(scheme("X-Forwarded-Proto: ftp\r\n", true, None), Scheme::Https);
    assert_eq!(scheme("", true, Some(Scheme::Http)), Scheme::Http);
}

fn answered(manager: &HttpConnectionManager, text: &str) -> String {
    let mut head = parse_response(
        &mut BytesMut::from(text),
        &mut Scan::default(),
        &Limits::default(),
        &Method::GET,
        crate::codec::http1::ResponseRules::default(),
    )
    .unwrap()
    .unwrap()
    .head;
    let rules = Rules::compile(manager).unwrap();
    let mut request = self::head("X-Request-Id: mine\r\n");
    request.headers.remove(&http::header::DATE);
    announce_service_time(&mut head.headers, Duration::from_micros(151_999));
    let facts = ResponseFacts { request: &request.headers, date: HeaderValue::from_static("D"), upgrade: false };
    prepare_response(&mut head, &rules, &facts);
    let mut out = BytesMut::new();
    encode_response(&head, Body::Length(2), &mut out);
    String::from_utf8(out.to_vec()).unwrap()
}

#[test]
fn responses() {
    let edge = HttpConnectionManager { via: "gw".into(), ..edge() };
    let full = "HTTP/1.1 200 OK\r\nServer: u\r\nVia: up\r\nKeep-Alive: 1\r\nProxy-Connection: 1\r\nConnection: X-R\r\nX-R: 1\r\n\
                Date: d\r\nX-Envoy-Upstream-Service-Time: 99\r\nContent-Length: 2\r\n\r\n";
    assert_eq!(
        answered(&edge, full),
        "HTTP/1.1 200 OK\r\nserver: envoy\r\nvia: up, gw\r\nx-r: 1\r\ndate: d\r\nx-envoy-upstream-service-time: 151\r\n\
         content-length: 2\r\n\r\n"
    );
    let bare = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
    let start = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-envoy-upstream-service-time: 151\r\ndate: D\r\n";
    assert_eq!(answered(&edge, bare), format!("{start}server: envoy\r\nvia: gw\r\n\r\n"));
    let with = |server_header| HttpConnectionManager { server_header, ..manager() };
    assert_eq!(answered(&with(ServerHeader::AppendIfAbsent), bare), format!("{start}server: envoy\r\n\r\n"));
    assert_eq!(answered(&with(ServerHeader::PassThrough), bare), format!("{start}\r\n"));
    for server_header in [ServerHeader::AppendIfAbsent, ServerHeader::PassThrough] {
        assert!(answered(&with(server_header), full).contains("\r\nserver: u\r\n"));
    }
    let traced = HttpConnectionManager { always_set_request_id_in_response: true, ..manager() };
    assert_eq!(answered(&traced, bare), format!("{start}server: envoy\r\nx-request-id: mine\r\n\r\n"));
}

#[test]
fn an_upgrade_keeps_its_headers() {
    let mut head = ResponseHead::new(StatusCode::SWITCHING_PROTOCOLS);
    head.headers.append(http::header::CONNECTION, HeaderValue::from_static("upgrade"));
    head.headers.append(http::header::UPGRADE, HeaderValue::from_static("websocket"));
    let request = self::head("").headers;
    let facts = ResponseFacts { request: &request, date: HeaderValue::from_static("D"), upgrade: true };
    prepare_response(&mut head, &Rules::compile(&manager()).unwrap(), &facts);
    assert_eq!(head.headers.len(), 4);
}

#[test]
fn a_date_is_made_once_a_second() {
    let mut cache = DateCache::default();
    let at = |milliseconds| UNIX_EPOCH + Duration::from_millis(milliseconds);
    assert_eq!(cache.value(at(784_111_777_000)), "Sun, 06 Nov 1994 08:49:37 GMT");
    assert_eq!(cache.value(at(784_111_777_999)), "Sun, 06 Nov 1994 08:49:37 GMT");
    assert_eq!(cache.value(at(784_111_778_000)), "Sun, 06 Nov 1994 08:49:38 GMT");
    assert_eq!(cache.value(UNIX_EPOCH - Duration::from_secs(1)), "Thu, 01 Jan 1970 00:00:00 GMT");
    cache.value(SystemTime::UNIX_EPOCH + Duration::from_secs(u32::MAX as u64 * 1000));
}

#[test]
fn texts_that_no_header_can_carry_are_refused() {
    let manager = HttpConnectionManager { server_name: "a\nb".into(), ..manager() };
    assert!(Rules::compile(&manager).is_err());
}
