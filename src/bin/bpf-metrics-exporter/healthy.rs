//! `healthy`: queries an exporter by its endpoint, for health checks of containers. Entry point: [`healthy`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::ExitCode;

use bpf_metrics_exporter::cli::{HealthTarget, HealthyCommand, ListenAddress};
use bpf_metrics_exporter::export::otlp::settings::Endpoint;
use bpf_metrics_exporter::export::otlp::transport::{Failure, FailureKind, Fetcher, SetupError};
use bpf_metrics_exporter::worker::Worker;
use tokio::runtime::Builder;

use crate::serve::start_worker;
use crate::{finish, log, print};

/// Queries an exporter, and prints one line.
pub(super) fn healthy(options: HealthyCommand, warnings: &[String]) -> ExitCode {
    for warning in warnings {
        log::complain(warning);
    }
    match query(options) {
        Ok(state) => finish(print(&format!("{state}\n"))),
        Err(problem) => {
            log::complain(&format!("unhealthy: {problem}"));
            ExitCode::FAILURE
        }
    }
}

fn query(options: HealthyCommand) -> Result<String, String> {
    let timeout = options.timeout;
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("failed to start the runtime: {error}"))?;
    // What blocks, such as a look-up, ends with the process.
    let resolver = start_worker("resolver").map_err(|error| format!("{error:#}"))?;
    let checked = runtime.block_on(async { tokio::time::timeout(timeout, check(options, resolver)).await });
    checked.unwrap_or_else(|_| Err(format!("no answer within {timeout:?}")))
}

/// Returns the state of an exporter that works.
///
/// # Errors
///
/// Why it does not.
async fn check(
    HealthyCommand { target, timeout, live }: HealthyCommand,
    resolver: Worker,
) -> Result<String, String> {
    let unusable = |error: SetupError| format!("{:#}", anyhow::Error::from(error));
    let (listen, is_protected) = match target {
        HealthTarget::Url(exporter) => {
            let url = url(&exporter.endpoint);
            let worker = resolver.clone();
            // It reads the certificates of the system.
            let fetcher = worker.run(move || Fetcher::new(&exporter, resolver)).await.map_err(unusable)?;
            return check_pages(fetcher, &url, live, false).await.unwrap_or_else(Err);
        }
        HealthTarget::Own { systemd_socket: true, .. } => {
            return Err("the address of a socket of systemd is unknown; name it with --url".to_owned());
        }
        HealthTarget::Own { listen, is_protected, .. } => (listen, is_protected),
    };
    let listen = listen.first().ok_or("nothing is served (--web.listen-address none)")?;
    // Whether the exporter has TLS is unknown: the file may have changed since it was read, or be broken.
    let tries: &[bool] = if is_protected { &[true, false] } else { &[false] };
    let mut first_problem = None;
    for (tls, endpoint) in tries.iter().flat_map(|&tls| own_endpoints(listen, tls)) {
        let url = url(&endpoint);
        let fetcher = Fetcher::unverified(endpoint, tls, timeout, resolver.clone()).map_err(unusable)?;
        match check_pages(fetcher, &url, live, is_protected).await {
            Ok(checked) => return checked,
            Err(problem) => {
                first_problem.get_or_insert(problem);
            }
        }
    }
    Err(first_problem.expect("an address is reached somewhere"))
}

/// Returns what the answers of a server say. With `is_protected` it is this host's own exporter with `--web.config.file`: it may demand a
/// password or a certificate.
///
/// # Errors
///
/// Fails if it does not answer in this protocol.
async fn check_pages(
    mut fetcher: Fetcher,
    url: &str,
    live: bool,
    is_protected: bool,
) -> Result<Result<String, String>, String> {
    let (pages, state): (&[_], _) =
        if live { (&["/-/healthy"], "alive") } else { (&["/-/healthy", "/-/ready"], "healthy") };
    for page in pages {
        let demanded = match fetcher.page(page).await {
            Ok((200, _)) => continue,
            // Only hashes of passwords are in the file.
            Ok((401, _)) if is_protected => "a password",
            Err(Failure { kind: FailureKind::CertificateRequired, .. }) if is_protected => {
                "a client certificate"
            }
            Err(Failure { kind: FailureKind::CertificateRequired, .. }) => {
                return Ok(Err(format!("{url}{page}: it demands a client certificate")));
            }
            Ok((status, text)) if text.is_empty() => return Ok(Err(format!("{url}{page}: status {status}"))),
            Ok((status, text)) => return Ok(Err(format!("{url}{page}: status {status}: {text}"))),
            Err(failure) => return Err(format!("{url}{page}: {failure}")),
        };
        if !live {
            let unknown = "readiness is unknown, since the endpoint demands";
            return Ok(Ok(format!("{state}; {unknown} {demanded}")));
        }
    }
    Ok(Ok(state.to_owned()))
}

/// Returns the URL before the path of a page.
fn url(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Tcp { .. } => endpoint.url(),
        Endpoint::Unix { path, .. } => format!("{}, {path}", endpoint.url()),
    }
}

/// Returns where an address to listen on can be reached from this host, in order, each with `tls`.
fn own_endpoints(listen: &ListenAddress, tls: bool) -> Vec<(bool, Endpoint)> {
    let path = String::new();
    let (host, port) = match listen {
        ListenAddress::Unix(socket) => return vec![(tls, Endpoint::Unix { socket: socket.clone(), path })],
        ListenAddress::Tcp { host, port } => (host.as_deref(), *port),
    };
    let hosts = match host.map(|host| (host.parse(), host)) {
        // It may have one of the families only.
        None => vec![Ipv4Addr::LOCALHOST.to_string(), Ipv6Addr::LOCALHOST.to_string()],
        Some((Ok(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), _)) => vec![Ipv4Addr::LOCALHOST.to_string()],
        Some((Ok(IpAddr::V6(Ipv6Addr::UNSPECIFIED)), _)) => vec![Ipv6Addr::LOCALHOST.to_string()],
        Some((_, host)) => vec![host.to_owned()],
    };
    hosts.into_iter().map(|host| (tls, Endpoint::Tcp { tls, host, port, path: path.clone() })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_is_reached_on_this_host() {
        let urls_of = |listen: &ListenAddress, tls| -> Vec<String> {
            own_endpoints(listen, tls).iter().map(|(_, endpoint)| url(endpoint)).collect()
        };
        let urls = |host: Option<&str>, tls| {
            urls_of(&ListenAddress::Tcp { host: host.map(str::to_owned), port: 9 }, tls)
        };
        assert_eq!(urls(None, false), ["http://127.0.0.1:9", "http://[::1]:9"]);
        assert_eq!(urls(Some("0.0.0.0"), true), ["https://127.0.0.1:9"]);
        assert_eq!(urls(Some("::"), true), ["https://[::1]:9"]);
        assert_eq!(urls(Some("node-1"), false), ["http://node-1:9"]);
        assert_eq!(urls(Some("fe80::1%eth0"), false), ["http://[fe80::1%eth0]:9"]);
        assert_eq!(urls_of(&ListenAddress::Unix("/run/s".into()), true), ["unix:/run/s, "]);
    }
}
