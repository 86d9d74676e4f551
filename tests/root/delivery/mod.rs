//! Delivery by the program to real receivers that are down, black-holed or refusing, with SIGKILL at random moments and a full disk.
//! `UPDATE=1` writes what was measured into `docs/reliability.md`.

mod figures;
mod kept;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use test_support::receiver::{self, Receiver};
use test_support::running::Running;
use tokio::runtime::Runtime;
use tonic::Status;

use self::figures::Figures;
use crate::suite::Test;

const ANY: ([u8; 4], u16) = ([127, 0, 0, 1], 0);
const DEADLINE: Duration = Duration::from_secs(30);
const INTERVAL: Duration = Duration::from_secs(1);

pub(crate) const TESTS: &[Test] = &[
    Test::new("a_black_holed_destination_delays_no_other_and_not_the_end", black_hole),
    Test::new("an_outage_of_thirty_readings_leaves_no_gap", outage),
    Test::new("what_is_on_disk_survives_sigkill", sigkill),
    Test::new("unchanged_series_are_left_out_until_a_receiver_may_lack_them", unchanged),
    Test::new("a_full_disk_costs_nothing_but_the_restart", full_disk),
];

/// Starts the program with a reading each second, and its log in a file.
fn start(log: &Path, receivers: &[SocketAddr], flags: &[&str]) -> Running {
    let mut program = Command::new(env!("CARGO_BIN_EXE_bpf-metrics-exporter"));
    program.env_clear().args(["--web.listen-address", "none", "--interval", "1s", "--no-per-object"]);
    for receiver in receivers {
        program.args(["--otlp-grpc", &receiver.to_string()]);
    }
    let log = fs::OpenOptions::new().create(true).append(true).open(log).expect("there is room");
    Running(program.args(flags).stdout(Stdio::null()).stderr(log).spawn().expect("it starts"))
}

/// Returns the time of a request's points, in nanoseconds since 1970: that of its reading.
fn time(message: &ExportMetricsServiceRequest) -> u64 {
    let metrics = message.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
    let times = metrics.flat_map(|scope| &scope.metrics).flat_map(|metric| -> Vec<u64> {
        match &metric.data {
            Some(Data::Sum(sum)) => sum.data_points.iter().map(|point| point.time_unix_nano).collect(),
            Some(Data::Gauge(gauge)) => gauge.data_points.iter().map(|point| point.time_unix_nano).collect(),
            Some(Data::ExponentialHistogram(histogram)) => {
                histogram.data_points.iter().map(|point| point.time_unix_nano).collect()
            }
            other => panic!("{} has {other:?}", metric.name),
        }
    });
    times.max().unwrap_or_else(|| panic!("no points: {message:?}"))
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    u64::try_from(now.as_nanos()).expect("it is before 2500")
}

/// Receives until this is true of a reading's time; returns all times, each with the delay of its arrival.
async fn receive_until(
    receiver: &mut Receiver,
    mut is_last: impl FnMut(u64) -> bool,
) -> Vec<(u64, Duration)> {
    let mut readings = Vec::new();
    loop {
        let next = tokio::time::timeout(DEADLINE, receiver.requests.recv()).await;
        let time = time(&next.expect("a reading arrives in time").expect("the receiver runs").message);
        readings.push((time, Duration::from_nanos(now().saturating_sub(time))));
        if is_last(time) {
            return readings;
        }
    }
}

/// Returns how many readings are missing in between, by the interval.
fn gaps(times: &BTreeSet<u64>) -> u64 {
    let interval = u64::try_from(INTERVAL.as_nanos()).expect("it is short");
    let pairs = times.iter().zip(times.iter().skip(1));
    pairs.map(|(earlier, later)| ((later - earlier + interval / 2) / interval).saturating_sub(1)).sum()
}

fn stop(program: &mut Running) -> Duration {
    let pid = Pid::from_raw(i32::try_from(program.0.id()).expect("a pid"));
    let asked = Instant::now();
    kill(pid, Signal::SIGTERM).expect("it runs");
    while program.0.try_wait().expect("it is a child").is_none() {
        assert!(asked.elapsed() < DEADLINE, "it ends");
        thread::sleep(Duration::from_millis(5));
    }
    asked.elapsed()
}

fn black_hole() {
    let directory = tempfile::tempdir().expect("a directory");
    // Connections are taken by the kernel; nobody ever reads them.
    let hole = TcpListener::bind(SocketAddr::from(ANY)).expect("a port");
    let log = directory.path().join("log");
    Runtime::new().expect("a runtime").block_on(async {
        let mut good = receiver::start(ANY.into(), receiver::ok).await;
        let receivers = [hole.local_addr().expect("it is bound"), good.address];
        let mut program = start(&log, &receivers, &[]);
        let mut count = 0;
        let readings = receive_until(&mut good, |_| {
            count += 1;
            count == 12
        })
        .await;
        let times: BTreeSet<_> = readings.iter().map(|(time, _)| *time).collect();
        assert_eq!((times.len(), gaps(&times)), (12, 0), "every reading arrives once");
        let worst = readings.iter().map(|(_, delay)| *delay).max().expect("there are some");
        assert!(worst < INTERVAL / 2, "the latest came after {worst:?}");
        let took = tokio::task::block_in_place(|| stop(&mut program));
        assert!(took < Duration::from_millis(5500), "it took {took:?} to end");
        receive_until(&mut good, |time| time > *times.last().expect("there are some")).await;
        Figures::new("one of two receivers is black-holed, 12 s", &readings).with_end(took).record();
    });
}

fn outage() {
    const READINGS: usize = 30;
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("log");
    let free = TcpListener::bind(SocketAddr::from(ANY)).expect("a port").local_addr().expect("it is bound");
    Runtime::new().expect("a runtime").block_on(async {
        let began = now();
        let _program = start(&log, &[free], &[]);
        tokio::time::sleep(INTERVAL * u32::try_from(READINGS).expect("it is small")).await;
        let back = now();
        let mut good = receiver::start(free, receiver::ok).await;
        let readings = receive_until(&mut good, |time| time > back).await;
        let current = Duration::from_nanos(now() - back);
        let ordered: Vec<_> = readings.iter().map(|(time, _)| *time).collect();
        let times: BTreeSet<_> = ordered.iter().copied().collect();
        assert!(ordered.is_sorted(), "oldest first");
        assert!(times.len() >= READINGS, "{} readings", times.len());
        assert_eq!(gaps(&times), 0);
        assert!(times.first().is_some_and(|first| *first < began + 3_000_000_000), "from the first one");
        // The back-off is at most one interval, and so is the time until the next reading.
        assert!(current < INTERVAL * 3, "the newest came after {current:?}");
        Figures::new("receiver down for 30 readings", &readings).with_current(current).record();
    });
}

/// Returns the names of metrics in a request.
fn names(message: &ExportMetricsServiceRequest) -> BTreeSet<String> {
    let scopes = message.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
    scopes.flat_map(|scope| &scope.metrics).map(|metric| metric.name.clone()).collect()
}

/// Receives until a reading has all of these metrics, or lacks some.
async fn receive_names(receiver: &mut Receiver, all: &BTreeSet<String>, complete: bool) {
    let receive = async {
        while let Some(received) = receiver.requests.recv().await {
            if all.is_subset(&names(&received.message)) == complete {
                return;
            }
        }
        panic!("the receiver has ended");
    };
    let what = if complete { "complete" } else { "incomplete" };
    tokio::time::timeout(DEADLINE, receive).await.unwrap_or_else(|_| panic!("no reading is {what}"));
}

fn unchanged() {
    let directory = tempfile::tempdir().expect("a directory");
    let refuses = Arc::new(AtomicBool::new(false));
    let answer = |refuses: &Arc<AtomicBool>| {
        let refuses = Arc::clone(refuses);
        move |message: &ExportMetricsServiceRequest| {
            if refuses.load(Ordering::Relaxed) {
                Err(Status::invalid_argument("no"))
            } else {
                receiver::ok(message)
            }
        }
    };
    Runtime::new().expect("a runtime").block_on(async {
        let mut receiver = receiver::start(ANY.into(), answer(&refuses)).await;
        let address = receiver.address;
        let flags = ["--unchanged-interval", "1h", "--no-event-logs"];
        let _program = start(&directory.path().join("log"), &[address], &flags);
        let first = tokio::time::timeout(DEADLINE, receiver.requests.recv()).await;
        let first = names(&first.expect("it arrives in time").expect("the receiver runs").message);
        // What is known from the first reading on, and does not change: of the exporter and of the host.
        let all: BTreeSet<String> = first.into_iter().filter(|name| name.ends_with("_info")).collect();
        assert!(!all.is_empty());
        receive_names(&mut receiver, &all, false).await;
        refuses.store(true, Ordering::Relaxed);
        receive_names(&mut receiver, &all, true).await;
        refuses.store(false, Ordering::Relaxed);
        receive_names(&mut receiver, &all, false).await;
        receiver.stop().await;
        let mut another = receiver::start(address, answer(&refuses)).await;
        receive_names(&mut another, &all, true).await;
        receive_names(&mut another, &all, false).await;
    });
}

fn sigkill() {
    let kills = std::env::var("FAULTS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(30);
    let directory = tempfile::tempdir().expect("a directory");
    let backlog = directory.path().join("backlog");
    fs::create_dir(&backlog).expect("there is room");
    let (log, flag) = (directory.path().join("log"), backlog.to_str().expect("UTF-8").to_owned());
    let flags = ["--otlp-backlog-dir", &flag];
    Runtime::new().expect("a runtime").block_on(async {
        let accepts = Arc::new(AtomicBool::new(false));
        let state = Arc::clone(&accepts);
        let mut receiver = receiver::start(ANY.into(), move |message: &ExportMetricsServiceRequest| {
            if state.load(Ordering::Relaxed) {
                receiver::ok(message)
            } else {
                Err(Status::unavailable("down"))
            }
        })
        .await;
        // By the time of the reading; each has one request here.
        let (mut waiting, mut accepted) = (BTreeSet::new(), BTreeMap::<u64, u32>::new());
        let (mut order, mut acknowledged) = (Vec::<u64>::new(), BTreeSet::<u64>::new());
        let mut ever_kept = BTreeSet::new();
        for round in 0..=kills {
            let is_up = round == kills || rand::random_bool(0.5);
            accepts.store(is_up, Ordering::Relaxed);
            let began = now();
            let program = start(&log, &[receiver.address], &flags);
            if round == kills {
                let last = receive_until(&mut receiver, |time| time > began).await;
                order.extend(last.into_iter().map(|(time, _)| time));
                tokio::time::sleep(INTERVAL / 4).await;
            } else {
                tokio::time::sleep(Duration::from_millis(rand::random_range(500..4000))).await;
            }
            // SIGKILL.
            drop(program);
            // An answer may be on its way.
            tokio::time::sleep(Duration::from_millis(20)).await;
            while let Ok(received) = receiver.requests.try_recv() {
                if is_up {
                    order.push(time(&received.message));
                }
            }
            for time in &order[accepted.values().sum::<u32>() as usize..] {
                *accepted.entry(*time).or_default() += 1;
                assert!(!acknowledged.contains(time), "it was acknowledged before, and is sent again");
            }
            let kept = kept::waiting(&backlog);
            let lost: Vec<_> =
                waiting.iter().filter(|time| !kept.contains(time) && !accepted.contains_key(time)).collect();
            assert!(lost.is_empty(), "{lost:?} were kept before the kill number {round}");
            ever_kept.extend(kept.iter().copied());
            acknowledged.extend(accepted.keys().filter(|time| !kept.contains(time)));
            waiting = kept;
        }
        assert!(waiting.is_empty(), "all is delivered in the end");
        let log = fs::read_to_string(&log).expect("it is there");
        assert!(!ever_kept.is_empty() && !log.contains("keeping the backlog"), "the disk was used: {log}");
        assert!(order.is_sorted(), "oldest first, whatever is repeated: {order:?}");
        let repeated: u32 = accepted.values().map(|times| times - 1).sum();
        assert!(repeated <= kills, "{repeated} requests arrived twice");
        let lost = ever_kept.iter().filter(|time| !accepted.contains_key(*time)).count();
        Figures::of_kills(kills, accepted.len(), lost, repeated).record();
    });
}

/// A small file system that is unmounted when dropped.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(at: &'a Path) -> Self {
        let options = Some("size=128k");
        mount(Some("small"), at, Some("tmpfs"), MsFlags::empty(), options).expect("root may mount");
        Self(at)
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        umount2(self.0, MntFlags::MNT_DETACH).expect("it is mounted");
    }
}

fn full_disk() {
    let directory = tempfile::tempdir().expect("a directory");
    let disk = tempfile::tempdir().expect("a directory");
    let _mounted = SmallDisk::mount(disk.path());
    // All but a little of it is taken.
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![0; 112 << 10]).expect("it has room for that");
    let log = directory.path().join("log");
    let free = TcpListener::bind(SocketAddr::from(ANY)).expect("a port").local_addr().expect("it is bound");
    Runtime::new().expect("a runtime").block_on(async {
        let path = disk.path().to_str().expect("UTF-8");
        let _program = start(&log, &[free], &["--otlp-backlog-dir", path]);
        let warnings = || {
            let log = fs::read_to_string(&log).expect("it is there");
            log.lines()
                .filter(|line| line.contains("keeping the backlog") && line.contains("No space"))
                .count()
        };
        let began = Instant::now();
        while warnings() == 0 {
            assert!(
                began.elapsed() < DEADLINE,
                "the disk gets full: {}",
                fs::read_to_string(&log).expect("it is there")
            );
            tokio::time::sleep(INTERVAL / 10).await;
        }
        tokio::time::sleep(INTERVAL * 3).await;
        let back = now();
        let mut good = receiver::start(free, receiver::ok).await;
        let readings = receive_until(&mut good, |time| time > back).await;
        let times: BTreeSet<_> = readings.iter().map(|(time, _)| *time).collect();
        assert_eq!(gaps(&times), 0);
        assert!(readings.iter().map(|(time, _)| *time).is_sorted(), "oldest first");
        assert_eq!(warnings(), 1, "one warning");
        Figures::new("disk of the backlog full, receiver down", &readings).record();
    });
}
