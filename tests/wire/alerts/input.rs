//! Series of a fleet, a sample per minute. Entry point: [`Input`].

use std::fmt::Display;

use dist::names;
use serde_json::{Value, json};

/// How the series of a node come to Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// Scraped: `instance` is an address.
    Scrape,
    /// Pushed: `instance` is a UUID, each series has labels of the scope, and there is no `up`.
    Otlp,
}

/// A node with an exporter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    pub(super) number: u32,
    pub(super) route: Route,
}

impl Node {
    pub(super) const fn scraped(number: u32) -> Self {
        Self { number, route: Route::Scrape }
    }

    pub(super) const fn pushed(number: u32) -> Self {
        Self { number, route: Route::Otlp }
    }

    pub(super) fn instance(self) -> String {
        match self.route {
            Route::Scrape => format!("10.0.0.{}:10048", self.number),
            Route::Otlp => format!("6ba7b810-9dad-51d1-80b4-{:012}", self.number),
        }
    }

    /// Its name in Kubernetes.
    pub(super) fn name(self) -> String {
        format!("node-{}", self.number)
    }
}

/// The programs of an agent that runs on each node, by name and type.
pub(super) const AGENT: [(&str, &str); 4] = [
    ("from_container", "sched_cls"),
    ("connect4", "cgroup_sock_addr"),
    ("balance", "xdp"),
    ("trace_exec", "kprobe"),
];

/// Series of so many minutes.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) minutes: u32,
    pub(super) series: Vec<Value>,
}

impl Input {
    pub(super) fn new(minutes: u32) -> Self {
        Self { minutes, series: Vec::new() }
    }

    /// Adds a series without a node, with its value in each minute. `None` after a value ends the series, as a scrape does.
    pub(super) fn add_plain(
        &mut self,
        metric: impl Display,
        labels: &str,
        value: impl Fn(u32) -> Option<f64>,
    ) {
        let mut before = false;
        let samples: Vec<String> = (0..=self.minutes)
            .map(|minute| {
                let sample = value(minute);
                let written = match sample {
                    Some(value) => value.to_string(),
                    None if before => "stale".to_owned(),
                    None => "_".to_owned(),
                };
                before = sample.is_some();
                written
            })
            .collect();
        self.series.push(json!({"series": format!("{metric}{{{labels}}}"), "values": samples.join(" ")}));
    }

    /// Adds a series of a node.
    pub(super) fn add(
        &mut self,
        node: Node,
        metric: impl Display,
        labels: &str,
        value: impl Fn(u32) -> Option<f64>,
    ) {
        let separator = if labels.is_empty() { "" } else { "," };
        let scope = match node.route {
            Route::Scrape => "",
            Route::Otlp => r#",otel_scope_name="bpf-metrics-exporter",otel_scope_version="0.1.0""#,
        };
        let labels = format!(r#"job="bpf",instance="{}"{scope}{separator}{labels}"#, node.instance());
        self.add_plain(metric, &labels, value);
    }

    /// Adds what each exporter reports of itself while it runs.
    pub(super) fn add_exporter(&mut self, node: Node, runs: impl Fn(u32) -> bool + Copy) {
        let while_it_runs = |value: f64| move |minute| runs(minute).then_some(value);
        match node.route {
            Route::Scrape => self.add(node, "up", "", |minute| Some(f64::from(u8::from(runs(minute))))),
            Route::Otlp => {}
        }
        self.add_names(node, runs);
        self.add(node, names::BUILD_INFO, r#"version="0.1.0""#, while_it_runs(1.0));
        self.add(node, names::OBJECTS, r#"kind="program""#, while_it_runs(100.0));
        for collector in ["program", "map", "link", "btf", "holder", "pin", "cgroup", "hook"] {
            let labels = format!(r#"collector="{collector}",reader="iter""#);
            self.add(node, names::COLLECT_SUCCESS, &labels, while_it_runs(1.0));
        }
    }

    /// Adds the resource of a node.
    pub(super) fn add_names(&mut self, node: Node, there: impl Fn(u32) -> bool) {
        let name = node.name();
        let host = format!("ip-10-0-0-{}", node.number);
        let labels = format!(r#"host_name="{host}",k8s_node_name="{name}",k8s_cluster_name="east""#);
        // The resource has no scope.
        let labels = format!(r#"job="bpf",instance="{}",{labels}"#, node.instance());
        self.add_plain("target_info", &labels, |minute| there(minute).then_some(1.0));
    }

    /// Adds the seconds in which run statistics were on, of each minute.
    pub(super) fn add_covered(&mut self, node: Node, seconds: f64) {
        self.add(node, names::RUN_STATS_COVERED, "", |minute| Some(seconds * f64::from(minute)));
    }
}

/// Always this value.
pub(super) fn always(value: f64) -> impl Fn(u32) -> Option<f64> + Copy {
    move |_| Some(value)
}

/// The first value before this minute, and the second from then on.
pub(super) fn step(minute: u32, before: f64, after: f64) -> impl Fn(u32) -> Option<f64> + Copy {
    move |now| Some(if now < minute { before } else { after })
}

/// From `start`, growing by so much each minute from this one on, up to a limit.
pub(super) fn ramp(minute: u32, start: f64, growth: f64, limit: f64) -> impl Fn(u32) -> Option<f64> + Copy {
    move |now| Some((start + growth * f64::from(now.saturating_sub(minute))).min(limit))
}
