//! A snapshot as tables for a terminal: one per entity, with a column per label and metric.

use std::io::Write;

use tabwriter::TabWriter;

use crate::metrics::{Carries, Entity, Rows, Sample, Value, Visitor, visit};

/// Returns the tables, one below the other.
#[must_use]
pub fn render(sample: Sample<'_>) -> String {
    let mut tables = Tables(TabWriter::new(Vec::new()).padding(2));
    visit(Some(sample), &mut tables);
    let bytes = tables.0.into_inner().expect("writing to a Vec never fails");
    String::from_utf8(bytes).expect("only text was written")
}

struct Tables(TabWriter<Vec<u8>>);

impl Tables {
    fn row(&mut self, cells: impl Iterator<Item = String>) {
        // A tab or a line break in a name would break the table.
        let cells: Vec<String> = cells.map(|cell| cell.replace(char::is_control, "?")).collect();
        writeln!(self.0, "{}", cells.join("\t")).expect("writing to a Vec never fails");
    }
}

impl Visitor for Tables {
    fn entity<T>(&mut self, entity: &'static Entity<T>, rows: Rows, values: Option<&[T]>) {
        let Some(values) = values.filter(|values| !values.is_empty()) else { return };
        // A label that no value has gets no column.
        let labels: Vec<_> = entity
            .labels(Carries::Info)
            .filter(|label| values.iter().any(|value| (label.read)(value).is_some()))
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
                .map(|label| (label.read)(value).map_or(String::new(), |label| label.to_string()));
            let metrics = metrics().map(|metric| match (metric.read)(value) {
                Some(Value::Int(number)) => number.to_string(),
                Some(Value::Float(number)) => format!("{number:.6}"),
                None => String::new(),
            });
            self.row(labels.chain(metrics).map(|cell| if cell.is_empty() { "-".to_owned() } else { cell }));
        }
        // An empty line ends a block of columns.
        writeln!(self.0).expect("writing to a Vec never fails");
    }
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
