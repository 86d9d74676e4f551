//! What is shipped beside the program: the files are up to date, and their queries are right for many exporters.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use dist::chart;
use dist::names::{self, MAP_FILL};
use dist::promql::Scope;
use promql_parser::parser::{self, Expr, LabelModifier, VectorSelector};
use serde_json::Value;
use test_support::golden;

#[test]
fn files_are_up_to_date() {
    for dist::File { path, text } in dist::files() {
        golden::assert_golden(&path, &text);
    }
}

#[test]
fn the_chart_has_the_copies_and_no_other_files() {
    let made: BTreeSet<String> = dist::files()
        .into_iter()
        .map(|file| file.path)
        .filter(|path| path.starts_with(chart::FOLDER))
        .collect();
    let shipped = [dist::dashboards::files(), dist::rules::files()].concat();
    assert_eq!(made.len(), shipped.len(), "{made:?}");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = BTreeSet::new();
    for folder in ["dashboards", "rules"] {
        for entry in fs::read_dir(root.join(chart::FOLDER).join(folder)).expect("the folder is there") {
            let name = entry.expect("it can be listed").file_name();
            found.insert(format!("{}/{folder}/{}", chart::FOLDER, name.display()));
        }
    }
    assert_eq!(found, made);
}

#[test]
fn the_chart_grants_the_capabilities_that_readings_use() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(root.join(path)).expect("the file is there");
    let values: Value =
        serde_saphyr::from_str(&read("dist/helm/bpf-metrics-exporter/values.yaml")).expect("it is YAML");
    let granted = values["containerSecurityContext"]["capabilities"]["add"].as_array().expect("it is a list");
    let granted: BTreeSet<&str> = granted.iter().map(|name| name.as_str().expect("it is text")).collect();
    // The sentence that names them.
    let page = read("docs/privileges.md");
    let (_, rest) = page.split_once("**Seven capabilities**").expect("the page names them");
    let (sentence, _) = rest.split_once('.').expect("it is a sentence");
    let named: BTreeSet<&str> = sentence.split('`').filter_map(|word| word.strip_prefix("CAP_")).collect();
    assert_eq!(granted, named);
    assert_eq!(granted.len(), 7);
}

#[test]
fn the_chart_has_the_version_of_the_program() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/helm/bpf-metrics-exporter/Chart.yaml");
    let text = fs::read_to_string(path).expect("the file is there");
    let chart: Value = serde_saphyr::from_str(&text).expect("it is YAML");
    for key in ["version", "appVersion"] {
        assert_eq!(chart[key], env!("CARGO_PKG_VERSION"), "{key}");
    }
}

#[test]
fn names_are_in_the_table_and_translated() {
    let names: Vec<String> = names::ALL.iter().map(ToString::to_string).collect();
    assert!(names.contains(&"bpf_program_run_time_seconds_total".to_owned()), "{names:?}");
    assert!(names.contains(&"process_cpu_seconds_total".to_owned()), "{names:?}");
}

#[test]
fn selectors_have_the_matchers_of_the_scope() {
    assert_eq!(Scope::ALL.of(MAP_FILL), "bpf_map_fill_ratio");
    assert_eq!(Scope::ALL.with(MAP_FILL, r#"id="1""#), r#"bpf_map_fill_ratio{id="1"}"#);
    assert_eq!(Scope::SELECTED.of(MAP_FILL), r#"bpf_map_fill_ratio{job=~"$job",instance="$instance"}"#);
    let with = Scope::FLEET.with(MAP_FILL, r#"id="1""#);
    assert_eq!(with, r#"bpf_map_fill_ratio{job=~"$job",instance=~".+",id="1"}"#);
}

#[test]
fn shared_expressions_are_valid() {
    for expression in [Scope::ALL.cpu_share("5m"), Scope::ALL.map_info(""), Scope::SELECTED.nodes()] {
        parser::parse(&expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
    }
}

/// What Grafana puts in the place of variables. The longest of those with the same beginning come first.
const VARIABLES: [(&str, &str); 12] = [
    ("$__rate_interval", "1m"),
    ("$__range_s", "3600"),
    ("$__range", "1h"),
    ("$job", ".*"),
    ("$instance", "node"),
    ("$owner", ".*"),
    ("$type_name", ".*"),
    ("$type", ".*"),
    ("$name", ".*"),
    ("$program", "1"),
    ("$map", "2"),
    ("${datasource}", "prometheus"),
];

/// Returns the dashboards, by their paths.
fn dashboards() -> Vec<(String, Value)> {
    let files = dist::dashboards::files().into_iter();
    files.map(|file| (file.path, serde_json::from_str(&file.text).expect("it is JSON"))).collect()
}

/// Returns the expressions of a dashboard, each with the title of its panel or the name of its variable.
fn expressions(dashboard: &Value) -> Vec<(String, String)> {
    let mut expressions = Vec::new();
    for panel in dashboard["panels"].as_array().expect("there are panels") {
        for target in panel["targets"].as_array().into_iter().flatten() {
            expressions
                .push((panel["title"].to_string(), target["expr"].as_str().expect("it is text").to_owned()));
        }
    }
    for variable in dashboard["templating"]["list"].as_array().expect("there are variables") {
        let Some(query) = variable["query"]["query"].as_str() else { continue };
        let inside =
            query.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).expect("it is a call");
        let selector = if query.starts_with("label_values") {
            inside.rsplit_once(", ").expect("the label is last").0
        } else {
            inside
        };
        expressions.push((variable["name"].to_string(), selector.to_owned()));
    }
    for (_, expression) in &mut expressions {
        *expression =
            VARIABLES.iter().fold(expression.clone(), |text, (name, value)| text.replace(name, value));
    }
    expressions
}

/// Calls a function with each selector, and another with the labels that each operation matches on.
fn walk(expression: &Expr, selector: &mut dyn FnMut(&VectorSelector), on: &mut dyn FnMut(&[String])) {
    match expression {
        Expr::Aggregate(aggregate) => walk(&aggregate.expr, selector, on),
        Expr::Unary(unary) => walk(&unary.expr, selector, on),
        Expr::Paren(paren) => walk(&paren.expr, selector, on),
        Expr::Subquery(subquery) => walk(&subquery.expr, selector, on),
        Expr::Binary(binary) => {
            let is_scalar = |side: &Expr| {
                matches!(side, Expr::NumberLiteral(_))
                    || side.value_type() == parser::value::ValueType::Scalar
            };
            let constant = |side: &Expr| matches!(side, Expr::Call(call) if call.func.name == "vector");
            let matching = binary.modifier.as_ref().and_then(|modifier| modifier.matching.as_ref());
            // An `or` without labels compares all of them.
            let is_union = binary.op.id() == parser::token::T_LOR && matching.is_none();
            if !is_union && !is_scalar(&binary.lhs) && !is_scalar(&binary.rhs) && !constant(&binary.rhs) {
                match matching {
                    Some(LabelModifier::Include(labels)) => on(&labels.labels),
                    _ => on(&[]),
                }
            }
            walk(&binary.lhs, selector, on);
            walk(&binary.rhs, selector, on);
        }
        Expr::VectorSelector(vector) => selector(vector),
        Expr::MatrixSelector(matrix) => selector(&matrix.vs),
        Expr::Call(call) => call.args.args.iter().for_each(|argument| walk(argument, selector, on)),
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) => {}
        Expr::Extension(_) => panic!("not in PromQL"),
    }
}

#[test]
fn every_query_of_a_dashboard_selects_and_joins_by_job_and_instance() {
    for (path, dashboard) in dashboards() {
        let expressions = expressions(&dashboard);
        assert!(expressions.len() > 10, "{path}: {expressions:?}");
        for (place, expression) in expressions {
            // Of `label_replace`, `$1` is not Grafana's.
            let left = expression.replace("$1", "");
            assert!(!left.contains('$'), "{path}, {place}: a variable is not known: {expression}");
            let parsed = parser::parse(&expression)
                .unwrap_or_else(|error| panic!("{path}, {place}: {error}: {expression}"));
            // The variable of jobs is what the others depend on.
            if place == "\"job\"" {
                continue;
            }
            walk(
                &parsed,
                &mut |selector| {
                    for label in ["job", "instance"] {
                        let matchers = &selector.matchers.matchers;
                        assert!(
                            matchers.iter().any(|matcher| matcher.name == label),
                            "{path}, {place}: {selector} has no matcher of {label}"
                        );
                    }
                },
                &mut |labels| {
                    // Programs are compared by name, and owners by fingerprint, between the instances of a job, and counts with the number of instances.
                    let is =
                        |expected: &[&str]| labels.iter().map(String::as_str).eq(expected.iter().copied());
                    let is_of_a_node =
                        ["job", "instance"].iter().all(|label| labels.contains(&(*label).to_owned()));
                    let is_of_a_job = is(&["job"])
                        || is(&["job", "name", "type"])
                        || is(&["job", "owner_kind", "workload"])
                        || is(&["job", "owner_kind", "workload", "programs"]);
                    assert!(
                        is_of_a_node || is_of_a_job,
                        "{path}, {place}: joins on {labels:?}: {expression}"
                    );
                },
            );
        }
    }
}

#[test]
fn panels_are_described_and_do_not_overlap() {
    for (path, dashboard) in dashboards() {
        let panels = dashboard["panels"].as_array().expect("there are panels");
        let mut taken = BTreeSet::new();
        for panel in panels {
            let place = |name: &str| panel["gridPos"][name].as_u64().expect("it has a place");
            for x in place("x")..place("x") + place("w") {
                for y in place("y")..place("y") + place("h") {
                    assert!(x < 24 && taken.insert((x, y)), "{path}: {} overlaps", panel["title"]);
                }
            }
            let is_row = panel["type"] == "row";
            let description = panel["description"].as_str().unwrap_or_default();
            assert!(is_row || description.ends_with('.'), "{path}: {} has no sentence", panel["title"]);
        }
        let mut titles = BTreeSet::new();
        for panel in panels.iter().filter(|panel| panel["type"] != "row") {
            assert!(titles.insert(panel["title"].to_string()), "{path}: {} occurs twice", panel["title"]);
        }
        let mut ids: Vec<u64> = panels.iter().filter_map(|panel| panel["id"].as_u64()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), panels.len(), "{path}: ids are unique");
    }
}
