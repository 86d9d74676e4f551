//! Cost of the event stream: of each load and unload of a program, for the exporter and for the loader, and of an idle host.

use std::num::NonZeroUsize;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use bpf_metrics_exporter::enrich::names::NameCache;
use bpf_metrics_exporter::enrich::{EnrichOptions, Enricher};
use bpf_metrics_exporter::events::Events;
use bpf_metrics_exporter::kernel::events::RING_BYTES;
use bpf_metrics_exporter::kernel::{Reader, ReaderOptions};
use bpf_metrics_exporter::model::Snapshot;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use test_support::measure::{self, each, ratio, report, runs};
use test_support::objects::{Program, ProgramSpec, uapi};

/// Set for the process that loads programs.
const LOADS: &str = "BENCH_LOADS_PROGRAMS";

/// Programs that are loaded and unloaded: two events each.
const PROGRAMS: u32 = 5_000;

/// How long nothing happens.
const IDLE: Duration = Duration::from_secs(3);

fn main() {
    if env::var_os(LOADS).is_some() {
        for _ in 0..runs(PROGRAMS) {
            drop(Program::load(&ProgramSpec::new(uapi::program_type::SOCKET_FILTER, 0)).expect("root may"));
        }
        return;
    }
    if !measure::may_make_objects() {
        return;
    }
    report(format_args!(
        "events, of {} programs that are loaded and unloaded as fast as possible",
        runs(PROGRAMS)
    ));
    report(format_args!(
        "{:>24} {:>16} {:>18} {:>10} {:>16}",
        "", "loader, us each", "exporter, us each", "share", "counted"
    ));
    let without = measured("comparison", None, 100);
    let limited = measured("stream, 100 a second", Some(RING_BYTES), 100);
    measured("stream, without a limit", Some(RING_BYTES), 0);
    report(format_args!("the loader takes {:.2} times as long with the stream", ratio(limited, without)));
    idle();
}

/// Reports what an event costs, and returns what the loader took.
fn measured(name: &str, ring: Option<NonZeroUsize>, limit: u32) -> Duration {
    let events = Events::default();
    let mut enricher = follow(&events, ring, limit);
    let before = loads(&enricher.read());
    let (loader, watcher) = (of_children(), of_watcher().map(|watcher| watcher.cpu));
    let mut child = Command::new(env::current_exe().expect("this program has a path"));
    assert!(child.env(LOADS, "").status().expect("it starts").success());
    let loader = of_children().saturating_sub(loader);
    let cpu = watcher.map(|before| {
        let mut last = before;
        loop {
            // It is done when it does nothing any more.
            thread::sleep(Duration::from_millis(50));
            let now = of_watcher().expect("it runs").cpu;
            if now == last {
                return now.saturating_sub(before);
            }
            last = now;
        }
    });
    let counted = (0..3).map(|_| loads(&enricher.read()) - before).max().expect("several");
    let count = 2 * runs(PROGRAMS) as usize;
    let (of_loader, of_event) = (each(loader, count), each(cpu.unwrap_or_default(), count));
    report(format_args!(
        "{name:>24} {:>16.2} {:>18.2} {:>9.0}% {counted:>16}",
        of_loader / 1e3,
        of_event / 1e3,
        100.0 * of_event / of_loader
    ));
    loader
}

/// Reports how often a waiting exporter wakes up. Programs of other processes count, too.
fn idle() {
    let events = Events::default();
    let mut enricher = follow(&events, Some(RING_BYTES), 100);
    let first = loads(&enricher.read());
    thread::sleep(Duration::from_millis(200));
    let (began, before) = (Instant::now(), of_watcher().expect("it runs"));
    thread::sleep(IDLE);
    let after = of_watcher().expect("it runs");
    let woken = after.switches - before.switches;
    let others = loads(&enricher.read()) - first;
    report(format_args!(
        "idle for {:.0?}: woken {woken} times, {:?} of CPU time; others loaded {others} programs",
        began.elapsed(),
        after.cpu.saturating_sub(before.cpu)
    ));
}

fn follow(events: &Events, ring: Option<NonZeroUsize>, limit: u32) -> Enricher {
    let reader = Reader::new(ReaderOptions { events: ring, ..ReaderOptions::default() });
    let options = EnrichOptions { events_per_second: limit, ..EnrichOptions::default() };
    Enricher::new(reader, options, NameCache::default()).publishing(events.clone())
}

fn loads(snapshot: &Snapshot) -> u64 {
    let activity = snapshot.activity.as_ref().expect("events are followed");
    activity.programs.iter().map(|programs| programs.loads).sum()
}

/// CPU time of processes that have ended.
fn of_children() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("there is no other way to call it");
    let microseconds = (usage.user_time() + usage.system_time()).num_microseconds();
    Duration::from_micros(microseconds.try_into().expect("time is positive"))
}

/// What the thread that waits for records did so far.
struct Watcher {
    cpu: Duration,
    /// How often it began to wait.
    switches: u64,
}

fn of_watcher() -> Option<Watcher> {
    let tasks = fs::read_dir("/proc/self/task").expect("it is mounted").flatten();
    let mut paths = tasks.map(|task| task.path());
    let path =
        paths.find(|path| fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == "events"))?;
    let schedstat = fs::read_to_string(path.join("schedstat")).ok()?;
    let cpu = Duration::from_nanos(schedstat.split(' ').next()?.parse().ok()?);
    let status = fs::read_to_string(path.join("status")).ok()?;
    let switches = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
    Some(Watcher { cpu, switches: switches.trim().parse().ok()? })
}
