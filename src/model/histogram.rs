//! A histogram with exponential buckets, and the forms that protocols want of it. Entry point: [`Histogram`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Buckets per doubling: 2^[`Histogram::SCALE`].
const STEPS: i32 = 1 << Histogram::SCALE;

/// 2^(n/8) for n from 1 to 7: the bounds of buckets between 1 and 2.
#[expect(clippy::approx_constant, reason = "a row of a table")]
const BOUNDS: [f64; 7] = [
    1.090_507_732_665_257_7,
    1.189_207_115_002_721,
    1.296_839_554_651_009_6,
    1.414_213_562_373_095_1,
    1.542_210_825_407_940_7,
    1.681_792_830_507_429,
    1.834_008_086_409_342_4,
];

/// Bits of the fraction of a double.
const FRACTION_BITS: u32 = f64::MANTISSA_DIGITS - 1;

/// Counts of values by size, in buckets whose bounds grow by the factor 2^(1/8), 9 %.
///
/// It is the exponential histogram of OpenTelemetry at scale 3, and the native histogram of Prometheus with schema 3: bucket `i` has the
/// values in (2^(i/8), 2^((i+1)/8)]. A power of two is a bound, so the number of values up to it is exact. Buckets are as many as sizes
/// that occurred: at most 512 of whole nanoseconds in 64 bits, 9,216 of any values.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Fields")]
pub struct Histogram {
    count: u64,
    sum: f64,
    zeros: u64,
    buckets: BTreeMap<i32, u64>,
}

/// A histogram as it is read back, unchecked.
#[derive(Deserialize)]
struct Fields {
    count: u64,
    sum: f64,
    zeros: u64,
    buckets: BTreeMap<i32, u64>,
}

impl TryFrom<Fields> for Histogram {
    type Error = &'static str;

    fn try_from(Fields { count, sum, zeros, buckets }: Fields) -> Result<Self, Self::Error> {
        if !buckets.keys().all(|index| (-128 * STEPS..f64::MAX_EXP * STEPS).contains(index)) {
            return Err("a histogram with a bucket that no number is in");
        }
        if buckets.values().try_fold(zeros, |sum, &count| sum.checked_add(count)) != Some(count) {
            return Err("a histogram with another count than its buckets");
        }
        Ok(Self { count, sum, zeros, buckets })
    }
}

impl Histogram {
    /// The scale of its buckets.
    pub const SCALE: i32 = 3;

    /// 2^-128: values up to it count as zero, as in the histograms of Prometheus' own library.
    pub const ZERO_THRESHOLD: f64 = 2.938_735_877_055_719e-39;

    /// Adds a value. One that is not finite counts as zero.
    pub fn record(&mut self, value: f64) {
        self.count += 1;
        if value > Self::ZERO_THRESHOLD && value.is_finite() {
            self.sum = (self.sum + value).min(f64::MAX);
            *self.buckets.entry(bucket(value)).or_default() += 1;
        } else {
            self.zeros += 1;
        }
    }

    /// Returns the number of values.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Returns the sum of the values.
    #[must_use]
    pub const fn sum(&self) -> f64 {
        self.sum
    }

    /// Returns the number of values up to [`Histogram::ZERO_THRESHOLD`].
    #[must_use]
    pub const fn zeros(&self) -> u64 {
        self.zeros
    }

    /// Returns the mean of the values; `None` without values.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a mean is a float")]
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }

    /// Returns for each of these exponents, ascending and above -128, the number of values up to that power of two.
    pub fn up_to(&self, exponents: &'static [i32]) -> impl Iterator<Item = (i32, u64)> {
        let mut buckets = self.buckets.iter().peekable();
        let mut sum = self.zeros;
        exponents.iter().map(move |&exponent| {
            while let Some((_, count)) = buckets.next_if(|(index, _)| **index < exponent * STEPS) {
                sum += count;
            }
            (exponent, sum)
        })
    }

    /// Returns its buckets, merged until the indexes from the first to the last are at most `most`, which is above 1.
    #[must_use]
    pub fn spanning(&self, most: usize) -> ExponentialBuckets {
        self.merged(|counts| match (counts.first(), counts.last()) {
            (Some((first, _)), Some((last, _))) => {
                usize::try_from(last - first).is_ok_and(|span| span < most)
            }
            _ => true,
        })
    }

    /// Returns its buckets, merged until there are at most `most`, which is above 1.
    #[must_use]
    pub fn numbering(&self, most: usize) -> ExponentialBuckets {
        self.merged(|counts| counts.len() <= most)
    }

    /// Merges two buckets into one, for all buckets, until they fit.
    fn merged(&self, fit: impl Fn(&[(i32, u64)]) -> bool) -> ExponentialBuckets {
        let mut scale = Self::SCALE;
        let mut counts: Vec<(i32, u64)> =
            self.buckets.iter().map(|(&index, &count)| (index, count)).collect();
        while !fit(&counts) {
            scale -= 1;
            for (index, _) in &mut counts {
                *index >>= 1;
            }
            counts.dedup_by(|(index, count), (before, sum)| {
                let is_same = index == before;
                if is_same {
                    *sum += *count;
                }
                is_same
            });
        }
        ExponentialBuckets { scale, counts }
    }

    /// Returns what was recorded since `earlier`. `None` if that is no earlier state of this histogram: it began again.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Option<Self> {
        let mut buckets = self.buckets.clone();
        for (index, before) in &earlier.buckets {
            let count = buckets.get_mut(index)?;
            *count = count.checked_sub(*before)?;
        }
        buckets.retain(|_, count| *count > 0);
        Some(Self {
            count: self.count.checked_sub(earlier.count)?,
            sum: (self.sum - earlier.sum).max(0.0),
            zeros: self.zeros.checked_sub(earlier.zeros)?,
            buckets,
        })
    }
}

/// Buckets at a scale: bucket `i` has the values in (2^(i/2^scale), 2^((i+1)/2^scale)].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExponentialBuckets {
    /// At most [`Histogram::SCALE`], at least -11.
    pub scale: i32,
    /// Index and number of values of each bucket that has some, ascending.
    pub counts: Vec<(i32, u64)>,
}

/// Returns the bucket of a finite value above [`Histogram::ZERO_THRESHOLD`], which is far above the least normal number.
///
/// It compares with the bounds instead of rounding a logarithm, so that a value just above a power of two is not counted below it.
fn bucket(value: f64) -> i32 {
    const BIAS: i32 = f64::MAX_EXP - 1;
    let bits = value.to_bits();
    let exponent = (bits >> FRACTION_BITS) as i32 - BIAS;
    // The same digits, between 1 and 2.
    let fraction = f64::from_bits(bits & ((1 << FRACTION_BITS) - 1) | 1_f64.to_bits());
    let below = BOUNDS.partition_point(|&bound| bound < fraction);
    #[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "at most seven")]
    let step = below as i32 + i32::from(fraction > 1.0);
    exponent * STEPS + step - 1
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const EXPONENTS: &[i32] = &[-100, -10, -3, 0, 1, 5, 24, 100];

    #[test]
    fn upper_bounds_belong_to_their_buckets() {
        for (value, index) in
            [(1.0, -1), (1.001, 0), (2.0, 7), (0.5, -9), (0.51, -8), (1e-9, -240), (1e9, 239)]
        {
            assert_eq!(bucket(value), index, "{value}");
        }
        for (index, bound) in (0..).zip(BOUNDS) {
            assert_eq!((bucket(bound), bucket(bound.next_up())), (index, index + 1), "{bound}");
            assert!((bound - (f64::from(index + 1) / 8.0).exp2()).abs() < 1e-15, "{bound}");
        }
        for exponent in -100..100 {
            let power = f64::from(exponent).exp2();
            let index = exponent * STEPS;
            assert_eq!((bucket(power), bucket(power.next_up())), (index - 1, index), "2^{exponent}");
        }
        assert_eq!(bucket(f64::MAX), 1024 * STEPS - 1);
        assert_eq!(Histogram::ZERO_THRESHOLD.to_bits(), (-128_f64).exp2().to_bits());
        assert_eq!(bucket(Histogram::ZERO_THRESHOLD.next_up()), -128 * STEPS);
        let mut histogram = Histogram::default();
        for value in [0.0, 1.0, 2.0, 2.0, f64::NAN, Histogram::ZERO_THRESHOLD] {
            histogram.record(value);
        }
        assert_eq!((histogram.count, histogram.zeros, histogram.sum), (6, 3, 5.0));
        assert_eq!(histogram.buckets, BTreeMap::from([(-1, 1), (7, 2)]));
        assert_eq!(histogram.mean(), Some(5.0 / 6.0));
        assert_eq!(Histogram::default().mean(), None);
    }

    /// A duration in seconds, of any length that occurs, or another number.
    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![
            4 => (-30.0..30_f64).prop_map(f64::exp2),
            2 => (-30..30_i32).prop_map(|exponent| f64::from(exponent).exp2()),
            1 => Just(0.0),
            1 => any::<f64>().prop_map(f64::abs).prop_filter("finite", |value| value.is_finite()),
        ]
    }

    fn of(values: &[f64]) -> Histogram {
        let mut histogram = Histogram::default();
        for &value in values {
            histogram.record(value);
        }
        histogram
    }

    fn number(values: &[f64], is_in: impl Fn(f64) -> bool) -> u64 {
        values.iter().filter(|value| is_in(**value)).count() as u64
    }

    /// Asserts that a form has each value in the bucket whose bounds are around it.
    fn assert_has(form: &ExponentialBuckets, values: &[f64]) {
        let mut counted: BTreeMap<i32, u64> = BTreeMap::new();
        for &value in values.iter().filter(|value| **value > Histogram::ZERO_THRESHOLD) {
            *counted.entry(bucket(value) >> (Histogram::SCALE - form.scale)).or_default() += 1;
        }
        assert_eq!(form.counts, counted.into_iter().collect::<Vec<_>>());
        // The definition, up to the rounding of a logarithm.
        for &(index, count) in &form.counts {
            let steps = f64::from(form.scale).exp2();
            let within = |margin: f64| {
                number(values, |value| {
                    let log = value.log2() * steps;
                    value > Histogram::ZERO_THRESHOLD
                        && log > f64::from(index) - margin
                        && log <= f64::from(index + 1) + margin
                })
            };
            assert!((within(-1e-9)..=within(1e-9)).contains(&count), "bucket {index} of {form:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_form_agrees_with_the_list_of_values(values in vec(value(), 0..200), most in 2..200_usize) {
            let histogram = of(&values);
            prop_assert_eq!(histogram.count(), values.len() as u64);
            prop_assert_eq!(histogram.zeros(), number(&values, |value| value <= Histogram::ZERO_THRESHOLD));
            for (exponent, count) in histogram.up_to(EXPONENTS) {
                let bound = f64::from(exponent).exp2();
                prop_assert_eq!(count, number(&values, |value| value <= bound), "up to 2^{}", exponent);
            }
            let dense = histogram.spanning(most);
            assert_has(&dense, &values);
            let span = dense.counts.last().zip(dense.counts.first()).map_or(0, |(last, first)| last.0 - first.0 + 1);
            prop_assert!(usize::try_from(span).is_ok_and(|span| span <= most));
            let sparse = histogram.numbering(most);
            assert_has(&sparse, &values);
            prop_assert!(sparse.counts.len() <= most && sparse.scale >= dense.scale);
            if histogram.buckets.len() <= most {
                prop_assert_eq!(sparse.scale, Histogram::SCALE, "nothing is merged without need");
            }
        }

        #[test]
        fn differences_add_up(before in vec(value(), 0..50), after in vec(value(), 0..50)) {
            let first = of(&before);
            let last = of(&[&*before, &*after].concat());
            let mut growth = last.since(&first).expect("it is an earlier state");
            let expected = of(&after);
            // Small values are lost beside large ones.
            prop_assert!((growth.sum - expected.sum).abs() <= last.sum * 1e-12);
            growth.sum = expected.sum;
            prop_assert_eq!(growth, expected);
            prop_assert_eq!(first.since(&last).is_some(), after.is_empty());
        }

        #[test]
        fn json_is_read_back(values in vec(value(), 0..50)) {
            let histogram = of(&values);
            let text = serde_json::to_string(&histogram).expect("it is JSON");
            prop_assert_eq!(serde_json::from_str::<Histogram>(&text).expect("it was written"), histogram);
        }
    }

    #[test]
    fn json_of_no_histogram_is_refused() {
        let read = |text: &str| serde_json::from_str::<Histogram>(text).map_err(|error| error.to_string());
        assert!(read(r#"{"count":3,"sum":1.5,"zeros":1,"buckets":{"-1024":1,"8191":1}}"#).is_ok());
        for (count, buckets) in [
            (4, r#""0":2"#),
            (3, r#""-1025":2"#),
            (3, r#""8192":2"#),
            (0, r#""0":18446744073709551615"#),
            (3, r#""x":2"#),
        ] {
            let text = format!(r#"{{"count":{count},"sum":1.5,"zeros":1,"buckets":{{{buckets}}}}}"#);
            assert!(read(&text).is_err(), "{text}");
        }
    }
}
