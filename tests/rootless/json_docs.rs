//! docs/json.md has every field of every JSON document, and no other.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use bpf_metrics_exporter::export::json;
use bpf_metrics_exporter::metrics::columns::{Filter, Table, TableKind};
use bpf_metrics_exporter::metrics::select::Selected;
use bpf_metrics_exporter::model::{
    Cgroup, Device, FunctionObject, HeldBy, Holder, NetNs, Snapshot, Symbol, Target, Within,
};
use serde_json::Value;
use test_support::golden;

const PAGE: &str = "docs/json.md";

/// The sections of the documents, by their anchors.
const DOCUMENTS: [&str; 3] = ["snapshot", "table-document", "event"];

/// Fields of a section, each with the section that describes its value, if there is one.
type Fields = BTreeMap<String, Option<String>>;

fn page() -> String {
    let path = format!("{}/{PAGE}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).expect("the page is there")
}

/// Returns the tables of fields by the anchors of their sections.
fn sections(page: &str) -> BTreeMap<String, Fields> {
    let mut sections: BTreeMap<String, Fields> = BTreeMap::new();
    let mut anchor = String::new();
    let mut is_table = false;
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix("## ").or_else(|| line.strip_prefix("### ")) {
            anchor = heading.to_lowercase().replace(' ', "-");
        }
        is_table = line == "| field | type | meaning |" || is_table && line.starts_with('|');
        let Some((names, rest)) = line.strip_prefix("| `").and_then(|row| row.split_once(" | ")) else {
            continue;
        };
        if !is_table {
            continue;
        }
        let (described_by, _) = rest.split_once(" |").expect("a row has three cells");
        let of = described_by.split_once("](#").and_then(|(_, link)| link.split_once(')'));
        let of = of.map(|(anchor, _)| anchor.to_owned());
        for name in names.split(", ") {
            let name = name.trim_matches('`').to_owned();
            let fields = sections.entry(anchor.clone()).or_default();
            assert_eq!(fields.insert(name.clone(), of.clone()), None, "{anchor} has {name} twice");
        }
    }
    sections
}

/// What of the page occurs in documents, and what these have besides.
struct Comparison<'a> {
    sections: &'a BTreeMap<String, Fields>,
    seen: BTreeSet<(String, String)>,
    missing: BTreeSet<String>,
}

impl Comparison<'_> {
    /// Compares a value that a section describes; `path` is where it is in that.
    fn visit(&mut self, section: &str, path: &str, value: &Value) {
        let inner: Vec<(String, &Value)> = match value {
            Value::Object(fields) => {
                let join =
                    |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
                fields.iter().map(|(name, value)| (join(name), value)).collect()
            }
            Value::Array(values) => values.iter().map(|value| (format!("{path}[]"), value)).collect(),
            _ => return,
        };
        let any = if path.is_empty() { "*".to_owned() } else { format!("{path}.*") };
        let fields = self.sections.get(section).unwrap_or_else(|| panic!("no section {section}"));
        for (path, value) in inner {
            let path =
                if fields.contains_key(&any) && value_is_named(&path, &any) { any.clone() } else { path };
            match fields.get(&path) {
                None => {
                    self.missing.insert(format!("{section}: {path}"));
                }
                Some(of) => {
                    self.seen.insert((section.to_owned(), path.clone()));
                    match of {
                        Some(of) => self.visit(of, "", value),
                        None => self.visit(section, &path, value),
                    }
                }
            }
        }
    }
}

/// Returns whether a path is that of a field with a name that is not on the page: not of an element of a list.
fn value_is_named(path: &str, any: &str) -> bool {
    !path.ends_with("[]") && path.starts_with(any.trim_end_matches('*'))
}

/// A target of each kind, with all that it can have.
fn targets() -> Vec<Target> {
    let symbol = || Some(Symbol { name: "tcp_connect".into(), offset: 16 });
    let device = || Device { ifindex: 2, name: Some("eth0".into()) };
    let cgroup = || Cgroup { id: 7, path: Some("/a".into()) };
    let function = |object| Target::Function { object, type_id: 3, name: Some("tcp_connect".into()) };
    let within = |within| Target::Iterator { name: "task".into(), within: Some(within) };
    vec![
        Target::RawTracepoint { name: "sched_switch".into() },
        function(FunctionObject::Btf(1)),
        function(FunctionObject::Program(17)),
        function(FunctionObject::BtfOrProgram(1)),
        Target::Cgroup(cgroup()),
        within(Within::Map { id: 5 }),
        within(Within::Cgroup(cgroup())),
        within(Within::Thread { tid: 12 }),
        within(Within::Process { pid: 12 }),
        Target::NetNs { inode: 4_026_531_840 },
        Target::Device(device()),
        Target::Qdisc { device: device(), handle: 1 },
        Target::Class { device: device(), handle: 1 },
        Target::Action { index: 7 },
        Target::Kprobe { symbol: symbol(), at_return: false },
        Target::KprobeMulti { count: 1, single: symbol(), at_return: true },
        Target::Uprobe { path: "/bin/x".into(), offset: 16, at_return: false },
        Target::UprobeMulti { path: "/bin/x".into(), count: 1, single: Some(16), at_return: false },
        Target::Tracepoint { group: Some("sched".into()), name: "sched_switch".into() },
        Target::PerfEvent { event_type: 4, config: 168, unit: Some("cpu".into()) },
        Target::Map { id: 5 },
        Target::StructOps { name: "bbr".into() },
        Target::Netfilter { family: 2, hook: 1, priority: Some(-100) },
    ]
}

/// The golden snapshot, with what it has nothing of.
fn complete() -> Snapshot {
    let mut snapshot = golden::snapshot();
    let links = snapshot.links.as_mut().expect("they were read");
    let template = links[0].clone();
    links.extend(targets().into_iter().map(|target| {
        let mut link = template.clone();
        let facts = (*link.facts).clone();
        link.facts = bpf_metrics_exporter::model::LinkFacts { target: Some(target), ..facts }.into();
        link
    }));
    let holders = snapshot.holders.as_mut().expect("they were read");
    let owner = holders.programs[0].owner.clone();
    holders.btfs.push(Holder { id: 31, held_by: HeldBy::Process, owner });
    let scan = snapshot.hooks.as_deref().expect("there was a scan").clone();
    let namespaces = vec![NetNs { inode: 4_026_531_840, name: Some("blue".into()) }];
    snapshot.hooks = Some(bpf_metrics_exporter::model::AttachmentScan { namespaces, ..scan }.into());
    snapshot.own_programs = vec![2];
    snapshot
}

#[test]
fn every_field_is_on_the_page_and_no_other() {
    // Another test is writing the page then.
    if std::env::var_os("UPDATE").is_some() {
        return;
    }
    let sections = sections(&page());
    let mut comparison = Comparison { sections: &sections, seen: BTreeSet::new(), missing: BTreeSet::new() };
    let snapshot = complete();
    let selected = Selected { dropped: Some(3), ..Selected::all(snapshot.clone().into()) };
    let golden = std::fs::read_to_string(format!("{}/{}", env!("CARGO_MANIFEST_DIR"), golden::SNAPSHOT));
    for text in [json::render(&selected).expect("a snapshot is JSON"), golden.expect("it is there")] {
        comparison.visit("snapshot", "", &serde_json::from_str(&text).expect("it is JSON"));
    }
    for kind in TableKind::ALL {
        let earlier = Snapshot { taken_at: snapshot.first_read_at, ..snapshot.clone() };
        let table = Table::new(kind, &snapshot, Some(&earlier)).expect("it was read");
        let rows = table.select(&Filter::default(), table.default_sort());
        let text = json::table(&table, &snapshot, &rows, None).expect("a table is JSON");
        comparison.visit("table-document", "", &serde_json::from_str(&text).expect("it is JSON"));
    }
    for event in include_str!("../golden/events/events.ndjson").lines() {
        comparison.visit("event", "", &serde_json::from_str(event).expect("it is JSON"));
    }
    assert_eq!(comparison.missing, BTreeSet::new(), "not on the page");
    let on_page = sections
        .iter()
        .flat_map(|(section, fields)| fields.keys().map(move |field| (section.clone(), field.clone())));
    let unknown: Vec<_> = on_page.filter(|field| !comparison.seen.contains(field)).collect();
    assert_eq!(unknown, [], "on the page only");
    assert!(comparison.seen.len() > 250, "{}", comparison.seen.len());
}

#[test]
fn every_section_is_that_of_a_document_or_of_a_field() {
    if std::env::var_os("UPDATE").is_some() {
        return;
    }
    let sections = sections(&page());
    let linked: BTreeSet<&str> =
        sections.values().flat_map(BTreeMap::values).flatten().map(String::as_str).collect();
    for section in sections.keys() {
        assert!(DOCUMENTS.contains(&&**section) || linked.contains(&**section), "{section}");
    }
    for section in linked {
        assert!(sections.contains_key(section), "{section} is linked and not there");
    }
}

#[test]
fn every_column_of_a_table_is_on_the_page() {
    const BEGIN: &str = "<!-- columns: written by UPDATE=1 cargo test --test rootless json_docs -->\n";
    const END: &str = "<!-- end of columns -->\n";
    let page = page();
    let (before, rest) = page.split_once(BEGIN).expect("the page has the beginning");
    let (_, after) = rest.split_once(END).expect("the page has the end");
    let mut columns = String::new();
    for kind in TableKind::ALL {
        let _infallible =
            write!(columns, "\n### {}\n\n| column | title | meaning |\n|---|---|---|\n", kind.title());
        for column in kind.columns() {
            let _infallible = writeln!(
                columns,
                "| `{}` | {} | {} |",
                column.field,
                column.title,
                column.help.replace('|', "\\|")
            );
        }
    }
    golden::assert_golden(PAGE, &format!("{before}{BEGIN}{columns}\n{END}{after}"));
}
