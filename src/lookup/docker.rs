//! Container names from the HTTP API of Docker, which Podman implements too: one list of all running containers.
//!
//! Entry point: [`query`].

use std::path::Path;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::UnixStream;

use super::{LookupError, LookupResult, MAX_RESPONSE_BYTES};
use crate::enrich::names::{ContainerName, PodName};
use crate::error_chain::error_chain;

/// An element of the response to `GET /containers/json`. Source: Docker Engine API v1.24 and later, "List containers".
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerContainer {
    id: String,
    names: Option<Vec<String>>,
    labels: Option<Labels>,
}

/// Labels that the kubelet sets on its containers.
/// Source: Kubernetes, `staging/src/k8s.io/kubelet/pkg/types/labels.go`.
#[derive(Debug, Default, Deserialize)]
struct Labels {
    #[serde(rename = "io.kubernetes.pod.uid")]
    pod: Option<String>,
    #[serde(rename = "io.kubernetes.pod.namespace")]
    pod_namespace: Option<String>,
    #[serde(rename = "io.kubernetes.pod.name")]
    pod_name: Option<String>,
    #[serde(rename = "io.kubernetes.container.name")]
    container_name: Option<String>,
}

/// Container name that the kubelet gives to the sandbox of a pod.
const SANDBOX: &str = "POD";

/// Queries all running containers. The caller sets the time limit.
pub(super) async fn query(socket: &Path) -> Result<LookupResult, LookupError> {
    let stream = UnixStream::connect(socket).await.map_err(LookupError::Connect)?;
    let failed = |error: hyper::Error| LookupError::Query(error_chain(&error));
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let request = http::Request::get("/containers/json")
        .header(http::header::HOST, "localhost")
        .body(Empty::<Bytes>::new())
        .expect("all parts are constants");
    let response = async {
        let response = sender.send_request(request).await.map_err(failed)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_RESPONSE_BYTES).collect().await;
        let body = body.map_err(|error| LookupError::Query(error_chain(&*error)))?.to_bytes();
        if status != http::StatusCode::OK {
            return Err(LookupError::Query(status.to_string()));
        }
        Ok(body)
    };
    // Drives the connection until the response is complete.
    let connection = async {
        match connection.await {
            // The response may still have data that arrived before.
            Ok(()) | Err(_) => std::future::pending().await,
        }
    };
    let body = tokio::select! {
        response = response => response?,
        never = connection => never,
    };
    Ok(names_of(parse(&body)?))
}

fn parse(body: &[u8]) -> Result<Vec<DockerContainer>, LookupError> {
    serde_json::from_slice(body).map_err(|error| LookupError::Response(error_chain(&error)))
}

fn names_of(containers: Vec<DockerContainer>) -> LookupResult {
    let mut result = LookupResult::default();
    for DockerContainer { id, names, labels } in containers {
        let Labels { pod, pod_namespace, pod_name, container_name } = labels.unwrap_or_default();
        if let (Some(key), Some(namespace), Some(name)) = (&pod, pod_namespace, pod_name) {
            result.pods.push((key.clone(), PodName { namespace, name }));
        }
        let name = match container_name {
            Some(sandbox) if sandbox == SANDBOX && pod.is_some() => None,
            Some(name) if pod.is_some() => Some(name),
            _ => match names.as_deref().and_then(own_name) {
                Some(name) => Some(name.to_owned()),
                // The name may be set later.
                None => continue,
            },
        };
        result.containers.push((id, ContainerName { name, pod }));
    }
    result
}

/// Returns the name of the container itself, not the aliases of links to it (`/other/alias`).
fn own_name(names: &[String]) -> Option<&str> {
    let mut names = names.iter().map(|name| name.strip_prefix('/').unwrap_or(name));
    names.find(|name| !name.is_empty() && !name.contains('/'))
}

/// Entry point of a fuzzer: parses any bytes as a response.
pub(crate) fn fuzz(bytes: &[u8]) {
    if let Ok(containers) = parse(bytes) {
        names_of(containers).store_queried();
    }
}
