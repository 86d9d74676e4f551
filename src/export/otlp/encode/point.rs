//! A data point. Entry point: [`Point`].

use crate::metrics::Value;

/// `DataPointFlags.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK`: the series has ended.
pub(super) const NO_RECORDED_VALUE: u64 = 1;

/// A data point without its attributes.
#[derive(Clone, Copy)]
pub(super) struct Point<'a> {
    /// Nanoseconds since 1970, at most `time`.
    pub(super) start: Option<u64>,
    pub(super) time: u64,
    /// `None` marks the end of the series.
    pub(super) value: Option<Value<'a>>,
}
