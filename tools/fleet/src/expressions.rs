//! The expressions of dashboards and rules, evaluated by a store on a fleet. Entry point: [`evaluate`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use dist::names::{BUILD_INFO, MAP_INFO, PROGRAM_INFO};
use dist::queries::{self, Selected, substitute};
use dist::rules::{self, Rule};

use crate::figures::Expressions;
use crate::fleet::Fleet;
use crate::receivers::{Row, Store, StoreKind};
use crate::runs::EVALUATION;

/// The job of the exporters.
const JOB: &str = "bpf-metrics-exporter";

/// Evaluates every expression of the dashboards, and on Prometheus the rules.
///
/// # Errors
///
/// If the store does not answer. An expression that cannot be evaluated is a result.
pub fn evaluate(fleet: &Fleet, store: &Store) -> anyhow::Result<Vec<Expressions>> {
    let instance = fleet.senders().first().map_or("", |sender| sender.instance());
    let id = |info: dist::names::Metric| -> anyhow::Result<String> {
        let rows = store.rows(&format!(r#"topk(1, {info}{{job="{JOB}",instance="{instance}"}})"#))?;
        let id = rows.first().and_then(|row| row.labels.get("id")?.as_str().map(str::to_owned));
        Ok(id.unwrap_or_default())
    };
    let (program, map) = (id(PROGRAM_INFO)?, id(MAP_INFO)?);
    let selected = Selected {
        rate_interval: "4m",
        range: "10m",
        range_s: "3600",
        job: JOB,
        instance,
        program: &program,
        map: &map,
    };
    let mut by_origin: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for query in queries::of_dashboards() {
        let name = format!("{} {}", query.place, query.letter);
        let expression = substitute(&query.expression, selected);
        by_origin.entry(query.dashboard).or_default().push((name, expression));
    }
    let named = |origin: &str| format!("{origin}, {}", store.kind().name());
    let mut results: Vec<Expressions> =
        by_origin.iter().map(|(origin, expressions)| measure(store, named(origin), expressions)).collect();
    if store.kind() == StoreKind::Prometheus {
        let groups = [rules::recording::groups(), rules::alerts::groups()].concat();
        store.evaluate(&rules::yaml(&groups))?;
        // Alerts need what was recorded: each group has been evaluated twice.
        fleet.sleep(EVALUATION * 5 / 2)?;
        let (failed, evaluated, slowest) = store.rules()?;
        results.push(Expressions {
            origin: named("rules, evaluated every 30 s"),
            expressions: evaluated,
            empty: Vec::new(),
            failed,
            slowest: (slowest, "the slowest group".to_owned()),
            seconds: slowest,
        });
        let of_rules = |is_alert: bool| {
            let rules = groups.iter().flat_map(|group| &group.rules);
            let rules = rules.filter(move |rule| matches!(rule, Rule::Alert(_)) == is_alert);
            rules.map(|rule| (rule.name().to_owned(), rule.expression().to_owned())).collect::<Vec<_>>()
        };
        results.push(measure(store, named("recording rules"), &of_rules(false)));
        results.push(measure(store, named("alerts"), &of_rules(true)));
    }
    Ok(results)
}

/// Returns the alerts whose expressions yield something, with the instances of it.
///
/// # Errors
///
/// If an expression cannot be evaluated.
pub fn alerts(store: &Store) -> anyhow::Result<BTreeMap<String, BTreeSet<String>>> {
    let groups = rules::alerts::groups();
    let mut alerts = BTreeMap::new();
    for rule in groups.iter().flat_map(|group| &group.rules) {
        let rows = store.rows(rule.expression())?;
        let instance =
            |row: &Row| row.labels.get("instance").and_then(|label| label.as_str()).map(str::to_owned);
        if !rows.is_empty() {
            alerts.insert(rule.name().to_owned(), rows.iter().filter_map(instance).collect());
        }
    }
    Ok(alerts)
}

/// Returns the number of exporters that a store has now.
///
/// # Errors
///
/// If it does not answer.
pub fn exporters(store: &Store) -> anyhow::Result<f64> {
    store.value(&format!("count(count by (instance) ({BUILD_INFO}))"))
}

fn measure(store: &Store, origin: String, expressions: &[(String, String)]) -> Expressions {
    let mut result = Expressions {
        origin,
        expressions: expressions.len(),
        empty: Vec::new(),
        failed: Vec::new(),
        slowest: (0.0, String::new()),
        seconds: 0.0,
    };
    for (name, expression) in expressions {
        let start = Instant::now();
        match store.rows(expression) {
            Ok(rows) if rows.is_empty() => result.empty.push(name.clone()),
            Ok(_) => {}
            Err(error) => {
                let error: String = format!("{error:#}").chars().take(300).collect();
                result.failed.push(format!("{name}: {error}"));
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        result.seconds += seconds;
        if seconds > result.slowest.0 {
            result.slowest = (seconds, name.clone());
        }
    }
    result
}
