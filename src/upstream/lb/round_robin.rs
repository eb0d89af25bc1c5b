//! Weighted round robin, spread smoothly: with weights 5, 1, 1 the order is `a a b a c a a`, not five times `a` at once.
//!
//! Where all weights are equal, a pick is an increment. Each worker begins one host further than the one before, so that many workers
//! with few requests do not all send their first to the same host.

use std::cell::{Cell, RefCell};

/// The state of one worker's round robin over a fixed list of hosts.
pub struct RoundRobin {
    turn: Turn,
}

enum Turn {
    Equal { hosts: usize, next: Cell<usize> },
    Weighted(RefCell<Vec<Share>>),
}

struct Share {
    weight: i64,
    /// What the host is owed: grows by its weight with every pick, falls by the total when picked.
    credit: i64,
}

impl RoundRobin {
    /// Over hosts with these weights, beginning with host `start` modulo their number.
    pub fn new(weights: &[u32], start: usize) -> Self {
        let turn = if weights.windows(2).all(|pair| pair[0] == pair[1]) {
            Turn::Equal { hosts: weights.len(), next: Cell::new(start % weights.len().max(1)) }
        } else {
            let shares = weights.iter().map(|&weight| Share { weight: i64::from(weight), credit: 0 }).collect();
            Turn::Weighted(RefCell::new(shares))
        };
        let this = Self { turn };
        if matches!(this.turn, Turn::Weighted(_)) {
            for _ in 0..start % weights.len() {
                this.pick();
            }
        }
        this
    }

    /// The index of the next host; `None` without hosts.
    pub fn pick(&self) -> Option<usize> {
        match &self.turn {
            Turn::Equal { hosts: 0, .. } => None,
            Turn::Equal { hosts, next } => {
                let pick = next.get();
                next.set(if pick + 1 == *hosts { 0 } else { pick + 1 });
                Some(pick)
            }
            Turn::Weighted(shares) => {
                let mut shares = shares.borrow_mut();
                let total: i64 = shares.iter().map(|share| share.weight).sum();
                for share in shares.iter_mut() {
                    share.credit += share.weight;
                }
                // `max_by_key` takes the last of equals; the first is what one expects to come first.
                let pick = shares.iter().enumerate().rev().max_by_key(|(_, share)| share.credit).map(|(at, _)| at)?;
                shares[pick].credit -= total;
                Some(pick)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(weights: &[u32], start: usize, picks: usize) -> Vec<usize> {
        let lb = RoundRobin::new(weights, start);
        (0..picks).filter_map(|_| lb.pick()).collect()
    }

    #[test]
    fn equal_weights_take_turns_from_the_start() {
        assert_eq!(order(&[1, 1, 1], 0, 5), [0, 1, 2, 0, 1]);
        assert_eq!(order(&[3, 3, 3], 5, 4), [2, 0, 1, 2]);
    }

    #[test]
    fn weights_are_kept_and_spread() {
        let picks = order(&[5, 1, 1], 0, 14);
        assert_eq!(picks[..7], picks[7..]);
        for (host, times) in [(0, 5), (1, 1), (2, 1)] {
            assert_eq!(picks[..7].iter().filter(|&&pick| pick == host).count(), times);
        }
        assert!(picks[..7].windows(4).all(|run| run.iter().any(|&pick| pick != 0)), "{picks:?}");
    }

    #[test]
    fn no_host_is_no_pick() {
        assert_eq!(RoundRobin::new(&[], 7).pick(), None);
    }
}
