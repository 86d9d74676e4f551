//! The alerts. They look at what is true on any fleet: an alert that fires in ordinary life is worse than none. None joins the name of
//! a node or an owner into its expression: the alert would end, or begin anew, when such a series is late, missing or renamed.
//! Templates of the annotations query these names instead, for the alerts that are active.

use crate::names::{
    BUILD_INFO, COLLECT_SUCCESS, DROPPED_SERIES, HOOK_DETACHED_PROGRAMS, HOOK_PROGRAMS, ISSUES, JIT_LIMIT,
    JIT_USED, LINK_INFO, LINK_MISSED, MAP_FILL, MAP_INFO, MAP_MAX_ENTRIES, Metric, OBJECTS_ORPHANED,
    OTLP_DESTINATION_INFO, OTLP_DROPPED_LOG_RECORDS, OTLP_DROPPED_POINTS, OTLP_LOG_RECORDS, OTLP_POINTS,
    PROGRAM_INFO, PROGRAM_RUNS, PROGRAM_UNEXPECTED, RUN_STATS_COVERED,
};
use crate::promql::{HOOK, NODE, OBJECT, PROGRAM_OF_JOB, Scope, WORKLOAD};

use super::Severity::{Info, Warning};
use super::recording::{
    COVERED_NODE, KNOWN_NODE, NODE_NAME, NODES, NODES_WITH_OTHER, OTHER_FINGERPRINT, PROGRAM_MISSES,
    PROGRAMS, RING_FLOOR, WITH_COMMON, WITHOUT, WITHOUT_COMMON,
};
use super::{Alert, Group, Rule};

/// Hooks of the network and of cgroups. Tracing tools that end leave other hooks without a program.
const LASTING_HOOKS: &str = r#"hook=~"xdp|tc.*|netkit.*|cgroup.*|netfilter|sk_lookup|flow_dissector""#;

/// Fill from which on a map is full: a table at its limit has one entry more or less from one moment to the next.
const FULL: &str = "0.99";

/// Returns all alerts.
#[must_use]
pub fn groups() -> Vec<Group> {
    let group =
        |name, alerts: Vec<Alert>| Group { name, rules: alerts.into_iter().map(Rule::Alert).collect() };
    vec![
        group("bpf-alerts-maps", vec![map_full(), map_filling_up(), ring_buffer_backlog()]),
        group(
            "bpf-alerts-programs",
            vec![
                program_misses_runs(),
                link_misses_runs(),
                program_set_differs(),
                common_program_lost(),
                fingerprint_differs(),
                program_unexpected(),
            ],
        ),
        group("bpf-alerts-hosts", vec![hook_lost_program(), orphans_grow(), jit_memory_near_limit()]),
        group(
            "bpf-alerts-exporters",
            vec![
                exporter_absent(),
                exporter_silent(),
                points_dropped(),
                log_records_dropped(),
                collector_failing(),
                series_dropped(),
            ],
        ),
    ]
}

/// Returns all alerts.
pub fn all() -> impl Iterator<Item = Alert> {
    let rules = groups().into_iter().flat_map(|group| group.rules);
    rules.filter_map(|rule| match rule {
        Rule::Alert(alert) => Some(alert),
        Rule::Recording(_) => None,
    })
}

/// Returns the maps that are too small for their fill to mean something; none where this metric is not exported.
fn small_maps() -> String {
    format!("{} < 64", Scope::ALL.of(MAP_MAX_ENTRIES))
}

fn map_full() -> Alert {
    let fill = Scope::ALL.of(MAP_FILL);
    let earlier = ["30m", "1h", "2h", "4h"].map(|age| format!("{fill} offset {age} <= {FULL}"));
    Alert {
        name: "BpfMapFull",
        reason: "A full map refuses the next entry; types that make room by themselves have no fill. More than 99 %, since a table \
                 whose entries come and go is at its limit although one is free at the moment. Maps of fewer than 64 entries are left \
                 out: they are flags, slots and settings, of which all are set sooner or later. Many maps are made \
                 as large as their contents and are filled when they are loaded: so a map counts only if it was not full at one of \
                 four earlier moments, at most four hours ago. Each moment is twice as long ago as the one before, so a map that \
                 took some time to fill up is reported for at least as long. One that has been full for four hours is no longer \
                 reported. Moments rather than a quantile over hours: a range would read every sample of every map in each \
                 evaluation. 15 minutes, since a map that is full for a moment has lost little.",
        expression: format!(
            "max by ({OBJECT}) ({fill}) > {FULL}\nunless on ({OBJECT}) {}\nand on ({OBJECT})\n(\n  {}\n)",
            small_maps(),
            earlier.join(&format!("\n  or on ({OBJECT}) "))
        ),
        after: "15m",
        severity: Warning,
        summary: "A BPF map is full and refuses new entries",
        description: format!(
            "Map {MAP} on {} has had no room, or nearly none, for another entry for 15 minutes{}.",
            node(),
            owner(MAP_INFO)
        ),
    }
}

fn map_filling_up() -> Alert {
    let fill = format!("max by ({OBJECT}) ({})", Scope::ALL.of(MAP_FILL));
    let earlier = |age: &str| format!("max by ({OBJECT}) ({} offset {age})", Scope::ALL.of(MAP_FILL));
    Alert {
        name: "BpfMapFillingUp",
        reason: "Between 70 % and 99 %, where BpfMapFull begins, and the growth of the last 30 minutes and that of the last 15 minutes \
                 would each use up the rest within the hour: the fill and twice the one, or four times the other, are more than 1. \
                 So the fill is more than a third of 1 and two earlier fills, or a fifth of 1 and four. Two windows, so that \
                 neither a jump long ago nor one just now is taken for a trend. A map that is \
                 populated in one go, at load or when an agent synchronizes, grows in the shorter window for 15 minutes, so the \
                 alert waits for 20. A map that fills up and is emptied again within that time is ordinary, too. Differences \
                 between moments rather than a regression: a range would read every sample of every map in each evaluation.",
        expression: format!(
            "{fill} > 0.7 <= {FULL}\n  \
             > on ({OBJECT}) ((1 + 2 * {}) / 3)\n  \
             > on ({OBJECT}) ((1 + 4 * {}) / 5)\n\
             unless on ({OBJECT}) {}",
            earlier("30m"),
            earlier("15m"),
            small_maps(),
        ),
        after: "20m",
        severity: Warning,
        summary: "A BPF map will be full within the hour",
        description: format!(
            "Map {MAP} on {} is {{{{ $value | humanizePercentage }}}} full and will refuse entries within the hour{}.",
            node(),
            owner(MAP_INFO)
        ),
    }
}

fn ring_buffer_backlog() -> Alert {
    Alert {
        name: "BpfRingBufferBacklog",
        reason: "What counts is the floor: the smallest backlog of ten minutes. A consumer that drains its buffer in bursts, or starts \
                 late, brings it to 0, however full the buffer is in between. A floor of half of the buffer means that the consumer \
                 does not keep up, or has stopped. One of a tenth that grows by a twentieth of the buffer in ten minutes reaches \
                 the end within three hours. 10 minutes more: a consumer that comes every quarter of an hour leaves a floor for less.",
        expression: format!(
            "{RING_FLOOR} > 0.5\n\
             or on ({OBJECT})\n\
             ({RING_FLOOR} > 0.1 and on ({OBJECT}) ({RING_FLOOR} - on ({OBJECT}) {RING_FLOOR} offset 10m > 0.05))"
        ),
        after: "10m",
        severity: Warning,
        summary: "The consumer of a BPF ring buffer does not keep up",
        description: format!(
            "{{{{ $value | humanizePercentage }}}} of ring buffer {MAP} on {} have been waiting for their consumer for more than ten \
             minutes{}. When it is full, events are lost.",
            node(),
            owner(MAP_INFO)
        ),
    }
}

fn program_misses_runs() -> Alert {
    let runs = Scope::ALL.runs_per_second("5m");
    let covered = format!("sum by ({NODE}) (rate({}[5m])) > 0", Scope::ALL.of(RUN_STATS_COVERED));
    Alert {
        name: "BpfProgramMissesRuns",
        reason: "The kernel skips a run if the program, or for probes another one, is running on that CPU. It counts this always, and \
                 runs only while run statistics are on, so runs are divided by the seconds in which they were counted. One run in a \
                 hundred is where totals and samples of a tool become visibly wrong, and below one per second nothing is. While run \
                 statistics are off the share is unknown: then ten per second, which is 1 % of a program that runs a thousand times \
                 per second. Fewer may matter to a program that runs seldom, and is not reported.",
        expression: format!(
            "({PROGRAM_MISSES} > on ({OBJECT}) (0.01 * ({runs})))\n\
             or on ({OBJECT})\n\
             ({PROGRAM_MISSES} > 10 unless on ({NODE}) {covered})"
        ),
        after: "15m",
        severity: Warning,
        summary: "A BPF program misses runs",
        description: format!(
            "The kernel skips {{{{ $value | humanize }}}} runs per second of program {PROGRAM} on {}{}: what it counts or enforces is \
             incomplete.",
            node(),
            owner(PROGRAM_INFO)
        ),
    }
}

fn link_misses_runs() -> Alert {
    let missed = format!("sum by ({NODE}, prog_id) (rate({}[5m]))", Scope::ALL.of(LINK_MISSED));
    let runs = format!(
        r#"sum by ({NODE}, prog_id) (label_replace(rate({}[5m]), "prog_id", "$1", "id", "(.+)"))"#,
        Scope::ALL.with(PROGRAM_RUNS, r#"type="kprobe""#),
    );
    let covered = format!("sum by ({NODE}) (rate({}[5m]))", Scope::ALL.of(RUN_STATS_COVERED));
    Alert {
        name: "BpfLinkMissesRuns",
        reason: "As BpfProgramMissesRuns, for what the probe misses before the program is reached: it is hit while another probe runs, or \
                 more calls of the function are in progress than it can follow. Links of probes only; their programs are of type \
                 `kprobe`, and runs of others are not looked at.",
        expression: format!(
            "({missed} > 1 and on ({NODE}, prog_id) ({missed} > on ({NODE}, prog_id) (0.01 * ({runs} / on ({NODE}) group_left {covered}))))\n\
             or on ({NODE}, prog_id)\n\
             ({missed} > 10 unless on ({NODE}) {covered} > 0)"
        ),
        after: "15m",
        severity: Warning,
        summary: "The links of a BPF program miss runs",
        description: format!(
            "The probes of program {{{{ $labels.prog_id }}}} on {} miss {{{{ $value | humanize }}}} runs per second{}.",
            node(),
            with_first(
                LINK_INFO,
                &["job", "instance", "prog_id"],
                r#"{{ with . | first | label "target" }}, the first at {{ . }}{{ end }}"#,
            ),
        ),
    }
}

fn program_set_differs() -> Alert {
    Alert {
        name: "BpfProgramSetDiffers",
        reason: "Programs that nearly all nodes of the job have, by name and type: all but a tenth, or but one of five to nine nodes. \
                 With fewer than five, there is no telling which of them differs. A rolling upgrade changes the \
                 number of nodes without a program by more than one in an hour, and such programs are left out; so a node is \
                 reported when it stayed behind. 30 minutes: a new node, or an agent that restarts, has its programs by then. \
                 Nodes that drop series are left out. \
                 Nodes of another role need a job of their own, if they are less than a tenth of their job.",
        expression: format!(
            "(\n  count by (job) ({WITHOUT_COMMON})\n  \
             - on (job) group_right ()\n  \
             (\n    \
             count by ({NODE}) ({PROGRAMS} and on ({PROGRAM_OF_JOB}) {WITHOUT_COMMON})\n    \
             or on ({NODE}) 0 * ({})\n  )\n) > 0",
            Scope::ALL.comparable_nodes()
        ),
        after: "30m",
        severity: Warning,
        summary: "A node lacks BPF programs that the others have",
        description: format!(
            "{} lacks {{{{ $value }}}} of the programs that nearly all nodes of job {{{{ $labels.job }}}} have.",
            node()
        ),
    }
}

fn common_program_lost() -> Alert {
    let earlier = format!("{WITH_COMMON} offset 6h");
    let number = |programs: &str| format!("count by (job, type) ({programs})");
    Alert {
        name: "BpfCommonProgramLost",
        reason: "BpfProgramSetDiffers is about single nodes: when more of them lose a program, it is no longer one that nearly all \
                 have. So these are compared with six hours ago. A program that is replaced by another one of its type leaves the \
                 number of such programs as it was. While a version is rolled out, the number of nodes without a program changes by \
                 more than one in an hour; so the alert begins an hour and a half after the last node, and ends six hours after the \
                 first. An information, since most likely an agent was removed on purpose.",
        expression: format!(
            "count by (job) (\n  \
               (\n    \
                 {earlier}\n    \
                 unless on ({PROGRAM_OF_JOB}) {WITH_COMMON}\n    \
                 unless on ({PROGRAM_OF_JOB}) abs({WITHOUT} - on ({PROGRAM_OF_JOB}) {WITHOUT} offset 1h) > 1\n    \
                 unless on ({PROGRAM_OF_JOB}) ({WITHOUT} offset 1h unless on ({PROGRAM_OF_JOB}) {WITHOUT})\n  \
               )\n  \
               and on (job, type)\n  \
               ({} > on (job, type) ({} or on (job, type) 0 * {}))\n  \
               and on (job) ({NODES} >= 5 and on (job) {NODES} offset 1h)\n\
             )",
            number(&earlier),
            number(WITH_COMMON),
            number(&earlier),
        ),
        after: "30m",
        severity: Info,
        summary: "Many nodes of a job have lost BPF programs",
        description: "{{ $value }} programs that nearly all nodes of job {{ $labels.job }} had six hours ago are missing on more than a \
                      tenth of them, and no other one came instead. If an agent was removed, nothing is wrong."
            .to_owned(),
    }
}

fn fingerprint_differs() -> Alert {
    let differs = |matcher: &str| Scope::ALL.select(OTHER_FINGERPRINT, matcher);
    let (of_workloads, of_hosts) = (differs(r#"workload!="""#), differs(r#"workload="""#));
    Alert {
        name: "BpfFingerprintDiffers",
        reason: "Where nearly all nodes have the same programs of an owner, to the last instruction: all but a tenth of the nodes that \
                 have the owner, or but one of five to nine. The host as a whole is compared in the same way, and left out where one of \
                 its owners explains it. Where each node has programs of its own, as with containers, hosts have no common fingerprint, \
                 and the alert is about owners. While another version is rolled out, the number of nodes that differ changes by more \
                 than one in an hour. An hour: a node that is new or is being upgraded has the programs of the others by then. \
                 BpfProgramSetDiffers is about names: it does not see programs that only one node has, nor another version.",
        expression: format!(
            "(\n  \
               {of_workloads}\n  \
               or on ({NODE}, owner_kind, workload)\n  \
               ({of_hosts} unless on ({NODE}) {of_workloads})\n\
             )\n\
             and on ({WORKLOAD})\n\
             (\n  \
               abs({NODES_WITH_OTHER} - on ({WORKLOAD}) {NODES_WITH_OTHER} offset 1h) <= 1\n  \
               or on ({WORKLOAD})\n  \
               ({NODES_WITH_OTHER} <= 1 unless on ({WORKLOAD}) {NODES_WITH_OTHER} offset 1h)\n\
             )"
        ),
        after: "1h",
        severity: Warning,
        summary: "A node has other BPF programs than nearly all others",
        description: format!(
            "The programs {{{{ with $labels.workload }}}}of {{{{ . }}}} {{{{ end }}}}on {} are not those that nearly all nodes of job \
             {{{{ $labels.job }}}} have.",
            node()
        ),
    }
}

fn program_unexpected() -> Alert {
    Alert {
        name: "BpfProgramUnexpected",
        reason: "Any, since the baseline says what is expected. 5 minutes: a program that is gone by then was seen by the readers of \
                 events, and an alert could not say more. Nodes without a baseline have no such series.",
        expression: format!("max by ({NODE}) ({}) > 0", Scope::ALL.of(PROGRAM_UNEXPECTED)),
        after: "5m",
        severity: Warning,
        summary: "A node has BPF programs that are not in its baseline",
        description: format!(
            "{} has {{{{ $value }}}} programs that are not in its baseline. The log of its exporter, and its events of the kind \
             bpf.program.unexpected, name them.",
            node()
        ),
    }
}

fn hook_lost_program() -> Alert {
    let select = |matchers: &str, age: &str| {
        format!("max by ({HOOK}) ({}{age})", Scope::ALL.with(HOOK_PROGRAMS, matchers))
    };
    let programs = |age: &str| select(LASTING_HOOKS, age);
    let now = programs("");
    // The same direction of the same device, by the older or the newer of these hooks.
    let of_tc = |age: &str| select(r#"hook=~"tcx?_.*""#, age);
    let direction =
        |hooks: &str| format!(r#"label_replace({hooks}, "direction", "$1", "hook", "tcx?_(.*)")"#);
    let place = "job, instance, target, netns, direction";
    let lost = format!(
        "({now} < on ({HOOK}) {})\n  \
         and on ({HOOK})\n  \
         ({now} < on ({HOOK}) {})\n  \
         and on ({HOOK})\n  \
         (max by ({HOOK}) (increase({}[1h])) > 0)",
        programs(" offset 1h"),
        programs(" offset 2h"),
        Scope::ALL.with(HOOK_DETACHED_PROGRAMS, LASTING_HOOKS),
    );
    let gained =
        format!("{} unless on ({HOOK}) ({} <= on ({HOOK}) {})", of_tc(""), of_tc(""), of_tc(" offset 1h"));
    Alert {
        name: "BpfHookLostProgram",
        reason: "A scan found a program detached while the interface, cgroup or namespace was still there, and now there are fewer than \
                 an hour ago and than two hours ago. One of these moments alone may fall into the life of a tool that attached \
                 its program for less than an hour. A program that is replaced leaves their number as it was, and one that moves \
                 between tc and tcx leaves more at the other hook of its direction, which is looked at, too. When a target is \
                 removed, as with a pod, its series end. 10 minutes, so that an agent can restart. The alert ends after an hour, \
                 whether or not the program is back: nothing says how many programs a hook should have, only how many it had.",
        expression: format!(
            "max by ({HOOK}) (\n  {}\n  unless on ({place})\n  {}\n)",
            direction(&format!("(\n  {lost}\n  )")),
            direction(&format!("({gained})")),
        ),
        after: "10m",
        severity: Warning,
        summary: "A hook has lost a BPF program while its target is still there",
        description: format!(
            "Hook {{{{ $labels.hook }}}}{{{{ with $labels.target }}}} of {{{{ . }}}}{{{{ end }}}} on {} has {{{{ $value }}}} programs, \
             fewer than in the last hours. This alert ends an hour after the loss, whether or not the program is back.",
            node()
        ),
    }
}

fn orphans_grow() -> Alert {
    let floor = |age: &str| {
        format!("min by ({NODE}, kind) (min_over_time({}[1h]{age}))", Scope::ALL.of(OBJECTS_ORPHANED))
    };
    Alert {
        name: "BpfObjectsOrphanedGrow",
        reason: "The smallest number of an hour leaves out objects that were in transit between two processes. Five more than six hours \
                 ago, since the kernel may keep a program array when a tool that lists objects by id opens it in the moment of its \
                 removal: this happens now and then, and a loader that leaks does so at each restart or for each connection.",
        expression: format!("{} - on ({NODE}, kind) {} >= 5", floor(""), floor(" offset 6h")),
        after: "5m",
        severity: Warning,
        summary: "BPF objects leak",
        description: format!(
            "{} has {{{{ $value }}}} more objects of kind {{{{ $labels.kind }}}} than six hours ago that nothing holds.",
            node()
        ),
    }
}

fn jit_memory_near_limit() -> Alert {
    let bytes = |metric| format!("max by ({NODE}) ({})", Scope::ALL.of(metric));
    Alert {
        name: "BpfJitMemoryNearLimit",
        reason: "Containers fail to start when the limit is reached, so the alert fires when a fifth is left. Not earlier, since the usage is \
                 an upper bound: of a pack that few programs share, the whole counts. What is loaded and removed at once, as when \
                 many containers start, is gone after 15 minutes.",
        expression: format!("{} / on ({NODE}) {} > 0.8", bytes(JIT_USED), bytes(JIT_LIMIT)),
        after: "15m",
        severity: Warning,
        summary: "The memory for machine code of BPF programs is almost used up",
        description: format!(
            "{} uses {{{{ $value | humanizePercentage }}}} of the memory for machine code. Above the limit, seccomp filters of new \
             containers fail to load.",
            node()
        ),
    }
}

fn exporter_absent() -> Alert {
    let exporters = format!("max by ({NODE}) (last_over_time({}[1d]))", Scope::ALL.of(BUILD_INFO));
    let down = format!("max by ({NODE}) ({}) == 0", Scope::ALL.select("up", ""));
    let number = |nodes: &str| format!("count by (source, cluster) ({nodes})");
    Alert {
        name: "BpfExporterAbsent",
        reason: "Either a scrape fails of a target that was an exporter within the last day, or kube-state-metrics or node_exporter know a \
                 node that has none, by any name that it has, while at least half of the nodes that they know in its cluster have \
                 one: below that, it was meant for some nodes only. 15 minutes: a restart takes one, a new image some, and a new node \
                 is known before its exporter runs.",
        expression: format!(
            "({down} and on ({NODE}) {exporters})\n\
             or on ({NODE}, source, cluster, node)\n\
             (\n  \
               {KNOWN_NODE} unless on (source, cluster, node) {COVERED_NODE}\n  \
               and on (source, cluster) ({} >= on (source, cluster) (0.5 * {}))\n\
             )",
            number(COVERED_NODE),
            number(KNOWN_NODE),
        ),
        after: "15m",
        severity: Warning,
        summary: "A node has no bpf-metrics-exporter",
        description: format!(
            "{{{{ if $labels.instance }}}}The exporter on {} cannot be scraped. This alert ends a day after the last scrape.\
             {{{{ else }}}}Node {{{{ $labels.node }}}}{{{{ with $labels.cluster }}}} of cluster {{{{ . }}}}{{{{ end }}}} has no exporter, \
             and at least half of the nodes have one.{{{{ end }}}}",
            past_node()
        ),
    }
}

fn exporter_silent() -> Alert {
    let build = Scope::ALL.of(BUILD_INFO);
    Alert {
        name: "BpfExporterSilent",
        reason: "An exporter that pushes was there in the last hour and is not now. Nothing says whether its node was removed, so it is \
                 only an information, and ends after the hour; BpfExporterAbsent knows which nodes there should be. Targets of scrapes \
                 are left out. 10 minutes: a restart keeps the instance. Of an exporter that was killed, Prometheus returns the last \
                 samples for five minutes more.",
        expression: format!(
            "max by ({NODE}) (last_over_time({build}[1h]))\n\
             unless on ({NODE}) {build}\n\
             unless on ({NODE}) last_over_time({}[1h])",
            Scope::ALL.select("up", "")
        ),
        after: "10m",
        severity: Info,
        summary: "An exporter no longer pushes",
        description: format!(
            "The exporter on {} has sent nothing for at least ten minutes. If the node was removed, nothing is wrong.",
            past_node()
        ),
    }
}

/// Expressions of what is dropped on the way to a receiver.
struct Losses {
    /// The labels of a loss, and those of a receiver.
    by: String,
    receiver: String,
    /// What is refused, or lost for another reason, more than once in 20 minutes.
    repeated: String,
    /// What did not fit into the backlog.
    overflow: String,
    /// Receivers that have accepted something since the exporter was started.
    accepts: String,
    /// Those, and the ones that a flag or variable gives.
    wanted: String,
}

impl Losses {
    fn of(dropped: Metric, delivered: Metric) -> Self {
        let refused = Scope::ALL.with(dropped, r#"reason!~"shutdown|backlog_full""#);
        let full = Scope::ALL.with(dropped, r#"reason="backlog_full""#);
        let (by, receiver) = (format!("{NODE}, destination, reason"), format!("{NODE}, destination"));
        let configured = Scope::ALL.with(OTLP_DESTINATION_INFO, r#"configured="true""#);
        let accepts = format!("{} > 0", Scope::ALL.with(delivered, r#"outcome="accepted""#));
        Self {
            repeated: format!(
                "(sum by ({by}) (increase({refused}[1h])) > 0\n    \
                   and on ({by}) sum by ({by}) (increase({refused}[10m])) > 0\n    \
                   and on ({by}) sum by ({by}) (increase({refused}[10m] offset 10m)) > 0)"
            ),
            overflow: format!(
                "(sum by ({by}) ({full}) - on ({by}) sum by ({by}) (last_over_time({full}[1d] offset 1h)) > 0)"
            ),
            wanted: format!("({configured} or on ({receiver}) {accepts})"),
            by,
            receiver,
            accepts,
        }
    }
}

/// Returns what a lost `noun` is described by.
fn loss(noun: &str) -> String {
    format!(
        "The exporter on {} has dropped {{{{ $value | humanize }}}} {noun}{{{{ with $labels.destination }}}} for {{{{ . }}}}{{{{ end }}}} in an hour, or since its last \
         sample before that ({{{{ $labels.reason }}}}).",
        node()
    )
}

fn points_dropped() -> Alert {
    let Losses { by, receiver, repeated, overflow, accepts: _, wanted } =
        Losses::of(OTLP_DROPPED_POINTS, OTLP_POINTS);
    Alert {
        name: "BpfPointsDropped",
        reason: "An exporter that is only scraped has the default receiver, which does not exist: so it counts only where a flag or \
                 variable gives the receiver, or where it has accepted points since the exporter was started. Points that do not fit into the \
                 backlog are dropped while the receiver is unreachable. An exporter that only pushes has no samples of that time; so \
                 the count is compared with the last one that is at least an hour old, of up to a day before, and any growth counts. \
                 A refusal that does not repeat within 20 minutes is not reported. What is dropped at the exit is ordinary while the \
                 receiver is down. 5 minutes: waiting longer would not undo a loss.",
        expression: format!(
            "(\n  {repeated}\n  or on ({by})\n  {overflow}\n)\nand on ({receiver})\n{wanted}"
        ),
        after: "5m",
        severity: Warning,
        summary: "An exporter drops points",
        description: loss("points"),
    }
}

fn log_records_dropped() -> Alert {
    let Losses { by, receiver, repeated, overflow, accepts, wanted } =
        Losses::of(OTLP_DROPPED_LOG_RECORDS, OTLP_LOG_RECORDS);
    Alert {
        name: "BpfLogRecordsDropped",
        reason: "As BpfPointsDropped, for events as logs, with one difference: many receivers take metrics only, and refuse all logs. So \
                 what is refused, or comes faster than it is encoded, counts only where log records have been accepted since the \
                 exporter was started.",
        expression: format!(
            "(\n  {repeated}\n  and on ({receiver})\n  {accepts}\n)\nor on ({by})\n\
             (\n  {overflow}\n  and on ({receiver})\n  {wanted}\n)"
        ),
        after: "5m",
        severity: Warning,
        summary: "An exporter drops log records of events",
        description: loss("log records"),
    }
}

fn collector_failing() -> Alert {
    let issues = format!(
        r#"{{{{ with printf "topk(1, increase({ISSUES}{{job=%q,instance=%q,collector=%q,call!=\"\"}}[15m]) > 0)" $labels.job $labels.instance $labels.collector | query }}}}"#
    );
    Alert {
        name: "BpfCollectorFailing",
        reason: "A collector that lacks a right does not count as failing, so this is another error. 15 minutes, since a reading that fails \
                 once is repeated.",
        expression: format!("max by ({NODE}, collector) ({}) == 0", Scope::ALL.of(COLLECT_SUCCESS)),
        after: "15m",
        severity: Warning,
        summary: "An exporter fails to read a part of the BPF objects",
        description: format!(
            "The exporter on {} has failed to read all of collector {{{{ $labels.collector }}}} for 15 minutes\
             {issues}{{{{ with . | first }}}}: {{{{ .Labels.call }}}} returns {{{{ .Labels.error }}}}{{{{ end }}}}{{{{ end }}}}.",
            node()
        ),
    }
}

fn series_dropped() -> Alert {
    Alert {
        name: "BpfSeriesDropped",
        reason: "Any, since each series that is dropped is missing in a query, and an alert about it cannot fire. An hour: a burst of \
                 short-lived objects may exceed the limit for a while, which is what the limit is for.",
        expression: format!("max by ({NODE}) ({}) > 0", Scope::ALL.of(DROPPED_SERIES)),
        after: "1h",
        severity: Info,
        summary: "An exporter drops series of objects",
        description: format!(
            "The exporter on {} has been dropping series for an hour, now {{{{ $value }}}}, to stay below --max-series.",
            node()
        ),
    }
}

/// A map in a description.
const MAP: &str = "{{ $labels.id }} ({{ $labels.name }})";

/// A program in a description.
const PROGRAM: &str = "{{ $labels.id }} ({{ $labels.name }}, {{ $labels.type }})";

/// Returns a template for the name of the alert's node. It falls back on the instance.
fn node() -> String {
    format!(
        r#"{{{{ with printf "{NODE_NAME}{{job=%q,instance=%q}}" $labels.job $labels.instance | query }}}}{NAME_OF_NODE}"#
    )
}

/// Returns the same for an exporter that may be gone.
fn past_node() -> String {
    format!(
        r#"{{{{ with printf "last_over_time({NODE_NAME}{{job=%q,instance=%q}}[1d])" $labels.job $labels.instance | query }}}}{NAME_OF_NODE}"#
    )
}

/// The rest of these templates.
const NAME_OF_NODE: &str = r#"{{ . | first | label "node" }}{{ else }}{{ $labels.instance }}{{ end }}"#;

/// Returns a template for the owner of the alert's object, or nothing if it is not known.
fn owner(info: Metric) -> String {
    with_first(
        info,
        &["job", "instance", "id"],
        r#"{{ with . | first | label "owner" }}; its owner is {{ . }}{{ end }}"#,
    )
}

/// Returns a template that is rendered with the series of a metric that have the alert's values of these labels.
fn with_first(metric: Metric, labels: &[&str], template: &str) -> String {
    let matchers: Vec<String> = labels.iter().map(|label| format!("{label}=%q")).collect();
    let values: Vec<String> = labels.iter().map(|label| format!("$labels.{label}")).collect();
    format!(
        r#"{{{{ with printf "{metric}{{{}}}" {} | query }}}}{template}{{{{ end }}}}"#,
        matchers.join(","),
        values.join(" ")
    )
}
