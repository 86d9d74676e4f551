//! Numbers and times as people read them: `1.2 MiB`, `3.4 %`, `12.3 us`, `1.2 k/s`. Entry points: [`cell`] and [`duration`].
//!
//! A number has three digits. The page does the same in its own language: `tests/human.tsv` is for both.

use crate::metrics::Unit;
use crate::metrics::columns::Cell;
use crate::model::WallClock;

/// Returns a cell as text; empty if there is no value. Texts are as they are: they may be of any origin.
#[must_use]
pub fn cell(cell: &Cell<'_>, unit: Unit, clock: WallClock) -> String {
    match cell {
        Cell::Unknown => String::new(),
        Cell::Text(text) => text.clone().into_owned(),
        Cell::Flag(true) => "yes".to_owned(),
        Cell::Flag(false) => "no".to_owned(),
        Cell::Int(number) if unit == Unit::None => number.to_string(),
        Cell::Int(_) | Cell::Float(_) => number(cell.number().unwrap_or_default(), unit),
        Cell::Time(time) => clock.second(*time).strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        Cell::Ids(ids) => ids.iter().map(u32::to_string).collect::<Vec<_>>().join(", "),
    }
}

/// Returns a number with its unit.
#[must_use]
pub fn number(number: f64, unit: Unit) -> String {
    match unit {
        Unit::None => scaled(number, &PLAIN, 1000.0),
        Unit::Seconds => duration(number),
        Unit::Bytes => scaled(number, &BYTES, 1024.0),
        Unit::Ratio => format!("{} %", digits(number * 100.0)),
        Unit::Each(what) => {
            let text = scaled(number, &PLAIN, 1000.0);
            if what.ends_with("/s") { text + "/s" } else { text }
        }
    }
}

const PLAIN: [&str; 7] = ["", " k", " M", " G", " T", " P", " E"];
const BYTES: [&str; 7] = [" B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"];

/// Returns a number with the largest unit of which there is at least one.
fn scaled(number: f64, units: &[&str; 7], step: f64) -> String {
    let mut rest = number;
    let mut exponent = 0;
    // Rounding to three digits must not give 1000 of a unit.
    while rest.abs() >= step - 0.5 && exponent < units.len() - 1 {
        rest /= step;
        exponent += 1;
    }
    let is_whole = exponent == 0 && rest.fract() == 0.0;
    if is_whole { format!("{rest}{}", units[0]) } else { format!("{}{}", digits(rest), units[exponent]) }
}

/// Returns seconds as text: `12.3 us`, `1.50 s`, `2 min 5 s`, `3 d 4 h`.
#[must_use]
pub fn duration(seconds: f64) -> String {
    const LONG: [(f64, &str); 4] = [(86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s")];
    let size = seconds.abs();
    if size == 0.0 {
        return "0 s".to_owned();
    }
    if size < 59.95 {
        let (factor, unit) = match size {
            _ if size < 999.5e-9 => (1e9, "ns"),
            _ if size < 999.5e-6 => (1e6, "us"),
            _ if size < 999.5e-3 => (1e3, "ms"),
            _ => (1.0, "s"),
        };
        return format!("{} {unit}", digits(seconds * factor));
    }
    if !seconds.is_finite() || size >= 1e11 {
        return format!("{} d", digits(seconds / 86400.0));
    }
    // Two units, the smaller one rounded: the largest of which there is one then.
    let rounded = |pair: &[(f64, &'static str)]| (size / pair[1].0).round();
    let is_reached = |pair: &&[(f64, &'static str)]| rounded(pair) * pair[1].0 >= pair[0].0;
    let pair = LONG.windows(2).find(is_reached).unwrap_or(&LONG[2..]);
    let (per_unit, unit, smaller_unit) = (pair[0].0 / pair[1].0, pair[0].1, pair[1].1);
    let (whole, rest) = ((rounded(pair) / per_unit).floor(), rounded(pair) % per_unit);
    let sign = if seconds < 0.0 { "-" } else { "" };
    if rest == 0.0 {
        format!("{sign}{whole} {unit}")
    } else {
        format!("{sign}{whole} {unit} {rest} {smaller_unit}")
    }
}

/// Returns a number with three digits; with fewer if it is less than a hundredth.
fn digits(number: f64) -> String {
    let size = number.abs();
    match size {
        _ if size == 0.0 => "0".to_owned(),
        _ if size < 0.0005 => if number < 0.0 { ">-0.001" } else { "<0.001" }.to_owned(),
        _ if size < 0.9995 => format!("{number:.3}"),
        _ if size < 9.995 => format!("{number:.2}"),
        _ if size < 99.95 => format!("{number:.1}"),
        _ => format!("{number:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BootTime;

    #[test]
    fn numbers_are_those_of_the_table() {
        let table = include_str!("../../tests/human.tsv");
        let rows: Vec<_> = table.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(rows.len() > 60, "{}", rows.len());
        for row in rows {
            let [value, unit, expected] = row.split('\t').collect::<Vec<_>>()[..] else {
                panic!("{row:?} has not three columns")
            };
            let unit = match unit {
                "" => Unit::None,
                "s" => Unit::Seconds,
                "By" => Unit::Bytes,
                "1" => Unit::Ratio,
                other => Unit::Each(other),
            };
            assert_eq!(number(value.parse().expect("a number"), unit), expected, "{row}");
        }
    }

    #[test]
    fn other_cells_are_as_they_are() {
        let clock = WallClock { booted_at: "2026-01-02T03:04:05.9Z".parse().expect("a date") };
        let table = [
            (Cell::Unknown, ""),
            (Cell::Text("a\tb".into()), "a\tb"),
            (Cell::Flag(true), "yes"),
            (Cell::Flag(false), "no"),
            (Cell::Int(123_456_789), "123456789"),
            (Cell::Time(BootTime::from_secs(1)), "2026-01-02 03:04:06Z"),
            (Cell::Ids(vec![3, 40].into()), "3, 40"),
        ];
        for (value, expected) in table {
            assert_eq!(cell(&value, Unit::None, clock), expected);
        }
        assert_eq!(cell(&Cell::Int(2048), Unit::Bytes, clock), "2.00 KiB");
    }
}
