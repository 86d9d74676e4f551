//! The gateway and the stores behind it: configuration, what they cost, their own metrics, and queries.
//! Entry points: [`Gateway::start`], [`Store::start`].

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use nix::sys::signal::Signal;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use test_support::http::{free_address, get};
use test_support::receivers::path;

use crate::interrupt::Interrupt;
use crate::process::Process;

/// The OpenTelemetry Collector.
const COLLECTOR: &str = "otelcol";

/// Gives `VictoriaMetrics` the labels that Prometheus makes of the resource, which dashboards and rules need: it keeps the attributes of the
/// resource as labels of each series.
const RELABEL: &str = "\
- source_labels: [service_name]
  regex: (.+)
  target_label: job
- source_labels: [service_instance_id]
  regex: (.+)
  target_label: instance
";

/// An OpenTelemetry Collector with the settings of `dist/collector/gateway.yaml`, without TLS.
pub struct Gateway {
    process: Process,
    receives: SocketAddr,
    own: SocketAddr,
}

/// What a gateway counted since its start.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct GatewayCounts {
    /// Points that it took.
    pub accepted: u64,
    /// Points that it refused, such as with a full queue.
    pub refused: u64,
    /// Points that stores took.
    pub sent: u64,
    /// Points that it dropped after a store's refusal.
    pub failed: u64,
}

impl Gateway {
    /// Starts it with its files in `folder`. It passes points on to these stores.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub fn start(
        folder: &Path,
        receives: SocketAddr,
        stores: &[Store],
        interrupt: &Interrupt,
    ) -> anyhow::Result<Self> {
        let own = free_address();
        let mut exporters = serde_json::Map::new();
        for store in stores {
            let exporter = json!({
                "metrics_endpoint": store.endpoint(),
                "retry_on_failure": {"max_elapsed_time": 0},
                "sending_queue": {"queue_size": 1000, "num_consumers": 1},
            });
            exporters.insert(format!("otlp_http/{}", store.kind.name()), exporter);
        }
        let names: Vec<&String> = exporters.keys().collect();
        let reader = json!({"pull": {"exporter": {"prometheus": {"host": own.ip(), "port": own.port()}}}});
        let settings = json!({
            "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": receives, "max_recv_msg_size_mib": 16}}}},
            "processors": {
                "memory_limiter": {"check_interval": "1s", "limit_percentage": 75, "spike_limit_percentage": 15},
            },
            "service": {
                "pipelines": {
                    "metrics": {"receivers": ["otlp"], "processors": ["memory_limiter"], "exporters": names},
                },
                "telemetry": {"metrics": {"readers": [reader]}},
            },
            "exporters": exporters,
        });
        let mut command = Command::new(path(COLLECTOR));
        command.arg("--config").arg(write(folder, "gateway.yaml", &settings.to_string())?);
        let mut process = Process::start(COLLECTOR, &mut command, folder)?;
        process.wait_until(interrupt, || get(own, "/metrics").is_ok())?;
        process.wait_until(interrupt, || std::net::TcpStream::connect(receives).is_ok())?;
        Ok(Self { process, receives, own })
    }

    /// Returns where it receives OTLP.
    #[must_use]
    pub fn receives(&self) -> SocketAddr {
        self.receives
    }

    /// Returns its process.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Kills it.
    ///
    /// # Errors
    ///
    /// If it has ended before.
    pub fn kill(self) -> anyhow::Result<()> {
        self.process.kill()?;
        Ok(())
    }

    /// Returns its own counters.
    ///
    /// # Errors
    ///
    /// If it does not answer.
    pub fn counts(&self) -> anyhow::Result<GatewayCounts> {
        let text = get(self.own, "/metrics").map_err(|error| anyhow!(error))?;
        let sum = |name: &str| count(sum_of(&text, name, ""));
        Ok(GatewayCounts {
            accepted: sum("otelcol_receiver_accepted_metric_points"),
            refused: sum("otelcol_receiver_refused_metric_points")
                + sum("otelcol_receiver_failed_metric_points"),
            sent: sum("otelcol_exporter_sent_metric_points"),
            failed: sum("otelcol_exporter_send_failed_metric_points"),
        })
    }

    /// Returns the requests that wait for stores.
    ///
    /// # Errors
    ///
    /// If it does not answer.
    pub fn queued(&self) -> anyhow::Result<u64> {
        let text = get(self.own, "/metrics").map_err(|error| anyhow!(error))?;
        Ok(count(sum_of(&text, "otelcol_exporter_queue_size", "")))
    }
}

/// A kind of store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum StoreKind {
    /// Prometheus, by its OTLP receiver.
    Prometheus,
    /// `VictoriaMetrics`, by OTLP.
    Victoria,
}

impl StoreKind {
    /// Returns its name in results.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prometheus => "prometheus",
            Self::Victoria => "victoria",
        }
    }

    /// Returns the path of the program, if it is installed.
    #[must_use]
    pub fn program(self) -> PathBuf {
        path(match self {
            Self::Prometheus => "prometheus-otlp",
            Self::Victoria => "victoria-metrics",
        })
    }
}

/// Returns the programs of a run that are not installed.
#[must_use]
pub fn missing(stores: &[StoreKind]) -> Vec<PathBuf> {
    let programs = stores.iter().map(|store| store.program());
    [path(COLLECTOR)].into_iter().chain(programs).filter(|path| !path.is_file()).collect()
}

/// A store.
pub struct Store {
    kind: StoreKind,
    process: Process,
    serves: SocketAddr,
    rules: PathBuf,
}

/// What a store has.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct StoreCounts {
    /// Series that are active: in the head of Prometheus, or with a sample in the last hour in `VictoriaMetrics`.
    pub series: u64,
    /// Series that were made since its start.
    pub series_created: u64,
    /// Samples that it took since its start.
    pub samples: u64,
    /// Samples that it did not take since its start: too old, too new, or twice.
    pub refused: u64,
}

/// A row of what an expression yields.
#[derive(Clone, Debug)]
pub struct Row {
    /// The labels that are left.
    pub labels: serde_json::Map<String, Value>,
    /// Its values: one, or those of the steps of a range.
    pub values: Vec<(f64, f64)>,
}

impl Store {
    /// Starts it with its files in `folder`.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub fn start(
        kind: StoreKind,
        folder: &Path,
        unchanged: Duration,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Self> {
        let serves = free_address();
        let mut command = Command::new(kind.program());
        let rules = write(folder, "rules.yaml", "groups: []\n")?;
        let ready = match kind {
            StoreKind::Prometheus => {
                // As dist/stack/prometheus.yaml.
                let settings = json!({
                    "global": {"evaluation_interval": "30s"},
                    "rule_files": [rules],
                    "storage": {"tsdb": {"out_of_order_time_window": "2h"}},
                });
                command.arg(format!(
                    "--config.file={}",
                    write(folder, "prometheus.yaml", &settings.to_string())?.display()
                ));
                command.arg(format!("--storage.tsdb.path={}", folder.join("prometheus").display()));
                command.arg(format!("--web.listen-address={serves}"));
                command.args([
                    "--web.enable-otlp-receiver",
                    "--enable-feature=native-histograms",
                    "--log.level=warn",
                ]);
                "/-/ready"
            }
            StoreKind::Victoria => {
                command.arg(format!("--httpListenAddr={serves}"));
                let relabel = write(folder, "relabel.yaml", RELABEL)?;
                command.arg(format!("--relabelConfig={}", relabel.display()));
                command.arg(format!("--storageDataPath={}", folder.join("victoria").display()));
                command.arg(format!("--search.minStalenessInterval={}s", 2 * unchanged.as_secs()));
                command.args(["-retentionPeriod=1d", "-search.latencyOffset=0s", "-search.disableCache"]);
                command.args(["-opentelemetry.usePrometheusNaming", "-loggerLevel=WARN"]);
                "/health"
            }
        };
        let mut process = Process::start(kind.name(), &mut command, folder)?;
        process.wait_until(interrupt, || get(serves, ready).is_ok())?;
        Ok(Self { kind, process, serves, rules })
    }

    /// Returns its kind.
    #[must_use]
    pub fn kind(&self) -> StoreKind {
        self.kind
    }

    /// Returns its process.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Returns where it takes OTLP over HTTP.
    #[must_use]
    pub fn endpoint(&self) -> String {
        let path = match self.kind {
            StoreKind::Prometheus => "/api/v1/otlp/v1/metrics",
            StoreKind::Victoria => "/opentelemetry/v1/metrics",
        };
        format!("http://{}{path}", self.serves)
    }

    /// Has Prometheus evaluate these rules.
    ///
    /// # Errors
    ///
    /// If they cannot be written, or it has ended.
    pub fn evaluate(&self, rules: &str) -> anyhow::Result<()> {
        fs::write(&self.rules, rules)?;
        self.process.signal(Signal::SIGHUP)
    }

    /// Returns its own counters.
    ///
    /// # Errors
    ///
    /// If it does not answer.
    pub fn counts(&self) -> anyhow::Result<StoreCounts> {
        let text = get(self.serves, "/metrics").map_err(|error| anyhow!(error))?;
        let sum = |name: &str, label: &str| count(sum_of(&text, name, label));
        Ok(match self.kind {
            StoreKind::Prometheus => StoreCounts {
                series: sum("prometheus_tsdb_head_series", ""),
                series_created: sum("prometheus_tsdb_head_series_created_total", ""),
                samples: sum("prometheus_tsdb_head_samples_appended_total", ""),
                refused: ["out_of_bound", "out_of_order", "too_old", "duplicate"]
                    .iter()
                    .map(|why| {
                        sum(&format!("prometheus_tsdb_{why}_samples_total"), "")
                            + sum(&format!("prometheus_target_scrapes_sample_{why}_total"), "")
                    })
                    .sum(),
            },
            StoreKind::Victoria => StoreCounts {
                series: sum("vm_cache_entries", r#"type="storage/hour_metric_ids""#),
                series_created: sum("vm_new_timeseries_created_total", ""),
                samples: sum("vm_rows_inserted_total", r#"type="opentelemetry""#),
                refused: sum("vm_rows_ignored_total", ""),
            },
        })
    }

    /// Returns what an expression yields now.
    ///
    /// # Errors
    ///
    /// The response if it cannot be evaluated.
    pub fn rows(&self, expression: &str) -> anyhow::Result<Vec<Row>> {
        self.flush()?;
        self.ask(&format!("/api/v1/query?query={}", encoded(expression)))
    }

    /// Returns what an expression yields at each step between two moments, in seconds since 1970.
    ///
    /// # Errors
    ///
    /// The response if it cannot be evaluated.
    pub fn range(&self, expression: &str, [from, to]: [f64; 2], step: Duration) -> anyhow::Result<Vec<Row>> {
        self.flush()?;
        let expression = encoded(expression);
        self.ask(&format!(
            "/api/v1/query_range?query={expression}&start={from:.3}&end={to:.3}&step={}",
            step.as_secs_f64()
        ))
    }

    /// Returns the only value of an expression; 0 if it yields none.
    ///
    /// # Errors
    ///
    /// If it cannot be evaluated.
    pub fn value(&self, expression: &str) -> anyhow::Result<f64> {
        let rows = self.rows(expression)?;
        Ok(rows.first().and_then(|row| row.values.first()).map_or(0.0, |&(_, value)| value))
    }

    /// Returns the health of the rules: those that failed, the number of those that were evaluated, and the longest evaluation of a group
    /// in seconds.
    ///
    /// # Errors
    ///
    /// If it does not answer.
    pub fn rules(&self) -> anyhow::Result<(Vec<String>, usize, f64)> {
        let answer = get(self.serves, "/api/v1/rules").map_err(|error| anyhow!(error))?;
        let answer: Value = serde_json::from_str(&answer)?;
        let groups = answer["data"]["groups"].as_array().context("no groups")?;
        let rules: Vec<&Value> =
            groups.iter().filter_map(|group| group["rules"].as_array()).flatten().collect();
        let failed = rules.iter().filter(|rule| rule["health"] == "err");
        let failed = failed.map(|rule| format!("{}: {}", rule["name"], rule["lastError"])).collect();
        let evaluated = rules.iter().filter(|rule| rule["health"] == "ok").count();
        let times = groups.iter().filter_map(|group| group["evaluationTime"].as_f64());
        Ok((failed, evaluated, times.fold(0.0, f64::max)))
    }

    /// Makes what was just written visible.
    fn flush(&self) -> anyhow::Result<()> {
        if self.kind == StoreKind::Victoria {
            get(self.serves, "/internal/force_flush").map_err(|error| anyhow!(error))?;
        }
        Ok(())
    }

    fn ask(&self, path: &str) -> anyhow::Result<Vec<Row>> {
        let answer = get(self.serves, path).map_err(|error| anyhow!(error))?;
        let answer: Value = serde_json::from_str(&answer)?;
        let result = &answer["data"]["result"];
        let sample = |sample: &Value| Some((sample[0].as_f64()?, sample[1].as_str()?.parse().ok()?));
        let row = |row: &Value| {
            let labels = row["metric"].as_object().cloned().unwrap_or_default();
            let values = match row["values"].as_array() {
                Some(values) => values.iter().map(sample).collect::<Option<_>>(),
                None => sample(&row["value"]).map(|value| vec![value]),
            };
            Some(Row { labels, values: values? })
        };
        let rows = match answer["data"]["resultType"].as_str() {
            Some("scalar") => {
                sample(result).map(|value| vec![Row { labels: serde_json::Map::new(), values: vec![value] }])
            }
            // A row with native histograms only has no values.
            Some("vector" | "matrix") => result.as_array().map(|rows| rows.iter().filter_map(row).collect()),
            _ => None,
        };
        rows.with_context(|| format!("no result: {answer}"))
    }
}

fn encoded(expression: &str) -> String {
    utf8_percent_encode(expression, NON_ALPHANUMERIC).to_string()
}

/// Returns the sum of the series of a metric, with or without the suffix of counters, whose labels have this text.
fn sum_of(exposition: &str, name: &str, label: &str) -> f64 {
    let of_line = |line: &str| {
        let rest = line.strip_prefix(name)?;
        let rest = rest.strip_prefix("_total").unwrap_or(rest);
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.rsplit_once("} ")?,
            None => ("", rest.strip_prefix(' ')?),
        };
        let value: f64 = value.split_whitespace().next()?.parse().ok()?;
        labels.contains(label).then_some(value)
    };
    exposition.lines().filter_map(of_line).sum()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counters are whole and positive"
)]
fn count(value: f64) -> u64 {
    value as u64
}

fn write(folder: &Path, name: &str, text: &str) -> anyhow::Result<PathBuf> {
    let path = folder.join(name);
    fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))?;
    Ok(path)
}

/// Fails with what is missing.
///
/// # Errors
///
/// If a program of a run is not installed.
pub fn require(stores: &[StoreKind]) -> anyhow::Result<()> {
    let missing = missing(stores);
    if !missing.is_empty() {
        bail!("needs {missing:?}, of tests/receivers/install");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_a_metric_is_that_of_its_series() {
        let text =
            "# HELP a b\na_total{x=\"} 1\",type=\"y\"} 2\na{type=\"z\"} 3 17\na_bytes 100\na 4e1\nb 5\n";
        assert!((sum_of(text, "a", "") - 45.0).abs() < 1e-9);
        assert!((sum_of(text, "a", "type=\"z\"") - 3.0).abs() < 1e-9);
        assert!(sum_of(text, "c", "").abs() < 1e-9);
    }
}
