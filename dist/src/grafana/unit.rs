//! What numbers count, and how Grafana writes them.

use serde_json::{Map, Value, json};

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// CPUs: one is 100 %.
    Cpus,
    /// A part of a whole.
    Ratio,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
    /// Milliseconds since 1970.
    Date,
    /// Events per second.
    PerSecond,
    /// A number of things.
    Count,
    /// A state: the word for each number.
    State(&'static [(u32, &'static str)]),
}

impl Unit {
    pub(super) const fn id(self) -> &'static str {
        match self {
            Self::Cpus | Self::Ratio => "percentunit",
            Self::Bytes => "bytes",
            Self::Seconds => "s",
            Self::Date => "dateTimeAsIso",
            Self::PerSecond => "cps",
            Self::Count => "short",
            Self::State(_) => "none",
        }
    }

    /// Returns the words for numbers, as Grafana's value mappings.
    pub(super) fn mappings(self) -> Option<Value> {
        let Self::State(words) = self else { return None };
        let word = |&(number, word): &(u32, &str)| (number.to_string(), json!({"text": word}));
        Some(json!([{"type": "value", "options": words.iter().map(word).collect::<Map<_, _>>()}]))
    }

    /// Returns the pixels that a column of a table needs.
    pub(super) const fn width(self) -> u32 {
        match self {
            Self::Date => 170,
            Self::PerSecond => 120,
            Self::Cpus | Self::Ratio | Self::Bytes | Self::Seconds | Self::Count | Self::State(_) => 100,
        }
    }
}
