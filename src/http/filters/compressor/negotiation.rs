//! `accept-encoding`: which of the chain's compressors a client's response goes through.

use std::cell::RefCell;

use bytes::Bytes;

use crate::codec::head::tokens;
use crate::config::model::Settings;

/// A compressor of the chain that the request has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) encoding: &'static str,
    /// `choose_first`.
    pub(super) first: bool,
}

/// What the request has shown to the compressors of its chain: a filter may have taken the header away before the next one saw it.
#[derive(Debug, Default)]
pub(super) struct Offers {
    pub(super) accepts: RefCell<Option<Bytes>>,
    /// With the settings of who made it: it counts for the types of content that those are for.
    pub(super) made: RefCell<Vec<(Offer, Settings)>>,
}

/// What follows from the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// There is none.
    NoHeader,
    /// The client wants it as it is.
    Identity,
    /// It accepts nothing that could be done.
    NotValid,
    /// Anything, of which the first is taken.
    Wildcard(&'static str),
    /// This one.
    Encoding(&'static str),
}

/// The highest `q` decides; of several with it the first in the header, but for a compressor that is to be chosen first.
pub(super) fn choose(accepts: Option<&[u8]>, offers: &[Offer]) -> Choice {
    let Some(accepts) = accepts else { return Choice::NoHeader };
    let mut best = (Choice::NotValid, 0, false);
    for entry in tokens(accepts) {
        let mut parts = entry.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| part.strip_prefix(b"q=").or_else(|| part.strip_prefix(b"Q=")));
        let weight = weight.map_or(1000, thousandths);
        let offer = offers.iter().find(|offer| name.eq_ignore_ascii_case(offer.encoding.as_bytes()));
        let choice = match offer {
            Some(offer) => Choice::Encoding(offer.encoding),
            None if name.eq_ignore_ascii_case(b"identity") => Choice::Identity,
            None if name == b"*" => match offers.first() {
                Some(offer) => Choice::Wildcard(offer.encoding),
                None => continue,
            },
            None => continue,
        };
        let first = offer.is_some_and(|offer| offer.first);
        if weight > best.1 || (weight == best.1 && weight > 0 && first && !best.2) {
            best = (choice, weight, first);
        }
    }
    best.0
}

/// A `qvalue` (RFC 9110, 12.4.2); what is none counts as nothing.
fn thousandths(value: &[u8]) -> u16 {
    let text = std::str::from_utf8(value).ok().and_then(|text| text.trim().parse::<f64>().ok());
    let value = text.filter(|value| (0.0..=1.0).contains(value)).unwrap_or(0.0);
    // Between 0 and 1000.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range has been checked")]
    let thousandths = (value * 1000.0).round() as u16;
    thousandths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heaviest_is_chosen() {
        let offer = |encoding, first| Offer { encoding, first };
        let both = [offer("gzip", false), offer("br", false)];
        let choose = |accepts: &str, offers: &[Offer]| choose(Some(accepts.as_bytes()), offers);
        for (accepts, expected) in [
            ("gzip", Choice::Encoding("gzip")),
            ("GZIP;q=0.5, br", Choice::Encoding("br")),
            ("br;q=0.2, gzip;q=0.3", Choice::Encoding("gzip")),
            ("br, gzip", Choice::Encoding("br")),
            ("identity", Choice::Identity),
            ("identity;q=0.5, gzip;q=0.1", Choice::Identity),
            ("*", Choice::Wildcard("gzip")),
            ("*;q=0", Choice::NotValid),
            ("gzip;q=0", Choice::NotValid),
            ("gzip;q=0, br;q=1.5, zstd", Choice::NotValid),
            ("gzip;q=x, , ;", Choice::NotValid),
            ("", Choice::NotValid),
        ] {
            assert_eq!(choose(accepts, &both), expected, "{accepts}");
        }
        assert_eq!(choose("gzip, br", &[offer("gzip", false), offer("br", true)]), Choice::Encoding("br"));
        assert_eq!(choose("*", &[]), Choice::NotValid);
        assert_eq!(super::choose(None, &both), Choice::NoHeader);
    }
}
