//! Format strings of logs and headers.

use std::time::Instant;

use http::{HeaderValue, Method, StatusCode, header};

use super::{Live, Template};
use crate::codec::{RequestHead, ResponseHead};
use crate::config::fuzz::pieces;

/// A format string.
pub(crate) fn format(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(pieces) = pieces(text) else { return };
    let mut request = RequestHead::new(Method::GET, "a.example:80", "/p?q=1&a=%41");
    request.headers.append(header::COOKIE, HeaderValue::from_static("a=b"));
    let mut response = ResponseHead::new(StatusCode::OK);
    response.headers.append(header::SERVER, HeaderValue::from_static("s"));
    let mut live = Live::new(Instant::now());
    let _ = Template::compile(&pieces).render(&mut live, Some(&request), Some(&response));
}
