//! Every series of a snapshot as tables: one per entity, with a column per label and metric. Entry point: [`render`].

use std::io::Write;

use tabwriter::TabWriter;

use crate::metrics::{Carries, Entity, Label, LabelValue, Rows, Sample, Value, Visitor, visit};
use crate::model::{Histogram, WallClock};
use crate::text::visible;

/// Returns the tables, one below the other.
#[must_use]
pub fn render(sample: Sample<'_>) -> String {
    let mut tables = Tables { writer: TabWriter::new(Vec::new()).padding(2), clock: sample.snapshot.clock };
    visit(Some(sample), &mut tables);
    let bytes = tables.writer.into_inner().expect("writing to a Vec never fails");
    String::from_utf8(bytes).expect("only text was written")
}

struct Tables {
    writer: TabWriter<Vec<u8>>,
    clock: WallClock,
}

impl Tables {
    fn row(&mut self, cells: impl Iterator<Item = String>) {
        // The snapshot may be from a file of any origin; and a tab or a line break would break the table.
        let cells: Vec<String> = cells.map(|cell| visible(&cell).into_owned()).collect();
        writeln!(self.writer, "{}", cells.join("\t")).expect("writing to a Vec never fails");
    }
}

impl Visitor for Tables {
    fn entity<T>(&mut self, entity: &'static Entity<T>, rows: Rows, values: Option<&[T]>) {
        let clock = self.clock;
        let Some(values) = values.filter(|values| !values.is_empty()) else { return };
        // A label that no value has gets no column, nor does one for joins that repeats the id: `prog_id` of a program.
        let labels: Vec<_> = entity
            .labels(Carries::Info)
            .filter(|label| values.iter().any(|value| (label.read)(value).is_some()))
            .filter(|label| !repeats_id(entity, label, values))
            .collect();
        let prefix = common_prefix(entity.metrics.iter().map(|metric| metric.name));
        let short = |name: &'static str| name.strip_prefix(prefix).unwrap_or(name);
        // A metric without a value of its own, or with that of a label, gets no column.
        let is_label = |name: &'static str| labels.iter().any(|label| label.name == short(name));
        let metrics = || {
            let shown = entity.rows(rows).map(|(_, metric)| metric);
            shown.filter(|metric| metric.carries == Carries::Key && !is_label(metric.name))
        };

        self.row(std::iter::once(entity.title.to_owned()));
        let names = labels.iter().map(|label| label.name).chain(metrics().map(|metric| short(metric.name)));
        self.row(names.map(str::to_uppercase));
        for value in values {
            let labels = labels
                .iter()
                .map(|label| (label.read)(value).map_or(String::new(), |label| label.by(clock).to_string()));
            let metrics = metrics().map(|metric| match (metric.read)(value) {
                Some(Value::Int(number)) => number.to_string(),
                Some(Value::Time(time)) => clock.second(time).as_second().to_string(),
                Some(Value::Float(number)) => format!("{number:.6}"),
                Some(Value::Histogram(histogram)) => distribution(histogram),
                None => String::new(),
            });
            self.row(labels.chain(metrics).map(|cell| if cell.is_empty() { "-".to_owned() } else { cell }));
        }
        // An empty line ends a block of columns.
        writeln!(self.writer).expect("writing to a Vec never fails");
    }
}

/// Returns how many values a histogram has, and their mean.
fn distribution(histogram: &Histogram) -> String {
    let count = histogram.count();
    histogram.mean().map_or_else(|| count.to_string(), |mean| format!("{count}, mean {mean:.6}"))
}

/// Returns whether a label has the same number as the label `id`, for each value.
fn repeats_id<T>(entity: &Entity<T>, label: &Label<T>, values: &[T]) -> bool {
    let Some(id) = entity.key.iter().find(|key| key.name == "id" && key.name != label.name) else {
        return false;
    };
    let is_same = |value| match ((label.read)(value), (id.read)(value)) {
        (Some(LabelValue::Number(number)), Some(LabelValue::Number(id))) => number == id,
        _ => false,
    };
    values.iter().all(is_same)
}

/// Returns the common prefix of the names of all metrics of an entity, up to an underscore: `bpf_program_`.
fn common_prefix(names: impl Iterator<Item = &'static str>) -> &'static str {
    let common = names.reduce(|common, name| {
        let same = common.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
        &common[..same]
    });
    let common = common.unwrap_or("");
    &common[..common.rfind('_').map_or(0, |end| end + 1)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BootTime, Kind, Pin, Snapshot};

    #[test]
    fn a_value_cannot_add_lines_or_reorder_text() {
        let pin = |path: &str| Pin {
            kind: Kind::Map,
            id: 7,
            path: path.into(),
            directory: path.into(),
            bpffs: None,
        };
        let pins = Some(vec![pin("/b/one\n8\t\u{1b}[1m"), pin("/b/two\u{202e}\u{200b}")]);
        let start = BootTime::default();
        let snapshot = Snapshot { pins, ..Snapshot::begun(start, start, WallClock::default()) };
        let table = render(Sample::new(&snapshot));
        assert!(table.contains("/b/one\\x0a8\\x09\\x1b[1m"), "{table}");
        assert!(table.contains("/b/two\\u{202e}\\u{200b}"), "{table}");
        assert!(!table.contains(|c| c != '\n' && crate::text::is_invisible(c)), "{table}");
    }
}
