//! Pod and container names from a container runtime over CRI, the gRPC API that the kubelet uses.
//!
//! Entry point: `query`.

pub mod messages;

use std::collections::HashMap;
use std::future::poll_fn;
use std::path::Path;

use http::header::{CONTENT_TYPE, TE};
use http_body_util::Full;
use prost::bytes::Bytes;
use tonic::body::Body;
use tonic::client::GrpcService as _;
use tonic::metadata::GRPC_CONTENT_TYPE;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use self::messages::{
    ContainerMetadata, CriContainer, ListContainersResponse, ListPodSandboxResponse, PodSandbox,
    PodSandboxMetadata,
};
use super::{LookupError, LookupResult, MAX_RESPONSE_BYTES};
use crate::enrich::names::{ContainerName, PodName};
use crate::error_chain::error_chain;
use crate::grpc_response;

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
    let mut channel = endpoint.connect().await.map_err(failed)?;
    let mut lists = list(&mut channel, SERVICE).await;
    if lists.as_ref().is_err_and(|status| status.code() == Code::Unimplemented) {
        lists = list(&mut channel, OLD_SERVICE).await;
    }
    match lists {
        Ok((containers, sandboxes)) => Ok(names_of(containers, sandboxes)),
        Err(status) => Err(LookupError::Query(error_chain(&status))),
    }
}

/// Lists containers first: the later list then has the sandbox of each, unless it was removed in between.
async fn list(
    channel: &mut Channel,
    service: &str,
) -> Result<(ListContainersResponse, ListPodSandboxResponse), Status> {
    let containers = call(channel, format!("/{service}/ListContainers")).await?;
    let sandboxes = call(channel, format!("/{service}/ListPodSandbox")).await?;
    Ok((containers, sandboxes))
}

/// Calls a method with an empty request, which has no filter.
async fn call<T>(channel: &mut Channel, method: String) -> Result<T, Status>
where
    T: prost::Message + Default + 'static,
{
    /// Not compressed, and of no length. Source: the gRPC specification, "Length-Prefixed-Message".
    const EMPTY: &[u8] = &[0; 5];
    let ready = poll_fn(|context| channel.poll_ready(context)).await;
    ready.map_err(|error| Status::unavailable(error_chain(&error)))?;
    let request = http::Request::post(method)
        .header(TE, "trailers")
        .header(CONTENT_TYPE, GRPC_CONTENT_TYPE)
        .body(Body::new(Full::new(Bytes::from_static(EMPTY))))
        .expect("service and method are letters and dots");
    let response = channel.call(request).await.map_err(|error| Status::from_error(Box::new(error)))?;
    let message = grpc_response::read(response, MAX_RESPONSE_BYTES).await?;
    let message = message.ok_or_else(|| Status::internal("the response is empty"))?;
    T::decode(message).map_err(|error| Status::internal(format!("the response is malformed: {error}")))
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

/// Entry point of a fuzzer: parses any bytes as each response, and takes the names from both.
pub(crate) fn fuzz(bytes: &[u8]) {
    use prost::Message as _;
    let containers = ListContainersResponse::decode(bytes).unwrap_or_default();
    let sandboxes = ListPodSandboxResponse::decode(bytes).unwrap_or_default();
    let (of_containers, of_pods) = (containers.containers.len(), sandboxes.items.len());
    let found = names_of(containers, sandboxes);
    assert!(found.containers.len() <= of_containers + of_pods && found.pods.len() <= of_pods);
    found.store_queried();
}
