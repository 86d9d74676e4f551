//! Options of the kernel reader.

use std::time::Duration;

use crate::model::ReaderKind;

/// How to read the kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// By which road.
    pub reader: ReaderChoice,
    /// Whether to have the runs of programs counted.
    pub run_stats: RunStatsMode,
    /// Up to which capacity the keys of a map are walked where the kernel keeps no count of them; `None` walks none.
    pub count_by_walking: Option<u32>,
}

/// By which road to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReaderChoice {
    /// By iterators where they can be had, by ids elsewhere.
    #[default]
    Auto,
    /// By one road only.
    Only(ReaderKind),
}

/// Whether to have the runs of programs counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunStatsMode {
    /// No; somebody else may.
    #[default]
    Off,
    /// All the time.
    On,
    /// For a part of the time.
    Sample {
        /// How long at a time.
        lasting: Duration,
        /// How often.
        every: Duration,
    },
}
