//! Live connections on their way to another epoch.
//!
//! A connection that can be written down becomes a [`Frozen`]: its descriptors, its facts and a record of its own. Its owner offers it to
//! the worker's [`Mover`] and, while the offer is out, neither reads nor writes. [`Outcome::Taken`]: somebody else has it, the descriptors here
//! were duplicates and are closed without a word to either peer. [`Outcome::Refused`]: it comes back and goes on exactly where it was.
//!
//! ```text
//!   owner ── permit ──▶ freeze ── offer ──▶ Offers (main thread) ──▶ the other epoch
//!     ▲  (serves until there is room)            │ taken | refused, with a reason
//!     └──────────────────────────────────────────┘ dropped unanswered: refused
//! ```
//!
//! Nothing here knows what a record means: the filter that froze a connection has its like thaw it. Movers exist only during a drain.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

pub mod moment;

/// Kinds of connection that can move; each has a filter that freezes and thaws it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// HTTP/1 between two requests.
    Http1,
    /// HTTP/1 in the middle of a request, with the host's connection.
    Exchange,
    /// A TCP proxy's tunnel.
    Tcp,
    /// A tunnel that HTTP became by an upgrade or a CONNECT.
    Upgrade,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Http1, Self::Exchange, Self::Tcp, Self::Upgrade];

    /// As statistics and messages call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Exchange => "exchange",
            Self::Tcp => "tcp",
            Self::Upgrade => "upgrade",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Why a connection was not taken. Refusal is normal: the connection drains where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The other epoch does not have the listener.
    NoListener,
    /// Its listener has no filter chain for this connection.
    NoFilterChain,
    /// Its filter chain ends in something else.
    OtherFilter,
    /// It does not have the cluster.
    NoCluster,
    /// One of its limits is reached.
    Limit,
    /// It does not understand the record.
    Record,
    /// A socket could not be taken over.
    Socket,
    /// The way to the other epoch broke, or it was silent for too long.
    Way,
    /// Anything that a newer version says.
    Other,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::NoListener,
        Self::NoFilterChain,
        Self::OtherFilter,
        Self::NoCluster,
        Self::Limit,
        Self::Record,
        Self::Socket,
        Self::Way,
        Self::Other,
    ];

    /// As statistics and messages call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoListener => "no_listener",
            Self::NoFilterChain => "no_filter_chain",
            Self::OtherFilter => "other_filter",
            Self::NoCluster => "no_cluster",
            Self::Limit => "limit",
            Self::Record => "record",
            Self::Socket => "socket",
            Self::Way => "way",
            Self::Other => "other",
        }
    }

    /// The reason of that name; one that is not known is [`Self::Other`].
    pub fn from_name(name: &str) -> Self {
        Self::ALL.into_iter().find(|reason| reason.name() == name).unwrap_or(Self::Other)
    }
}

/// A connection that has been written down.
#[derive(Debug)]
pub struct Frozen {
    /// What it is.
    pub kind: Kind,
    /// The name of its listener.
    pub listener: String,
    /// Where it came from, where that is an IP address.
    pub peer: Option<SocketAddr>,
    /// Where it came to, where that is an IP address.
    pub local: Option<SocketAddr>,
    /// How long ago it was accepted.
    pub age: Duration,
    /// The client's socket, then whatever else the kind has.
    pub sockets: Vec<OwnedFd>,
    /// The kind's own record (protobuf).
    pub record: Vec<u8>,
}

/// What became of an offer.
#[derive(Debug)]
pub enum Outcome {
    /// Somebody else has it.
    Taken,
    /// It comes back.
    Refused(Box<Frozen>, Reason),
}

/// Where a worker's connections offer themselves. Clones are the same.
#[derive(Clone, Debug)]
pub struct Mover {
    offers: mpsc::Sender<Offer>,
}

/// The other end of [`Mover`]s: what has been offered, in order.
pub type Offers = mpsc::Receiver<Offer>;

/// Room for one offer.
pub struct Permit {
    place: mpsc::OwnedPermit<Offer>,
}

impl Mover {
    /// A mover with room for so many offers that nobody has looked at.
    pub fn new(room: usize) -> (Self, Offers) {
        let (offers, receiver) = mpsc::channel(room);
        (Self { offers }, receiver)
    }

    /// Waits for room, so that nobody is frozen before there is some; `None` when nobody moves anything any more.
    pub async fn permit(self) -> Option<Permit> {
        self.offers.reserve_owned().await.ok().map(|place| Permit { place })
    }
}

impl Permit {
    /// Offers a connection and waits for what becomes of it. Whoever took the offer bounds the wait.
    pub async fn offer(self, frozen: Frozen) -> Outcome {
        let (answer, outcome) = oneshot::channel();
        self.place.send(Offer { open: Some((Box::new(frozen), answer)) });
        // An offer answers when it is dropped at the latest, so there is always an outcome while this future lives.
        outcome.await.unwrap_or(Outcome::Taken)
    }
}

/// A connection on offer. Dropped, it is refused.
#[derive(Debug)]
pub struct Offer {
    open: Option<(Box<Frozen>, oneshot::Sender<Outcome>)>,
}

impl Offer {
    /// What is offered; `None` never comes before an answer.
    pub fn frozen(&self) -> Option<&Frozen> {
        self.open.as_ref().map(|(frozen, _)| &**frozen)
    }

    /// Somebody else has it. What was here of it is closed.
    pub fn taken(mut self) {
        if let Some((frozen, answer)) = self.open.take() {
            drop(frozen);
            let _ = answer.send(Outcome::Taken);
        }
    }

    /// Nobody has it.
    pub fn refused(mut self, reason: Reason) {
        self.give_back(reason);
    }

    fn give_back(&mut self, reason: Reason) {
        if let Some((frozen, answer)) = self.open.take() {
            // An owner that has gone meanwhile closes its connection by that.
            let _ = answer.send(Outcome::Refused(frozen, reason));
        }
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        self.give_back(Reason::Way);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frozen() -> Frozen {
        Frozen {
            kind: Kind::Tcp,
            listener: "front".into(),
            peer: None,
            local: None,
            age: Duration::from_secs(3),
            sockets: Vec::new(),
            record: vec![1, 2, 3],
        }
    }

    #[test]
    fn names_are_unique_and_known() {
        for reason in Reason::ALL {
            assert_eq!(Reason::from_name(reason.name()), reason);
        }
        for kind in Kind::ALL {
            assert_eq!(Kind::from_name(kind.name()), Some(kind));
        }
        assert_eq!(Reason::from_name("of tomorrow"), Reason::Other);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn an_offer_is_taken_refused_or_dropped() {
        let (mover, mut offers) = Mover::new(2);
        let offer = async |mover: Mover| mover.permit().await.unwrap().offer(frozen()).await;
        let outcomes = tokio::join!(offer(mover.clone()), offer(mover.clone()), offer(mover.clone()), async {
            offers.recv().await.unwrap().taken();
            offers.recv().await.unwrap().refused(Reason::Limit);
            drop(offers.recv().await.unwrap());
            drop(offers);
        });
        assert!(matches!(outcomes.0, Outcome::Taken));
        assert!(matches!(outcomes.1, Outcome::Refused(frozen, Reason::Limit) if frozen.record == [1, 2, 3]));
        assert!(matches!(outcomes.2, Outcome::Refused(_, Reason::Way)));
        assert!(mover.permit().await.is_none());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_was_offered_and_never_looked_at_comes_back() {
        let (mover, offers) = Mover::new(2);
        let permit = mover.permit().await.unwrap();
        let (outcome, ()) = tokio::join!(permit.offer(frozen()), async { drop(offers) });
        assert!(matches!(outcome, Outcome::Refused(_, Reason::Way)));
    }
}
