//! The expressions of `docs/operations.md` that turn run times into CPU shares, evaluated by Prometheus' own engine.

use std::process::Command;

use serde_json::{Value, json};

use crate::processes::Scratch;
use crate::receivers::Receiver;

const OPERATIONS: &str = include_str!("../../docs/operations.md");

/// Returns the expressions in their order, without comments.
fn documented() -> Vec<&'static str> {
    let section = OPERATIONS.split("## CPU time of programs").nth(1).expect("the section is there");
    let block = section.split("```").nth(1).expect("the expressions are there");
    block.trim().lines().filter_map(|line| Some(line.split('#').next()?.trim())).collect()
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
    let expressions = documented();
    assert_eq!(expressions.len(), expected.len(), "{expressions:#?}");
    let ask = |(expression, expected): (&&str, &Vec<Value>)| {
        // promtool compares to the last bit.
        let rounded = format!("round({expression}, 0.000001)");
        json!({"expr": rounded, "eval_time": "10m", "exp_samples": expected})
    };
    let asked: Vec<Value> = expressions.iter().zip(&expected).map(ask).collect();
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
