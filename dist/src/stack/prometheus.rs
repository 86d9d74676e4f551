//! `dist/stack/prometheus.yaml`: the configuration of Prometheus, with the files of rules by name.

use super::services::RULES;
use super::yaml::Lines;
use crate::File;

const BEFORE_RULES: &str = "\
# Made by `just dashboards` from dist/src/stack/prometheus.rs.
#
# Prometheus: nothing is scraped. Metrics are pushed to its OTLP receiver, which --web.enable-otlp-receiver enables.
global:
  evaluation_interval: 30s

# By name: Podman keeps the volume of a ConfigMap, with files of an older version that are no longer in it.
rule_files:
";

const AFTER_RULES: &str = "
storage:
  tsdb:
    # While the Collector is away, the exporter keeps what it could not deliver, days of a host with few objects. Without a window,
    # Prometheus refuses points an hour older than the newest point of any series; with it, those of longer outages than that.
    out_of_order_time_window: 2h
";

/// Returns the file.
pub(super) fn file(rules: &[File]) -> File {
    let mut lines = Lines::default();
    lines.block(0, BEFORE_RULES);
    for rule in rules {
        lines.add(2, &format!("- {RULES}/{}", rule.name()));
    }
    lines.block(0, AFTER_RULES);
    File { path: "dist/stack/prometheus.yaml".to_owned(), text: lines.finish() }
}
