//! What is shipped beside the program: the files are up to date, and their queries are right for many exporters.

use dist::names::{self, MAP_FILL};
use dist::promql::Scope;
use promql_parser::parser;
use test_support::golden;

#[test]
fn files_are_up_to_date() {
    for dist::File { path, text } in dist::files() {
        golden::assert_golden(&path, &text);
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
    assert_eq!(Scope::SELECTED.of(MAP_FILL), r#"bpf_map_fill_ratio{job=~"$job",instance=~"$instance"}"#);
    let with = Scope::FLEET.with(MAP_FILL, r#"id="1""#);
    assert_eq!(with, r#"bpf_map_fill_ratio{job=~"$job",instance=~".+",id="1"}"#);
}

#[test]
fn shared_expressions_are_valid() {
    for expression in [Scope::ALL.cpu_share("5m"), Scope::ALL.fill_with_owner(), Scope::SELECTED.nodes()] {
        parser::parse(&expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
    }
}
