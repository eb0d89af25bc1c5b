//! The seam for HTTP filters: one that answers, one that changes both ways, one that wraps a body.

use std::rc::Rc;
use std::task::{Context, Poll};

use heirloom::codec::http1::Refusal;
use heirloom::http::body::{Body, Frame, Source};
use heirloom::http::failure::Failure;
use heirloom::http::filter::{Answer, Extension, Filter, Next, Request};
use heirloom::http::local_reply;

use crate::support::models::*;
use crate::support::origin::{Origin, ok};
use crate::support::proxy::Proxy;

static EXTENSIONS: [Extension; 1] = [Extension { kind: filter_kind("test.Shout"), build: |_| Ok(Rc::new(Shout)) }];

struct Shout;

impl Filter for Shout {
    fn call<'a>(&'a self, mut request: Request<'a>, next: Next<'a>) -> Answer<'a> {
        Answer::later(async move {
            if request.head.path.as_ref() == b"/stop" {
                return Ok(local_reply::text(403, "stopped".into()));
            }
            if request.head.path.as_ref() == b"/fail" {
                return Err(Failure::Refused(Refusal::INVALID_URL));
            }
            request.head.headers.append("x-shout".parse().unwrap(), "down".parse().unwrap());
            let mut response = next.run(request).await?;
            response.head.headers.append("x-shout".parse().unwrap(), "up".parse().unwrap());
            response.body = Body::Other(Box::new(Louder(response.body)));
            Ok(response)
        })
    }
}

/// The body in capitals.
struct Louder<'a>(Body<'a>);

impl Source for Louder<'_> {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Result<Frame, Failure>> {
        self.0.poll_frame(context).map_ok(|frame| match frame {
            Frame::Data(data) => Frame::Data(data.to_ascii_uppercase().into()),
            end => end,
        })
    }

    fn length(&self) -> Option<u64> {
        self.0.length()
    }

    fn poll_beside(&mut self, context: &mut Context<'_>) {
        self.0.poll_beside(context);
    }
}

#[test]
fn filters_wrap_the_router_like_an_onion() {
    let origin = Origin::http(|request| {
        let shouts = request.headers.iter().filter(|(name, value)| name == "x-shout" && value == "down").count();
        assert_eq!(shouts, 2);
        ok("hello")
    });
    let mut config = manager(vec![route("/", "origin")]);
    config.http_filters = filters(&["test.Shout"; 2]);
    let clusters = vec![cluster("origin", &[origin.address])];
    let proxy = Proxy::start_with(listener(config), clusters, &EXTENSIONS);
    let mut client = proxy.connect();
    let response = client.get("/");
    assert_eq!(response.text(), "HELLO");
    assert_eq!(response.headers.iter().filter(|(name, _)| name == "x-shout").count(), 2);
    let response = client.get("/stop");
    assert_eq!((response.status(), response.text(), response.header("x-shout")), (403, "stopped", None));
    assert_eq!(client.get("/fail").status(), 400);
    assert_eq!(origin.requests(), 1);
}
