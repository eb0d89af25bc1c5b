//! The `date` header, made once a second.

use std::time::{SystemTime, UNIX_EPOCH};

use http::HeaderValue;

/// The last date that was written. A worker has one.
#[derive(Clone, Debug, Default)]
pub struct DateCache {
    last: Option<(u64, HeaderValue)>,
}

impl DateCache {
    /// `now` as a header value (RFC 9110, 5.6.7).
    pub fn value(&mut self, now: SystemTime) -> HeaderValue {
        // A clock before 1970 is as good as none.
        let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        match &self.last {
            Some((last, value)) if *last == second => value.clone(),
            _ => {
                let value = make(second);
                self.last = Some((second, value.clone()));
                value
            }
        }
    }
}

fn make(second: u64) -> HeaderValue {
    // The format ends with the year 9999 (and the library panics there).
    const LAST: u64 = 253_402_300_799;
    let time = UNIX_EPOCH + std::time::Duration::from_secs(second.min(LAST));
    HeaderValue::from_str(&httpdate::fmt_http_date(time))
        .unwrap_or_else(|_| HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"))
}
