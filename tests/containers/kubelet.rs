//! What a kubelet sends to a container runtime, and makes for a pod.
//! Entry point: [`KubeletPod::run`].

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use bpf_metrics_exporter::lookup::cri::messages::{ContainerMetadata, Empty, PodSandboxMetadata};

use super::containerd::Containerd;
use super::holder;
use super::podman::IMAGE;

/// The pod's uid, namespace and name.
pub(crate) const UID: &str = "2fc932ce-fdcc-454b-97bd-aadfdeb4c340";
pub(crate) const NAMESPACE: &str = "shop";
pub(crate) const NAME: &str = "cart-7c5d";

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

#[derive(Clone, PartialEq, prost::Message)]
struct ExecSyncRequest {
    #[prost(string, tag = "1")]
    container_id: String,
    #[prost(string, repeated, tag = "2")]
    command: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ExecSyncResponse {
    #[prost(int32, tag = "3")]
    exit_code: i32,
}

/// `CreateContainerResponse`, and `StartContainerRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct ContainerId {
    #[prost(string, tag = "1")]
    container_id: String,
}

/// A pod, with its sandbox and a log directory below `root`.
pub(crate) struct KubeletPod<'a> {
    containerd: &'a Containerd<'a>,
    root: &'a Path,
    config: PodSandboxConfig,
    /// Id of the sandbox.
    pub(crate) sandbox: String,
}

impl<'a> KubeletPod<'a> {
    /// Makes a log directory and runs a sandbox.
    pub(crate) fn run(containerd: &'a Containerd<'a>, root: &'a Path) -> Self {
        let config = PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: NAME.to_owned(),
                uid: UID.to_owned(),
                namespace: NAMESPACE.to_owned(),
            }),
            log_directory: Self::logs(root),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: format!("/kubepods/besteffort/pod{UID}"),
                security_context: Some(LinuxSandboxSecurityContext {
                    namespace_options: Some(NamespaceOption { network: NODE }),
                    privileged: true,
                }),
            }),
        };
        fs::create_dir_all(&config.log_directory).expect("the test directory is writable");
        let request = RunPodSandboxRequest { config: Some(config.clone()) };
        let RunPodSandboxResponse { pod_sandbox_id: sandbox } = containerd.call("RunPodSandbox", request);
        Self { containerd, root, config, sandbox }
    }

    fn logs(root: &Path) -> String {
        let path = root.join(format!("var/log/pods/{NAMESPACE}_{NAME}_{UID}"));
        path.to_str().expect("it is text").to_owned()
    }

    /// Starts a container and links its log, which is `NAME/0.log` in the log directory. Returns its id.
    pub(crate) fn start(&self, name: &str, command: Vec<String>) -> String {
        let logs = Path::new(&self.config.log_directory);
        fs::create_dir_all(logs.join(name)).expect("the test directory is writable");
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: name.to_owned() }),
            image: Some(ImageSpec { image: IMAGE.to_owned() }),
            command,
            mounts: vec![Mount { container_path: holder::HOST.to_owned(), host_path: "/".to_owned() }],
            log_path: format!("{name}/0.log"),
            linux: Some(LinuxContainerConfig {
                security_context: Some(LinuxContainerSecurityContext {
                    privileged: true,
                    namespace_options: Some(NamespaceOption { network: NODE }),
                }),
            }),
        };
        let request = CreateContainerRequest {
            pod_sandbox_id: self.sandbox.clone(),
            config: Some(config),
            sandbox_config: Some(self.config.clone()),
        };
        let container: ContainerId = self.containerd.call("CreateContainer", request);
        let links = self.root.join("var/log/containers");
        fs::create_dir_all(&links).expect("the test directory is writable");
        let link = links.join(format!("{NAME}_{NAMESPACE}_{name}-{}.log", container.container_id));
        symlink(logs.join(name).join("0.log"), link).expect("the test directory is writable");
        let Empty {} = self.containerd.call("StartContainer", container.clone());
        container.container_id
    }

    /// Runs a command in a container to its end.
    pub(crate) fn execute(&self, container: &str, command: Vec<String>) {
        let request = ExecSyncRequest { container_id: container.to_owned(), command };
        let ExecSyncResponse { exit_code } = self.containerd.call("ExecSync", request);
        assert_eq!(exit_code, 0);
    }

    /// Removes it with its containers.
    pub(crate) fn remove(self) {
        for method in ["StopPodSandbox", "RemovePodSandbox"] {
            let sandbox = PodSandboxId { pod_sandbox_id: self.sandbox.clone() };
            let Empty {} = self.containerd.call(method, sandbox);
        }
    }
}
