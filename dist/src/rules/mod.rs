//! Recording rules and alerts of Prometheus, in `dist/prometheus/`. Entry points: [`recording::groups`] and [`alerts::groups`] for the
//! rules, [`files`] for the files, and [`document`] for the part of `docs/alerts.md` that repeats them.

pub mod alerts;
pub mod recording;

use std::fmt::{self, Write as _};

use crate::File;

/// Width of comments and paragraphs.
const WIDTH: usize = 120;

/// Rules that are evaluated one after the other.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its name, unique in its file.
    pub name: &'static str,
    /// Its rules, in the order of their evaluation.
    pub rules: Vec<Rule>,
}

/// A rule.
#[derive(Clone, Debug)]
pub enum Rule {
    /// One that adds series.
    Recording(Recording),
    /// One that alerts.
    Alert(Alert),
}

impl Rule {
    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Recording(recording) => recording.record,
            Self::Alert(alert) => alert.name,
        }
    }

    /// Returns its expression.
    #[must_use]
    pub fn expression(&self) -> &str {
        match self {
            Self::Recording(recording) => &recording.expression,
            Self::Alert(alert) => &alert.expression,
        }
    }
}

/// A rule that adds series.
#[derive(Clone, Debug)]
pub struct Recording {
    /// The name of its series.
    pub record: &'static str,
    /// What they say, and what they cost where that matters.
    pub about: &'static str,
    /// Their expression.
    pub expression: String,
}

/// A rule that alerts.
#[derive(Clone, Debug)]
pub struct Alert {
    /// Its name, also of its section in `docs/alerts.md`.
    pub name: &'static str,
    /// The reasons of its thresholds.
    pub reason: &'static str,
    /// Yields a series for each fault.
    pub expression: String,
    /// Time for which the expression has to yield the series.
    pub after: &'static str,
    /// Who should look at it, and when.
    pub severity: Severity,
    /// A line about the fault.
    pub summary: &'static str,
    /// A sentence or two with the names of what is at fault.
    pub description: String,
}

/// Time for which an alert fires on when its series are missing, so that a restart of the exporter does not resolve it.
pub const KEEP_FIRING: &str = "5m";

/// The annotation with the section of an alert. Not `runbook` or `runbook_url`, which tools make a link of: it is a path.
pub const RUNBOOK: &str = "runbook_section";

/// Severity of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Something does not work well, or will not work: in working hours.
    Warning,
    /// Good to know.
    Info,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warning => "warning",
            Self::Info => "info",
        })
    }
}

impl Alert {
    /// Returns where its section is.
    #[must_use]
    pub fn runbook(&self) -> String {
        format!("docs/alerts.md#{}", self.name.to_lowercase())
    }
}

/// Returns the files of rules.
#[must_use]
pub fn files() -> Vec<File> {
    let file = |name: &str, groups: &[Group]| File {
        path: format!("dist/prometheus/{name}.yaml"),
        text: yaml(groups),
    };
    vec![file("bpf-recording-rules", &recording::groups()), file("bpf-alerts", &alerts::groups())]
}

/// Returns a file of rules.
#[must_use]
pub fn yaml(groups: &[Group]) -> String {
    let mut text = "# Made by `just dashboards` from dist/src/rules/. Do not edit.\ngroups:\n".to_owned();
    for group in groups {
        // The same for all, so that the cost of the rules does not follow the interval of the scrapes.
        let _ = write!(text, "  - name: {}\n    interval: 1m\n    rules:\n", group.name);
        for rule in &group.rules {
            match rule {
                Rule::Recording(Recording { record, about, expression }) => {
                    comment(&mut text, about);
                    let _ = writeln!(text, "      - record: {record}");
                    block(&mut text, "        expr", expression);
                }
                Rule::Alert(alert) => {
                    comment(&mut text, alert.reason);
                    let _ = writeln!(text, "      - alert: {}", alert.name);
                    block(&mut text, "        expr", &alert.expression);
                    let _ = writeln!(text, "        for: {}", alert.after);
                    let _ = writeln!(text, "        keep_firing_for: {KEEP_FIRING}");
                    let _ = writeln!(text, "        labels:\n          severity: {}", alert.severity);
                    text.push_str("        annotations:\n");
                    block(&mut text, "          summary", alert.summary);
                    block(&mut text, "          description", &alert.description);
                    block(&mut text, &format!("          {RUNBOOK}"), &alert.runbook());
                }
            }
        }
    }
    text
}

/// Writes a comment of one paragraph.
fn comment(text: &mut String, paragraph: &str) {
    const START: &str = "      # ";
    for line in wrapped(paragraph, WIDTH - START.len()) {
        let _ = writeln!(text, "{START}{line}");
    }
}

/// Writes a block scalar, which needs no escapes: templates and expressions have quotes and braces.
fn block(text: &mut String, key: &str, value: &str) {
    let indent = key.len() - key.trim_start().len() + 2;
    let _ = writeln!(text, "{key}: |-");
    for line in value.lines() {
        let _ = writeln!(text, "{:indent$}{line}", "");
    }
}

/// Returns a paragraph in lines.
fn wrapped(paragraph: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in paragraph.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Returns the page about alerts with its generated parts made anew: below the heading of an alert, what its rule says.
///
/// # Errors
///
/// The name of an alert without a section that has the marks.
pub fn document(page: &str) -> Result<String, &'static str> {
    const START: &str = "<!-- generated -->\n";
    const END: &str = "<!-- end -->\n";
    let mut page = page.to_owned();
    for alert in alerts::all() {
        let section = format!("\n## {}\n", alert.name);
        let place = || {
            let heading = page.find(&section)? + section.len();
            let section = page[heading..].split("\n## ").next()?;
            let start = section.find(START)? + START.len();
            let end = section.find(END)?;
            Some(heading + start..heading + end)
        };
        let place = place().ok_or(alert.name)?;
        page.replace_range(place, &markdown(&alert));
    }
    Ok(page)
}

/// Returns what the rule of an alert says.
fn markdown(alert: &Alert) -> String {
    // Lines after the first are indented: documents have one expression per line that is not.
    let expression = alert.expression.replace('\n', "\n  ");
    let reason = wrapped(alert.reason, WIDTH).join("\n");
    format!("`{}`, after {}:\n\n```promql\n{expression}\n```\n\n{reason}\n", alert.severity, alert.after)
}
