//! The services of the stack: their images, ports, settings and files. `metrics-stack.yaml` and `compose.yaml` are made of this
//! table.

use super::prometheus;
use crate::File;

/// A server in a container.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its name, by which the others find it, too.
    pub name: &'static str,
    /// What it is here for.
    pub purpose: &'static str,
    /// Registry and repository of its image.
    pub image: &'static str,
    /// Tag of its image.
    pub version: &'static str,
    /// Where the version was taken from.
    pub origin: &'static str,
    /// TCP ports, published under the same number on the loopback interface of the host.
    pub ports: &'static [Port],
    /// Arguments of the image's entry point.
    pub arguments: &'static [Argument],
    /// Environment variables.
    pub environment: &'static [Variable],
    /// Folders in the container with files of this repository.
    pub folders: Vec<Folder>,
    /// The services that it sends requests to.
    pub uses: &'static [&'static str],
}

/// A published port, and its use.
#[derive(Clone, Copy, Debug)]
pub struct Port(pub u16, pub &'static str);

/// An argument, and a comment on it if it needs one.
#[derive(Clone, Copy, Debug)]
pub struct Argument(pub &'static str, pub &'static str);

/// An environment variable, its value, and a comment on it if it needs one.
#[derive(Clone, Copy, Debug)]
pub struct Variable(pub &'static str, pub &'static str, pub &'static str);

/// Files in a folder of a container.
#[derive(Clone, Debug)]
pub struct Folder {
    /// Name of its `ConfigMap`.
    pub name: &'static str,
    /// Path in the container.
    pub path: &'static str,
    /// The files, with their paths in the repository.
    pub files: Vec<File>,
}

/// Address of the host on which ports are published: whoever reaches Grafana is its administrator, and nobody has to log in to
/// the Collector and Prometheus.
pub const PUBLISHED_ON: &str = "127.0.0.1";

/// Path of the folder of dashboards in the container.
pub const DASHBOARDS: &str = "/etc/grafana/dashboards";

/// Path of the folder of rules in the container.
pub const RULES: &str = "/etc/prometheus/rules";

/// Returns a file of the repository, which is at this path and is not made here.
macro_rules! kept {
    ($path:literal) => {
        File { path: $path.to_owned(), text: include_str!(concat!("../../../", $path)).to_owned() }
    };
}

/// Returns those files that are directly in a folder.
pub(super) fn in_folder(files: &[File], folder: &str) -> Vec<File> {
    let is_there = |file: &&File| file.path.rsplit_once('/').is_some_and(|(of, _)| of == folder);
    files.iter().filter(is_there).cloned().collect()
}

/// Returns the services, with the dashboards and rules among `made`.
#[must_use]
pub fn all(made: &[File]) -> Vec<Service> {
    let rules = in_folder(made, "dist/prometheus");
    vec![
        Service {
            name: "collector",
            purpose: "OpenTelemetry Collector: takes OTLP from the exporter",
            image: "docker.io/otel/opentelemetry-collector",
            version: "0.152.0",
            origin: "Version of Debian's sources when the stack was last tested (2026-11-28).",
            ports: &[Port(4317, "OTLP over gRPC"), Port(4318, "OTLP over HTTP")],
            arguments: &[Argument("--config=/etc/otelcol/stack/otelcol.yaml", "")],
            environment: &[],
            folders: vec![Folder {
                name: "bpf-metrics-collector",
                path: "/etc/otelcol/stack",
                files: vec![kept!("dist/stack/otelcol.yaml")],
            }],
            uses: &["prometheus"],
        },
        Service {
            name: "prometheus",
            purpose: "Prometheus: keeps the metrics and evaluates the rules",
            image: "docker.io/prom/prometheus",
            version: "v3.5.3",
            origin: "Version of Debian's sources when the stack was last tested (2026-11-28).",
            ports: &[Port(9090, "Its own pages and API")],
            arguments: &[
                Argument("--config.file=/etc/prometheus/stack/prometheus.yaml", ""),
                Argument("--storage.tsdb.path=/prometheus", ""),
                Argument(
                    "--storage.tsdb.retention.time=7d",
                    "The limits of time and of size: what is beyond either is deleted.",
                ),
                Argument("--storage.tsdb.retention.size=2GB", ""),
                Argument("--web.enable-otlp-receiver", ""),
                Argument("--enable-feature=native-histograms", "For histograms over OTLP; on since 3.8."),
            ],
            environment: &[],
            folders: vec![
                Folder {
                    name: "bpf-metrics-prometheus",
                    path: "/etc/prometheus/stack",
                    files: vec![prometheus::file(&rules)],
                },
                Folder { name: "bpf-metrics-rules", path: RULES, files: rules },
            ],
            uses: &[],
        },
        Service {
            name: "grafana",
            purpose: "Grafana: shows the dashboards, http://localhost:3000",
            image: "docker.io/grafana/grafana",
            version: "12.4.10",
            origin: "From the release notes of NethServer/ns8-metrics 1.4.0; the last minor version of Grafana 12.",
            ports: &[Port(3000, "Its pages")],
            arguments: &[],
            environment: &[
                Variable("GF_SECURITY_ADMIN_USER", "admin", ""),
                Variable("GF_SECURITY_ADMIN_PASSWORD", "admin", ""),
                Variable(
                    "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH",
                    "/etc/grafana/dashboards/ebpf-subsystem-metrics.json",
                    "The dashboard that is shown after the login.",
                ),
                Variable(
                    "GF_ANALYTICS_REPORTING_ENABLED",
                    "false",
                    "Settings that keep requests on the machine: no statistics of use, no look for updates, no news, no pictures of users, no \
                     plugins, no snapshots elsewhere. That they suffice is not tested.",
                ),
                Variable("GF_ANALYTICS_CHECK_FOR_UPDATES", "false", ""),
                Variable("GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES", "false", ""),
                Variable("GF_ANALYTICS_FEEDBACK_LINKS_ENABLED", "false", ""),
                Variable("GF_NEWS_NEWS_FEED_ENABLED", "false", ""),
                Variable("GF_SECURITY_DISABLE_GRAVATAR", "true", ""),
                Variable("GF_PLUGINS_PREINSTALL_DISABLED", "true", ""),
                Variable("GF_PLUGINS_PREINSTALL_AUTO_UPDATE", "false", ""),
                Variable("GF_PLUGINS_PLUGIN_ADMIN_ENABLED", "false", ""),
                Variable("GF_PLUGINS_PUBLIC_KEY_RETRIEVAL_DISABLED", "true", ""),
                Variable("GF_SNAPSHOTS_EXTERNAL_ENABLED", "false", ""),
            ],
            folders: vec![
                Folder {
                    name: "bpf-metrics-grafana-datasources",
                    path: "/etc/grafana/provisioning/datasources",
                    files: vec![kept!("dist/stack/grafana-datasource.yaml")],
                },
                Folder {
                    name: "bpf-metrics-grafana-providers",
                    path: "/etc/grafana/provisioning/dashboards",
                    files: vec![kept!("dist/stack/grafana-dashboards.yaml")],
                },
                Folder {
                    name: "bpf-metrics-dashboards",
                    path: DASHBOARDS,
                    files: in_folder(made, "dist/grafana"),
                },
            ],
            uses: &["prometheus"],
        },
    ]
}
