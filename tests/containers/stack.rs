//! `metrics-stack.yaml`, unchanged, as Podman plays it. No image is pulled: under the names of the images are stand-ins, with the
//! same paths, users and volumes. In those of the Collector and Prometheus are the programs that the other tests use, too, built from
//! Debian's sources: the test tells if their versions are not those of the images. In place of Grafana is an HTTP server that serves the files of its container. What Grafana makes
//! of them is not tested.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use dist::names::{MAP_ENTRIES, MAP_INFO, MAP_MAX_ENTRIES, Metric, PROGRAM_INFO, PROGRAM_RUNS};
use dist::stack::services::{self, Service};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use test_support::http::{get, post_json};
use test_support::objects::uapi::{map_type, program_type};
use test_support::objects::{Map, Program, wait_until};
use test_support::receivers;
use test_support::running::Running;

use super::host::{self, Cgroups, Directory, SOON, command, isolated, network_namespace, output};
use super::podman::Podman;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The file to play, as it is in the README.
const FILE: &str = "metrics-stack.yaml";

/// A network that Podman makes for all pods that it plays, and keeps.
const NETWORK: &str = "podman-default-kube-network";

/// Deadline for what takes some of the exporter's intervals of 10 s, or of Prometheus' of 30 s.
const INTERVALS: Duration = Duration::from_mins(2);

/// Packets that the program of the test looks at.
const RUNS: u32 = 1000;

const COLLECTOR: &str = "otelcol";
const PROMETHEUS: &str = "prometheus-otlp";

/// Returns what is not installed of what only this test needs.
pub(crate) fn missing() -> Option<String> {
    let receivers = [COLLECTOR, PROMETHEUS].map(|name| (receivers::path(name), "tests/receivers/install"));
    let programs = [
        "/usr/bin/catatonit",
        "/usr/sbin/iptables",
        "/usr/lib/podman/netavark",
        "/usr/lib/podman/aardvark-dns",
    ];
    let programs = programs.map(|path| (PathBuf::from(path), "tests/containers/install"));
    let mut needed = receivers.into_iter().chain(programs);
    let (path, script) = needed.find(|(path, _)| !path.exists())?;
    Some(format!("needs {}: see {script}", path.display()))
}

/// Checks until there is a result.
fn eventually<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let mut last = None;
    let waited = wait_until(what, limit, || {
        last = Some(look());
        Ok(matches!(last, Some(Ok(_))))
    });
    match (waited, last) {
        (Ok(()), Some(Ok(found))) => found,
        (waited, last) => panic!("{waited:?}: {:?}", last.and_then(Result::err)),
    }
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// A receiver's program.
fn command_of(program: &str) -> Command {
    let path = receivers::path(program);
    command(path.to_str().expect("the path is UTF-8"))
}

/// Makes the stand-ins.
struct StandIns<'a> {
    podman: &'a Podman<'a>,
    directory: &'a Path,
    services: Vec<Service>,
}

impl StandIns<'_> {
    fn make(&self) {
        self.compare_version("collector", COLLECTOR);
        self.compare_version("prometheus", PROMETHEUS);
        // The users and paths are those of the Dockerfiles of the three projects.
        let root = self.root("collector", &[("otelcol", &receivers::path(COLLECTOR))]);
        self.import("collector", &root, &["USER 10001", r#"ENTRYPOINT ["/otelcol"]"#]);

        let root = self.root("prometheus", &[("bin/prometheus", &receivers::path(PROMETHEUS))]);
        let series = root.join("prometheus");
        fs::create_dir(&series).and_then(|()| chown(&series, Some(65534), None)).expect("there is room");
        let instructions =
            ["USER 65534", "VOLUME /prometheus", "WORKDIR /prometheus", r#"ENTRYPOINT ["/bin/prometheus"]"#];
        self.import("prometheus", &root, &instructions);

        let root = self.root("grafana", &[("bin/busybox", Path::new("/bin/busybox"))]);
        let script = root.join("run.sh");
        let serve = "#!/bin/busybox sh\n\
                     /bin/busybox env > /tmp/environment\n\
                     exec /bin/busybox httpd -f -p 3000 -h /\n";
        fs::write(&script, serve).expect("there is room");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("it is ours");
        self.import("grafana", &root, &["USER 472", r#"ENTRYPOINT ["/run.sh"]"#]);
    }

    /// Makes the root directory of an image, with copies of programs.
    fn root(&self, name: &str, programs: &[(&str, &Path)]) -> PathBuf {
        let root = self.directory.join(name);
        for folder in ["bin", "etc", "tmp"] {
            fs::create_dir_all(root.join(folder)).expect("there is room");
        }
        fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).expect("it is ours");
        for (path, program) in programs {
            fs::copy(program, root.join(path))
                .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        }
        root
    }

    /// Tells whether a program is of another version than the image for which it stands in: Debian's sources move on.
    #[expect(clippy::print_stderr, reason = "it is no failure, but the stack may follow")]
    fn compare_version(&self, service: &str, program: &str) {
        let service = self.services.iter().find(|each| each.name == service).expect("it is in the stack");
        let tag = service.version.trim_start_matches('v');
        let printed = output(command_of(program).arg("--version"));
        let line = printed.lines().next().unwrap_or_default();
        let is_same = |word: &str| {
            let word = word.trim_start_matches('v');
            word.strip_prefix(tag).is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_digit()))
        };
        if !line.split_whitespace().any(is_same) {
            eprintln!(
                "tested with {line:?}, but metrics-stack.yaml has {}:{}",
                service.image, service.version
            );
        }
    }

    fn import(&self, service: &str, root: &Path, instructions: &[&str]) {
        let service = self.services.iter().find(|each| each.name == service).expect("it is in the stack");
        self.podman.import(root, &format!("{}:{}", service.image, service.version), instructions);
    }
}

/// The Prometheus of the stack.
struct Prometheus(SocketAddr);

impl Prometheus {
    fn read(&self, path: &str) -> Result<Value, String> {
        let answer = get(self.0, path)?;
        let mut answer: Value =
            serde_json::from_str(&answer).map_err(|error| format!("{error}: {answer}"))?;
        if answer["status"] == "success" { Ok(answer["data"].take()) } else { Err(answer.to_string()) }
    }

    /// Returns labels and value of the one series of a metric of an object of this name.
    fn series(&self, metric: Metric, name: &str) -> Result<(Value, f64), String> {
        let query = format!(r#"{metric}{{name="{name}"}}"#);
        let query = utf8_percent_encode(&query, NON_ALPHANUMERIC);
        let answer = self.read(&format!("/api/v1/query?query={query}"))?;
        let [series] = answer["result"].as_array().map_or(&[][..], Vec::as_slice) else {
            return Err(format!("{metric} of {name}: {answer}"));
        };
        let value = series["value"][1].as_str().and_then(|value| value.parse().ok());
        Ok((series["metric"].clone(), value.ok_or_else(|| series.to_string())?))
    }

    /// Waits until the one series of a metric of an object has this value, and returns its labels.
    fn shows(&self, metric: Metric, name: &str, value: f64) -> Value {
        eventually(&format!("{metric} of {name} is {value}"), INTERVALS, || {
            let (labels, seen) = self.series(metric, name)?;
            // Counts are integers: there is nothing to round.
            if (seen - value).abs() < f64::EPSILON { Ok(labels) } else { Err(format!("it is {seen}")) }
        })
    }

    /// Waits until every rule was evaluated, and returns their names.
    fn rules(&self) -> BTreeSet<String> {
        eventually("every rule was evaluated", INTERVALS, || {
            let answer = self.read("/api/v1/rules")?;
            let rules: Vec<&Value> =
                items(&answer["groups"]).flat_map(|group| items(&group["rules"])).collect();
            if let Some(failed) = rules.iter().find(|rule| rule["health"] == "err") {
                panic!("{failed}");
            }
            let are_evaluated = rules.iter().all(|rule| rule["health"] == "ok");
            let names = rules.iter().map(|rule| text(&rule["name"])).collect();
            if are_evaluated { Ok(names) } else { Err("some were not".to_owned()) }
        })
    }
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is not a string")).to_owned()
}

/// Returns the names of the rules in `dist/`.
fn rules_in(files: &[dist::File]) -> BTreeSet<String> {
    let files = files.iter().filter(|file| file.path.starts_with("dist/prometheus/"));
    let groups = files.flat_map(|file| {
        let rules: Value =
            serde_saphyr::from_str(&file.text).unwrap_or_else(|error| panic!("{}: {error}", file.path));
        items(&rules["groups"]).cloned().collect::<Vec<_>>()
    });
    let rules = groups.flat_map(|group| items(&group["rules"]).cloned().collect::<Vec<_>>());
    rules.map(|rule| text(rule.get("record").unwrap_or(&rule["alert"]))).collect()
}

/// Asserts that Grafana would find its data source and its dashboards, and reach Prometheus.
fn assert_is_provisioned(podman: &Podman<'_>, grafana: SocketAddr, service: &Service) {
    let read = |path: &str| get(grafana, path).unwrap_or_else(|problem| panic!("{problem}"));
    for folder in &service.folders {
        for file in &folder.files {
            assert_eq!(read(&format!("{}/{}", folder.path, file.name())), file.text, "{}", file.path);
        }
    }
    let environment = read("/tmp/environment");
    let value = |name: &str| {
        let mut lines = environment.lines().filter_map(|line| line.split_once('='));
        lines.find_map(|(found, value)| (found == name).then(|| value.to_owned()))
    };
    assert_eq!(value("GF_SECURITY_ADMIN_PASSWORD").as_deref(), Some("admin"));
    let home = value("GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH").expect("it is set");
    let home: Value = serde_json::from_str(&read(&home)).expect("it is JSON");
    assert_eq!(home["title"], "eBPF Subsystem Metrics");

    let source = read("/etc/grafana/provisioning/datasources/grafana-datasource.yaml");
    let source: Value = serde_saphyr::from_str(&source).expect("it is YAML");
    let url = format!("{}/api/v1/status/buildinfo", text(&source["datasources"][0]["url"]));
    let fetch = ["exec", "bpf-metrics-grafana", "/bin/busybox", "wget", "-q", "-O", "-", &url];
    let answer = output(podman.command().args(fetch));
    assert!(answer.contains("\"success\""), "{answer}");
}

/// Asserts that the Collector takes logs.
fn assert_takes_logs(podman: &Podman<'_>, collector: SocketAddr, body: &str) {
    let record =
        json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"stringValue": body}}]}]}]});
    let answer =
        post_json(collector, "/v1/logs", &record.to_string()).unwrap_or_else(|problem| panic!("{problem}"));
    assert_eq!(answer, r#"{"partialSuccess":{}}"#);
    eventually("the record is printed", SOON, || {
        let logs = podman.command().args(["logs", "bpf-metrics-collector"]).output();
        let logs = both(&logs.expect("podman is installed"));
        if logs.contains(&format!("Body: Str({body})")) { Ok(()) } else { Err(logs) }
    });
}

/// Returns the processes in the calling thread's network namespace.
fn processes_here() -> Vec<u32> {
    let here = network_namespace();
    let is_here =
        |pid: &u32| fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|namespace| namespace == here);
    host::processes().filter(is_here).collect()
}

fn interfaces() -> BTreeSet<String> {
    let table = fs::read_to_string("/proc/thread-self/net/dev").expect("Linux has /proc");
    table.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim().to_owned()).collect()
}

fn lines(command: &mut Command) -> BTreeSet<String> {
    output(command).lines().map(str::to_owned).collect()
}

/// Asserts that nothing of the stack is left but what Podman keeps of each pod it played, which the documented commands remove.
fn assert_is_gone(podman: &Podman<'_>, services: &[Service], pids: &BTreeSet<String>) {
    let list = |arguments: &[&str]| lines(podman.command().args(arguments));
    assert_eq!(list(&["ps", "--all", "--quiet"]), BTreeSet::new());
    assert_eq!(list(&["pod", "ls", "--quiet"]), BTreeSet::new());
    wait_until("its processes have ended", SOON, || {
        let is_gone = |pid: &String| !Path::new("/proc").join(pid).exists();
        Ok(pids.iter().all(is_gone) && processes_here().is_empty())
    })
    .expect("they do");
    assert_eq!(interfaces(), BTreeSet::from(["lo".to_owned()]));
    for port in services.iter().flat_map(|service| service.ports) {
        TcpListener::bind(local(port.0)).unwrap_or_else(|error| panic!("port {}: {error}", port.0));
    }
    // The volume of the image is gone with its container. The files of ConfigMaps stay by design (podman-kube-down(1)).
    let folders = services.iter().flat_map(|service| &service.folders);
    let kept: BTreeSet<String> = folders.map(|folder| folder.name.to_owned()).collect();
    assert_eq!(list(&["volume", "ls", "--quiet"]), kept);
    output(podman.command().args(["volume", "rm"]).args(list(&[
        "volume",
        "ls",
        "--quiet",
        "--filter",
        "name=bpf-metrics-",
    ])));
    assert_eq!(list(&["volume", "ls", "--quiet"]), BTreeSet::new());
    output(podman.command().args(["network", "rm", NETWORK]));
    assert_eq!(list(&["network", "ls", "--quiet"]), BTreeSet::from(["podman".to_owned()]));
}

/// Shows the logs of the containers if the test fails.
struct Logs<'a>(&'a Podman<'a>, &'a [Service]);

impl Drop for Logs<'_> {
    #[expect(clippy::print_stderr, reason = "the test that failed is of no other help")]
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        for Service { name, .. } in self.1 {
            let logs =
                self.0.command().args(["logs", "--tail", "20", &format!("bpf-metrics-{name}")]).output();
            eprintln!("--- {name}: {}", logs.map_or_else(|error| error.to_string(), |logs| both(&logs)));
        }
    }
}

/// Returns all that a command printed.
fn both(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat()
}

pub(crate) fn plays() {
    isolated(|| {
        let directory = Directory::new("stack-");
        let _cgroups = Cgroups::new("libpod_parent");
        let podman = Podman::new(directory.path());
        let files = dist::files();
        let services = services::all(&files);
        StandIns { podman: &podman, directory: directory.path(), services: services.clone() }.make();
        play(&podman, &files, &services);
    });
}

fn play(podman: &Podman<'_>, files: &[dist::File], services: &[Service]) {
    let [collector, prometheus, grafana] = [4318, 9090, 3000].map(local);
    let in_root = |arguments: &[&str]| output(podman.command().current_dir(ROOT).args(arguments));
    let _logs = Logs(podman, services);
    in_root(&["play", "kube", FILE]);
    let pids = lines(podman.command().args(["ps", "--format", "{{.Pid}}"]));
    assert_eq!(pids.len(), services.len() + 1, "the containers, and that of the pod");
    for (address, path) in [(prometheus, "/-/ready"), (grafana, "/tmp/environment")] {
        eventually(&format!("{address} answers"), SOON, || get(address, path));
    }

    let name = format!("stack{}", std::process::id());
    let map = Map::ready(map_type::HASH, &name).expect("it can be made");
    map.insert_many(3).expect("it has room");
    let program = Program::ready(program_type::SOCKET_FILTER, &name).expect("it can be loaded");
    // With its default flags, as in the README.
    let exporter = command(env!("CARGO_BIN_EXE_bpf-metrics-exporter")).spawn().map(Running);
    let exporter = exporter.expect("it is built");

    let prometheus = Prometheus(prometheus);
    let labels = prometheus.shows(MAP_INFO, &name, 1.0);
    assert_eq!(
        (&labels["id"], &labels["job"]),
        (&json!(map.id().to_string()), &json!("bpf-metrics-exporter"))
    );
    let instance = text(&labels["instance"]);
    assert_eq!(instance.len(), 36, "{instance} is a UUID");
    prometheus.shows(MAP_ENTRIES, &name, 3.0);
    prometheus.shows(MAP_MAX_ENTRIES, &name, f64::from(map.shape().max_entries));
    assert_eq!(prometheus.shows(PROGRAM_INFO, &name, 1.0)["id"], json!(program.id().to_string()));
    // The exporter has turned run statistics on by now.
    program.run(64, RUNS).expect("it can be run");
    assert_eq!(program.counts().expect("root may").runs, u64::from(RUNS));
    prometheus.shows(PROGRAM_RUNS, &name, f64::from(RUNS));

    assert_eq!(prometheus.rules(), rules_in(files));
    assert_takes_logs(podman, collector, &name);
    let service = services.iter().find(|service| service.name == "grafana");
    assert_is_provisioned(podman, grafana, service.expect("it is in the stack"));

    drop(exporter);
    in_root(&["kube", "down", FILE]);
    assert_is_gone(podman, services, &pids);
}
