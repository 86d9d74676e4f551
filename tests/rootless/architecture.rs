//! The rules of ARCHITECTURE.md that the compiler does not check: which module may name which, and where `unsafe` and async code are
//! allowed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each module and those it may name. `bin` wires, and may name all.
const ARROWS: [(&str, &[&str]); 15] = [
    ("model", &[]),
    ("cli", &["model", "kernel", "enrich", "lookup", "metrics"]),
    ("ascending", &[]),
    ("backoff", &[]),
    ("outage", &[]),
    ("error_chain", &[]),
    ("sys", &["model"]),
    ("host", &["model", "sys"]),
    ("kernel", &["model", "sys", "host", "ascending"]),
    ("enrich", &["model", "host", "kernel", "ascending"]),
    ("lookup", &["enrich", "backoff", "outage", "error_chain"]),
    ("metrics", &["model"]),
    ("source", &["model", "metrics"]),
    ("export", &["model", "metrics", "source", "backoff", "outage", "error_chain"]),
    ("web", &["metrics", "source", "export"]),
];

/// Every source file and its text.
fn sources() -> Vec<(PathBuf, String)> {
    fn collect(directory: &Path, files: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(directory).expect("src can be listed") {
            let path = entry.expect("src can be listed").path();
            if path.is_dir() {
                collect(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source file is text");
                files.push((path, text));
            }
        }
    }
    let mut files = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    assert!(files.len() > 20, "the sources were found");
    files
}

/// The module that a file belongs to: the first part of its path below `src`.
fn module(file: &Path) -> String {
    let below =
        file.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).expect("it is below src");
    let first = below.components().next().expect("it has a name").as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// Returns the modules after each `crate::` outside of comments.
fn named(text: &str) -> BTreeSet<&str> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let paths = code.flat_map(|line| line.split("crate::").skip(1));
    paths
        .map(|path| path.split(|end: char| !end.is_ascii_alphanumeric() && end != '_').next().unwrap_or(path))
        .collect()
}

#[test]
fn arrows_go_one_way() {
    for (file, text) in sources() {
        let module = module(&file);
        if module == "bin" || module == "lib" {
            continue;
        }
        let (_, allowed) = ARROWS
            .iter()
            .find(|(name, _)| *name == module)
            .unwrap_or_else(|| panic!("ARROWS has no entry for the new module {module}"));
        for name in named(&text) {
            let fine = name == module || allowed.contains(&name);
            assert!(fine, "{} names {name}, which {module} must not name", file.display());
        }
    }
}

#[test]
fn unsafe_code_is_only_in_sys() {
    const ALLOWED: [&str; 1] = ["sys"];
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let checked = |file: &Path| !ALLOWED.iter().any(|allowed| file.starts_with(src.join(allowed)));
    for (file, text) in sources().into_iter().filter(|(file, _)| checked(file)) {
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let found = code.flat_map(|line| line.split(|end: char| !end.is_ascii_alphanumeric() && end != '_'));
        assert!(found.into_iter().all(|word| word != "unsafe"), "{} has unsafe code", file.display());
    }
}

#[test]
fn only_network_modules_are_async() {
    for (file, text) in sources() {
        if ["model", "kernel", "enrich", "metrics", "cli"].contains(&&*module(&file)) {
            assert!(!text.contains("async ") && !text.contains("tokio"), "{} is async", file.display());
        }
    }
}

#[test]
fn test_objects_are_independent_of_the_product() {
    let objects = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/src/objects");
    let files = [objects.join("sys"), objects].into_iter().flat_map(|directory| {
        let entries = fs::read_dir(directory).expect("the directory can be listed");
        entries.map(|entry| entry.expect("the directory can be listed").path()).filter(|path| path.is_file())
    });
    let files: Vec<_> = files.collect();
    assert!(files.len() > 30, "the sources were found");
    for file in files {
        let text = fs::read_to_string(&file).expect("a source file is text");
        let is_free = ["use bpf_metrics_exporter", "crate::"].iter().all(|name| !text.contains(name));
        assert!(is_free, "{} names more than the test objects", file.display());
    }
}
