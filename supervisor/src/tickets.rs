//! The keys of TLS session tickets: made here, because only here they outlive an epoch.
//!
//! Every epoch that can use them gets the ring with its welcome and whenever it is turned, so that a client's session is resumed by whichever epoch it meets. The
//! ring stays through a replacement of the supervisor, in the memory file of its state; the supervisor after one that died gets it back from the
//! epochs that live. It stands in no file and in no log.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::moment::{Moment, millis};
use crate::wire::TICKET_KEY;
use crate::wire::message::TicketKeys;

/// Keys of a ring: the one that seals, and two before it that still open.
const MOST: usize = 3;

/// The keys, the sealing one first.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ring {
    keys: Vec<Vec<u8>>,
    /// When the first one was made.
    made: Moment,
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ring({} keys)", self.keys.len())
    }
}

impl Ring {
    /// With one key; `None` when the system has no randomness: epochs then use keys of their own.
    pub(crate) fn new(now: Moment) -> Option<Self> {
        Some(Self { keys: vec![key()?], made: now })
    }

    /// What an epoch that comes home was given by an earlier supervisor; `None` when that is no ring.
    pub(crate) fn returned(message: &TicketKeys, now: Moment) -> Option<Self> {
        let keys: Vec<_> = message.keys.iter().filter(|key| key.len() == TICKET_KEY).take(MOST).cloned().collect();
        // A clock that began after the key was made makes it younger, which only keeps it longer.
        let made = Moment(now.0.saturating_sub(message.age_ms));
        (!keys.is_empty()).then_some(Self { keys, made })
    }

    /// A new first key, if the time has come; says whether it has.
    pub(crate) fn turn(&mut self, every: Duration, now: Moment) -> bool {
        if now < self.due(every) {
            return false;
        }
        // Without randomness the old key goes on; the next attempt comes a period later.
        self.made = now;
        let Some(key) = key() else { return false };
        self.keys.insert(0, key);
        self.keys.truncate(MOST);
        true
    }

    /// When it is to be turned.
    pub(crate) fn due(&self, every: Duration) -> Moment {
        self.made + every
    }

    /// As an epoch hears of it.
    pub(crate) fn message(&self, now: Moment) -> TicketKeys {
        TicketKeys { keys: self.keys.clone(), age_ms: millis(now.since(self.made)) }
    }
}

fn key() -> Option<Vec<u8>> {
    let mut key = vec![0; TICKET_KEY];
    getrandom::fill(&mut key).inspect_err(|error| warn!("no key for session tickets: {error}")).ok()?;
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(10);

    #[test]
    fn keys_are_turned_and_the_oldest_forgotten() {
        let start = Moment(5_000);
        let mut ring = Ring::new(start).unwrap();
        assert!(!ring.turn(EVERY, start + EVERY / 2));
        let mut seen = vec![ring.keys[0].clone()];
        for round in 1..6 {
            assert!(ring.turn(EVERY, start + EVERY * round));
            assert!(!ring.turn(EVERY, start + EVERY * round));
            seen.insert(0, ring.keys[0].clone());
            assert_eq!(ring.keys, seen[..seen.len().min(MOST)]);
        }
    }

    #[test]
    fn a_ring_comes_back_with_its_age() {
        let ring = Ring::new(Moment(1_000)).unwrap();
        let message = ring.message(Moment(8_000));
        let returned = Ring::returned(&message, Moment(50_000)).unwrap();
        assert_eq!(returned.keys, ring.keys);
        assert_eq!(returned.due(EVERY), Moment(53_000));
        let broken = TicketKeys { keys: vec![vec![1; 7]], age_ms: u64::MAX };
        assert!(Ring::returned(&broken, Moment(1)).is_none());
    }

    #[test]
    fn no_key_is_shown() {
        let ring = Ring::new(Moment(0)).unwrap();
        let first = format!("{:?}", ring.keys[0][0]);
        for shown in [format!("{ring:?}"), format!("{:?}", ring.message(Moment(0)))] {
            assert!(!shown.contains(&format!("[{first}")), "{shown}");
        }
    }
}
