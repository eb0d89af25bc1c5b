//! The `header_mutation` filter: headers come and go on both ways.

use crate::support::configured::{faults, place, start, text};
use crate::support::http2::{connect, get, run};
use crate::support::origin::Origin;

fn filter(wins: bool) -> String {
    format!(
        r#"
- name: mutate
  typed_config:
    "@": header_mutation.v3.HeaderMutation
    most_specific_header_mutations_wins: {wins}
    mutations:
      request_mutations:
      - append: {{ header: {{ key: x-m, value: chain }} }}
      - append: {{ header: {{ key: x-copy, value: "%REQ(x-m)%-%REQ(:PATH)%" }} }}
      - remove: x-gone
      - remove_on_match: {{ key_matcher: {{ prefix: x-drop- }} }}
      - append: {{ header: {{ key: x-empty, value: "%REQ(x-none)%" }} }}
      - append: {{ header: {{ key: x-there, value: new }}, append_action: OVERWRITE_IF_EXISTS }}
      - append: {{ header: {{ key: x-not-there, value: new }}, append_action: OVERWRITE_IF_EXISTS }}
      - append: {{ header: {{ key: x-there, value: late }}, append_action: ADD_IF_ABSENT }}
      response_mutations:
      - append: {{ header: {{ key: x-answer, value: "%REQ(x-m)% %RESP(x-origin)%" }}, append_action: OVERWRITE_IF_EXISTS_OR_ADD }}
      - remove: x-origin
"#
    )
}

const ROUTE: &str = "{ \"@\": header_mutation.v3.HeaderMutationPerRoute, mutations: { request_mutations: [{ append: { header: { key: x-m, value: @ } } }] } }";

fn host() -> String {
    let said = |text: &str| ROUTE.replacen("value: @", &format!("value: {text}"), 1);
    format!(
        "typed_per_filter_config: {{ mutate: {} }}\nroutes:\n- match: {{ prefix: /route }}\n  route: {{ cluster: origin }}\n  typed_per_filter_config: {{ mutate: {} }}\n- match: {{ prefix: / }}\n  route: {{ cluster: origin }}\n",
        said("host"),
        said("route")
    )
}

fn origin() -> Origin {
    Origin::http(|request| {
        let fields = request.headers.iter().filter(|(name, _)| {
            name.starts_with("x-")
                && !name.starts_with("x-envoy")
                && !name.starts_with("x-f")
                && !name.starts_with("x-r")
        });
        let text: Vec<String> = fields.map(|(name, value)| format!("{name}={value}")).collect();
        let text = text.join(" ");
        let mut answer =
            format!("HTTP/1.1 200 OK\r\nx-origin: o\r\nx-answer: old\r\ncontent-length: {}\r\n\r\n", text.len());
        answer += &text;
        answer.into_bytes()
    })
}

#[test]
fn headers_come_and_go_in_order() {
    let origin = origin();
    for (wins, expected) in [(false, "x-m=route x-m=host"), (true, "x-m=host x-m=route")] {
        let proxy = start(text(&filter(wins), &host(), origin.address));
        let mut client = proxy.connect();
        client.send(
            "GET /route HTTP/1.1\r\nhost: test\r\nx-gone: 1\r\nx-drop-a: 1\r\nx-drop-b: 1\r\nx-there: old\r\n\r\n",
        );
        let response = client.response();
        assert_eq!(response.text(), format!("x-m=chain x-copy=chain-/route x-there=new {expected}"));
        let m = expected.replace("x-m=", "").replace(' ', ",");
        assert_eq!(response.header("x-answer"), Some(&*format!("chain,{m} o")), "wins: {wins}");
        assert_eq!(response.header("x-origin"), None);
        assert_eq!(response.headers.iter().filter(|(name, _)| name == "x-answer").count(), 1);
        assert_eq!(client.get("/").text(), "x-m=chain x-copy=chain-/ x-there=late x-m=host");
        run(async {
            let (send, _) = connect(proxy.address).await;
            let response = send.ready().await.unwrap().send_request(get("/"), true).unwrap().0.await.unwrap();
            assert_eq!(response.headers()["x-answer"], "chain,host o");
        });
    }
}

#[test]
fn settings_of_mutations_are_judged() {
    for (from, to, expected) in [
        (
            "remove: x-gone",
            "remove: host",
            "request_mutations[2].remove: :-prefixed or host headers may not be removed",
        ),
        ("%REQ(x-m)%-", "%REQ(x-m-", "request_mutations[1].append.header.value"),
        (
            "{ prefix: x-drop- }",
            "{ safe_regex: { regex: '(' } }",
            "request_mutations[3].remove_on_match.key_matcher.safe_regex.regex",
        ),
        (
            "response_mutations:",
            "query_parameter_mutations: [{ remove: a }]\n      response_mutations:",
            "mutations.query_parameter_mutations: is not supported yet",
        ),
        ("- remove: x-origin", "- {}", "response_mutations[1]"),
    ] {
        let faults = faults(&filter(false).replace(from, to), &host());
        assert!(faults.contains(&format!("{}.mutations.", place(0))) && faults.contains(expected), "{faults}");
    }
    let faults = faults(&filter(false), &host().replace("key: x-m, value: route", "key: ':path', value: route"));
    assert!(
        faults.contains("routes[0].typed_per_filter_config.mutate.mutations.request_mutations[0].append.header.key"),
        "{faults}"
    );
}
