//! How the API server is reached and who we are to it: from the files of a pod's service account, or a kubeconfig.
//! Knows nothing of what is asked. Begin at [`load`].

use std::path::PathBuf;
use std::time::Duration;

use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube_client::client::{Body, ConfigExt as _};
use kube_client::config::{
    Cluster as ClusterConfig, ExecInteractiveMode, InClusterError, KubeConfigOptions, Kubeconfig,
    KubeconfigError,
};
use kube_client::{Client, Config};
use thiserror::Error;
use tower::{BoxError, ServiceBuilder};

/// How long to wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// After how long a silence the other end is asked whether it is still there, and how often.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_TRIES: u32 = 3;

/// Where the API server is to be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// As pods find it: by the environment and the files of their service account.
    InCluster,
    /// As this file says.
    Kubeconfig(PathBuf),
}

/// Why it cannot be found.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AccessError {
    /// Not in a pod, or in one without a service account.
    #[error("{}; in-cluster needs a pod with a service account whose token is mounted", chain(.0))]
    NotInCluster(#[source] InClusterError),
    /// The file, or one that it names.
    #[error("{}", chain(.0))]
    Kubeconfig(#[source] KubeconfigError),
    /// It wants a way that this program does not go.
    #[error("it names a proxy, which is not supported")]
    Proxy,
    /// The certificates or the key.
    #[error("{}", chain(.0))]
    Tls(#[source] kube_client::Error),
    /// The token, or the plugin that brings it.
    #[error("{}", chain(.0))]
    Credentials(#[source] kube_client::Error),
    /// Not even a runtime could be had.
    #[error("failed to start a runtime: {0}")]
    Runtime(#[source] std::io::Error),
    /// The name of the node says nothing.
    #[error("the name of this node is empty")]
    NoNode,
}

/// Reads the files, and no more: asks no server and runs no plugin.
pub(super) async fn load(access: &Access) -> Result<Config, AccessError> {
    let mut config = match access {
        Access::InCluster => Config::incluster().map_err(AccessError::NotInCluster)?,
        Access::Kubeconfig(path) => {
            let file = Kubeconfig::read_from(path).map_err(AccessError::Kubeconfig)?;
            // Those of the environment are for the network outside of the cluster, as they are to the rest of this program.
            if file.clusters.iter().filter_map(|named| named.cluster.as_ref()).any(has_proxy) {
                return Err(AccessError::Proxy);
            }
            let context = KubeConfigOptions::default();
            Config::from_custom_kubeconfig(file, &context).await.map_err(AccessError::Kubeconfig)?
        }
    };
    let who = &mut config.auth_info;
    // kube reads the file again by itself, but takes a newline at its end for a part of the token, which kubectl does not. Such a
    // file is read again when a token is refused. One that cannot be read is reported by `connect`.
    if who.token.is_none()
        && let Some(Ok(text)) = who.token_file.as_ref().map(std::fs::read_to_string)
        && text.trim() != text
    {
        who.token = Some(text.trim().to_owned().into());
    }
    // Nobody sits there to be asked.
    if let Some(plugin) = &mut who.exec {
        plugin.interactive_mode = Some(ExecInteractiveMode::Never);
    }
    Ok(config)
}

fn has_proxy(cluster: &ClusterConfig) -> bool {
    cluster.proxy_url.as_ref().is_some_and(|url| !url.is_empty())
}

/// Reads what the settings name, with its certificates and tokens. A plugin is not run: whether it can say who we are may change.
pub(super) async fn check(access: &Access) -> Result<(), AccessError> {
    let config = load(access).await?;
    if config.auth_info.exec.is_none() && config.auth_info.auth_provider.is_none() {
        connect(&config)?;
    }
    Ok(())
}

/// What asks the server; it connects when it asks. May run a plugin, and wait for it.
///
/// kube's own stack would do but for one layer, which logs every failure as an error: an API server that is away for an hour would
/// fill the log.
pub(super) fn connect(config: &Config) -> Result<Client, AccessError> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT));
    // A node that is cut off gets no word of it: a watch would be silent until its own end.
    connector.set_keepalive(Some(KEEPALIVE));
    connector.set_keepalive_interval(Some(KEEPALIVE));
    connector.set_keepalive_retries(Some(KEEPALIVE_TRIES));
    let connector = config.rustls_https_connector_with_connector(connector).map_err(AccessError::Tls)?;
    let client: HttpClient<_, Body> = HttpClient::builder(TokioExecutor::new()).build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().map_err(AccessError::Credentials)?)
        .layer(config.extra_headers_layer().map_err(AccessError::Credentials)?)
        .map_err(BoxError::from)
        .service(client);
    Ok(Client::new(service, &*config.default_namespace))
}

/// An error with its causes, where the causes say what the error does not. Of each the first line: more is a piece of the file that
/// was read, and that may be a secret.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let first_line =
        |error: &dyn std::error::Error| error.to_string().lines().next().unwrap_or_default().to_owned();
    let mut text = first_line(error);
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = first_line(error);
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
