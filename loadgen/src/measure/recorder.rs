//! Histograms: three significant digits from 1 ns to one hour, each latency in its own, nothing corrected.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};

/// One hour, the highest value; above it counts as it.
const HIGHEST_NS: u64 = 3_600_000_000_000;

/// A histogram of nanoseconds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Recorder(Histogram<u64>);

impl Recorder {
    pub(crate) fn new() -> Self {
        Self(Histogram::new_with_bounds(1, HIGHEST_NS, 3).expect("the bounds are constants and valid"))
    }

    #[inline]
    pub(crate) fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns);
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all recorders have the same bounds");
    }

    pub(crate) fn clear(&mut self) {
        self.0.reset();
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The value below or at which `share` of all values lie, in us; `None` if there is none.
    pub(crate) fn quantile_us(&self, share: f64) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.value_at_quantile(share) as f64 / 1000.0)
    }

    /// The histogram in HdrHistogram's own compressed form, as .hlog files have it.
    pub(crate) fn encode(&self) -> String {
        let mut bytes = Vec::new();
        let encoded = V2DeflateSerializer::new().serialize(&self.0, &mut bytes);
        encoded.expect("a histogram within constant bounds can be encoded into memory");
        STANDARD.encode(bytes)
    }

    /// The reverse of [`Self::encode`]; `None`: it is none.
    pub(crate) fn decode(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text).ok()?;
        let histogram: Histogram<u64> = Deserializer::new().deserialize(&mut bytes.as_slice()).ok()?;
        let mut recorder = Self::new();
        recorder.0.add(histogram).ok()?;
        Some(recorder)
    }

    /// Points of the curve of values by percentile, denser towards the top: (share at or below, ns, count so far).
    pub(crate) fn curve(&self) -> impl Iterator<Item = (f64, u64, u64)> {
        let mut count = 0;
        self.0.iter_quantiles(5).map(move |point| {
            count += point.count_since_last_iteration();
            (point.quantile_iterated_to(), point.value_iterated_to(), count)
        })
    }

    /// Mean and standard deviation, in ns.
    pub(crate) fn mean_and_deviation_ns(&self) -> (f64, f64) {
        (self.0.mean(), self.0.stdev())
    }

    /// The highest value, in us.
    pub(crate) fn max_us(&self) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.max() as f64 / 1000.0)
    }
}

/// A histogram that takes runs of equal values in one piece: what one receive brings was often due at one time.
#[derive(Debug)]
pub(crate) struct RunRecorder {
    recorder: Recorder,
    /// The values that are not recorded yet: so many times the same.
    value_ns: u64,
    count: u64,
}

impl RunRecorder {
    pub(crate) fn new() -> Self {
        Self { recorder: Recorder::new(), value_ns: 0, count: 0 }
    }

    #[inline]
    pub(crate) fn record(&mut self, ns: u64) {
        if ns != self.value_ns {
            self.settle();
            self.value_ns = ns;
        }
        self.count += 1;
    }

    /// All that has been recorded.
    pub(crate) fn settled(&mut self) -> &mut Recorder {
        self.settle();
        &mut self.recorder
    }

    #[inline]
    fn settle(&mut self) {
        if self.count > 0 {
            self.recorder.0.saturating_record_n(self.value_ns, std::mem::take(&mut self.count));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_give_the_same_histogram_as_their_values() {
        let (mut runs, mut each) = (RunRecorder::new(), Recorder::new());
        for ns in [0, 0, 5, 5, 5, 1_000_000, 5, HIGHEST_NS * 2, HIGHEST_NS * 2] {
            runs.record(ns);
            each.record(ns);
        }
        assert_eq!(runs.settled(), &each);
        assert_eq!((runs.settled().count(), runs.settled().max_us()), (9, each.max_us()));
    }

    #[test]
    fn what_is_encoded_is_decoded_and_adds_up() {
        let (mut a, mut b) = (Recorder::new(), Recorder::new());
        (1..1000).for_each(|i| a.record(i * 1_000));
        b.record(77_000_000);
        let mut decoded = Recorder::decode(&a.encode()).unwrap();
        assert_eq!(decoded, a);
        decoded.add(&Recorder::decode(&b.encode()).unwrap());
        assert_eq!((decoded.count(), decoded.quantile_us(0.5)), (1000, a.quantile_us(0.5)));
        assert!((decoded.max_us().unwrap() - 77_000.0).abs() < 77.0);
        assert_eq!((Recorder::decode("!"), Recorder::decode("AAAA")), (None, None));
    }
}
