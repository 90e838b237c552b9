//! Every way in which certificates and keys can be wrong, and what is said of it.

use std::{sync::Arc, time::Duration};

use rcgen::{KeyPair, date_time_ymd};
use weft_identity::{
    Authorities, CertificateSource, ClientAuth, ClientAuthMode, ClientIdentity, ClientOptions,
    Fault, Pem, Reload, ServerIdentity, ServerOptions,
};
use weft_kernel::{Clock as _, ManualClock};

use crate::authority::{Authority, clock, params, write};

fn told(certificates: Vec<CertificateSource>) -> String {
    let options = ServerOptions { certificates, ..ServerOptions::default() };
    ServerIdentity::new(options, clock()).unwrap_err().to_string()
}

#[test]
fn certificates_and_keys() {
    let authority = Authority::new("root");
    let (one, other) = (authority.issue(&["a.example"]), authority.issue(&["a.example"]));
    let folder = tempfile::tempdir().unwrap();
    let source = |cert: &str, key: &str| CertificateSource {
        cert: Pem::Inline(cert.to_owned()),
        key: Pem::Inline(key.to_owned()),
    };
    let large = write(folder.path(), "large.pem", &"x".repeat(1024 * 1024 + 1));
    let broken_der = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let old_encrypted = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    let broken_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    for (source, expect) in [
        (
            source(&one.cert, &other.key),
            "inline key: the key does not match the first certificate of inline certificate",
        ),
        (source("", &one.key), "inline certificate: holds no PEM certificate"),
        (source(&one.key, &one.key), "inline certificate: holds no PEM certificate"),
        (source(&one.cert, &one.cert), "inline key: holds no PEM private key"),
        (
            source(&one.cert, &format!("{}{}", one.key, other.key)),
            "inline key: holds more than one private key",
        ),
        (source(&one.cert, encrypted), "inline key: holds an encrypted key"),
        (source(&one.cert, old_encrypted), "inline key: holds an encrypted key"),
        (source(&one.cert, broken_key), "inline key: the key cannot be used"),
        (source(broken_der, &one.key), "inline certificate: certificate 1 is broken"),
        (
            source(&format!("{}{broken_der}", one.cert), &one.key),
            "inline certificate: certificate 2 is broken",
        ),
        (
            source("-----BEGIN CERTIFICATE-----\nAAAA\n", &one.key),
            "inline certificate: is broken PEM",
        ),
        (
            source("-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n", &one.key),
            "inline certificate: is broken PEM",
        ),
        (
            CertificateSource { cert: Pem::File(folder.path().into()), key: one.inline().key },
            "cannot be read",
        ),
        (
            CertificateSource { cert: Pem::File(large), key: one.inline().key },
            "large.pem: is larger than 1 MiB",
        ),
    ] {
        let text = told(vec![source]);
        assert!(text.contains(expect), "{expect}: {text}");
    }
    assert!(told(Vec::new()).contains("at least one certificate is needed"));
}

#[test]
fn one_file_may_hold_both() {
    let issued = Authority::new("root").issue(&["a.example"]);
    let both = Pem::Inline(format!("{}{}", issued.key, issued.cert));
    let source = CertificateSource { cert: both.clone(), key: both };
    let options = ServerOptions { certificates: vec![source], ..ServerOptions::default() };
    assert_eq!(
        ServerIdentity::new(options, clock()).unwrap().certificates()[0].names,
        ["a.example"]
    );
}

#[test]
fn faults_of_all_files_are_told_at_once() {
    let authority = Authority::new("root");
    let (one, other) = (authority.issue(&["a"]), authority.issue(&["b"]));
    let options = ServerOptions {
        certificates: vec![
            CertificateSource { cert: one.inline().cert, key: other.inline().key },
            CertificateSource {
                cert: Pem::File("/nowhere/cert.pem".into()),
                key: Pem::File("/nowhere/key.pem".into()),
            },
        ],
        client_auth: Some(ClientAuth {
            authorities: vec![Pem::Inline(one.key.clone())],
            revoked: vec![Pem::Inline(one.cert.clone())],
            mode: ClientAuthMode::Required,
        }),
        ..ServerOptions::default()
    };
    let faults = ServerIdentity::new(options.clone(), clock()).unwrap_err();
    assert_eq!(faults.iter().count(), 5, "{faults}");
    // Keys stay out of what is printed.
    let printed = format!("{options:?} {faults:?} {faults}");
    assert!(!printed.contains("PRIVATE KEY-----\n"), "{printed}");
    let none = ServerOptions {
        certificates: vec![one.inline()],
        client_auth: Some(ClientAuth {
            authorities: Vec::new(),
            revoked: Vec::new(),
            mode: ClientAuthMode::Optional,
        }),
        ..ServerOptions::default()
    };
    assert!(ServerIdentity::new(none, clock()).is_err());
}

#[test]
fn certificates_whose_time_is_over_are_told_of_and_those_of_the_future_refused() {
    let authority = Authority::new("root");
    let at = |from: i32, to: i32| {
        let mut params = params(&["a.example"]);
        (params.not_before, params.not_after) =
            (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        authority.issue_with(params, KeyPair::generate().unwrap())
    };
    let expired = |certificate: CertificateSource| {
        let options =
            ServerOptions { certificates: vec![certificate.clone()], ..ServerOptions::default() };
        let of_server = ServerIdentity::new(options, clock()).unwrap().expired();
        let options = ClientOptions {
            authorities: Authorities::Files(vec![Pem::Inline(authority.pem.clone())]),
            certificate: Some(certificate),
            ..ClientOptions::default()
        };
        let of_client = ClientIdentity::new(options, clock()).unwrap().expired();
        let texts = |faults: &[Fault]| faults.iter().map(Fault::to_string).collect::<Vec<_>>();
        assert_eq!(texts(&of_server), texts(&of_client));
        texts(&of_server)
    };
    assert!(expired(at(2020, 2027).inline()).is_empty());
    let told_of = expired(at(2020, 2021).inline());
    let text = "inline certificate: certificate 1 expired on Jan  1 00:00:00 2021";
    assert!(told_of.len() == 1 && told_of[0].starts_with(text), "{told_of:?}");
    let text = told(vec![at(2030, 2031).inline()]);
    assert!(text.contains("certificate 1 is not valid before Jan  1 00:00:00 2030"), "{text}");
    // Also one further up the chain breaks it.
    let mut chain = authority.issue(&["a.example"]);
    chain.cert.push_str(&at(2020, 2021).cert);
    let told_of = expired(chain.inline());
    assert!(told_of.len() == 1 && told_of[0].contains("certificate 2 expired"), "{told_of:?}");
    chain.cert.push_str(&at(2030, 2031).cert);
    let text = told(vec![chain.inline()]);
    assert!(text.contains("certificate 3 is not valid before"), "{text}");
    // What is worse is not hidden by it.
    let mut broken = at(2020, 2021);
    broken.key = authority.issue(&["a.example"]).key;
    assert!(told(vec![broken.inline()]).contains("the key does not match"));
}

#[test]
fn a_certificate_that_runs_out_is_seen_coming_and_used_until_a_better_one_is_there() {
    let authority = Authority::new("root");
    let folder = tempfile::tempdir().unwrap();
    let source = authority.issue(&["a.example"]).write(folder.path());
    let clock: Arc<ManualClock> = clock();
    let options = ServerOptions { certificates: vec![source], ..ServerOptions::default() };
    let server = ServerIdentity::new(options, Arc::clone(&clock) as Arc<_>).unwrap();
    assert!(server.expired().is_empty());
    let info = server.certificates().remove(0);
    let days = info.left(clock.wall()).as_secs() / 86_400;
    assert_eq!(days, 182);
    assert_eq!(info.issuer, "CN=root");
    assert_eq!((info.serial.is_empty(), info.fingerprint.len()), (false, 64));
    assert_eq!(info.path, Some(folder.path().join("cert.pem")));
    clock.advance(Duration::from_secs(200 * 86_400));
    assert_eq!(info.left(clock.wall()), Duration::ZERO);
    assert_eq!(server.reload().unwrap(), Reload::Unchanged);
    let expired = server.expired();
    assert_eq!(expired.len(), 1);
    assert!(expired[0].to_string().contains("cert.pem: certificate 1 expired"), "{expired:?}");
    assert_eq!(server.certificates(), [info]);
    let mut params = params(&["a.example"]);
    params.not_after = date_time_ymd(2030, 1, 1);
    authority.issue_with(params, KeyPair::generate().unwrap()).write(folder.path());
    assert_eq!(server.reload().unwrap(), Reload::Changed);
    assert!(server.expired().is_empty());
}
