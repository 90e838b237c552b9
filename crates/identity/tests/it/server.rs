//! Which certificate is shown, who is let in, and what a reload changes.

use std::sync::Arc;

use rcgen::{KeyPair, PKCS_RSA_SHA256, SerialNumber};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, HandshakeKind, NamedGroup, ProtocolVersion,
    RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use weft_identity::{
    Authorities, ClientAuth, ClientAuthMode, ClientIdentity, ClientOptions, MinVersion, Pem,
    Reload, ServerIdentity, ServerOptions, install_provider, peer,
};

use crate::{
    authority::{Authority, Issued, clock, params, write},
    handshake::shake,
};

fn server(options: ServerOptions) -> ServerIdentity {
    ServerIdentity::new(options, clock()).unwrap()
}

/// A client that believes anybody, so that every certificate can be seen.
fn anybody() -> Arc<ClientConfig> {
    let options = ClientOptions { insecure_skip_verify: true, ..ClientOptions::default() };
    ClientIdentity::new(options, clock()).unwrap().config()
}

fn believing(authority: &Authority, certificate: Option<&Issued>) -> ClientIdentity {
    let options = ClientOptions {
        authorities: Authorities::Files(vec![Pem::Inline(authority.pem.clone())]),
        certificate: certificate.map(Issued::inline),
        ..ClientOptions::default()
    };
    ClientIdentity::new(options, clock()).unwrap()
}

#[test]
fn the_certificate_follows_the_server_name() {
    let authority = Authority::new("root");
    let first = authority.issue(&["default.example"]);
    let exact = authority.issue(&["a.example", "B.Example", "one.wild.example"]);
    let wild = authority.issue(&["*.wild.example", "192.0.2.1"]);
    let server = server(ServerOptions {
        certificates: vec![first.inline(), exact.inline(), wild.inline()],
        ..ServerOptions::default()
    });
    for (name, expect) in [
        ("a.example", &exact),
        ("b.example", &exact),
        ("A.EXAMPLE", &exact),
        ("one.wild.example", &exact),
        ("two.wild.example", &wild),
        ("deep.two.wild.example", &first),
        ("wild.example", &first),
        ("default.example", &first),
        ("nobody.example", &first),
        // An address is not sent as a server name.
        ("192.0.2.1", &first),
    ] {
        let shaken = shake(anybody(), server.config(None), name).unwrap();
        assert!(shaken.shown() == expect.der, "{name}");
    }
    let mut nameless = ClientConfig::clone(&anybody());
    nameless.enable_sni = false;
    let shaken = shake(Arc::new(nameless), server.config(None), "a.example").unwrap();
    assert!(shaken.shown() == first.der);
    let infos = server.certificates();
    assert_eq!(infos[1].names, ["a.example", "B.Example", "one.wild.example"]);
    assert_eq!(infos[2].names, ["*.wild.example", "192.0.2.1"]);
}

/// Verifies nothing, and can read RSA signatures alone.
#[derive(Debug)]
struct RsaOnly;

impl ServerCertVerifier for RsaOnly {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::RSA_PSS_SHA256]
    }
}

#[test]
fn of_two_kinds_of_key_the_one_is_shown_that_the_client_can_read() {
    let authority = Authority::new("root");
    let ecdsa = authority.issue(&["a.example"]);
    let rsa = authority
        .issue_with(params(&["a.example"]), KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap());
    let server = server(ServerOptions {
        certificates: vec![ecdsa.inline(), rsa.inline()],
        ..ServerOptions::default()
    });
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut old = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(RsaOnly))
        .with_no_client_auth();
    old.alpn_protocols = vec![b"h2".to_vec()];
    let old = Arc::new(old);
    for name in ["a.example", "other.example"] {
        let shaken = shake(Arc::clone(&old), server.config(None), name).unwrap();
        assert!(shaken.shown() == rsa.der, "{name}");
        let shaken = shake(anybody(), server.config(None), name).unwrap();
        assert!(shaken.shown() == ecdsa.der, "{name}");
    }
}

#[test]
fn clients_are_let_in_by_their_certificates() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let shown = ours.issue(&["a.example"]);
    let good = ours.issue(&["client.example"]);
    let stranger = theirs.issue(&["client.example"]);
    let with = |mode| {
        server(ServerOptions {
            certificates: vec![shown.inline()],
            client_auth: Some(ClientAuth {
                authorities: vec![Pem::Inline(ours.pem.clone())],
                revoked: Vec::new(),
                mode,
            }),
            ..ServerOptions::default()
        })
    };
    let (required, optional) = (with(ClientAuthMode::Required), with(ClientAuthMode::Optional));
    for (server, certificate, expect) in [
        (&required, Some(&good), Ok(Some("client.example"))),
        (&required, None, Err("sent no certificates")),
        (&required, Some(&stranger), Err("UnknownIssuer")),
        (&optional, Some(&good), Ok(Some("client.example"))),
        (&optional, None, Ok(None)),
        (&optional, Some(&stranger), Err("UnknownIssuer")),
    ] {
        let client = believing(&ours, certificate);
        match (shake(client.config(), server.config(None), "a.example"), expect) {
            (Ok(shaken), Ok(expect)) => {
                let label = shaken
                    .server
                    .peer_certificates()
                    .map(|chain| peer::names(&chain[0]).unwrap().label().to_owned());
                assert_eq!(label.as_deref(), expect);
            }
            (Err(error), Err(expect)) => {
                assert!(error.starts_with("server: ") && error.contains(expect), "{error}");
            }
            (found, expect) => panic!("{:?} for {expect:?}", found.map(|_| ())),
        }
    }
}

#[test]
fn a_revoked_client_is_not_let_in() {
    let authority = Authority::new("root");
    let shown = authority.issue(&["a.example"]);
    let client = |serial: u64| {
        let mut params = params(&["client.example"]);
        params.serial_number = Some(SerialNumber::from(serial));
        let issued = authority.issue_with(params, KeyPair::generate().unwrap());
        believing(&authority, Some(&issued))
    };
    let server = server(ServerOptions {
        certificates: vec![shown.inline()],
        client_auth: Some(ClientAuth {
            authorities: vec![Pem::Inline(authority.pem.clone())],
            revoked: vec![Pem::Inline(authority.revoke(&[7]))],
            mode: ClientAuthMode::Required,
        }),
        ..ServerOptions::default()
    });
    assert!(shake(client(8).config(), server.config(None), "a.example").is_ok());
    let error = shake(client(7).config(), server.config(None), "a.example").unwrap_err();
    assert!(error.contains("Revoked"), "{error}");
}

#[test]
fn versions_and_protocols() {
    let authority = Authority::new("root");
    let issued = authority.issue(&["a.example"]);
    let with = |min_version, alpn: &[&str]| {
        server(ServerOptions {
            certificates: vec![issued.inline()],
            min_version,
            alpn: alpn.iter().map(|name| name.as_bytes().to_vec()).collect(),
            ..ServerOptions::default()
        })
    };
    let speaking = |version, alpn: &[&str]| {
        let mut roots = RootCertStore::empty();
        roots.add(pem_der(&authority.pem)).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_details(provider, Arc::new(Summer))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    };
    let (v12, v13) = (&rustls::version::TLS12, &rustls::version::TLS13);
    for (min, version, theirs, expect) in [
        (
            MinVersion::Tls12,
            v12,
            &["h2", "http/1.1"][..],
            Ok((ProtocolVersion::TLSv1_2, Some("h2"))),
        ),
        (MinVersion::Tls12, v13, &["http/1.1"], Ok((ProtocolVersion::TLSv1_3, Some("http/1.1")))),
        (MinVersion::Tls12, v13, &[], Ok((ProtocolVersion::TLSv1_3, None))),
        (MinVersion::Tls13, v13, &["http/1.1", "h2"], Ok((ProtocolVersion::TLSv1_3, Some("h2")))),
        (MinVersion::Tls13, v12, &["h2"], Err("peer is incompatible")),
        (MinVersion::Tls12, v13, &["spdy/3"], Err("any known protocol")),
    ] {
        let server = with(min, &["h2", "http/1.1"]);
        let result = shake(speaking(version, theirs), server.config(None), "a.example");
        match (result, expect) {
            (Ok(shaken), Ok((version, alpn))) => {
                assert_eq!(shaken.server.protocol_version(), Some(version));
                assert_eq!(shaken.server.alpn_protocol(), alpn.map(str::as_bytes));
                let group = shaken.server.negotiated_key_exchange_group().unwrap().name();
                let hybrid = version == ProtocolVersion::TLSv1_3;
                assert_eq!(group == NamedGroup::X25519MLKEM768, hybrid, "{group:?}");
            }
            (Err(error), Err(expect)) => assert!(error.contains(expect), "{error}"),
            (found, expect) => panic!("{:?} for {expect:?}", found.map(|_| ())),
        }
    }
}

fn pem_der(pem: &str) -> CertificateDer<'static> {
    use rustls_pki_types::pem::PemObject as _;
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

#[derive(Debug)]
struct Summer;

impl rustls::time_provider::TimeProvider for Summer {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_783_000_000)))
    }
}

#[test]
fn a_reload_shows_new_certificates_and_keeps_the_old_if_they_are_bad() {
    let authority = Authority::new("root");
    let folder = tempfile::tempdir().unwrap();
    let old = authority.issue(&["a.example"]);
    let source = old.write(folder.path());
    let server = server(ServerOptions { certificates: vec![source], ..ServerOptions::default() });
    // Whoever holds the configuration sees reloads.
    let config = server.config(None);
    let shown = || shake(anybody(), Arc::clone(&config), "a.example").unwrap().shown().to_vec();
    assert_eq!(server.paths(), [folder.path().join("cert.pem"), folder.path().join("key.pem")]);
    assert_eq!(server.reload().unwrap(), Reload::Unchanged);
    assert!(shown() == old.der);

    let new = authority.issue(&["a.example"]);
    write(folder.path(), "cert.pem", &new.cert);
    let faults = server.reload().unwrap_err().to_string();
    assert!(faults.contains("key.pem: the key does not match"), "{faults}");
    assert!(shown() == old.der);
    let before = server.certificates();

    new.write(folder.path());
    assert_eq!(server.reload().unwrap(), Reload::Changed);
    assert!(shown() == new.der);
    assert_ne!(server.certificates(), before);

    std::fs::remove_file(folder.path().join("cert.pem")).unwrap();
    let faults = server.reload().unwrap_err().to_string();
    assert!(faults.contains("cert.pem: cannot be read"), "{faults}");
    assert!(shown() == new.der);
}

#[test]
fn a_reload_of_authorities_ends_the_sessions_of_those_no_longer_trusted() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let folder = tempfile::tempdir().unwrap();
    let shown = old.issue(&["a.example"]);
    let authorities = Pem::File(write(folder.path(), "ca.pem", &old.pem));
    let server = server(ServerOptions {
        certificates: vec![shown.inline()],
        client_auth: Some(ClientAuth {
            authorities: vec![authorities],
            revoked: Vec::new(),
            mode: ClientAuthMode::Required,
        }),
        ..ServerOptions::default()
    });
    let client = believing(&old, Some(&old.issue(&["client.example"])));
    let kind = |server: &ServerIdentity| {
        let shaken = shake(client.config(), server.config(None), "a.example")?;
        Ok::<_, String>(shaken.server.handshake_kind().unwrap())
    };
    assert_eq!(kind(&server), Ok(HandshakeKind::Full));
    assert_eq!(kind(&server), Ok(HandshakeKind::Resumed));

    write(folder.path(), "ca.pem", &new.pem);
    assert_eq!(server.reload().unwrap(), Reload::Changed);
    let error = kind(&server).unwrap_err();
    assert!(error.contains("UnknownIssuer"), "{error}");
    let client = believing(&old, Some(&new.issue(&["client.example"])));
    assert!(shake(client.config(), server.config(None), "a.example").is_ok());
}

#[test]
fn sessions_are_resumed_by_tickets_unless_they_are_off() {
    let authority = Authority::new("root");
    let issued = authority.issue(&["a.example"]);
    for (session_tickets, second) in [(true, HandshakeKind::Resumed), (false, HandshakeKind::Full)]
    {
        let server = server(ServerOptions {
            certificates: vec![issued.inline()],
            session_tickets,
            ..ServerOptions::default()
        });
        let client = believing(&authority, None);
        for expect in [HandshakeKind::Full, second] {
            let shaken = shake(client.config(), server.config(None), "a.example").unwrap();
            assert_eq!(shaken.server.handshake_kind(), Some(expect));
        }
    }
}

#[test]
fn the_provider_is_installed_once_for_all() {
    install_provider();
    install_provider();
    assert!(rustls::crypto::CryptoProvider::get_default().is_some());
}
