//! Everything that is known of one object or owner: the labels and metrics of each entity that is about it.
//! Entry point: [`facts`].

use super::columns::{Cell, RowKey, of_label, of_value};
use super::{Carries, Entity, LabelValue, Rows, Sample, Unit, Visitor, visit};
use crate::model::Snapshot;

/// What one entity knows.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    /// The entity's heading: `Programs, what they can do`.
    pub title: &'static str,
    /// Its values that are about the object: for most entities one.
    pub values: Vec<Vec<Fact>>,
}

/// A label or a metric of a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Fact {
    /// Its name: `owner`, `bpf_program_mem_bytes`.
    pub name: &'static str,
    /// What it means.
    pub help: &'static str,
    /// What it counts.
    pub unit: Unit,
    /// Its value.
    pub cell: Cell<'static>,
}

/// Returns what is known of an object, an owner or an attachment, the entity of the thing itself first; empty if it is not in the
/// snapshot. Labels and metrics without a value are left out, and so are those that only say that there is a value.
#[must_use]
pub fn facts(snapshot: &Snapshot, key: &RowKey) -> Vec<Section> {
    let mut facts = FactsVisitor { key, sections: Vec::new() };
    visit(Some(Sample::new(snapshot)), &mut facts);
    facts.sections
}

/// Returns what the metrics of the exporter itself say, of how its readings went, and of run statistics.
#[must_use]
pub fn of_exporter(sample: Sample<'_>) -> Vec<Section> {
    let mut facts = OfExporter(Vec::new());
    visit(Some(sample), &mut facts);
    facts.0
}

struct OfExporter(Vec<Section>);

impl Visitor for OfExporter {
    fn entity<T>(&mut self, entity: &'static Entity<T>, rows: Rows, values: Option<&[T]>) {
        let is_own = |metric: &super::Metric<T>| {
            ["bpf_exporter_", "bpf_run_stats_", "process_"]
                .iter()
                .any(|prefix| metric.name.starts_with(prefix))
        };
        if !entity.metrics.iter().any(is_own) {
            return;
        }
        let values: Vec<_> =
            values.unwrap_or_default().iter().map(|value| of_value_of(entity, rows, value)).collect();
        if values.iter().any(|facts| !facts.is_empty()) {
            self.0.push(Section { title: entity.title, values });
        }
    }
}

struct FactsVisitor<'a> {
    key: &'a RowKey,
    sections: Vec<Section>,
}

impl FactsVisitor<'_> {
    /// Returns whether a value is about what is asked for.
    fn is_about<T>(&self, entity: &Entity<T>, value: &T) -> bool {
        match self.key {
            RowKey::Object(object) => entity.object.is_some_and(|read| read(value) == *object),
            RowKey::Owner(kind, name) => {
                let label = |sought| entity.key.iter().find(|label| label.name == sought);
                let has = |sought, text: &str| {
                    let value = label(sought).and_then(|label| (label.read)(value));
                    matches!(value, Some(LabelValue::Text(value)) if value == text)
                };
                // An object has its own page.
                entity.object.is_none() && has("owner", name) && has("owner_kind", kind.as_str())
            }
            RowKey::Hook(id) => entity.title == super::table::HOOK.title && (entity.series)(value).id == *id,
        }
    }
}

impl Visitor for FactsVisitor<'_> {
    fn entity<T>(&mut self, entity: &'static Entity<T>, rows: Rows, values: Option<&[T]>) {
        let about = values.unwrap_or_default().iter().filter(|value| self.is_about(entity, value));
        let values: Vec<_> = about.map(|value| of_value_of(entity, rows, value)).collect();
        if !values.is_empty() {
            self.sections.push(Section { title: entity.title, values });
        }
    }
}

fn of_value_of<T>(entity: &'static Entity<T>, rows: Rows, value: &T) -> Vec<Fact> {
    let labels = entity.labels(Carries::Info).filter_map(|label| {
        let cell = of_label((label.read)(value)?).into_owned();
        Some(Fact { name: label.name, help: label.help, unit: Unit::None, cell })
    });
    let metrics = entity.rows(rows).filter(|(_, metric)| metric.carries == Carries::Key);
    let metrics = metrics.filter_map(|(_, metric)| {
        let cell = of_value((metric.read)(value)?).into_owned();
        Some(Fact { name: metric.name, help: metric.help, unit: metric.unit, cell })
    });
    labels.chain(metrics).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::columns::{Table, TableKind};

    #[test]
    fn every_row_of_a_table_has_facts_and_the_first_are_its_own() {
        let text = include_str!("../../tests/golden/node/snapshot.json");
        let snapshot: Snapshot = serde_json::from_str(text).expect("it is a snapshot");
        for kind in TableKind::ALL {
            let table = Table::new(kind, &snapshot, None).expect("it is there");
            for row in 0..table.len() {
                let key = table.key(row);
                let sections = facts(&snapshot, &key);
                assert!(!sections.is_empty(), "{key} has no facts");
                let known = sections.iter().flat_map(|section| section.values.iter().flatten());
                assert!(
                    known.clone().all(|fact| fact.cell.is_known() && !fact.name.ends_with("_info")),
                    "{key}"
                );
                if let RowKey::Object(object) = &key
                    && kind != TableKind::Orphans
                {
                    assert_eq!(sections[0].title, kind.title(), "{key}");
                    let id = sections[0].values[0].iter().find(|fact| fact.name == "id");
                    assert_eq!(id.map(|fact| &fact.cell), Some(&Cell::Int(object.id.into())));
                }
            }
        }
        let program = facts(&snapshot, &"program/1000000".parse().expect("a key"));
        assert_eq!(program, [], "there is no such program");
    }
}
