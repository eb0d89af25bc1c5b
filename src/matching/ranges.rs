//! All ranges that an address is in, the smallest first: one look-up for each length of a prefix that occurs.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::config::model::Cidr;

/// Ranges and what they lead to.
#[derive(Debug)]
pub(super) struct Ranges<T> {
    leads_to: Vec<(bool, T)>,
    v4: Family,
    v6: Family,
}

/// The ranges of one family, by the bits of the network and the length of the prefix.
#[derive(Debug, Default)]
struct Family {
    /// That occur, longest first.
    lengths: Vec<u8>,
    networks: HashMap<(u8, u128), Vec<usize>>,
}

impl<T> Ranges<T> {
    /// Each with whether it is exclusive.
    pub(super) fn new(ranges: Vec<(Vec<Cidr>, bool, T)>) -> Self {
        let mut made =
            Self { leads_to: Vec::with_capacity(ranges.len()), v4: Family::default(), v6: Family::default() };
        for (at, (ranges, exclusive, leads_to)) in ranges.into_iter().enumerate() {
            for range in ranges {
                let (family, bits) = made.family(range.network);
                family.add(range.prefix, bits, at);
            }
            made.leads_to.push((exclusive, leads_to));
        }
        made
    }

    /// What the ranges lead to that an address is in: the smallest first, those of one size in order, and no exclusive one behind another.
    pub(super) fn of(&self, address: IpAddr) -> impl Iterator<Item = &T> {
        let (family, bits, width) = match address {
            IpAddr::V4(address) => (&self.v4, u128::from(u32::from(address)), 32),
            IpAddr::V6(address) => (&self.v6, u128::from(address), 128),
        };
        let found = family.lengths.iter().filter_map(move |length| {
            let host = u32::from(width - length.min(&width));
            family
                .networks
                .get(&(*length, bits.checked_shr(host).unwrap_or_default().checked_shl(host).unwrap_or_default()))
        });
        let found = found.flatten().filter_map(|at| self.leads_to.get(*at));
        found.enumerate().filter(|(nth, (exclusive, _))| *nth == 0 || !exclusive).map(|(_, (_, leads_to))| leads_to)
    }

    fn family(&mut self, network: IpAddr) -> (&mut Family, u128) {
        match network {
            IpAddr::V4(network) => (&mut self.v4, u128::from(u32::from(network))),
            IpAddr::V6(network) => (&mut self.v6, u128::from(network)),
        }
    }
}

impl Family {
    fn add(&mut self, length: u8, bits: u128, at: usize) {
        if let Err(place) = self.lengths.binary_search_by(|other| length.cmp(other)) {
            self.lengths.insert(place, length);
        }
        self.networks.entry((length, bits)).or_default().push(at);
    }
}
