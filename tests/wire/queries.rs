//! Every `PromQL` expression in the documents, evaluated by a Prometheus that scrapes two exporters of one host: all ids occur twice,
//! so that an expression that does not join on the instance fails.

use std::fs;
use std::path::{Path, PathBuf};

use test_support::http::free_address;
use test_support::objects::uapi::program_type;
use test_support::objects::{Herd, Link, Map, Program};

use crate::documents::expressions;
use crate::exporter::Exporter;
use crate::processes::{SOON, Scratch, eventually};
use crate::receivers::Prometheus;

/// The page about alerts: its expressions yield what is wrong here, which is nothing, or need the recorded series.
const ALERTS: &str = "alerts.md";

/// Parts of expressions that yield nothing here, and why.
const WITHOUT_DATA: [(&str, &str); 5] = [
    ("unless", "everything is there"),
    ("owner_kind=\"pod\"", "this host has no pods"),
    ("bpf_object_orphan_time", "nothing is left behind"),
    ("write_user_memory", "no program of this host does what the kernel may refuse"),
    ("owner=\"cilium.service\"", "this host has no Cilium"),
];

pub(crate) fn test() {
    let documented: Vec<(String, String)> = documents()
        .into_iter()
        .flat_map(|path| {
            let text =
                fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let name = path.file_name().expect("it is a file").to_string_lossy().into_owned();
            expressions(&text)
                .into_iter()
                .map(move |expression| (name.clone(), expression))
                .collect::<Vec<_>>()
        })
        .collect();
    assert!(documented.len() > 10, "{documented:#?}");
    for (part, reason) in WITHOUT_DATA {
        assert!(documented.iter().any(|(_, expression)| expression.contains(part)), "{part}: {reason}");
    }

    let scratch = Scratch::new();
    let herd = Herd::new(3, 3).expect("the kernel takes a small herd");
    let _full = Map::hash_of(10, 0).expect("the kernel has hash maps");
    let _named = Program::with_full_name("a_name_of_more_than_15_characters").expect("the kernel has BTF");
    let _traced = Link::raw_tracepoint().expect("the kernel has tracepoints");
    let _filtered = Link::cgroup().expect("the kernel has cgroups");
    let flags = ["--hooks-interval", "1s", "--max-series", "1000000"];
    let exporters =
        ["one", "other"].map(|name| Exporter::start(&scratch.folder(name), free_address(), "1s", &flags));
    let prometheus = Prometheus::start(
        &scratch.folder("prometheus"),
        &exporters.each_ref().map(|exporter| exporter.serves),
    );
    for (document, expression) in &documented {
        let has_data = document != ALERTS && !WITHOUT_DATA.iter().any(|(part, _)| expression.contains(part));
        // Without its threshold an alert has a value although nothing is wrong.
        let value = without_threshold(expression);
        eventually(&format!("{document}: {expression}"), SOON, || {
            herd.programs()[0].run(64, 10).expect("it runs");
            drop(Program::ready(program_type::XDP, "wire_lived").expect("the kernel has XDP"));
            prometheus.rows(expression)?;
            match prometheus.rows(value)?.len() {
                0 if has_data => Err(format!("{value} yields nothing")),
                _ => Ok(()),
            }
        });
    }
}

/// Returns the Markdown files of the project.
fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = [root.to_owned(), root.join("docs"), root.join("docs/decisions")];
    let entries = folders.iter().flat_map(|folder| {
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
    });
    let paths = entries.map(|entry| entry.expect("a directory can be read").path());
    let mut documents: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect();
    documents.sort();
    documents
}

/// Returns an expression without the comparison with a number at its end.
fn without_threshold(expression: &str) -> &str {
    let words: Vec<&str> = expression.rsplitn(3, ' ').collect();
    match words[..] {
        [number, ">" | "<" | ">=" | "<=" | "==" | "!=", value] if number.parse::<f64>().is_ok() => value,
        _ => expression,
    }
}
