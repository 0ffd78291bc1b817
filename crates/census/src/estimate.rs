//! Shares with their intervals.

use ctkeeper_snapshot::{Figure, Sample};

/// The 97.5 % point of the normal distribution: intervals are two-sided 95 % ones.
pub(crate) const Z: f64 = 1.959_964;

/// A share of a table, 0 to 1, with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The share as counted.
    pub share: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl Estimate {
    /// The share of `hits` in `sample`; nothing at all when the sample is empty. Of an exact
    /// sample the interval is the share itself, else it is Wilson's score interval.
    pub fn of(hits: u64, sample: &Sample) -> Option<Self> {
        if sample.size == 0 {
            return None;
        }
        let share = hits as f64 / sample.size as f64;
        if sample.exact {
            return Some(Self { share, low: share, high: share });
        }
        let (low, high) = wilson(share, sample.size as f64, Z * Z);
        Some(Self { share, low, high })
    }

    /// Half the interval's width: the `±` of the share.
    pub fn margin(&self) -> f64 {
        (self.high - self.low) / 2.0
    }
}

/// How many of `count` entries a share stands for.
pub fn entries(share: f64, count: u64) -> u64 {
    (share.clamp(0.0, 1.0) * count as f64).round() as u64
}

/// How many of a table's `count` entries have what `hits` of the `size` sampled ones have, with a
/// 95 % interval: Wilson's, narrowed as the sample is drawn without putting back (with `z²` times
/// `(count - size) / (count - 1)`), and never beyond what the sample itself shows.
pub fn figure(hits: u64, size: u64, count: u64) -> Figure {
    figure_at(hits, size, count, Z)
}

/// The same for intervals of `z` standard deviations.
pub(crate) fn figure_at(hits: u64, size: u64, count: u64, z: f64) -> Figure {
    let hits = hits.min(size);
    let count = count.max(size);
    if size == count {
        return Figure::exactly(hits);
    }
    if size == 0 {
        return Figure { value: 0.0, low: 0.0, high: count as f64 };
    }
    let left = (count - size) as f64 / (count - 1).max(1) as f64;
    let share = hits as f64 / size as f64;
    let (low, high) = wilson(share, size as f64, z * z * left);
    let all = count as f64;
    Figure {
        value: share * all,
        low: (low * all).max(hits as f64),
        high: (high * all).min(all - (size - hits) as f64),
    }
}

/// The sum of independent figures. Its interval is put together from theirs by the squares of how
/// far each reaches to either side (G. Y. Zou and A. Donner's MOVER, 2008), so that it keeps their
/// coverage though they are lopsided.
pub fn sum(figures: impl IntoIterator<Item = Figure>) -> Figure {
    let (mut value, mut below, mut above) = (0.0, 0.0, 0.0);
    for figure in figures {
        value += figure.value;
        below += (figure.value - figure.low) * (figure.value - figure.low);
        above += (figure.high - figure.value) * (figure.high - figure.value);
    }
    Figure { value, low: value - below.sqrt(), high: value + above.sqrt() }
}

/// Wilson's score interval; unlike the usual one it stays within 0 and 1 and is honest for small
/// samples and rare hits (E. B. Wilson, 1927).
fn wilson(share: f64, size: f64, z2: f64) -> (f64, f64) {
    let centre = share + z2 / (2.0 * size);
    let spread = (z2 * (share * (1.0 - share) / size + z2 / (4.0 * size * size))).sqrt();
    let scale = 1.0 + z2 / size;
    (((centre - spread) / scale).max(0.0), ((centre + spread) / scale).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(size: u64, exact: bool) -> Sample {
        Sample { size, exact, ..Sample::default() }
    }

    #[test]
    fn an_exact_count_has_no_margin() {
        let estimate = Estimate::of(25, &sample(100, true)).unwrap();
        assert_eq!((estimate.low, estimate.share, estimate.high), (0.25, 0.25, 0.25));
    }

    #[test]
    fn a_sample_of_nothing_says_nothing() {
        assert_eq!(Estimate::of(0, &sample(0, true)), None);
    }

    #[test]
    fn intervals_cover_the_truth_as_often_as_they_say() {
        // A fixed linear congruential generator: the test is the same on every run.
        let mut state = 42_u64;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        for truth in [0.02, 0.3, 0.97] {
            let covered = (0..2000)
                .filter(|_| {
                    let hits = (0..500).filter(|_| uniform() < truth).count() as u64;
                    let estimate = Estimate::of(hits, &sample(500, false)).unwrap();
                    (estimate.low..=estimate.high).contains(&truth)
                })
                .count();
            assert!((1860..=1960).contains(&covered), "truth {truth}: {covered} of 2000");
        }
    }
}
