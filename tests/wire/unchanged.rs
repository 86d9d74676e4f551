//! Series that do not change and are sent rarely have no gap in any query of a dashboard: in Prometheus, by remote write in another one,
//! and in `VictoriaMetrics`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bpf_metrics_exporter::export::recording;
use dist::queries::{self, Query, Selected, substitute};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use test_support::http::free_address;
use test_support::objects::{Herd, Link, Map};

use crate::exporter::Exporter;
use crate::processes::{Process, SOON, Scratch, eventually};
use crate::receivers::{Prometheus, VictoriaMetrics};
use crate::series::Labels;

/// Longest time between two points of a series that does not change: a minute by the documents, in which Prometheus shows a series for
/// five minutes after its last point, and rates of tables have a window of five minutes.
const UNCHANGED: Duration = Duration::from_secs(4);
const LOOK_BACK: Duration = UNCHANGED.saturating_mul(5);

/// The queried time. Before it, what is never repeated is long out of sight.
const WINDOW: Duration = Duration::from_secs(12);
const BEFORE: Duration = LOOK_BACK.saturating_add(UNCHANGED.saturating_mul(2));

/// Until the last point of the window is in each store: remote write collects for some seconds.
const LATENCY: Duration = Duration::from_secs(8);

/// Exporters by their job: one that sends all, one that leaves out what does not change, and one that leaves it out for ever.
const ALL: &str = "all";
const SPARING: &str = "sparing";
const SILENT: &str = "silent";

/// How a store is queried.
type Ask<'a> = Box<dyn Fn(&str) -> Result<String, String> + 'a>;

/// Steps at which an expression has rows, by their labels.
type Steps = BTreeMap<Labels, BTreeSet<i64>>;

pub(crate) fn test() {
    let scratch = Scratch::new();
    let herd = Herd::new(5, 5).expect("the kernel takes a small herd");
    let _full = Map::hash_of(10, 0).expect("the kernel has hash maps");
    let _traced = Link::raw_tracepoint().expect("the kernel has tracepoints");
    let _filtered = Link::cgroup().expect("the kernel has cgroups");
    let look_back = format!("{}s", LOOK_BACK.as_secs());
    let second = Prometheus::start_taking_remote_write(&scratch.folder("second"), &look_back);
    let settings = json!({
        "remote_write": [{"url": second.remote_write(), "queue_config": {"batch_send_deadline": "1s"}}],
    });
    let first = Prometheus::start_receiving_with(&scratch.folder("first"), &settings, &look_back);
    let victoria = VictoriaMetrics::start_for_dashboards(&scratch.folder("victoria"), UNCHANGED * 2);

    let unchanged = format!("{}s", UNCHANGED.as_secs());
    // Others may have thousands of objects on this host.
    let only = format!("owner={}", owner(&herd));
    let flags: [(&str, &[&str]); 3] = [
        (ALL, &[]),
        (SPARING, &["--unchanged-interval", &unchanged]),
        (SILENT, &["--unchanged-interval", "1h"]),
    ];
    let [to_first, to_victoria] = [first.endpoint(), victoria.endpoint()];
    let mut exporters = flags.map(|(job, flags)| {
        let attributes = format!("service.name={job},service.instance.id={job}");
        let environment = [("OTEL_RESOURCE_ATTRIBUTES", Path::new(&attributes))];
        let to = [
            "--otlp-http",
            &*to_first,
            "--otlp-http",
            &*to_victoria,
            "--hooks-interval",
            "1s",
            "--no-event-logs",
        ];
        let flags = [&to[..], &["--only", &only], flags].concat();
        Exporter::start_at(free_address(), &environment, &scratch.folder(job), "none", "1s", &flags)
    });
    for job in [ALL, SPARING, SILENT] {
        eventually(&format!("each store has {job}"), SOON, || {
            let expression = format!(r#"bpf_program_info{{job="{job}"}}"#);
            let rows = [first.rows(&expression)?, second.rows(&expression)?, victoria.rows(&expression)?];
            if rows.iter().any(Vec::is_empty) { Err("not yet".to_owned()) } else { Ok(()) }
        });
    }
    work(&herd, BEFORE + WINDOW, &mut exporters.each_mut().map(|exporter| &mut exporter.process));
    let to = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970").as_secs();
    let window = [to - WINDOW.as_secs(), to];
    work(&herd, LATENCY, &mut []);

    let stores: [(&str, Ask<'_>); 3] = [
        ("Prometheus", Box::new(|path| first.answer(path))),
        ("Prometheus by remote write", Box::new(|path| second.answer(path))),
        ("VictoriaMetrics", Box::new(|path| victoria.answer(path))),
    ];
    let queries = queries::of_dashboards();
    for (store, ask) in &stores {
        let (mut gaps, mut compared) = (Vec::new(), 0);
        for query in &queries {
            let [all, sparing] = [ALL, SPARING].map(|job| steps(ask, query, job, window));
            compared += usize::from(!all.is_empty());
            gaps.extend(missing(query, &all, &sparing).map(|row| format!("{}: {row:?}", query.place)));
        }
        assert_eq!(gaps, Vec::<String>::new(), "gaps in {store}");
        assert!(compared > 60, "{compared} expressions have rows in {store}");
        // It would be seen.
        let seen = queries.iter().any(|query| {
            let [all, silent] = [ALL, SILENT].map(|job| steps(ask, query, job, window));
            missing(query, &all, &silent).next().is_some()
        });
        assert!(seen, "{store}: series that are never sent again have no gap");
    }
}

/// Returns the name of the owner of these objects, which is this process or what it runs in.
fn owner(herd: &Herd) -> String {
    let id = herd.programs()[0].id();
    // A reading leaves out descriptors of its own process, so that another one takes it.
    let mut program = Command::new(env!("CARGO_BIN_EXE_bpf-metrics-exporter"));
    let output = program.args(["snapshot", "--format", "json"]).output().expect("the program runs");
    let snapshot = recording::parse(&output.stdout).expect("it is a snapshot");
    let owner = snapshot.program(id).and_then(|program| program.owner.as_ref()).expect("its owner is known");
    owner.name().to_owned()
}

/// Has programs run for this time.
fn work(herd: &Herd, time: Duration, processes: &mut [&mut Process]) {
    let start = Instant::now();
    while start.elapsed() < time {
        herd.programs()[0].run(64, 100).expect("it runs");
        for process in &mut *processes {
            process.assert_running();
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Returns the rows that are there in each step of one exporter, and are missing in a step of another one.
fn missing<'a>(query: &Query, all: &'a Steps, other: &Steps) -> impl Iterator<Item = &'a Labels> + use<'a> {
    let whole = usize::try_from(WINDOW.as_secs()).expect("it is short") + 1;
    // Which rows are the largest depends on the moment of a reading.
    let is_ranked = query.expression.contains("topk");
    let any = other.values().flatten().copied().collect::<BTreeSet<i64>>();
    let has = |labels: &Labels| other.get(labels).map_or(0, BTreeSet::len);
    let missing: Vec<&Labels> = all
        .iter()
        .filter(|(labels, steps)| {
            steps.len() == whole && if is_ranked { any.len() < whole } else { has(labels) < whole }
        })
        .map(|(labels, _)| labels)
        .collect();
    missing.into_iter()
}

/// Returns what an expression yields in the window, without the labels that tell the exporters apart.
fn steps(
    ask: &dyn Fn(&str) -> Result<String, String>,
    query: &Query,
    job: &str,
    [from, to]: [u64; 2],
) -> Steps {
    let look_back = format!("[{}s]", LOOK_BACK.as_secs());
    let rate = format!("{}s", (UNCHANGED * 4).as_secs());
    let selected = Selected {
        rate_interval: &rate,
        range: "20s",
        range_s: "20",
        job,
        instance: job,
        program: ".+",
        map: ".+",
    };
    // The dashboard of an object has the id of one: here that of any.
    let expression = substitute(&query.expression.replace("[5m]", &look_back), selected)
        .replace(r#"id=".+""#, r#"id=~".+""#);
    let encoded = utf8_percent_encode(&expression, NON_ALPHANUMERIC);
    let path = format!("/api/v1/query_range?query={encoded}&start={from}&end={to}&step=1&nocache=1");
    let answer = ask(&path).unwrap_or_else(|problem| panic!("{expression}: {problem}"));
    let answer: Value = serde_json::from_str(&answer).expect("it is JSON");
    let rows = answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{expression}: {answer}"));
    let row = |row: &Value| {
        let mut labels: Labels = serde_json::from_value(row["metric"].clone()).expect("labels are text");
        labels.retain(|_, value| ![ALL, SPARING, SILENT].contains(&value.as_str()));
        let values = row["values"].as_array().into_iter().flatten();
        (labels, values.filter_map(|value| value[0].as_f64()).map(whole_second).collect())
    };
    let mut steps = Steps::new();
    for (labels, values) in rows.iter().map(row) {
        let values: BTreeSet<i64> = values;
        steps.entry(labels).or_default().extend(values);
    }
    steps
}

#[expect(clippy::cast_possible_truncation, reason = "a time since 1970")]
fn whole_second(time: f64) -> i64 {
    time.round() as i64
}
