//! The configuration file: the verdicts of exporter-toolkit on files of the same meaning, and what a server does with them.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bpf_metrics_exporter::metrics::select::Selected;
use bpf_metrics_exporter::web::{self, ConfigFile};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::client::WantsClientCert;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ConfigBuilder, RootCertStore, StreamOwned, version};
use tempfile::TempDir;
use test_support::golden::snapshot;

use super::{Server, get, request, serve_with, settings};

/// A folder with certificates: of a server, and of clients that the same authority signed, or nobody.
pub(super) struct Folder {
    folder: TempDir,
    authority: CertificateDer<'static>,
}

/// A certificate and its key, in PEM.
type Identity = (String, String);

impl Folder {
    pub(super) fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer =
            CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate");
        let signed = |names: &[&str], usage| -> Identity {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            let mut params = CertificateParams::new(names).expect("names");
            params.extended_key_usages = vec![usage];
            let key = KeyPair::generate().expect("a key");
            (params.signed_by(&key, &issuer).expect("a certificate").pem(), key.serialize_pem())
        };
        let server = signed(&["localhost", "127.0.0.1"], ExtendedKeyUsagePurpose::ServerAuth);
        let client = signed(&["client.example"], ExtendedKeyUsagePurpose::ClientAuth);
        let stranger = {
            let params = CertificateParams::new(["stranger.example".to_owned()]).expect("a name");
            let key = KeyPair::generate().expect("a key");
            (params.self_signed(&key).expect("a certificate").pem(), key.serialize_pem())
        };
        let this = Self { folder, authority: issuer.der().clone() };
        for (name, (certificate, key)) in [("server", &server), ("client", &client), ("stranger", &stranger)]
        {
            this.write(&format!("{name}.crt"), certificate);
            this.write(&format!("{name}.key"), key);
        }
        this.write("ca.crt", &issuer.pem());
        this.write("nothing.crt", "no certificate\n");
        this
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        // As editors and Kubernetes do: never half a file.
        let unfinished = self.path().join("unfinished");
        fs::write(&unfinished, text).expect("the folder is ours");
        fs::rename(&unfinished, self.path().join(name)).expect("the folder is ours");
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).expect("it was written")
    }

    pub(super) fn load(&self, text: &str) -> Result<ConfigFile, String> {
        self.write("web.yml", text);
        ConfigFile::load(&self.path().join("web.yml")).map_err(|error| error.to_string())
    }

    fn serve(&self, text: &str) -> Server {
        let config = self.load(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        config.start().expect("threads");
        serve_with(web::Settings { config: Some(config), ..settings() }, snapshot, Selected::all)
    }

    /// Returns a client that trusts the authority.
    pub(super) fn client(&self) -> ClientConfig {
        self.builder(&[&version::TLS13]).with_no_client_auth()
    }

    /// Sends a request over TLS, by a client with this certificate, and returns the response.
    fn get(&self, address: SocketAddr, client: Option<&str>, headers: &str) -> Result<String, String> {
        self.get_by(&[&version::TLS12, &version::TLS13], address, client, headers)
    }

    fn builder(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> ConfigBuilder<ClientConfig, WantsClientCert> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.clone()).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("they are known");
        builder.with_root_certificates(roots)
    }

    fn get_by(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        address: SocketAddr,
        client: Option<&str>,
        headers: &str,
    ) -> Result<String, String> {
        let builder = self.builder(versions);
        let config = match client {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let chain = CertificateDer::from_pem_file(self.path().join(format!("{name}.crt")))
                    .expect("a certificate");
                let key =
                    PrivateKeyDer::from_pem_file(self.path().join(format!("{name}.key"))).expect("a key");
                builder.with_client_auth_cert(vec![chain], key).expect("they fit")
            }
        };
        let name = ServerName::try_from("localhost").expect("a name");
        let connection = ClientConnection::new(Arc::new(config), name).expect("a connection");
        let stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a time");
        let mut stream = StreamOwned::new(connection, stream);
        let request =
            format!("GET /-/healthy HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
        let mut answer = Vec::new();
        let exchange = stream.write_all(request.as_bytes()).and_then(|()| stream.read_to_end(&mut answer));
        exchange.map_err(|error| error.to_string())?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

pub(super) const SERVER: &str = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n";

/// A bcrypt hash of "secret", of the least cost that htpasswd allows.
pub(super) fn hash() -> String {
    bcrypt::hash("secret", 4).expect("a hash")
}

/// Joins lines, each after a prefix.
fn lines<'a>(prefix: &str, lines: impl Iterator<Item = &'a str>) -> String {
    lines.fold(String::new(), |text, line| text + prefix + line + "\n")
}

#[test]
fn good_files_are_good() {
    let folder = Folder::new();
    let indented = |name: &str| lines("    ", folder.text(name).lines());
    let inline = format!(
        "tls_server_config:\n  cert: |\n{}  key: |\n{}",
        indented("server.crt"),
        indented("server.key")
    );
    let mixed = format!("tls_server_config:\n  cert_file: server.crt\n  key: |\n{}", indented("server.key"));
    let all_suites = "TLS_AES_128_GCM_SHA256 TLS_AES_256_GCM_SHA384 TLS_CHACHA20_POLY1305_SHA256 \
                      TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 \
                      TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 \
                      TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 \
                      TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA \
                      TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA \
                      TLS_RSA_WITH_AES_128_CBC_SHA TLS_RSA_WITH_AES_256_CBC_SHA TLS_RSA_WITH_AES_128_GCM_SHA256 \
                      TLS_RSA_WITH_AES_256_GCM_SHA384";
    let suites = lines("  - ", all_suites.split_whitespace());
    let users = format!("basic_auth_users:\n  ann: {}\n", hash());
    for (name, text) in [
        ("empty", String::new()),
        ("only a comment", "# later\n".to_owned()),
        ("no authentication", SERVER.to_owned()),
        ("empty users", format!("{SERVER}basic_auth_users:\n")),
        ("absolute paths", format!("tls_server_config:\n  cert_file: {0}/server.crt\n  key_file: {0}/server.key\n", folder.path().display())),
        ("inline", inline),
        ("key inline", mixed),
        ("users without TLS", users.clone()),
        ("users", format!("{SERVER}{users}")),
        ("all suites", format!("{SERVER}  cipher_suites:\n{suites}")),
        ("some suites in the client's order", format!("{SERVER}  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]\n  prefer_server_cipher_suites: false\n")),
        ("all curves", format!("{SERVER}  curve_preferences: [CurveP256, CurveP384, CurveP521, X25519]\n")),
        ("one curve that rustls lacks", format!("{SERVER}  min_version: TLS13\n  curve_preferences:\n  - CurveP521\n")),
        ("no HTTP/2 and a suite that it forbids", format!("{SERVER}  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]\n  max_version: TLS12\nhttp_server_config:\n  http2: false\n")),
        ("client certificates", format!("{SERVER}  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n")),
        ("any client certificate", format!("{SERVER}  client_auth_type: RequireAnyClientCert\n")),
        ("its old name", format!("{SERVER}  client_auth_type: RequireClientCert\n")),
        ("without an authority", format!("{SERVER}  client_auth_type: VerifyClientCertIfGiven\n")),
        ("names of clients", format!("{SERVER}  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n  client_allowed_sans: [client.example]\n")),
        ("rate limit", "rate_limit:\n  interval: 1s\n  burst: 10\n".to_owned()),
        ("headers", "http_server_config:\n  headers:\n    X-Frame-Options: deny\n    X-Content-Type-Options: nosniff\n    X-XSS-Protection: \"1\"\n    Strict-Transport-Security: max-age=1\n    Content-Security-Policy: \"\"\n".to_owned()),
    ] {
        if let Err(error) = folder.load(&text) {
            panic!("{name}: {error}\n{text}");
        }
    }
}

#[test]
fn bad_files_are_bad_and_the_message_says_where() {
    let folder = Folder::new();
    let tls = |text: &str| format!("tls_server_config:\n{text}");
    let server = |text: &str| format!("{SERVER}{text}");
    for (text, expected) in [
        ("junk".to_owned(), "web.yml:1: "),
        ("tls_config:\n  cert_file: server.crt\n".to_owned(), "web.yml:1: unknown field `tls_config`"),
        (server("  cert_flie: x\n"), "web.yml:4: unknown field `cert_flie`"),
        (server("  cert_file: x\n"), "web.yml:4: duplicate"),
        (tls("  cert_file: \"\"\n  key_file: server.key\n"), "cert_file or cert is missing"),
        (tls("  cert: \"\"\n  key_file: server.key\n"), "cert_file or cert is missing"),
        (tls("  cert_file: server.crt\n  key_file: \"\"\n"), "key_file or key is missing"),
        (tls("  cert_file: server.crt\n"), "key_file or key is missing"),
        (tls("  client_auth_type: NoClientCert\n"), "cert_file or cert is missing"),
        (tls("  cert_file: no.crt\n  key_file: server.key\n"), "web.yml:2: cert_file: "),
        (tls("  cert_file: server.crt\n  key_file: no.key\n"), "web.yml:3: key_file: "),
        (tls("  cert_file: no.crt\n  key_file: no.key\n"), "No such file"),
        (tls("  cert_file: nothing.crt\n  key_file: server.key\n"), "no certificate in PEM"),
        (tls("  cert_file: server.crt\n  key_file: server.crt\n"), "no private key in PEM"),
        (tls("  cert_file: server.crt\n  key_file: client.key\n"), "cert_file: "),
        (tls("  cert_file: .\n  key_file: server.key\n"), "not a regular file"),
        (server("  client_ca_file: ca.crt\n"), "client_auth_type is missing"),
        (
            server("  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: no.crt\n"),
            "client_ca_file: ",
        ),
        (
            server("  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: nothing.crt\n"),
            "no certificate in PEM",
        ),
        (
            server("  client_auth_type: RequireAndVerifyClientCert\n  client_ca: junk\n"),
            "no certificate in PEM",
        ),
        (
            server("  client_auth_type: Sometimes\n"),
            "web.yml:4: client_auth_type: \"Sometimes\" is none of NoClientCert",
        ),
        (server("  client_allowed_sans: [a]\n"), "must be RequireAnyClientCert or"),
        (
            server("  client_auth_type: VerifyClientCertIfGiven\n  client_allowed_sans: [a]\n"),
            "must be RequireAnyClientCert or",
        ),
        (server("  cipher_suites: [TLS_OF_MINE]\n"), "\"TLS_OF_MINE\" is no known cipher suite"),
        (
            server("  cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA]\n  max_version: TLS12\n"),
            "HTTP/2 needs one of",
        ),
        (server("  curve_preferences: [CurveP257]\n"), "\"CurveP257\" is none of"),
        (server("  min_version: TLS111\n"), "web.yml:4: min_version: \"TLS111\" is none of"),
        (server("  max_version: TLS11\n"), "no version"),
        (
            "basic_auth_users:\n  john: doe\n".to_owned(),
            "web.yml:1: basic_auth_users: the password of \"john\" is not a bcrypt hash",
        ),
        (
            "http_server_config:\n  headers:\n    Content-Type: foo\n".to_owned(),
            "web.yml:2: headers: Content-Type cannot be set",
        ),
        (
            "http_server_config:\n  headers:\n    X-Frame-Options: maybe\n".to_owned(),
            "the value of X-Frame-Options is none of deny",
        ),
        (
            "http_server_config:\n  headers:\n    X-Content-Type-Options: sniff\n".to_owned(),
            "is none of nosniff",
        ),
        ("rate_limit:\n  interval: soon\n".to_owned(), "web.yml:2: "),
        (" ".repeat(2 << 20), "larger than 1 MiB"),
    ] {
        let error = folder.load(&text).err().unwrap_or_else(|| panic!("it is valid: {text}"));
        assert!(error.contains(expected), "{error}\n{text}");
        assert!(!error.contains("doe") && error.lines().count() == 1, "{error}");
    }
    let missing = ConfigFile::load(Path::new("/no/web.yml")).err().expect("it is not there").to_string();
    assert!(missing.starts_with("/no/web.yml: No such file"), "{missing}");
}

#[test]
fn each_kind_of_client_authentication_admits_whom_it_should() {
    let folder = Folder::new();
    let admitted = |text: &str| {
        let server = folder.serve(&format!("{SERVER}{text}"));
        [None, Some("client"), Some("stranger")]
            .map(|client| folder.get(server.address, client, "").is_ok_and(|answer| answer.contains(" 200 ")))
    };
    let with_ca = |kind: &str| format!("  client_auth_type: {kind}\n  client_ca_file: ca.crt\n");
    assert_eq!(admitted(""), [true, true, true]);
    assert_eq!(admitted("  client_auth_type: RequestClientCert\n"), [true, true, true]);
    assert_eq!(admitted("  client_auth_type: RequireAnyClientCert\n"), [false, true, true]);
    assert_eq!(admitted(&with_ca("VerifyClientCertIfGiven")), [true, true, false]);
    assert_eq!(admitted(&with_ca("RequireAndVerifyClientCert")), [false, true, false]);
    let sans =
        |names: &str| format!("{}  client_allowed_sans: [{names}]\n", with_ca("RequireAndVerifyClientCert"));
    assert_eq!(admitted(&sans("other.example, client.example")), [false, true, false]);
    assert_eq!(admitted(&sans("other.example")), [false, false, false]);
    assert_eq!(admitted(&sans("")), [false, false, false]);
}

#[test]
fn versions_are_those_of_the_file_and_plain_requests_get_nothing() {
    let folder = Folder::new();
    let server = folder.serve(&format!("{SERVER}  min_version: TLS13\n"));
    folder.get_by(&[&version::TLS13], server.address, None, "").expect("TLS 1.3 is served");
    folder.get_by(&[&version::TLS12], server.address, None, "").expect_err("TLS 1.2 is not");
    let server = folder.serve(&format!("{SERVER}  max_version: TLS12\n"));
    folder.get_by(&[&version::TLS12], server.address, None, "").expect("TLS 1.2 is served");
    folder.get_by(&[&version::TLS13], server.address, None, "").expect_err("TLS 1.3 is not");
    let mut stream = TcpStream::connect(server.address).expect("it listens");
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").expect("it reads");
    let mut answer = Vec::new();
    // Also a reset is no answer.
    let _end = stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/"), "{}", String::from_utf8_lossy(&answer));
}

/// Base64 of "ann:secret", "ann:wrong" and "bob:secret".
pub(super) const ANN: &str = "Authorization: Basic YW5uOnNlY3JldA==\r\n";
const WRONG: &str = "Authorization: Basic YW5uOndyb25n\r\n";
const BOB: &str = "Authorization: Basic Ym9iOnNlY3JldA==\r\n";

#[test]
fn users_need_their_password_on_every_page() {
    let folder = Folder::new();
    let server = folder.serve(&format!("basic_auth_users:\n  ann: {}\n", hash()));
    let script = super::page::asset("js");
    for page in [
        "/metrics",
        "/",
        "/?tab=exporter",
        &script,
        "/api/v1/events",
        "/api/v1/objects?kind=maps",
        "/api/v1/object?key=program/1",
        "/api/v1/snapshot",
        "/api/v1/status",
        "/api/v1/tables",
        "/-/healthy",
        "/-/ready",
        "/nothing",
        "/assets/nothing.js",
    ] {
        for headers in ["", WRONG, BOB, "Authorization: Bearer x\r\n"] {
            let (status, head, _) = get(server.address, page, headers);
            assert_eq!(status, 401, "{page} {headers}");
            assert!(head.contains("www-authenticate: basic"), "{head}");
        }
        // A stream of events has no end; its headers have.
        let (status, ..) = request(server.address, "HEAD", page, ANN);
        let is_nothing = page.contains("nothing") || page.ends_with("program/1");
        assert_eq!(status, if is_nothing { 404 } else { 200 }, "{page}");
    }
}

#[test]
fn headers_and_the_rate_limit_apply_to_every_response() {
    let folder = Folder::new();
    let server = folder.serve(
        "rate_limit:\n  interval: 1h\n  burst: 2\nhttp_server_config:\n  headers:\n    X-Frame-Options: deny\n",
    );
    let statuses = ["/-/healthy", "/nothing", "/-/healthy"].map(|page| {
        let (status, head, _) = get(server.address, page, "");
        assert!(head.contains("x-frame-options: deny"), "{head}");
        status
    });
    assert_eq!(statuses, [200, 404, 429]);
}

#[test]
fn changes_take_effect_unless_they_are_wrong_or_open_what_was_closed() {
    let folder = Folder::new();
    let users = |password: &str| {
        format!("{SERVER}basic_auth_users:\n  ann: {}\n", bcrypt::hash(password, 4).expect("a hash"))
    };
    let server = folder.serve(&users("other"));
    let status = || {
        let answer = folder.get(server.address, None, ANN).expect("TLS is on");
        answer.split(' ').nth(1).map(str::to_owned).expect("a status")
    };
    assert_eq!(status(), "401");
    folder.write("web.yml", &users("secret"));
    assert_eq!(status(), "200", "a new password");
    for wrong in
        ["basic_auth_users: [", SERVER, "", "tls_server_config:\n  cert_file: no.crt\n  key_file: no.key\n"]
    {
        folder.write("web.yml", wrong);
        assert_eq!(status(), "200", "{wrong:?} is not taken over");
        assert!(folder.get(server.address, None, "").expect("TLS is on").contains(" 401 "), "{wrong:?}");
    }
    folder.write("web.yml", &users("third"));
    assert_eq!(status(), "401", "the file is valid again");

    // A renewed certificate, by another authority.
    let renewed = Folder::new();
    folder.write("server.crt", &renewed.text("server.crt"));
    folder.get(server.address, None, "").expect("the key does not fit yet: the old certificate is used");
    folder.write("server.key", &renewed.text("server.key"));
    renewed.get(server.address, None, "").expect("the new certificate is used");
    folder.get(server.address, None, "").expect_err("the old one is not");
}

#[test]
fn half_a_file_opens_nothing_that_was_closed() {
    let folder = Folder::new();
    let clients = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n";
    let sans = "  client_allowed_sans: [client.example]\n";
    let versions = "  min_version: TLS13\n";
    let rate = "rate_limit:\n  interval: 1ns\n  burst: 9\n";
    let whole = format!("{SERVER}{clients}{sans}{versions}{rate}");
    let server = folder.serve(&whole);
    let is_kept = || {
        let by = |client, version: &'static _| folder.get_by(&[version], server.address, client, "");
        assert!(by(Some("client"), &version::TLS13).expect("it is admitted").contains(" 200 "));
        by(Some("stranger"), &version::TLS13).expect_err("nobody signed it");
        by(None, &version::TLS13).expect_err("it has no certificate");
        by(Some("client"), &version::TLS12).expect_err("it is too old");
    };
    is_kept();
    for half in [
        format!("{SERVER}{clients}{sans}{versions}"),
        format!("{SERVER}{clients}{sans}{rate}"),
        format!("{SERVER}{clients}{versions}{rate}"),
        format!("{SERVER}  client_auth_type: RequireAndVerifyClientCert\n{sans}{versions}{rate}"),
        format!(
            "{SERVER}  client_auth_type: VerifyClientCertIfGiven\n  client_ca_file: ca.crt\n{versions}{rate}"
        ),
        format!("{SERVER}{versions}{rate}"),
    ] {
        folder.write("web.yml", &half);
        is_kept();
    }
    // What is as strict is taken over.
    folder.write("web.yml", &whole.replace("client.example", "other.example"));
    folder.get(server.address, Some("client"), "").expect_err("its name is not in the list any more");
}

#[test]
fn a_reload_keeps_verified_passwords_and_the_tokens_of_the_rate_limit() {
    let folder = Folder::new();
    let dear = bcrypt::hash("secret", 11).expect("a hash");
    let text = format!("basic_auth_users:\n  ann: {dear}\nrate_limit:\n  interval: 1h\n  burst: 3\n");
    let server = folder.serve(&text);
    let timed = || {
        let began = std::time::Instant::now();
        (get(server.address, "/-/healthy", ANN).0, began.elapsed())
    };
    let (status, first) = timed();
    assert_eq!(status, 200);
    folder.write("web.yml", &format!("{text}http_server_config:\n  headers:\n    X-Frame-Options: deny\n"));
    let (status, second) = timed();
    assert!(status == 200 && second * 3 < first, "{first:?}, then {second:?}");
    assert_eq!([(); 2].map(|()| timed().0), [200, 429], "the bucket is not full again");

    let cheap = hash();
    let config =
        folder.load(&format!("basic_auth_users:\n  ann: {dear}\n  bob: {cheap}\n")).expect("it is valid");
    let warnings = config.warnings();
    assert!(warnings.len() == 1 && warnings[0].contains("costs from 4 to 11"), "{warnings:?}");
}

#[test]
fn a_connection_from_before_tls_is_answered_no_more() {
    let folder = Folder::new();
    let server = folder.serve("");
    let mut stream = TcpStream::connect(server.address).expect("it listens");
    let mut ask = || {
        stream.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it reads");
        let mut answer = vec![0; 12];
        stream.read_exact(&mut answer).expect("it answers");
        String::from_utf8(answer).expect("text")
    };
    assert_eq!(ask(), "HTTP/1.1 200");
    // The rest of the first answer is read with the second one.
    folder.write("web.yml", SERVER);
    stream.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers, and closes");
    assert!(answer.contains("HTTP/1.1 421") && answer.contains("connection: close"), "{answer}");
}

#[test]
fn silent_clients_do_not_delay_the_end() {
    let folder = Folder::new();
    let server = folder.serve(SERVER);
    // Whoever came first is accepted once the one after it has its answer.
    let _silent = TcpStream::connect(server.address).expect("it listens");
    folder.get(server.address, None, "").expect("it answers");
    let began = std::time::Instant::now();
    server.stop();
    assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
}
