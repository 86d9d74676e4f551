//! The lines of a histogram in the formats that are text. Entry point: [`write_lines`].

use super::labels::put;
use crate::model::Histogram;

/// Writes the lines of a histogram: a cumulative bucket for each bound and one for all, the sum and the count.
///
/// `labels` are empty or in braces.
pub(super) fn write_lines(
    text: &mut String,
    family: &str,
    labels: &str,
    histogram: &Histogram,
    bounds: &'static [i32],
) {
    let other = labels.strip_suffix('}').map_or_else(|| "{".to_owned(), |labels| format!("{labels},"));
    for (exponent, count) in histogram.up_to(bounds) {
        let bound = bound(exponent);
        put(text, format_args!("{family}_bucket{other}le=\"{bound}\"}} {count}\n"));
    }
    let (count, sum) = (histogram.count(), histogram.sum());
    put(text, format_args!("{family}_bucket{other}le=\"+Inf\"}} {count}\n"));
    put(text, format_args!("{family}_sum{labels} {sum}\n{family}_count{labels} {count}\n"));
}

/// Returns a power of two as `OpenMetrics` spells bounds, which is how Go prints floats, with a point in any case. It is the same in
/// text 0.0.4, so that the series are the same in either format.
fn bound(exponent: i32) -> String {
    let bound = f64::from(exponent).exp2();
    if (1e-4..1e6).contains(&bound) {
        return format!("{bound:?}");
    }
    let text = format!("{bound:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
    format!("{digits}e{sign}{exponent:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `strconv.FormatFloat(bound, 'g', -1, 64)` prints them.
    #[test]
    fn bounds_are_spelled_as_go_does() {
        for (exponent, text) in [
            (-14, "6.103515625e-05"),
            (-13, "0.0001220703125"),
            (-10, "0.0009765625"),
            (-2, "0.25"),
            (0, "1.0"),
            (16, "65536.0"),
            (19, "524288.0"),
            (20, "1.048576e+06"),
            (24, "1.6777216e+07"),
        ] {
            assert_eq!(bound(exponent), text);
        }
    }

    #[test]
    fn histograms_have_lines_with_and_without_labels() {
        let mut histogram = Histogram::default();
        for value in [0.0, 0.5, 1.0, 1.1, 3000.0] {
            histogram.record(value);
        }
        let written = |labels| {
            let mut text = String::new();
            write_lines(&mut text, "name", labels, &histogram, &[0, 2]);
            text
        };
        let expected = r#"name_bucket{a="b",le="1.0"} 3
name_bucket{a="b",le="4.0"} 4
name_bucket{a="b",le="+Inf"} 5
name_sum{a="b"} 3002.6
name_count{a="b"} 5
"#;
        assert_eq!(written(r#"{a="b"}"#), expected);
        assert_eq!(written(""), expected.replace(r#"a="b","#, "").replace(r#"{a="b"}"#, ""));
    }
}
