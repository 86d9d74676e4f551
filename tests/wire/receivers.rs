//! The receivers: paths, configuration and queries. The configuration is JSON, which is also YAML.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::processes::{Process, SOON, eventually};
use crate::received;
use crate::series::{self, Row, Values};
use test_support::http::{free_address, get};
use test_support::receivers;

/// A program that `tests/receivers/install` installs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Receiver {
    Collector,
    Prometheus,
    /// A later one, whose OTLP receiver is built in.
    PrometheusOtlp,
    Promtool,
    VictoriaMetrics,
}

impl Receiver {
    /// Returns its path, if it is installed.
    pub(crate) fn path(self) -> PathBuf {
        receivers::path(match self {
            Self::Collector => "otelcol",
            Self::Prometheus => "prometheus",
            Self::PrometheusOtlp => "prometheus-otlp",
            Self::Promtool => "promtool",
            Self::VictoriaMetrics => "victoria-metrics",
        })
    }
}

/// The OpenTelemetry Collector: receives metrics and logs as OTLP over gRPC, with its default limits, and prints what arrives.
pub(crate) struct Collector {
    pub(crate) process: Process,
    /// Address of its OTLP receiver.
    pub(crate) receives: SocketAddr,
    /// Address of its own metrics.
    own: SocketAddr,
    output: PathBuf,
    logs: PathBuf,
}

/// Verbosity of its output.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verbosity {
    /// A line for each point.
    Normal,
    /// Everything.
    Detailed,
}

impl Collector {
    /// Starts it with its files in `folder`. It receives OTLP at `receives`, and forwards it to `next`, a URL for metrics, as OTLP over
    /// HTTP.
    pub(crate) fn start(
        folder: &Path,
        receives: SocketAddr,
        verbosity: Verbosity,
        next: Option<&str>,
    ) -> Self {
        Self::start_with(folder, receives, &json!({"grpc": {"endpoint": receives}}), verbosity, next)
    }

    /// The same with these protocols of its OTLP receiver.
    pub(crate) fn start_with(
        folder: &Path,
        receives: SocketAddr,
        protocols: &Value,
        verbosity: Verbosity,
        next: Option<&str>,
    ) -> Self {
        let own = free_address();
        let (output, logs) = (folder.join("received"), folder.join("received-logs"));
        let printing = |output: &Path| {
            json!({
                "verbosity": match verbosity { Verbosity::Normal => "normal", Verbosity::Detailed => "detailed" },
                // The Collector's own log drops frequent messages.
                "use_internal_logger": false,
                "output_paths": [output],
            })
        };
        let mut exporters = json!({"debug": printing(&output)});
        if let Some(next) = next {
            exporters["otlp_http"] = json!({
                "metrics_endpoint": next,
                "sending_queue": {"enabled": false},
                "retry_on_failure": {"enabled": false},
            });
        }
        let of_metrics = exporters.as_object().expect("it is written as one").keys();
        let of_metrics: Vec<String> = of_metrics.cloned().collect();
        exporters["debug/logs"] = printing(&logs);
        let reader = json!({"pull": {"exporter": {"prometheus": {"host": own.ip(), "port": own.port()}}}});
        let settings = json!({
            "receivers": {"otlp": {"protocols": protocols}},
            "service": {
                "pipelines": {
                    "metrics": {"receivers": ["otlp"], "exporters": of_metrics},
                    "logs": {"receivers": ["otlp"], "exporters": ["debug/logs"]},
                },
                "telemetry": {"metrics": {"readers": [reader]}},
            },
            "exporters": exporters,
        });
        let mut command = Command::new(Receiver::Collector.path());
        command.arg("--config").arg(write_settings(folder, &settings));
        let mut process = Process::start("otelcol", &mut command, folder);
        process.says("Everything is ready");
        Self { process, receives, own, output, logs }
    }

    /// Returns its output of metrics so far.
    pub(crate) fn received(&self) -> String {
        fs::read(&self.output).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Returns its output of logs so far.
    pub(crate) fn received_logs(&self) -> String {
        fs::read(&self.logs).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Returns the number of points in the printed requests.
    pub(crate) fn announced(&self) -> u64 {
        received::requests(&self.received()).map(received::announced).sum()
    }

    /// Returns its own counter of accepted points.
    pub(crate) fn accepted(&self) -> u64 {
        let own = get(self.own, "/metrics").unwrap_or_else(|problem| panic!("{problem}"));
        // The counter does not exist before the first request.
        series::count(&series::of_exposition(&own), "otelcol_receiver_accepted_metric_points")
    }
}

/// The flag with which a Prometheus before 3.8 stores native histograms.
const NATIVE_HISTOGRAMS: &str = "--enable-feature=native-histograms";

/// A Prometheus server that scrapes, every second, or takes OTLP.
pub(crate) struct Prometheus {
    pub(crate) process: Process,
    serves: SocketAddr,
}

impl Prometheus {
    /// Starts it with its files in `folder`. It scrapes these addresses.
    pub(crate) fn start(folder: &Path, scrapes: &[SocketAddr]) -> Self {
        let settings = json!({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "scrape_configs": [{"job_name": "wire", "static_configs": [{"targets": scrapes}]}],
        });
        Self::start_with(&mut Command::new(Receiver::Prometheus.path()), folder, &settings)
    }

    /// The same with a file of rules, in which series last for this time after their last sample.
    pub(crate) fn start_with_rules(
        folder: &Path,
        scrapes: &[SocketAddr],
        rules: &str,
        lookback: &str,
    ) -> Self {
        let file = folder.join("rules.yaml");
        fs::write(&file, rules).unwrap_or_else(|error| panic!("failed to write {}: {error}", file.display()));
        let settings = json!({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "rule_files": [file],
            "scrape_configs": [{"job_name": "wire", "static_configs": [{"targets": scrapes}]}],
        });
        let mut command = Command::new(Receiver::Prometheus.path());
        command.arg(option("query.lookback-delta", lookback));
        Self::start_with(&mut command, folder, &settings)
    }

    /// Returns the rules that could not be evaluated, with their errors, and the number of those that could.
    ///
    /// # Errors
    ///
    /// The response otherwise.
    pub(crate) fn rules(&self) -> Result<(Vec<String>, usize), String> {
        let answer = get(self.serves, "/api/v1/rules")?;
        let value: Value = serde_json::from_str(&answer).map_err(|error| error.to_string())?;
        let groups = value["data"]["groups"].as_array().ok_or(answer)?;
        let rules: Vec<&Value> =
            groups.iter().filter_map(|group| group["rules"].as_array()).flatten().collect();
        let failed = rules.iter().filter(|rule| rule["health"] == "err").map(ToString::to_string).collect();
        Ok((failed, rules.iter().filter(|rule| rule["health"] == "ok").count()))
    }

    /// Starts a later one, which scrapes protobuf: native histograms, and the buckets of classic ones beside them.
    pub(crate) fn start_native(folder: &Path, scrapes: &[SocketAddr]) -> Self {
        let settings = json!({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "scrape_configs": [{
                "job_name": "wire",
                "always_scrape_classic_histograms": true,
                "static_configs": [{"targets": scrapes}],
            }],
        });
        let mut command = Command::new(Receiver::PrometheusOtlp.path());
        command.arg(NATIVE_HISTOGRAMS);
        Self::start_with(&mut command, folder, &settings)
    }

    /// Starts one that takes OTLP, with its files in `folder` and these settings.
    pub(crate) fn start_receiving(folder: &Path, settings: &Value) -> Self {
        let mut command = Command::new(Receiver::PrometheusOtlp.path());
        command.args(["--web.enable-otlp-receiver", NATIVE_HISTOGRAMS]);
        Self::start_with(&mut command, folder, settings)
    }

    /// The same, in which series last for this time after their last sample.
    pub(crate) fn start_receiving_with(folder: &Path, settings: &Value, lookback: &str) -> Self {
        let mut command = Command::new(Receiver::PrometheusOtlp.path());
        command.args(["--web.enable-otlp-receiver", NATIVE_HISTOGRAMS]);
        command.arg(option("query.lookback-delta", lookback));
        Self::start_with(&mut command, folder, settings)
    }

    /// Starts one that takes remote write, in which series last for this time after their last sample.
    pub(crate) fn start_taking_remote_write(folder: &Path, lookback: &str) -> Self {
        let mut command = Command::new(Receiver::PrometheusOtlp.path());
        command.args(["--web.enable-remote-write-receiver", NATIVE_HISTOGRAMS]);
        command.arg(option("query.lookback-delta", lookback));
        Self::start_with(&mut command, folder, &json!({}))
    }

    /// Returns where it takes remote write.
    pub(crate) fn remote_write(&self) -> String {
        format!("http://{}/api/v1/write", self.serves)
    }

    /// Returns the answer of its API.
    ///
    /// # Errors
    ///
    /// Another status than 200, with the answer.
    pub(crate) fn answer(&self, path: &str) -> Result<String, String> {
        get(self.serves, path)
    }

    /// The same with default settings, which take no native histograms.
    pub(crate) fn start_receiving_numbers(folder: &Path) -> Self {
        let mut command = Command::new(Receiver::PrometheusOtlp.path());
        command.arg("--web.enable-otlp-receiver");
        Self::start_with(&mut command, folder, &json!({}))
    }

    fn start_with(command: &mut Command, folder: &Path, settings: &Value) -> Self {
        let serves = free_address();
        command.arg(option("config.file", write_settings(folder, settings).display()));
        command.arg(option("storage.tsdb.path", folder.join("series").display()));
        command.arg(option("web.listen-address", serves));
        command.arg(option("log.level", "warn"));
        let mut process = Process::start("prometheus", command, folder);
        answers(&mut process, serves, "/-/ready");
        Self { process, serves }
    }

    /// Returns where it takes OTLP over HTTP.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}/api/v1/otlp/v1/metrics", self.serves)
    }

    /// Returns the current series of a selector.
    ///
    /// # Errors
    ///
    /// The response otherwise.
    pub(crate) fn query(&self, selector: &str) -> Result<Values, String> {
        query(self.serves, selector, SystemTime::now())
    }

    /// Returns what an expression yields now; a scalar is a row without labels.
    ///
    /// # Errors
    ///
    /// The response, also if the expression is malformed or cannot be evaluated.
    pub(crate) fn rows(&self, expression: &str) -> Result<Vec<Row>, String> {
        rows(self.serves, expression)
    }

    /// Returns type, help and unit of a metric family.
    pub(crate) fn metadata(&self, family: &str) -> Value {
        let answer = get(self.serves, &format!("/api/v1/metadata?metric={family}"));
        let answer =
            answer.and_then(|answer| serde_json::from_str(&answer).map_err(|error| error.to_string()));
        let mut answer: Value = answer.unwrap_or_else(|problem| panic!("{problem}"));
        answer["data"][family][0].take()
    }

    /// Returns the error of the last scrape; empty if it succeeded.
    ///
    /// # Errors
    ///
    /// The response otherwise; also before the first scrape.
    pub(crate) fn last_error(&self) -> Result<String, String> {
        let answer = get(self.serves, "/api/v1/targets")?;
        let targets: Value = serde_json::from_str(&answer).map_err(|error| error.to_string())?;
        let target = &targets["data"]["activeTargets"][0];
        match (target["health"].as_str(), target["lastError"].as_str()) {
            (Some("up" | "down"), Some(error)) => Ok(error.to_owned()),
            _ => Err(format!("not scraped yet: {answer}")),
        }
    }
}

/// A `VictoriaMetrics` server that takes OTLP, and names series as Prometheus would.
pub(crate) struct VictoriaMetrics {
    #[expect(dead_code, reason = "held for its end")]
    process: Process,
    serves: SocketAddr,
}

impl VictoriaMetrics {
    /// Starts it with its files in `folder`.
    pub(crate) fn start(folder: &Path) -> Self {
        Self::start_with(&mut Command::new(Receiver::VictoriaMetrics.path()), folder)
    }

    /// The same with the labels that dashboards need, and with series that last for this time after their last sample.
    pub(crate) fn start_for_dashboards(folder: &Path, staleness: Duration) -> Self {
        let label = |from: &str, to: &str| json!({"source_labels": [from], "target_label": to});
        let labels = json!([label("service_name", "job"), label("service_instance_id", "instance")]);
        let path = folder.join("relabel.yaml");
        fs::write(&path, labels.to_string())
            .unwrap_or_else(|error| panic!("failed to write {}: {error}", path.display()));
        let mut command = Command::new(Receiver::VictoriaMetrics.path());
        command.arg(option("relabelConfig", path.display()));
        command.arg(option("search.minStalenessInterval", format!("{}s", staleness.as_secs())));
        Self::start_with(&mut command, folder)
    }

    fn start_with(command: &mut Command, folder: &Path) -> Self {
        let serves = free_address();
        command.arg(option("httpListenAddr", serves));
        command.arg(option("storageDataPath", folder.join("series").display()));
        command.arg(option("retentionPeriod", "1d"));
        // Queries must return what was just written.
        command.args(["-search.latencyOffset=0s", "-search.disableCache"]);
        command.args(["-opentelemetry.usePrometheusNaming", "-loggerLevel=WARN"]);
        let mut process = Process::start("victoria-metrics", command, folder);
        answers(&mut process, serves, "/health");
        Self { process, serves }
    }

    /// Returns where it takes OTLP over HTTP.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}/opentelemetry/v1/metrics", self.serves)
    }

    /// Returns the answer of its API.
    ///
    /// # Errors
    ///
    /// Another status than 200, with the answer.
    pub(crate) fn answer(&self, path: &str) -> Result<String, String> {
        get(self.serves, "/internal/force_flush")?;
        get(self.serves, path)
    }

    /// Returns the current series of a selector.
    ///
    /// # Errors
    ///
    /// The response otherwise.
    pub(crate) fn query(&self, selector: &str) -> Result<Values, String> {
        get(self.serves, "/internal/force_flush")?;
        query(self.serves, selector, SystemTime::now())
    }

    /// Returns what an expression yields now.
    ///
    /// # Errors
    ///
    /// The response, also if the expression is malformed or cannot be evaluated.
    pub(crate) fn rows(&self, expression: &str) -> Result<Vec<Row>, String> {
        get(self.serves, "/internal/force_flush")?;
        rows(self.serves, expression)
    }
}

fn rows(address: SocketAddr, expression: &str) -> Result<Vec<Row>, String> {
    let expression = utf8_percent_encode(expression, NON_ALPHANUMERIC);
    let answer = get(address, &format!("/api/v1/query?query={expression}"))?;
    series::rows(&answer).ok_or(answer)
}

/// Waits until a process listens.
fn answers(process: &mut Process, address: SocketAddr, path: &str) {
    eventually(&format!("http://{address}{path} answers"), SOON, || {
        process.assert_running();
        get(address, path)
    });
}

fn query(address: SocketAddr, selector: &str, at: SystemTime) -> Result<Values, String> {
    let time = at.duration_since(UNIX_EPOCH).expect("it is later than 1970").as_secs_f64();
    let selector = utf8_percent_encode(selector, NON_ALPHANUMERIC);
    series::of_answer(&get(address, &format!("/api/v1/query?query={selector}&time={time:.3}"))?)
}

/// Formats a flag as Go programs expect it.
fn option(name: &str, value: impl std::fmt::Display) -> String {
    format!("--{name}={value}")
}

fn write_settings(folder: &Path, settings: &Value) -> PathBuf {
    let path = folder.join("settings.yaml");
    fs::write(&path, settings.to_string())
        .unwrap_or_else(|error| panic!("failed to write {}: {error}", path.display()));
    path
}
