//! The metrics that queries use, by their OTLP names. Each is spelled here once, and prints as Prometheus spells it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

use bpf_metrics_exporter::metrics::{Entity, Rows, Visitor, prometheus_name, visit};

/// A metric of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Metric(&'static str);

impl fmt::Display for Metric {
    /// Writes its Prometheus name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = PROMETHEUS_NAMES.get(self.0);
        f.pad(name.unwrap_or_else(|| panic!("{} is not in the table of metrics", self.0)))
    }
}

macro_rules! metrics {
    ($($constant:ident = $name:literal,)*) => {
        $(
            #[doc = concat!("`", $name, "`")]
            pub const $constant: Metric = Metric($name);
        )*

        /// All of them.
        pub const ALL: &[Metric] = &[$($constant),*];
    };
}

metrics! {
    PROGRAM_INFO = "bpf_program_info",
    PROGRAM_LOAD_TIME = "bpf_program_load_time",
    PROGRAM_SIZE_JITTED = "bpf_program_size_jitted_bytes",
    PROGRAM_MEM = "bpf_program_mem_bytes",
    PROGRAM_VERIFIED_INSTRUCTIONS = "bpf_program_verified_instructions",
    PROGRAM_RUN_TIME = "bpf_program_run_time",
    PROGRAM_RUNS = "bpf_program_runs",
    PROGRAM_RECURSION_MISSES = "bpf_program_recursion_misses",
    PROGRAM_LOADS = "bpf_program_loads",
    PROGRAM_UNLOADS = "bpf_program_unloads",
    PROGRAM_UNEXPECTED = "bpf_program_unexpected",
    PROGRAM_MAP_INFO = "bpf_program_map_info",
    MAP_INFO = "bpf_map_info",
    MAP_MAX_ENTRIES = "bpf_map_max_entries",
    MAP_MEM = "bpf_map_mem_bytes",
    MAP_ENTRIES = "bpf_map_entries",
    MAP_FILL = "bpf_map_fill",
    MAP_BACKLOG = "bpf_map_backlog_bytes",
    LINK_INFO = "bpf_link_info",
    LINK_MISSED = "bpf_link_missed",
    PROGRAM_HOLDER_INFO = "bpf_program_holder_info",
    MAP_HOLDER_INFO = "bpf_map_holder_info",
    PIN_INFO = "bpf_pin_info",
    HOOK_INFO = "bpf_hook_info",
    HOOK_POSITION = "bpf_hook_position",
    HOOK_PROGRAMS = "bpf_hook_programs",
    HOOK_DETACHED_PROGRAMS = "bpf_hook_detached_programs",
    OWNER_INFO = "bpf_owner_info",
    OWNER_PROGRAMS = "bpf_owner_programs",
    OWNER_MAPS = "bpf_owner_maps",
    OWNER_LINKS = "bpf_owner_links",
    OWNER_MEM = "bpf_owner_mem_bytes",
    OWNER_RUN_TIME = "bpf_owner_run_time",
    OWNER_FINGERPRINT_INFO = "bpf_owner_fingerprint_info",
    HOST_FINGERPRINT_INFO = "bpf_host_fingerprint_info",
    EVENTS_LOST = "bpf_events_lost",
    EVENTS_DROPPED = "bpf_events_dropped",
    OBJECTS = "bpf_objects",
    OBJECTS_ORPHANED = "bpf_objects_orphaned",
    OBJECTS_MEM = "bpf_objects_mem_bytes",
    OBJECTS_RUN_TIME = "bpf_objects_run_time",
    RUN_STATS_ENABLED = "bpf_run_stats_enabled",
    RUN_STATS_COVERED = "bpf_run_stats_covered",
    JIT_ENABLED = "bpf_jit_enabled",
    JIT_HARDEN = "bpf_jit_harden",
    JIT_LIMIT = "bpf_jit_limit_bytes",
    JIT_USED = "bpf_jit_used_bytes",
    UNPRIVILEGED_DISABLED = "bpf_unprivileged_disabled",
    BUILD_INFO = "bpf_exporter_build_info",
    COLLECT_DURATION = "bpf_exporter_collect_duration",
    COLLECT_AGE = "bpf_exporter_collect_age",
    COLLECT_SUCCESS = "bpf_exporter_collect_success",
    FEATURE_AVAILABLE = "bpf_exporter_feature_available",
    ISSUES = "bpf_exporter_issues",
    DROPPED_SERIES = "bpf_exporter_dropped_series",
    OTLP_DESTINATION_INFO = "bpf_exporter_otlp_destination_info",
    OTLP_POINTS = "bpf_exporter_otlp_points",
    OTLP_DROPPED_POINTS = "bpf_exporter_otlp_dropped_points",
    OTLP_LOG_RECORDS = "bpf_exporter_otlp_log_records",
    OTLP_DROPPED_LOG_RECORDS = "bpf_exporter_otlp_dropped_log_records",
    OTLP_BACKLOG = "bpf_exporter_otlp_backlog_bytes",
    PROCESS_CPU = "process_cpu",
    PROCESS_RESIDENT_MEMORY = "process_resident_memory_bytes",
}

/// The Prometheus name of each metric of the table, by its OTLP name.
static PROMETHEUS_NAMES: LazyLock<BTreeMap<&str, String>> = LazyLock::new(|| {
    struct Names(BTreeMap<&'static str, String>);
    impl Visitor for Names {
        fn entity<T>(&mut self, entity: &'static Entity<T>, _rows: Rows, _values: Option<&[T]>) {
            let names = entity.metrics.iter();
            self.0.extend(names.map(|m| (m.name, prometheus_name::sample(m.name, m.unit, m.kind))));
        }
    }
    let mut names = Names(BTreeMap::new());
    visit(None, &mut names);
    names.0
});
