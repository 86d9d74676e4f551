//! TLS by `tls_server_config`. Entry point: [`server`].
//!
//! Words are those of Go's `crypto/tls`. What rustls does not have although Go does, such as CBC suites, is left out with a warning.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    CryptoProvider, SupportedKxGroup, ring, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, CipherSuite, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    ServerConfig, SignatureScheme, SupportedCipherSuite, SupportedProtocolVersion, version,
};
use tokio_rustls::TlsAcceptor;

use super::section::{Mistake, TlsSection};
use super::{read, sans};

/// Go's names of suites of TLS 1.2, and ours where rustls has them.
const SUITES: [(&str, Option<CipherSuite>); 14] = [
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", Some(CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", Some(CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384)),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", Some(CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256)),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", Some(CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384)),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        Some(CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        Some(CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
    ),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", None),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", None),
    ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", None),
    ("TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", None),
    ("TLS_RSA_WITH_AES_128_CBC_SHA", None),
    ("TLS_RSA_WITH_AES_256_CBC_SHA", None),
    ("TLS_RSA_WITH_AES_128_GCM_SHA256", None),
    ("TLS_RSA_WITH_AES_256_GCM_SHA384", None),
];

/// Suites of TLS 1.3, which are always on.
const SUITES_13: [&str; 3] =
    ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];

/// HTTP/2 needs one of these in TLS 1.2 (RFC 7540, section 9.2.2).
const HTTP2_SUITES: [&str; 2] =
    ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"];

/// A server of TLS connections.
pub(in crate::web) struct Server {
    pub(in crate::web) acceptor: TlsAcceptor,
    auth: ClientAuth,
    min_version: u8,
    made_of: Parts,
}

/// By which a server is known to have changed. A private key has not, if its certificate has not.
#[derive(PartialEq, Eq)]
struct Parts {
    section: TlsSection,
    http2: bool,
    chain: Vec<CertificateDer<'static>>,
    roots: Option<Vec<CertificateDer<'static>>>,
}

impl Server {
    /// Returns whether every client has a certificate that is verified.
    pub(super) fn verifies_clients(&self) -> bool {
        self.auth == ClientAuth::RequireAndVerify
    }

    /// Returns whether it is made of the same parts as another one.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.made_of == other.made_of
    }

    /// Returns what of the protection of another one it lacks.
    pub(super) fn lacks(&self, before: &Self) -> Option<&'static str> {
        let (was, is) = (&before.made_of, &self.made_of);
        let lost = |was: &Option<Vec<String>>, is: &Option<Vec<String>>| {
            let has_names =
                |names: &Option<Vec<String>>| names.as_ref().is_some_and(|names| !names.is_empty());
            has_names(was) && !has_names(is)
        };
        let checks = [
            (before.auth > self.auth, "the verification of clients"),
            (was.roots.is_some() && is.roots.is_none(), "the authority of clients"),
            (
                was.section.client_allowed_sans.is_some() && is.section.client_allowed_sans.is_none(),
                "client_allowed_sans",
            ),
            (before.min_version > self.min_version, "min_version"),
            (lost(&was.section.cipher_suites, &is.section.cipher_suites), "cipher_suites"),
            (lost(&was.section.curve_preferences, &is.section.curve_preferences), "curve_preferences"),
        ];
        checks.into_iter().find(|(is_lost, _)| *is_lost).map(|(_, what)| what)
    }
}

/// How clients prove who they are, from nothing to the most.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum ClientAuth {
    None,
    Request,
    VerifyIfGiven,
    RequireAny,
    RequireAndVerify,
}

impl ClientAuth {
    fn parse(word: &str) -> Result<Self, Mistake> {
        Ok(match word {
            "" | "NoClientCert" => Self::None,
            "RequestClientCert" => Self::Request,
            // The second word is an old one for the same.
            "RequireAnyClientCert" | "RequireClientCert" => Self::RequireAny,
            "VerifyClientCertIfGiven" => Self::VerifyIfGiven,
            "RequireAndVerifyClientCert" => Self::RequireAndVerify,
            _ => {
                let problem = format!(
                    "{word:?} is none of NoClientCert, RequestClientCert, RequireAnyClientCert, \
                     VerifyClientCertIfGiven, RequireAndVerifyClientCert"
                );
                return Err(Mistake::new("client_auth_type", problem));
            }
        })
    }
}

/// Returns the server that a section describes; `None` if it configures no TLS. Files are already paths from here.
pub(super) fn server(
    section: &TlsSection,
    http2: bool,
    warnings: &mut Vec<String>,
) -> Result<Option<Server>, Mistake> {
    let text = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    let has_cert = section.cert_file.is_some() || text(&section.cert);
    let has_key = section.key_file.is_some() || text(&section.key);
    let has_ca = section.client_ca_file.is_some() || text(&section.client_ca);
    // Words are checked also where TLS is off.
    let versions = versions(section, warnings)?;
    let provider = provider(section, http2, &versions, warnings)?;
    if !(has_cert || has_key || has_ca || text(&section.client_auth_type)) {
        return Ok(None);
    }
    if !has_cert {
        return Err(Mistake::new("tls_server_config", "cert_file or cert is missing"));
    }
    if !has_key {
        return Err(Mistake::new("tls_server_config", "key_file or key is missing"));
    }
    let chain = certificates("cert_file", section.cert_file.as_deref(), section.cert.as_deref())?;
    let key = pem("key_file", section.key_file.as_deref(), section.key.as_deref())?;
    let key = PrivateKeyDer::from_pem_slice(&key)
        .map_err(|_| Mistake::new("key_file", "no private key in PEM that is not encrypted is in it"))?;
    let auth = ClientAuth::parse(section.client_auth_type.as_deref().unwrap_or_default())?;
    if has_ca && auth == ClientAuth::None {
        let problem = "client_auth_type is missing, so that no client certificate would be verified";
        return Err(Mistake::new("client_ca_file", problem));
    }
    if section.client_allowed_sans.is_some()
        && !matches!(auth, ClientAuth::RequireAny | ClientAuth::RequireAndVerify)
    {
        let problem = "client_auth_type must be RequireAnyClientCert or RequireAndVerifyClientCert";
        return Err(Mistake::new("client_allowed_sans", problem));
    }
    let roots = has_ca
        .then(|| {
            certificates("client_ca_file", section.client_ca_file.as_deref(), section.client_ca.as_deref())
        })
        .transpose()?;
    let min_version = if versions.contains(&&version::TLS12) { 12 } else { 13 };
    let made_of = Parts { section: section.clone(), http2, chain: chain.clone(), roots: roots.clone() };
    let provider = Arc::new(provider);
    let verifier = verifier(auth, roots, section.client_allowed_sans.clone(), &provider)?;
    let failed = |key| move |error: Error| Mistake::new(key, error.to_string());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .map_err(failed("tls_server_config"))?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(failed("cert_file"))?;
    config.ignore_client_order = section.prefer_server_cipher_suites.unwrap_or(true);
    config.alpn_protocols = if http2 { vec![b"h2".to_vec()] } else { Vec::new() };
    config.alpn_protocols.push(b"http/1.1".to_vec());
    Ok(Some(Server { acceptor: Arc::new(config).into(), auth, min_version, made_of }))
}

/// Returns the bytes of a file, or those given in its place.
fn pem(key: &'static str, file: Option<&Path>, text: Option<&str>) -> Result<Vec<u8>, Mistake> {
    match file {
        Some(file) => read(file).map_err(|error| Mistake::new(key, format!("{}: {error}", file.display()))),
        None => Ok(text.unwrap_or_default().as_bytes().to_vec()),
    }
}

fn certificates(
    key: &'static str,
    file: Option<&Path>,
    text: Option<&str>,
) -> Result<Vec<CertificateDer<'static>>, Mistake> {
    let pem = pem(key, file, text)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(Mistake::new(key, "no certificate in PEM is in it")),
    }
}

fn versions(
    section: &TlsSection,
    warnings: &mut Vec<String>,
) -> Result<Vec<&'static SupportedProtocolVersion>, Mistake> {
    let number = |key: &'static str, word: &Option<String>, default: u8| match word.as_deref() {
        None | Some("") => Ok(default),
        Some("TLS10") => Ok(10),
        Some("TLS11") => Ok(11),
        Some("TLS12") => Ok(12),
        Some("TLS13") => Ok(13),
        Some(word) => Err(Mistake::new(key, format!("{word:?} is none of TLS12, TLS13"))),
    };
    let (min, max) =
        (number("min_version", &section.min_version, 12)?, number("max_version", &section.max_version, 13)?);
    if min < 12 {
        warnings.push("min_version: TLS 1.0 and 1.1 are not supported; TLS12 is used".to_owned());
    }
    let known = [(12, &version::TLS12), (13, &version::TLS13)];
    let versions: Vec<_> = known
        .into_iter()
        .filter(|(number, _)| (min..=max).contains(number))
        .map(|(_, version)| version)
        .collect();
    if versions.is_empty() {
        return Err(Mistake::new("max_version", "no version from TLS12 to TLS13 is left"));
    }
    Ok(versions)
}

fn provider(
    section: &TlsSection,
    http2: bool,
    versions: &[&SupportedProtocolVersion],
    warnings: &mut Vec<String>,
) -> Result<CryptoProvider, Mistake> {
    let mut provider = ring::default_provider();
    let names = section.cipher_suites.as_deref().unwrap_or_default();
    if !names.is_empty() {
        provider.cipher_suites = suites(names, http2, versions, warnings)?;
    }
    let names = section.curve_preferences.as_deref().unwrap_or_default();
    if !names.is_empty() {
        provider.kx_groups = curves(names, warnings)?;
    }
    Ok(provider)
}

fn suites(
    names: &[String],
    http2: bool,
    versions: &[&SupportedProtocolVersion],
    warnings: &mut Vec<String>,
) -> Result<Vec<SupportedCipherSuite>, Mistake> {
    let mut suites: Vec<SupportedCipherSuite> =
        ring::ALL_CIPHER_SUITES.iter().copied().filter(|suite| suite.tls13().is_some()).collect();
    let has_12 = versions.contains(&&version::TLS12);
    let mut left = !has_12 || versions.contains(&&version::TLS13);
    for name in names {
        if SUITES_13.contains(&&**name) {
            continue;
        }
        let Some((_, suite)) = SUITES.iter().find(|(known, _)| known == name) else {
            return Err(Mistake::new("cipher_suites", format!("{name:?} is no known cipher suite")));
        };
        match suite.and_then(|suite| ring::ALL_CIPHER_SUITES.iter().find(|known| known.suite() == suite)) {
            Some(suite) => {
                suites.push(*suite);
                left = true;
            }
            None => warnings.push(format!("cipher_suites: {name} is not supported and left out")),
        }
    }
    if http2 && has_12 && !names.iter().any(|name| HTTP2_SUITES.contains(&&**name)) {
        let problem = format!("HTTP/2 needs one of {}; add it, or set http2: false", HTTP2_SUITES.join(", "));
        return Err(Mistake::new("cipher_suites", problem));
    }
    if !left {
        return Err(Mistake::new("cipher_suites", "none of them is supported"));
    }
    Ok(suites)
}

fn curves(
    names: &[String],
    warnings: &mut Vec<String>,
) -> Result<Vec<&'static dyn SupportedKxGroup>, Mistake> {
    let mut groups = Vec::new();
    for name in names {
        match &**name {
            "X25519" => groups.push(ring::kx_group::X25519),
            "CurveP256" => groups.push(ring::kx_group::SECP256R1),
            "CurveP384" => groups.push(ring::kx_group::SECP384R1),
            "CurveP521" => {
                warnings.push("curve_preferences: CurveP521 is not supported and left out".to_owned());
            }
            _ => {
                let problem = format!("{name:?} is none of X25519, CurveP256, CurveP384, CurveP521");
                return Err(Mistake::new("curve_preferences", problem));
            }
        }
    }
    if groups.is_empty() {
        warnings.push("curve_preferences: CurveP384, the strongest that is supported, is used".to_owned());
        groups.push(ring::kx_group::SECP384R1);
    }
    Ok(groups)
}

fn verifier(
    auth: ClientAuth,
    roots: Option<Vec<CertificateDer<'static>>>,
    sans: Option<Vec<String>>,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, Mistake> {
    let trust = match auth {
        ClientAuth::None => return Ok(None),
        ClientAuth::Request | ClientAuth::RequireAny => Trust::Anybody,
        ClientAuth::VerifyIfGiven | ClientAuth::RequireAndVerify => {
            let mut store = RootCertStore::empty();
            match roots {
                Some(roots) => {
                    for root in roots {
                        store.add(root).map_err(|error| Mistake::new("client_ca_file", error.to_string()))?;
                    }
                }
                // As Go: the host's own, of which there may be none.
                None => {
                    store.add_parsable_certificates(NATIVE.iter().cloned());
                }
            }
            if store.is_empty() {
                Trust::Nobody
            } else {
                let builder = WebPkiClientVerifier::builder_with_provider(store.into(), Arc::clone(provider));
                let built =
                    builder.build().map_err(|error| Mistake::new("client_ca_file", error.to_string()))?;
                Trust::Issuers(built)
            }
        }
    };
    let mandatory = matches!(auth, ClientAuth::RequireAny | ClientAuth::RequireAndVerify);
    Ok(Some(Arc::new(Verifier { trust, mandatory, sans, provider: Arc::clone(provider) })))
}

/// Whose certificates are accepted.
#[derive(Debug)]
enum Trust {
    Anybody,
    Nobody,
    Issuers(Arc<dyn ClientCertVerifier>),
}

/// The certificates that the host trusts, read once: later, its files may be out of reach.
static NATIVE: LazyLock<Vec<CertificateDer<'static>>> =
    LazyLock::new(|| rustls_native_certs::load_native_certs().certs);

/// Verifies client certificates as far as the policy demands.
#[derive(Debug)]
struct Verifier {
    trust: Trust,
    mandatory: bool,
    /// Names of which the certificate must have one.
    sans: Option<Vec<String>>,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        match &self.trust {
            Trust::Issuers(verifier) => verifier.root_hint_subjects(),
            Trust::Anybody | Trust::Nobody => &[],
        }
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = match &self.trust {
            Trust::Issuers(verifier) => verifier.verify_client_cert(certificate, intermediates, now)?,
            Trust::Anybody => ClientCertVerified::assertion(),
            Trust::Nobody => return Err(CertificateError::UnknownIssuer.into()),
        };
        match &self.sans {
            Some(sans) if !sans::names(certificate).iter().any(|name| sans.contains(name)) => {
                Err(CertificateError::ApplicationVerificationFailure.into())
            }
            _ => Ok(verified),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
