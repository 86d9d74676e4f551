//! Pod and container names from a container runtime over CRI, the gRPC API that the kubelet uses.
//!
//! Entry point: `query`.

pub mod messages;

use std::collections::HashMap;
use std::path::Path;

use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use self::messages::{
    ContainerMetadata, CriContainer, Empty, ListContainersResponse, ListPodSandboxResponse, PodSandbox,
    PodSandboxMetadata,
};
use super::{LookupError, LookupResult, MAX_RESPONSE_BYTES};
use crate::enrich::names::{ContainerName, PodName};
use crate::error_chain::error_chain;

/// The service, and its name up to Kubernetes 1.25; all fields that are read have the same numbers in both.
const SERVICE: &str = "runtime.v1.RuntimeService";
const OLD_SERVICE: &str = "runtime.v1alpha2.RuntimeService";

/// Queries all pods and containers. The caller sets the time limit.
pub(super) async fn query(socket: &Path) -> Result<LookupResult, LookupError> {
    let path = socket
        .to_str()
        .ok_or_else(|| LookupError::Query("the path of the socket is not UTF-8".to_owned()))?;
    let failed = |error| LookupError::Query(error_chain(&error));
    let endpoint = Endpoint::try_from(format!("unix://{path}")).map_err(failed)?;
    let channel = endpoint.connect().await.map_err(failed)?;
    let mut grpc = Grpc::new(channel).max_decoding_message_size(MAX_RESPONSE_BYTES);
    let mut lists = list(&mut grpc, SERVICE).await;
    if lists.as_ref().is_err_and(|status| status.code() == Code::Unimplemented) {
        lists = list(&mut grpc, OLD_SERVICE).await;
    }
    match lists {
        Ok((containers, sandboxes)) => Ok(names_of(containers, sandboxes)),
        Err(status) => Err(LookupError::Query(error_chain(&status))),
    }
}

/// Lists containers first: the later list then has the sandbox of each, unless it was removed in between.
async fn list(
    grpc: &mut Grpc<Channel>,
    service: &str,
) -> Result<(ListContainersResponse, ListPodSandboxResponse), Status> {
    let containers = call(grpc, format!("/{service}/ListContainers")).await?;
    let sandboxes = call(grpc, format!("/{service}/ListPodSandbox")).await?;
    Ok((containers, sandboxes))
}

/// Calls a method with an empty request, which has no filter.
async fn call<T>(grpc: &mut Grpc<Channel>, method: String) -> Result<T, Status>
where
    T: prost::Message + Default + 'static,
{
    grpc.ready().await.map_err(|error| Status::unavailable(error_chain(&error)))?;
    let method = PathAndQuery::try_from(method).expect("service and method are letters and dots");
    let codec = ProstCodec::<Empty, T>::default();
    Ok(grpc.unary(Request::new(Empty {}), method, codec).await?.into_inner())
}

fn names_of(containers: ListContainersResponse, sandboxes: ListPodSandboxResponse) -> LookupResult {
    let mut result = LookupResult::default();
    let mut keys = HashMap::new();
    for PodSandbox { id, metadata } in sandboxes.items {
        let Some(PodSandboxMetadata { name, uid: key, namespace }) = metadata else { continue };
        result.pods.push((key.clone(), PodName { namespace, name }));
        result.containers.push((id.clone(), ContainerName { name: None, pod: Some(key.clone()) }));
        keys.insert(id, key);
    }
    for CriContainer { id, pod_sandbox_id, metadata } in containers.containers {
        if let (Some(ContainerMetadata { name }), Some(key)) = (metadata, keys.get(&pod_sandbox_id)) {
            result.containers.push((id, ContainerName { name: Some(name), pod: Some(key.clone()) }));
        }
    }
    result
}
