//! The subject alternative names of a certificate. Entry point: [`names`].
//!
//! Source: RFC 5280, sections 4.1 and 4.2.1.6. The certificate may be anybody's: what is malformed has no names.

use std::net::{Ipv4Addr, Ipv6Addr};

/// DER tags.
const SEQUENCE: u8 = 0x30;
const OBJECT: u8 = 0x06;
const OCTETS: u8 = 0x04;
/// `extensions` of a `TBSCertificate`.
const EXTENSIONS: u8 = 0xa3;
/// Kinds of a `GeneralName`.
const EMAIL: u8 = 0x81;
const DNS: u8 = 0x82;
const URI: u8 = 0x86;
const IP: u8 = 0x87;

/// `id-ce-subjectAltName`, 2.5.29.17.
const SUBJECT_ALT_NAME: [u8; 3] = [0x55, 0x1d, 0x11];

/// Returns the DNS names, e-mail and IP addresses and URIs of a certificate in DER, as text.
pub(super) fn names(certificate: &[u8]) -> Vec<String> {
    find(certificate).unwrap_or_default()
}

fn find(certificate: &[u8]) -> Option<Vec<String>> {
    let (tag, certificate, _) = element(certificate)?;
    let (inner, signed, _) = element(certificate)?;
    if (tag, inner) != (SEQUENCE, SEQUENCE) {
        return None;
    }
    let extensions = elements(signed).find(|&(tag, _)| tag == EXTENSIONS)?.1;
    let (_, extensions, _) = element(extensions)?;
    let names = elements(extensions).find_map(|(_, extension)| {
        let mut parts = elements(extension);
        if parts.next()? != (OBJECT, &SUBJECT_ALT_NAME[..]) {
            return None;
        }
        // `critical` may come before the value.
        parts.find(|&(tag, _)| tag == OCTETS).map(|(_, value)| value)
    })?;
    let (_, names, _) = element(names)?;
    Some(elements(names).filter_map(|(tag, name)| text(tag, name)).collect())
}

fn text(tag: u8, name: &[u8]) -> Option<String> {
    match tag {
        EMAIL | DNS | URI => Some(std::str::from_utf8(name).ok()?.to_owned()),
        IP => match name.len() {
            4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(name).ok()?).to_string()),
            16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(name).ok()?).to_string()),
            _ => None,
        },
        _ => None,
    }
}

/// Returns the elements in a constructed value, up to what is malformed.
fn elements(mut bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (tag, value, rest) = element(bytes)?;
        bytes = rest;
        Some((tag, value))
    })
}

/// Returns tag and value of the first element, and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let length = match first {
        0..=0x7f => usize::from(first),
        0x81..=0x84 => {
            let (length, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
            rest = after;
            length.iter().fold(0, |length, &byte| length << 8 | usize::from(byte))
        }
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(length)?;
    Some((tag, value, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    #[test]
    fn names_of_every_kind_are_found() {
        let mut params =
            CertificateParams::new(["a.example".to_owned(), "*.b.example".to_owned()]).expect("names");
        let ip = |text: &str| SanType::IpAddress(text.parse().expect("an address"));
        params.subject_alt_names.extend([
            ip("192.0.2.1"),
            ip("2001:db8::1"),
            SanType::Rfc822Name("c@example".try_into().expect("ASCII")),
            SanType::URI("spiffe://d/e".try_into().expect("ASCII")),
        ]);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        assert_eq!(
            names(certificate.der()),
            ["a.example", "*.b.example", "192.0.2.1", "2001:db8::1", "c@example", "spiffe://d/e"]
        );
        let without = CertificateParams::default().self_signed(&key).expect("a certificate");
        assert_eq!(names(without.der()), [""; 0]);
        for end in 0..certificate.der().len() {
            let _cut = names(&certificate.der()[..end]);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _any = names(&bytes);
        }
    }
}
