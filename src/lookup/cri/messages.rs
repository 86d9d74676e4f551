//! Messages of CRI with the fields that are read; decoding skips all others. Shared with the tests.
//!
//! Source: Kubernetes, `staging/src/k8s.io/cri-api/pkg/apis/runtime/v1/api.proto`.

/// `ListContainersRequest` and `ListPodSandboxRequest` without a filter, and other messages without fields.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Empty {}

/// Response of `ListPodSandbox`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ListPodSandboxResponse {
    /// All sandboxes, in any state.
    #[prost(message, repeated, tag = "1")]
    pub items: Vec<PodSandbox>,
}

/// A sandbox: the container that owns the namespaces of a pod.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PodSandbox {
    /// Id of the sandbox, in the name space of container ids.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Identity of the pod.
    #[prost(message, optional, tag = "2")]
    pub metadata: Option<PodSandboxMetadata>,
}

/// Identity of a pod. All runtimes have it, while labels are specific to the kubelet.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PodSandboxMetadata {
    /// Name of the pod.
    #[prost(string, tag = "1")]
    pub name: String,
    /// UID of the pod, or the hash of the configuration for a static pod.
    #[prost(string, tag = "2")]
    pub uid: String,
    /// Namespace of the pod.
    #[prost(string, tag = "3")]
    pub namespace: String,
}

/// Response of `ListContainers`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ListContainersResponse {
    /// All containers, in any state.
    #[prost(message, repeated, tag = "1")]
    pub containers: Vec<CriContainer>,
}

/// A container of a pod.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CriContainer {
    /// Id of the container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Id of the sandbox of its pod.
    #[prost(string, tag = "2")]
    pub pod_sandbox_id: String,
    /// Name of the container.
    #[prost(message, optional, tag = "3")]
    pub metadata: Option<ContainerMetadata>,
}

/// Name of a container in its pod.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ContainerMetadata {
    /// The name.
    #[prost(string, tag = "1")]
    pub name: String,
}
