//! Redirects that are followed in place of the client: it sees one request and one answer.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use heirloom::config::model::*;

use crate::access_log::{File, format, logs};
use crate::motion::Way;
use crate::support::configured::{start, text};
use crate::support::http2::{all, connect, post, run, send_all};
use crate::support::models::*;
use crate::support::origin::{Origin, ok};
use crate::support::proxy::Proxy;

fn policy() -> InternalRedirects {
    InternalRedirects {
        most: 1,
        codes: vec![302, 303, 307],
        cross_scheme: false,
        copied: Vec::new(),
        predicates: Vec::new(),
    }
}

fn following(prefix: &str, policy: InternalRedirects) -> Route {
    let mut route = route(prefix, "origin");
    if let RouteAction::Forward(forward) = &mut route.action {
        forward.redirects = Some(Box::new(policy));
    }
    route
}

/// Sends `/from` (and what begins so) elsewhere, and says what it was asked at any other path.
fn origin(status: u16, location: &'static str) -> Origin {
    Origin::http(move |request| {
        if request.path().starts_with("/from") {
            let body = "gone away";
            let length = body.len();
            return format!(
                "HTTP/1.1 {status} Elsewhere\r\nlocation: {location}\r\ncontent-length: {length}\r\n\r\n{body}"
            )
            .into_bytes();
        }
        ok(&format!("{} {} {}", request.method(), request.path(), request.text()))
    })
}

fn proxy(origin: &Origin, routes: Vec<Route>) -> Proxy {
    Proxy::start(manager(routes), vec![cluster("origin", &[origin.address])])
}

fn counts(proxy: &Proxy) -> (u64, u64) {
    let of = |name: &str| proxy.counter(&format!("cluster.origin.upstream_internal_redirect_{name}_total"));
    (of("succeeded"), of("failed"))
}

#[test]
fn an_upload_is_sent_again_and_the_client_hears_nothing_of_it() {
    for (status, expected) in
        [(307, "POST /to?x=1 hello world"), (302, "POST /to?x=1 hello world"), (303, "GET /to?x=1 ")]
    {
        let origin = origin(status, "http://test/to?x=1");
        let proxy = proxy(&origin, vec![following("/from", policy()), route("/", "origin")]);
        let mut client = proxy.connect();
        for _ in 0..3 {
            client.send("POST /from HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n6\r\nhello \r\n");
            client.send("5\r\nworld\r\n0\r\n\r\n");
            let response = client.response();
            assert_eq!((response.status(), response.text()), (200, expected), "{status}");
            assert_eq!(response.header("location"), None);
        }
        assert_eq!(counts(&proxy), (3, 0));
        for (name, value) in [
            ("http.test.downstream_rq_total", 6),
            ("http.test.downstream_rq_2xx", 3),
            ("http.test.downstream_rq_completed", 3),
            ("http.test.rq_total", 6),
        ] {
            proxy.await_counter(name, value);
        }
        proxy.await_gauge("http.test.downstream_rq_active", 0);
        proxy.await_gauge("cluster.origin.upstream_rq_active", 0);
    }
}

#[test]
fn streams_of_http2_follow_too() {
    let origin = origin(307, "http://test/to");
    let proxy = proxy(&origin, vec![following("/from", policy()), route("/", "origin")]);
    run(async {
        let (send, _) = connect(proxy.address).await;
        let (response, mut body) = send.clone().ready().await.unwrap().send_request(post("/from"), false).unwrap();
        send_all(&mut body, Bytes::from(vec![b'x'; 100_000]), true).await.unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        let (answer, _) = all(&mut response.into_body()).await.unwrap();
        assert_eq!(answer.len(), "POST /to ".len() + 100_000);
    });
    assert_eq!(counts(&proxy), (1, 0));
}

#[test]
fn what_cannot_be_followed_is_passed_on_and_counted_why() {
    type Change = fn(&mut InternalRedirects);
    let rows: [(&str, Change, &str); 7] = [
        ("/to", |_| (), "bad_location"),
        ("http://", |_| (), "bad_location"),
        ("http://test/a b", |_| (), "bad_location"),
        ("http://test/nowhere", |_| (), "no_route"),
        ("https://test/to", |_| (), "unsafe_scheme"),
        ("http://test/to", |policy| policy.most = 0, "too_many_redirects"),
        (
            "http://test/to",
            |policy| policy.predicates = vec![RedirectPredicate::AllowListed(vec!["other".into()])],
            "predicate",
        ),
    ];
    for (location, change, why) in rows {
        let origin = origin(302, location);
        let mut policy = policy();
        change(&mut policy);
        let proxy = proxy(&origin, vec![following("/from", policy), route("/to", "origin")]);
        let mut client = proxy.connect();
        let response = client.get("/from");
        assert_eq!((response.status(), response.text()), (302, "gone away"), "{location}");
        assert_eq!(proxy.counter(&format!("http.test.passthrough_internal_redirect_{why}")), 1, "{location}");
        assert_eq!(counts(&proxy), (0, 1));
        assert_eq!(client.get("/to").status(), 200, "the connection is kept");
        assert_eq!(proxy.gauge("http.test.downstream_rq_active"), 0);
    }
}

#[test]
fn two_routes_that_send_to_each_other_come_to_an_end() {
    let origin = Origin::http(|request| {
        let to = if request.path() == "/a" { "b" } else { "a" };
        format!("HTTP/1.1 302 Found\r\nlocation: http://test/{to}\r\ncontent-length: 0\r\n\r\n").into_bytes()
    });
    let most = |most| InternalRedirects { most, ..policy() };
    let proxy = proxy(&origin, vec![following("/a", most(20)), following("/b", most(20))]);
    let mut client = proxy.connect();
    assert_eq!(client.get("/a").status(), 302);
    assert_eq!(origin.requests(), 21);
    assert_eq!(counts(&proxy), (20, 1));
    assert_eq!(proxy.counter("http.test.passthrough_internal_redirect_too_many_redirects"), 1);
}

#[test]
fn a_body_that_is_not_kept_is_not_sent_again() {
    let origin = origin(307, "http://test/to");
    let mut route = following("/from", policy());
    if let RouteAction::Forward(forward) = &mut route.action {
        forward.tries = Tries { body_limit: Some(1000), ..Tries::default() }.into();
    }
    let proxy = proxy(&origin, vec![route, self::route("/", "origin")]);
    let mut client = proxy.connect();
    let body = "x".repeat(1001);
    client.send(format!("POST /from HTTP/1.1\r\nhost: test\r\ncontent-length: 1001\r\n\r\n{body}"));
    assert_eq!(client.response().status(), 307);
    assert_eq!(counts(&proxy), (0, 1));
    assert_eq!(proxy.counter("cluster.origin.retry_or_shadow_abandoned"), 1);
}

/// Filters see the second request as another one.
#[test]
fn filters_run_again() {
    let origin = Origin::http(|request| {
        let marks: Vec<&str> =
            request.headers.iter().filter(|(name, _)| name == "x-m").map(|(_, value)| &**value).collect();
        if request.path() == "/from" {
            return b"HTTP/1.1 302 Found\r\nlocation: http://test/to\r\ncontent-length: 0\r\n\r\n".to_vec();
        }
        ok(&marks.join(" "))
    });
    let filter = "- name: mutate\n  typed_config:\n    \"@\": header_mutation.v3.HeaderMutation\n    mutations:\n      \
                  request_mutations:\n      - append: { header: { key: x-m, value: \"%REQ(:PATH)%\" } }\n      \
                  response_mutations:\n      - append: { header: { key: x-answered, value: \"yes\" } }\n";
    let host = "routes:\n- match: { prefix: /from }\n  route: { cluster: origin, internal_redirect_policy: {} }\n\
                - match: { prefix: / }\n  route: { cluster: origin }\n";
    let proxy = start(text(filter, host, origin.address));
    let response = proxy.connect().get("/from");
    assert_eq!(response.text(), "/from /to");
    assert_eq!(response.headers.iter().filter(|(name, _)| name == "x-answered").count(), 1);
}

#[test]
fn each_of_them_has_its_line() {
    let file = File::new();
    let fields = "%RESPONSE_CODE% %RESPONSE_CODE_DETAILS% %UPSTREAM_REQUEST_ATTEMPT_COUNT% %ROUTE_NAME%";
    let access_logs = logs(&format(fields), &file.path);
    let origin = origin(302, "http://test/to");
    let mut routes = vec![following("/from", policy()), route("/", "origin")];
    routes[0].name = "from".into();
    routes[1].name = "to".into();
    let manager = HttpConnectionManager { access_logs, ..manager(routes) };
    let proxy = Proxy::start(manager, vec![cluster("origin", &[origin.address])]);
    assert_eq!(proxy.connect().get("/from").status(), 200);
    assert_eq!(file.lines(2), ["302 internal_redirect 1 from", "200 via_upstream 1 to"]);
}

/// The timeout is that of the route that answers.
#[test]
fn the_next_route_has_its_own_timeout() {
    let origin = Origin::raw(|_, mut wire| {
        while let Ok(Some(request)) = wire.head() {
            if request.path() == "/from" {
                let _ = wire
                    .socket
                    .write_all(b"HTTP/1.1 302 Found\r\nlocation: http://test/to\r\ncontent-length: 0\r\n\r\n");
            }
        }
    });
    let slow = route_with_timeout("/to", "origin", Some(Duration::from_millis(100)));
    let mut from = following("/from", policy());
    if let RouteAction::Forward(forward) = &mut from.action {
        forward.timeout = None;
    }
    let proxy = proxy(&origin, vec![from, slow]);
    assert_eq!(proxy.connect().get("/from").status(), 504);
}

/// A request that is about to be sent elsewhere stays where it is until its response comes; its connection moves then.
#[test]
fn its_connection_moves_behind_it() {
    let origin = Origin::raw(|_, mut wire| {
        while let Ok(Some(request)) = wire.head() {
            std::thread::park_timeout(Duration::from_millis(200));
            let _ = wire.socket.write_all(&match request.path() {
                "/from" => b"HTTP/1.1 302 Found\r\nlocation: http://test/to\r\ncontent-length: 0\r\n\r\n".to_vec(),
                path => ok(path),
            });
        }
    });
    let routes = || vec![following("/from", policy()), route("/", "origin")];
    let (old, new) = (proxy(&origin, routes()), proxy(&origin, routes()));
    let mut client = old.connect();
    client.send("GET /from HTTP/1.1\r\nhost: test\r\n\r\n");
    old.await_gauge("cluster.origin.upstream_rq_active", 1);
    let way = Way::open(&old, &new);
    let response = client.response();
    assert_eq!((response.text(), response.header("connection")), ("/to", None));
    new.await_gauge("http.test.downstream_cx_active", 1);
    assert_eq!(client.get("/next").text(), "/next");
    assert_eq!(way.close(&old), (1, Vec::new()));
}
