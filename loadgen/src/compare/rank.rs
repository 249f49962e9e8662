//! Paired ratios: the Hodges–Lehmann estimate and the exact interval of Wilcoxon's signed-rank test.
//!
//! No assumption about the distribution but its symmetry in the logarithm; one pair that went wrong cannot carry the
//! result. The interval's ends are order statistics of the Walsh averages, chosen by the exact null distribution.

/// An estimate of B / A with its interval.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub(crate) struct Estimate {
    pub(crate) ratio: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// What the interval actually covers, at least what was asked for.
    pub(crate) confidence: f64,
    /// Half of the range that holds the middle half of the pairs' ratios, relative: how much pairs differ.
    pub(crate) pair_spread: f64,
}

/// What a comparison shows, whatever the limit for the estimate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    Better,
    Worse,
    /// The interval holds 1 and nothing beyond the smallest effect of interest.
    NoDifferenceShown,
    /// The interval holds 1 and effects of interest too.
    Inconclusive,
}

/// The fewest pairs from which an interval of this confidence can be made.
pub(crate) fn pairs_min(confidence: f64) -> usize {
    // The widest interval of n pairs misses with probability 2 / 2^n.
    (1..).find(|n| 2.0 / 2f64.powi(*n) <= 1.0 - confidence + 1e-12).map_or(64, |n| n as usize)
}

/// Estimates B / A from pairs (a, b), all above 0; `None`: too few pairs for the confidence.
pub(crate) fn estimate(pairs: &[(f64, f64)], confidence: f64) -> Option<Estimate> {
    let mut logs: Vec<f64> = pairs.iter().map(|(a, b)| (b / a).ln()).collect();
    logs.sort_by(f64::total_cmp);
    let n = logs.len();
    let walsh = walsh_averages(&logs);
    let tail = (1.0 - confidence) / 2.0;
    let (rank, missed) = widest_rank(n, tail)?;
    let quartile = |share: f64| logs[((n - 1) as f64 * share).round() as usize];
    Some(Estimate {
        ratio: middle(&walsh).exp(),
        low: walsh[rank].exp(),
        high: walsh[walsh.len() - 1 - rank].exp(),
        confidence: 1.0 - 2.0 * missed,
        pair_spread: ((quartile(0.75) - quartile(0.25)) / 2.0).exp() - 1.0,
    })
}

/// The Hodges–Lehmann estimate of what the values lie around; `None`: there are none.
pub(crate) fn hodges_lehmann(values: Vec<f64>) -> Option<f64> {
    (!values.is_empty()).then(|| middle(&walsh_averages(&values)))
}

/// The median of the values; `None`: there are none.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    (!values.is_empty()).then(|| middle(&values))
}

/// The means of all pairs of values, each with itself too, ascending.
fn walsh_averages(values: &[f64]) -> Vec<f64> {
    let n = values.len();
    let pairs = (0..n).flat_map(|i| (i..n).map(move |j| (i, j)));
    let mut walsh: Vec<f64> = pairs.map(|(i, j)| (values[i] + values[j]) / 2.0).collect();
    walsh.sort_by(f64::total_cmp);
    walsh
}

impl Estimate {
    /// What is shown of a figure of which less is better; effects up to `effect_min` (0.05: 5 %) are of no interest.
    pub(crate) fn shows(&self, effect_min: f64) -> Outcome {
        match () {
            () if self.low > 1.0 => Outcome::Worse,
            () if self.high < 1.0 => Outcome::Better,
            () if self.smallest_effect() <= effect_min => Outcome::NoDifferenceShown,
            () => Outcome::Inconclusive,
        }
    }

    /// Whether B is worse by no more than `effect_max` (0.05: 5 %). It is not where the interval lies above 1 and the
    /// ratio above the limit; it is where the ratio does not lie above the limit and a difference of `effect_max` would
    /// have shown, or where B is better; `None`: neither can be said.
    pub(crate) fn is_within(&self, effect_max: f64) -> Option<bool> {
        match () {
            () if self.low > 1.0 && self.ratio > 1.0 + effect_max => Some(false),
            () if self.high < 1.0 || self.smallest_effect() <= effect_max => Some(true),
            () => None,
        }
    }

    /// The smallest relative difference that this comparison could have shown.
    pub(crate) fn smallest_effect(&self) -> f64 {
        (self.high / self.ratio).max(self.ratio / self.low) - 1.0
    }
}

/// The highest index k with P(W ≤ k) ≤ `tail` under the null distribution of n pairs, and that probability.
fn widest_rank(n: usize, tail: f64) -> Option<(usize, f64)> {
    // counts[w]: how many of the 2^n sign patterns have the rank sum w.
    let mut counts = vec![0.0; n * (n + 1) / 2 + 1];
    counts[0] = 1.0;
    for rank in 1..=n {
        for sum in (rank..counts.len()).rev() {
            counts[sum] += counts[sum - rank];
        }
    }
    let total = 2f64.powi(n as i32);
    let mut below = 0.0;
    let mut widest = None;
    for (rank, count) in counts.iter().enumerate() {
        below += count / total;
        if below > tail + 1e-12 {
            break;
        }
        widest = Some((rank, below));
    }
    widest
}

fn middle(sorted: &[f64]) -> f64 {
    let n = sorted.len();
    (sorted[(n - 1) / 2] + sorted[n / 2]) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn ranks_are_those_of_the_published_tables() {
        // Wilcoxon signed rank, two-sided 5 %: critical values 0, 2, 3, 5, 8 for n = 6 to 10, 52 for n = 20.
        for (n, critical) in [(6, 0), (7, 2), (8, 3), (9, 5), (10, 8), (20, 52)] {
            assert_eq!(widest_rank(n, 0.025).unwrap().0, critical, "n = {n}");
        }
        assert_eq!((widest_rank(5, 0.025), pairs_min(0.95), pairs_min(0.98)), (None, 6, 7));
    }

    #[test]
    fn a_plain_shift_is_estimated_exactly() {
        let pairs: Vec<(f64, f64)> = (0..10).map(|i| (1.0 + f64::from(i), 1.05 * (1.0 + f64::from(i)))).collect();
        let estimate = estimate(&pairs, 0.95).unwrap();
        assert!((estimate.ratio - 1.05).abs() < 1e-9 && (estimate.low - 1.05).abs() < 1e-9);
        assert_eq!(estimate.shows(0.05), Outcome::Worse);
    }

    #[test]
    fn the_interval_covers_as_often_as_it_says() {
        let mut rng = Rng::new(9, 9);
        let mut noise = || (0..6).map(|_| rng.next_share() - 0.5).sum::<f64>() * 0.03;
        let (mut alarms, mut found) = (0, 0);
        for _ in 0..2000 {
            let mut pairs = |shift: f64| -> Vec<(f64, f64)> {
                (0..10).map(|_| ((noise()).exp(), (shift + noise()).exp())).collect()
            };
            let same = estimate(&pairs(0.0), 0.95).unwrap();
            alarms += u32::from(same.low > 1.0 || same.high < 1.0);
            found += u32::from(estimate(&pairs(0.05), 0.95).unwrap().shows(0.05) == Outcome::Worse);
        }
        assert!((40..150).contains(&alarms), "{alarms} alarms in 2000");
        assert!(found > 1400, "{found} of 2000 found");
    }

    #[test]
    fn wide_intervals_are_inconclusive_and_narrow_ones_are_not() {
        let wide = Estimate { ratio: 1.0, low: 0.8, high: 1.25, confidence: 0.95, pair_spread: 0.2 };
        assert_eq!(wide.shows(0.05), Outcome::Inconclusive);
        assert!((wide.smallest_effect() - 0.25).abs() < 1e-9);
        let narrow = Estimate { low: 0.98, high: 1.02, ..wide };
        assert_eq!(narrow.shows(0.05), Outcome::NoDifferenceShown);
        assert_eq!((wide.is_within(0.05), narrow.is_within(0.05)), (None, Some(true)));
    }

    #[test]
    fn a_limit_is_broken_by_an_estimate_beyond_it_that_is_no_noise() {
        let estimate = |ratio, low, high| Estimate { ratio, low, high, confidence: 0.98, pair_spread: 0.01 };
        for (ratio, low, high, within) in [
            (1.005, 1.001, 1.009, Some(true)),  // shown, and far from the limit
            (1.045, 1.030, 1.060, Some(true)),  // shown; that the interval crosses the limit does not matter
            (1.055, 1.001, 1.110, Some(false)), // shown, beyond the limit
            (1.055, 0.999, 1.110, None),        // beyond the limit, and perhaps noise
            (1.045, 1.001, 1.120, None),        // shown, and 5 % more than that would not have been
            (1.000, 0.970, 1.030, Some(true)),
            (0.900, 0.700, 0.990, Some(true)), // better, however wide
        ] {
            assert_eq!(estimate(ratio, low, high).is_within(0.05), within, "{ratio} {low} {high}");
        }
        assert_eq!(estimate(1.005, 1.001, 1.009).shows(0.05), Outcome::Worse);
        assert_eq!(estimate(1.005, 1.001, 1.009).is_within(0.0), Some(false));
    }
}
