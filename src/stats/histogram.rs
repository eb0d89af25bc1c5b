//! What Envoy shows of a histogram: quantiles and cumulative buckets, from bins.

use heirloom_supervisor::shm::bins;

use super::Bin;

/// Upper bounds of Envoy's default buckets.
pub const BOUNDS: [f64; 19] =
    [0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1e3, 2.5e3, 5e3, 1e4, 3e4, 6e4, 3e5, 6e5, 1.8e6, 3.6e6];

/// The quantiles Envoy shows.
pub const QUANTILES: [f64; 10] = [0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 1.0];

/// How many values there are.
pub fn count(bins: &[Bin]) -> u64 {
    total(bins.iter())
}

/// Counts come from memory that others write: too large a sum is as large as can be.
fn total<'b>(bins: impl Iterator<Item = &'b Bin>) -> u64 {
    bins.fold(0, |sum, bin| sum.saturating_add(bin.count))
}

/// How many values are not above each of [`BOUNDS`]. A bin that holds a bound counts as not above it, as in Envoy.
pub fn cumulative(bins: &[Bin]) -> [u64; BOUNDS.len()] {
    BOUNDS.map(|bound| {
        let below = bins.iter().take_while(|bin| bins::lower(usize::from(bin.bin)) as f64 <= bound);
        total(below)
    })
}

/// The values at [`QUANTILES`]; `None` without any value. The k-th of n values of a bin is taken to lie k/(n+1) into
/// it.
pub fn quantiles(bins: &[Bin]) -> Option<[f64; QUANTILES.len()]> {
    let count = count(bins);
    if count == 0 {
        return None;
    }
    Some(QUANTILES.map(|quantile| {
        let rank = ((count as f64 * quantile).ceil() as u64).clamp(1, count);
        value_at(bins, rank)
    }))
}

fn value_at(bins: &[Bin], rank: u64) -> f64 {
    let mut before = 0_u64;
    for bin in bins {
        if before.saturating_add(bin.count) >= rank {
            let index = usize::from(bin.bin);
            let part = (rank - before) as f64 / (bin.count as f64 + 1.0);
            return bins::lower(index) as f64 + bins::width(index) * part;
        }
        before = before.saturating_add(bin.count);
    }
    0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[u64]) -> Vec<Bin> {
        let mut bins: Vec<Bin> = Vec::new();
        let mut values = values.to_vec();
        values.sort_unstable();
        for value in values {
            let bin = bins::of(value) as u16;
            match bins.last_mut() {
                Some(last) if last.bin == bin => last.count += 1,
                _ => bins.push(Bin { bin, count: 1 }),
            }
        }
        bins
    }

    /// Values that Envoy 1.40 showed for these samples.
    #[test]
    fn quantiles_are_envoys() {
        assert_eq!(quantiles(&[]), None);
        assert_eq!(quantiles(&of(&[13])), Some([13.5; 10]));
        assert_eq!(quantiles(&of(&[3])), Some([3.05; 10]));
        assert_eq!(quantiles(&of(&[0, 0, 0])), Some([0.0; 10]));
        let shown = quantiles(&of(&[100, 105, 107, 109])).unwrap();
        assert_eq!(shown, [102.0, 102.0, 104.0, 106.0, 108.0, 108.0, 108.0, 108.0, 108.0, 108.0]);
        let shown = quantiles(&of(&[0, 1, 1, 1, 1, 2])).unwrap();
        assert_eq!(shown[..5], [0.0, 1.02, 1.04, 1.08, 2.05]);
    }

    #[test]
    fn a_bin_that_holds_a_bound_is_not_above_it() {
        let shown = cumulative(&of(&[0, 1, 100, 105, 109, 110, 3_600_000, 9_000_000]));
        assert_eq!(shown, [1, 2, 2, 2, 2, 2, 5, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 7]);
        assert_eq!(count(&of(&[0, 1, 2, 3])), 4);
    }
}
