//! Options of the exporter: what each costs nodes, gateway and stores.

use std::time::Duration;

use super::{Scale, fleet};
use crate::figures::Variant;
use crate::interrupt::Interrupt;
use crate::receivers::StoreKind::{Prometheus, Victoria};

/// The options, the default first.
const VARIANTS: [&[&str]; 8] = [
    &[],
    &["--otlp-compression", "gzip"],
    &["--otlp-compression", "zstd"],
    &["--unchanged-interval", "60s"],
    &["--unchanged-interval", "60s", "--otlp-compression", "zstd"],
    &["--no-per-object"],
    &["--max-series", "1000"],
    &["--min-age", "1m"],
];

/// The measured time, in intervals: a minute by default, in which each constant series has its turn once.
const INTERVALS: u32 = 6;

pub(super) fn run(scale: &Scale, interrupt: &Interrupt) -> anyhow::Result<Vec<Variant>> {
    let variant = |flags: &&[&str]| {
        let stores = [Prometheus, Victoria];
        let mut fleet = fleet(scale, scale.few_nodes, scale.short_interval, &stores, flags, interrupt)?;
        fleet.grow(scale.few_nodes)?;
        fleet.settle(Duration::from_mins(2))?;
        let window = fleet.window(scale.short_interval * INTERVALS)?;
        Ok(Variant { flags: flags.iter().map(|&flag| flag.to_owned()).collect(), window })
    };
    VARIANTS.iter().map(variant).collect()
}
