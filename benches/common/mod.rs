//! How benchmarks here measure and report: the least of several runs, and ratios between things measured in one run. The
//! figures of a busy machine are worth little by themselves.
#![allow(dead_code, reason = "each benchmark uses a part of it")]
#![expect(clippy::print_stdout, reason = "a benchmark reports to its reader")]

use std::time::{Duration, Instant};

#[path = "../../tests/support/root.rs"]
mod root;

/// The least time of several runs. What is made for a run, and what comes out of it, is not timed.
pub(crate) fn least<I, O>(
    runs: u32,
    mut prepare: impl FnMut() -> I,
    mut run: impl FnMut(I) -> O,
) -> Duration {
    let time = |_| {
        let input = prepare();
        let started = Instant::now();
        let output = run(input);
        let elapsed = started.elapsed();
        drop(output);
        elapsed
    };
    (0..runs).map(time).min().expect("at least one run")
}

/// What each of so many takes.
pub(crate) fn each(total: Duration, count: usize) -> f64 {
    nanoseconds(total) / as_float(count)
}

/// How many times as long one takes as the other.
pub(crate) fn ratio(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64()
}

pub(crate) fn nanoseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9
}

#[expect(clippy::cast_precision_loss, reason = "counts of things on one machine")]
pub(crate) fn as_float(count: usize) -> f64 {
    count as f64
}

pub(crate) fn report(line: std::fmt::Arguments<'_>) {
    println!("{line}");
}

/// Whether BPF objects can be made here; says so where they cannot.
pub(crate) fn may_make_objects() -> bool {
    let missing = root::missing();
    if let Some(reason) = &missing {
        report(format_args!("not run: {reason}"));
    }
    missing.is_none()
}
