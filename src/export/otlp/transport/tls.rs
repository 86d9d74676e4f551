//! TLS to a receiver, with files that may be renewed meanwhile. Entry point: [`TlsClient`].

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tracing::{info, warn};

use super::stream::Stream;
use crate::error_chain::error_chain;
use crate::export::otlp::settings::{Protocol, TlsFiles};

/// The longest file that is read, in bytes: the certificates of a system have 300 KB.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Files for TLS that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file cannot be read.
    #[error("failed to read {}", path.display())]
    Read {
        /// The path of the file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The file has something else.
    #[error("{} has no {expected} in PEM", path.display())]
    Content {
        /// The path of the file.
        path: PathBuf,
        /// What it should have.
        expected: &'static str,
    },
    /// There is a certificate without a key, or a key without a certificate.
    #[error("a client certificate needs its key, and a key its certificate: only {} is given", path.display())]
    Half {
        /// The path of the file that is given.
        path: PathBuf,
    },
    /// The key is not that of the certificate, or of a kind that is not supported.
    #[error("failed to use the certificate in {} with the key in {}", certificate.display(), key.display())]
    Pair {
        /// The path of the certificate.
        certificate: PathBuf,
        /// The path of the key.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The system has no certificates to trust.
    #[error(
        "found no certificates of the system to trust{0}; name a file with them in SSL_CERT_FILE, or for a push in OTEL_EXPORTER_OTLP_CERTIFICATE"
    )]
    NoAuthorities(String),
    /// The name of the receiver cannot be in a certificate.
    #[error("{0} is neither an address nor a DNS name, so no certificate can be for it")]
    Name(String, #[source] InvalidDnsNameError),
    /// The library refuses its settings.
    #[error("failed to set up TLS")]
    Library(#[from] rustls::Error),
}

/// What changes if a file does: device, inode, size, and times of the last changes of content and attributes. `None` if the file cannot
/// be found.
type FileVersion = Option<(u64, u64, u64, (i64, i64), (i64, i64))>;

/// Settings of TLS for connections to one receiver.
pub(super) struct TlsClient {
    files: TlsFiles,
    /// Versions of the files when they were last read.
    versions: [FileVersion; 3],
    /// The certificates of the system, if these are trusted.
    system: Option<Arc<RootCertStore>>,
    /// The name or address that the certificate of the receiver has to be for.
    name: ServerName<'static>,
    protocol: Protocol,
    config: Arc<ClientConfig>,
}

/// Files that changed.
pub(super) struct Renewed {
    versions: [FileVersion; 3],
    config: Result<ClientConfig, TlsError>,
}

impl TlsClient {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be read or used, or the system has no certificates to trust.
    pub(super) fn new(host: &str, files: &TlsFiles, protocol: Protocol) -> Result<Self, TlsError> {
        // The zone of an address means something on this host only.
        let name = host.split_once('%').map_or(host, |(address, _)| address).to_owned();
        let name = ServerName::try_from(name).map_err(|error| TlsError::Name(host.to_owned(), error))?;
        let versions = versions(files);
        let system = match files.authorities {
            Some(_) => None,
            None => Some(Arc::new(system_authorities()?)),
        };
        let config = Arc::new(config(files, system.clone(), protocol)?);
        Ok(Self { files: files.clone(), versions, system, name, protocol, config })
    }

    /// Returns TLS over HTTP/1.1 with a server whose certificate is not verified. Only a [`Fetcher`](super::Fetcher) may use it.
    ///
    /// # Errors
    ///
    /// Fails if the library refuses its settings.
    pub(super) fn unverified() -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)));
        Ok(Self {
            files: TlsFiles::default(),
            versions: [None; 3],
            system: None,
            name: ServerName::try_from("localhost").expect("it is a name"),
            protocol: Protocol::HttpProtobuf,
            config: Arc::new(builder.with_no_client_auth()),
        })
    }

    /// Returns what reads the files again if one of them changed, which blocks; `None` if there are no files.
    pub(super) fn renewal(&self) -> Option<impl FnOnce() -> Option<Renewed> + Send + 'static> {
        let (files, system, protocol) = (self.files.clone(), self.system.clone(), self.protocol);
        let before = self.versions;
        (files != TlsFiles::default()).then_some(move || {
            let versions = versions(&files);
            (versions != before).then(|| Renewed { versions, config: config(&files, system, protocol) })
        })
    }

    /// Uses files that changed. Returns true if new connections differ from earlier ones. New files that cannot be used are one
    /// warning, and the earlier ones stay in use.
    pub(super) fn renew(&mut self, Renewed { versions, config }: Renewed) -> bool {
        self.versions = versions;
        match config {
            Ok(config) => {
                self.config = Arc::new(config);
                info!("the files for TLS changed; a new connection uses them");
                true
            }
            Err(error) => {
                warn!("the files for TLS changed: {}; the earlier ones stay in use", error_chain(&error));
                false
            }
        }
    }

    /// Starts TLS on a stream.
    ///
    /// # Errors
    ///
    /// Fails if the receiver is not trusted, does not trust the client, or closes the connection.
    pub(super) async fn connect(&self, stream: Stream) -> io::Result<Stream> {
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let stream = connector.connect(self.name.clone(), stream).await?;
        Ok(Box::new(Session { stream, failure: None }))
    }
}

/// A session of TLS. A server that ends it says why in an alert. It may do so after the client takes the session to be open, so that writing
/// fails while the alert is still unread: then the alert is the error.
struct Session {
    stream: TlsStream<Stream>,
    /// Why writing failed. It is the error if there is no alert.
    failure: Option<io::Error>,
}

impl Session {
    /// Writes; once that fails, reads until the alert or the end. A socket whose peer is gone is ready to be read, but the runtime may
    /// not have heard of it yet, so that reading has to wait.
    fn write_or_alert<T>(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut TlsStream<Stream>>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.failure.is_none() {
            match write(Pin::new(&mut self.stream), context) {
                Poll::Ready(Err(error)) => self.failure = Some(error),
                written => return written,
            }
        }
        let ended = loop {
            let mut bytes = [0; 256];
            let mut buffer = ReadBuf::new(&mut bytes);
            // Nobody reads what may come before the alert: HTTP ends with the failed write.
            match ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                ended => break ended,
            }
        };
        let alert = ended.err().filter(|error| tls_error(error).is_some());
        let failure = self.failure.take();
        Poll::Ready(Err(alert.or(failure).expect("writing failed")))
    }
}

impl AsyncRead for Session {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Session {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write_or_alert(context, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write_or_alert(context, |stream, context| stream.poll_write_vectored(context, parts))
    }

    /// If this were false, HTTP would copy each request behind its head.
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write_or_alert(context, TlsStream::poll_flush)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Returns the error of TLS that an error of a session is, if it is one.
pub(super) fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
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

fn config(
    files: &TlsFiles,
    system: Option<Arc<RootCertStore>>,
    protocol: Protocol,
) -> Result<ClientConfig, TlsError> {
    let authorities = match (&files.authorities, system) {
        (Some(path), _) => Arc::new(authorities(path)?),
        (None, Some(system)) => system,
        (None, None) => Arc::new(system_authorities()?),
    };
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(authorities);
    let mut config = match (&files.certificate, &files.key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(certificate), Some(key)) => {
            builder.with_client_auth_cert(certificates(certificate)?, private_key(key)?).map_err(
                |source| TlsError::Pair { certificate: certificate.clone(), key: key.clone(), source },
            )?
        }
        (Some(path), None) | (None, Some(path)) => return Err(TlsError::Half { path: path.clone() }),
    };
    config.alpn_protocols = vec![match protocol {
        Protocol::Grpc => b"h2".to_vec(),
        Protocol::HttpProtobuf => b"http/1.1".to_vec(),
    }];
    Ok(config)
}

/// Returns the certificates that the system trusts, or those of `SSL_CERT_FILE` and `SSL_CERT_DIR`.
fn system_authorities() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    let (added, _) = store.add_parsable_certificates(found.certs);
    if added == 0 {
        let error = found.errors.first().map(|error| format!(": {}", error_chain(error)));
        return Err(TlsError::NoAuthorities(error.unwrap_or_default()));
    }
    Ok(store)
}

/// Reads certificates to trust. Some of a bundle may be of kinds that cannot be used.
fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    let (added, _) = store.add_parsable_certificates(certificates(path)?);
    if added == 0 {
        return Err(TlsError::Content { path: path.to_owned(), expected: "certificate that can be trusted" });
    }
    Ok(store)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(path)?;
    let found: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(TlsError::Content { path: path.to_owned(), expected: "certificate" }),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let key = PrivateKeyDer::from_pem_slice(&read(path)?);
    key.map_err(|_| TlsError::Content { path: path.to_owned(), expected: "private key without a password" })
}

/// Reads a regular file.
fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::Read { path: path.to_owned(), source };
    // Opening a pipe would block.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(failed(io::Error::other("it is not a regular file")));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(failed(io::Error::other(format!("it has more than {MAX_FILE_BYTES} bytes"))));
    }
    Ok(bytes)
}

fn versions(files: &TlsFiles) -> [FileVersion; 3] {
    [&files.authorities, &files.certificate, &files.key].map(|path| {
        let file = fs::metadata(path.as_ref()?).ok()?;
        let (changed, altered) = ((file.mtime(), file.mtime_nsec()), (file.ctime(), file.ctime_nsec()));
        Some((file.dev(), file.ino(), file.size(), changed, altered))
    })
}

#[cfg(test)]
mod tests {
    use rustls::ServerConfig;
    use rustls::server::WebPkiClientVerifier;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::UnixStream;
    use tokio_rustls::TlsAcceptor;

    use super::super::wants_certificate;
    use super::*;

    /// A socket of which the runtime hears late that it can be read, once writing has failed.
    struct Late {
        socket: UnixStream,
        reads_late: bool,
    }

    impl AsyncRead for Late {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if std::mem::take(&mut self.reads_late) {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            Pin::new(&mut self.socket).poll_read(context, buffer)
        }
    }

    impl AsyncWrite for Late {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let written = Pin::new(&mut self.socket).poll_write(context, bytes);
            self.reads_late |= matches!(written, Poll::Ready(Err(_)));
            written
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.socket).poll_shutdown(context)
        }
    }

    /// Returns a session that a server ends for want of a certificate, or without a word if `trusts_anybody`.
    async fn ended_session(trusts_anybody: bool) -> Stream {
        let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let mut roots = RootCertStore::empty();
        roots.add(issued.cert.der().clone()).expect("it can be trusted");
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let verifier = if trusts_anybody { verifier.allow_unauthenticated() } else { verifier };
        let key = PrivateKeyDer::from_pem_slice(issued.signing_key.serialize_pem().as_bytes());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has them")
            .with_client_cert_verifier(verifier.build().expect("it trusts one"))
            .with_single_cert(vec![issued.cert.der().clone()], key.expect("a key"))
            .expect("they belong together");
        let (client, server) = UnixStream::pair().expect("sockets");
        let ended = tokio::spawn(TlsAcceptor::from(Arc::new(config)).accept(server));
        let client = Late { socket: client, reads_late: false };
        let client = TlsClient::unverified().expect("TLS").connect(Box::new(client)).await;
        let session = client.expect("the client takes the session to be open");
        assert_eq!(ended.await.expect("it ends").is_ok(), trusts_anybody);
        session
    }

    #[tokio::test]
    async fn an_alert_is_the_error_also_if_writing_fails_before_it_can_be_read() {
        let mut session = ended_session(false).await;
        assert!(session.is_write_vectored(), "no request is copied");
        let error = session.write_all(b"GET").await.expect_err("the socket is closed");
        assert!(wants_certificate(&error), "{error}");
    }

    #[tokio::test]
    async fn without_an_alert_the_error_is_that_of_writing() {
        let mut session = ended_session(true).await;
        for _ in 0..2 {
            let error = session.write_all(b"GET").await.expect_err("the socket is closed");
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        }
    }
}
