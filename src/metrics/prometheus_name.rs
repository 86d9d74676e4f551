//! Prometheus names of metrics and labels, by OpenTelemetry's translation of the OTLP names: a scrape and any OTLP route
//! into Prometheus give the same series.
//! Source: "OTLP Metric points to Prometheus" in the OpenTelemetry specification's `compatibility/prometheus_and_openmetrics`.

use super::{MetricKind, Unit};

/// Returns the word for a unit, the suffix of a name; empty if the unit has none.
#[must_use]
pub const fn unit_word(unit: Unit) -> &'static str {
    match unit {
        Unit::Seconds => "seconds",
        Unit::Bytes => "bytes",
        Unit::Ratio => "ratio",
        Unit::None | Unit::Each(_) => "",
    }
}

/// Returns the name of a metric's family as in `OpenMetrics`: without the `_total` of a counter.
#[must_use]
pub fn family(name: &str, unit: Unit) -> String {
    let mut words: Vec<&str> = name
        .split(|character: char| !character.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty() && *word != "total")
        .collect();
    let unit = unit_word(unit);
    if !unit.is_empty() && !words.contains(&unit) {
        words.push(unit);
    }
    let name = words.join("_");
    if name.starts_with(|first: char| first.is_ascii_digit()) { format!("_{name}") } else { name }
}

/// Returns the suffix of the family's name on a line with a value. The lines of a histogram have more than one, after its name.
#[must_use]
pub const fn sample_suffix(kind: MetricKind) -> &'static str {
    match kind {
        MetricKind::Counter => "_total",
        MetricKind::Gauge | MetricKind::Histogram { .. } => "",
    }
}

/// Returns the name of a metric as on the lines of a scrape; of a histogram the part that its lines share.
#[must_use]
pub fn sample(name: &str, unit: Unit, kind: MetricKind) -> String {
    let mut sample = family(name, unit);
    sample.push_str(sample_suffix(kind));
    sample
}

/// Returns the name of a label.
#[must_use]
pub fn label(name: &str) -> String {
    let legal = |character: char| if character.is_ascii_alphanumeric() { character } else { '_' };
    let name: String = name.chars().map(legal).collect();
    if name.starts_with(|first: char| first.is_ascii_digit()) { format!("key_{name}") } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_and_totals_are_appended_once() {
        assert_eq!(family("bpf_program_run_time", Unit::Seconds), "bpf_program_run_time_seconds");
        assert_eq!(family("bpf_program_mem_bytes", Unit::Bytes), "bpf_program_mem_bytes");
        assert_eq!(family("bpf_map_key_size", Unit::Bytes), "bpf_map_key_size_bytes");
        assert_eq!(family("bpf_map_fill", Unit::Ratio), "bpf_map_fill_ratio");
        assert_eq!(family("bpf_bytes_read", Unit::Bytes), "bpf_bytes_read", "the word is already there");
        assert_eq!(family("bpf_total_runs", Unit::Each("{run}")), "bpf_runs");
        assert_eq!(family("2nd..name", Unit::None), "_2nd_name");
        assert_eq!(sample_suffix(MetricKind::Counter), "_total");
    }

    #[test]
    fn dots_in_labels_become_underscores() {
        assert_eq!(label("k8s.pod.name"), "k8s_pod_name");
        assert_eq!(label("type_name"), "type_name");
        assert_eq!(label("1st"), "key_1st");
    }
}
