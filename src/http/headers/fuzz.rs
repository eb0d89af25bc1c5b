//! A request's head through the header rules: what comes out can be sent on as one head, with a path in its normal form and nothing that is about
//! the client's connection.

use std::net::IpAddr;

use bytes::BytesMut;
use http::{HeaderValue, Method, header};

use super::{ConnectionFacts, Ids, Rules, Turned, prepare_request};
use crate::codec::http1::{Body, Limits, RequestRules, Scan, encode_request, parse_request};
use crate::codec::{Headers, RequestHead};
use crate::config::model::{
    Cidr, EscapedSlashes, ForcedScheme, HttpConnectionManager, IpDetection, StripPort, TargetRules,
};

/// Three bytes of settings, then a request.
pub(crate) fn request(data: &[u8]) {
    let Some(([one, two, three], text)) = data.split_first_chunk::<3>() else { return };
    let reading = RequestRules { custom_methods: true, accept_http_10: true, ..RequestRules::default() };
    let text = [text, b"\r\n\r\n"].concat();
    let Ok(Some(parsed)) = parse_request(&mut BytesMut::from(&*text), &mut Scan::default(), &reading) else { return };
    let manager = manager(*one, *two);
    let Ok(rules) = Rules::compile(&manager) else { return };
    let connection = ConnectionFacts {
        upgrade: parsed.upgrade && three & 1 != 0,
        mutual: three & 2 != 0,
        local_port: (three & 4 != 0).then_some(8080),
        peer: (three & 8 == 0).then_some(IpAddr::from([127, 0, 0, 1])),
        own_address: Some(IpAddr::from([192, 0, 2, 2])),
        tls: three & 16 != 0,
    };
    let mut head = parsed.head;
    match prepare_request(&mut head, &rules, &connection, &mut Ids::fixed(HeaderValue::from_static("ID"))) {
        Ok(_) => sound(&head, &manager, &connection),
        Err(Turned::Redirected(path)) => {
            assert!(path.starts_with(b"/") && HeaderValue::from_bytes(&path).is_ok(), "redirected to {path:?}");
        }
        Err(Turned::Refused(_)) => {}
    }
}

fn sound(head: &RequestHead, manager: &HttpConnectionManager, connection: &ConnectionFacts) {
    for name in [header::CONNECTION, header::UPGRADE] {
        assert!(connection.upgrade || !head.headers.contains(&name), "{name} goes on");
    }
    for name in ["keep-alive", "proxy-connection", "transfer-encoding"] {
        assert!(!has(&head.headers, name), "{name} goes on");
    }
    if manager.target.normalize_path && head.method != Method::CONNECT && head.path.starts_with(b"/") {
        let path = head.path_without_query();
        let mut segments = path.split(|byte| *byte == b'/').skip(1);
        assert!(segments.all(|segment| segment != b"." && segment != b".."), "{path:?}");
        assert!(!path.contains(&b'\\') || manager.target.escaped_slashes != EscapedSlashes::Keep, "{path:?}");
    }
    if manager.target.merge_slashes && head.method != Method::CONNECT {
        assert!(!head.path_without_query().windows(2).any(|two| two == b"//"), "{:?}", head.path);
    }
    let mut out = BytesMut::new();
    encode_request(head, Body::Empty, &mut out);
    let rules = RequestRules {
        limits: Limits { bytes: 1 << 20, count: 4096 },
        custom_methods: true,
        ..RequestRules::default()
    };
    let again = parse_request(&mut out, &mut Scan::default(), &rules);
    assert!(out.is_empty(), "there is something behind the head: {out:?}");
    let again = again.map(|again| again.map(|parsed| (parsed.head.path, parsed.head.authority)));
    // A host may have lost its dot and be nothing.
    if !head.authority.is_empty() {
        assert_eq!(again, Ok(Some((head.path.clone(), head.authority.clone()))));
    }
}

fn has(headers: &Headers, name: &str) -> bool {
    headers.iter().any(|(there, _)| there.as_str() == name)
}

fn manager(one: u8, two: u8) -> HttpConnectionManager {
    let detection = match two >> 5 & 3 {
        0 | 1 => Vec::new(),
        2 => {
            let proxies = vec![Cidr { network: IpAddr::from([10, 0, 0, 0]), prefix: 8 }];
            let trusted = (two & 4 != 0).then_some(proxies);
            vec![IpDetection::Forwarded {
                hops: if two & 4 != 0 { 0 } else { u32::from(two & 3) },
                append: true,
                trusted,
            }]
        }
        _ => vec![IpDetection::Header {
            name: http::HeaderName::from_static("x-real-ip"),
            trusted: true,
            reject: Some(403),
        }],
    };
    HttpConnectionManager {
        target: TargetRules {
            normalize_path: one & 1 != 0,
            merge_slashes: one & 2 != 0,
            escaped_slashes: [
                EscapedSlashes::Keep,
                EscapedSlashes::Reject,
                EscapedSlashes::Redirect,
                EscapedSlashes::Forward,
            ][usize::from(one >> 2 & 3)],
            strip_port: [StripPort::No, StripPort::Matching, StripPort::Any, StripPort::No][usize::from(one >> 4 & 3)],
            strip_trailing_dot: one & 64 != 0,
            forwarded_port: one & 128 != 0,
            scheme: (two & 128 != 0).then_some(ForcedScheme::Https),
        },
        use_remote_address: detection.is_empty() && two & 4 != 0,
        xff_num_trusted_hops: if detection.is_empty() { u32::from(two & 3) } else { 0 },
        ip_detection: detection,
        skip_xff_append: two & 8 != 0,
        internal_addresses: vec![Cidr { network: IpAddr::from([10, 0, 0, 0]), prefix: 8 }],
        via: "gw".into(),
        add_user_agent: (two & 16 != 0).then(|| ("cluster".into(), "node".into())),
        ..HttpConnectionManager::default()
    }
}
