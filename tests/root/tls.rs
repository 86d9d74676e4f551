//! OTLP over TLS: the program trusts the authorities of the host, and no others.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use test_support::receiver;

use crate::suite::Test;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::runtime::Runtime;
use tonic::transport::{Identity, Server, ServerTlsConfig};

use test_support::running::Running;

const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) const TESTS: &[Test] = &[
    Test::new("receivers_trusted_by_the_host_get_metrics", trusted),
    Test::new("untrusted_receivers_get_nothing", untrusted),
];

/// A file that is removed when dropped.
struct File(PathBuf);

impl Drop for File {
    fn drop(&mut self) {
        fs::remove_file(&self.0).expect("it is ours");
    }
}

/// An authority, and the identity of a receiver for `localhost` that it signed.
fn authority() -> (String, Identity) {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer =
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate");
    (issuer.pem(), Identity::from_pem(certificate.pem(), key.serialize_pem()))
}

/// Starts the program, which pushes to a port of `localhost` with TLS and trusts the authorities in a file.
fn push(port: u16, trusted: &Path, log: Stdio) -> Running {
    let mut program = Command::new(env!("CARGO_BIN_EXE_bpf-metrics-exporter"));
    program.args(["--web.listen-address", "none", "--otlp-grpc", &format!("https://localhost:{port}")]);
    Running(program.env_clear().env("SSL_CERT_FILE", trusted).stderr(log).spawn().expect("it starts"))
}

async fn secure_receiver(identity: Identity) -> receiver::Receiver {
    let tls = ServerTlsConfig::new().identity(identity);
    let server = Server::builder().tls_config(tls).expect("the identity is sound");
    receiver::start_with(server, SocketAddr::from(([127, 0, 0, 1], 0)), receiver::ok).await
}

fn trusted_file(name: &str, certificate: &str) -> File {
    let file = File(std::env::temp_dir().join(format!("{name}-{}.pem", std::process::id())));
    fs::write(&file.0, certificate).expect("there is room");
    file
}

fn trusted() {
    let (certificate, identity) = authority();
    let file = trusted_file("trusted", &certificate);
    Runtime::new().expect("a runtime").block_on(async {
        let mut receiver = secure_receiver(identity).await;
        let _program = push(receiver.address.port(), &file.0, Stdio::null());
        let first = tokio::time::timeout(DEADLINE, receiver.requests.recv()).await.expect("in time");
        assert!(!first.expect("the receiver lives").message.resource_metrics.is_empty());
    });
}

fn untrusted() {
    let (_, identity) = authority();
    let (other, _) = authority();
    let file = trusted_file("untrusted", &other);
    Runtime::new().expect("a runtime").block_on(async {
        let mut receiver = secure_receiver(identity).await;
        let mut program = push(receiver.address.port(), &file.0, Stdio::piped());
        let log = program.0.stderr.take().expect("a pipe");
        let warning = tokio::task::spawn_blocking(|| {
            let lines = std::io::BufRead::lines(std::io::BufReader::new(log)).map_while(Result::ok);
            lines.into_iter().find(|line| line.contains("WARN"))
        });
        let warning = tokio::time::timeout(DEADLINE, warning).await.expect("in time").expect("it reads");
        let warning = warning.expect("there is a warning");
        assert!(warning.contains("certificate"), "{warning}");
        assert!(receiver.requests.try_recv().is_err(), "nothing was sent");
    });
}
