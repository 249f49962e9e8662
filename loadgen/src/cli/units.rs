//! Values with units, as flags and scenarios take them.

/// `250us`, `20ms`, `1.5s`, `2m`, `1h` in nanoseconds.
///
/// # Errors
/// A sentence that says what is missing.
pub(crate) fn duration_ns(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 = number.trim().parse().map_err(|_| format!("{text:?} is no duration like 30s or 20ms"))?;
    let scale = match unit {
        "ns" => 1.0,
        "us" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" => 60e9,
        "h" => 3600e9,
        "" => return Err(format!("{text:?} lacks a unit: ns, us, ms, s, m or h")),
        _ => return Err(format!("{text:?}: the unit is none of ns, us, ms, s, m, h")),
    };
    let ns = number * scale;
    if (0.0..=2.6e14).contains(&ns) { Ok(ns as u64) } else { Err(format!("{text:?} is not between 0 and 72 h")) }
}

/// A finite number above zero.
///
/// # Errors
/// A sentence that says so.
pub(crate) fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok(number),
        _ => Err(format!("{text:?} is no number above 0")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_in_every_unit() {
        for (text, ns) in [("5ns", 5), ("250us", 250_000), ("1.5s", 1_500_000_000), ("2m", 120_000_000_000), ("0s", 0)]
        {
            assert_eq!(duration_ns(text), Ok(ns));
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        assert!(["", "5", "s", "-1s", "1d", "1e99s", "nans"].into_iter().all(|text| duration_ns(text).is_err()));
        assert!(["0", "-1", "inf", "NaN", "x"].into_iter().all(|text| positive(text).is_err()));
    }
}
