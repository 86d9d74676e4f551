//! `docs/capacity.md` has the number of series of each thing, and its formula is that of real exports.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bpf_metrics_exporter::export::prometheus::{self, Format};
use bpf_metrics_exporter::metrics::select::{Selected, Selection};
use bpf_metrics_exporter::metrics::{Entity, Rows, Visitor, visit};
use test_support::golden;

use crate::generated::assert_has;

const PAGE: &str = "docs/capacity.md";

/// What there is one value of, by the title of the entity.
const THINGS: [(&str, &str); 41] = [
    ("Programs", "program"),
    ("Maps of programs", "map that a program uses; none with `--no-program-maps`"),
    (
        "Programs, what they can do",
        "[word](security.md) or kfunc of a program: a few, at most 12 words and 64 kfuncs",
    ),
    ("Programs, metadata", "variable `bpf_metadata_*` of a program, at most 16"),
    ("Maps", "map"),
    ("Links", "link"),
    ("BTF objects", "BTF object"),
    (
        "Holders of programs",
        "process, directory of pins or creating cgroup of a program; none with `--no-holders`",
    ),
    ("Holders of maps", "the same of a map"),
    ("Holders of links", "the same of a link"),
    ("Pins", "path in a bpffs"),
    ("Orphans", "object that nothing holds"),
    ("Hooks", "program at a hook"),
    ("Hooks and their targets", "hook with its target"),
    ("Owners", "owner"),
    ("Owners, fingerprints", "owner with programs"),
    ("Owners, what their programs can do", "[word](security.md) of an owner's programs"),
    ("The host", "kind of object: 4"),
    ("The host, fingerprint", "host"),
    ("The host, baseline", "host with `--baseline`"),
    ("Settings of the host", "host"),
    ("Loads of programs", "type and owner of programs that were loaded, at most 1,000"),
    ("Creation of objects", "kind of object: 4"),
    ("Events", "host"),
    ("Dropped series", "host with `--max-series`"),
    ("Run statistics", "`exporter` and `sysctl`: 2"),
    ("Run statistics, covered", "host"),
    ("Readings", "collector: 10"),
    ("Features", "feature: at most 17"),
    ("Issues", "collector, and kind of failure that occurred"),
    ("The exporter", "host"),
    ("The exporter's process", "host"),
    ("The exporter's log", "host"),
    ("OTLP destinations", "destination"),
    ("OTLP points", "destination and outcome: 2"),
    ("Dropped OTLP points", "destination and reason: 4"),
    ("OTLP log records", "destination and outcome: 2"),
    ("Dropped OTLP log records", "destination and reason: 5"),
    ("OTLP requests", "destination and outcome: 4"),
    ("OTLP backlog", "destination"),
    ("Lifetimes of programs", "type of programs that were unloaded"),
];

/// The series of each thing, and how many things and series a snapshot has.
#[derive(Default)]
struct Count {
    each: Vec<(&'static str, u64, bool)>,
    things: BTreeMap<&'static str, u64>,
    series: BTreeMap<&'static str, u64>,
}

impl Visitor for Count {
    fn entity<T>(&mut self, entity: &'static Entity<T>, rows: Rows, values: Option<&[T]>) {
        let each = entity.metrics.iter().map(|metric| metric.kind.series()).sum();
        self.each.push((entity.title, each, entity.object.is_some()));
        let values = values.unwrap_or_default();
        *self.things.entry(entity.title).or_default() += values.len() as u64;
        let of_value = |value| entity.rows(rows).filter(move |(_, metric)| (metric.read)(value).is_some());
        let series = values.iter().flat_map(of_value).map(|(_, metric)| metric.kind.series()).sum::<u64>();
        *self.series.entry(entity.title).or_default() += series;
    }
}

#[test]
fn docs_capacity_has_the_series_of_each_thing() {
    let mut count = Count::default();
    visit(None, &mut count);
    let things = BTreeMap::from(THINGS);
    let titles: Vec<&str> = count.each.iter().map(|(title, ..)| *title).collect();
    let unknown: Vec<_> = titles.iter().filter(|title| !things.contains_key(*title)).collect();
    assert!(
        unknown.is_empty() && things.len() == titles.len(),
        "THINGS does not say what one of {unknown:?} is"
    );
    let mut table = "| | series | for each | selected |\n|---|---|---|---|\n".to_owned();
    for (title, each, is_selected) in count.each {
        let selected = if is_selected { "with its object" } else { "always there" };
        let _infallible = writeln!(table, "| {title} | {each} | {} | {selected} |", things[title]);
    }
    assert_has(PAGE, &table);
}

/// The formula is an upper bound of what a scrape has, and not far from it; and what is counted here is what a scrape has.
#[test]
fn the_formula_is_that_of_a_scrape() {
    let snapshot = golden::snapshot();
    let exporter = golden::exporter(snapshot.reader_started_at);
    let selected = Selection::default().apply(Selected::all(snapshot.into()), Some(&exporter));
    let sample = selected.sample(Some(&exporter));
    let mut count = Count::default();
    visit(Some(sample), &mut count);
    let mut bound = 0;
    for (title, each, _) in &count.each {
        let (things, series) = (count.things[title], count.series[title]);
        assert!(series <= things * each, "{title}: {series} series of {things} things with {each} each");
        bound += things * each;
    }
    let counted: u64 = count.series.values().sum();
    let text = prometheus::render(sample, Format::Text, 0);
    let lines =
        text.lines().filter(|line| !line.starts_with('#') && !line.starts_with("target_info")).count();
    assert_eq!(counted, lines as u64, "what is counted is what a scrape has");
    assert!(bound * 7 / 10 <= counted, "the formula gives {bound} for {counted} series");
}

/// The short form of the formula, for a host with many objects: its factors are those of the table, with a holder for each.
#[test]
fn the_short_formula_has_the_factors_of_the_table() {
    let mut count = Count::default();
    visit(None, &mut count);
    let each = |title: &str| count.each.iter().find(|(other, ..)| *other == title).expect("it is there").1;
    let page =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/capacity.md")).expect("a page");
    let formula = format!(
        "series = {} × programs + {} × maps + {} × links + {} × BTF objects + {} × owners + 400",
        each("Programs") + each("Holders of programs"),
        each("Maps"),
        each("Links") + each("Holders of links"),
        each("BTF objects"),
        each("Owners"),
    );
    assert!(page.contains(&formula), "{PAGE} should have: {formula}");
}

/// Returns the cells of a row of a table.
fn cells(row: &str) -> Vec<&str> {
    row.trim_matches('|').split('|').map(str::trim).collect()
}

/// Returns the rows of the tables that `tests/compare/capacity` wrote, by their cells and without the heads.
fn measured(page: &str) -> Vec<Vec<Vec<&str>>> {
    let (_, rest) = page.split_once("<!-- measured -->").expect("the page has the mark");
    let (tables, _) = rest.split_once("<!-- end -->").expect("the page has the end");
    let tables = tables.split("\n\n").filter(|paragraph| paragraph.starts_with('|'));
    tables.map(|table| table.lines().skip(2).map(cells).collect()).collect()
}

/// Returns numbers with one unit for all, as `1.7 / 2.1 / 2.7 ms` has them: sizes of requests in bytes, others in that unit.
fn quantities(cell: &str) -> Vec<f64> {
    let (numbers, unit) = cell.rsplit_once(' ').expect("a quantity has a unit");
    let factor = match unit {
        "B" | "ms" | "MiB" | "min" => 1.0,
        "kB" => 1e3,
        "MB" => 1e6,
        unknown => panic!("{unknown} is the unit of {cell}"),
    };
    numbers.split(" / ").map(|number| number.parse::<f64>().expect("it is a number") * factor).collect()
}

/// Costs by the number of series are a line through two of the measured rows: it has to be near the others, too.
#[test]
fn the_costs_by_series_are_near_each_measured_row() {
    let page =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/capacity.md")).expect("a page");
    let tables = measured(&page);
    let (nodes, lines) = (&tables[0], &tables[1]);
    assert!(nodes.len() > 2, "two rows are always on their line");
    for node in nodes {
        let series: f64 = node[1].replace(',', "").parse().expect("it is a number");
        let bytes: Vec<f64> = node[2..5].iter().flat_map(|cell| quantities(cell)).collect();
        let costs = [bytes.clone(), quantities(node[5]), quantities(node[7])].concat();
        assert_eq!(costs.len(), lines.len(), "each cost has a line");
        for (line, cost) in lines.iter().zip(costs) {
            let by_line = quantities(line[1])[0] + quantities(line[2])[0] * series / 1_000.0;
            // What Zstandard saves depends on the mix of objects.
            let tolerance = if line[0] == "bytes, zstd" { 1.0 / 3.0 } else { 0.2 };
            assert!(
                (by_line / cost - 1.0).abs() < tolerance,
                "{}, {}: {by_line} by the line, {cost} measured",
                node[0],
                line[0]
            );
        }
        // A cycle each 10 s.
        for (bytes, minutes) in bytes[1..].iter().zip(quantities(node[8])) {
            let lasts = f64::from(32 << 20) / bytes * 10.0 / 60.0;
            assert!(
                (lasts / minutes - 1.0).abs() < 0.05,
                "{}: a backlog of {lasts} minutes, not {minutes}",
                node[0]
            );
        }
    }
}
