//! Points of exponential histograms. Entry point: [`write_point`]. Source: `opentelemetry/proto/metrics/v1/metrics.proto`.

use super::point::{Attributes, NO_RECORDED_VALUE, Point};
use crate::export::wire;
use crate::metrics::Value;
use crate::model::{ExponentialBuckets, Histogram};

/// The most buckets from the first to the last one: the default of OpenTelemetry's SDKs.
pub(super) const MAX_BUCKETS: usize = 160;

/// The first byte of an attribute of a `NumberDataPoint`: field 7.
const NUMBER_ATTRIBUTE: u8 = 7 << 3 | 2;
/// The same of an `ExponentialHistogramDataPoint`: field 1.
const HISTOGRAM_ATTRIBUTE: u8 = 1 << 3 | 2;

/// Appends an `ExponentialHistogramDataPoint` with these attributes of a `NumberDataPoint`, without its frame.
pub(super) fn write_point(out: &mut Vec<u8>, attributes: Attributes<'_>, point: Point<'_>) {
    // An attribute is in one part.
    for part in attributes.0 {
        write_attributes(out, part);
    }
    if let Some(start) = point.start {
        wire::fixed64(out, 2, start);
    }
    wire::fixed64(out, 3, point.time);
    let Some(Value::Histogram(histogram)) = point.value else {
        wire::number(out, 10, NO_RECORDED_VALUE);
        return;
    };
    wire::fixed64(out, 4, histogram.count());
    wire::fixed64(out, 5, histogram.sum().to_bits());
    let buckets = histogram.spanning(MAX_BUCKETS);
    wire::signed(out, 6, buckets.scale.into());
    wire::fixed64(out, 7, histogram.zeros());
    write_buckets(out, &buckets);
    wire::fixed64(out, 14, Histogram::ZERO_THRESHOLD.to_bits());
}

/// Appends the counts of all buckets from the first to the last one that has values.
fn write_buckets(out: &mut Vec<u8>, buckets: &ExponentialBuckets) {
    let Some(&(first, _)) = buckets.counts.first() else { return };
    let mut message = Vec::new();
    wire::signed(&mut message, 1, first.into());
    let mut packed = Vec::new();
    let mut next = first;
    for &(index, count) in &buckets.counts {
        for _ in next..index {
            wire::varint(&mut packed, 0);
        }
        wire::varint(&mut packed, count);
        next = index + 1;
    }
    wire::bytes(&mut message, 2, &packed);
    wire::bytes(out, 8, &message);
}

/// Appends attributes as those of a histogram: the messages are the same, and the number of their field is another one.
fn write_attributes(out: &mut Vec<u8>, attributes: &[u8]) {
    let mut rest = attributes;
    while let Some((&tag, after)) = rest.split_first() {
        debug_assert_eq!(tag, NUMBER_ATTRIBUTE, "each field is an attribute");
        let mut message = after;
        let len = prost::encoding::decode_varint(&mut message).expect("the encoder wrote it");
        let len = usize::try_from(len).expect("it is in memory");
        let (_, next) = message.split_at(len);
        out.push(HISTOGRAM_ATTRIBUTE);
        out.extend_from_slice(&after[..after.len() - next.len()]);
        rest = next;
    }
}
