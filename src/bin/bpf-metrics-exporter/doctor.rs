//! `doctor`: takes a reading as the exporter would, and says of each feature whether it works, what it needs and what helps.
//! Entry point: [`doctor`].

use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use anyhow::Context as _;
use bpf_metrics_exporter::cli::{DoctorCommand, DoctorFormat, Log};
use bpf_metrics_exporter::enrich::Enricher;
use bpf_metrics_exporter::enrich::names::NameCache;
use bpf_metrics_exporter::events::Events;
use bpf_metrics_exporter::kernel::events::RING_BYTES;
use bpf_metrics_exporter::kernel::requirements::{self, Standing};
use bpf_metrics_exporter::kernel::{self, Reader, ReaderOptions};
use bpf_metrics_exporter::model::{Feature, Reason, Snapshot};
use bpf_metrics_exporter::sandbox::{self, Files, LayerState, Needs, Sandbox};
use bpf_metrics_exporter::text::visible;
use nix::unistd::Uid;
use serde::Serialize;
use tracing::warn;

use crate::{finish, log, messages, print};

/// Columns of the text: a terminal of the usual width.
const COLUMNS: usize = 80;

/// Where the names of features and layers begin, and what is said of them.
const NAME_AT: usize = 10;
const TEXT_AT: usize = 31;

/// Checks every feature and prints the result. Fails unless everything that is enabled works.
pub(super) fn doctor(options: DoctorCommand, log: Log, warnings: &[String]) -> ExitCode {
    let format = options.format;
    let examined = examine(options, log, warnings);
    let printed = examined.and_then(|report| {
        let text = match format {
            DoctorFormat::Text => report.text(),
            DoctorFormat::Json => {
                serde_json::to_string_pretty(&report).context("failed to write JSON")? + "\n"
            }
        };
        print(&text)?;
        Ok(report.works)
    });
    match printed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => finish(Err(error)),
    }
}

/// Restricts two threads as the exporter does, and takes a reading on one of them.
fn examine(options: DoctorCommand, log: Log, warnings: &[String]) -> anyhow::Result<Report> {
    let DoctorCommand { sandbox, collection, format: _ } = options;
    let least = sandbox.least;
    let at_start = Standing::read();
    let needs = Needs { hooks: collection.enrich.hooks.is_some(), nothing: least };
    let sandbox = Arc::new(Sandbox::enter(sandbox, needs).map_err(anyhow::Error::msg)?);
    log::start(log).context("failed to start the thread of the log")?;
    for warning in warnings {
        warn!("{warning}");
    }
    let restricted = Arc::clone(&sandbox);
    let others = thread::Builder::new().name("outputs".to_owned());
    let others = others.spawn(move || restricted.restrict_others(&Files::default()));
    others.context("failed to start a thread")?.join().expect("no restriction panics");
    let restricted = Arc::clone(&sandbox);
    let reading = thread::Builder::new().name("reading".to_owned());
    let reading = reading.spawn(move || {
        let kernel = ReaderOptions { events: Some(RING_BYTES), ..collection.kernel };
        let reader = Reader::restricted(kernel, || restricted.restrict_readings());
        let enricher = Enricher::new(reader, collection.enrich, NameCache::default());
        enricher.publishing(Events::default()).read()
    });
    let snapshot = reading.context("failed to start a thread")?.join().expect("no reading panics");
    Ok(Report::new(&snapshot, &sandbox, at_start, least))
}

/// What was found.
#[derive(Debug, Serialize)]
struct Report {
    version: &'static str,
    kernel: Option<String>,
    uid: u32,
    /// Whether everything that is enabled works.
    works: bool,
    /// Why nothing could be read at all, with what helps.
    refused: Option<Refused>,
    features: Vec<FeatureReport>,
    issues: Vec<String>,
    sandbox: Vec<LayerReport>,
}

#[derive(Debug, Serialize)]
struct Refused {
    cause: &'static str,
    remedies: &'static [&'static str],
}

/// Whether something works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Works,
    Missing,
    /// `--least-privilege` does without it.
    GivenUp,
    /// Nothing uses it.
    Off,
}

impl State {
    const fn mark(self) -> &'static str {
        match self {
            Self::Works => "ok",
            Self::Missing => "MISSING",
            Self::GivenUp => "given up",
            Self::Off => "off",
        }
    }
}

#[derive(Debug, Serialize)]
struct FeatureReport {
    name: &'static str,
    state: State,
    sees: String,
    needs: String,
    since: &'static str,
    without: String,
    reason: Option<String>,
    cause: Option<String>,
    remedies: Vec<Remedy>,
}

#[derive(Debug, Serialize)]
struct Remedy {
    place: &'static str,
    text: String,
}

#[derive(Debug, Serialize)]
struct LayerReport {
    name: &'static str,
    state: State,
    detail: String,
}

impl Report {
    fn new(snapshot: &Snapshot, sandbox: &Sandbox, at_start: Standing, least: bool) -> Self {
        let features: Vec<_> =
            Feature::ALL.into_iter().map(|feature| FeatureReport::new(feature, snapshot, least)).collect();
        let issues: Vec<_> =
            snapshot.issues.iter().filter(|issue| issue.count > 0).map(messages::issue).collect();
        let layers = sandbox.layers().into_iter().map(|(layer, state)| match state {
            LayerState::On(detail) => LayerReport { name: layer.as_str(), state: State::Works, detail },
            LayerState::Off(kept) => {
                LayerReport { name: layer.as_str(), state: State::Off, detail: layer.turned_off(kept) }
            }
            LayerState::Unavailable(why) => {
                LayerReport { name: layer.as_str(), state: State::Missing, detail: why }
            }
        });
        let layers: Vec<_> = layers.collect();
        let refused = snapshot.is_all_refused().then(|| {
            let refusal = requirements::refusal(at_start);
            Refused { cause: refusal.cause, remedies: refusal.remedies }
        });
        let works = refused.is_none()
            && issues.is_empty()
            && features.iter().all(|feature| feature.state != State::Missing)
            && layers.iter().all(|layer| layer.state != State::Missing);
        Self {
            version: env!("CARGO_PKG_VERSION"),
            kernel: kernel::release(),
            uid: Uid::effective().as_raw(),
            works,
            refused,
            features,
            issues,
            sandbox: layers,
        }
    }

    /// Returns the report as text that fits [`COLUMNS`].
    fn text(&self) -> String {
        let kernel = self.kernel.as_deref().unwrap_or("of unknown release");
        let mut text =
            format!("bpf-metrics-exporter {} on Linux {kernel} as uid {}\n", self.version, self.uid);
        if let Some(Refused { cause, remedies }) = &self.refused {
            text += "\nNothing can be read: ";
            wrap(&mut text, cause, 21, 2);
            for remedy in *remedies {
                text += "  - ";
                wrap(&mut text, remedy, 4, 4);
            }
        }
        text += "\nFeatures\n";
        for feature in &self.features {
            feature.write(&mut text);
        }
        text += "\nSandbox\n";
        for LayerReport { name, state, detail } in &self.sandbox {
            line(&mut text, *state, name, detail);
        }
        if !self.issues.is_empty() {
            text += "\nFailures of this reading\n";
            for issue in &self.issues {
                text += "  - ";
                wrap(&mut text, issue, 4, 4);
            }
        }
        text += if self.works {
            "\nEverything that is enabled works.\n"
        } else {
            "\nSomething that is enabled does not work.\n"
        };
        text
    }
}

impl FeatureReport {
    fn new(feature: Feature, snapshot: &Snapshot, least: bool) -> Self {
        let row = feature.row();
        let found = snapshot.feature(feature);
        let reason = found.and_then(|found| found.reason);
        let state = match (found, reason) {
            (None, _) => State::Off,
            (Some(_), None) => State::Works,
            (Some(_), Some(Reason::Missing(_))) if least && sandbox::gives_up(feature) => State::GivenUp,
            (Some(_), Some(_)) => State::Missing,
        };
        let plain = |text: &str| text.replace('`', "");
        let remedies = reason.map(Reason::remedies).unwrap_or_default();
        Self {
            name: row.name,
            state,
            sees: plain(row.sees),
            needs: plain(row.needs),
            since: row.since,
            without: plain(row.without),
            reason: reason.map(|reason| reason.as_str().to_owned()),
            cause: reason.map(|reason| reason.to_string()),
            remedies: remedies.into_iter().map(|(place, text)| Remedy { place, text }).collect(),
        }
    }

    fn write(&self, text: &mut String) {
        match self.state {
            State::Works | State::Off => line(text, self.state, self.name, &self.sees),
            State::GivenUp => line(text, self.state, self.name, &self.without),
            State::Missing => {
                line(text, self.state, self.name, self.cause.as_deref().unwrap_or_default());
                let release =
                    if self.since.is_empty() { String::new() } else { format!("; Linux {}", self.since) };
                let details =
                    [("without", self.without.clone()), ("needs", format!("{}{release}", self.needs))];
                let remedies = self.remedies.iter().map(|Remedy { place, text }| (*place, text.clone()));
                for (what, detail) in details.into_iter().chain(remedies) {
                    let label = format!("{what}: ");
                    let _infallible = write!(text, "{:TEXT_AT$}{label}", "");
                    wrap(text, &detail, TEXT_AT + label.len(), TEXT_AT + 2);
                }
            }
        }
    }
}

/// Appends a line with a mark, a name and a text.
fn line(text: &mut String, state: State, name: &str, about: &str) {
    let name_width = TEXT_AT - NAME_AT;
    let _infallible = write!(text, "{:NAME_AT$}{name:name_width$}", state.mark());
    wrap(text, about, TEXT_AT, TEXT_AT);
}

/// Appends words from column `at` on, and a line break. Further lines begin at column `indent`.
fn wrap(text: &mut String, words: &str, at: usize, indent: usize) {
    let mut column = at;
    let mut is_first = true;
    for word in visible(words).split(' ') {
        let width = word.chars().count();
        if !is_first && column + 1 + width > COLUMNS {
            let _infallible = write!(text, "\n{:indent$}", "");
            column = indent;
        } else if !is_first {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += width;
        is_first = false;
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use bpf_metrics_exporter::model::{BootTime, Capability, FeatureState, WallClock};
    use bpf_metrics_exporter::sandbox::SandboxOptions;

    use super::*;

    /// A snapshot of a host where these features are used.
    fn snapshot(states: &[(Feature, Option<Reason>)]) -> Snapshot {
        let features = states.iter().map(|&(feature, reason)| FeatureState { feature, reason });
        Snapshot {
            features: features.collect(),
            programs: Some(Vec::new()),
            ..Snapshot::begun(BootTime::default(), BootTime::default(), WallClock::default())
        }
    }

    fn report(states: &[(Feature, Option<Reason>)], least: bool) -> Report {
        let options = SandboxOptions {
            harden: false,
            capabilities: false,
            seccomp: false,
            landlock: false,
            ..SandboxOptions::default()
        };
        let sandbox =
            Sandbox::enter(options, Needs { hooks: true, nothing: least }).expect("no user is wanted");
        Report::new(&snapshot(states), &sandbox, Standing::read(), least)
    }

    #[test]
    fn what_is_missing_has_a_cause_needs_and_remedies_in_80_columns() {
        let every_reason = Reason::ALL.into_iter().cycle();
        let states: Vec<_> = Feature::ALL.into_iter().zip(every_reason.map(Some)).collect();
        let report = report(&states, false);
        assert!(!report.works);
        let text = report.text();
        for line in text.lines() {
            assert!(line.chars().count() <= COLUMNS || !line.trim().contains(' '), "{line}");
        }
        assert!(text.contains("MISSING   iterators"), "{text}");
        let longest = Feature::ALL.map(|feature| feature.as_str().len()).into_iter().max();
        assert!(longest < Some(TEXT_AT - NAME_AT), "a space behind each name");
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains("needs: CAP_BPF and CAP_PERFMON, at start; Linux 5.19"), "{text}");
        assert!(text.contains("Kubernetes: hostPID: true") && !text.contains('`'), "{text}");
    }

    #[test]
    fn only_what_is_enabled_has_to_work() {
        let missing = Some(Reason::Missing(Capability::SysAdmin));
        let states = [(Feature::Iterators, None), (Feature::MapMemory, missing)];
        assert!(report(&states[..1], false).works);
        assert!(!report(&states, false).works);
        let least = report(&states, true);
        assert!(least.works, "it is given up");
        let state = |name| least.features.iter().find(|feature| feature.name == name).map(|f| f.state);
        assert_eq!(state("iterators"), Some(State::Works));
        assert_eq!(state("map_memory"), Some(State::GivenUp));
        assert_eq!(state("cgroup_hooks"), Some(State::Off));
        let unseen = report(&[(Feature::Iterators, Some(Reason::Kernel))], true);
        assert!(!unseen.works, "no capability would help");
        for feature in [Feature::Iterators, Feature::KernelSymbols, Feature::RunStatistics] {
            assert!(!report(&[(feature, missing)], true).works, "{feature:?} is wanted at start");
        }
    }

    #[test]
    fn the_report_as_json_has_each_feature() {
        let json = serde_json::to_value(report(&[(Feature::Pins, Some(Reason::Hidepid))], false))
            .expect("it is JSON");
        let features = json["features"].as_array().expect("a list");
        assert_eq!(features.len(), Feature::ALL.len());
        let pins = features.iter().find(|feature| feature["name"] == "pins").expect("it is there");
        assert_eq!((&pins["state"], &pins["reason"]), (&"missing".into(), &"hidepid".into()));
        assert!(pins["remedies"].as_array().is_some_and(|remedies| remedies.len() == 3), "{pins}");
    }
}
