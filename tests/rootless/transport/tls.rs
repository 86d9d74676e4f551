//! TLS in both protocols: who is trusted, certificates of clients, and files that are renewed while the program runs.

use std::fs;
use std::path::PathBuf;

use bpf_metrics_exporter::export::otlp::settings::{Destination, Protocol, TlsFiles};
use bpf_metrics_exporter::export::otlp::transport::{FailureKind, SetupError, TlsError, Transport};
use tempfile::TempDir;
use test_support::answerer::{self, Answerer};
use test_support::receiver;
use test_support::transport::{connect, destination, request, resolver};
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use super::authority::{Authority, Issued, der};
use super::{ANY, BACKOFF, BOTH, accepted, at, fail, http_of, outcome};

/// Files of a client.
struct Files {
    folder: TempDir,
}

impl Files {
    fn new(authority: &str) -> Self {
        let files = Self { folder: tempfile::tempdir().expect("a folder") };
        files.write("ca.pem", authority);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file as those who renew certificates do: a new one takes the place of the old.
    fn write(&self, name: &str, content: &str) {
        fs::write(self.path("new"), content).expect("there is room");
        fs::rename(self.path("new"), self.path(name)).expect("it is in the same folder");
    }

    fn write_client(&self, issued: &Issued) {
        self.write("client.pem", &issued.certificate);
        self.write("client.key", &issued.key);
    }

    fn trusting(&self) -> TlsFiles {
        TlsFiles { authorities: Some(self.path("ca.pem")), ..TlsFiles::default() }
    }

    fn mutual(&self) -> TlsFiles {
        let (certificate, key) = (Some(self.path("client.pem")), Some(self.path("client.key")));
        TlsFiles { certificate, key, ..self.trusting() }
    }
}

async fn serve(protocol: Protocol, authority: &Authority, issued: &Issued, mutual: bool) -> Answerer {
    let config = authority.server(issued, mutual);
    answerer::start(http_of(protocol), ANY.into(), Some(config), [accepted(protocol)]).await
}

fn secure(protocol: Protocol, server: &Answerer, host: &str, tls: TlsFiles) -> Destination {
    Destination { tls, ..at(destination(protocol, server.address), host, true) }
}

#[tokio::test]
async fn a_receiver_of_the_given_authority_is_trusted_by_name_and_by_address() {
    let authority = Authority::new();
    let files = Files::new(&authority.pem());
    for protocol in BOTH {
        for host in ["localhost", "127.0.0.1"] {
            let mut server = serve(protocol, &authority, &authority.issue(host), false).await;
            let mut transport = connect(&secure(protocol, &server, host, files.trusting()));
            transport.export(&request("a", 1)).await.expect("it is trusted");
            assert_eq!(server.requests.recv().await.expect("a request").client, None);
        }
    }
}

#[tokio::test]
async fn a_receiver_that_is_not_trusted_gets_nothing_and_the_reason_is_clear() {
    let (authority, other) = (Authority::new(), Authority::new());
    let files = Files::new(&authority.pem());
    for protocol in BOTH {
        let table = [
            (other.issue("localhost"), "BadSignature"),
            (authority.issue_expired("localhost"), "expired"),
            (authority.issue("other.example"), "not valid for name"),
            (authority.issue("127.0.0.1"), "not valid for name"),
        ];
        for (issued, reason) in table {
            let mut server = serve(protocol, &authority, &issued, false).await;
            let failure = fail(&mut connect(&secure(protocol, &server, "localhost", files.trusting()))).await;
            assert_eq!(outcome(&failure), (FailureKind::Tls, BACKOFF));
            assert!(failure.reason.contains("certificate") && failure.reason.contains(reason), "{failure}");
            assert!(server.requests.try_recv().is_err(), "nothing was sent");
        }
    }
}

#[tokio::test]
async fn a_renewed_certificate_of_the_receiver_or_its_authority_ends_the_outage() {
    let (old, new) = (Authority::new(), Authority::new());
    let files = Files::new(&old.pem());
    let server = serve(Protocol::Grpc, &new, &new.issue("localhost"), false).await;
    let mut transport = connect(&secure(Protocol::Grpc, &server, "localhost", files.trusting()));
    assert_eq!(fail(&mut transport).await.kind, FailureKind::Tls);
    files.write("ca.pem", "garbage");
    assert_eq!(fail(&mut transport).await.kind, FailureKind::Tls, "the earlier authority stays in use");
    files.write("ca.pem", &(old.pem() + &new.pem()));
    transport.export(&request("a", 1)).await.expect("it is trusted now");
}

#[tokio::test]
async fn a_client_shows_its_certificate_and_a_renewed_one_at_the_next_request() {
    let authority = Authority::new();
    let files = Files::new(&authority.pem());
    for protocol in BOTH {
        let mut server = serve(protocol, &authority, &authority.issue("localhost"), true).await;
        let (first, second) = (authority.issue("client"), authority.issue("client"));
        files.write_client(&first);
        let mut transport = connect(&secure(protocol, &server, "localhost", files.mutual()));
        let mut shown = Vec::new();
        for renewed in [None, None, Some(&second), None] {
            if let Some(issued) = renewed {
                // Between both files a key does not fit: that is a warning, and the earlier pair stays in use.
                files.write("client.pem", &issued.certificate);
                transport.export(&request("a", 1)).await.expect("the earlier certificate is in use");
                let seen = server.requests.recv().await.expect("a request");
                assert_eq!((seen.connection, seen.client), (1, Some(der(&first.certificate))));
                files.write("client.key", &issued.key);
            }
            transport.export(&request("a", 1)).await.expect("the client is trusted");
            let seen = server.requests.recv().await.expect("a request");
            shown.push((seen.connection, seen.client.expect("the client has a certificate")));
        }
        let (first, second) = (der(&first.certificate), der(&second.certificate));
        assert_eq!(shown, [(1, first.clone()), (1, first), (2, second.clone()), (2, second)]);

        let mut stranger = connect(&secure(protocol, &server, "localhost", files.trusting()));
        let failure = fail(&mut stranger).await;
        assert_eq!(outcome(&failure), (FailureKind::CertificateRequired, BACKOFF), "{failure}");
        assert!(failure.reason.contains("CertificateRequired"), "{failure}");
    }
}

#[tokio::test]
async fn a_tonic_server_with_mutual_tls_gets_metrics() {
    let authority = Authority::new();
    let files = Files::new(&authority.pem());
    files.write_client(&authority.issue("client"));
    let issued = authority.issue("localhost");
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(&issued.certificate, &issued.key))
        .client_ca_root(Certificate::from_pem(authority.pem()));
    let server = Server::builder().tls_config(tls).expect("the identity is sound");
    let mut receiver = receiver::start_with(server, ANY.into(), receiver::ok).await;
    let destination = at(destination(Protocol::Grpc, receiver.address), "localhost", true);
    let mut transport = connect(&Destination { tls: files.mutual(), ..destination });
    transport.export(&request("a", 1)).await.expect("both are trusted");
    let message = receiver.requests.recv().await.expect("a request").message;
    assert_eq!(message.resource_metrics[0].schema_url, "a");
}

#[tokio::test]
async fn files_that_cannot_be_used_are_errors_with_their_path() {
    let authority = Authority::new();
    let files = Files::new(&authority.pem());
    let (client, other) = (authority.issue("client"), authority.issue("client"));
    files.write_client(&client);
    files.write("other.key", &other.key);
    files.write("empty", "");
    let path = |name| Some(files.path(name));
    let table = [
        (TlsFiles { authorities: path("missing.pem"), ..files.mutual() }, "missing.pem"),
        (TlsFiles { authorities: path("empty"), ..files.mutual() }, "empty has no certificate"),
        (TlsFiles { authorities: Some("/dev/zero".into()), ..files.mutual() }, "/dev/zero"),
        (TlsFiles { authorities: path("other.key"), ..files.mutual() }, "other.key has no certificate"),
        (TlsFiles { key: path("client.pem"), ..files.mutual() }, "client.pem has no private key"),
        (TlsFiles { key: path("other.key"), ..files.mutual() }, "other.key"),
        (TlsFiles { key: None, ..files.mutual() }, "client.pem is given"),
        (TlsFiles { certificate: None, ..files.mutual() }, "client.key is given"),
    ];
    for (tls, expected) in table {
        let destination = at(destination(Protocol::Grpc, ANY.into()), "localhost", true);
        let result = Transport::new(&Destination { tls: tls.clone(), ..destination }, resolver());
        let Err(SetupError::Tls(error)) = result else { panic!("{tls:?} is an error") };
        assert!(error.to_string().contains(expected), "{error}");
    }
    let nameless = at(destination(Protocol::Grpc, ANY.into()), "no name", true);
    let result = Transport::new(&Destination { tls: files.trusting(), ..nameless }, resolver());
    assert!(matches!(result, Err(SetupError::Tls(TlsError::Name(name, _))) if name == "no name"));
}
