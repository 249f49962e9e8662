//! The formats that HdrHistogram's own tools read: `.hlog` (interval log, version 1.3) and `.hgrm` (percentiles).

use std::fmt::Write;

use crate::drive::findings::Findings;
use crate::measure::recorder::Recorder;

/// One line per second of the run: start and length in seconds, the highest value in ms, the histogram in ns.
pub(crate) fn interval_log(found: &Findings) -> String {
    let mut out = String::from(
        "#[Histogram log format version 1.3]\n#[loadgen: response latency from the intended time, in ns; times are seconds since the first message]\n\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n",
    );
    for interval in &found.intervals {
        let max_ms = interval.max_us.unwrap_or(0.0) / 1000.0;
        let start = interval.second.saturating_sub(1);
        let _ = writeln!(out, "{start}.000,1.000,{max_ms:.3},{}", interval.encoded);
    }
    out
}

/// Values by percentile, in ms.
pub(crate) fn percentiles(recorder: &Recorder) -> String {
    let mut out = String::from("       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
    for (share, ns, count) in recorder.curve() {
        let ms = ns as f64 / 1e6;
        let _ = if share < 1.0 {
            writeln!(out, "{ms:12.3} {share:14.12} {count:10} {:14.2}", 1.0 / (1.0 - share))
        } else {
            writeln!(out, "{ms:12.3} {share:14.12} {count:10}")
        };
    }
    let (mean, deviation) = recorder.mean_and_deviation_ns();
    let max = recorder.max_us().unwrap_or(0.0) / 1000.0;
    let _ = writeln!(out, "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]", mean / 1e6, deviation / 1e6);
    let _ = writeln!(out, "#[Max     = {max:12.3}, Total count    = {:12}]", recorder.count());
    let _ = writeln!(out, "#[Buckets = {:12}, SubBuckets     = {:12}]", 32, 2048);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_a_table_that_ends_with_the_maximum() {
        let mut recorder = Recorder::new();
        (1..=1000).for_each(|i| recorder.record(i * 1_000_000));
        let text = percentiles(&recorder);
        let rows: Vec<Vec<f64>> = text
            .lines()
            .skip(2)
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().map(|cell| cell.parse().unwrap()).collect())
            .collect();
        assert!(rows.windows(2).all(|pair| pair[0][0] <= pair[1][0] && pair[0][1] <= pair[1][1]));
        let last = rows.last().unwrap();
        assert!((last[0] - 1000.0).abs() < 1.0 && last[1] == 1.0 && last[2] == 1000.0, "{last:?}");
        assert!(text.contains("Total count    =         1000]"));
    }
}
