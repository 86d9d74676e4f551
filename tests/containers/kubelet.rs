//! What a kubelet sends to a container runtime, and makes for a pod.
//! Entry point: [`KubeletPod::run`].

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use bpf_metrics_exporter::lookup::cri::messages::{ContainerMetadata, Empty, PodSandboxMetadata};

use super::containerd::Containerd;
use super::cri::{
    ContainerConfig, ContainerId, CreateContainerRequest, ExecSyncRequest, ExecSyncResponse, ImageSpec,
    LinuxContainerConfig, LinuxContainerSecurityContext, LinuxPodSandboxConfig, LinuxSandboxSecurityContext,
    Mount, NODE, NamespaceOption, PodSandboxConfig, PodSandboxId, RunPodSandboxRequest,
    RunPodSandboxResponse,
};
use super::holder;
use super::podman::IMAGE;

/// The pod's uid, namespace and name.
pub(crate) const UID: &str = "2fc932ce-fdcc-454b-97bd-aadfdeb4c340";
pub(crate) const NAMESPACE: &str = "shop";
pub(crate) const NAME: &str = "cart-7c5d";

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
                    namespace_options: Some(NamespaceOption { network: NODE, ..NamespaceOption::default() }),
                    privileged: true,
                    seccomp: None,
                }),
            }),
            ..PodSandboxConfig::default()
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
            mounts: vec![Mount {
                container_path: holder::HOST.to_owned(),
                host_path: "/".to_owned(),
                ..Mount::default()
            }],
            log_path: format!("{name}/0.log"),
            linux: Some(LinuxContainerConfig {
                security_context: Some(LinuxContainerSecurityContext {
                    privileged: true,
                    namespace_options: Some(NamespaceOption { network: NODE, ..NamespaceOption::default() }),
                    ..LinuxContainerSecurityContext::default()
                }),
                ..LinuxContainerConfig::default()
            }),
            ..ContainerConfig::default()
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
        let ExecSyncResponse { exit_code, .. } = self.containerd.call("ExecSync", request);
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
