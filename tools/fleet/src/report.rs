//! The tables and plots of the page, made of the results. Entry point: [`write()`].

use std::fs;
use std::path::Path;

use anyhow::Context as _;

use crate::figures::{
    Clocks, Conditions, Expressions, Fate, Growth, Outage, Results, Second, Upgrade, Variant, Window,
};
use crate::plot::Plot;
use crate::receivers::StoreKind::{self, Prometheus, Victoria};
use crate::runs::{quantities, straight_line};

/// The file of results, from the root of the repository.
pub const RESULTS: &str = "tools/fleet/results.json";

/// The page.
const PAGE: &str = "docs/fleet.md";

/// The number of nodes of the estimate.
const LARGE: f64 = 10_000.0;

/// Writes the tables between the marks of the page, and the plots.
///
/// # Errors
///
/// If a file cannot be written, or a mark is missing.
pub fn write(root: &Path, results: &Results) -> anyhow::Result<()> {
    let path = root.join(PAGE);
    let page = fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
    fs::write(&path, with_tables(page, results)?)?;
    for (name, svg) in plots(results)? {
        fs::write(root.join(format!("docs/images/{name}.svg")), svg)?;
    }
    Ok(())
}

/// Returns the page with the tables of results.
fn with_tables(mut page: String, results: &Results) -> anyhow::Result<String> {
    let mut tables =
        vec![("conditions", conditions(&results.conditions)), ("measured", measured_table(results))];
    if let Some(growth) = &results.growth {
        tables.push(("growth", growth_table(growth)));
        tables.push(("line", line_table(growth)));
        tables.push(("expressions", expressions_table(&growth.expressions)));
    }
    tables.extend(results.options.iter().map(|variants| ("options", options_table(variants))));
    tables.extend(results.outage.iter().map(|outage| ("outage", outage_table(outage))));
    tables.extend(results.upgrade.iter().map(|upgrade| ("upgrade", upgrade_table(upgrade))));
    tables.extend(results.clocks.iter().map(|clocks| ("clocks", clocks_table(clocks))));
    for (name, table) in tables {
        let [begin, end] = [format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->")];
        let from = page.find(&begin).with_context(|| format!("{PAGE} has no {begin}"))? + begin.len();
        let to = page.find(&end).with_context(|| format!("{PAGE} has no {end}"))?;
        page.replace_range(from..to, &table);
    }
    Ok(page)
}

/// Returns the plots by their names.
fn plots(results: &Results) -> anyhow::Result<Vec<(&'static str, String)>> {
    let mut plots = Vec::new();
    if let Some(growth) = &results.growth {
        plots.push(("fleet-growth", growth_plot(growth)?));
    }
    if let Some(outage) = &results.outage {
        plots.push(("fleet-outage", outage_plot(outage)?));
        plots.push(("fleet-backlog", backlog_plot(outage)?));
    }
    if let Some(upgrade) = &results.upgrade {
        plots.push(("fleet-upgrade", upgrade_plot(upgrade)?));
    }
    Ok(plots)
}

/// Returns a table with these heads and rows.
fn table(heads: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut text = format!("| {} |\n|{}\n", heads.join(" | "), "---|".repeat(heads.len()));
    for row in rows {
        text.extend(["| ", &row.join(" | "), " |\n"]);
    }
    text
}

/// Returns a number with a prefix of its unit and three digits.
fn unit(number: f64, unit: &str) -> String {
    for (factor, prefix) in [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")] {
        if number.abs() >= factor {
            return format!("{} {prefix}{unit}", digits(number / factor));
        }
    }
    format!("{} {unit}", digits(number)).trim_end().to_owned()
}

/// Returns a number with three digits.
fn digits(number: f64) -> String {
    match number.abs() {
        0.0..10.0 => format!("{number:.2}"),
        10.0..100.0 => format!("{number:.1}"),
        _ => format!("{number:.0}"),
    }
}

fn mebibytes(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "–".to_owned(), |bytes| format!("{} MiB", bytes >> 20))
}

#[expect(clippy::cast_precision_loss, reason = "a run counts less than 2^52")]
fn float(number: u64) -> f64 {
    number as f64
}

fn milliseconds(window: &Window, seconds: Option<f64>) -> String {
    seconds.map_or_else(|| "–".to_owned(), |seconds| digits(window.each(seconds) * 1000.0))
}

fn percent(window: &Window, seconds: Option<f64>) -> String {
    seconds
        .map_or_else(|| "–".to_owned(), |seconds| format!("{} %", digits(seconds / window.seconds * 100.0)))
}

fn series(window: &Window, kind: StoreKind) -> String {
    window.store(kind).map_or_else(|| "–".to_owned(), |store| unit(float(store.series), ""))
}

fn conditions(conditions: &Conditions) -> String {
    let Conditions { date, kernel, cpus, versions, optimized, others: _ } = conditions;
    let versions: Vec<String> = versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let build = if *optimized { "optimized" } else { "not optimized" };
    format!("{date}, Linux {kernel}, {cpus} CPUs; {build}; {}.\n", versions.join(",\n"))
}

/// Returns what was measured of each part, and how busy other programs kept the machine.
fn measured_table(results: &Results) -> String {
    let mut rows = Vec::new();
    let mut row = |part: &str, what: String, nodes: usize, interval: f64, seconds: f64, stores: &str| {
        let others = results.conditions.others.get(part);
        let others = others.map_or_else(|| "–".to_owned(), |share| format!("{:.0} %", share * 100.0));
        let [interval, seconds] = [interval, seconds].map(|seconds| format!("{seconds:.0} s"));
        rows.push(vec![what, nodes.to_string(), interval, seconds, stores.to_owned(), others]);
    };
    let both = "both";
    for window in results.growth.iter().flat_map(|growth| &growth.windows) {
        row("growth", "more and more nodes".to_owned(), window.nodes, window.interval, window.seconds, both);
    }
    for Variant { flags, window } in results.options.iter().flatten() {
        let name =
            if flags.is_empty() { "without flags".to_owned() } else { format!("`{}`", flags.join(" ")) };
        row("options", name, window.nodes, window.interval, window.seconds, both);
    }
    if let Some(Outage { nodes, interval, seconds, .. }) = &results.outage {
        #[expect(clippy::cast_precision_loss, reason = "seconds of a run")]
        let seconds = seconds.len() as f64;
        row("outage", "without a gateway".to_owned(), *nodes, *interval, seconds, both);
    }
    if let Some(Upgrade { nodes, interval, counts, .. }) = &results.upgrade {
        let seconds = counts.last().map_or(0.0, |(at, _)| *at);
        row("upgrade", "an upgrade".to_owned(), *nodes, *interval, seconds, both);
    }
    if let Some(Clocks { interval, seconds, nodes, .. }) = &results.clocks {
        row("clocks", "a wrong clock, of one node each".to_owned(), nodes.len(), *interval, *seconds, both);
    }
    table(&["part", "nodes", "interval", "measured for", "stores", "CPUs used by others"], rows)
}

fn growth_table(growth: &Growth) -> String {
    let fleet = growth.windows.iter().map(|window| {
        let per_second = |number: u64, what: &str| unit(float(number) / window.seconds, what);
        let Window { cpu, memory, .. } = window;
        vec![
            window.nodes.to_string(),
            format!("{:.0} s", window.seconds),
            format!("{} / {}", series(window, Prometheus), series(window, Victoria)),
            per_second(window.points, "/s"),
            per_second(window.to_gateway, "B/s"),
            percent(window, Some(cpu.encoding + cpu.delivery)),
            percent(window, Some(cpu.gateway)),
            format!("{} / {}", percent(window, cpu.prometheus), percent(window, cpu.victoria)),
            mebibytes(Some(memory.gateway)),
            format!("{} / {}", mebibytes(memory.prometheus), mebibytes(memory.victoria)),
            (window.dropped + window.refused + window.failed).to_string(),
        ]
    });
    let heads = [
        "nodes",
        "measured",
        "series",
        "points",
        "to the gateway",
        "CPU, all exporters",
        "CPU, gateway",
        "CPU, stores",
        "memory, gateway",
        "memory, stores",
        "points lost",
    ];
    let each = growth.windows.iter().map(|window| {
        vec![
            window.nodes.to_string(),
            digits(window.objects),
            digits(window.each(float(window.points))),
            unit(window.each(float(window.to_gateway)), "B"),
            milliseconds(window, Some(window.cpu.encoding)),
            milliseconds(window, Some(window.cpu.delivery)),
            milliseconds(window, Some(window.cpu.gateway)),
            milliseconds(window, window.cpu.prometheus),
            milliseconds(window, window.cpu.victoria),
        ]
    });
    let interval = growth.windows.first().map_or(0.0, |window| window.interval);
    format!(
        "The fleet, each node every {interval:.0} s; CPU in percent of one core:\n\n{}\n\
         A push of one node, CPU in milliseconds:\n\n{}",
        table(&heads, fleet),
        table(
            &[
                "nodes",
                "objects",
                "points",
                "bytes",
                "encoding",
                "delivery",
                "gateway",
                "Prometheus",
                "VictoriaMetrics"
            ],
            each
        ),
    )
}

/// Returns a value of [`quantities`] with its unit.
fn quantity(name: &str, value: f64) -> String {
    if name.starts_with("CPU") {
        format!("{} % of a core", digits(value * 100.0))
    } else if name.starts_with("memory") {
        unit(value, "B")
    } else if name.starts_with("bytes") {
        unit(value, "B/s")
    } else if name.starts_with("points") {
        unit(value, "/s")
    } else {
        unit(value, "")
    }
}

fn line_table(growth: &Growth) -> String {
    let Some(last) = growth.windows.last() else { return String::new() };
    let names = quantities(last);
    let rows = names.iter().enumerate().filter_map(|(place, &(name, measured))| {
        let points = growth.windows.iter().map(|window| {
            #[expect(clippy::cast_precision_loss, reason = "there are few nodes")]
            let nodes = window.nodes as f64;
            Some((nodes, quantities(window).get(place)?.1))
        });
        let points: Vec<(f64, f64)> = points.collect::<Option<_>>()?;
        let (at_zero, slope) = straight_line(&points)?;
        let furthest =
            points.iter().map(|(nodes, value)| ((at_zero + slope * nodes - value) / measured).abs());
        Some(vec![
            name.to_owned(),
            quantity(name, at_zero),
            quantity(name, slope * 1000.0),
            format!("{:.0} %", furthest.fold(0.0, f64::max) * 100.0),
            quantity(name, measured),
            quantity(name, at_zero + slope * LARGE),
        ])
    });
    let measured = format!("measured, {} nodes", last.nodes);
    table(&["", "fixed", "each 1,000 nodes", "furthest", &measured, "10,000 nodes"], rows)
}

fn options_table(variants: &[Variant]) -> String {
    let default = variants.first().map(|variant| &variant.window);
    let rows = variants.iter().map(|Variant { flags, window }| {
        let plain =
            default.filter(|_| flags.len() == 2 && flags[0] == "--otlp-compression").unwrap_or(window);
        let is_compressed = flags.iter().any(|flag| flag == "--otlp-compression");
        let plain = if is_compressed && flags.len() > 2 {
            // What is left out is not known without compression.
            variants.iter().find(|other| other.flags[..] == flags[..2]).map_or(plain, |other| &other.window)
        } else {
            plain
        };
        let name = if flags.is_empty() { "none".to_owned() } else { format!("`{}`", flags.join(" ")) };
        let created = |kind| {
            window.store(kind).map_or(0.0, |store| float(store.series_created) * 60.0 / window.seconds)
        };
        vec![
            name,
            digits(window.each(float(window.points))),
            unit(plain.each(float(plain.to_gateway)), "B"),
            unit(window.each(float(window.to_gateway)), "B"),
            milliseconds(window, Some(window.cpu.encoding)),
            milliseconds(window, Some(window.cpu.delivery)),
            milliseconds(window, Some(window.cpu.gateway)),
            milliseconds(window, window.cpu.prometheus),
            milliseconds(window, window.cpu.victoria),
            format!("{} / {}", series(window, Prometheus), series(window, Victoria)),
            digits(created(Prometheus)),
            format!("{} / {}", window.refused, window.dropped + window.failed),
        ]
    });
    let (nodes, interval) = default.map_or((0, 0.0), |window| (window.nodes, window.interval));
    let heads = [
        "flags",
        "points",
        "bytes, plain",
        "bytes, sent",
        "encoding",
        "delivery",
        "gateway",
        "Prometheus",
        "VictoriaMetrics",
        "active series",
        "new series a minute",
        "points refused / lost",
    ];
    format!(
        "{nodes} nodes, every {interval:.0} s, both stores. Points, bytes and milliseconds of CPU are those of one push:\n\n{}",
        table(&heads, rows)
    )
}

fn outage_table(outage: &Outage) -> String {
    let absences = outage.absences.iter().map(|absence| {
        let [from, to] = absence.between;
        let (during, after) = (&outage.seconds[from..to], outage.after(absence));
        let most =
            |seconds: &[Second], of: fn(&Second) -> u64| seconds.iter().map(of).max().unwrap_or_default();
        let recovered = outage.recovered_after(absence);
        vec![
            absence.what.clone(),
            format!("{} s", to - from),
            most(during, |second| second.failures).to_string(),
            unit(float(most(during, |second| second.backlog)), "B"),
            most(after, |second| second.connections).to_string(),
            most(after, |second| second.requests).to_string(),
            recovered.map_or_else(|| "not yet".to_owned(), |seconds| format!("{seconds} s")),
        ]
    });
    let absences = table(
        &[
            "",
            "for",
            "failed attempts in a second",
            "backlog of all nodes",
            "then: connections in a second",
            "requests in a second",
            "backlog gone after",
        ],
        absences,
    );
    let stored = |fate: &Fate, kind: StoreKind| {
        let stored = fate.stored.get(kind.name()).copied().unwrap_or_default();
        format!("{stored}, {} lost", i128::from(fate.readings) - i128::from(stored))
    };
    let fates = outage.fates.iter().map(|fate| {
        vec![
            fate.nodes.clone(),
            fate.readings.to_string(),
            stored(fate, Prometheus),
            stored(fate, Victoria),
            fate.dropped.to_string(),
        ]
    });
    let heads = ["nodes", "readings", "in Prometheus", "in VictoriaMetrics", "points dropped and counted"];
    format!("{} nodes, every {:.0} s.\n\n{absences}\n{}", outage.nodes, outage.interval, table(&heads, fates))
}

fn upgrade_table(upgrade: &Upgrade) -> String {
    let most = |place: usize| upgrade.counts.iter().map(|(_, counts)| counts[place]).fold(0.0, f64::max);
    #[expect(clippy::cast_precision_loss, reason = "there are few nodes")]
    let nodes = upgrade.nodes as f64;
    let mut rows = vec![
        vec!["nodes".to_owned(), upgrade.nodes.to_string()],
        vec!["from the first to the last".to_owned(), format!("{:.0} s", upgrade.seconds)],
    ];
    for (store, [before, after]) in &upgrade.series {
        rows.push(vec![
            format!("new series for each node in {}", store_title(store)),
            digits((float(*after) - float(*before)) / nodes),
        ]);
    }
    rows.extend([
        vec!["`target_info` at most, one for each node before".to_owned(), digits(most(2))],
        vec!["longest time between two points, before".to_owned(), format!("{:.1} s", upgrade.gaps[0])],
        vec!["longest time between two points, during it".to_owned(), format!("{:.1} s", upgrade.gaps[1])],
        vec!["alerts with a result that had none before".to_owned(), list(&upgrade.alerts)],
    ]);
    let names =
        upgrade.new_series.iter().take(12).map(|(name, each)| vec![format!("`{name}`"), digits(*each)]);
    format!(
        "{}\nMetrics with more series in Prometheus right after the upgrade than before it, for each node:\n\n{}",
        table(&["", ""], rows),
        table(&["metric", "more series"], names)
    )
}

fn store_title(name: &str) -> &str {
    match name {
        "prometheus" => "Prometheus",
        "victoria" => "VictoriaMetrics",
        other => other,
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn clocks_table(clocks: &Clocks) -> String {
    let rows = clocks.nodes.iter().map(|clock| {
        let stored = |kind: StoreKind| {
            let stored = clock.stored.get(kind.name()).copied().unwrap_or_default();
            let visible = clock.visible.get(kind.name()).copied().unwrap_or_default();
            format!("{stored}{}", if visible { "" } else { ", not shown now" })
        };
        vec![
            ahead(clock.error),
            clock.readings.to_string(),
            clock.acknowledged.to_string(),
            clock.lost.to_string(),
            stored(Prometheus),
            stored(Victoria),
            list(&clock.alerts),
        ]
    });
    let heads = [
        "the clock is",
        "readings",
        "points acknowledged",
        "points that the exporter counts as lost",
        "readings in Prometheus",
        "readings in VictoriaMetrics",
        "alerts",
    ];
    format!(
        "{}\nThe gateway dropped {} points after it had acknowledged them, which it counts in\n\
         `otelcol_exporter_send_failed_metric_points_total` and says in its log:\n`{}`\n",
        table(&heads, rows),
        clocks.gateway_failed,
        clocks.gateway_log.as_deref().map_or_else(|| "nothing".to_owned(), without_address),
    )
}

/// Returns the reason in a line of the Collector's log, without the address, which differs from run to run.
fn without_address(line: &str) -> String {
    let reason = line.split(" desc = ").nth(1).unwrap_or(line);
    let reason = reason.split('"').next().unwrap_or(reason);
    let word = |word: &str| if word.starts_with("http://") { "…".to_owned() } else { word.to_owned() };
    reason.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

fn ahead(seconds: i64) -> String {
    let word = if seconds < 0 { "slow" } else { "fast" };
    let (number, unit) = match seconds.abs() {
        0..3_600 => (seconds.abs() / 60, "min"),
        _ => (seconds.abs() / 3_600, "h"),
    };
    format!("{number} {unit} {word}")
}

fn expressions_table(expressions: &[Expressions]) -> String {
    let rows = expressions.iter().map(|of| {
        let (slowest, name) = &of.slowest;
        vec![
            of.origin.clone(),
            of.expressions.to_string(),
            (of.expressions - of.empty.len() - of.failed.len()).to_string(),
            of.failed.len().to_string(),
            format!("{:.2} s", of.seconds),
            format!("{slowest:.2} s, {name}"),
        ]
    });
    table(&["expressions", "number", "with data", "failed", "all of them", "slowest"], rows)
}

fn growth_plot(growth: &Growth) -> anyhow::Result<String> {
    let line = |of: fn(&Window) -> Option<f64>| {
        let point = |window: &Window| {
            #[expect(clippy::cast_precision_loss, reason = "there are few nodes")]
            let nodes = window.nodes as f64;
            Some((nodes, of(window)? / window.seconds * 100.0))
        };
        growth.windows.iter().filter_map(point).collect::<Vec<_>>()
    };
    let lines = vec![
        ("all exporters", line(|window| Some(window.cpu.encoding + window.cpu.delivery))),
        ("gateway", line(|window| Some(window.cpu.gateway))),
        ("Prometheus", line(|window| window.cpu.prometheus)),
        ("VictoriaMetrics", line(|window| window.cpu.victoria)),
    ];
    let lines = lines.into_iter().filter(|(_, points)| !points.is_empty()).collect();
    Plot { across: "nodes", up: "percent of one core", lines, shaded: Vec::new(), marked: true }.draw()
}

fn shaded(outage: &Outage) -> Vec<(&'static str, [f64; 2])> {
    let words = ["out of reach", "killed"];
    #[expect(clippy::cast_precision_loss, reason = "seconds of a run")]
    let time = |between: [usize; 2]| between.map(|second| second as f64);
    outage.absences.iter().zip(words).map(|(absence, word)| (word, time(absence.between))).collect()
}

fn by_second(outage: &Outage, of: fn(&Second) -> u64) -> Vec<(f64, f64)> {
    #[expect(clippy::cast_precision_loss, reason = "seconds of a run")]
    let point = |(second, counts)| (second as f64, float(of(counts)));
    outage.seconds.iter().enumerate().map(point).collect()
}

fn outage_plot(outage: &Outage) -> anyhow::Result<String> {
    let lines = vec![
        ("requests", by_second(outage, |second| second.requests)),
        ("connections", by_second(outage, |second| second.connections)),
        ("failed attempts", by_second(outage, |second| second.failures)),
    ];
    Plot { across: "seconds", up: "in each second", lines, shaded: shaded(outage), marked: false }.draw()
}

fn backlog_plot(outage: &Outage) -> anyhow::Result<String> {
    let lines = vec![("bytes that wait at all nodes", by_second(outage, |second| second.backlog))];
    Plot { across: "seconds", up: "bytes", lines, shaded: shaded(outage), marked: false }.draw()
}

fn upgrade_plot(upgrade: &Upgrade) -> anyhow::Result<String> {
    let line = |place: usize| upgrade.counts.iter().map(|(at, counts)| (*at, counts[place])).collect();
    let lines =
        vec![("build_info, before", line(0)), ("build_info, after", line(1)), ("target_info", line(2))];
    let shaded = vec![("upgrade", [0.0, upgrade.seconds])];
    Plot { across: "seconds since the begin of the upgrade", up: "series", lines, shaded, marked: false }
        .draw()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
    }

    #[test]
    fn the_page_and_its_plots_are_those_of_the_results() {
        let read = |path: &str| {
            fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
        };
        let results: Results = serde_json::from_str(&read(RESULTS)).expect("they are results");
        let page = read(PAGE);
        let expected = with_tables(page.clone(), &results).expect("it has every mark");
        assert!(page == expected, "{PAGE} is not that of {RESULTS}: `just fleet-page` writes it");
        for (name, svg) in plots(&results).expect("there are points") {
            let path = format!("docs/images/{name}.svg");
            assert!(read(&path) == svg, "{path} is not that of {RESULTS}: `just fleet-page` writes it");
            assert!(page.contains(&format!("images/{name}.svg")), "{PAGE} does not show {path}");
        }
    }

    #[test]
    fn every_part_was_run() {
        let text = fs::read_to_string(root().join(RESULTS)).expect("it is there");
        let Results { conditions, growth, options, outage, upgrade, clocks } =
            serde_json::from_str(&text).expect("they are results");
        assert!(conditions.optimized);
        let growth = growth.expect("it was run");
        assert!(growth.windows.len() >= 3 && growth.expressions.iter().all(|each| each.failed.is_empty()));
        assert!(options.expect("it was run").len() > 6);
        assert!(!outage.expect("it was run").absences.is_empty());
        assert!(
            !upgrade.expect("it was run").counts.is_empty() && !clocks.expect("it was run").nodes.is_empty()
        );
    }

    #[test]
    fn numbers_have_three_digits_and_a_unit() {
        assert_eq!(unit(1_234.0, "B"), "1.23 kB");
        assert_eq!(unit(0.5, ""), "0.50");
        assert_eq!(unit(123_456_789.0, "B/s"), "123 MB/s");
        assert_eq!(ahead(-10_800), "3 h slow");
        assert_eq!(ahead(300), "5 min fast");
        let line = r#"error: code = X desc = request to http://127.0.0.1:1/v1 responded with 400", "dropped_items": 2"#;
        assert_eq!(without_address(line), "request to … responded with 400");
    }
}
