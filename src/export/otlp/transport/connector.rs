//! Streams to a receiver: names, addresses, Unix sockets, proxies and TLS. Entry point: [`Connector::connect`].
//!
//! Names are looked up on a thread that was made at start. The resolvers of tokio and hyper start threads later, which ends the program
//! where a limit on processes refuses them.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nix::net::if_::if_nametoindex;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::{JoinHandle, JoinSet};
use tracing::warn;

use super::proxy::Proxy;
use super::stream::Stream;
use super::tls::{Renewed, TlsClient};
use super::{Failure, FailureKind, SetupError, wants_certificate};
use crate::error_chain::error_chain;
use crate::export::otlp::settings::{Destination, Endpoint, Secret};
use crate::worker::Worker;

/// The most addresses of a name that are tried.
const MAX_ADDRESSES: usize = 16;

/// How long one address is waited for before the next one is tried as well. Source: RFC 8305, section 5.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// When the kernel asks a silent peer whether it is there, and how often, in seconds. A lost peer is noticed after a minute.
const KEEPALIVE: (u32, u32, u32) = (30, 10, 3);

/// Bounds of how long the kernel waits for a peer to confirm what was sent, in milliseconds.
const USER_TIMEOUT: (u128, u128) = (1_000, 600_000);

/// What an attempt is waiting for, to name it when time is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Files,
    Lookup,
    Connect,
    Proxy,
    Tls,
    Answer,
}

impl Stage {
    /// Returns what has failed if time is up.
    pub(super) const fn kind(self) -> FailureKind {
        match self {
            Self::Lookup | Self::Connect | Self::Proxy => FailureKind::Connect,
            Self::Files | Self::Tls => FailureKind::Tls,
            Self::Answer => FailureKind::Timeout,
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Files => "the files for TLS were not read",
            Self::Lookup => "the address of the name was not found",
            Self::Connect => "there was no connection",
            Self::Proxy => "the proxy opened no tunnel",
            Self::Tls => "there was no TLS session",
            Self::Answer => "no answer",
        })
    }
}

type Lookup = JoinHandle<io::Result<Vec<SocketAddr>>>;

/// Connects to one receiver.
pub(super) struct Connector {
    target: Target,
    proxy: Option<Arc<Proxy>>,
    tls: Option<TlsClient>,
    resolver: Worker,
    /// A look-up that an earlier attempt did not wait for: at most one of each destination is under way.
    lookup: Option<Lookup>,
    /// Likewise for the files of TLS.
    renewal: Option<JoinHandle<Option<Renewed>>>,
    /// `TCP_USER_TIMEOUT`, in milliseconds.
    user_timeout: u32,
    /// What the current attempt is waiting for.
    pub(super) stage: Stage,
}

enum Target {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

impl Connector {
    /// Returns whether it connects to a Unix socket.
    pub(super) const fn is_unix(&self) -> bool {
        matches!(self.target, Target::Unix(_))
    }

    /// Reads the files for TLS; connects to nothing yet.
    ///
    /// # Errors
    ///
    /// Fails if a file for TLS cannot be used or the proxy is not supported.
    pub(super) fn new(destination: &Destination, resolver: Worker) -> Result<Self, SetupError> {
        let tls = match &destination.endpoint {
            Endpoint::Tcp { tls: true, host, .. } => {
                Some(TlsClient::new(host, &destination.tls, destination.protocol)?)
            }
            _ => None,
        };
        Self::with_tls(destination, tls, resolver)
    }

    /// The same with other settings of TLS than those of the destination; `None` for plaintext.
    ///
    /// # Errors
    ///
    /// Fails if the proxy is not supported.
    pub(super) fn with_tls(
        destination: &Destination,
        tls: Option<TlsClient>,
        resolver: Worker,
    ) -> Result<Self, SetupError> {
        let target = match &destination.endpoint {
            Endpoint::Tcp { host, port, .. } => Target::Tcp { host: host.clone(), port: *port },
            Endpoint::Unix { socket, .. } => Target::Unix(socket.clone()),
        };
        let milliseconds = destination.timeout.as_millis().clamp(USER_TIMEOUT.0, USER_TIMEOUT.1);
        Ok(Self {
            target,
            proxy: destination.proxy.as_ref().map(|Secret(uri)| Proxy::new(uri)).transpose()?.map(Arc::new),
            tls,
            resolver,
            lookup: None,
            renewal: None,
            user_timeout: u32::try_from(milliseconds).expect("it is at most ten minutes"),
            stage: Stage::Answer,
        })
    }

    /// Reads the files for TLS again if they changed. Returns true if new connections differ from earlier ones. The caller sets the
    /// time limit.
    pub(super) async fn renew(&mut self) -> bool {
        let Some(tls) = &mut self.tls else { return false };
        if self.renewal.is_none() {
            let Some(read) = tls.renewal() else { return false };
            let resolver = self.resolver.clone();
            self.renewal = Some(tokio::spawn(async move { resolver.run(read).await }));
        }
        let Some(renewal) = &mut self.renewal else { return false };
        self.stage = Stage::Files;
        let renewed = renewal.await;
        self.renewal = None;
        match renewed {
            Ok(renewed) => renewed.is_some_and(|renewed| tls.renew(renewed)),
            Err(error) => {
                warn!("failed to read the files for TLS again: {error}");
                false
            }
        }
    }

    /// Opens a stream to the receiver. The caller sets the time limit.
    ///
    /// # Errors
    ///
    /// Fails if the receiver or its proxy cannot be reached, or TLS fails.
    pub(super) async fn connect(&mut self) -> Result<Stream, Failure> {
        let (stream, name) = match &self.target {
            Target::Tcp { host, port } => {
                let (host, port) = (host.clone(), *port);
                let name = authority(&host, port);
                (self.connect_to(&host, port, &name).await?, name)
            }
            Target::Unix(path) => {
                self.stage = Stage::Connect;
                let name = path.display().to_string();
                let stream = UnixStream::connect(path).await.map_err(|error| {
                    Failure::retryable(FailureKind::Connect, format!("failed to connect to {name}: {error}"))
                })?;
                (Box::new(stream) as Stream, name)
            }
        };
        let Some(tls) = &self.tls else { return Ok(stream) };
        self.stage = Stage::Tls;
        tls.connect(stream).await.map_err(|error| {
            let kind =
                if wants_certificate(&error) { FailureKind::CertificateRequired } else { FailureKind::Tls };
            Failure::retryable(kind, format!("no TLS session with {name}: {}", error_chain(&error)))
        })
    }

    /// Opens a stream to a host, through the proxy if there is one. `name`: as requests have it.
    async fn connect_to(&mut self, host: &str, port: u16, name: &str) -> Result<Stream, Failure> {
        let Some(proxy) = self.proxy.clone() else { return self.connect_tcp(host, port).await };
        let stream = self.connect_tcp(&proxy.host, proxy.port).await?;
        self.stage = Stage::Proxy;
        proxy.tunnel(stream, name).await
    }

    async fn connect_tcp(&mut self, host: &str, port: u16) -> Result<Stream, Failure> {
        self.stage = Stage::Lookup;
        let failed = |reason| Failure::retryable(FailureKind::Connect, reason);
        let literal = address(host, port).transpose();
        let addresses = match literal.map_err(|error| failed(format!("failed to use {host}: {error}")))? {
            Some(address) => vec![address],
            None => self
                .resolve(host, port)
                .await
                .map_err(|error| failed(format!("failed to look up the name {host}: {error}")))?,
        };
        self.stage = Stage::Connect;
        let stream = connect_any(&addresses).await.map_err(|errors| {
            let name = if address(host, port).is_some() { "" } else { host };
            let separator = if name.is_empty() { "" } else { ", " };
            failed(format!("failed to connect to {name}{separator}{errors}"))
        })?;
        self.set_options(&stream)
            .map_err(|error| failed(format!("failed to set up the connection to {host}: {error}")))?;
        Ok(Box::new(stream))
    }

    /// Looks up a name.
    async fn resolve(&mut self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let lookup = self.lookup.get_or_insert_with(|| {
            let (resolver, name) = (self.resolver.clone(), host.to_owned());
            tokio::spawn(async move { resolver.run(move || look_up(&name, port)).await })
        });
        let found = lookup.await;
        self.lookup = None;
        found.map_err(io::Error::other)?
    }

    fn set_options(&self, stream: &TcpStream) -> io::Result<()> {
        let (idle, interval, count) = KEEPALIVE;
        stream.set_nodelay(true)?;
        setsockopt(stream, sockopt::KeepAlive, &true)?;
        setsockopt(stream, sockopt::TcpKeepIdle, &idle)?;
        setsockopt(stream, sockopt::TcpKeepInterval, &interval)?;
        setsockopt(stream, sockopt::TcpKeepCount, &count)?;
        setsockopt(stream, sockopt::TcpUserTimeout, &self.user_timeout)?;
        Ok(())
    }
}

/// Returns the address that a host is, if it is none to look up. The zone of an IPv6 address is an interface or its number: the system's
/// resolver knows the name of one only for some addresses.
///
/// # Errors
///
/// Fails if there is no such interface at the moment.
fn address(host: &str, port: u16) -> Option<io::Result<SocketAddr>> {
    let Some((address, zone)) = host.split_once('%') else {
        return host.parse().ok().map(|address: IpAddr| Ok(SocketAddr::new(address, port)));
    };
    let address: Ipv6Addr = address.parse().ok()?;
    let scope = zone.parse().or_else(|_| if_nametoindex(zone));
    Some(scope.map(|scope| SocketAddrV6::new(address, port, 0, scope).into()).map_err(io::Error::from))
}

/// Returns the addresses of a name, those of both families in turn. Blocks.
fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let found: Vec<SocketAddr> = (host, port).to_socket_addrs()?.take(MAX_ADDRESSES).collect();
    let Some(first) = found.first() else { return Err(io::Error::other("it has no address")) };
    // The system knows which family is to be tried first.
    let (same, other): (Vec<SocketAddr>, Vec<SocketAddr>) =
        found.iter().copied().partition(|address| address.is_ipv4() == first.is_ipv4());
    let (mut same, mut other) = (same.into_iter(), other.into_iter());
    let mut ordered: Vec<SocketAddr> = Vec::with_capacity(found.len());
    while ordered.len() < found.len() {
        ordered.extend(same.next());
        ordered.extend(other.next());
    }
    Ok(ordered)
}

/// Connects to the first of these addresses that answers. Each has a head start of [`ATTEMPT_DELAY`] over the next one. Source: RFC 8305.
///
/// # Errors
///
/// Each address with its error, if none answers.
async fn connect_any(addresses: &[SocketAddr]) -> Result<TcpStream, String> {
    // Dropping it ends the attempts that are still under way.
    let mut attempts = JoinSet::new();
    let mut rest = addresses.iter().copied();
    let mut errors = Vec::new();
    loop {
        if let Some(address) = rest.next() {
            attempts.spawn(async move { (address, TcpStream::connect(address).await) });
        }
        tokio::select! {
            ended = attempts.join_next() => match ended {
                Some(Ok((_, Ok(stream)))) => return Ok(stream),
                Some(Ok((address, Err(error)))) => errors.push(format!("{address}: {error}")),
                Some(Err(error)) => errors.push(error.to_string()),
                None => return Err(errors.join("; ")),
            },
            () = tokio::time::sleep(ATTEMPT_DELAY), if rest.len() > 0 => {}
        }
    }
}

/// Returns `HOST:PORT` as it is in requests: without the zone of an address, which means something on this host only.
pub(super) fn authority(host: &str, port: u16) -> String {
    match host.split_once('%') {
        Some((address, _)) => format!("[{address}]:{port}"),
        None if host.contains(':') => format!("[{host}]:{port}"),
        None => format!("{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[tokio::test]
    async fn addresses_are_tried_in_order_until_one_answers() {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("it is bound");
        // TEST-NET-1, which nobody answers for, and a port that nothing listens on.
        let silent = SocketAddr::from(([192, 0, 2, 1], 9));
        let refusing = SocketAddr::from(([127, 0, 0, 1], 1));
        let stream = connect_any(&[refusing, silent, address]).await.expect("the last one answers");
        assert_eq!(stream.peer_addr().ok(), Some(address));
        let errors = connect_any(&[refusing, refusing]).await.expect_err("nobody answers");
        assert_eq!(errors.matches("127.0.0.1:1: Connection refused").count(), 2, "{errors}");
    }

    #[test]
    fn a_zone_is_part_of_the_address_but_not_of_the_request() {
        assert_eq!(authority("fe80::1%lo", 4317), "[fe80::1]:4317");
        assert_eq!(authority("localhost", 4317), "localhost:4317");
        for host in ["fe80::1%lo", "fe80::1%1"] {
            let found = address(host, 4317).expect("it is an address").expect("the interface exists");
            let SocketAddr::V6(found) = found else { panic!("{found:?}") };
            assert_eq!(found.scope_id(), 1, "the index of lo");
        }
        assert!(address("fe80::1%no-such", 4317).is_some_and(|found| found.is_err()));
        assert!(address("localhost", 4317).is_none() && address("no%address", 4317).is_none());
        assert!(look_up("name.invalid", 1).is_err());
    }
}
