//! The expressions of `docs/operations.md` that turn run times into CPU shares, and those that answer the questions of the README,
//! evaluated by Prometheus' own engine.

use std::process::Command;

use serde_json::{Value, json};

use crate::processes::Scratch;
use crate::receivers::Receiver;

use crate::documents::expressions;

/// Returns the expressions about shares of time.
fn documented() -> Vec<String> {
    expressions(section(include_str!("../../docs/operations.md"), "CPU time of programs"))
}

/// Returns the expressions of the README, one per question.
fn questions() -> Vec<String> {
    expressions(section(include_str!("../../README.md"), "Three questions"))
}

/// Returns a section of a document.
fn section<'a>(document: &'a str, title: &str) -> &'a str {
    let section = document.split(&format!("\n## {title}\n")).nth(1).expect("the section is there");
    section.split("\n## ").next().expect("a split has a first part")
}

pub(crate) fn test() {
    let program = |name: &str, instance: &str, id: u32, values: &str| {
        let labels = format!(r#"job="bpf",instance="{instance}",id="{id}",name="p",type="xdp""#);
        json!({"series": format!("{name}{{{labels}}}"), "values": values})
    };
    let covered = |instance: &str, values: &str| {
        let name = "bpf_run_stats_covered_seconds_total";
        json!({"series": format!(r#"{name}{{job="bpf",instance="{instance}"}}"#), "values": values})
    };
    // A point each 10 s of two nodes that do the same: one counts all the time, the other 1 s in 10 s.
    let input = [
        program("bpf_program_run_time_seconds_total", "on", 1, "100+0.5x60"),
        program("bpf_program_run_time_seconds_total", "on", 2, "0+2x60"),
        program("bpf_program_runs_total", "on", 1, "7+1000x60"),
        covered("on", "0+10x60"),
        program("bpf_program_run_time_seconds_total", "sample", 1, "20+0.05x60"),
        program("bpf_program_runs_total", "sample", 1, "3+100x60"),
        covered("sample", "1+1x60"),
    ];
    let of_program = |instance: &str, id: u32, value: f64| {
        let labels = format!(r#"{{job="bpf",instance="{instance}",id="{id}",name="p",type="xdp"}}"#);
        json!({"labels": labels, "value": value})
    };
    let of_node = |instance: &str, value: f64| json!({"labels": format!(r#"{{job="bpf",instance="{instance}"}}"#), "value": value});
    let expected = [
        vec![of_program("on", 1, 0.05), of_program("on", 2, 0.2), of_program("sample", 1, 0.05)],
        vec![of_program("on", 1, 100.0), of_program("sample", 1, 100.0)],
        vec![of_program("on", 1, 0.0005), of_program("sample", 1, 0.0005)],
        vec![of_node("on", 0.25), of_node("sample", 0.05)],
    ];
    evaluate(&documented(), &expected, &input);
}

pub(crate) fn test_questions() {
    let labels = |name: &str, instance: &str, rest: &str| {
        format!(r#"{name}{{job="bpf",instance="{instance}",{rest}}}"#)
    };
    let series = |name: &str, instance: &str, rest: &str, values: &str| json!({"series": labels(name, instance, rest), "values": values});
    let program = |id: u32| format!(r#"id="{id}",name="p",type="xdp""#);
    let program_of = |id: u32, owner: &str| format!(r#"{},owner="{owner}""#, program(id));
    let map = |id: u32| format!(r#"id="{id}",name="m",type="1""#);
    let owner = |name: &str| format!(r#"owner_kind="pod",owner="{name}""#);
    // Two nodes with the same ids: an expression that does not join on the node finds two matches.
    let mut input = Vec::new();
    for node in ["a", "b"] {
        input.extend([
            series("bpf_program_run_time_seconds_total", node, &program(1), "0+0.5x60"),
            series("bpf_program_run_time_seconds_total", node, &program(2), "0+2x60"),
            json!({"series": format!(r#"bpf_run_stats_covered_seconds_total{{job="bpf",instance="{node}"}}"#), "values": "0+10x60"}),
            series("bpf_program_info", node, &program_of(1, "shop/cart"), "1x60"),
            series("bpf_program_info", node, &program_of(2, "cilium"), "1x60"),
            series("bpf_map_fill_ratio", node, &map(3), "0.95x60"),
            series("bpf_map_fill_ratio", node, &map(4), "0.2x60"),
            series("bpf_owner_mem_bytes", node, &owner("shop/cart"), "4096x60"),
        ]);
    }
    let found = |name: &str, rest: &str, value: f64| -> Vec<Value> {
        let sample = |node| json!({"labels": labels(name, node, rest), "value": value});
        ["a", "b"].map(sample).into()
    };
    let expected = [
        [found("", &program_of(2, "cilium"), 0.2), found("", &program_of(1, "shop/cart"), 0.05)].concat(),
        found("", &map(3), 0.95),
        found("", &owner("shop/cart"), 4096.0),
    ];
    evaluate(&questions(), &expected, &input);
}

/// Has promtool evaluate each expression after ten minutes of the input.
fn evaluate(expressions: &[String], expected: &[Vec<Value>], input: &[Value]) {
    assert_eq!(expressions.len(), expected.len(), "{expressions:#?}");
    let ask = |(expression, expected): (&String, &Vec<Value>)| {
        // promtool compares to the last bit.
        let rounded = format!("round({expression}, 0.000001)");
        json!({"expr": rounded, "eval_time": "10m", "exp_samples": expected})
    };
    let asked: Vec<Value> = expressions.iter().zip(expected).map(ask).collect();
    let tests = json!({"tests": [{"interval": "10s", "input_series": input, "promql_expr_test": asked}]});

    let scratch = Scratch::new();
    // JSON is YAML.
    let file = scratch.folder("promtool").join("test.yml");
    std::fs::write(&file, tests.to_string()).expect("the folder is new");
    let mut promtool = Command::new(Receiver::Promtool.path());
    let found = promtool.args(["test", "rules"]).arg(&file).output();
    let found = found.unwrap_or_else(|error| panic!("failed to run promtool: {error}"));
    let says = [found.stdout, found.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(found.status.success(), "{}: {}", found.status, says.concat());
}
