//! The metric of programs that are not in the baseline.

use crate::metrics::Carries::Key;
use crate::metrics::MetricKind::Gauge;
use crate::metrics::Unit::Each;
use crate::metrics::{Entity, Metric, Series, Value};
use crate::model::Part;

/// The number of programs that are not in the baseline.
pub static UNEXPECTED: Entity<u64> = Entity {
    title: "The host, baseline",
    part: Some(Part::Program),
    key: &[],
    info: &[],
    metrics: &[Metric {
        name: "bpf_program_unexpected",
        kind: Gauge,
        unit: Each("{program}"),
        help: "Loaded programs that are not in the baseline (`--baseline`), by type and tag; those of the exporter itself are expected. \
               Absent without a baseline, and unless every program was read.",
        source: "`bpf_prog_info.type`, `bpf_prog_info.tag`",
        since: "4.13",
        carries: Key,
        read: |unexpected| Some(Value::count(*unexpected)),
    }],
    object: None,
    series: |_| Series::fixed(0, None),
};
