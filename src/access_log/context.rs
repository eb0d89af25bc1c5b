//! What is kept of a request or a connection for its line, while it lasts.
//!
//! A head is gone as soon as it has been written on; of it only the headers that some format or filter names are kept here, in one piece
//! of memory. All of it can be written down ([`Context::to_record`]) and goes on in another epoch, whose logs may ask for other headers.

use std::ops::Range;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use prost::Message;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::model::{MetadataPath, Moment};
use crate::fault::Flag;

/// The context of one line. A field is never renumbered and never reused.
#[derive(Clone, PartialEq, Message)]
pub struct Context {
    /// When it began, in nanoseconds since 1970.
    #[prost(uint64, tag = "1")]
    pub started_ns: u64,
    /// How long ago that is: set when it is written down.
    #[prost(uint64, tag = "2")]
    age_ns: u64,
    /// Headers of the request.
    #[prost(message, optional, tag = "3")]
    pub request: Option<Kept>,
    /// Headers of the response.
    #[prost(message, optional, tag = "4")]
    pub response: Option<Kept>,
    /// Trailers of the response.
    #[prost(message, optional, tag = "5")]
    pub trailers: Option<Kept>,
    /// Nanoseconds from the beginning to each moment that has come, by [`index`].
    #[prost(message, repeated, tag = "6")]
    moments: Vec<Reached>,
    /// The connection's number.
    #[prost(uint64, tag = "7")]
    pub connection_id: u64,
    /// A UUID of its own where there is no request to have one.
    #[prost(string, tag = "8")]
    pub stream_id: String,
    /// Our end towards the host, `ip:port`.
    #[prost(string, tag = "9")]
    pub upstream_local: String,
    /// Hosts that were tried, in order, as `ip:port`.
    #[prost(string, repeated, tag = "10")]
    pub attempted: Vec<String>,
    /// How often a host was tried.
    #[prost(uint32, tag = "11")]
    pub attempts: u32,
    /// Why the transport to the host failed.
    #[prost(string, tag = "12")]
    pub upstream_failure: String,
    /// Response flags, a bit each: of this process alone.
    #[prost(uint64, tag = "14")]
    pub flags: u64,
    /// `RESPONSE_CODE_DETAILS`.
    #[prost(string, tag = "15")]
    pub details: String,
    /// `CONNECTION_TERMINATION_DETAILS`.
    #[prost(string, tag = "16")]
    pub termination: String,
    /// The status that the client got, 0 for none.
    #[prost(uint32, tag = "17")]
    pub status: u32,
    /// Bytes from the client.
    #[prost(uint64, tag = "18")]
    pub received: u64,
    /// Bytes to the client.
    #[prost(uint64, tag = "19")]
    pub sent: u64,
    /// The version the client spoke: 10, 11, 20 or 30; 0 for none.
    #[prost(uint32, tag = "20")]
    pub protocol: u32,
    /// The version the host spoke.
    #[prost(uint32, tag = "21")]
    pub upstream_protocol: u32,
    /// The route's name.
    #[prost(string, tag = "22")]
    pub route: String,
    /// The cluster's name for people.
    #[prost(string, tag = "24")]
    pub cluster: String,
    /// The cluster's own name.
    #[prost(string, tag = "25")]
    pub cluster_raw: String,
    /// The host's address.
    #[prost(string, tag = "26")]
    pub host: String,
    /// The host's name.
    #[prost(string, tag = "27")]
    pub host_name: String,
    /// The filter chain's name.
    #[prost(string, tag = "28")]
    pub filter_chain: String,
    /// The listener's name.
    #[prost(string, tag = "29")]
    pub listener: String,
    /// The peer's address, `ip:port` or a path.
    #[prost(string, tag = "30")]
    pub peer: String,
    /// The address that the client came to.
    #[prost(string, tag = "31")]
    pub local: String,
    /// The trusted client's address where it is not the peer's.
    #[prost(string, tag = "32")]
    pub client: String,
    /// The name that TLS was asked for.
    #[prost(string, tag = "33")]
    pub server_name: String,
    /// Response flags by their short names, when it is written down.
    #[prost(string, repeated, tag = "34")]
    flag_names: Vec<String>,
    /// It asked after the proxy's health.
    #[prost(bool, tag = "40")]
    pub health_check: bool,
    /// What filters have left, in JSON, when it is written down.
    #[prost(string, tag = "41")]
    left: String,
}

/// Headers that were kept: those that are wanted and were there.
#[derive(Clone, PartialEq, Message)]
pub struct Kept {
    /// All values, one behind the other.
    #[prost(bytes = "vec", tag = "1")]
    text: Vec<u8>,
    #[prost(message, repeated, tag = "2")]
    values: Vec<Place>,
    /// Bytes of all names and values, kept or not.
    #[prost(uint64, tag = "3")]
    pub bytes: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Place {
    /// Set when it is written down.
    #[prost(string, tag = "1")]
    name: String,
    /// Its place among the wanted: of this process alone.
    #[prost(uint32, tag = "2")]
    index: u32,
    #[prost(uint32, tag = "3")]
    from: u32,
    #[prost(uint32, tag = "4")]
    to: u32,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Reached {
    #[prost(uint32, tag = "1")]
    moment: u32,
    #[prost(uint64, tag = "2")]
    after_ns: u64,
}

/// A moment's number in a record; never changed.
const fn index(moment: Moment) -> u32 {
    match moment {
        Moment::Start => 0,
        Moment::RequestEnd => 1,
        Moment::ConnectBegin => 2,
        Moment::ConnectEnd => 3,
        Moment::HandshakeEnd => 4,
        Moment::UpstreamSendBegin => 5,
        Moment::UpstreamSendEnd => 6,
        Moment::ResponseBegin => 7,
        Moment::ResponseBodyBegin => 8,
        Moment::ResponseEnd => 9,
        Moment::SendBegin => 10,
        Moment::SendEnd => 11,
        Moment::Now => 12,
    }
}

/// A [`Context`] and the moment it counts from.
#[derive(Clone, Debug)]
pub struct Live {
    /// When it began, on this process's clock.
    pub started: Instant,
    /// What is kept.
    pub context: Context,
    /// The text of a reply while it is made.
    pub reply: Bytes,
    /// What filters have left for one another.
    pub left: Left,
}

/// What filters have left of a request for one another, and for its line.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Left {
    /// The dynamic metadata: structures by namespace.
    pub metadata: Map<String, Value>,
    /// Objects of the filter state that have a text. One that shows in JSON is that, any other stands in a list.
    pub states: Map<String, Value>,
}

impl Left {
    /// A value of the metadata.
    pub fn metadata(&self, at: &MetadataPath) -> Option<&Value> {
        let namespace = self.metadata.get(&at.namespace)?;
        at.path.iter().try_fold(namespace, |value, key| value.as_object()?.get(key))
    }

    fn is_empty(&self) -> bool {
        self.metadata.is_empty() && self.states.is_empty()
    }
}

impl Live {
    /// Of something that began then.
    pub fn new(started: Instant) -> Self {
        let now = SystemTime::now();
        let begun = now.checked_sub(started.elapsed()).unwrap_or(now);
        let since = begun.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let context = Context { started_ns: nanos(since), ..Context::default() };
        Self { started, context, reply: Bytes::new(), left: Left::default() }
    }

    /// Notes that a moment has come; the last time counts.
    pub fn reach(&mut self, moment: Moment, at: Instant) {
        let after_ns = nanos(at.saturating_duration_since(self.started));
        let moment = index(moment);
        match self.context.moments.iter_mut().find(|reached| reached.moment == moment) {
            Some(reached) => reached.after_ns = after_ns,
            None => self.context.moments.push(Reached { moment, after_ns }),
        }
    }

    /// Notes a host that was tried.
    pub fn tried(&mut self, host: String) {
        self.context.attempted.push(host);
    }

    /// Notes that a moment has come; the first time counts.
    pub fn reach_once(&mut self, moment: Moment, at: Instant) {
        if self.after(moment).is_none() {
            self.reach(moment, at);
        }
    }

    /// How long after the beginning a moment came.
    pub fn after(&self, moment: Moment) -> Option<Duration> {
        match moment {
            Moment::Start => Some(Duration::ZERO),
            Moment::Now => Some(self.started.elapsed()),
            moment => {
                let moment = index(moment);
                let reached = self.context.moments.iter().find(|reached| reached.moment == moment)?;
                Some(Duration::from_nanos(reached.after_ns))
            }
        }
    }

    /// As it is written down for another epoch. `wanted` is what was kept by.
    pub fn to_record(&self, wanted: &super::Wanted) -> Context {
        let mut context = self.context.clone();
        context.age_ns = nanos(self.started.elapsed());
        if !self.left.is_empty() {
            // Maps with texts for keys can always be written.
            context.left = serde_json::to_string(&self.left).unwrap_or_default();
        }
        let bits = std::mem::take(&mut context.flags);
        let set = Flag::ALL.into_iter().filter(|flag| bits & flag.bit() != 0);
        context.flag_names = set.map(|flag| flag.short().to_owned()).collect();
        for (kept, names) in context.kept(wanted) {
            for place in &mut kept.values {
                place.name = names.get(place.index as usize).map(|name| name.as_str().to_owned()).unwrap_or_default();
            }
        }
        context
    }

    /// What another epoch has written down, for the logs of this one. A record may be wrong: what cannot be is left out.
    pub fn from_record(mut context: Context, wanted: &super::Wanted) -> Self {
        let names = std::mem::take(&mut context.flag_names);
        context.flags = names.iter().filter_map(|name| Flag::by_short(name)).fold(0, |set, flag| set | flag.bit());
        let now = Instant::now();
        let started = now.checked_sub(Duration::from_nanos(context.age_ns)).unwrap_or(now);
        for (kept, names) in context.kept(wanted) {
            kept.values.retain_mut(|place| {
                let Some(index) = names.iter().position(|name| name.as_str() == place.name) else { return false };
                place.index = u32::try_from(index).unwrap_or(u32::MAX);
                place.name = String::new();
                place.from <= place.to && place.to as usize <= kept.text.len()
            });
        }
        let left = serde_json::from_str(&std::mem::take(&mut context.left)).unwrap_or_default();
        Self { started, context, reply: Bytes::new(), left }
    }
}

impl Context {
    /// What was kept, with the names it was kept by.
    fn kept<'a>(
        &'a mut self,
        wanted: &'a super::Wanted,
    ) -> impl Iterator<Item = (&'a mut Kept, &'a [crate::config::model::LogHeader])> {
        [
            (self.request.as_mut(), &*wanted.request),
            (self.response.as_mut(), &*wanted.response),
            (self.trailers.as_mut(), &*wanted.trailers),
        ]
        .into_iter()
        .filter_map(|(kept, names)| Some((kept?, names)))
    }
}

impl Kept {
    /// Keeps what there is of a header; several values are one, as a list.
    pub(super) fn add<'a>(&mut self, index: usize, values: impl Iterator<Item = &'a [u8]>) {
        let length = |text: &[u8]| u32::try_from(text.len()).unwrap_or(u32::MAX);
        let from = length(&self.text);
        let mut any = false;
        for value in values {
            if std::mem::replace(&mut any, true) {
                self.text.push(b',');
            }
            self.text.extend_from_slice(value);
        }
        if any {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            self.values.push(Place { name: String::new(), index, from, to: length(&self.text) });
        }
    }

    /// A value that was kept.
    pub(super) fn get(&self, index: usize) -> Option<&[u8]> {
        let place = self.values.iter().find(|place| place.index as usize == index)?;
        let range: Range<usize> = place.from as usize..place.to as usize;
        self.text.get(range)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access_log::Wanted;
    use crate::config::model::LogHeader;

    #[test]
    fn a_context_goes_on_in_an_epoch_that_wants_other_headers() {
        let named = |name: &'static str| LogHeader::Named(http::HeaderName::from_static(name));
        let here = Wanted { request: vec![LogHeader::Path, named("a"), named("b")], ..Wanted::default() };
        let there = Wanted { request: vec![named("c"), named("b"), LogHeader::Path], ..Wanted::default() };
        let mut live = Live::new(Instant::now().checked_sub(Duration::from_secs(3)).unwrap());
        let kept = live.context.request.get_or_insert_default();
        kept.add(0, [&b"/x"[..]].into_iter());
        kept.add(1, [&b"1"[..]].into_iter());
        kept.add(2, [&b"2"[..], b"3"].into_iter());
        live.reach(Moment::ResponseBegin, live.started + Duration::from_millis(7));
        let record = live.to_record(&here).encode_to_vec();
        let again = Live::from_record(Context::decode(&*record).unwrap(), &there);
        assert!(again.started.elapsed() >= Duration::from_secs(3) && again.started.elapsed() < Duration::from_secs(60));
        let kept = again.context.request.as_ref().unwrap();
        assert_eq!(kept.get(0), None);
        assert_eq!(kept.get(1), Some(&b"2,3"[..]));
        assert_eq!(kept.get(2), Some(&b"/x"[..]));
        assert_eq!(again.after(Moment::ResponseBegin), Some(Duration::from_millis(7)));
        assert_eq!(again.after(Moment::SendEnd), None);
    }

    #[test]
    fn a_record_that_points_nowhere_is_left_out() {
        let wanted = Wanted { request: vec![LogHeader::Path], ..Wanted::default() };
        let place = |from, to| Place { name: ":path".to_owned(), index: 9, from, to };
        for values in [vec![place(0, 9)], vec![place(3, 1)], vec![place(u32::MAX, u32::MAX)]] {
            let kept = Kept { text: b"abc".to_vec(), values, bytes: 0 };
            let context = Context { age_ns: u64::MAX, request: Some(kept), ..Context::default() };
            let live = Live::from_record(context, &wanted);
            assert_eq!(live.context.request.unwrap().get(0), None);
        }
    }
}
