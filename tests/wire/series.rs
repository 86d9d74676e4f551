//! Series and their values, parsed from a scrape or from a query, so that both can be compared.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

/// Labels, by name.
pub(crate) type Labels = BTreeMap<String, String>;

/// Series, and the value of each.
pub(crate) type Values = BTreeMap<Series, f64>;

/// Identity of a series.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) labels: Labels,
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}", self.name, self.labels)
    }
}

/// Returns the sum of a counter over its series; 0 without series.
pub(crate) fn count(values: &Values, name: &str) -> u64 {
    values.iter().filter(|(series, _)| series.name == name).map(|(_, value)| integer(*value)).sum()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is checked before")]
fn integer(value: f64) -> u64 {
    assert!(value.fract() == 0.0 && (0.0..9e15).contains(&value), "{value} is not a count");
    value as u64
}

/// The series of an exposition in Prometheus' text format.
pub(crate) fn of_exposition(text: &str) -> Values {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| read_line(line).unwrap_or_else(|| panic!("not a line of text 0.0.4: {line}"))).collect()
}

fn read_line(line: &str) -> Option<(Series, f64)> {
    let (name, mut rest) = line.split_at(line.find(['{', ' '])?);
    let mut labels = Labels::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, quoted) = rest.split_once("=\"")?;
            let (value, after) = read_quoted(quoted)?;
            labels.insert(label.to_owned(), value);
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        rest = &rest[1..];
    }
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some((Series { name: name.to_owned(), labels }, value))
}

/// A label's value up to the quote that ends it, and what follows.
fn read_quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    loop {
        match characters.next()? {
            (at, '"') => return Some((value, &text[at + 1..])),
            (_, '\\') => match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            (_, other) => value.push(other),
        }
    }
}

/// The series of an answer of Prometheus' query API. A native histogram is as the count and the sum of a classic one.
///
/// # Errors
///
/// The answer, where it is not a vector of samples.
pub(crate) fn of_answer(answer: &str) -> Result<Values, String> {
    let number = |value: &Value| value.as_str()?.parse().ok();
    let read = |sample: &Value| -> Option<Vec<(Series, f64)>> {
        let mut labels: Labels = serde_json::from_value(sample["metric"].clone()).ok()?;
        let name = labels.remove("__name__")?;
        let series = |suffix| Series { name: format!("{name}{suffix}"), labels: labels.clone() };
        match sample.get("histogram") {
            None => Some(vec![(series(""), number(&sample["value"][1])?)]),
            Some(histogram) => {
                let part = |part, suffix| Some((series(suffix), number(&histogram[1][part])?));
                Some(vec![part("count", "_count")?, part("sum", "_sum")?])
            }
        }
    };
    let samples: Option<Vec<Vec<_>>> = serde_json::from_str(answer).ok().and_then(|answer: Value| {
        let samples = answer["data"]["result"].as_array()?;
        samples.iter().map(read).collect()
    });
    let samples: Option<Values> = samples.map(|samples| samples.into_iter().flatten().collect());
    samples.ok_or_else(|| format!("no samples: {answer}"))
}

/// A row of what an expression yields: the labels that are left, and the value.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) labels: Labels,
    pub(crate) value: f64,
}

/// Returns the rows of an answer of Prometheus' query API, a scalar as one without labels; `None` if it is no result.
pub(crate) fn rows(answer: &str) -> Option<Vec<Row>> {
    let answer: Value = serde_json::from_str(answer).ok()?;
    let value = |sample: &Value| sample[1].as_str()?.parse().ok();
    let result = &answer["data"]["result"];
    match answer["data"]["resultType"].as_str()? {
        "scalar" => Some(vec![Row { labels: Labels::new(), value: value(result)? }]),
        "vector" => {
            let row = |row: &Value| {
                Some(Row {
                    labels: serde_json::from_value(row["metric"].clone()).ok()?,
                    value: value(&row["value"])?,
                })
            };
            result.as_array()?.iter().map(row).collect()
        }
        _ => None,
    }
}
