//! A pod in containerd, made the way the kubelet does.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bpf_metrics_exporter::enrich::cgroup::CgroupIdentity;
use bpf_metrics_exporter::enrich::names::{ContainerName, PodName};
use bpf_metrics_exporter::lookup::cri::messages::{ContainerMetadata, Empty, PodSandboxMetadata};
use bpf_metrics_exporter::lookup::{Settings, Sockets};
use bpf_metrics_exporter::model::IdentifiedBy;
use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::transport::Endpoint;
use tonic_prost::ProstCodec;

use super::holder;
use super::host::{self, Cgroups, Directory, SOON, assert_holds, command, output, places, process_in};
use super::owned::Watched;
use super::podman::{IMAGE, Podman};
use test_support::background_lookup::BackgroundLookup;
use test_support::objects::wait_until;
use test_support::running::Running;

const UID: &str = "2fc932ce-fdcc-454b-97bd-aadfdeb4c340";

// Messages that only a kubelet sends, with the fields that are set here. Source: Kubernetes, `staging/src/k8s.io/cri-api/pkg/apis/runtime/v1/api.proto`.

#[derive(Clone, PartialEq, prost::Message)]
struct RunPodSandboxRequest {
    #[prost(message, optional, tag = "1")]
    config: Option<PodSandboxConfig>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodSandboxConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<PodSandboxMetadata>,
    #[prost(string, tag = "3")]
    log_directory: String,
    #[prost(message, optional, tag = "8")]
    linux: Option<LinuxPodSandboxConfig>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LinuxPodSandboxConfig {
    #[prost(string, tag = "1")]
    cgroup_parent: String,
    #[prost(message, optional, tag = "2")]
    security_context: Option<LinuxSandboxSecurityContext>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LinuxSandboxSecurityContext {
    #[prost(message, optional, tag = "1")]
    namespace_options: Option<NamespaceOption>,
    #[prost(bool, tag = "6")]
    privileged: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct NamespaceOption {
    #[prost(int32, tag = "1")]
    network: i32,
}

/// `NamespaceMode`: the host's.
const NODE: i32 = 2;

#[derive(Clone, PartialEq, prost::Message)]
struct RunPodSandboxResponse {
    #[prost(string, tag = "1")]
    pod_sandbox_id: String,
}

/// `StopPodSandboxRequest`, and `RemovePodSandboxRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct PodSandboxId {
    #[prost(string, tag = "1")]
    pod_sandbox_id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CreateContainerRequest {
    #[prost(string, tag = "1")]
    pod_sandbox_id: String,
    #[prost(message, optional, tag = "2")]
    config: Option<ContainerConfig>,
    #[prost(message, optional, tag = "3")]
    sandbox_config: Option<PodSandboxConfig>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ContainerConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ContainerMetadata>,
    #[prost(message, optional, tag = "2")]
    image: Option<ImageSpec>,
    #[prost(string, repeated, tag = "3")]
    command: Vec<String>,
    #[prost(message, repeated, tag = "7")]
    mounts: Vec<Mount>,
    #[prost(string, tag = "11")]
    log_path: String,
    #[prost(message, optional, tag = "15")]
    linux: Option<LinuxContainerConfig>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ImageSpec {
    #[prost(string, tag = "1")]
    image: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Mount {
    #[prost(string, tag = "1")]
    container_path: String,
    #[prost(string, tag = "2")]
    host_path: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LinuxContainerConfig {
    #[prost(message, optional, tag = "2")]
    security_context: Option<LinuxContainerSecurityContext>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LinuxContainerSecurityContext {
    #[prost(bool, tag = "2")]
    privileged: bool,
    #[prost(message, optional, tag = "3")]
    namespace_options: Option<NamespaceOption>,
}

/// `CreateContainerResponse`, and `StartContainerRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct ContainerId {
    #[prost(string, tag = "1")]
    container_id: String,
}

/// containerd with all its state in one directory. Dropping it removes its containers.
struct Containerd<'a> {
    directory: &'a Path,
    socket: PathBuf,
    daemon: Option<Running>,
}

impl<'a> Containerd<'a> {
    fn start(directory: &'a Path) -> Self {
        let at = directory.display();
        let settings = format!(
            r#"version = 2
root = "{at}/root"
state = "{at}/state"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = "{at}/cri.sock"
[ttrpc]
  address = "{at}/ttrpc.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{IMAGE}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{at}/cni"
    conf_dir = "{at}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        Root = "{at}/runc"
"#
        );
        fs::write(directory.join("config.toml"), settings).expect("the test directory is writable");
        let log = fs::File::create(directory.join("log")).expect("the test directory is writable");
        let mut daemon = command("containerd");
        daemon.arg("--config").arg(directory.join("config.toml")).stdout(Stdio::null()).stderr(log);
        let daemon = Some(Running(daemon.spawn().expect("containerd is installed")));
        let containerd = Self { directory, socket: directory.join("cri.sock"), daemon };
        wait_until("containerd answers", SOON, || {
            let answer = containerd.ctr().arg("version").output()?;
            Ok(answer.status.success())
        })
        .expect("it starts");
        containerd
    }

    fn ctr(&self) -> Command {
        let mut ctr = command("ctr");
        ctr.arg("--address").arg(&self.socket).args(["--namespace", "k8s.io"]);
        ctr
    }

    fn call<Q, A>(&self, method: &str, request: Q) -> A
    where
        Q: prost::Message + Default + 'static,
        A: prost::Message + Default + 'static,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let endpoint = Endpoint::try_from(format!("unix://{}", self.socket.display()));
            let channel = endpoint.expect("a path").connect().await.expect("containerd listens");
            let mut grpc = Grpc::new(channel);
            grpc.ready().await.expect("containerd listens");
            let method = format!("/runtime.v1.RuntimeService/{method}");
            let method = PathAndQuery::try_from(method).expect("a method name is letters");
            let answer = grpc.unary(tonic::Request::new(request), method, ProstCodec::<Q, A>::default());
            let answer = tokio::time::timeout(SOON, answer).await.expect("in time");
            answer.unwrap_or_else(|status| panic!("{status:?}; log: {}", self.log())).into_inner()
        })
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).expect("it was made")
    }
}

impl Drop for Containerd<'_> {
    fn drop(&mut self) {
        // The shims of the containers end with their last container, not with containerd.
        let tasks = self.ctr().args(["tasks", "list", "--quiet"]).output();
        let tasks = tasks.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        for task in tasks.iter().flat_map(|tasks| tasks.lines()) {
            drop(self.ctr().args(["tasks", "remove", "--force", task]).output());
        }
        let gone = wait_until("the shims are gone", SOON, || {
            let at = self.socket.as_os_str().as_encoded_bytes();
            let is_shim = |pid: &u32| {
                let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                let mut arguments = arguments.split(|&byte| byte == 0);
                arguments.next().is_some_and(|program| program.ends_with(b"containerd-shim-runc-v2"))
                    && arguments.any(|argument| argument == at)
            };
            Ok(!host::processes().any(|pid| is_shim(&pid)))
        });
        drop(self.daemon.take());
        host::unmount_below(self.directory);
        assert!(gone.is_ok() || std::thread::panicking(), "{gone:?}");
    }
}

/// Makes what a kubelet makes: a log directory, a sandbox, a container in it, and a link to the log of the container. Returns
/// the ids of sandbox and container.
fn run_pod(containerd: &Containerd<'_>, root: &Path, objects: &str) -> (String, String) {
    let logs = root.join(format!("var/log/pods/shop_cart-7c5d_{UID}"));
    fs::create_dir_all(logs.join("web")).expect("the test directory is writable");
    let namespaces = Some(NamespaceOption { network: NODE });
    let sandbox_config = PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: "cart-7c5d".to_owned(),
            uid: UID.to_owned(),
            namespace: "shop".to_owned(),
        }),
        log_directory: logs.to_str().expect("it is text").to_owned(),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: format!("/kubepods/besteffort/pod{UID}"),
            security_context: Some(LinuxSandboxSecurityContext {
                namespace_options: namespaces.clone(),
                privileged: true,
            }),
        }),
    };
    let request = RunPodSandboxRequest { config: Some(sandbox_config.clone()) };
    let RunPodSandboxResponse { pod_sandbox_id } = containerd.call("RunPodSandbox", request);
    let config = ContainerConfig {
        metadata: Some(ContainerMetadata { name: "web".to_owned() }),
        image: Some(ImageSpec { image: IMAGE.to_owned() }),
        command: holder::command(objects),
        mounts: vec![Mount { container_path: holder::HOST.to_owned(), host_path: "/".to_owned() }],
        log_path: "web/0.log".to_owned(),
        linux: Some(LinuxContainerConfig {
            security_context: Some(LinuxContainerSecurityContext {
                privileged: true,
                namespace_options: namespaces,
            }),
        }),
    };
    let request = CreateContainerRequest {
        pod_sandbox_id: pod_sandbox_id.clone(),
        config: Some(config),
        sandbox_config: Some(sandbox_config),
    };
    let container: ContainerId = containerd.call("CreateContainer", request);
    let links = root.join("var/log/containers");
    fs::create_dir_all(&links).expect("the test directory is writable");
    let link = links.join(format!("cart-7c5d_shop_web-{}.log", container.container_id));
    symlink(logs.join("web/0.log"), link).expect("the test directory is writable");
    let Empty {} = containerd.call("StartContainer", container.clone());
    (pod_sandbox_id, container.container_id)
}

pub(crate) fn identified_and_named() {
    let directory = Directory::new("containerd-");
    let images = Directory::new("images-");
    let _cgroups = Cgroups::new("kubepods");
    let archive = images.path().join("archive");
    {
        let podman = Podman::new(images.path());
        output(
            podman
                .command()
                .args(["save", "--quiet", "--format", "oci-archive", "--output"])
                .arg(&archive)
                .arg(IMAGE),
        );
    }
    let containerd = Containerd::start(directory.path());
    output(containerd.ctr().args(["images", "import"]).arg(&archive));
    let root = directory.path().join("host");
    let name = format!("pod{}", std::process::id());
    let (sandbox, container) = run_pod(&containerd, &root, &name);

    let pid = process_in(&container);
    assert_holds(pid, &name);
    for (container, pid) in [(&container, pid), (&sandbox, process_in(&sandbox))] {
        // Paths of the cgroupfs driver do not contain the runtime.
        let expected = CgroupIdentity {
            pod: Some(UID.to_owned()),
            container: Some(container.clone()),
            identified_by: Some(IdentifiedBy::Path),
            ..CgroupIdentity::default()
        };
        let places = places(pid);
        assert!(!places.is_empty() && places.iter().all(|place| *place == expected), "{places:#?}");
    }

    let pod = PodName { namespace: "shop".to_owned(), name: "cart-7c5d".to_owned() };
    let web = ContainerName { name: Some("web".to_owned()), pod: Some(UID.to_owned()) };
    let no_sockets = Sockets::Given(Vec::new());
    let by_socket = BackgroundLookup::start(Settings {
        root: images.path().to_owned(),
        cri: Sockets::Given(vec![containerd.socket.clone()]),
        docker: no_sockets.clone(),
    });
    let mut watched = Watched::new(&name, &by_socket);
    watched.assert_owned("pod shop/cart-7c5d", &container, pid);
    assert_eq!(by_socket.pod(UID), pod);
    assert_eq!(by_socket.container(&container), web);
    assert_eq!(by_socket.container(&sandbox), ContainerName { name: None, pod: Some(UID.to_owned()) });
    assert_eq!(by_socket.log(), "");

    let logs = root.join(format!("var/log/pods/shop_cart-7c5d_{UID}/web/0.log"));
    wait_until("containerd writes a log", SOON, || Ok(fs::read_to_string(&logs)?.contains("holding")))
        .expect("the container prints a line");
    let by_logs = BackgroundLookup::start(Settings { root, cri: no_sockets.clone(), docker: no_sockets });
    assert_eq!(by_logs.pod(UID), pod);
    assert_eq!(by_logs.container(&container), web);
    assert_eq!(by_logs.names.container(&sandbox), None, "a sandbox has no log");
    assert_eq!(by_logs.log(), "");

    for method in ["StopPodSandbox", "RemovePodSandbox"] {
        let Empty {} = containerd.call(method, PodSandboxId { pod_sandbox_id: sandbox.clone() });
    }
    watched.assert_gone("pod shop/cart-7c5d");
}
