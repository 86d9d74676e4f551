//! TLS to a receiver, with files that may be renewed meanwhile. Entry point: [`TlsClient`].

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;
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
        "found no certificates of the system to trust{0}; name a file with them in OTEL_EXPORTER_OTLP_CERTIFICATE"
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
        Ok(Box::new(connector.connect(self.name.clone(), stream).await?))
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
    let provider = Arc::new(rustls::crypto::ring::default_provider());
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
