//! Documents generated from tables are up to date, and the table of metrics is consistent.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use test_support::golden;

use bpf_metrics_exporter::cli;
use bpf_metrics_exporter::metrics::{Entity, Rows, Visitor, generate, prometheus_name, visit};
use bpf_metrics_exporter::model::{feature, program_capability};
use bpf_metrics_exporter::sandbox;
use bpf_metrics_exporter::web::bounds;

#[test]
fn docs_metrics_is_up_to_date() {
    golden::assert_golden("docs/metrics.md", &generate::markdown());
}

#[test]
fn docs_opentelemetry_variables_is_up_to_date() {
    golden::assert_golden("docs/opentelemetry-variables.md", &cli::opentelemetry_variables());
}

#[test]
fn docs_privileges_has_the_tables_of_features() {
    assert_has("docs/privileges.md", &format!("{}\n{}", feature::markdown(), sandbox::markdown()));
}

#[test]
fn docs_security_has_the_table_of_capabilities() {
    assert_has("docs/security.md", &program_capability::markdown());
}

#[test]
fn docs_endpoint_has_the_bounds() {
    assert_has("docs/endpoint.md", &bounds::markdown());
}

/// Compares a page with the same page that has a text between its marks.
fn assert_has(page: &str, text: &str) {
    const START: &str = "<!-- generated -->\n";
    const END: &str = "<!-- end -->\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    let found = std::fs::read_to_string(&path).expect("the file is there");
    let (before, rest) = found.split_once(START).expect("the mark is there");
    let (_, after) = rest.split_once(END).expect("the mark is there");
    golden::assert_golden(page, &format!("{before}{START}{text}{END}{after}"));
}

/// Returns the pages of documentation and their texts.
fn documents() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = |directory: &str| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(root.join(directory)).expect("the directory is there");
        let paths = entries.map(|entry| entry.expect("it can be listed").path());
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
    };
    let paths = [pages("."), pages("docs"), pages("docs/decisions"), pages("docs/install")].concat();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("a page is text");
        (path, text)
    };
    paths.into_iter().map(read).collect()
}

#[test]
fn promql_is_marked_so_that_it_is_tested() {
    for (path, document) in documents() {
        for block in document.split("\n```").skip(1).step_by(2).filter(|block| !block.starts_with("promql")) {
            let is_promql = |line: &str| {
                let functions =
                    ["rate(", "increase(", "topk(", "absent(", "sum by", "count by", "max by", "> 0", "== 0"];
                line.contains("bpf_") && functions.iter().any(|function| line.contains(function))
            };
            let found = block.lines().find(|line| is_promql(line));
            assert_eq!(found, None, "{}: the block should begin with ```promql", path.display());
        }
    }
}

#[test]
fn documents_wrap_at_120_columns_and_are_complete() {
    for (path, document) in documents() {
        let mut is_code = false;
        for (number, line) in (1..).zip(document.lines()) {
            is_code ^= line.starts_with("```");
            let is_long = line.chars().count() > 120 && !is_code && !line.starts_with('|');
            assert!(!is_long, "{}:{number} is longer than 120 columns", path.display());
        }
        let placeholder = document
            .split('@')
            .skip(1)
            .step_by(2)
            .find(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase()));
        assert_eq!(placeholder, None, "{} has a placeholder", path.display());
    }
}

#[test]
fn names_are_unique_and_legal_and_have_help() {
    #[derive(Default)]
    struct Check {
        families: BTreeSet<String>,
    }
    impl Visitor for Check {
        fn entity<T>(&mut self, entity: &'static Entity<T>, _rows: Rows, _values: Option<&[T]>) {
            for metric in entity.metrics {
                let family = prometheus_name::family(metric.name, metric.unit);
                let prefixes = ["bpf_", "process_"];
                assert!(prefixes.iter().any(|prefix| metric.name.starts_with(prefix)), "{}", metric.name);
                assert!(metric.help.ends_with('.'), "{} has a sentence for help", metric.name);
                assert!(self.families.insert(family), "{} occurs once", metric.name);
            }
            let labels = || entity.key.iter().chain(entity.info);
            let names: BTreeSet<_> = labels().map(|label| prometheus_name::label(label.name)).collect();
            assert_eq!(names.len(), labels().count(), "each label of {} occurs once", entity.title);
        }
    }
    let mut check = Check::default();
    visit(None, &mut check);
    assert!(check.families.len() > 10, "the table was seen");
}
