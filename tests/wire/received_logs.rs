//! Parses the output of the Collector's debug exporter of logs. Entry point: [`read`].

use jiff::Timestamp;

use crate::received::{moment, requests};
use crate::series::Labels;

/// One record.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) resource: Labels,
    /// Name and version of its scope.
    pub(crate) scope: String,
    pub(crate) event_name: String,
    pub(crate) severity: String,
    pub(crate) severity_number: String,
    pub(crate) body: String,
    pub(crate) time: Timestamp,
    pub(crate) observed: Timestamp,
    /// With their types: `Str(...)` or `Int(...)`.
    pub(crate) attributes: Labels,
}

/// Returns the records of the requests that are printed completely.
pub(crate) fn read(text: &str) -> Vec<Record> {
    let mut records = Vec::new();
    for request in requests(text) {
        let (mut resource, mut scope, mut of_request) = (Labels::default(), String::new(), Vec::new());
        for line in request.lines() {
            line_of(line, &mut resource, &mut scope, &mut of_request)
                .unwrap_or_else(|| panic!("not understood of what the Collector received: {line}"));
        }
        let announced = request.lines().next().and_then(|line| {
            line.split("\"log records\": ").nth(1)?.trim_end_matches('}').parse::<usize>().ok()
        });
        assert_eq!(announced, Some(of_request.len()), "records in a request");
        records.extend(of_request);
    }
    records
}

fn line_of(line: &str, resource: &mut Labels, scope: &mut String, records: &mut Vec<Record>) -> Option<()> {
    if line.starts_with("LogRecord #") {
        records.push(Record { resource: resource.clone(), scope: scope.clone(), ..Record::default() });
        return Some(());
    }
    if let Some(fact) = line.strip_prefix("     -> ") {
        let (name, value) = fact.split_once(": ")?;
        let (labels, value) = match records.last_mut() {
            Some(record) => (&mut record.attributes, value),
            None => (&mut *resource, value.strip_prefix("Str(")?.strip_suffix(')')?),
        };
        let before = labels.insert(name.to_owned(), value.to_owned());
        return before.is_none().then_some(());
    }
    if let Some(of) = line.strip_prefix("InstrumentationScope ") {
        of.trim_end().clone_into(scope);
        return Some(());
    }
    let Some((record, (name, value))) = records.last_mut().zip(line.split_once(": ")) else {
        return Some(());
    };
    let text = match name {
        "Timestamp" => {
            record.time = moment(value)?;
            return Some(());
        }
        "ObservedTimestamp" => {
            record.observed = moment(value)?;
            return Some(());
        }
        "EventName" => &mut record.event_name,
        "SeverityText" => &mut record.severity,
        "SeverityNumber" => &mut record.severity_number,
        "Body" => &mut record.body,
        _ => return Some(()),
    };
    value.clone_into(text);
    Some(())
}
