//! `envoy.stat_sinks.statsd` over UDP: one metric per datagram, `<prefix>.<name>:<value>|c`, `|g` or `|ms`.
//!
//! Envoy sends a timer when the value is recorded. We hold bins, and send at the flush one timer per value, of the
//! smallest value of its bin (exact below 100, two digits above); where a bin has gained many, one timer that says by
//! its sampling rate how many it stands for.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use cadence::{Counted, Gauged, MetricError, StatsdClient, Timed, UdpMetricSink};
use heirloom_supervisor::shm::bins;

use super::Sink;
use crate::stats::{Bin, Kind, Stat, Value};

/// The same value is sent this often one by one; above, once for all.
const SINGLE: u64 = 8;

/// A statsd server.
pub struct Statsd {
    client: StatsdClient,
}

impl Statsd {
    /// Sends to `address`; an empty `prefix` is Envoy's default, `envoy`.
    ///
    /// # Errors
    /// When there is no socket for it.
    pub fn new(address: SocketAddr, prefix: &str) -> io::Result<Self> {
        let local: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(local)?;
        socket.set_nonblocking(true)?;
        let sink = UdpMetricSink::from(address, socket).map_err(io::Error::other)?;
        let prefix = if prefix.is_empty() { "envoy" } else { prefix };
        Ok(Self { client: StatsdClient::from_sink(prefix, sink) })
    }

    fn send_one(&self, stat: &Stat) -> Result<(), MetricError> {
        // These end a name in the protocol.
        let name = stat.name.replace(['|', '@', ':'], "_");
        match &stat.value {
            Value::Number(value) if stat.kind == Kind::Counter => {
                self.client.count(&name, i64::try_from(*value).unwrap_or(i64::MAX)).map(drop)
            }
            Value::Number(value) => self.client.gauge(&name, *value).map(drop),
            Value::Histogram { bins, .. } => bins.iter().try_for_each(|bin| self.send_timers(&name, bin)),
        }
    }

    fn send_timers(&self, name: &str, bin: &Bin) -> Result<(), MetricError> {
        let value = bins::lower(usize::from(bin.bin));
        if bin.count > SINGLE {
            let rate = 1.0 / bin.count as f64;
            return self.client.time_with_tags(name, value).with_sampling_rate(rate).try_send().map(drop);
        }
        for _ in 0..bin.count {
            self.client.time(name, value)?;
        }
        Ok(())
    }
}

impl Sink for Statsd {
    fn send(&mut self, delta: &Stat) {
        if let Err(error) = self.send_one(delta) {
            tracing::trace!(name = delta.name, %error, "statsd");
        }
    }
}

#[cfg(test)]
mod tests;
