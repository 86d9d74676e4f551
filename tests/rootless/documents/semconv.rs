//! `docs/semconv/` is what the table of metrics and the events give, as a registry of OpenTelemetry's semantic conventions, and
//! follows the rules of their definition language.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use bpf_metrics_exporter::export::otlp::encode::{AttributeValue, attributes};
use bpf_metrics_exporter::metrics::{Carries, Entity, Label, MetricKind, Rows, Sample, Visitor, visit};
use bpf_metrics_exporter::model::{
    ActorSource, Event, EventKind, EventSource, Feature, HeldBy, IdentifiedBy, Kind, OwnerKind, Part, Subject,
};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use serde_json::Value;
use test_support::golden::{self, assert_golden};
use test_support::snapshots;

use crate::contract::CONTRACT;
use crate::golden_events;

/// Attributes that OpenTelemetry's own registry has: they are referred to and not defined again.
const OFFICIAL: [&str; 12] = [
    "container.id",
    "container.name",
    "container.runtime.name",
    "k8s.container.name",
    "k8s.namespace.name",
    "k8s.pod.name",
    "k8s.pod.uid",
    "process.executable.name",
    "process.executable.path",
    "process.parent_pid",
    "process.pid",
    "thread.id",
];

/// The version of that registry.
const OFFICIAL_VERSION: &str = "1.44.0";

/// The tools demand one. No schema is served there, and nothing fetches one.
const SCHEMA_BASE_URL: &str = "https://bpf-metrics-exporter.invalid/schemas";

const HEAD: &str = "# Made from the table of metrics and the events by `just update`. Do not edit. README.md says how to use it.\n";

/// In so many, each label that may be absent is absent once, and a few more make no difference.
const ARBITRARY_SNAPSHOTS: usize = 64;

/// Attributes of which every value is one of these words.
fn words(attribute: &str) -> Option<Vec<&'static str>> {
    Some(match attribute {
        "kind" | "bpf.object.kind" => Kind::ALL.map(Kind::as_str).into(),
        "collector" => Part::ALL.map(Part::as_str).into(),
        "feature" => Feature::ALL.map(Feature::as_str).into(),
        "owner_kind" => OwnerKind::ALL.map(OwnerKind::as_str).into(),
        "held_by" => [HeldBy::Process, HeldBy::Pin, HeldBy::Creator].map(HeldBy::as_str).into(),
        "identified_by" | "bpf.actor.identified_by" => {
            [IdentifiedBy::Path, IdentifiedBy::Confirmed, IdentifiedBy::Delegated]
                .map(IdentifiedBy::as_str)
                .into()
        }
        "bpf.event.source" => [EventSource::Kernel, EventSource::Comparison].map(EventSource::as_str).into(),
        "bpf.actor.known_by" => {
            [ActorSource::Process, ActorSource::Memory, ActorSource::Unknown].map(ActorSource::as_str).into()
        }
        _ => return None,
    })
}

/// Examples of attributes that the golden snapshot does not have.
const EXAMPLES: [(&str, &[&str]); 3] = [
    ("destination", &["http://collector:4317", "https://vendor:443/v1/metrics"]),
    ("priority", &["-200", "0"]),
    ("symbol", &["do_unlinkat", "vfs_read"]),
];

/// What attributes of events mean that no metric has.
const EVENT_ATTRIBUTES: [(&str, &str); 20] = [
    ("bpf.actor.comm", "Name of the acting process (comm), at most 15 characters."),
    ("bpf.actor.identified_by", "How the pod or container of the acting process is known."),
    (
        "bpf.actor.known_by",
        "How the acting process is known: it was there, had been seen before, or not at all.",
    ),
    ("bpf.event.after", "Date of the reading before, of an event that a comparison of readings found."),
    (
        "bpf.event.number",
        "Number of the event since the exporter was started, from 1; a gap is an event that was not sent.",
    ),
    ("bpf.event.source", "Whether the kernel reported it as it happened, or two readings differ."),
    ("bpf.hook", "The hook, as the kernel's tools spell it."),
    ("bpf.link.id", "Id of the link."),
    ("bpf.link.type", "Type of the link, as the kernel's tools spell it."),
    ("bpf.map.id", "Id of the map."),
    ("bpf.map.name", "Name of the map."),
    ("bpf.map.type", "Type of the map, as the kernel's tools spell it."),
    ("bpf.object.kind", "Kind of the object."),
    ("bpf.object.since", "When the object was loaded or created."),
    ("bpf.pin.path", "Path of the pin."),
    ("bpf.program.id", "Id of the program; of a link or an attachment, of its program."),
    ("bpf.program.name", "Name of the program."),
    ("bpf.program.tag", "Hash of the program's instructions, 16 hexadecimal digits."),
    ("bpf.program.type", "Type of the program, as the kernel's tools spell it."),
    ("bpf.target", "What it is attached to."),
];

/// The labels of each entity that some value is without, by the titles of the entities.
#[derive(Default)]
struct Absent(BTreeSet<(&'static str, &'static str)>);

impl Visitor for Absent {
    fn entity<T>(&mut self, entity: &'static Entity<T>, _rows: Rows, values: Option<&[T]>) {
        for value in values.unwrap_or_default() {
            let missing = entity.labels(Carries::Info).filter(|label| (label.read)(value).is_none());
            self.0.extend(missing.map(|label| (entity.title, label.name)));
        }
    }
}

impl Absent {
    /// Looks for them in the golden snapshot and in arbitrary ones, which are the same each time.
    fn find() -> Self {
        let mut absent = Self::default();
        let golden = golden::snapshot();
        let exporter = golden::exporter(golden.reader_started_at);
        visit(Some(Sample { exporter: Some(&exporter), ..Sample::new(&golden) }), &mut absent);
        let mut runner = TestRunner::deterministic();
        for _ in 0..ARBITRARY_SNAPSHOTS {
            let tree = snapshots::snapshot().new_tree(&mut runner).expect("a snapshot is made");
            visit(Some(Sample::new(&tree.current())), &mut absent);
        }
        absent
    }
}

/// A definition, or several of one name.
#[derive(Default)]
struct Attribute {
    /// What it means, by the metrics that have it.
    meanings: BTreeMap<String, Vec<&'static str>>,
    /// Values of the golden snapshot and events.
    examples: BTreeSet<String>,
    is_number: bool,
    is_stable: bool,
}

#[derive(Default)]
struct Registry {
    absent: Absent,
    attributes: BTreeMap<&'static str, Attribute>,
    metrics: String,
    events: String,
}

/// Returns text as a YAML scalar. Links of the documents are not resolved there: only their words stay.
fn scalar(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("](") {
        let start = before.rfind('[').expect("a link has a text");
        plain.push_str(&before[..start]);
        plain.push_str(&before[start + 1..]);
        rest = after.split_once(')').map_or("", |(_, after)| after);
    }
    plain.push_str(rest);
    serde_json::to_string(&plain).expect("text is JSON, and so YAML")
}

/// Returns a meaning as a sentence.
fn sentence(help: &str) -> String {
    let mut letters = help.chars();
    let first = letters.next().expect("a help is not empty");
    let end = if help.ends_with('.') { "" } else { "." };
    // What begins with code stays as it is.
    format!("{}{}{end}", first.to_uppercase(), letters.as_str())
}

const fn stability(is_stable: bool) -> &'static str {
    if is_stable { "stable" } else { "development" }
}

impl Registry {
    fn reference<T>(&mut self, entity: &Entity<T>, label: &Label<T>) {
        let help = sentence(label.help);
        let _infallible =
            writeln!(self.metrics, "      - ref: {}\n        brief: {}", label.name, scalar(&help));
        let level = match help.find("absent") {
            Some(at) => format!("\n          conditionally_required: {}", scalar(&sentence(&help[at..]))),
            None if self.absent.0.contains(&(entity.title, label.name)) => " recommended".to_owned(),
            None => " required".to_owned(),
        };
        let _infallible = writeln!(self.metrics, "        requirement_level:{level}");
        let attribute = self.attributes.entry(label.name).or_default();
        attribute.meanings.entry(help).or_default().push(entity.title);
    }
}

/// Adds every metric, and the attributes with their values.
impl Visitor for Registry {
    fn entity<T>(&mut self, entity: &'static Entity<T>, _rows: Rows, values: Option<&[T]>) {
        for metric in entity.metrics {
            let instrument = match metric.kind {
                MetricKind::Gauge => "gauge",
                MetricKind::Counter => "counter",
                MetricKind::Histogram { .. } => "histogram",
            };
            let contract = CONTRACT.iter().find(|(name, ..)| *name == metric.name);
            let note = match metric.since {
                "" => format!("Source: {}.", metric.source),
                since => format!("Source: {}, since Linux {since}.", metric.source),
            };
            let _infallible = write!(
                self.metrics,
                "  - id: metric.{name}\n    type: metric\n    metric_name: {name}\n    stability: {}\n    instrument: {instrument}\n    \
                 unit: {}\n    brief: {}\n    note: {}\n",
                stability(contract.is_some()),
                scalar(metric.unit.as_otlp()),
                scalar(metric.help),
                scalar(&note),
                name = metric.name,
            );
            let labels: Vec<_> = entity.labels(metric.carries).collect();
            if !labels.is_empty() {
                self.metrics.push_str("    attributes:\n");
            }
            for label in labels {
                self.reference(entity, label);
                let is_stable = contract.is_some_and(|(.., labels)| labels.contains(&label.name));
                self.attributes.entry(label.name).or_default().is_stable |= is_stable;
            }
        }
        for value in values.unwrap_or_default() {
            for label in entity.labels(Carries::Info) {
                if let Some(read) = (label.read)(value) {
                    let example = read.by(golden_events::clock()).to_string();
                    self.attributes.entry(label.name).or_default().examples.insert(example);
                }
            }
        }
    }
}

impl Registry {
    /// Returns everything that the golden snapshot and the golden events have.
    fn read() -> Self {
        let snapshot = golden::snapshot();
        let exporter = golden::exporter(snapshot.reader_started_at);
        let sample = Sample { exporter: Some(&exporter), dropped: Some(0), ..Sample::new(&snapshot) };
        let mut registry = Self { absent: Absent::find(), ..Self::default() };
        visit(Some(sample), &mut registry);
        registry.add_events();
        for (name, examples) in EXAMPLES {
            let attribute = registry.attributes.get_mut(name).unwrap_or_else(|| panic!("no {name}"));
            assert!(attribute.examples.is_empty(), "{name} has examples of its own");
            attribute.examples = examples.iter().map(|example| (*example).to_owned()).collect();
        }
        registry
    }

    fn add_events(&mut self) {
        let mut by_kind = BTreeMap::<EventKind, BTreeSet<&'static str>>::new();
        let mut of_any_kind = BTreeSet::new();
        for event in golden_events::events().iter().flat_map(about_each_kind) {
            let of_subject = event_attributes(&Event { actor: None, owner: None, ..event.clone() });
            for (key, value) in event_attributes(&event) {
                let names = if of_subject.contains_key(key) {
                    by_kind.entry(event.kind).or_default()
                } else {
                    &mut of_any_kind
                };
                names.insert(key);
                let attribute = self.attributes.entry(key).or_default();
                attribute.is_number = matches!(value, Value::Number(_));
                let example = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
                attribute.examples.insert(example);
            }
        }
        for (name, meaning) in EVENT_ATTRIBUTES {
            let attribute = self.attributes.entry(name).or_default();
            attribute.meanings.entry(meaning.to_owned()).or_default().push("events");
        }
        let always = ["bpf.event.number", "bpf.event.source"];
        for kind in EventKind::ALL {
            let _infallible = write!(
                self.events,
                "  - id: event.{name}\n    type: event\n    name: {name}\n    stability: development\n    brief: {}\n    note: {}\n    \
                 attributes:\n",
                scalar(meaning(kind)),
                scalar(&format!("Severity {}. The body is one line for people.", kind.severity())),
                name = kind.as_str(),
            );
            for name in by_kind[&kind].union(&of_any_kind) {
                let level = if always.contains(name) { "required" } else { "recommended" };
                let _infallible =
                    writeln!(self.events, "      - ref: {name}\n        requirement_level: {level}");
            }
        }
    }

    fn attributes(&self) -> String {
        let mut text = format!(
            "{HEAD}groups:\n  - id: registry.bpf\n    type: attribute_group\n    display_name: BPF attributes\n    brief: Attributes of \
             metrics and events of BPF objects.\n    attributes:\n"
        );
        let mut without_examples = Vec::new();
        for (name, attribute) in self.attributes.iter().filter(|(name, _)| !OFFICIAL.contains(name)) {
            let Attribute { meanings, examples, is_number, is_stable } = attribute;
            let stability = stability(*is_stable);
            let brief = match meanings.keys().next() {
                Some(meaning) if meanings.len() == 1 => meaning.clone(),
                Some(_) => "Its meaning is that of the metric that has it.".to_owned(),
                None => panic!("{name} has no meaning: EVENT_ATTRIBUTES has those that no metric has"),
            };
            let _infallible = writeln!(text, "      - id: {name}");
            let words = words(name);
            match &words {
                Some(words) => {
                    text.push_str("        type:\n          members:\n");
                    for word in words {
                        let _infallible = writeln!(
                            text,
                            "            - id: {word}\n              value: {}\n              stability: {stability}",
                            scalar(word)
                        );
                    }
                    let unknown = examples.iter().find(|example| !words.contains(&&***example));
                    assert_eq!(unknown, None, "{name} has a word that its list has not");
                }
                None => {
                    text.push_str(if *is_number { "        type: int\n" } else { "        type: string\n" });
                }
            }
            let _infallible =
                writeln!(text, "        stability: {stability}\n        brief: {}", scalar(&brief));
            if meanings.len() > 1 {
                let notes =
                    meanings.iter().map(|(meaning, entities)| format!("{}: {meaning}", entities.join(", ")));
                let _infallible =
                    writeln!(text, "        note: {}", scalar(&notes.collect::<Vec<_>>().join(" ")));
            }
            if words.is_none() {
                let examples = examples.iter().filter(|example| !example.is_empty() && example.is_ascii());
                let examples: Vec<_> = examples
                    .take(3)
                    .map(|example| if *is_number { example.clone() } else { scalar(example) })
                    .collect();
                if examples.is_empty() {
                    without_examples.push(name);
                }
                let _infallible = writeln!(text, "        examples: [{}]", examples.join(", "));
            }
        }
        let none: [&&str; 0] = [];
        assert_eq!(without_examples, none, "EXAMPLES has examples that the golden files have not");
        text
    }
}

/// What happened, in one sentence.
const fn meaning(kind: EventKind) -> &'static str {
    match kind {
        EventKind::ProgramLoad => "A program was loaded.",
        EventKind::ProgramUnload => "A program was unloaded.",
        EventKind::ProgramUnexpected => "A program that is not in the baseline was found.",
        EventKind::MapCreate => "A map was created.",
        EventKind::MapDestroy => "A map was destroyed.",
        EventKind::LinkAttach => "A link was created.",
        EventKind::LinkDetach => "A link was detached or destroyed.",
        EventKind::HookAttach => "A program was attached to a hook without a link.",
        EventKind::HookDetach => "A program without a link was detached from a hook.",
        EventKind::PinCreate => "An object was pinned.",
        EventKind::PinRemove => "A pin was removed.",
        EventKind::ObjectOrphan => "The last holder of an object ended, and the object stays loaded.",
    }
}

/// Returns an event, and if objects of several kinds can be its subject, the same of each kind.
fn about_each_kind(event: &Event) -> Vec<Event> {
    let is_of_any =
        matches!(event.kind, EventKind::PinCreate | EventKind::PinRemove | EventKind::ObjectOrphan);
    let kinds = [Kind::Program, Kind::Map, Kind::Link].into_iter().filter(|_| is_of_any);
    let of_kind = kinds.map(|kind| Event {
        subject: Subject { kind: Some(kind), ..event.subject.clone() },
        ..event.clone()
    });
    std::iter::once(event.clone()).chain(of_kind).collect()
}

/// Returns the attributes of an event as values of JSON.
fn event_attributes(event: &Event) -> BTreeMap<&'static str, Value> {
    let mut found = BTreeMap::new();
    attributes(event, golden_events::clock(), |key, value| {
        let value = match value {
            AttributeValue::Text(text) => text.into(),
            AttributeValue::Composed(text) => text.into(),
            AttributeValue::Number(number) => number.into(),
        };
        found.insert(key, value);
    });
    found
}

/// Returns the files of the registry.
fn files() -> [(&'static str, String); 4] {
    let registry = Registry::read();
    let manifest = format!(
        "{HEAD}name: bpf-metrics-exporter\ndescription: {}\nsemconv_version: {}\nschema_base_url: {}\ndependencies:\n  - name: otel\n    \
         registry_path: {}\n",
        scalar("Metrics and events of BPF objects, by bpf-metrics-exporter."),
        env!("CARGO_PKG_VERSION"),
        scalar(SCHEMA_BASE_URL),
        scalar(&format!(
            "https://github.com/open-telemetry/semantic-conventions/archive/refs/tags/v{OFFICIAL_VERSION}.zip[model]"
        )),
    );
    [
        ("docs/semconv/registry_manifest.yaml", manifest),
        ("docs/semconv/attributes.yaml", registry.attributes()),
        ("docs/semconv/metrics.yaml", format!("{HEAD}groups:\n{}", registry.metrics)),
        ("docs/semconv/events.yaml", format!("{HEAD}groups:\n{}", registry.events)),
    ]
}

#[test]
fn docs_semconv_is_up_to_date() {
    for (path, text) in files() {
        assert_golden(path, &text);
    }
}

#[test]
fn docs_otlp_has_each_event_and_its_attributes() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/otlp.md")).expect("a page");
    for event in golden_events::events() {
        let names = event_attributes(&event).into_keys().chain([event.kind.as_str()]);
        let missing: Vec<&str> = names.filter(|name| !page.contains(&format!("`{name}`"))).collect();
        assert!(missing.is_empty(), "docs/otlp.md does not have {missing:?}");
    }
}

/// Checks that a mapping has these fields, and perhaps the others, and nothing else.
fn has_fields(value: &Value, required: &[&str], optional: &[&str]) {
    let fields = value.as_object().unwrap_or_else(|| panic!("not a mapping: {value}"));
    for field in required {
        assert!(fields.contains_key(*field), "{field} is missing: {value}");
    }
    for field in fields.keys() {
        let is_known = required.iter().chain(optional).any(|known| known == field);
        assert!(is_known, "{field} is not known: {value}");
    }
}

/// Checks a name: words in lower case, parted by dots and underscores.
fn is_name(name: &str) -> bool {
    let is_word = |word: &str| {
        let mut letters = word.chars();
        letters.next().is_some_and(|first| first.is_ascii_lowercase())
            && letters.all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit())
    };
    name.split('.')
        .all(|part| part.split('_').all(|word| is_word(word) || word.bytes().all(|b| b.is_ascii_digit())))
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    let text = value[field].as_str().unwrap_or_else(|| panic!("{field} is no text: {value}"));
    assert!(!text.is_empty() || field == "unit", "{field} is empty: {value}");
    text
}

fn check_stability(value: &Value) {
    let levels = ["stable", "development", "alpha", "beta", "release_candidate"];
    assert!(levels.contains(&text(value, "stability")), "{value}");
}

/// Checks the definition of an attribute, and returns its name.
fn check_definition(attribute: &Value) -> String {
    has_fields(attribute, &["id", "type", "stability", "brief"], &["note", "examples"]);
    check_stability(attribute);
    let name = text(attribute, "id");
    assert!(is_name(name), "{name}");
    let examples = || attribute["examples"].as_array().unwrap_or_else(|| panic!("{name} has no examples"));
    match &attribute["type"] {
        Value::String(plain) if plain == "string" => {
            assert!(examples().iter().all(Value::is_string), "{attribute}");
        }
        Value::String(plain) if plain == "int" => {
            assert!(examples().iter().all(Value::is_u64), "{attribute}");
        }
        members => {
            has_fields(members, &["members"], &[]);
            let members = members["members"].as_array().expect("a list");
            let ids: BTreeSet<&str> = members.iter().map(|member| text(member, "id")).collect();
            assert!(ids.len() == members.len() && !ids.is_empty(), "members of {name} are unique");
            for member in members {
                has_fields(member, &["id", "value", "stability"], &[]);
                check_stability(member);
            }
        }
    }
    name.to_owned()
}

/// Checks the reference to an attribute, and returns its name.
fn check_reference(attribute: &Value) -> String {
    has_fields(attribute, &["ref", "requirement_level"], &["brief"]);
    match &attribute["requirement_level"] {
        Value::String(level) => {
            assert!(["required", "recommended", "opt_in"].contains(&&**level), "{attribute}");
        }
        condition => {
            has_fields(condition, &["conditionally_required"], &[]);
            text(condition, "conditionally_required");
        }
    }
    text(attribute, "ref").to_owned()
}

/// Returns whether a unit is one of UCUM: of those that a metric here can have, or an annotation.
fn is_ucum(unit: &str) -> bool {
    let is_annotation = |unit: &str| {
        let inner = unit.strip_prefix('{').and_then(|unit| unit.strip_suffix('}'));
        inner.is_some_and(|inner| {
            !inner.is_empty() && inner.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        })
    };
    ["", "1", "s", "By"].contains(&unit) || is_annotation(unit)
}

#[test]
fn the_registry_follows_the_definition_language() {
    let parse = |(path, text): (&str, String)| -> Value {
        serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{path} is not YAML: {error}"))
    };
    let [manifest, attributes, metrics, events] = files().map(parse);
    let fields = ["name", "description", "semconv_version", "schema_base_url", "dependencies"];
    has_fields(&manifest, &fields, &[]);
    let mut ids = BTreeSet::new();
    let (mut defined, mut referred) = (BTreeSet::new(), BTreeSet::new());
    let mut groups = 0;
    for document in [attributes, metrics, events] {
        has_fields(&document, &["groups"], &[]);
        for group in document["groups"].as_array().expect("a list") {
            groups += 1;
            assert!(ids.insert(text(group, "id").to_owned()), "{} occurs once", group["id"]);
            text(group, "brief");
            let of_group = group.get("attributes").map_or(&[][..], |list| list.as_array().expect("a list"));
            match text(group, "type") {
                "attribute_group" => {
                    has_fields(group, &["id", "type", "brief", "attributes"], &["display_name"]);
                    for attribute in of_group {
                        assert!(defined.insert(check_definition(attribute)), "{attribute} is defined once");
                    }
                    continue;
                }
                "metric" => {
                    let required =
                        ["id", "type", "metric_name", "stability", "instrument", "unit", "brief", "note"];
                    has_fields(group, &required, &["attributes"]);
                    let name = text(group, "metric_name");
                    assert!(is_name(name) && text(group, "id") == format!("metric.{name}"), "{group}");
                    let instruments = ["counter", "gauge", "histogram", "updowncounter"];
                    assert!(instruments.contains(&text(group, "instrument")), "{group}");
                    assert!(is_ucum(text(group, "unit")), "{group}");
                }
                "event" => {
                    has_fields(
                        group,
                        &["id", "type", "name", "stability", "brief", "note", "attributes"],
                        &[],
                    );
                    let name = text(group, "name");
                    assert!(is_name(name) && text(group, "id") == format!("event.{name}"), "{group}");
                }
                other => panic!("{other} is no type of a group here"),
            }
            check_stability(group);
            let names: Vec<String> = of_group.iter().map(check_reference).collect();
            let unique: BTreeSet<&String> = names.iter().collect();
            assert_eq!(unique.len(), names.len(), "{} has each attribute once", group["id"]);
            referred.extend(names);
        }
    }
    assert!(groups > 90, "{groups} groups were read");
    let official: BTreeSet<String> = OFFICIAL.map(ToOwned::to_owned).into();
    let known: BTreeSet<String> = defined.union(&official).cloned().collect();
    assert_eq!(referred, known, "attributes that are referred to, and those that are defined");
    assert!(defined.is_disjoint(&official));
}
