//! Container names from the HTTP API of Docker, which Podman implements too: one list of all running containers, and one of those that
//! are missing from it, which may have ended.
//!
//! Entry point: [`query`].

use std::collections::HashSet;
use std::path::Path;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use tokio::net::UnixStream;

use super::{LookupError, LookupResult, MAX_RESPONSE_BYTES};
use crate::enrich::names::{ContainerName, MissingNames, PodName};
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

/// The list of running containers.
const LIST: &str = "/containers/json";

/// How many containers are asked for in one request, by ids of 64 characters: its line stays below the limits of all servers.
const MAX_IDS: usize = 50;

/// Queries all running containers, and those of the missing ones that have ended. The caller sets the time limit.
pub(super) async fn query(socket: &Path, missing: &MissingNames) -> Result<LookupResult, LookupError> {
    let stream = UnixStream::connect(socket).await.map_err(LookupError::Connect)?;
    let failed = |error: hyper::Error| LookupError::Query(error_chain(&error));
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let response = async {
        let mut found = list(&mut sender, LIST).await?;
        let running: HashSet<&str> = found.iter().map(|container| &*container.id).collect();
        let others: Vec<&str> = missing
            .containers
            .iter()
            .map(String::as_str)
            .filter(|id| is_id(id) && !running.contains(id))
            .collect();
        for ids in others.chunks(MAX_IDS) {
            found.append(&mut list(&mut sender, &list_of(ids)).await?);
        }
        Ok(found)
    };
    // Drives the connection until the responses are complete.
    let connection = async {
        match connection.await {
            // A response may still have data that arrived before.
            Ok(()) | Err(_) => std::future::pending().await,
        }
    };
    let containers = tokio::select! {
        response = response => response?,
        never = connection => never,
    };
    Ok(names_of(containers))
}

/// Requests one list.
async fn list(
    sender: &mut SendRequest<Empty<Bytes>>,
    path: &str,
) -> Result<Vec<DockerContainer>, LookupError> {
    let failed = |error: hyper::Error| LookupError::Query(error_chain(&error));
    let request = http::Request::get(path)
        .header(http::header::HOST, "localhost")
        .body(Empty::new())
        .expect("all parts are constants and hexadecimal digits");
    sender.ready().await.map_err(failed)?;
    let response = sender.send_request(request).await.map_err(failed)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_RESPONSE_BYTES).collect().await;
    let body = body.map_err(|error| LookupError::Query(error_chain(&*error)))?.to_bytes();
    if status != http::StatusCode::OK {
        return Err(LookupError::Query(status.to_string()));
    }
    parse(&body)
}

/// Returns the path of the list of these containers, also those that have ended.
fn list_of(ids: &[&str]) -> String {
    let filters = serde_json::json!({"id": ids}).to_string();
    format!("{LIST}?all=true&filters={}", utf8_percent_encode(&filters, NON_ALPHANUMERIC))
}

/// Returns whether Docker or Podman may have made this id.
fn is_id(id: &str) -> bool {
    id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
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
