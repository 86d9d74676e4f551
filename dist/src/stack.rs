//! The stack to try the program out: an OpenTelemetry Collector, Prometheus and Grafana, for Podman and for Docker.

use crate::File;

/// Returns `metrics-stack.yaml` and `compose.yaml`.
#[must_use]
pub fn files() -> Vec<File> {
    Vec::new()
}
