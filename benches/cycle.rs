//! Cost of a complete cycle: the program reads this kernel with 7,000 programs, 9,000 maps and 200 processes that hold some, and pushes
//! every point to a receiver in this process. Its CPU time is compared with that of the readings alone, in one run; and that with
//! iterators with those of the id walk, without holders, without the kernel's records of loads and unloads, with maps that change their
//! entries, and with constant series left out.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;
use test_support::{holding, measure, receiver};

use bpf_metrics_exporter::enrich::names::NameCache;
use bpf_metrics_exporter::enrich::{self, Enricher};
use bpf_metrics_exporter::kernel::Reader;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use test_support::holding::holder;
use test_support::measure::{as_float, least, report, runs};
use test_support::objects::{Herd, Map};
use test_support::running::Running;

/// Cycles of each kind that are measured.
const CYCLES: u32 = 20;

const PROCESSES: usize = 200;

/// Of each process.
const DESCRIPTORS: usize = 40;

/// The program.
struct Exporter(Running);

impl Exporter {
    /// Processor time in seconds: `utime` and `stime` of `/proc/PID/stat`, in ticks of 10 ms.
    fn processor_time(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.0.id())).expect("it runs");
        let (_, behind_name) = stat.rsplit_once(')').expect("a name in parentheses");
        let ticks = behind_name.split_whitespace().skip(11).take(2);
        ticks.map(|ticks| ticks.parse::<f64>().expect("a number") / 100.0).sum()
    }

    /// A line of `/proc/PID/status` that is a number of kilobytes.
    fn kilobytes(&self, key: &str) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.0.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).expect("a number of kilobytes")
    }
}

/// Cost of cycles.
struct Cost {
    points: usize,
    /// Processor time of one.
    each: Duration,
    exporter: Exporter,
}

#[tokio::main]
async fn main() {
    holding::hold_if_asked();
    if !measure::may_make_objects() {
        return;
    }
    let herd = Herd::new(7_000, 9_000).expect("objects can be made");
    let maps = herd.maps().iter().step_by(9_000 / PROCESSES).take(PROCESSES);
    let processes: Vec<Running> = maps.map(|map| holder(map.fd(), DESCRIPTORS)).collect();
    let mut reader = Reader::default();
    reader.read();
    let tables = least(runs(20), || (), |()| reader.read());
    let mut enricher = Enricher::new(reader, enrich::EnrichOptions::default(), NameCache::default());
    enricher.read();
    let reading = least(runs(20), || (), |()| enricher.read());
    drop(enricher);
    let walk = cost(&["--kernel-reader", "walk"]).await.each;
    let without = cost(&["--no-holders"]).await.each;
    let compared = cost(&["--no-event-stream"]).await.each;
    let sparing = cost(&["--unchanged-interval", "60s"]).await;
    let growing: Vec<&Map> = herd.maps().iter().filter(|map| map.shape().flags != 0).collect();
    let mut full = false;
    let change = || {
        full = !full;
        for map in &growing {
            if full { map.insert(&[0; 4], &[0; 8]) } else { map.delete(&[0; 4]) }
                .expect("there is room for one");
        }
    };
    let moving = cost_while(&[], change).await.each;
    let Cost { points, each, exporter } = cost(&[]).await;

    report(format_args!("a cycle with 7,000 programs, 9,000 maps and {PROCESSES} processes, all metrics on"));
    report(format_args!("  points delivered            {points}"));
    report(format_args!("  processor time              {:.1} ms", each.as_secs_f64() * 1e3));
    report(format_args!("  of a reading alone          {:.1} ms", reading.as_secs_f64() * 1e3));
    report(format_args!(
        "  of that, owners             {:.1} ms",
        reading.saturating_sub(tables).as_secs_f64() * 1e3
    ));
    report(format_args!("  cycle / reading             {:.2}", measure::ratio(each, reading)));
    report(format_args!("  cycle by walk / by iterator {:.1}", measure::ratio(walk, each)));
    report(format_args!("  cycle / with --no-holders   {:.2}", measure::ratio(each, without)));
    report(format_args!("  cycle / with --no-event-stream {:.2}", measure::ratio(each, compared)));
    report(format_args!(
        "  with {} maps that change their entries / cycle {:.2}",
        growing.len(),
        measure::ratio(moving, each)
    ));
    report(format_args!(
        "  with --unchanged-interval 60s / cycle {:.2}, points {:.2}",
        measure::ratio(sparing.each, each),
        as_float(sparing.points) / as_float(points)
    ));
    report(format_args!("  resident memory, at most    {} MB", exporter.kilobytes("VmHWM") / 1024));
    report(format_args!("  resident memory, now        {} MB", exporter.kilobytes("VmRSS") / 1024));
    drop((processes, herd));
}

/// Runs the program, and measures the cycles after the first four: they fill the caches, and show how maps grow.
async fn cost(flags: &[&str]) -> Cost {
    cost_while(flags, || ()).await
}

/// As [`cost`], with something that is done once in each cycle.
async fn cost_while(flags: &[&str], mut in_each: impl FnMut()) -> Cost {
    let receiver = receiver::start(([127, 0, 0, 1], 0).into(), receiver::ok).await;
    let mut exporter = Command::new(env!("CARGO_BIN_EXE_bpf-metrics-exporter"));
    exporter.args(["--web.listen-address", "none", "--interval", "1s"]).args(flags);
    exporter.args(["--otlp-grpc", &receiver.address.to_string()]);
    let mut cycles = Cycles { receiver, time: 0, points: 0 };
    let exporter = Exporter(Running(exporter.stderr(Stdio::null()).spawn().expect("it starts")));
    // The first that seems to end is the time before all.
    cycles.pass(5, &mut in_each).await;
    let before = exporter.processor_time();
    let count = runs(CYCLES) as usize;
    let points = cycles.pass(count, &mut in_each).await / count;
    let each = Duration::from_secs_f64((exporter.processor_time() - before) / as_float(count));
    Cost { points, each, exporter }
}

/// The cycles that arrive at a receiver. All points of one have the same time, so the first of another one ends it.
struct Cycles {
    receiver: receiver::Receiver,
    /// The time of the last point.
    time: u64,
    /// How many points of this time arrived.
    points: usize,
}

impl Cycles {
    /// Waits for the end of this many, and counts their points.
    async fn pass(&mut self, count: usize, in_each: &mut impl FnMut()) -> usize {
        let (mut ended, mut points) = (0, 0);
        while ended < count {
            let message = self.receiver.requests.recv().await.expect("the receiver lives").message;
            let metrics = &message.resource_metrics[0].scope_metrics[0].metrics;
            let time = time_of(&metrics[0]);
            if std::mem::replace(&mut self.time, time) != time {
                points += std::mem::take(&mut self.points);
                ended += 1;
                in_each();
            }
            self.points += metrics.iter().map(points_in).sum::<usize>();
        }
        points
    }
}

fn time_of(metric: &Metric) -> u64 {
    let time = match metric.data.as_ref().expect("a metric has data") {
        Data::Gauge(gauge) => gauge.data_points.first().map(|point| point.time_unix_nano),
        Data::Sum(sum) => sum.data_points.first().map(|point| point.time_unix_nano),
        Data::ExponentialHistogram(histogram) => {
            histogram.data_points.first().map(|point| point.time_unix_nano)
        }
        other => panic!("not a kind of the contract: {other:?}"),
    };
    time.expect("a metric has a point")
}

fn points_in(metric: &Metric) -> usize {
    match metric.data.as_ref().expect("a metric has data") {
        Data::Gauge(gauge) => gauge.data_points.len(),
        Data::Sum(sum) => sum.data_points.len(),
        // Lifetimes of programs that others unload meanwhile.
        Data::ExponentialHistogram(histogram) => histogram.data_points.len(),
        other => panic!("not a kind of the contract: {other:?}"),
    }
}
