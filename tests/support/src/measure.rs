//! Measuring and reporting for the benchmarks: the minimum of several runs, and ratios between figures of one run. Absolute figures of
//! a busy machine mean little.
#![expect(clippy::print_stdout, reason = "a benchmark reports to its reader")]

use std::time::{Duration, Instant};

use crate::root;

/// Returns how often something is measured: so many times, or a tenth of it with `QUICK_BENCHES` set, where it only matters that it works.
#[must_use]
pub fn runs(times: u32) -> u32 {
    if std::env::var_os("QUICK_BENCHES").is_some() { times.div_ceil(10) } else { times }
}

/// Returns the shortest time of several runs. Neither preparing the input nor dropping the output is timed.
pub fn least<I, O>(runs: u32, mut prepare: impl FnMut() -> I, mut run: impl FnMut(I) -> O) -> Duration {
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

/// Returns the time for each of `count`, in nanoseconds.
#[must_use]
pub fn each(total: Duration, count: usize) -> f64 {
    nanoseconds(total) / as_float(count)
}

/// Returns how many times longer the first takes.
#[must_use]
pub fn ratio(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64()
}

/// Returns a duration in nanoseconds.
#[must_use]
pub fn nanoseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9
}

/// Returns a count as a floating-point number.
#[expect(clippy::cast_precision_loss, reason = "counts of things on one machine")]
#[must_use]
pub fn as_float(count: usize) -> f64 {
    count as f64
}

/// Prints one line of the report.
pub fn report(line: std::fmt::Arguments<'_>) {
    println!("{line}");
}

/// Returns whether BPF objects can be made here, and reports why not.
#[must_use]
pub fn may_make_objects() -> bool {
    let missing = root::missing();
    if let Some(reason) = &missing {
        report(format_args!("not run: {reason}"));
    }
    missing.is_none()
}
