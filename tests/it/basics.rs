//! Requests that go well.

use crate::support::models::*;
use crate::support::origin::Origin;
use crate::support::proxy::Proxy;

#[test]
fn a_get_goes_through_and_comes_back() {
    let origin = Origin::http(|request| {
        assert_eq!(request.line, "GET /hello?x=1 HTTP/1.1");
        assert_eq!(request.header("host"), Some("test"));
        assert_eq!(request.header("x-forwarded-proto"), Some("http"));
        assert_eq!(request.header("x-envoy-expected-rq-timeout-ms"), Some("15000"));
        assert_eq!(request.header("x-request-id").map(str::len), Some(36));
        crate::support::origin::ok("world")
    });
    let proxy = Proxy::start(manager(vec![route("/", "origin")]), vec![cluster("origin", &[origin.address])]);
    let mut client = proxy.connect();
    let response = client.get("/hello?x=1");
    assert_eq!(response.line, "HTTP/1.1 200 OK");
    assert_eq!(response.text(), "world");
    assert_eq!(response.header("server"), Some("envoy"));
    assert!(response.header("date").is_some());
    assert!(response.header("x-envoy-upstream-service-time").is_some());
    client.assert_open();
}
