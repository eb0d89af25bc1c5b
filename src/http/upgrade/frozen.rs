//! What is left of a request whose connection became a tunnel, as it is written down for another epoch. A field is never renumbered and never
//! reused.

use std::net::IpAddr;
use std::time::Duration;

use http::Method;
use prost::Message;

use crate::drain::motion::moment::{ago, before, milliseconds};
use crate::http::record::Record;

/// Beside the tunnel itself.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Written {
    /// How long ago the request began.
    #[prost(uint64, tag = "1")]
    pub(super) started_ms: u64,
    /// Its method.
    #[prost(string, tag = "2")]
    method: String,
    /// It came from inside.
    #[prost(bool, tag = "3")]
    internal: bool,
    /// The trusted client address, or nothing.
    #[prost(string, tag = "4")]
    client: String,
    /// The status that the client got.
    #[prost(uint32, tag = "5")]
    status: u32,
    /// Body bytes of the request before the tunnel.
    #[prost(uint64, tag = "6")]
    received: u64,
    /// For how long nothing may move in the tunnel; absent for as long as one likes.
    #[prost(uint64, optional, tag = "7")]
    pub(super) idle_timeout_ms: Option<u64>,
    /// Bytes of the response's head, which the tunnel counts among those that the client took.
    #[prost(uint64, tag = "8")]
    pub(super) head: u64,
    /// The host hears nothing of HTTP.
    #[prost(bool, tag = "9")]
    pub(super) terminated: bool,
    /// How old the client's connection may become; absent for as old as one likes.
    #[prost(uint64, optional, tag = "10")]
    pub(super) max_age_ms: Option<u64>,
}

impl Written {
    /// `limits`: for how long nothing may move, and how old the connection may become.
    pub(super) fn of(
        record: &Record,
        (idle_timeout, max_age): (Option<Duration>, Option<Duration>),
        head: u64,
        terminated: bool,
    ) -> Self {
        Self {
            started_ms: ago(record.started),
            method: record.method.to_string(),
            internal: record.internal.get(),
            client: record.client.get().map(|client| client.to_string()).unwrap_or_default(),
            status: record.status.get().into(),
            received: record.received.get(),
            idle_timeout_ms: idle_timeout.map(milliseconds),
            head,
            terminated,
            max_age_ms: max_age.map(milliseconds),
        }
    }

    /// The request's record; `None` when this is none.
    pub(super) fn record(&self) -> Option<Record> {
        let record = Record::new(Method::from_bytes(self.method.as_bytes()).ok()?, before(self.started_ms));
        record.internal.set(self.internal);
        if !self.client.is_empty() {
            record.client.set(Some(self.client.parse::<IpAddr>().ok()?));
        }
        record.status.set(u16::try_from(self.status).ok()?);
        record.received.set(self.received);
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn written() -> Written {
        let record = Record::new(Method::CONNECT, Instant::now());
        record.internal.set(true);
        record.client.set(Some("::1".parse().unwrap()));
        record.status.set(200);
        record.received.set(5);
        Written::of(&record, (Some(Duration::from_millis(1500)), Some(Duration::from_secs(60))), 77, true)
    }

    #[test]
    fn what_is_written_down_is_read_again() {
        let read = Written::decode(&*written().encode_to_vec()).unwrap();
        assert_eq!((read.idle_timeout_ms, read.max_age_ms), (Some(1500), Some(60_000)));
        assert_eq!((read.head, read.terminated), (77, true));
        let record = read.record().unwrap();
        assert_eq!((record.method.clone(), record.status.get(), record.received.get()), (Method::CONNECT, 200, 5));
        assert!(record.internal.get() && record.client.get() == Some("::1".parse().unwrap()));
        assert!(record.started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let spoiled = [
            Written { method: "G E T".into(), ..written() },
            Written { method: String::new(), ..written() },
            Written { client: "nowhere".into(), ..written() },
            Written { status: 70_000, ..written() },
        ];
        for written in spoiled {
            assert!(written.record().is_none(), "{written:?}");
        }
        assert!(Written { started_ms: u64::MAX, ..written() }.record().is_some());
    }
}
