//! Every expression of the dashboards, evaluated by a Prometheus that has the same two exporters by several routes: each must say what
//! the objects made for it are.

mod expected;
mod scene;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use dist::queries::{self, Query, Selected};
use serde_json::{Value, json};
use test_support::http::free_address;

use self::expected::{Expected, expected};
use self::scene::Scene;
use crate::exporter::Exporter;
use crate::processes::{Scratch, eventually};
use crate::receivers::{Collector, Prometheus, Verbosity};
use crate::series::Row;

/// Until the objects are on every route, and rates have two points.
const LIMIT: Duration = Duration::from_mins(2);

/// Number of nodes of the fleet that has one node which lacks a program: 10 of 11 are nearly all.
const ALIKE: usize = 10;

/// What dashboards of the exporter that this one descends from query: the contract's names, without labels.
const OLDER: [&str; 7] = [
    "bpf_program_info",
    "bpf_map_info",
    "sum(bpf_program_info)",
    "sum(bpf_map_info)",
    "sum by() (bpf_program_verified_instructions_total)",
    "sum(bpf_program_size_translated_bytes_total)",
    "sum(bpf_program_mem_bytes_total)",
];

/// A way for series into Prometheus, and the exporter that is looked at.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    job: String,
    instance: String,
    /// Whether the exporter lacks a program that the others have.
    lacks: bool,
}

pub(crate) fn test() {
    let scratch = Scratch::new();
    let mut scene = Scene::new(&scratch.folder("bpf"));
    let receives = free_address();
    // Nothing is expected.
    let baseline = scratch.folder("baseline").join("baseline.txt");
    std::fs::write(&baseline, "# bpf-metrics-exporter baseline 1\n").expect("the folder is new");
    let baseline = baseline.to_str().expect("the path of the project is text");
    // The second exporter reports one program less, as a node that lacks it.
    let flags = |lacking: bool| {
        let mut flags = vec!["--hooks-interval", "1s", "--max-series", "1000000", "--bpffs", scene.bpffs()];
        flags.extend(["--baseline", baseline]);
        if lacking {
            flags.extend(["--except", "kind=program,name=dash_lonely"]);
        }
        flags
    };
    let exporters = [("one", false), ("other", true)].map(|(name, lacking)| {
        let attributes = format!("host.name=node-{name},k8s.cluster.name=east,service.instance.id={name}");
        let environment = [("OTEL_RESOURCE_ATTRIBUTES", Path::new(&attributes))];
        Exporter::start_in(&environment, &scratch.folder(name), receives, "1s", &flags(lacking))
    });
    let [one, other] = exporters.each_ref().map(|exporter| exporter.serves);
    let scrape = |job: &str, targets: Value| json!({"job_name": job, "static_configs": targets});
    let alike =
        (0..ALIKE).map(|copy| json!({"targets": [one], "labels": {"instance": format!("copy-{copy}")}}));
    let lacking = json!({"targets": [other], "labels": {"instance": "lacking"}});
    // The labels that the Collector's own exporter for Prometheus adds to every series, of two versions: after an update there are
    // both for some minutes.
    let scoped = |version: &str| {
        let targets = json!([{"targets": [one, other], "labels": {"job": "scoped"}}]);
        let mut scoped = scrape(&format!("scoped-{version}"), targets);
        let label = |label: &str, value: &str| json!({"target_label": format!("otel_scope_{label}"), "replacement": value});
        scoped["metric_relabel_configs"] =
            json!([label("name", "bpf-metrics-exporter"), label("version", version)]);
        scoped
    };
    let scrapes = [
        scrape("scraped", json!([{"targets": [one, other]}])),
        scoped("1"),
        scoped("2"),
        scrape("fleet", alike.chain([lacking]).collect()),
    ];
    let settings =
        json!({"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": scrapes});
    let prometheus = Prometheus::start_receiving(&scratch.folder("prometheus"), &settings);
    // Where it takes OTLP is known only now; the exporters retry until then.
    let next = prometheus.endpoint();
    let _collector = Collector::start(&scratch.folder("collector"), receives, Verbosity::Normal, Some(&next));
    let route = |job: &str, instance: &str, lacks| Route {
        job: job.to_owned(),
        instance: instance.to_owned(),
        lacks,
    };
    let routes = [
        route("scraped", &one.to_string(), false),
        route("scoped", &one.to_string(), false),
        route("bpf-metrics-exporter", "one", false),
        route("bpf-metrics-exporter", "other", true),
        route("fleet", "lacking", true),
    ];
    for route in &routes {
        eventually(&format!("{route:?} has what will go"), LIMIT, || {
            scene.is_seen(&prometheus, &route.job, &route.instance)
        });
    }
    scene.remove();

    let queries = queries::of_dashboards();
    assert!(queries.len() > 100, "there are {}", queries.len());
    let mut open: BTreeSet<(usize, usize)> =
        (0..routes.len()).flat_map(|route| (0..queries.len()).map(move |query| (route, query))).collect();
    eventually("every expression says what is there", LIMIT, || {
        scene.work();
        let mut failures = Vec::new();
        open.retain(|&(route, query)| {
            let result = check(&scene, &prometheus, &routes[route], &queries[query]);
            failures.extend(result.as_ref().err().cloned());
            result.is_err()
        });
        if failures.is_empty() {
            Ok(())
        } else {
            Err(format!("{} of them: {}", failures.len(), failures[..failures.len().min(3)].join("\n")))
        }
    });
    for expression in OLDER {
        let rows = prometheus.rows(expression).expect("it is evaluated");
        assert!(!rows.is_empty() && rows.iter().all(|row| row.value > 0.0), "{expression}: {rows:?}");
    }
    assert_eq!(prometheus.process.log(), "", "Prometheus logs something");
}

/// Compares what an expression yields by a route with what is there.
fn check(scene: &Scene, prometheus: &Prometheus, route: &Route, query: &Query) -> Result<(), String> {
    let Query { dashboard, place, letter, expression, labels } = query;
    let [program, map] = scene.object(place, letter).map(|id| id.to_string());
    let selected = Selected {
        rate_interval: "15s",
        range: "2m",
        range_s: "3600",
        job: &route.job,
        instance: &route.instance,
        program: &program,
        map: &map,
    };
    let expression = queries::substitute(expression, selected);
    let rows = prometheus.rows(&expression)?;
    let failed = |what: &str| {
        let shown: Vec<&Row> = rows.iter().take(3).collect();
        format!(
            "{dashboard}, {place} {letter}, {route:?}: {what}\n  {expression}\n  {} rows: {shown:?}",
            rows.len()
        )
    };
    let Some(expected) = expected(scene, route, dashboard, place, letter) else {
        panic!("{}", failed("nothing says what to expect; see expected.rs"));
    };
    let holds = match &expected {
        Expected::Row(labels, value) => rows.iter().any(|row| {
            let is = |(label, value): &(&str, String)| row.labels.get(*label) == Some(value);
            labels.iter().all(is) && value(row.value)
        }),
        Expected::NoRow(labels) => {
            rows.iter().all(|row| labels.iter().any(|(label, value)| row.labels.get(*label) != Some(value)))
        }
        Expected::Same(other) => {
            let others = prometheus.rows(&queries::substitute(other, selected))?;
            let value = |rows: &[Row]| rows.first().map(|row| row.value);
            rows.len() == 1
                && value(&rows).zip(value(&others)).is_some_and(|(one, other)| (one - other).abs() < 0.5)
        }
        Expected::Anything(_) => true,
    };
    if let Some(labels) = labels {
        let stray = rows.iter().flat_map(|row| row.labels.keys()).find(|label| !labels.contains(*label));
        assert_eq!(stray, None, "{}", failed("a label is no column of the table"));
    }
    if holds { Ok(()) } else { Err(failed(&format!("not {expected:?}"))) }
}
