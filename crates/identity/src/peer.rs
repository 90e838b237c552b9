//! Who the peer is: the names in the certificate that it showed, for the access log, for rules, and for
//! the header that tells a service who called.
//!
//! The handshake has verified the certificate before; here it is only read. Read it once a connection.

use std::fmt::Write as _;

use rustls_pki_types::CertificateDer;
use x509_parser::{
    certificate::X509Certificate,
    extensions::GeneralName,
    objects::{oid_registry, oid2abbrev},
    x509::X509Name,
};

/// The names in a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The DNS names.
    pub dns: Vec<String>,
    /// The addresses.
    pub addresses: Vec<String>,
    /// The URIs; a SPIFFE id is one.
    pub uri: Vec<String>,
    /// The distinguished name of the subject.
    pub subject: String,
    /// The common name of the subject.
    pub common_name: Option<String>,
    /// The SHA-256 digest of the certificate in hexadecimal.
    pub fingerprint: String,
}

/// Reads the names; `None` if this is no certificate.
pub fn names(certificate: &CertificateDer<'_>) -> Option<Names> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(of(&parsed, certificate))
}

pub(crate) fn of(cert: &X509Certificate<'_>, der: &CertificateDer<'_>) -> Names {
    let (mut dns, mut addresses, mut uri) = (Vec::new(), Vec::new(), Vec::new());
    if let Ok(Some(alternative)) = cert.subject_alternative_name() {
        for name in &alternative.value.general_names {
            match name {
                GeneralName::DNSName(text) => dns.push((*text).to_owned()),
                GeneralName::URI(text) => uri.push((*text).to_owned()),
                GeneralName::IPAddress(bytes) => addresses.extend(address(bytes)),
                _ => {}
            }
        }
    }
    Names {
        dns,
        addresses,
        uri,
        subject: distinguished(cert.subject()),
        common_name: cert
            .subject()
            .iter_common_name()
            .next()
            .and_then(|name| name.as_str().ok())
            .map(str::to_owned),
        fingerprint: fingerprint(der),
    }
}

/// A distinguished name: `CN=one, O=Two`, in the order of the certificate. What a value holds of the signs between them
/// is escaped (RFC 4514 section 2.4), so that two names are never one text.
fn distinguished(name: &X509Name<'_>) -> String {
    let mut text = String::new();
    for rdn in name.iter_rdn() {
        for (at, attribute) in rdn.iter().enumerate() {
            if !text.is_empty() {
                text.push_str(if at == 0 { ", " } else { " + " });
            }
            match oid2abbrev(attribute.attr_type(), oid_registry()) {
                Ok(kind) => text.push_str(kind),
                Err(_) => text.push_str(&attribute.attr_type().to_id_string()),
            }
            text.push('=');
            match attribute.as_str() {
                Ok(value) => escape(value, &mut text),
                // What is no text is told by its bytes, which no text begins like.
                Err(_) => {
                    text.push('#');
                    for byte in attribute.as_slice() {
                        // Writing to a string cannot fail.
                        let _ = write!(text, "{byte:02x}");
                    }
                }
            }
        }
    }
    text
}

fn escape(value: &str, text: &mut String) {
    let last = value.chars().count().saturating_sub(1);
    for (at, sign) in value.chars().enumerate() {
        match sign {
            '\0' => text.push_str("\\00"),
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' | '=' => text.extend(['\\', sign]),
            '#' if at == 0 => text.push_str("\\#"),
            ' ' if at == 0 || at == last => text.push_str("\\ "),
            sign => text.push(sign),
        }
    }
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::IpAddr::from(four).to_string());
    }
    let sixteen = <[u8; 16]>::try_from(bytes).ok()?;
    Some(std::net::IpAddr::from(sixteen).to_string())
}

/// The SHA-256 digest in hexadecimal.
fn fingerprint(der: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der);
    let mut text = String::with_capacity(64);
    for byte in digest.as_ref() {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

impl Names {
    /// The SPIFFE id: the one URI, if it is one. A certificate with several URIs has none (SPIFFE
    /// X.509-SVID section 2).
    pub fn spiffe(&self) -> Option<&str> {
        match &self.uri[..] {
            [one] if one.starts_with("spiffe://") => Some(one),
            _ => None,
        }
    }

    /// The one name to log: the SPIFFE id, else the first DNS name, URI, common name, or the subject.
    pub fn label(&self) -> &str {
        self.spiffe()
            .or(self.dns.first().map(String::as_str))
            .or(self.uri.first().map(String::as_str))
            .or(self.common_name.as_deref())
            .unwrap_or(&self.subject)
    }

    /// The value of `X-Forwarded-Client-Cert` as Envoy writes it: digest, subject, URIs and DNS names.
    /// Whatever the certificate holds, the value is printable ASCII. Write it once a connection, and
    /// drop what a caller sent under that name.
    pub fn forwarded_client_cert(&self) -> String {
        let mut text = format!("Hash={}", self.fingerprint);
        pair(&mut text, "Subject", &self.subject, true);
        for uri in &self.uri {
            pair(&mut text, "URI", uri, false);
        }
        for name in &self.dns {
            pair(&mut text, "DNS", name, false);
        }
        text
    }
}

fn pair(text: &mut String, key: &str, value: &str, always_quoted: bool) {
    text.push(';');
    text.push_str(key);
    text.push('=');
    let quoted = always_quoted || value.contains([',', ';', '=', '"', '\\', ' ']);
    if quoted {
        text.push('"');
    }
    for c in value.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            ' '..='~' => text.push(c),
            _ => text.push('?'),
        }
    }
    if quoted {
        text.push('"');
    }
}
