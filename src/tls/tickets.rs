//! Session tickets: a client brings its session along, sealed with a key that it does not know.
//!
//! A ticket is made and opened as RFC 5077, section 4, recommends: AES-256-CBC, then HMAC-SHA-256 over all of it. The first key of a ring seals, all of them
//! open. The ring of [`Tickets`] is given by the supervisor, which makes its keys, turns them and gives the same to every epoch; until one is given, and in
//! an epoch that runs alone, it is the epoch's own. Keys stand in memory, in no file and in no log.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use aws_lc_rs::cipher::{
    AES_256, DecryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::{hmac, rand};
use rustls::server::ProducesTickets;

/// Length of a key in bytes: a name of 16, an HMAC key of 32, an AES key of 32; Envoy's format.
pub const KEY: usize = 80;
/// How long a ring of this epoch's own seals with one key.
const TURN: Duration = Duration::from_secs(12 * 3600);
/// Keys of a ring: the one that seals, and two before it.
const KEYS: usize = 3;
const NAME: usize = 16;
const IV: usize = 16;
const MAC: usize = 32;

/// The keys that all epochs of a lineage share.
pub struct Tickets {
    ring: ArcSwap<Ring>,
}

struct Ring {
    keys: Vec<Key>,
    made: Instant,
    /// By the supervisor, which turns it too.
    given: bool,
}

struct Key {
    bytes: [u8; KEY],
    mac: hmac::Key,
}

impl Key {
    fn new(bytes: [u8; KEY]) -> Self {
        Self { mac: hmac::Key::new(hmac::HMAC_SHA256, &bytes[NAME..NAME + 32]), bytes }
    }

    /// `None` if the system has no randomness.
    fn random() -> Option<Self> {
        let mut bytes = [0; KEY];
        rand::fill(&mut bytes).ok()?;
        Some(Self::new(bytes))
    }

    fn name(&self) -> &[u8] {
        &self.bytes[..NAME]
    }

    fn cipher(&self) -> Option<UnboundCipherKey> {
        UnboundCipherKey::new(&AES_256, &self.bytes[NAME + 32..]).ok()
    }

    fn tag(&self, sealed: &[u8], identity: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.mac);
        context.update(sealed);
        context.update(identity);
        context.sign()
    }

    fn seal(&self, plain: Vec<u8>, identity: &[u8]) -> Option<Vec<u8>> {
        let mut text = plain;
        let context = PaddedBlockEncryptingKey::cbc_pkcs7(self.cipher()?).ok()?.encrypt(&mut text).ok()?;
        let DecryptionContext::Iv128(iv) = context else { return None };
        let mut ticket = Vec::with_capacity(NAME + IV + text.len() + MAC);
        ticket.extend_from_slice(self.name());
        ticket.extend_from_slice(iv.as_ref());
        ticket.extend_from_slice(&text);
        let tag = self.tag(&ticket, identity);
        ticket.extend_from_slice(tag.as_ref());
        Some(ticket)
    }

    fn open(&self, ticket: &[u8], identity: &[u8]) -> Option<Vec<u8>> {
        let (sealed, tag) = ticket.split_at_checked(ticket.len().checked_sub(MAC)?)?;
        let expected = self.tag(sealed, identity);
        aws_lc_rs::constant_time::verify_slices_are_equal(expected.as_ref(), tag).ok()?;
        let (iv, text) = sealed.get(NAME..)?.split_first_chunk::<IV>()?;
        let mut text = text.to_vec();
        let key = PaddedBlockDecryptingKey::cbc_pkcs7(self.cipher()?).ok()?;
        let context = DecryptionContext::Iv128(FixedLength::from(*iv));
        key.decrypt(&mut text, context).ok().map(|plain| plain.to_vec())
    }
}

impl Ring {
    fn own(before: &[Key]) -> Self {
        let before = before.iter().map(|key| Key::new(key.bytes));
        let keys = Key::random().into_iter().chain(before).take(KEYS).collect();
        Self { keys, made: Instant::now(), given: false }
    }

    fn open(&self, ticket: &[u8], identity: &[u8]) -> Option<Vec<u8>> {
        let name = ticket.get(..NAME)?;
        self.keys.iter().find(|key| key.name() == name)?.open(ticket, identity)
    }
}

impl Default for Tickets {
    fn default() -> Self {
        Self { ring: ArcSwap::from_pointee(Ring::own(&[])) }
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ring = self.ring.load();
        f.debug_struct("Tickets").field("keys", &ring.keys.len()).field("given", &ring.given).finish()
    }
}

impl Tickets {
    /// Takes the supervisor's keys, the sealing one first, which was made so long ago. Those of a wrong length are left out; a list without a good one
    /// changes nothing.
    pub fn give(&self, keys: &[Vec<u8>], age: Duration) {
        let keys = keys.iter().filter_map(|key| <[u8; KEY]>::try_from(&**key).ok());
        let keys: Vec<Key> = keys.take(KEYS).map(Key::new).collect();
        if !keys.is_empty() {
            let now = Instant::now();
            self.ring.store(Arc::new(Ring { keys, made: now.checked_sub(age).unwrap_or(now), given: true }));
        }
    }

    /// The supervisor's keys and the age of the first, for the next supervisor should this one die; `None` where none were given.
    pub fn given(&self) -> Option<(Vec<Vec<u8>>, Duration)> {
        let ring = self.ring.load();
        ring.given.then(|| (ring.keys.iter().map(|key| key.bytes.to_vec()).collect(), ring.made.elapsed()))
    }

    fn turn(&self) {
        let ring = self.ring.load();
        if !ring.given && ring.made.elapsed() >= TURN {
            let next = Arc::new(Ring::own(&ring.keys));
            // Another worker may have been faster: then its keys count.
            self.ring.compare_and_swap(&ring, next);
        }
    }
}

/// Seals and opens the tickets of one context.
pub(super) struct Ticketer {
    keys: Keys,
    lifetime: Duration,
    /// What the tickets are good for.
    identity: [u8; 32],
}

enum Keys {
    Shared(Arc<Tickets>),
    Configured(Ring),
}

impl Ticketer {
    pub(super) fn shared(tickets: Arc<Tickets>, lifetime: Duration, identity: [u8; 32]) -> Self {
        Self { keys: Keys::Shared(tickets), lifetime, identity }
    }

    pub(super) fn configured(keys: &[[u8; KEY]], lifetime: Duration, identity: [u8; 32]) -> Self {
        let keys = keys.iter().map(|key| Key::new(*key)).collect();
        Self { keys: Keys::Configured(Ring { keys, made: Instant::now(), given: true }), lifetime, identity }
    }

    fn now() -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map(|time| time.as_secs()).unwrap_or(0)
    }
}

impl fmt::Debug for Ticketer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticketer").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(self.lifetime.as_secs()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut dated = Self::now().to_be_bytes().to_vec();
        dated.extend_from_slice(plain);
        match &self.keys {
            Keys::Configured(ring) => ring.keys.first()?.seal(dated, &self.identity),
            Keys::Shared(tickets) => {
                tickets.turn();
                tickets.ring.load().keys.first()?.seal(dated, &self.identity)
            }
        }
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let dated = match &self.keys {
            Keys::Configured(ring) => ring.open(ticket, &self.identity),
            Keys::Shared(tickets) => tickets.ring.load().open(ticket, &self.identity),
        }?;
        let (issued, plain) = dated.split_first_chunk::<8>()?;
        let age = Self::now().saturating_sub(u64::from_be_bytes(*issued));
        (age <= self.lifetime.as_secs()).then(|| plain.to_vec())
    }
}

#[cfg(test)]
mod tests;
