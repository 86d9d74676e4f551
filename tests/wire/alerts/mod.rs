//! The rules of `dist/prometheus/` in promtool: each alert fires on its fault, and none in ordinary life.

mod faults;
mod input;
mod life;
mod recorded;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use dist::rules::recording::NODE_NAME;
use dist::rules::{self, Alert, Group, Rule};
use serde_json::{Value, json};

use crate::processes::Scratch;
use crate::receivers::Receiver;
use faults::{Case, Expected};

pub(crate) fn faults() {
    let cases = faults::cases();
    let alerts: BTreeSet<&str> = rules::alerts::all().map(|alert| alert.name).collect();
    for (what, is_fault) in [("fires", true), ("is silent", false)] {
        let tested = cases.iter().filter(|case| case.expected.is_empty() != is_fault);
        let tested: BTreeSet<&str> = tested.map(|case| case.alert).collect();
        assert_eq!(tested, alerts, "each alert has a case in which it {what}");
    }
    // Only the rules of the alert: all rules in all cases would take minutes.
    let of_alert = |alert: &&'static str| {
        let cases = cases.iter().filter(|case| case.alert == *alert);
        (rules_of(alert), cases.map(as_test).collect())
    };
    test_rules(alerts.iter().map(of_alert).collect());
}

pub(crate) fn recorded() {
    let recordings: Vec<&str> =
        rules::recording::groups().iter().flat_map(|group| &group.rules).map(Rule::name).collect();
    let cases = recorded::cases();
    let tested: Vec<&str> = cases.iter().map(|case| case.record).collect();
    assert_eq!(tested, recordings, "each rule has a case");
    let test = |case: &recorded::Case| {
        let at = format!("{}m", case.input.minutes);
        let sample = |(labels, value): &(String, f64)| json!({"labels": format!("{}{{{labels}}}", case.record), "value": value});
        let samples: Vec<Value> = case.expected.iter().map(sample).collect();
        let test = json!({
            "name": case.record,
            "interval": "1m",
            "input_series": case.input.series,
            "promql_expr_test": [{"expr": case.record, "eval_time": at, "exp_samples": samples}],
        });
        (rules_of(case.record), vec![test])
    };
    test_rules(cases.iter().map(test).collect());
}

pub(crate) fn ordinary_life() {
    let input = life::series();
    let mut test = test_of("ordinary life", &input, None, &[]);
    // The rules see these nodes: their silence is not that of an empty database.
    let seen = json!([{"labels": "{}", "value": life::NODES_AT_THE_END}]);
    let asked = test["promql_expr_test"].as_array_mut().expect("it is written as one");
    asked.push(json!({"expr": format!("count({NODE_NAME})"), "eval_time": format!("{}m", input.minutes), "exp_samples": seen}));
    let groups = [rules::recording::groups(), rules::alerts::groups()].concat();
    test_rules(vec![(groups, vec![test])]);
}

pub(crate) fn check() {
    let scratch = Scratch::new();
    let folder = scratch.folder("rules");
    let mut arguments = vec!["check".to_owned(), "rules".to_owned()];
    for file in rules::files() {
        let name = file.path.rsplit('/').next().expect("a split has a last part");
        arguments.push(write(&folder, name, &file.text));
    }
    promtool(&folder, &arguments);
}

/// Returns the test of a case.
fn as_test(case: &Case) -> Value {
    let alert = rules::alerts::all().find(|alert| alert.name == case.alert);
    let alert = alert.unwrap_or_else(|| panic!("no alert {}", case.alert));
    let name = format!("{}: {}", case.alert, case.what);
    test_of(&name, &case.input, Some((&alert, case.at)), &case.expected)
}

/// Returns a test in which the alert has exactly these series at a time, or no alert (this one, if there is one) fires ever.
fn test_of(name: &str, input: &input::Input, alert: Option<(&Alert, u32)>, expected: &[Expected]) -> Value {
    let mut test = json!({"name": name, "interval": "1m", "input_series": input.series});
    let ever = |matcher: &str| {
        let minutes = input.minutes;
        let expression =
            format!(r#"count_over_time(ALERTS{{alertstate="firing"{matcher}}}[{}m])"#, minutes + 1);
        json!([{"expr": expression, "eval_time": format!("{minutes}m"), "exp_samples": []}])
    };
    match alert {
        None => test["promql_expr_test"] = ever(""),
        Some((alert, _)) if expected.is_empty() => {
            test["promql_expr_test"] = ever(&format!(r#",alertname="{}""#, alert.name));
            // Samples exist, or nothing could fire.
            assert!(!input.series.is_empty(), "{name} has series");
        }
        Some((alert, at)) => {
            let fires = |expected: &Expected| {
                let mut labels = expected.labels.clone();
                labels["severity"] = json!(alert.severity.to_string());
                json!({"exp_labels": labels, "exp_annotations": {
                    "summary": alert.summary,
                    "description": expected.description,
                    rules::RUNBOOK: alert.runbook(),
                }})
            };
            let alerts: Vec<Value> = expected.iter().map(fires).collect();
            test["alert_rule_test"] =
                json!([{"eval_time": format!("{at}m"), "alertname": alert.name, "exp_alerts": alerts}]);
        }
    }
    test
}

/// Returns the rule of an alert, and those of the series that it needs.
fn rules_of(alert: &str) -> Vec<Group> {
    let mut groups = [rules::recording::groups(), rules::alerts::groups()].concat();
    let mut needed = String::new();
    for group in groups.iter_mut().rev() {
        let mut kept: Vec<Rule> = Vec::new();
        for rule in group.rules.drain(..).rev() {
            if rule.name() == alert || needed.contains(rule.name()) {
                needed.push_str(rule.expression());
                if let Rule::Alert(alert) = &rule {
                    needed.push_str(&alert.description);
                }
                kept.push(rule);
            }
        }
        group.rules = kept.into_iter().rev().collect();
    }
    groups.retain(|group| !group.rules.is_empty());
    groups
}

/// Has promtool run tests, each of some rules.
fn test_rules(tests: Vec<(Vec<Group>, Vec<Value>)>) {
    let scratch = Scratch::new();
    let folder = scratch.folder("rules");
    let mut arguments = vec!["test".to_owned(), "rules".to_owned()];
    for (number, (groups, tests)) in (1..).zip(tests) {
        let file = write(&folder, &format!("rules-{number}.yaml"), &rules::yaml(&groups));
        let order: Vec<&str> = groups.iter().map(|group| group.name).collect();
        // JSON is YAML.
        let content = json!({
            "rule_files": [file],
            "evaluation_interval": "1m",
            "group_eval_order": order,
            "tests": tests,
        });
        arguments.push(write(&folder, &format!("tests-{number}.yaml"), &content.to_string()));
    }
    promtool(&folder, &arguments);
}

/// Writes a file, and returns its name.
fn write(folder: &Path, name: &str, text: &str) -> String {
    std::fs::write(folder.join(name), text).expect("the folder is new");
    name.to_owned()
}

fn promtool(folder: &Path, arguments: &[String]) {
    let mut promtool = Command::new(Receiver::Promtool.path());
    let found = promtool.args(arguments).current_dir(folder).output();
    let found = found.unwrap_or_else(|error| panic!("failed to run promtool: {error}"));
    let says = [found.stdout, found.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(found.status.success(), "{}: {}", found.status, says.concat());
}
