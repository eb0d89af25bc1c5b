//! What a request may ask of the router: its own headers, and `grpc-timeout`.

use bytes::BytesMut;

use super::controls::Controls;
use super::rewrite;
use crate::codec::http1::{RequestRules, Scan, parse_request};
use crate::config::model::MaxStreamDuration;

/// Fields of a request, as lines.
pub(crate) fn wishes(data: &[u8]) {
    let text = [b"GET / HTTP/1.1\r\nhost: a\r\n", data, b"\r\n\r\n"].concat();
    let Ok(Some(parsed)) = parse_request(&mut BytesMut::from(&*text), &mut Scan::default(), &RequestRules::default())
    else {
        return;
    };
    let mut head = parsed.head;
    for grpc_max in [None, Some(None), Some(Some(std::time::Duration::from_secs(9)))] {
        let limits = MaxStreamDuration { grpc_max, grpc_offset: std::time::Duration::from_millis(3), limit: None };
        let mut told = head.clone();
        let limit = rewrite::duration(&mut told, true, limits);
        // What the host is told is what holds, and can be read again.
        let again =
            rewrite::duration(&mut told, true, MaxStreamDuration { grpc_max: Some(None), ..Default::default() });
        assert!(limit.is_none() || again.is_some(), "{limit:?}");
        assert!(grpc_max.flatten().is_none_or(|most| limit.flatten().is_none_or(|limit| limit <= most)), "{limit:?}");
    }
    let before = head.headers.len();
    let asked = Controls::take(&mut head.headers, false);
    assert!(head.headers.len() <= before);
    assert_eq!(Controls::take(&mut head.headers, false), Controls::default(), "what was taken is gone, of {asked:?}");
}
