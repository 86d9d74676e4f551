//! The pod of a manifest, run by a container runtime as a kubelet would: its security contexts, mounts, variables, limits and probes.
//! A field that is not translated here is a failure. Entry point: [`Template::of`].

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use bpf_metrics_exporter::lookup::cri::messages::{ContainerMetadata, Empty, PodSandboxMetadata};
use serde_json::Value;
use test_support::http::get;
use test_support::objects::wait_until;

use super::containerd::Containerd;
use super::cri::{
    CONTAINER, Capability, ContainerConfig, ContainerId, ContainerStatusResponse, CreateContainerRequest,
    ExecSyncRequest, ExecSyncResponse, HOST_TO_CONTAINER, ImageSpec, Int64Value, KeyValue,
    LinuxContainerConfig, LinuxContainerResources, LinuxContainerSecurityContext, LinuxPodSandboxConfig,
    LinuxSandboxSecurityContext, Mount, NODE, NamespaceOption, POD, PodSandboxConfig, PodSandboxId,
    RUNTIME_DEFAULT, RunPodSandboxRequest, RunPodSandboxResponse, SecurityProfile, StopContainerRequest,
    UNCONFINED,
};
use super::host::{in_network_of, process_in};

/// The node, as a kubelet knows it.
pub(crate) const NODE_NAME: &str = "node-7";
const HOST_IP: &str = "192.0.2.1";
/// The address of each pod, in its network namespace.
pub(crate) const POD_IP: &str = "192.0.2.77";

/// Fields of a pod that are given to the runtime, those that decide where it runs, and that of name servers, which nothing here needs.
const POD_FIELDS: [&str; 13] = [
    "affinity",
    "automountServiceAccountToken",
    "containers",
    "dnsPolicy",
    "enableServiceLinks",
    "hostNetwork",
    "hostPID",
    "nodeSelector",
    "priorityClassName",
    "serviceAccountName",
    "terminationGracePeriodSeconds",
    "tolerations",
    "volumes",
];
const CONTAINER_FIELDS: [&str; 11] = [
    "args",
    "env",
    "image",
    "imagePullPolicy",
    "livenessProbe",
    "name",
    "ports",
    "readinessProbe",
    "resources",
    "securityContext",
    "volumeMounts",
];
const SECURITY_FIELDS: [&str; 9] = [
    "allowPrivilegeEscalation",
    "appArmorProfile",
    "capabilities",
    "privileged",
    "readOnlyRootFilesystem",
    "runAsGroup",
    "runAsNonRoot",
    "runAsUser",
    "seccompProfile",
];

/// What a kubelet masks of `/proc` and `/sys`, and makes read-only, with `procMount: Default`. Source: Kubernetes,
/// `pkg/securitycontext/util.go`.
const MASKED: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is not a text"))
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn flag(value: &Value) -> bool {
    value.as_bool().unwrap_or_else(|| panic!("{value} is not true or false"))
}

fn texts(value: &Value) -> Vec<String> {
    items(value).map(|item| text(item).to_owned()).collect()
}

fn seconds(value: &Value) -> Duration {
    Duration::from_secs(value.as_u64().unwrap_or_else(|| panic!("{value} is not a number of seconds")))
}

/// Asserts that a map has no other keys.
fn assert_only(value: &Value, keys: &[&str]) {
    for key in value.as_object().expect("it is a map").keys() {
        assert!(keys.contains(&key.as_str()), "{key} is not translated");
    }
}

/// Returns bytes, or thousandths of a CPU, of a quantity.
fn quantity(value: &Value) -> i64 {
    let units = [("Mi", 1 << 20), ("Gi", 1 << 30), ("m", 1)];
    let given = text(value);
    let found = units.iter().find_map(|(unit, factor)| Some((given.strip_suffix(unit)?, factor)));
    let (number, factor) = found.unwrap_or_else(|| panic!("the unit of {given} is not known"));
    number.parse::<i64>().expect("it is a number") * factor
}

fn profile(value: &Value) -> Option<SecurityProfile> {
    let profile_type = match value["type"].as_str()? {
        "RuntimeDefault" => RUNTIME_DEFAULT,
        "Unconfined" => UNCONFINED,
        other => panic!("{other} is not translated"),
    };
    Some(SecurityProfile { profile_type })
}

/// Replaces each `$(NAME)` whose variable is known.
fn expand(value: &str, known: &HashMap<String, String>) -> String {
    let mut expanded = value.to_owned();
    for (name, value) in known {
        expanded = expanded.replace(&format!("$({name})"), value);
    }
    expanded
}

/// A pod that a `DaemonSet` makes.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    namespace: String,
    name: String,
    pod: Value,
}

impl Template {
    /// Reads that of the one `DaemonSet` in a manifest.
    pub(crate) fn of(manifest: &str) -> Self {
        let objects: Vec<Value> = serde_saphyr::from_multiple(manifest).expect("it is YAML");
        let sets: Vec<&Value> = objects.iter().filter(|object| object["kind"] == "DaemonSet").collect();
        let [set] = sets[..] else { panic!("there is one DaemonSet: {sets:#?}") };
        Self {
            namespace: text(&set["metadata"]["namespace"]).to_owned(),
            name: format!("{}-x7k2p", text(&set["metadata"]["name"])),
            pod: set["spec"]["template"]["spec"].clone(),
        }
    }

    fn container(&self) -> &Value {
        let found = items(&self.pod["containers"]).find(|container| container["name"] == "exporter");
        found.expect("it has the container")
    }

    /// Asserts that nothing of it is left out here.
    fn assert_translated(&self) {
        assert_only(&self.pod, &POD_FIELDS);
        assert_eq!(items(&self.pod["containers"]).count(), 1);
        assert_only(self.container(), &CONTAINER_FIELDS);
        assert_only(&self.container()["securityContext"], &SECURITY_FIELDS);
        // Else a kubelet would add a mount and variables.
        for field in ["automountServiceAccountToken", "enableServiceLinks"] {
            assert!(!flag(&self.pod[field]), "{field} is not translated");
        }
    }

    /// Returns the name of its image.
    pub(crate) fn image(&self) -> &str {
        text(&self.container()["image"])
    }

    /// Returns the capabilities that it is granted, as the kernel names them.
    pub(crate) fn capabilities(&self) -> Vec<String> {
        let granted = texts(&self.container()["securityContext"]["capabilities"]["add"]);
        granted.into_iter().map(|name| format!("CAP_{name}")).collect()
    }

    /// Returns the pod's name with its namespace, as an owner has it.
    pub(crate) fn owner(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Returns flags of the container.
    pub(crate) fn arguments(&self) -> Vec<String> {
        texts(&self.container()["args"])
    }

    /// Returns variables of the container. Those of a Secret have a value that says so.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let mut known = HashMap::new();
        let mut variables = Vec::new();
        for variable in items(&self.container()["env"]) {
            let name = text(&variable["name"]).to_owned();
            let source = &variable["valueFrom"];
            let value = match source["fieldRef"]["fieldPath"].as_str() {
                Some("spec.nodeName") => NODE_NAME.to_owned(),
                Some("status.hostIP") => HOST_IP.to_owned(),
                Some(other) => panic!("{other} is not translated"),
                None if !source["secretKeyRef"].is_null() => "from=secret".to_owned(),
                None => expand(text(&variable["value"]), &known),
            };
            known.insert(name.clone(), value.clone());
            variables.push((name, value));
        }
        variables
    }

    /// Returns the mounts, after the checks that a kubelet makes of paths of the host.
    fn mounts(&self) -> Vec<Mount> {
        let volume = |name: &Value| {
            let found = items(&self.pod["volumes"]).find(|volume| volume["name"] == *name);
            let host_path = &found.unwrap_or_else(|| panic!("{name} is no volume"))["hostPath"];
            let path = text(&host_path["path"]).to_owned();
            let is = |is_kind: fn(&fs::FileType) -> bool| {
                fs::metadata(&path).is_ok_and(|metadata| is_kind(&metadata.file_type()))
            };
            match text(&host_path["type"]) {
                "Directory" => assert!(is(fs::FileType::is_dir), "{path} is not a directory"),
                "Socket" => assert!(is(FileTypeExt::is_socket), "{path} is not a socket"),
                "DirectoryOrCreate" => fs::create_dir_all(&path).expect("it can be made"),
                other => panic!("{other} is not translated"),
            }
            path
        };
        let mount = |mount: &Value| {
            assert_only(mount, &["mountPath", "mountPropagation", "name", "readOnly"]);
            assert_eq!(mount["mountPropagation"], "HostToContainer");
            Mount {
                container_path: text(&mount["mountPath"]).to_owned(),
                host_path: volume(&mount["name"]),
                readonly: flag(&mount["readOnly"]),
                propagation: HOST_TO_CONTAINER,
            }
        };
        items(&self.container()["volumeMounts"]).map(mount).collect()
    }

    fn namespaces(&self) -> NamespaceOption {
        NamespaceOption {
            network: if flag(&self.pod["hostNetwork"]) { NODE } else { POD },
            pid: if flag(&self.pod["hostPID"]) { NODE } else { CONTAINER },
        }
    }

    fn security_context(&self) -> LinuxContainerSecurityContext {
        let context = &self.container()["securityContext"];
        let id = |value: &Value| Some(Int64Value { value: value.as_i64()? });
        LinuxContainerSecurityContext {
            capabilities: Some(Capability {
                add_capabilities: texts(&context["capabilities"]["add"]),
                drop_capabilities: texts(&context["capabilities"]["drop"]),
            }),
            privileged: flag(&context["privileged"]),
            namespace_options: Some(self.namespaces()),
            run_as_user: id(&context["runAsUser"]),
            run_as_group: id(&context["runAsGroup"]),
            readonly_rootfs: flag(&context["readOnlyRootFilesystem"]),
            no_new_privs: !flag(&context["allowPrivilegeEscalation"]),
            masked_paths: MASKED.map(str::to_owned).to_vec(),
            readonly_paths: READ_ONLY.map(str::to_owned).to_vec(),
            seccomp: profile(&context["seccompProfile"]),
            apparmor: profile(&context["appArmorProfile"]),
        }
    }

    /// Runs it.
    pub(crate) fn run<'a>(&'a self, containerd: &'a Containerd<'a>, uid: &str) -> RunningPod<'a> {
        self.assert_translated();
        let logs = Path::new("/var/log/pods").join(format!("{}_{}_{uid}", self.namespace, self.name));
        fs::create_dir_all(logs.join("exporter")).expect("the directory is the test's");
        let sandbox_config = PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: self.name.clone(),
                uid: uid.to_owned(),
                namespace: self.namespace.clone(),
            }),
            // Of the node, on its network.
            hostname: if flag(&self.pod["hostNetwork"]) { String::new() } else { self.name.clone() },
            log_directory: logs.to_str().expect("it is text").to_owned(),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: format!("/kubepods/burstable/pod{uid}"),
                security_context: Some(LinuxSandboxSecurityContext {
                    namespace_options: Some(self.namespaces()),
                    privileged: false,
                    seccomp: Some(SecurityProfile { profile_type: RUNTIME_DEFAULT }),
                }),
            }),
        };
        let request = RunPodSandboxRequest { config: Some(sandbox_config.clone()) };
        let RunPodSandboxResponse { pod_sandbox_id: sandbox } = containerd.call("RunPodSandbox", request);

        let container = self.container();
        let name = text(&container["name"]);
        let resources = &container["resources"];
        let envs = self.environment().into_iter().map(|(key, value)| KeyValue { key, value }).collect();
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: name.to_owned() }),
            image: Some(ImageSpec { image: self.image().to_owned() }),
            command: Vec::new(),
            args: self.arguments(),
            envs,
            mounts: self.mounts(),
            log_path: format!("{name}/0.log"),
            linux: Some(LinuxContainerConfig {
                resources: Some(LinuxContainerResources {
                    cpu_shares: quantity(&resources["requests"]["cpu"]) * 1024 / 1000,
                    memory_limit_in_bytes: quantity(&resources["limits"]["memory"]),
                }),
                security_context: Some(self.security_context()),
            }),
        };
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox.clone(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        let ContainerId { container_id } = containerd.call("CreateContainer", request);
        let log = logs.join(name).join("0.log");
        let links = Path::new("/var/log/containers");
        fs::create_dir_all(links).expect("the directory is the test's");
        let link = format!("{}_{}_{name}-{container_id}.log", self.name, self.namespace);
        symlink(log, links.join(link)).expect("the directory is the test's");
        let started = ContainerId { container_id: container_id.clone() };
        let Empty {} = containerd.call("StartContainer", started);
        let pid = process_in(&container_id);
        RunningPod { template: self, containerd, sandbox, container: container_id, pid }
    }
}

/// A pod that runs.
pub(crate) struct RunningPod<'a> {
    template: &'a Template,
    containerd: &'a Containerd<'a>,
    sandbox: String,
    container: String,
    /// Its process, on the host.
    pub(crate) pid: u32,
}

impl RunningPod<'_> {
    fn address(&self) -> SocketAddr {
        let [port] = &self.template.container()["ports"].as_array().expect("it has ports")[..] else {
            panic!("it has one port")
        };
        let port =
            port["containerPort"].as_u64().and_then(|port| port.try_into().ok()).expect("it is a port");
        let address = if flag(&self.template.pod["hostNetwork"]) { "127.0.0.1" } else { POD_IP };
        (address.parse::<IpAddr>().expect("it is an address"), port).into()
    }

    /// Returns what the endpoint of the pod answers.
    pub(crate) fn get(&self, path: &str) -> Result<String, String> {
        let address = self.address();
        in_network_of(self.pid, || get(address, path))
    }

    /// Probes it as a kubelet does until it answers, for as long as a kubelet would wait.
    pub(crate) fn probe(&self, name: &str) -> Duration {
        let probe = &self.template.container()[name];
        assert_only(
            probe,
            &[
                "exec",
                "failureThreshold",
                "httpGet",
                "initialDelaySeconds",
                "periodSeconds",
                "timeoutSeconds",
            ],
        );
        let words = texts(&probe["exec"]["command"]);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let request = &probe["httpGet"];
        if words.is_empty() {
            assert_eq!((&request["scheme"], &request["port"]), (&"HTTP".into(), &"metrics".into()));
        }
        let ask = || {
            if words.is_empty() {
                return self.get(text(&request["path"]));
            }
            let (code, output) = self.execute(&words);
            if code == 0 { Ok(output) } else { Err(output) }
        };
        let failures =
            u32::try_from(probe["failureThreshold"].as_u64().expect("it is a number")).expect("few");
        let limit = seconds(&probe["initialDelaySeconds"]) + seconds(&probe["periodSeconds"]) * failures;
        let began = Instant::now();
        let mut last = String::new();
        let answered = wait_until(name, limit, || match ask() {
            Ok(_) => Ok(true),
            Err(problem) => {
                last = problem;
                Ok(false)
            }
        });
        answered.unwrap_or_else(|error| panic!("{error}: {last}\n{}", self.log()));
        began.elapsed()
    }

    /// Runs a command in the container. Returns its exit code and its output.
    pub(crate) fn execute(&self, command: &[&str]) -> (i32, String) {
        let command = command.iter().map(|&word| word.to_owned()).collect();
        let request = ExecSyncRequest { container_id: self.container.clone(), command };
        let ExecSyncResponse { stdout, stderr, exit_code } = self.containerd.call("ExecSync", request);
        (exit_code, String::from_utf8([stdout, stderr].concat()).expect("it is text"))
    }

    /// Returns what the container has printed.
    pub(crate) fn log(&self) -> String {
        let logs = fs::read_dir("/var/log/containers").expect("it was made").flatten();
        let mut logs = logs.map(|entry| entry.path());
        let ours = logs.find(|path| path.to_str().is_some_and(|path| path.contains(&self.container)));
        fs::read_to_string(ours.expect("it was linked")).unwrap_or_else(|error| error.to_string())
    }

    /// Stops it as a kubelet does and removes it. Returns its exit code, and how long it took.
    pub(crate) fn stop(self) -> (i32, Duration) {
        let grace = seconds(&self.template.pod["terminationGracePeriodSeconds"]);
        let container_id = self.container.clone();
        let timeout = i64::try_from(grace.as_secs()).expect("it is short");
        let began = Instant::now();
        let request = StopContainerRequest { container_id: container_id.clone(), timeout };
        let Empty {} = self.containerd.call("StopContainer", request);
        let took = began.elapsed();
        let status: ContainerStatusResponse =
            self.containerd.call("ContainerStatus", ContainerId { container_id });
        for method in ["StopPodSandbox", "RemovePodSandbox"] {
            let sandbox = PodSandboxId { pod_sandbox_id: self.sandbox.clone() };
            let Empty {} = self.containerd.call(method, sandbox);
        }
        (status.status.expect("it is known").exit_code, took)
    }
}

/// Makes plugins and a configuration of CNI in a directory: each pod has [`POD_IP`], which only its own network namespace reaches.
pub(crate) fn make_network(directory: &Path) {
    fs::create_dir(directory).expect("the test directory is writable");
    let plugin = format!(
        r#"#!/bin/sh -e
cat > /dev/null
case $CNI_COMMAND,${{0##*/}} in
ADD,loopback) address=127.0.0.1/8 ;;
ADD,*)
    address={POD_IP}/32
    nsenter --net="$CNI_NETNS" /bin/busybox ip link set lo up
    nsenter --net="$CNI_NETNS" /bin/busybox ip address add $address dev lo
    ;;
*) exit 0 ;;
esac
echo '{{"cniVersion": "0.3.1",
  "interfaces": [{{"name": "'"$CNI_IFNAME"'", "sandbox": "'"$CNI_NETNS"'"}}],
  "ips": [{{"version": "4", "address": "'$address'", "interface": 0}}]}}'
"#
    );
    for name in ["loopback", "pod"] {
        let path = directory.join(name);
        fs::write(&path, &plugin).expect("the test directory is writable");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    }
    let network = r#"{"cniVersion": "0.3.1", "name": "pod", "plugins": [{"type": "pod"}]}"#;
    fs::write(directory.join("10-pod.conflist"), network).expect("the test directory is writable");
}
