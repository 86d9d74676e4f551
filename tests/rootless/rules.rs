//! The rules for Prometheus are valid and right for many exporters, and each alert is documented.

use std::collections::BTreeSet;
use std::path::Path;

use dist::rules::{self, Rule};
use promql_parser::parser::value::ValueType;
use promql_parser::parser::{self, Expr, LabelModifier};
use promql_parser::util::visitor::{ExprVisitor, walk_expr};
use test_support::golden;

/// Matches without `job` and `instance` that are right, and why.
const MATCHES_WITHOUT_NODE: [(&[&str], &str); 10] = [
    (&["job"], "nodes are compared with the others of their job"),
    (&["job", "name", "type"], "programs of a job, by name"),
    (&["job", "type"], "numbers of programs of a job"),
    (&["job", "owner_kind", "workload"], "owners of a job"),
    (&["job", "owner_kind", "workload", "programs"], "their fingerprints"),
    (&["node"], "nodes that have no exporter have no instance"),
    (&["cluster", "node"], "the same, where the cluster is known"),
    (&["source", "cluster", "node"], "nodes that others know"),
    (&["job", "k8s_cluster_name", "k8s_namespace_name", "kind"], "totals of a namespace over all nodes"),
    (&["source", "cluster"], "numbers of nodes that others know"),
];

/// Every match of two vectors in an expression: its labels, or `None` where it matches on all labels.
#[derive(Default)]
struct Matches(Vec<Option<Vec<String>>>);

impl ExprVisitor for Matches {
    type Error = String;

    fn pre_visit(&mut self, expression: &Expr) -> Result<bool, String> {
        if let Expr::Binary(binary) = expression {
            let is_vector = |side: &Expr| side.value_type() == ValueType::Vector;
            if is_vector(&binary.lhs) && is_vector(&binary.rhs) {
                let matching = binary.modifier.as_ref().and_then(|modifier| modifier.matching.as_ref());
                self.0.push(match matching {
                    Some(LabelModifier::Include(labels)) => Some(labels.labels.clone()),
                    Some(LabelModifier::Exclude(_)) | None => None,
                });
            }
        }
        Ok(true)
    }
}

/// Returns every rule.
fn all_rules() -> Vec<Rule> {
    let groups = [rules::recording::groups(), rules::alerts::groups()].concat();
    groups.into_iter().flat_map(|group| group.rules).collect()
}

#[test]
fn rules_are_valid_and_match_on_the_node() {
    for rule in all_rules() {
        let (name, expression) = (rule.name(), rule.expression());
        let parsed =
            parser::parse(expression).unwrap_or_else(|error| panic!("{name}: {error}\n{expression}"));
        let mut matches = Matches::default();
        walk_expr(&mut matches, &parsed).expect("it has no error");
        for labels in matches.0 {
            let labels =
                labels.unwrap_or_else(|| panic!("{name} matches two vectors on all labels:\n{expression}"));
            let has = |label: &str| labels.iter().any(|other| other == label);
            let may = MATCHES_WITHOUT_NODE.iter().any(|(allowed, _)| labels.iter().eq(allowed.iter()));
            assert!(has("job") && has("instance") || may, "{name} matches on {labels:?}:\n{expression}");
        }
    }
}

#[test]
fn rules_have_names_of_their_own() {
    let rules = all_rules();
    let names: BTreeSet<&str> = rules.iter().map(Rule::name).collect();
    assert_eq!(names.len(), rules.len());
    for rule in &rules {
        match rule {
            Rule::Recording(recording) => {
                let parts: Vec<&str> = recording.record.split(':').collect();
                assert_eq!(parts.len(), 3, "{} is level:metric:operation", recording.record);
            }
            Rule::Alert(alert) => assert!(alert.name.starts_with("Bpf"), "{}", alert.name),
        }
    }
}

#[test]
fn docs_alerts_has_a_section_for_each_alert() {
    const PAGE: &str = "docs/alerts.md";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let page = std::fs::read_to_string(path).expect("the file is there");
    let sections: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .filter(|title| title.starts_with("Bpf"))
        .collect();
    let alerts: BTreeSet<&str> = rules::alerts::all().map(|alert| alert.name).collect();
    assert_eq!(sections, alerts);
    let documented =
        rules::document(&page).unwrap_or_else(|alert| panic!("{alert} has no section with marks"));
    golden::assert_golden(PAGE, &documented);
}
