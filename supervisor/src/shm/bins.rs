//! How a histogram's values fall into bins: two significant decimal digits, as in Envoy's log-linear histograms.
//!
//! ```text
//! bin      0 ... 99     100 ... 189       190 ... 279         ...   910 ... 999
//! values   0 ... 99     100 ... 999       1,000 ... 9,999     ...   10^11 ... 10^12 - 1 and all above
//! each     1 wide       10 wide           100 wide            ...   10^10 wide
//! ```
//! Values are whole numbers. Every bound that Envoy shows by default begins a bin here, and a bin that holds a bound
//! counts as not above it, so the buckets of an exposition are exact in Envoy's sense.

/// How many bins a histogram has.
pub const BINS: usize = EXACT + PER_DECADE * DECADES as usize;

/// Bins of width 1.
const EXACT: usize = 100;
/// Bins of each further decade.
const PER_DECADE: usize = 90;
/// Decades from 100 on.
const DECADES: u32 = 10;

/// The bin of a value; the last one takes all that is too large.
#[inline]
pub fn of(value: u64) -> usize {
    if value < EXACT as u64 {
        return value as usize;
    }
    let decade = value.ilog10() - 2;
    if decade >= DECADES {
        return BINS - 1;
    }
    let leading = (value / 10u64.pow(decade + 1)) as usize;
    EXACT + decade as usize * PER_DECADE + leading - 10
}

/// The smallest value of a bin.
pub fn lower(bin: usize) -> u64 {
    match bin.checked_sub(EXACT) {
        None => bin as u64,
        Some(past) => {
            let decade = (past / PER_DECADE).min(DECADES as usize - 1) as u32;
            ((past % PER_DECADE) as u64 + 10) * 10u64.pow(decade + 1)
        }
    }
}

/// How wide Envoy draws a bin when it interpolates: two significant digits, so a tenth for the values 1–9; zero has no
/// width.
pub fn width(bin: usize) -> f64 {
    match bin {
        0 => 0.0,
        1..10 => 0.1,
        10..EXACT => 1.0,
        _ => 10f64.powi(((bin - EXACT) / PER_DECADE) as i32 + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_are_contiguous_and_ordered() {
        for bin in 1..BINS {
            assert_eq!(of(lower(bin)), bin);
            assert_eq!(of(lower(bin) - 1), bin - 1, "below bin {bin}");
            if bin >= 10 {
                assert_eq!(lower(bin) - lower(bin - 1), width(bin - 1).max(1.0) as u64);
            }
        }
        assert_eq!(of(0), 0);
        assert_eq!(of(999_999_999_999), BINS - 1);
        assert_eq!(of(u64::MAX), BINS - 1);
    }

    #[test]
    fn envoys_default_bounds_begin_bins() {
        for bound in [
            1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000, 600_000, 1_800_000,
            3_600_000,
        ] {
            assert_eq!(lower(of(bound)), bound);
        }
    }
}
