//! Options of the kernel reader.

use std::num::NonZeroUsize;
use std::time::Duration;

use crate::model::ReaderKind;

/// How to read the kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReaderOptions {
    /// The backend to read tables and holders with.
    pub reader: ReaderChoice,
    /// Whether to enable run statistics of programs.
    pub run_stats: RunStatsMode,
    /// The highest capacity of a map whose keys are counted one by one if the kernel does not count them; `None` counts none.
    pub count_by_walking: Option<u32>,
    /// Size of the ring with the kernel's records of programs on each CPU, in bytes, a power of two and at least a page; `None` not to read them.
    pub events: Option<NonZeroUsize>,
}

/// Which backend to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReaderChoice {
    /// Iterators if available, ids otherwise.
    #[default]
    Auto,
    /// One backend only.
    Only(ReaderKind),
}

/// When the exporter enables run statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunStatsMode {
    /// Never; other processes may.
    #[default]
    Off,
    /// Always.
    On,
    /// For a part of the time.
    Sample {
        /// The duration of a sample.
        window: Duration,
        /// The average time between the starts of two samples.
        period: Duration,
    },
}
