//! Parses the output of the Collector's debug exporter, which has everything of a point but its flags: a stale marker has no value.

use std::rc::Rc;

use jiff::Timestamp;

use crate::series::Labels;

/// One request.
#[derive(Debug, Default)]
pub(crate) struct Request {
    pub(crate) resource: Labels,
    pub(crate) points: Vec<Point>,
}

/// One point.
#[derive(Debug)]
pub(crate) struct Point {
    pub(crate) metric: Rc<Metric>,
    pub(crate) attributes: Labels,
    pub(crate) start: Timestamp,
    pub(crate) time: Timestamp,
    /// As printed; of a histogram the number of its values. `None` marks the end of the series.
    pub(crate) value: Option<String>,
}

impl Point {
    /// Whether it is of this metric, and has this value of this attribute.
    pub(crate) fn is(&self, metric: &str, attribute: &str, value: &str) -> bool {
        self.metric.name == metric && self.has(attribute, value)
    }

    /// Whether it has this value of this attribute.
    pub(crate) fn has(&self, attribute: &str, value: &str) -> bool {
        self.attributes.get(attribute).is_some_and(|is| is == value)
    }
}

/// Properties of a metric.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Metric {
    pub(crate) name: String,
    pub(crate) unit: String,
    /// `Gauge`, `Sum` or `ExponentialHistogram`.
    pub(crate) kind: String,
    /// `true` or `false`; empty unless it is a sum.
    pub(crate) monotonic: String,
    /// `Cumulative` or `Delta`; empty for a gauge.
    pub(crate) temporality: String,
}

/// Returns the requests that are printed completely.
pub(crate) fn requests(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive("\n\n").filter(|request| request.ends_with("\n\n"))
}

/// Returns the number of points of a request, from its first line.
pub(crate) fn announced(request: &str) -> u64 {
    let count = || {
        let line = request.lines().next()?.strip_prefix("Metrics\t")?;
        line.split("\"data points\": ").nth(1)?.trim_end_matches('}').parse().ok()
    };
    count().unwrap_or_else(|| panic!("not the beginning of a request: {request:.200}"))
}

/// Reads detailed output.
pub(crate) fn read(text: &str) -> Vec<Request> {
    let read = |request| {
        let mut reader = Reader::default();
        for line in str::lines(request) {
            reader
                .line(line)
                .unwrap_or_else(|| panic!("not understood of what the Collector received: {line}"));
        }
        reader.end_point();
        assert_eq!(reader.request.points.len() as u64, announced(request), "points in a request");
        reader.request
    };
    requests(text).map(read).collect()
}

#[derive(Default)]
struct Reader {
    request: Request,
    section: Section,
    metric: Rc<Metric>,
    attributes: Labels,
    start: Option<Timestamp>,
    time: Option<Timestamp>,
    value: Option<String>,
}

/// The subject of the lines that start with an arrow.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Section {
    #[default]
    Resource,
    Metric,
    Point,
}

impl Reader {
    fn line(&mut self, line: &str) -> Option<()> {
        if line.starts_with("Metric #") {
            self.end_point();
            self.section = Section::Metric;
            self.metric = Rc::default();
        } else if line.starts_with("NumberDataPoints #")
            || line.starts_with("ExponentialHistogramDataPoints #")
        {
            self.end_point();
            self.section = Section::Point;
        } else if let Some(fact) = line.strip_prefix("     -> ") {
            let (name, value) = fact.split_once(':')?;
            self.fact(name, value.trim_start())?;
        } else {
            match line.split_once(": ") {
                Some(("StartTimestamp", time)) => self.start = Some(moment(time)?),
                Some(("Timestamp", time)) => self.time = Some(moment(time)?),
                Some(("Value", value)) => self.value = Some(value.to_owned()),
                // The marker of a histogram has no values, and one of a series has some.
                Some(("Count", count)) if count != "0" => self.value = Some(count.to_owned()),
                _ => {}
            }
        }
        Some(())
    }

    fn fact(&mut self, name: &str, value: &str) -> Option<()> {
        let labels = match self.section {
            Section::Resource => &mut self.request.resource,
            Section::Point => &mut self.attributes,
            Section::Metric => {
                let metric = Rc::make_mut(&mut self.metric);
                let place = match name {
                    "Name" => &mut metric.name,
                    "Unit" => &mut metric.unit,
                    "DataType" => &mut metric.kind,
                    "IsMonotonic" => &mut metric.monotonic,
                    "AggregationTemporality" => &mut metric.temporality,
                    _ => return Some(()),
                };
                value.clone_into(place);
                return Some(());
            }
        };
        let text = value.strip_prefix("Str(")?.strip_suffix(')')?;
        labels.insert(name.to_owned(), text.to_owned());
        Some(())
    }

    /// Adds the point that has been read, if there is one.
    fn end_point(&mut self) {
        let (Some(start), Some(time)) = (self.start.take(), self.time.take()) else { return };
        let (metric, attributes) = (Rc::clone(&self.metric), std::mem::take(&mut self.attributes));
        self.request.points.push(Point { metric, attributes, start, time, value: self.value.take() });
    }
}

/// Parses a time as Go prints it.
pub(crate) fn moment(text: &str) -> Option<Timestamp> {
    format!("{}Z", text.strip_suffix(" +0000 UTC")?).parse().ok()
}
