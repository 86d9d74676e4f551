//! The stack to try the program out: an OpenTelemetry Collector, Prometheus and Grafana, for Podman and for Docker.
//! Entry point: [`files`].

mod compose;
mod kube;
mod prometheus;
pub mod services;
mod yaml;

use crate::File;

/// Name of the pod and of the Compose project. Podman takes a folder or file of this name in the working directory for a build
/// context, so none may be in the root of the repository.
pub const NAME: &str = "bpf-metrics";

/// Returns `metrics-stack.yaml`, `compose.yaml` and the configuration of Prometheus, with the dashboards and rules among `made`.
#[must_use]
pub fn files(made: &[File]) -> Vec<File> {
    let services = services::all(made);
    vec![
        prometheus::file(&services::in_folder(made, "dist/prometheus")),
        File { path: "metrics-stack.yaml".to_owned(), text: kube::render(&services) },
        File { path: "compose.yaml".to_owned(), text: compose::render(&services) },
    ]
}
