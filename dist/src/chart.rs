//! The copies of rules and dashboards in the Helm chart: Helm reads no file outside of a chart, and packages no symbolic links.
//! Entry point: [`files`].

use crate::File;

/// The folder of the chart's files.
pub const FOLDER: &str = "dist/helm/bpf-metrics-exporter/files";

/// Returns the copies of the dashboards and rules among `made`.
#[must_use]
pub fn files(made: &[File]) -> Vec<File> {
    let folders = [("dist/grafana/", "dashboards"), ("dist/prometheus/", "rules")];
    let copies = made.iter().filter_map(|file| {
        let (_, folder) = folders.iter().find(|(from, _)| file.path.starts_with(from))?;
        Some(File { path: format!("{FOLDER}/{folder}/{}", file.name()), text: file.text.clone() })
    });
    copies.collect()
}
