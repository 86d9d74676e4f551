//! `healthy`: queries an exporter by its endpoint, for health checks of containers. Entry point: [`healthy`].
//!
//! The requests are HTTP/1.0: the answer ends with the connection, and needs no parser beyond the status line.

use std::fmt::{self, Display};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;

use bpf_metrics_exporter::cli::{HealthTarget, HealthyCommand, ListenAddress};
use bpf_metrics_exporter::export::otlp::settings::{Endpoint, Secret};
use bpf_metrics_exporter::text::printable;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
    StreamOwned,
};

use crate::{finish, log, print};

/// The longest answer: both pages are one line.
const MAX_ANSWER: u64 = 16 << 10;

/// Queries an exporter, and prints one line.
pub(super) fn healthy(options: HealthyCommand, warnings: &[String]) -> ExitCode {
    for warning in warnings {
        log::complain(warning);
    }
    let HealthyCommand { target, timeout } = options;
    let (sender, answered) = channel();
    // A thread, since nothing bounds the time of the system's resolver. It ends with the process.
    thread::spawn(move || {
        // After the timeout nothing receives it.
        let _: Result<(), _> = sender.send(Server::new(target).and_then(check));
    });
    match answered.recv_timeout(timeout) {
        Ok(Ok(text)) => finish(print(&format!("{text}\n"))),
        Ok(Err(problem)) => fail(&problem),
        Err(_) => fail(&format!("no answer within {timeout:?}")),
    }
}

fn fail(problem: &str) -> ExitCode {
    log::complain(&format!("unhealthy: {problem}"));
    ExitCode::FAILURE
}

/// Why a server is not healthy.
enum Failure {
    /// It does not answer in this protocol.
    NoAnswer(String),
    /// It answers that it does not work.
    Answer(String),
}

/// Returns the state of a server that works.
///
/// # Errors
///
/// Why it does not.
fn check(mut server: Server) -> Result<&'static str, String> {
    let encrypted = match check_pages(&server) {
        Err(Failure::NoAnswer(problem)) if server.is_protected => problem,
        checked => return checked.map_err(|(Failure::NoAnswer(problem) | Failure::Answer(problem))| problem),
    };
    // Whether the exporter has TLS is unknown: the file may have changed since it was read, or be broken.
    server.tls = None;
    check_pages(&server).map_err(|failure| match failure {
        Failure::NoAnswer(_) => encrypted,
        Failure::Answer(problem) => problem,
    })
}

fn check_pages(server: &Server) -> Result<&'static str, Failure> {
    for page in ["/-/healthy", "/-/ready"] {
        let url = server.url(page);
        match server.get(page).map_err(|error| Failure::NoAnswer(format!("{url}: {error}")))? {
            Answer::Page(200, _) => {}
            // Only hashes of passwords are in the file.
            Answer::Page(401, _) if server.is_protected => {
                return Ok("healthy; readiness is unknown, since the endpoint demands a password");
            }
            Answer::WantsCertificate if server.is_protected => {
                return Ok("healthy; readiness is unknown, since the endpoint demands a client certificate");
            }
            Answer::WantsCertificate => {
                return Err(Failure::Answer(format!("{url}: it demands a client certificate")));
            }
            Answer::Page(status, text) => {
                return Err(Failure::Answer(format!("{url}: status {status}: {text}")));
            }
        }
    }
    Ok("healthy")
}

/// A server to query.
struct Server {
    address: Address,
    tls: Option<Arc<ClientConfig>>,
    /// Before the path of every page.
    prefix: String,
    /// The value of the header `Authorization`.
    authorization: Option<String>,
    /// Whether it is this host's own exporter with `--web.config.file`. It may have TLS, and demand a password or a certificate.
    is_protected: bool,
}

enum Address {
    Tcp {
        host: String,
        /// Tried if `host` does not answer.
        other: Option<String>,
        port: u16,
    },
    Unix(PathBuf),
}

enum Answer {
    /// A status with the first line of its page.
    Page(u16, String),
    /// TLS ended because the client has no certificate.
    WantsCertificate,
}

impl Server {
    fn new(target: HealthTarget) -> Result<Self, String> {
        match target {
            HealthTarget::Url { endpoint, authorization: Secret(authorization) } => {
                let (address, tls, prefix) = match endpoint {
                    Endpoint::Tcp { tls, host, port, path } => {
                        (Address::Tcp { host, other: None, port }, tls, path)
                    }
                    Endpoint::Unix { socket, path } => (Address::Unix(socket), false, path),
                };
                let tls = tls.then(trusted_by_the_system).transpose()?;
                Ok(Self { address, tls, prefix, authorization, is_protected: false })
            }
            HealthTarget::Own { systemd_socket: true, .. } => {
                Err("the address of a socket of systemd is unknown; name it with --url".to_owned())
            }
            HealthTarget::Own { listen, is_protected, .. } => {
                let first = listen.into_iter().next();
                let first = first.ok_or("nothing is served (--web.listen-address none)")?;
                let tls = is_protected.then(without_verification).transpose()?;
                Ok(Self {
                    address: own_address(first),
                    tls,
                    prefix: String::new(),
                    authorization: None,
                    is_protected,
                })
            }
        }
    }

    fn url(&self, page: &str) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        match &self.address {
            Address::Tcp { .. } => format!("{scheme}://{}{}{page}", self.address, self.prefix),
            Address::Unix(_) => format!("{}, {}{page}", self.address, self.prefix),
        }
    }

    fn get(&self, page: &str) -> io::Result<Answer> {
        let stream: Box<dyn Stream> = match &self.address {
            Address::Unix(path) => Box::new(UnixStream::connect(path)?),
            Address::Tcp { host, other, port } => {
                let connect = |host: &str| TcpStream::connect((host, *port));
                Box::new(match (connect(host), other) {
                    (Err(_), Some(other)) => connect(other)?,
                    (connected, _) => connected?,
                })
            }
        };
        let Some(config) = &self.tls else { return self.request(stream, page) };
        let name = match &self.address {
            Address::Tcp { host, .. } => host.clone(),
            Address::Unix(_) => "localhost".to_owned(),
        };
        let name = ServerName::try_from(name).map_err(io::Error::other)?;
        let session = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(session, stream);
        match self.request(&mut stream, page) {
            Err(error) if wants_certificate(&error, &mut stream) => Ok(Answer::WantsCertificate),
            answer => answer,
        }
    }

    fn request(&self, mut stream: impl Read + Write, page: &str) -> io::Result<Answer> {
        let authorization = self
            .authorization
            .as_ref()
            .map(|value| format!("Authorization: {value}\r\n"))
            .unwrap_or_default();
        let host = match &self.address {
            Address::Tcp { .. } => self.address.to_string(),
            Address::Unix(_) => "localhost".to_owned(),
        };
        let path = format!("{}{page}", self.prefix);
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {host}\r\n{authorization}\r\n")?;
        stream.flush()?;
        let mut answer = Vec::new();
        match stream.take(MAX_ANSWER).read_to_end(&mut answer) {
            // The peer closed the connection without the end of TLS: the answer is complete all the same.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && !answer.is_empty() => {}
            read => {
                read?;
            }
        }
        parse(&String::from_utf8_lossy(&answer))
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is not one of HTTP"))
    }
}

impl Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The zone of an address means something on this host only.
            Self::Tcp { host, port, .. } if host.contains(':') => {
                write!(f, "[{}]:{port}", host.split('%').next().unwrap_or(host))
            }
            Self::Tcp { host, port, .. } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

/// Returns where an address to listen on can be reached from this host.
fn own_address(listen: ListenAddress) -> Address {
    let (host, port) = match listen {
        ListenAddress::Unix(path) => return Address::Unix(path),
        ListenAddress::Tcp { host, port } => (host, port),
    };
    let (host, other) = match host.map(|host| (host.parse(), host)) {
        // It may have one of the families only.
        None => (Ipv4Addr::LOCALHOST.to_string(), Some(Ipv6Addr::LOCALHOST.to_string())),
        Some((Ok(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), _)) => (Ipv4Addr::LOCALHOST.to_string(), None),
        Some((Ok(IpAddr::V6(Ipv6Addr::UNSPECIFIED)), _)) => (Ipv6Addr::LOCALHOST.to_string(), None),
        Some((_, host)) => (host, None),
    };
    Address::Tcp { host, other, port }
}

/// Parses the status line and the first line of the page.
fn parse(answer: &str) -> Option<Answer> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let mut words = head.lines().next()?.split(' ');
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    let status = words.next()?.parse().ok()?;
    Some(Answer::Page(status, printable(body.lines().next().unwrap_or_default().as_bytes())))
}

/// Returns whether a session ended because the client has no certificate. The server says so when the client takes the session to be open
/// and may be writing already, which then fails before anything is read.
fn wants_certificate<S: Stream>(error: &io::Error, stream: &mut StreamOwned<ClientConnection, S>) -> bool {
    let is_it = |error: &rustls::Error| {
        matches!(error, rustls::Error::AlertReceived(AlertDescription::CertificateRequired))
    };
    let read = error.get_ref().and_then(|error| error.downcast_ref());
    read.is_some_and(is_it)
        || stream.conn.read_tls(&mut stream.sock).is_ok()
            && stream.conn.process_new_packets().is_err_and(|error| is_it(&error))
}

fn trusted_by_the_system() -> Result<Arc<ClientConfig>, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    if roots.add_parsable_certificates(found.certs).0 == 0 {
        return Err(
            "found no certificates of the system to trust; name a file with them in SSL_CERT_FILE".to_owned()
        );
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

/// Returns TLS for this host's own endpoint. Its certificate is for a name that others use, and often signed by itself; nothing secret
/// is sent.
fn without_verification() -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)));
    Ok(Arc::new(builder.with_no_client_auth()))
}

/// Accepts every certificate whose key the server has.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_is_reached_on_this_host() {
        let hosts = |host: Option<&str>| {
            let listen = ListenAddress::Tcp { host: host.map(str::to_owned), port: 9 };
            match own_address(listen) {
                Address::Tcp { host, other, port: 9 } => {
                    std::iter::once(host).chain(other).collect::<Vec<_>>()
                }
                _ => panic!("it is another port"),
            }
        };
        assert_eq!(hosts(None), ["127.0.0.1", "::1"]);
        assert_eq!(hosts(Some("0.0.0.0")), ["127.0.0.1"]);
        assert_eq!(hosts(Some("::")), ["::1"]);
        assert_eq!(hosts(Some("node-1")), ["node-1"]);
        let with_zone = Address::Tcp { host: "fe80::1%eth0".to_owned(), other: None, port: 9 };
        assert_eq!(with_zone.to_string(), "[fe80::1]:9");
    }

    #[test]
    fn answers_are_a_status_and_a_line() {
        let parsed = |text| match parse(text) {
            Some(Answer::Page(status, text)) => Some((status, text)),
            _ => None,
        };
        assert_eq!(
            parsed("HTTP/1.0 200 OK\r\na: b\r\n\r\nhealthy\nmore\n"),
            Some((200, "healthy".to_owned()))
        );
        assert_eq!(parsed("HTTP/1.1 503 \r\n\r\n"), Some((503, String::new())));
        for wrong in ["", "HTTP/1.0 200 OK\r\n", "HTTP/1.0 ok\r\n\r\n", "SSH-2.0-OpenSSH\r\n\r\n"] {
            assert_eq!(parsed(wrong), None, "{wrong:?}");
        }
    }
}
