//! Names of containers from Docker, or from Podman, which speaks the same: one list of all that run.
//! Begin at [`ask`].

use std::path::Path;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::UnixStream;

use super::{Failure, Found, LONGEST_ANSWER};
use crate::enrich::names::{ContainerName, PodName};

/// A container, as `GET /containers/json` lists it. Source: Docker Engine API v1.24 and later, "List containers".
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Container {
    id: String,
    names: Option<Vec<String>>,
    labels: Option<Labels>,
}

/// What the kubelet has its containers labelled with.
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

/// What the kubelet calls the container that holds a pod's namespaces.
const SANDBOX: &str = "POD";

/// Asks for all containers that run. Has no limit of time.
pub(super) async fn ask(socket: &Path) -> Result<Found, Failure> {
    let stream = UnixStream::connect(socket).await.map_err(Failure::Connect)?;
    let call = |error: hyper::Error| Failure::Call(error.to_string());
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(call)?;
    let request = http::Request::get("/containers/json")
        .header(http::header::HOST, "localhost")
        .body(Empty::<Bytes>::new())
        .expect("its parts are sound");
    let answer = async {
        let response = sender.send_request(request).await.map_err(call)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LONGEST_ANSWER).collect().await;
        let body = body.map_err(|error| Failure::Call(error.to_string()))?.to_bytes();
        if status != http::StatusCode::OK {
            return Err(Failure::Call(status.to_string()));
        }
        Ok(body)
    };
    // The connection is driven as long as the answer takes, and ends with it.
    let connection = async {
        match connection.await {
            // What was received before is still to be read.
            Ok(()) | Err(_) => std::future::pending().await,
        }
    };
    let body = tokio::select! {
        answer = answer => answer?,
        never = connection => never,
    };
    let containers: Vec<Container> =
        serde_json::from_slice(&body).map_err(|error| Failure::Answer(error.to_string()))?;
    Ok(found(containers))
}

fn found(containers: Vec<Container>) -> Found {
    let mut found = Found::default();
    for Container { id, names, labels } in containers {
        let Labels { pod, pod_namespace, pod_name, container_name } = labels.unwrap_or_default();
        if let (Some(key), Some(namespace), Some(name)) = (&pod, pod_namespace, pod_name) {
            found.pods.push((key.clone(), PodName { namespace, name }));
        }
        let name = match container_name {
            Some(sandbox) if sandbox == SANDBOX && pod.is_some() => None,
            Some(name) if pod.is_some() => Some(name),
            _ => match names.as_deref().and_then(own_name) {
                Some(name) => Some(name.to_owned()),
                // Without a name nothing is told: it may come yet.
                None => continue,
            },
        };
        found.containers.push((id, ContainerName { name, pod }));
    }
    found
}

/// A container's own name, not those that others link to it by (`/other/alias`).
fn own_name(names: &[String]) -> Option<&str> {
    let mut names = names.iter().map(|name| name.strip_prefix('/').unwrap_or(name));
    names.find(|name| !name.is_empty() && !name.contains('/'))
}
