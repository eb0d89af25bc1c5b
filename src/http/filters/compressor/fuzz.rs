//! `accept-encoding`.

use super::negotiation::{Choice, Offer, choose};

/// A byte that says what is offered, then the value.
pub(crate) fn accepts(data: &[u8]) {
    let Some((flags, value)) = data.split_first() else { return };
    let offer = |bit: u8, encoding| (flags & 1 << bit != 0).then(|| Offer { encoding, first: flags & 16 << bit != 0 });
    let offers: Vec<Offer> = [offer(0, "gzip"), offer(1, "br"), offer(2, "zstd")].into_iter().flatten().collect();
    match choose(Some(value), &offers) {
        Choice::Encoding(encoding) | Choice::Wildcard(encoding) => {
            assert!(offers.iter().any(|offer| offer.encoding == encoding), "{encoding} is not on offer");
        }
        Choice::Identity | Choice::NotValid => {}
        Choice::NoHeader => assert!(value.is_empty(), "there is a header"),
    }
}
