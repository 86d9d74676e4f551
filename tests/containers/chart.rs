//! What is shipped for Kubernetes, run by containerd as a kubelet would: the manifest as it is, and the chart with other values.
//! `tests/helm/check` has what needs no container.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::time::{Duration, Instant};

use bpf_metrics_exporter::cli;
use bpf_metrics_exporter::model::{Feature, OwnerKind, Reason, Snapshot};
use caps::Capability;
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use test_support::http::free_address;
use test_support::objects::uapi::{map_type, program_type};
use test_support::objects::{Map, Mount, Program, wait_until};

use super::containerd::Containerd;
use super::host::{Cgroups, Directory, SOON, command, output, with_shared_mounts};
use super::manifest::{self, NODE_NAME, RunningPod, Template};
use super::podman::Podman;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const EXPORTER: &str = env!("CARGO_BIN_EXE_bpf-metrics-exporter");

/// The path of the exporter in its image.
const ENTRY_POINT: &str = "/bpf-metrics-exporter";

/// Identifies the pod.
const UID: &str = "8d1c7c2e-5d0a-4d43-9c55-5b5c5b8f7a11";

fn helm() -> PathBuf {
    Path::new(ROOT).join("target/helm/bin/helm")
}

/// Returns what is not installed of what only these tests need.
pub(crate) fn missing() -> Option<String> {
    (!helm().exists()).then(|| "needs target/helm/bin/helm: see tests/helm/install".to_owned())
}

/// Renders the chart with these values.
fn render(values: &Value) -> Template {
    let file = NamedTempFile::with_suffix(".json").expect("there is room");
    fs::write(file.path(), values.to_string()).expect("there is room");
    let helm = helm();
    let mut template = command(helm.to_str().expect("it is text"));
    template.args(["template", "test"]).arg(Path::new(ROOT).join("dist/helm/bpf-metrics-exporter"));
    template.args(["--namespace", "bpf-system", "--values"]).arg(file.path());
    Template::of(&output(&mut template))
}

/// The program accepts the flags and variables of every case that `tests/helm/check` renders, without a warning.
pub(crate) fn settings_are_accepted() {
    let path = Path::new(ROOT).join("tests/helm/matrix.yaml");
    let cases: Vec<Value> =
        serde_saphyr::from_str(&fs::read_to_string(path).expect("it is there")).expect("it is YAML");
    assert!(cases.len() > 40, "{}", cases.len());
    for case in &cases {
        let template = render(&case["values"]);
        let mut environment = template.environment();
        // A directory that is mounted into the container, and must exist.
        for (_, value) in environment.iter_mut().filter(|(_, value)| value == "/host/root") {
            "/".clone_into(value);
        }
        parse(&environment, &template.arguments())
            .unwrap_or_else(|problems| panic!("{}: {problems:#?}", case["name"]));
    }
    let wrong = [("BPF_METRICS_EXPORTER_RUN_STATS".to_owned(), "always".to_owned())];
    assert!(parse(&wrong, &[]).is_err());
}

/// Has the program parse its settings. Returns errors and warnings.
fn parse(environment: &[(String, String)], arguments: &[String]) -> Result<(), Vec<String>> {
    let arguments = [ENTRY_POINT].into_iter().chain(arguments.iter().map(String::as_str));
    let variables = environment.iter().map(|(name, value)| (name.into(), value.into()));
    match cli::parse(arguments.map(OsString::from).collect(), variables) {
        Ok(cli::Invocation::Run { warnings, .. }) if warnings.is_empty() => Ok(()),
        Ok(cli::Invocation::Run { warnings, .. }) => Err(warnings),
        Ok(cli::Invocation::Print(printed)) => Err(vec![printed]),
        Err(errors) => Err(errors.lines),
    }
}

/// A node with objects of its own, and a container runtime that has the image.
struct Node<'a> {
    containerd: &'a Containerd<'a>,
    program: &'a Program,
    pinned: u32,
    /// Features that are not available outside of containers, for root.
    unavailable: BTreeSet<Feature>,
}

/// Runs this on a node.
fn on_a_node(image: &str, work: impl FnOnce(&Node<'_>)) {
    let directory = Directory::new("chart-");
    let images = Directory::new("images-");
    let _cgroups = Cgroups::new("kubepods");
    manifest::make_network(&directory.path().join("cni"));
    let containerd = Containerd::start(directory.path(), images.path());
    let made = Directory::new("image-");
    let podman = Podman::new(made.path());
    podman.import(
        &root_of_exporter(made.path()),
        &format!("docker.io/library/{image}"),
        &[&format!("ENTRYPOINT [{ENTRY_POINT:?}]")],
    );
    containerd.import(&podman, &format!("docker.io/library/{image}"));

    let bpffs = Path::new("/sys/fs/bpf");
    let _bpffs = Mount::visible(c"bpf", bpffs).expect("it can be mounted");
    let map = Map::ready(map_type::ARRAY, "chart_pinned").expect("it can be made");
    let pin = map.pin(&bpffs.join("chart")).expect("it can be pinned");
    let name = format!("chart{}", std::process::id());
    let program = Program::ready(program_type::SOCKET_FILTER, &name).expect("it can be loaded");
    let mut snapshot = command(EXPORTER);
    snapshot.args(["snapshot", "--format", "json", "--netns", "all"]);
    let host: Snapshot = serde_json::from_str(&output(&mut snapshot)).expect("it is a snapshot");
    let unavailable = unavailable(&host).into_iter().map(|(feature, _)| feature).collect();
    work(&Node { containerd: &containerd, program: &program, pinned: map.id(), unavailable });
    drop(pin);
}

/// Makes the root of an image that has the exporter with its libraries, and nothing else.
fn root_of_exporter(directory: &Path) -> PathBuf {
    let root = directory.join("exporter");
    let copy = |from: &Path, to: &str| {
        let to = root.join(to.trim_start_matches('/'));
        fs::create_dir_all(to.parent().expect("it is below the root")).expect("there is room");
        fs::copy(from, &to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).expect("it is ours");
    };
    copy(Path::new(EXPORTER), ENTRY_POINT);
    let libraries = output(command("ldd").arg(EXPORTER));
    for path in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
        copy(Path::new(path), path);
    }
    root
}

/// Returns what a snapshot does not see all of, and why.
fn unavailable(snapshot: &Snapshot) -> BTreeSet<(Feature, Reason)> {
    let states = snapshot.features.iter();
    states.filter_map(|state| Some((state.feature, state.reason?))).collect()
}

impl Node<'_> {
    /// Runs a pod until it serves the series of the program that the test loaded. Returns it with a reading.
    fn run<'p>(&'p self, template: &'p Template) -> (RunningPod<'p>, Snapshot) {
        let began = Instant::now();
        let pod = template.run(self.containerd, UID);
        let ready = pod.probe("readinessProbe");
        let name = format!("name=\"chart{}\"", std::process::id());
        let mut metrics = String::new();
        wait_until("the program is exported", SOON, || {
            metrics = pod.get("/metrics").map_err(std::io::Error::other)?;
            Ok(metrics.lines().any(|line| line.starts_with("bpf_program_info{") && line.contains(&name)))
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", pod.log()));
        show(&format!("ready after {ready:.1?}, first series of the program after {:.1?}", began.elapsed()));
        pod.probe("livenessProbe");
        let node_name = format!("k8s_node_name=\"{NODE_NAME}\"");
        let info = metrics.lines().find(|line| line.starts_with("target_info{")).expect("it is exported");
        assert!(info.contains(&node_name), "{info}");
        let snapshot = pod.get("/api/v1/snapshot").unwrap_or_else(|problem| panic!("{problem}"));
        let snapshot: Snapshot = serde_json::from_str(&snapshot).expect("it is a snapshot");
        let found = snapshot.programs.iter().flatten().find(|row| row.facts.id == self.program.id());
        assert!(found.is_some(), "the program is in the reading");
        (pod, snapshot)
    }

    /// Returns what the pod does not see all of although it can be seen outside of containers.
    fn lost(&self, snapshot: &Snapshot) -> BTreeSet<(Feature, Reason)> {
        let lost = unavailable(snapshot).into_iter();
        let lost = lost.filter(|(feature, _)| !self.unavailable.contains(feature)).collect();
        show(&format!("lost in the pod: {lost:?}"));
        lost
    }
}

/// Tells a figure, for docs/install/kubernetes.md.
#[expect(clippy::print_stderr, reason = "it is a figure and no result")]
fn show(line: &str) {
    eprintln!("{line}");
}

/// Asserts that the process has these capabilities at most, cannot gain others, is filtered, and cannot write to its root.
fn assert_restricted(pod: &RunningPod<'_>, capabilities: &[String]) {
    let status = fs::read_to_string(format!("/proc/{}/status", pod.pid)).expect("it runs");
    let field = |name: &str| {
        let mut lines = status.lines().filter_map(|line| line.split_once(":\t"));
        lines.find_map(|(key, value)| (key == name).then(|| value.trim().to_owned())).expect("it is there")
    };
    let granted = capabilities
        .iter()
        .fold(0, |mask, name| mask | Capability::from_str(name).expect("the kernel has it").bitmask());
    let bounding = u64::from_str_radix(&field("CapBnd"), 16).expect("it is a mask");
    assert_eq!(bounding, granted, "{status}");
    assert_eq!((field("NoNewPrivs").as_str(), field("Seccomp").as_str()), ("1", "2"), "{status}");
    let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", pod.pid)).expect("it runs");
    for path in
        ["/", "/sys/fs/bpf", "/sys/fs/cgroup", "/sys/kernel/security", "/var/log/pods", "/var/log/containers"]
    {
        let mut options = mounts.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            (fields[4] == path).then(|| fields[5].to_owned())
        });
        let last = options.next_back().unwrap_or_else(|| panic!("{path} is not mounted"));
        assert!(last.split(',').any(|option| option == "ro"), "{path}: {last}");
    }
}

/// The manifest, unchanged: its probes succeed, the series of programs of the host are served, and all that can be seen on the host is
/// seen, but for the sysctls of the network namespace.
pub(crate) fn manifest_runs() {
    with_shared_mounts(|| {
        let path = Path::new(ROOT).join("dist/kubernetes/kubernetes.yaml");
        let template = Template::of(&fs::read_to_string(path).expect("it is there"));
        on_a_node(template.image(), |node| {
            let (pod, snapshot) = node.run(&template);
            assert_restricted(&pod, &template.capabilities());
            let lost = BTreeSet::from([(Feature::HostSettings, Reason::NetworkNamespace)]);
            assert_eq!(node.lost(&snapshot), lost, "{}", pod.log());
            let pins: Vec<_> = snapshot.pins.iter().flatten().filter(|pin| pin.id == node.pinned).collect();
            assert!(!pins.is_empty(), "the pin is found");
            // Its own objects belong to the pod, whose name is that of its directory of logs.
            wait_until("the pod has its name", SOON, || {
                let snapshot = pod.get("/api/v1/snapshot").map_err(std::io::Error::other)?;
                let snapshot: Snapshot = serde_json::from_str(&snapshot).map_err(std::io::Error::other)?;
                let mut owners = snapshot.owners.iter().map(|total| &total.owner);
                Ok(owners
                    .any(|owner| owner.kind() == OwnerKind::Pod && owner.name() == template.owner().as_str()))
            })
            .unwrap_or_else(|error| panic!("{error}\n{}", pod.log()));

            // With the settings of the exporter, which are variables.
            let (code, report) = pod.execute(&[ENTRY_POINT, "doctor", "--format", "json"]);
            let report: Value = serde_json::from_str(&report).unwrap_or_else(|_| panic!("{report}"));
            assert_eq!(code, 1, "one feature is missing: {report:#}");
            let features = report["features"].as_array().expect("it has them");
            let missing = features.iter().filter(|feature| feature["state"] == "missing");
            let missing: BTreeSet<&str> = missing.filter_map(|feature| feature["name"].as_str()).collect();
            let expected = node.unavailable.iter().map(|feature| feature.row().name);
            let expected: BTreeSet<&str> = expected.chain([Feature::HostSettings.row().name]).collect();
            assert!(missing.is_subset(&expected) && missing.contains("host_settings"), "{report:#}");

            let (code, took) = pod.stop();
            assert_eq!(code, 0);
            assert!(took < Duration::from_secs(6), "{took:?}");
        });
    });
}

/// With less, the pod serves as well, and says what it does not see, as docs/install/kubernetes.md does. With the host's network, it
/// sees all; served on loopback, its probes are commands.
pub(crate) fn with_less_and_with_more() {
    with_shared_mounts(|| {
        let without_pid = render(&json!({"hostPID": false}));
        let least = render(&json!({"leastPrivilege": true}));
        let port = free_address().port();
        let network = render(&json!({
            "hostNetwork": true,
            "service": {"targetPort": port},
            "web": {"listenAddress": format!("127.0.0.1:{port}")},
        }));
        on_a_node(without_pid.image(), |node| {
            let (pod, snapshot) = node.run(&network);
            assert_restricted(&pod, &network.capabilities());
            assert_eq!(node.lost(&snapshot), BTreeSet::new());
            pod.stop();

            let (pod, snapshot) = node.run(&without_pid);
            assert_restricted(&pod, &without_pid.capabilities());
            let lost = node.lost(&snapshot);
            assert!(lost.contains(&(Feature::PerfEventHooks, Reason::PidNamespace)), "{lost:?}");
            assert!(lost.contains(&(Feature::HostSettings, Reason::NetworkNamespace)), "{lost:?}");
            for feature in [Feature::MapMemory, Feature::RunStatistics, Feature::ProgramCapabilities] {
                assert!(!lost.iter().any(|(lost, _)| *lost == feature), "{lost:?}");
            }
            let metrics = pod.get("/metrics").unwrap_or_else(|problem| panic!("{problem}"));
            let host = format!("host_name=\"{NODE_NAME}\"");
            assert!(metrics.lines().any(|line| line.starts_with("target_info{") && line.contains(&host)));
            pod.stop();

            let (pod, snapshot) = node.run(&least);
            assert_restricted(&pod, &least.capabilities());
            let lost: BTreeSet<Feature> =
                node.lost(&snapshot).into_iter().map(|(feature, _)| feature).collect();
            for feature in [Feature::MapMemory, Feature::BtfObjects, Feature::RunStatistics] {
                assert!(lost.contains(&feature), "{lost:?}");
            }
            assert!(!lost.contains(&Feature::Iterators), "{lost:?}");
            pod.stop();
        });
    });
}
