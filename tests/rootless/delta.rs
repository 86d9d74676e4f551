//! Counters as deltas, from readings to a real receiver that accepts, refuses and fails as it likes: what it accepted adds up to the
//! counters of the last reading that it accepted, for each counter, after each request.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bpf_metrics_exporter::export::otlp::settings::{Protocol, Temporality};
use bpf_metrics_exporter::export::otlp::{Lane, Pace, produce};
use bpf_metrics_exporter::metrics::select::Selected;
use bpf_metrics_exporter::model::{
    BootTime, Build, Exporter, ObjectType, Program, ProgramFacts, Snapshot, Tag, WallClock,
};
use bpf_metrics_exporter::source::Source;
use bpf_metrics_exporter::worker::Worker;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point;
use test_support::delivery::Delivery;
use test_support::{receiver, transport};
use tokio::sync::watch;
use tonic::Status;

/// When the exporter started, in seconds since boot; the programs were loaded later or before.
const SINCE: u64 = 1000;
const PROGRAMS: u32 = 40;
const READINGS: u64 = 60;
const DEADLINE: Duration = Duration::from_mins(1);

/// Program `id` has run so often in a reading. Those with an even id were loaded before the exporter was started.
fn runs(id: u32, reading: u64) -> u64 {
    u64::from(id) * (reading + 1)
}

fn snapshot(reading: u64) -> Snapshot {
    let program = |id| Program {
        facts: Arc::new(ProgramFacts {
            id,
            name: format!("program_{id}"),
            program_type: ObjectType { number: 3, name: Some("sched_cls".into()) },
            tag: Tag(u64::from(id).to_be_bytes()),
            gpl_compatible: true,
            loaded_at: BootTime::from_secs(if id.is_multiple_of(2) { 10 } else { SINCE + 5 }),
            uid: 0,
            btf_id: None,
            size_jitted: 4000,
            size_translated: 6000,
            mem: Some(8192),
            verified_instructions: None,
            attach_to: None,
            map_ids: None,
        }),
        run_time: None,
        runs: Some(runs(id, reading)),
        recursion_misses: None,
        capabilities: None,
        metadata: None,
        owner: None,
    };
    let (taken_at, since) = (BootTime::from_secs(SINCE + 100 + reading), BootTime::from_secs(SINCE));
    Snapshot {
        programs: Some((1..=PROGRAMS).map(program).collect()),
        ..Snapshot::begun(taken_at, since, WallClock::default())
    }
}

/// What the receiver has of each program.
#[derive(Default)]
struct Sums {
    /// The sum of what it accepted, and the end of the last window, in nanoseconds.
    by_program: BTreeMap<u32, (u64, u64)>,
    requests: u64,
    last_reading: u64,
}

impl Sums {
    /// Adds a request, and compares each sum with the truth.
    fn add(&mut self, message: &ExportMetricsServiceRequest) {
        let metrics = message.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
        for metric in
            metrics.flat_map(|scope| &scope.metrics).filter(|metric| metric.name == "bpf_program_runs")
        {
            let Some(Data::Sum(sum)) = &metric.data else { panic!("it is a counter: {metric:?}") };
            assert_eq!((sum.aggregation_temporality, sum.is_monotonic), (1, true), "differences");
            for point in &sum.data_points {
                let id =
                    point.attributes.iter().find(|attribute| attribute.key == "id").expect("it has an id");
                let Some(any_value::Value::StringValue(id)) =
                    id.value.as_ref().and_then(|id| id.value.as_ref())
                else {
                    panic!("{id:?}")
                };
                let id: u32 = id.parse().expect("a number");
                let Some(number_data_point::Value::AsInt(grew)) = point.value else { panic!("{point:?}") };
                let reading = point.time_unix_nano / 1_000_000_000 - SINCE - 100;
                let (sum, end) = self.by_program.entry(id).or_insert_with(|| {
                    // An older program is counted from the first reading.
                    let started =
                        if id.is_multiple_of(2) { (runs(id, 0), SINCE + 100) } else { (0, SINCE + 5) };
                    (started.0, started.1 * 1_000_000_000)
                });
                assert_eq!(point.start_time_unix_nano, *end, "windows follow each other");
                *sum += u64::try_from(grew).expect("a counter grows");
                *end = point.time_unix_nano;
                assert_eq!(*sum, runs(id, reading), "runs of program {id} until reading {reading}");
                self.last_reading = self.last_reading.max(reading);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deltas_add_up_to_the_counters_whatever_the_receiver_does() {
    let sums = Arc::new(Mutex::new(Sums::default()));
    let counted = Arc::clone(&sums);
    let receiver =
        receiver::start(([127, 0, 0, 1], 0).into(), move |message: &ExportMetricsServiceRequest| {
            let mut sums = counted.lock().expect("no answer panics");
            sums.requests += 1;
            match sums.requests % 7 {
                2 | 3 => Err(Status::invalid_argument("not this one")),
                5 if sums.requests.is_multiple_of(3) => Err(Status::unavailable("later")),
                _ => {
                    sums.add(message);
                    receiver::ok(message)
                }
            }
        })
        .await;

    // Some requests for each reading, of which some are refused.
    let destination = transport::destination(Protocol::Grpc, receiver.address);
    let Delivery { queue, limit, task: delivered, .. } =
        Delivery::start(&destination, Duration::from_secs(1), 4000);
    let worker = |name| Worker::start(name).expect("a thread");
    let build = Build { started_at: BootTime::default(), version: "1", revision: None, rustc: None };
    let mut reading = 0;
    let read = move || {
        let next = snapshot(reading);
        reading += 1;
        next
    };
    let source = Source::new(worker("reading"), read, Selected::all, move || Exporter::of(build.clone()));
    let lane = Lane::new(&[], Temporality::Delta, limit, vec![queue], worker("encoding"));
    let (stop, stopped) = watch::channel(false);
    let pace = Pace { interval: Duration::from_millis(20), timeout: None };
    let produced = tokio::spawn(produce(source, lane, pace, stopped));

    let all = async {
        while sums.lock().expect("no sum was wrong").last_reading < READINGS {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, all).await.expect("readings arrive in time");
    stop.send_replace(true);
    let ended = async { (produced.await, delivered.await) };
    let (produced, delivered) = tokio::time::timeout(DEADLINE, ended).await.expect("they end in time");
    produced.expect("it does not panic").expect("there is a timer");
    delivered.expect("it does not panic");
    assert_eq!(sums.lock().expect("no sum was wrong").by_program.len(), PROGRAMS as usize);
}
