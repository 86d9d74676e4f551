//! Reduced privileges: a refused table limits a feature or is an issue, and never is an empty table.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::{fs, thread};

use bpf_metrics_exporter::model::{self, Feature, Reason, Snapshot};
use caps::{CapSet, Capability, CapsHashSet};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use super::{http, readers};
use test_support::objects::Herd;
use test_support::running::Running;

/// Reads in a thread with only these capabilities, which ends.
fn read_with(capabilities: &'static [Capability]) -> Snapshot {
    let read = move || {
        let capabilities: CapsHashSet = capabilities.iter().copied().collect();
        caps::set(None, CapSet::Effective, &capabilities).expect("a thread may drop capabilities");
        readers::by_ids().read()
    };
    thread::spawn(read).join().expect("a reading does not panic")
}

fn assert_all_refused(snapshot: &Snapshot) {
    assert!(snapshot.is_all_refused());
    assert!(snapshot.totals.is_empty(), "refused is not zero");
    assert_eq!(snapshot.issues, [], "what the granted rights allow was read");
    for feature in [Feature::ObjectsById, Feature::BtfObjects] {
        let reason = snapshot.feature(feature).expect("it is reported").reason;
        assert_eq!(reason, Some(Reason::Missing(model::Capability::SysAdmin)));
    }
    assert!(snapshot.collectors.len() == 5 && snapshot.collectors.iter().all(|collector| collector.success));
}

pub(crate) fn none() {
    assert_all_refused(&read_with(&[]));
}

pub(crate) fn cap_bpf_only() {
    assert_all_refused(&read_with(&[Capability::CAP_BPF, Capability::CAP_PERFMON]));
}

/// A copy of the program where any user may run it: the build directory may be private.
struct Copy(PathBuf);

impl Copy {
    fn new() -> Self {
        let directory =
            std::env::temp_dir().join(format!("bpf-metrics-exporter-test-{}", std::process::id()));
        fs::create_dir(&directory).expect("a new directory");
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).expect("it is ours");
        let copy = Self(directory);
        fs::copy(env!("CARGO_BIN_EXE_bpf-metrics-exporter"), copy.program()).expect("there is room");
        copy
    }

    fn program(&self) -> PathBuf {
        self.0.join("bpf-metrics-exporter")
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("it is ours");
    }
}

pub(crate) fn as_nobody() {
    let copy = Copy::new();
    for arguments in [&["snapshot", "--format", "json"][..], &["--web.listen-address", "127.0.0.1:0"]] {
        let output =
            Command::new(copy.program()).args(arguments).uid(65534).gid(65534).output().expect("it starts");
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{message}");
        let mut lines = message.lines();
        assert!(lines.next().is_some_and(|cause| cause.len() < 100), "{message}");
        assert!(lines.all(|remedy| remedy.starts_with("  - ")), "{message}");
        assert!(message.contains("CAP_SYS_ADMIN is missing") && message.contains("setcap"), "{message}");
        assert!(message.contains("CAP_BPF and CAP_PERFMON"), "{message}");
        assert!(output.stdout.is_empty(), "nothing was read");
    }
}

/// Refuses one command of bpf(2) to the calling thread and its children.
pub(crate) fn refuse(command: u64, error: i32) {
    let is = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, command)
        .expect("bpf(2) has arguments");
    let rules = [(libc::SYS_bpf, vec![SeccompRule::new(vec![is]).expect("one condition is enough")])];
    let refused = SeccompAction::Errno(error.cast_unsigned());
    let architecture = std::env::consts::ARCH.try_into().expect("a known architecture");
    let filter = SeccompFilter::new(rules.into_iter().collect(), SeccompAction::Allow, refused, architecture);
    let program: BpfProgram = filter.and_then(TryInto::try_into).expect("it is a filter");
    seccompiler::apply_filter(&program).expect("a thread may restrict itself");
}

pub(crate) fn one_table_refused() {
    const BPF_MAP_GET_NEXT_ID: u64 = 12;
    let herd = Herd::new(5, 5).expect("they can be made");
    let scrape = || {
        refuse(BPF_MAP_GET_NEXT_ID, libc::EPERM);
        let mut running = Command::new(env!("CARGO_BIN_EXE_bpf-metrics-exporter"));
        running
            .args(["--kernel-reader", "walk", "--otlp-grpc", "none", "--web.listen-address", "127.0.0.1:0"])
            .stderr(Stdio::piped());
        let mut running = Running(running.spawn().expect("it starts"));
        let log = BufReader::new(running.0.stderr.take().expect("a pipe"));
        let mut lines = Vec::new();
        for line in log.lines() {
            lines.push(line.expect("the log is text"));
            let Some((_, url)) = lines.last().and_then(|line| line.split_once("http://")) else { continue };
            let address = url.trim_end_matches("/metrics").parse().expect("an address");
            let text = http::get(address, "/metrics").expect("it serves");
            return (lines, text);
        }
        panic!("it does not log its address: {lines:?}");
    };
    let (log, metrics) = thread::spawn(scrape).join().expect("it is scraped");
    // Some processes do not let even root read their descriptors and mounts.
    let of_processes = |line: &str| line.contains("/proc/") || line.contains("WARN pins not available: ");
    let warnings: Vec<_> = log.iter().filter(|line| line.contains("WARN") && !of_processes(line)).collect();
    assert!(warnings.len() == 1 && warnings[0].contains("BPF_MAP_GET_NEXT_ID"), "{log:#?}");
    for line in [
        "bpf_exporter_collect_success{collector=\"map\",reader=\"walk\"} 0",
        "bpf_exporter_collect_success{collector=\"program\",reader=\"walk\"} 1",
        "bpf_exporter_issues_total{collector=\"map\",call=\"BPF_MAP_GET_NEXT_ID\",error=\"EPERM\"} 2",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    assert!(
        !metrics.contains("bpf_map_info{") && !metrics.contains("bpf_objects{kind=\"map\"}"),
        "refused is not empty"
    );
    let programs = metrics.lines().filter(|line| line.starts_with("bpf_program_info{")).count();
    assert!(programs >= herd.programs().len());
}
