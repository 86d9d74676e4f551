//! Names of pods and containers from a container runtime, over the interface that the kubelet speaks with it (CRI).
//! Begin at [`ask`].

use std::collections::HashMap;
use std::error::Error;
use std::path::Path;

use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use super::{Failure, Found, LONGEST_ANSWER};
use crate::enrich::names::{ContainerName, PodName};

/// The service, and what it was called until Kubernetes 1.26; what is read here has the same numbers in both.
const SERVICE: &str = "runtime.v1.RuntimeService";
const OLD_SERVICE: &str = "runtime.v1alpha2.RuntimeService";

// The fields that are read, of the messages in Kubernetes, `staging/src/k8s.io/cri-api/pkg/apis/runtime/v1/api.proto`.

/// `ListContainersRequest` and `ListPodSandboxRequest`, without a filter: everything.
#[derive(Clone, PartialEq, prost::Message)]
struct Everything {}

/// `ListPodSandboxResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct Sandboxes {
    #[prost(message, repeated, tag = "1")]
    items: Vec<Sandbox>,
}

/// `PodSandbox`.
#[derive(Clone, PartialEq, prost::Message)]
struct Sandbox {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(message, optional, tag = "2")]
    metadata: Option<SandboxMetadata>,
}

/// `PodSandboxMetadata`. Every runtime has it, while labels are the kubelet's alone.
#[derive(Clone, PartialEq, prost::Message)]
struct SandboxMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    namespace: String,
}

/// `ListContainersResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct Containers {
    #[prost(message, repeated, tag = "1")]
    containers: Vec<Container>,
}

/// `Container`.
#[derive(Clone, PartialEq, prost::Message)]
struct Container {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    pod_sandbox_id: String,
    #[prost(message, optional, tag = "3")]
    metadata: Option<ContainerMetadata>,
}

/// `ContainerMetadata`.
#[derive(Clone, PartialEq, prost::Message)]
struct ContainerMetadata {
    #[prost(string, tag = "1")]
    name: String,
}

/// Asks for all pods and containers. Has no limit of time.
pub(super) async fn ask(socket: &Path) -> Result<Found, Failure> {
    let path =
        socket.to_str().ok_or_else(|| Failure::Call("the path of the socket is no text".to_owned()))?;
    let failed = |error| Failure::Call(cause(&error));
    let endpoint = Endpoint::try_from(format!("unix://{path}")).map_err(failed)?;
    let channel = endpoint.connect().await.map_err(failed)?;
    let mut grpc = Grpc::new(channel).max_decoding_message_size(LONGEST_ANSWER);
    let mut answer = list(&mut grpc, SERVICE).await;
    if answer.as_ref().is_err_and(|status| status.code() == Code::Unimplemented) {
        answer = list(&mut grpc, OLD_SERVICE).await;
    }
    match answer {
        Ok((containers, sandboxes)) => Ok(found(containers, sandboxes)),
        Err(status) => Err(Failure::Call(format!("{:?}: {}", status.code(), cause(&status)))),
    }
}

/// Containers first: so each one's sandbox, which is made before it, is in the list that comes later, unless it was removed.
async fn list(grpc: &mut Grpc<Channel>, service: &str) -> Result<(Containers, Sandboxes), Status> {
    let containers = call(grpc, format!("/{service}/ListContainers")).await?;
    let sandboxes = call(grpc, format!("/{service}/ListPodSandbox")).await?;
    Ok((containers, sandboxes))
}

async fn call<T>(grpc: &mut Grpc<Channel>, method: String) -> Result<T, Status>
where
    T: prost::Message + Default + 'static,
{
    grpc.ready().await.map_err(|error| Status::unavailable(cause(&error)))?;
    let method = PathAndQuery::try_from(method).expect("a path of letters");
    let codec = ProstCodec::<Everything, T>::default();
    Ok(grpc.unary(Request::new(Everything {}), method, codec).await?.into_inner())
}

fn found(Containers { containers }: Containers, Sandboxes { items }: Sandboxes) -> Found {
    let mut found = Found::default();
    let mut keys = HashMap::new();
    for Sandbox { id, metadata } in items {
        let Some(SandboxMetadata { name, uid: key, namespace }) = metadata else { continue };
        found.pods.push((key.clone(), PodName { namespace, name }));
        found.containers.push((id.clone(), ContainerName { name: None, pod: Some(key.clone()) }));
        keys.insert(id, key);
    }
    for Container { id, pod_sandbox_id, metadata } in containers {
        if let (Some(ContainerMetadata { name }), Some(key)) = (metadata, keys.get(&pod_sandbox_id)) {
            found.containers.push((id, ContainerName { name: Some(name), pod: Some(key.clone()) }));
        }
    }
    found
}

/// What the innermost of an error's causes says: those around it say only that there is one.
fn cause(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(inner) = innermost.source() {
        innermost = inner;
    }
    match innermost.downcast_ref::<Status>() {
        Some(status) => status.message().to_owned(),
        None => innermost.to_string(),
    }
}
