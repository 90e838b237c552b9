//! The names in certificates, and what the header tells of them.

use proptest::{collection::vec, prelude::*};
use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use rustls_pki_types::CertificateDer;
use weft_identity::peer::{self, Names};

use crate::authority::{Authority, params};

fn names_of(params: CertificateParams) -> Names {
    let issued = Authority::new("root").issue_with(params, KeyPair::generate().unwrap());
    peer::names(&CertificateDer::from(issued.der)).unwrap()
}

#[test]
fn a_workload_is_known_by_its_spiffe_id() {
    let mut params = params(&["orders.example", "192.0.2.1", "2001:db8::1"]);
    let id = "spiffe://prod.example/ns/shop/sa/orders";
    params.subject_alt_names.push(SanType::URI(id.try_into().unwrap()));
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "orders \"one\", two");
    params.distinguished_name.push(DnType::OrganizationName, "Käse");
    let names = names_of(params);
    assert_eq!(names.dns, ["orders.example"]);
    assert_eq!(names.addresses, ["192.0.2.1", "2001:db8::1"]);
    assert_eq!(names.uri, [id]);
    assert_eq!((names.spiffe(), names.label()), (Some(id), id));
    assert_eq!(names.common_name.as_deref(), Some("orders \"one\", two"));
    let header = names.forwarded_client_cert();
    let expect = format!(
        r#"Hash={};Subject="CN=orders \\\"one\\\"\\, two, O=K?se";URI={id};DNS=orders.example"#,
        names.fingerprint
    );
    assert_eq!(header, expect);
}

#[test]
fn two_subjects_are_never_one_text() {
    let subject = |parts: &[(DnType, &str)]| {
        let mut params = params(&[]);
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in parts {
            params.distinguished_name.push(kind.clone(), *value);
        }
        names_of(params).subject
    };
    let (common, organization) = (DnType::CommonName, DnType::OrganizationName);
    for (parts, text) in [
        (&[(common.clone(), "warehouse"), (organization, "Shop")][..], "CN=warehouse, O=Shop"),
        (&[(common.clone(), "warehouse, O=Shop")], r"CN=warehouse\, O\=Shop"),
        (&[(common.clone(), "a + O=b")], r"CN=a \+ O\=b"),
        (&[(common.clone(), r"a\, O=b")], r"CN=a\\\, O\=b"),
        (&[(common.clone(), "#61")], r"CN=\#61"),
        (&[(common, " a ")], r"CN=\ a\ "),
    ] {
        assert_eq!(subject(parts), text);
    }
}

#[test]
fn the_name_to_log_is_the_best_there_is() {
    let with = |dns: &[&str], uris: &[&str], common: Option<&str>| {
        let mut params = params(dns);
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Shop");
        if let Some(common) = common {
            params.distinguished_name.push(DnType::CommonName, common);
        }
        for uri in uris {
            params.subject_alt_names.push(SanType::URI((*uri).try_into().unwrap()));
        }
        names_of(params)
    };
    for (dns, uris, common, label) in [
        (&["a", "b"][..], &[][..], Some("c"), "a"),
        (&["a"], &["urn:x"], None, "a"),
        (&["a"], &["spiffe://t/a"], None, "spiffe://t/a"),
        // Two URIs are no SPIFFE id.
        (&[], &["spiffe://t/a", "spiffe://t/b"], Some("c"), "spiffe://t/a"),
        (&[], &[], Some("c"), "c"),
        (&[], &[], None, "O=Shop"),
    ] {
        let names = with(dns, uris, common);
        assert_eq!(names.label(), label);
        assert_eq!(names.spiffe().is_some(), uris.len() == 1 && uris[0].starts_with("spiffe:"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_header_is_printable_whatever_the_subject(subject in "\\PC{1,40}|[\\x00-\\x7f]{1,40}") {
        let names = Names {
            dns: vec![subject.clone()],
            addresses: Vec::new(),
            uri: vec![subject.clone()],
            subject,
            common_name: None,
            fingerprint: "00".into(),
        };
        let header = names.forwarded_client_cert();
        prop_assert!(header.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{}", header);
        // Quotes are balanced, so that no name adds a pair of its own.
        let bare = header.replace("\\\\", "").replace("\\\"", "");
        prop_assert_eq!(bare.matches('"').count() % 2, 0, "{}", header);
    }

    #[test]
    fn broken_certificates_do_not_panic(at in 0usize..2000, byte in any::<u8>(), junk in vec(any::<u8>(), 0..60)) {
        use std::sync::OnceLock;
        static DER: OnceLock<Vec<u8>> = OnceLock::new();
        let der = DER.get_or_init(|| Authority::new("root").issue(&["a.example"]).der);
        let mut broken = der.clone();
        let index = at % broken.len();
        broken[index] = byte;
        if let Some(names) = peer::names(&CertificateDer::from(broken)) {
            prop_assert_eq!(names.fingerprint.len(), 64);
        }
        prop_assert!(peer::names(&CertificateDer::from(&der[..index])).is_none());
        prop_assert!(peer::names(&CertificateDer::from(junk)).is_none());
    }
}
