//! Client certificates as credentials: the names in them by which consumers are known.
//!
//! The handshake has verified the certificate, by the authorities of the listener. The most exact name decides: the
//! fingerprint, then a URI (a SPIFFE id is one), then a DNS name, then the subject. One that leads to several
//! consumers by names of a kind leads to none.

use weft_identity::peer::Names;

use crate::{consumer::Consumer, credential::Digest, directory::Directory};

/// The most names of a kind that are looked at.
const NAMES_MAX: usize = 32;

/// Name in a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateName {
    /// The SHA-256 digest of the certificate, in hexadecimal.
    Fingerprint(String),
    /// A URI, such as a SPIFFE id.
    Uri(String),
    /// A DNS name.
    Dns(String),
    /// The distinguished name of the subject.
    Subject(String),
}

impl CertificateName {
    /// The digest by which its consumer is found.
    pub fn digest(&self) -> Digest {
        match self {
            Self::Fingerprint(text) => {
                let digits = text.chars().filter(|digit| *digit != ':').collect::<String>();
                Digest::of_certificate("fingerprint", &digits.to_ascii_lowercase())
            }
            Self::Uri(text) => Digest::of_certificate("uri", text),
            Self::Dns(text) => Digest::of_certificate("dns", &text.to_ascii_lowercase()),
            Self::Subject(text) => Digest::of_certificate("subject", text),
        }
    }
}

/// Makes a name of a kind of a text.
type Kind = fn(String) -> CertificateName;

/// The consumer that a certificate leads to.
///
/// # Errors
/// Why it leads to none.
pub(crate) fn holder(directory: &Directory, names: &Names) -> Result<Consumer, &'static str> {
    let Names { fingerprint, uri, dns, subject, .. } = names;
    let fingerprints = std::slice::from_ref(fingerprint);
    let subjects = std::slice::from_ref(subject);
    let kinds: [(&[String], Kind); 4] = [
        (fingerprints, CertificateName::Fingerprint),
        (uri, CertificateName::Uri),
        (dns, CertificateName::Dns),
        (subjects, CertificateName::Subject),
    ];
    for (texts, name) in kinds {
        if texts.len() > NAMES_MAX {
            return Err("the client certificate has too many names");
        }
        let mut found: Option<Consumer> = None;
        for text in texts {
            let other = directory.holder(&name(text.clone()).digest());
            match (&found, other) {
                (Some(one), Some(other)) if one.known != other.known => {
                    return Err("the client certificate leads to several consumers");
                }
                (None, Some(other)) => found = Some(other),
                _ => {}
            }
        }
        if let Some(found) = found {
            return Ok(found);
        }
    }
    Err("the client certificate leads to no consumer")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::name;

    #[test]
    fn the_most_exact_name_decides() {
        let mut directory = Directory::default();
        for (consumer, of) in [
            ("exact", CertificateName::Fingerprint("AB:CD".into())),
            ("orders", CertificateName::Uri("spiffe://shop/orders".into())),
            ("one", CertificateName::Dns("One.Example".into())),
            ("two", CertificateName::Dns("two.example".into())),
            ("subject", CertificateName::Subject("CN=three".into())),
        ] {
            directory.add(name(consumer), Vec::new());
            assert_eq!(directory.give(of.digest(), &name(consumer)), Ok(()));
        }
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let who = |fingerprint: &str, uri: &[&str], dns: &[&str], subject: &str| {
            let names = Names {
                dns: texts(dns),
                addresses: Vec::new(),
                uri: texts(uri),
                subject: subject.into(),
                common_name: None,
                fingerprint: fingerprint.into(),
            };
            holder(&directory, &names).map(|consumer| consumer.name().to_string())
        };
        let orders = &["spiffe://shop/orders"][..];
        assert_eq!(who("abcd", orders, &["one.example"], "CN=three").as_deref(), Ok("exact"));
        assert_eq!(who("ab", orders, &["one.example"], "CN=three").as_deref(), Ok("orders"));
        assert_eq!(who("ab", &[], &["x", "ONE.example"], "CN=three").as_deref(), Ok("one"));
        assert_eq!(who("ab", &[], &["x"], "CN=three").as_deref(), Ok("subject"));
        assert!(who("ab", &[], &["one.example", "two.example"], "CN=three").is_err());
        assert!(who("ab", &[], &[], "CN=four").is_err());
        // A text is a name of its kind alone.
        assert!(who("ab", &["one.example"], &["CN=three"], "AB:CD").is_err());
        let many: Vec<String> = (0..100).map(|number| format!("n{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(who("ab", &[], &many, "CN=three").is_err());
    }
}
