//! Expressions that dashboards and rules share. All of them are right with one exporter and with hundreds, since they match on `job`
//! and `instance`, and on every route into Prometheus, since they match on named labels only: a route may add labels of its own,
//! such as those of the instrumentation scope.

use crate::names::{
    BUILD_INFO, DROPPED_SERIES, HOST_FINGERPRINT_INFO, MAP_INFO, Metric, OBJECTS, OWNER_FINGERPRINT_INFO,
    PROGRAM_INFO, PROGRAM_RUN_TIME, PROGRAM_RUNS, RUN_STATS_COVERED,
};

/// Labels that identify an exporter.
pub const NODE: &str = "job, instance";

/// Labels that identify a program or a map of an exporter.
pub const OBJECT: &str = "job, instance, id, name, type";

/// Labels that identify an owner of objects of an exporter.
pub const OWNER: &str = "job, instance, owner_kind, owner";

/// Labels that identify a hook and its target.
pub const HOOK: &str = "job, instance, hook, target, netns";

/// Labels that identify a program at a hook and its target.
pub const ATTACHMENT: &str = "job, instance, hook, target, netns, prog_id, link_id";

/// Labels that identify a program on all nodes of a job: its id differs from node to node.
pub const PROGRAM_OF_JOB: &str = "job, name, type";

/// Labels that identify an owner on all nodes of a job, or the host where there is no owner.
pub const WORKLOAD: &str = "job, owner_kind, workload";

/// The alphabet of the random parts of names in Kubernetes: without vowels, 0, 1 and 3.
const RANDOM: &str = "[bcdfghjklmnpqrstvwxz2456789]";

/// Programs that nodes are compared by. Those without a name say nothing. Those for devices are made for each container and unit.
/// The exporter's own depend on the kernel.
const COMPARED: &str = r#"name!="",name!~"bpf_metrics_exporter_.*",type!="cgroup_device""#;

/// The exporters that an expression is about.
#[derive(Clone, Copy, Debug)]
pub struct Scope(&'static str);

impl Scope {
    /// Those that the variables of a dashboard select.
    pub const SELECTED: Self = Self(r#"job=~"$job",instance="$instance""#);
    /// All exporters of the selected jobs.
    pub const FLEET: Self = Self(r#"job=~"$job",instance=~".+""#);
    /// All exporters, for rules.
    pub const ALL: Self = Self("");

    /// Returns the selector of a metric.
    #[must_use]
    pub fn of(self, metric: Metric) -> String {
        self.with(metric, "")
    }

    /// Returns the selector of a metric with further matchers.
    #[must_use]
    pub fn with(self, metric: Metric, matchers: &str) -> String {
        self.select(&metric.to_string(), matchers)
    }

    /// Returns the selector of a series that is not a metric of ours, such as `target_info`.
    #[must_use]
    pub fn select(self, name: &str, matchers: &str) -> String {
        match [self.0, matchers].map(str::is_empty) {
            [true, true] => name.to_owned(),
            [true, false] | [false, true] => format!("{name}{{{}{matchers}}}", self.0),
            [false, false] => format!("{name}{{{},{matchers}}}", self.0),
        }
    }

    /// Returns one series of a metric for each set of these labels. For some minutes after an exporter was killed there may be two:
    /// the one it has sent last, and that of the next process, which may differ in another label.
    #[must_use]
    pub fn one_of_each(self, by: &str, metric: Metric, matchers: &str) -> String {
        format!("topk by ({by}) (1, {})", self.with(metric, matchers))
    }

    /// Returns one `bpf_program_info` for each program.
    #[must_use]
    pub fn program_info(self, matchers: &str) -> String {
        self.one_of_each(OBJECT, PROGRAM_INFO, matchers)
    }

    /// Returns one `bpf_map_info` for each map.
    #[must_use]
    pub fn map_info(self, matchers: &str) -> String {
        self.one_of_each(OBJECT, MAP_INFO, matchers)
    }

    /// Returns the CPUs that each program used, averaged over a window. Run times grow only while run statistics are on, so the
    /// divisor is the time in which they were.
    #[must_use]
    pub fn cpu_share(self, window: &str) -> String {
        self.per_covered_second(PROGRAM_RUN_TIME, "", OBJECT, window)
    }

    /// Returns the runs per second of each program.
    #[must_use]
    pub fn runs_per_second(self, window: &str) -> String {
        self.per_covered_second(PROGRAM_RUNS, "", OBJECT, window)
    }

    /// Returns the seconds that each program needs for a run.
    #[must_use]
    pub fn seconds_per_run(self, window: &str) -> String {
        let [time, runs] = [PROGRAM_RUN_TIME, PROGRAM_RUNS]
            .map(|counter| format!("max by ({OBJECT}) (rate({}[{window}]))", self.of(counter)));
        format!("{time} / on ({OBJECT}) ({runs} > 0)")
    }

    /// Returns the growth per second in which run statistics were on of a counter with these matchers, whose series these labels
    /// identify, those of the exporter among them.
    #[must_use]
    pub fn per_covered_second(self, counter: Metric, matchers: &str, by: &str, window: &str) -> String {
        format!(
            "max by ({by}) (rate({}[{window}])) / on ({NODE}) group_left max by ({NODE}) (rate({}[{window}]))",
            self.with(counter, matchers),
            self.of(RUN_STATS_COVERED),
        )
    }

    /// Returns a series for each node that can be compared with others: one that drops series does not list all of its programs.
    #[must_use]
    pub fn comparable_nodes(self) -> String {
        format!(
            "group by ({NODE}) ({}) unless on ({NODE}) {} > 0",
            self.with(OBJECTS, r#"kind="program""#),
            self.of(DROPPED_SERIES),
        )
    }

    /// Returns the number of such nodes of each job.
    #[must_use]
    pub fn number_of_comparable_nodes(self) -> String {
        format!("count by (job) ({})", self.comparable_nodes())
    }

    /// Returns the programs of such nodes by name and type: ids are new after each load, and tags differ between versions.
    #[must_use]
    pub fn programs_by_name(self) -> String {
        format!(
            "count by ({NODE}, name, type) ({}) and on ({NODE}) ({})",
            self.with(PROGRAM_INFO, COMPARED),
            self.comparable_nodes(),
        )
    }

    /// Returns a series for each fingerprint of the programs of each workload of a node, and one for that of the host, which has no
    /// workload. The kernel owns what nobody is known to own: that is no agent.
    #[must_use]
    pub fn fingerprints(self) -> String {
        let of_owners = workloads(&self.with(OWNER_FINGERPRINT_INFO, r#"owner_kind!="kernel""#));
        let labels = "job, instance, owner_kind, workload, programs";
        format!(
            "group by ({labels}) ({of_owners})\nor on ({labels})\ngroup by (job, instance, programs) ({})",
            self.of(HOST_FINGERPRINT_INFO)
        )
    }

    /// Returns a series for each exporter with the name of its node in the label `node`: that of Kubernetes, else of the host,
    /// else the instance, whichever the resource has.
    #[must_use]
    pub fn nodes(self) -> String {
        let target = self.select("target_info", "");
        let build = self.of(BUILD_INFO);
        // An exporter without a `target_info` is a node, too.
        let any = format!(
            "topk by ({NODE}) (1, {target}) and on ({NODE}) {build} or on ({NODE}) max by ({NODE}) ({build})"
        );
        let mut nodes = format!(r#"label_replace({any}, "node", "$1", "instance", "(.+)")"#);
        for label in ["host_name", "k8s_node_name"] {
            nodes = format!(r#"label_replace({nodes}, "node", "$1", "{label}", "(.+)")"#);
        }
        format!("max by ({NODE}, node, k8s_cluster_name) ({nodes})")
    }
}

/// Returns values of owners with a label `workload`: the owner's name, and of a pod without the random part that its controller
/// appends, so that the pods of one `DaemonSet` or `Deployment` are one workload on all nodes.
#[must_use]
pub fn workloads(values: &str) -> String {
    let any = format!(r#"label_replace({values}, "workload", "$1", "owner", "(.+)")"#);
    format!(
        r#"label_replace({any}, "workload", "$1", "owner", "([^/]+/.+?)(?:-{RANDOM}{{6,10}})?-{RANDOM}{{5}}")"#
    )
}

/// Returns the fingerprints that nearly all nodes with the workload have, as [`common_programs`], with how many do. `fingerprints` is
/// as [`Scope::fingerprints`].
#[must_use]
pub fn common_fingerprints(fingerprints: &str) -> String {
    let nodes = format!("count by ({WORKLOAD}) (group by ({NODE}, owner_kind, workload) ({fingerprints}))");
    let all_but_some = format!("(({nodes} >= 5) - on ({WORKLOAD}) clamp_min({nodes} / 10, 1))");
    format!(
        "count by ({WORKLOAD}, programs) ({fingerprints})\n>= on ({WORKLOAD}) group_left ()\n{all_but_some}"
    )
}

/// Returns the nodes and workloads whose fingerprint is not the one that nearly all nodes have. `common` is as [`common_fingerprints`].
#[must_use]
pub fn other_fingerprints(fingerprints: &str, common: &str) -> String {
    format!(
        "group by ({NODE}, owner_kind, workload) (\n  \
           {fingerprints}\n  \
           unless on ({WORKLOAD}, programs) {common}\n\
         )\n\
         and on ({WORKLOAD}) {common}"
    )
}

/// Returns the programs that nearly all nodes of a job have, with how many do: all nodes but a tenth, or but one if there are fewer
/// than ten. With fewer than five, there is no telling which of them differs. `with` is the number of nodes that have each program,
/// and `nodes` that of all nodes of each job.
#[must_use]
pub fn common_programs(with: &str, nodes: &str) -> String {
    format!("{with} >= on (job) group_left () (({nodes} >= 5) - on (job) clamp_min({nodes} / 10, 1))")
}
