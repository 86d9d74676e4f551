//! Messages of the program to its user.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::io;
use std::panic::PanicHookInfo;
use std::path::Path;
use std::process;
use std::time::Duration;

use bpf_metrics_exporter::cli::ListenAddress;
use bpf_metrics_exporter::enrich::Enricher;
use bpf_metrics_exporter::kernel::requirements::{self, Standing};
use bpf_metrics_exporter::kernel::{self, Choice, RunStatsMode};
use bpf_metrics_exporter::lookup::{self, Sockets};
use bpf_metrics_exporter::metrics::rate::Period;
use bpf_metrics_exporter::metrics::select::Selected;
use bpf_metrics_exporter::model::{
    Activity, Feature, FeatureState, Issue, Part, ReaderKind, Reason, RunStats, Snapshot, WallClock,
};
use bpf_metrics_exporter::sandbox;
use tracing::{info, warn};

use crate::log;

/// From now on a panic in any thread is one message and ends the program with exit code 1: a supervisor restarts it, whereas a thread
/// that is missing would fail every scrape.
pub(super) fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        log::complain(&internal_error(panic));
        process::exit(1);
    }));
}

fn internal_error(panic: &PanicHookInfo<'_>) -> String {
    let what = panic.payload_as_str().unwrap_or("panic").replace('\n', " ");
    let mut message = format!("internal error: {what}");
    if let Some(location) = panic.location() {
        let _infallible = write!(message, ", at {}:{}", location.file(), location.line());
    }
    message + "; please report it with the output of --version"
}

/// An address on which the endpoint cannot be served.
pub(super) fn not_listening(address: &ListenAddress, error: &io::Error) -> String {
    let advice = if error.kind() == io::ErrorKind::AddrInUse { "is another instance running? " } else { "" };
    format!(
        "failed to listen on {address}: {error}; {advice}give --web.listen-address another address, or none"
    )
}

/// Why nothing could be read by a process that could do this at its start: the cause, and a line for each remedy.
pub(super) fn not_permitted(at_start: Standing) -> String {
    let refusal = requirements::refusal(at_start);
    let mut message = format!("not permitted to read BPF objects: {}", refusal.cause);
    for remedy in refusal.remedies {
        let _infallible = write!(message, "\n  - {remedy}");
    }
    message
}

/// Warns of given sockets that do not exist. They are no mistake: the runtime may start later.
pub(super) fn warn_of_missing_sockets(lookup: &lookup::Settings) {
    for (flag, sockets) in [("--cri-socket", &lookup.cri), ("--docker-socket", &lookup.docker)] {
        let Sockets::Given(paths) = sockets else { continue };
        for path in paths.iter().filter(|path| !path.exists()) {
            warn!("{}", missing_socket(flag, path));
        }
    }
}

fn missing_socket(flag: &str, path: &Path) -> String {
    format!("{flag}: {} does not exist; names are looked up there once it does", path.display())
}

/// Logs how the kernel is read.
pub(super) fn log_start(reader: &Enricher, run_stats: RunStatsMode, first: &Snapshot) {
    let release = kernel::release().unwrap_or_else(|| "of unknown release".to_owned());
    info!("kernel {release}: reading {}", kernel::describe_choices(reader.choices()));
    for Choice { part, reader, reason } in reader.choices() {
        match (reason, reader) {
            (Some(reason), Some(reader)) => {
                info!("reading {}s {}: {reason}", part.as_str(), how(*part, *reader));
            }
            (Some(reason), None) => warn!("{}s cannot be read by an iterator: {reason}", part.as_str()),
            (None, _) => {}
        }
    }
    if let Some(line) = self::run_stats(run_stats, first.run_stats) {
        info!("{line}");
    }
}

/// How a part is read for which there is a reason not to read it as usual.
fn how(part: Part, reader: ReaderKind) -> &'static str {
    match (reader, part) {
        (ReaderKind::Iter, _) => "one by one, not all in one pass",
        (ReaderKind::Walk, Part::Holder | Part::Pin) => "from /proc",
        (ReaderKind::Walk, _) => "by id",
    }
}

/// A reading, with what it found and how long each part of it took.
pub(super) fn reading(snapshot: &Snapshot, took: Duration) -> String {
    let counts = [
        (snapshot.programs.as_ref().map(Vec::len), "programs"),
        (snapshot.maps.as_ref().map(Vec::len), "maps"),
        (snapshot.links.as_ref().map(Vec::len), "links"),
        (snapshot.btfs.as_ref().map(Vec::len), "BTF objects"),
    ];
    let counts = counts.into_iter().filter_map(|(count, what)| Some(format!("{} {what}", count?)));
    let mut line = format!("read {} in {took:.1?}:", counts.collect::<Vec<_>>().join(", "));
    for collector in &snapshot.collectors {
        let comma = if line.ends_with(':') { "" } else { "," };
        let failed = if collector.success { "" } else { " (incomplete)" };
        let _infallible =
            write!(line, "{comma} {} {:.1?}{failed}", collector.part.as_str(), collector.duration);
    }
    line
}

/// The warnings logged so far. Each is logged once.
#[derive(Default)]
pub(super) struct Warned {
    issues: HashSet<(Part, String, String)>,
    features: HashMap<Feature, Reason>,
    /// The wall clock of the last reading.
    clock: Option<WallClock>,
    /// Whether features are given up on purpose: what is missing is no warning then.
    gives_up: bool,
}

impl Warned {
    /// Returns one for an exporter that gives up features on purpose, or does not.
    pub(super) fn of(gives_up: bool) -> Self {
        Self { gives_up, ..Self::default() }
    }

    /// Logs what is new in a snapshot: a feature that is not available again when the reason changes.
    pub(super) fn warn_of(&mut self, snapshot: &Snapshot) {
        if let Some(before) = self.clock.replace(snapshot.clock).filter(|&before| before != snapshot.clock) {
            warn!("{}", clock_was_set(before, snapshot.clock));
        }
        for (feature, message) in self.features(&snapshot.features) {
            if self.gives_up && sandbox::gives_up(feature) {
                info!("given up (--least-privilege): {message}");
            } else {
                warn!("{message}");
            }
        }
        for issue in &snapshot.issues {
            if self.issues.insert((issue.part, issue.call.to_string(), issue.error.to_string())) {
                warn!("{}; further occurrences are only counted in bpf_exporter_issues", self::issue(issue));
            }
        }
    }
}

impl Warned {
    /// Returns the features whose state changed, with a message.
    fn features(&mut self, states: &[FeatureState]) -> Vec<(Feature, String)> {
        let changed = states.iter().filter(|state| match state.reason {
            Some(reason) => self.features.insert(state.feature, reason) != Some(reason),
            None => self.features.remove(&state.feature).is_some(),
        });
        changed.filter_map(|state| Some((state.feature, state.message()?))).collect()
    }
}

/// Warns once of series that a limit dropped.
#[derive(Debug, Default)]
pub(super) struct LimitWarning {
    logged: bool,
}

impl LimitWarning {
    /// Logs that series were dropped, the first time.
    pub(super) fn warn_of(&mut self, selected: &Selected) {
        if let Some(dropped) = selected.dropped.filter(|&dropped| dropped > 0)
            && !std::mem::replace(&mut self.logged, true)
        {
            let what = dropped_series(dropped);
            warn!("{what}; further occurrences are only counted in bpf_exporter_dropped_series");
        }
    }
}

/// How events are seen: by the kernel's stream or by readings at an interval, and attachments at another one, if at all.
pub(super) fn events_seen(
    activity: Option<&Activity>,
    interval: Duration,
    hooks: Option<Duration>,
) -> String {
    let has_stream = activity.is_some_and(|activity| activity.lost.is_some());
    let by_readings = format!("by comparing readings every {interval:?}");
    let objects = if has_stream {
        format!("programs are seen when the kernel reports them, maps, links and pins {by_readings}")
    } else {
        format!("programs, maps, links and pins are seen {by_readings}; what is gone sooner is missed")
    };
    match hooks {
        Some(hooks) => format!("{objects}; attachments by scans every {hooks:?} (--hooks-interval)"),
        None => format!("{objects}; attachments are not looked at (--hooks-interval none)"),
    }
}

/// An issue of a reading.
pub(super) fn issue(issue: &Issue) -> String {
    let (part, call, error, count) = (issue.part.as_str(), &issue.call, &issue.error, issue.count);
    let times = if count == 1 { String::new() } else { format!(" ({count} times)") };
    if call == "bpffs_scan" {
        let why = if error == "ETIME" { "a scan would take too long" } else { "there are too many" };
        return format!(
            "pins are incomplete: {count} entries of a bpffs were left out, since {why}; find out who creates them"
        );
    }
    let what = match issue.part {
        Part::Program | Part::Map | Part::Link | Part::Btf => format!("reading {part}s"),
        Part::Holder => "reading the holders of objects".to_owned(),
        Part::Pin => "reading pins".to_owned(),
        Part::Cgroup => "looking up cgroup paths".to_owned(),
        Part::Hook => "scanning hooks".to_owned(),
        Part::Event => "following loads of programs".to_owned(),
        Part::Host => "reading the settings of the host".to_owned(),
    };
    format!("{what} was incomplete: {call} failed: {error}{times}")
}

/// A step of the wall clock.
fn clock_was_set(before: WallClock, now: WallClock) -> String {
    let step = now.booted_at.duration_since(before.booted_at).as_secs_f64();
    format!("the wall clock was set by {step:+.1} s; times are reported by the new clock")
}

/// The effect of `--max-series`.
pub(super) fn dropped_series(dropped: u64) -> String {
    format!(
        "dropped {dropped} per-object series to stay under --max-series; --only and --except select objects"
    )
}

/// Who enables run statistics, and their cost; `None` where that was refused, which is an issue.
fn run_stats(mode: RunStatsMode, stats: RunStats) -> Option<String> {
    const COST: &str = "about 25 ns for each run";
    if stats.by_sysctl == Some(true) {
        return Some(format!("run statistics are on by the sysctl kernel.bpf_stats_enabled: {COST}"));
    }
    match mode {
        RunStatsMode::Off => Some("run statistics are off (--run-stats off)".to_owned()),
        _ if !stats.by_exporter => None,
        RunStatsMode::On => {
            Some(format!("run statistics are on: {COST}, less with --run-stats sample, none with off"))
        }
        RunStatsMode::Sample { window, period } => {
            Some(format!("run statistics are on for {window:?} in every {period:?}: {COST} during that time"))
        }
    }
}

/// Whether run statistics are on between the readings of a command, and what that costs; `None` if they are not wanted.
pub(super) fn run_stats_meanwhile(mode: RunStatsMode, stats: RunStats, for_what: &str) -> Option<String> {
    const COST: &str = "about 25 ns for each run of a program";
    match mode {
        RunStatsMode::Off => None,
        _ if stats.by_sysctl == Some(true) => None,
        _ if stats.by_exporter => Some(format!("run statistics are on {for_what}: {COST}")),
        _ => Some(
            "run statistics cannot be turned on, so runs and CPU are unknown; `doctor` says why".to_owned(),
        ),
    }
}

/// Why runs and CPU of a period are unknown although run statistics are sampled; `None` if they are known, or are not sampled.
pub(super) fn no_sample(mode: RunStatsMode, earlier: &Snapshot, later: &Snapshot) -> Option<String> {
    let is_sampled = matches!(mode, RunStatsMode::Sample { .. }) && later.run_stats.is_on();
    let period = Period::between(earlier, later).filter(|period| is_sampled && period.covered.is_none())?;
    Some(format!(
        "no sample of run statistics was taken in the {:.1} s between the readings, so runs and CPU are unknown; give a longer \
         --for, or --run-stats on",
        period.elapsed.as_secs_f64()
    ))
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::process::Command;
    use std::thread;

    use bpf_metrics_exporter::model::{BootTime, Collector};

    use super::*;

    #[test]
    fn parts_that_are_not_read_as_usual_are_named() {
        for (part, reader, wanted) in [
            (Part::Map, ReaderKind::Iter, "one by one, not all in one pass"),
            (Part::Map, ReaderKind::Walk, "by id"),
            (Part::Holder, ReaderKind::Walk, "from /proc"),
        ] {
            assert_eq!(how(part, reader), wanted);
        }
    }

    /// Runs itself in another process, since the hook ends the process.
    #[test]
    fn a_panic_in_any_thread_is_one_line_and_exit_code_1() {
        const INNER: &str = "TEST_OF_PANICS";
        if env::var_os(INNER).is_some() {
            report_panics();
            let ended = thread::spawn(|| panic!("a reading\nfailed")).join();
            unreachable!("the process outlived {ended:?}");
        }
        let mut inner = Command::new(env::current_exe().expect("Linux has it"));
        inner.args([
            "--nocapture",
            "--exact",
            "messages::tests::a_panic_in_any_thread_is_one_line_and_exit_code_1",
        ]);
        let output = inner.env(INNER, "").output().expect("it starts");
        assert_eq!(output.status.code(), Some(1));
        let stderr = String::from_utf8_lossy(&output.stderr);
        let start = "bpf-metrics-exporter: internal error: a reading failed, at ";
        assert!(stderr.starts_with(start) && stderr.lines().count() == 1, "{stderr}");
    }

    #[test]
    fn a_period_without_a_sample_says_what_to_do() {
        let reading = |seconds, covered| {
            let begun = Snapshot::begun(BootTime::from_secs(seconds), BootTime(0), WallClock::default());
            let covered = Duration::from_secs(covered);
            Snapshot { run_stats: RunStats { by_exporter: true, by_sysctl: None, covered }, ..begun }
        };
        let second = Duration::from_secs(1);
        let sampled = RunStatsMode::Sample { window: second, period: 10 * second };
        let message = no_sample(sampled, &reading(10, 1), &reading(12, 1)).expect("nothing was covered");
        assert!(message.starts_with("no sample of run statistics was taken in the 2.0 s"), "{message}");
        assert!(message.contains("--for") && !message.contains('\n'), "{message}");
        assert_eq!(no_sample(sampled, &reading(10, 1), &reading(12, 2)), None);
        assert_eq!(no_sample(RunStatsMode::On, &reading(10, 1), &reading(12, 1)), None);
    }

    #[test]
    fn issues_name_the_part_the_call_and_the_error() {
        let issue = |part, call: &'static str, error: &'static str, count| {
            self::issue(&Issue { part, call: call.into(), error: error.into(), count, total: count })
        };
        assert_eq!(
            issue(Part::Map, "BPF_MAP_GET_NEXT_ID", "EPERM", 1),
            "reading maps was incomplete: BPF_MAP_GET_NEXT_ID failed: EPERM"
        );
        assert_eq!(
            issue(Part::Holder, "readlink", "EACCES", 3),
            "reading the holders of objects was incomplete: readlink failed: EACCES (3 times)"
        );
    }

    #[test]
    fn how_events_are_seen_is_said() {
        let second = Duration::from_secs(1);
        let stream = Activity { lost: Some(0), ..Activity::default() };
        assert_eq!(
            events_seen(Some(&stream), second, Some(second * 60)),
            "programs are seen when the kernel reports them, maps, links and pins by comparing readings every 1s; attachments \
             by scans every 60s (--hooks-interval)"
        );
        for activity in [None, Some(&Activity::default())] {
            let line = events_seen(activity, second, None);
            assert!(line.starts_with("programs, maps, links and pins are seen by comparing"), "{line}");
            assert!(line.ends_with("attachments are not looked at (--hooks-interval none)"), "{line}");
        }
    }

    #[test]
    fn a_feature_is_logged_when_it_becomes_unavailable_and_when_the_reason_changes() {
        let state = |reason| vec![FeatureState { feature: Feature::Processes, reason }];
        let mut warned = Warned::default();
        let mut logged = |reason| warned.features(&state(reason));
        assert!(logged(None).is_empty());
        let first = logged(Some(Reason::PidNamespace));
        assert!(first.len() == 1 && first[0].1.contains("hostPID: true"), "{first:?}");
        assert!(logged(Some(Reason::PidNamespace)).is_empty(), "it is logged once");
        assert_eq!(logged(Some(Reason::Hidepid)).len(), 1);
        assert!(logged(None).is_empty());
        assert_eq!(logged(Some(Reason::Hidepid)).len(), 1);
    }

    #[test]
    fn a_step_of_the_clock_is_logged_with_its_sign() {
        let clock = |time: &str| WallClock { booted_at: time.parse().expect("it is a date") };
        assert_eq!(
            clock_was_set(clock("2026-03-01T12:00:00Z"), clock("2026-03-01T11:00:00Z")),
            "the wall clock was set by -3600.0 s; times are reported by the new clock"
        );
        assert_eq!(
            clock_was_set(clock("2001-01-01T00:00:00Z"), clock("2001-01-01T00:00:02.5Z")),
            "the wall clock was set by +2.5 s; times are reported by the new clock"
        );
    }

    #[test]
    fn what_a_scan_of_pins_left_out_is_named() {
        let left_out = |error: &'static str| {
            issue(&Issue {
                part: Part::Pin,
                call: "bpffs_scan".into(),
                error: error.into(),
                count: 9,
                total: 9,
            })
        };
        assert_eq!(
            left_out("E2BIG"),
            "pins are incomplete: 9 entries of a bpffs were left out, since there are too many; find out who creates them"
        );
        assert!(left_out("ETIME").contains("since a scan would take too long"));
    }

    #[test]
    fn a_reading_is_logged_with_objects_and_durations() {
        let collector = |part, micros, success| {
            let duration = Duration::from_micros(micros);
            Collector { part, reader: Some(ReaderKind::Iter), duration, age: Duration::ZERO, success }
        };
        let snapshot = Snapshot {
            programs: Some(Vec::new()),
            collectors: vec![collector(Part::Program, 1500, true), collector(Part::Map, 20, false)],
            ..Snapshot::begun(BootTime::default(), BootTime::default(), WallClock::default())
        };
        assert_eq!(
            reading(&snapshot, Duration::from_millis(2)),
            "read 0 programs in 2.0ms: program 1.5ms, map 20.0µs (incomplete)"
        );
    }
}
