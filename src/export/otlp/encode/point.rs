//! A data point and its attributes. Entry points: [`Point`], [`Attributes`].

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

/// Encoded attributes of a point, in two parts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attributes<'a>(pub(super) [&'a [u8]; 2]);

impl Attributes<'_> {
    pub(super) fn len(self) -> usize {
        self.0[0].len() + self.0[1].len()
    }

    pub(super) fn append_to(self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0[0]);
        out.extend_from_slice(self.0[1]);
    }
}

impl PartialEq for Attributes<'_> {
    /// Wherever they are divided.
    fn eq(&self, other: &Self) -> bool {
        self.0.iter().copied().flatten().eq(other.0.iter().copied().flatten())
    }
}
