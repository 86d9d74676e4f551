//! The real Collector over TLS, with and without certificates of clients, over gRPC and HTTP, in each compression.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bpf_metrics_exporter::export::otlp::encode::{Encoder, Request};
use bpf_metrics_exporter::export::otlp::settings::{Compression, Destination, Endpoint, Protocol, TlsFiles};
use bpf_metrics_exporter::metrics::Sample;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};
use test_support::golden::snapshot;
use test_support::http::free_address;
use test_support::transport::{connect, destination};
use tokio::runtime::Runtime;

use crate::exporter::Exporter;
use crate::processes::{SOON, Scratch, eventually};
use crate::receivers::{Collector, Verbosity};

/// Certificates in files.
struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// Makes an authority, and certificates of a server on `localhost` and of a client.
    fn new(folder: PathBuf) -> Self {
        let files = Self { folder };
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        files.write("ca.pem", &issuer.pem());
        for (name, of) in [("server", "localhost"), ("client", "client")] {
            let key = KeyPair::generate().expect("a key");
            let params = CertificateParams::new(vec![of.to_owned()]).expect("a name");
            let certificate = params.signed_by(&key, &issuer).expect("a certificate");
            files.write(&format!("{name}.pem"), &certificate.pem());
            files.write(&format!("{name}.key"), &key.serialize_pem());
        }
        files
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).expect("the folder is new");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Returns the protocols of a Collector with TLS, where clients need a certificate if `mutual`.
    fn protocols(&self, grpc: SocketAddr, http: SocketAddr, mutual: bool) -> Value {
        let mut tls = json!({"cert_file": self.path("server.pem"), "key_file": self.path("server.key")});
        if mutual {
            tls["client_ca_file"] = json!(self.path("ca.pem"));
        }
        json!({"grpc": {"endpoint": grpc, "tls": tls}, "http": {"endpoint": http, "tls": tls}})
    }

    fn of_client(&self, mutual: bool) -> TlsFiles {
        let given = |name: &str| mutual.then(|| self.path(name));
        TlsFiles {
            authorities: Some(self.path("ca.pem")),
            certificate: given("client.pem"),
            key: given("client.key"),
        }
    }
}

fn secure(protocol: Protocol, address: SocketAddr, tls: TlsFiles) -> Destination {
    let mut destination = Destination { tls, ..destination(protocol, address) };
    if let Endpoint::Tcp { tls, host, .. } = &mut destination.endpoint {
        *tls = true;
        "localhost".clone_into(host);
    }
    destination
}

/// Compresses a request.
fn compressed(request: &Request, compression: Compression) -> Request {
    let bytes = match compression {
        Compression::None => request.bytes.clone(),
        Compression::Gzip => {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            gzip.write_all(&request.bytes).expect("there is memory");
            gzip.finish().expect("there is memory").into()
        }
        Compression::Zstd => zstd::encode_all(&*request.bytes, 1).expect("there is memory").into(),
    };
    Request { bytes, compression, ..request.clone() }
}

pub(crate) fn test() {
    let scratch = Scratch::new();
    let certificates = Certificates::new(scratch.folder("certificates"));
    let requests = Encoder::new(&[], 1 << 20).encode(Sample::new(&snapshot()));
    let points: u64 = requests.iter().map(|request| request.items.count).sum();
    assert!(points > 0, "the snapshot has objects");
    let runtime = Runtime::new().expect("a runtime");
    for (name, mutual) in [("tls", false), ("mutual", true)] {
        let (grpc, http) = (free_address(), free_address());
        let protocols = certificates.protocols(grpc, http, mutual);
        let collector =
            Collector::start_with(&scratch.folder(name), grpc, &protocols, Verbosity::Normal, None);
        let mut sent = 0;
        for (protocol, address) in [(Protocol::Grpc, grpc), (Protocol::HttpProtobuf, http)] {
            let mut transport = connect(&secure(protocol, address, certificates.of_client(mutual)));
            for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
                for request in &requests {
                    let result = runtime.block_on(transport.export(&compressed(request, compression)));
                    let answer =
                        result.unwrap_or_else(|failure| panic!("{protocol:?} {compression:?}: {failure}"));
                    assert_eq!((answer.rejected, &*answer.message), (0, ""));
                }
                sent += points;
            }
            if mutual {
                let mut stranger = connect(&secure(protocol, address, certificates.of_client(false)));
                let failure =
                    runtime.block_on(stranger.export(&requests[0])).expect_err("it has no certificate");
                assert!(
                    failure.reason.contains("certificate") || failure.reason.contains("Certificate"),
                    "{failure}"
                );
            }
        }
        assert_eq!(collector.accepted(), sent, "{name}");
    }
}

pub(crate) fn test_program() {
    let scratch = Scratch::new();
    let certificates = Certificates::new(scratch.folder("certificates"));
    let (grpc, http) = (free_address(), free_address());
    let protocols = certificates.protocols(grpc, http, true);
    let folder = scratch.folder("collector");
    let collector = Collector::start_with(&folder, grpc, &protocols, Verbosity::Normal, None);
    let paths = ["ca.pem", "client.pem", "client.key"].map(|name| certificates.path(name));
    let names =
        ["CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY"].map(|name| format!("OTEL_EXPORTER_OTLP_{name}"));
    let environment: Vec<(&str, &Path)> =
        names.iter().map(String::as_str).zip(paths.iter().map(PathBuf::as_path)).collect();
    let receiver = format!("https://localhost:{}", grpc.port());
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    let exporter =
        Exporter::start_at(any_port, &environment, &scratch.folder("exporter"), &receiver, "1s", &[]);
    eventually("the Collector accepts what is pushed", SOON, || {
        match (collector.accepted(), exporter.delivery().accepted) {
            (here, there) if here > 0 && there > 0 => Ok(()),
            counts => Err(format!("{counts:?}")),
        }
    });
}
