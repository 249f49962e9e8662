//! Least squares with coefficients that are not negative, exactly: for a handful of coefficients every choice of which
//! of them are zero can be tried. Around it, weights that make errors relative, and runs that went wrong light.

/// How often the weights are made anew from the fit before.
const REWEIGHTS: usize = 5;

/// Errors beyond so many times the median one count less, as 1 / their size (Huber's weights).
const OUTLIER: f64 = 1.5;

/// Errors that need no better fit.
const ERROR_FLOOR: f64 = 0.02;

/// Coefficients c ≥ 0 with row · c ≈ value in relative terms, whatever a few of the rows say. Values below `floor` are
/// fitted as if they were it. `rows` are of (amounts, value).
pub(super) fn fit_relative<const N: usize>(rows: &[([f64; N], f64)], floor: f64) -> [f64; N] {
    let mut weights: Vec<f64> = rows.iter().map(|(_, value)| 1.0 / value.max(floor)).collect();
    let mut prices = [0.0; N];
    for _ in 0..REWEIGHTS {
        let weighted = rows.iter().zip(&weights).map(|((amounts, value), weight)| (*amounts, *value, *weight));
        prices = fit(&weighted.collect::<Vec<_>>());
        let fitted = |amounts: &[f64; N]| -> f64 { amounts.iter().zip(prices).map(|(a, price)| a * price).sum() };
        let scale = |(amounts, _): &([f64; N], f64)| fitted(amounts).max(floor);
        let errors: Vec<f64> = rows.iter().map(|row| (row.1 - fitted(&row.0)).abs() / scale(row)).collect();
        let limit = OUTLIER * median(&errors).max(ERROR_FLOOR);
        let huber = |error: f64| (limit / error.max(limit)).sqrt();
        weights = rows.iter().zip(&errors).map(|(row, error)| huber(*error) / scale(row)).collect();
    }
    prices
}

/// Of no values 0.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

/// Coefficients c ≥ 0 that minimise Σ weight² (row · c − value)². `rows` are of (amounts, value, weight).
///
/// A coefficient that the rows do not determine is 0.
fn fit<const N: usize>(rows: &[([f64; N], f64, f64)]) -> [f64; N] {
    // Columns of like size: bytes come by the million, being there is 1.
    let mut scale = [0.0f64; N];
    for (amounts, _, weight) in rows {
        (0..N).for_each(|k| scale[k] = scale[k].max((amounts[k] * weight).abs()));
    }
    let mut gram = [[0.0; N]; N];
    let mut target = [0.0; N];
    for (amounts, value, weight) in rows {
        let scaled: [f64; N] =
            std::array::from_fn(|k| if scale[k] > 0.0 { amounts[k] * weight / scale[k] } else { 0.0 });
        for i in 0..N {
            (0..N).for_each(|j| gram[i][j] += scaled[i] * scaled[j]);
            target[i] += scaled[i] * value * weight;
        }
    }
    let mut best = ([0.0; N], 0.0);
    for chosen in 1u32..1 << N {
        let Some(candidate) = solve(&gram, &target, chosen) else { continue };
        if candidate.iter().all(|c| *c >= 0.0) {
            // What the squares shrink by: c · (2 target − gram c), and gram c = target where c is not 0.
            let gain: f64 = (0..N).map(|k| candidate[k] * target[k]).sum();
            if gain > best.1 {
                best = (candidate, gain);
            }
        }
    }
    std::array::from_fn(|k| if scale[k] > 0.0 { best.0[k] / scale[k] } else { 0.0 })
}

/// Solves the normal equations of the `chosen` columns, by elimination with pivots; `None`: they are not independent.
fn solve<const N: usize>(gram: &[[f64; N]; N], target: &[f64; N], chosen: u32) -> Option<[f64; N]> {
    let columns: Vec<usize> = (0..N).filter(|k| chosen & (1 << k) != 0).collect();
    let n = columns.len();
    let mut rows: Vec<Vec<f64>> =
        columns.iter().map(|i| columns.iter().map(|j| gram[*i][*j]).chain([target[*i]]).collect()).collect();
    for at in 0..n {
        let pivot = (at..n).max_by(|a, b| rows[*a][at].abs().total_cmp(&rows[*b][at].abs()))?;
        rows.swap(at, pivot);
        if rows[at][at].abs() < 1e-9 {
            return None;
        }
        for below in at + 1..n {
            let factor = rows[below][at] / rows[at][at];
            (at..=n).for_each(|k| rows[below][k] -= factor * rows[at][k]);
        }
    }
    let mut solution = [0.0; N];
    for at in (0..n).rev() {
        let known: f64 = (at + 1..n).map(|k| rows[at][k] * solution[columns[k]]).sum();
        solution[columns[at]] = (rows[at][n] - known) / rows[at][at];
    }
    Some(solution)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn prices_are_found_again_whatever_the_size_of_the_amounts() {
        let prices = [100.0, 4.0, 0.05, 0.0003];
        let mut rng = Rng::new(5, 5);
        let rows: Vec<_> = (0..12)
            .map(|_| {
                let amounts = [1.0, rng.next_share() * 1e4, rng.next_share() * 1e6, rng.next_share() * 1e8];
                let value: f64 = amounts.iter().zip(prices).map(|(amount, price)| amount * price).sum();
                (amounts, value, 1.0 / value)
            })
            .collect();
        for (found, price) in fit(&rows).into_iter().zip(prices) {
            assert!((found / price - 1.0).abs() < 1e-6, "{found} is not {price}");
        }
    }

    #[test]
    fn a_run_that_went_wrong_hardly_matters() {
        let mut rows: Vec<([f64; 1], f64)> = (1..12).map(|n| ([f64::from(n)], f64::from(n) * 25.0)).collect();
        rows.push(([15.0], 3.0));
        let [price] = fit_relative(&rows, 1.0);
        assert!((price / 25.0 - 1.0).abs() < 0.01, "{price}");
        assert_eq!(fit_relative::<2>(&[], 1.0), [0.0; 2]);
    }

    #[test]
    fn what_would_be_negative_is_zero_and_the_rest_fits_without_it() {
        // Unconstrained: 3 and −1. Without the second, least squares of 3x − x² over x = 1, 2, 3.
        let rows: Vec<_> = [1.0, 2.0, 3.0].map(|x: f64| ([x, x * x], 3.0 * x - x * x, 1.0)).to_vec();
        let [first, second] = fit(&rows);
        assert!((first - (2.0 + 4.0) / 14.0).abs() < 1e-9 && second == 0.0, "{first} {second}");
        // Two columns that are the same: one of them carries it.
        let rows: Vec<_> = [1.0, 2.0].map(|x: f64| ([x, x], 2.0 * x, 1.0)).to_vec();
        let [a, b] = fit(&rows);
        assert!((a + b - 2.0).abs() < 1e-9);
    }
}
