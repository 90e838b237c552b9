//! Which services are believed, what is shown to them, and what a reload changes.

use std::sync::Arc;

use rustls::{ClientConfig, HandshakeKind};
use weft_identity::{
    Authorities, CertificateSource, ClientAuth, ClientAuthMode, ClientIdentity, ClientOptions, Pem,
    Reload, ServerIdentity, ServerOptions,
};

use crate::{
    authority::{Authority, Issued, clock, write},
    handshake::shake,
};

fn server(issued: &Issued) -> ServerIdentity {
    let options = ServerOptions { certificates: vec![issued.inline()], ..ServerOptions::default() };
    ServerIdentity::new(options, clock()).unwrap()
}

fn trusting(authority: &Authority) -> ClientOptions {
    ClientOptions {
        authorities: Authorities::Files(vec![Pem::Inline(authority.pem.clone())]),
        ..ClientOptions::default()
    }
}

#[test]
fn services_are_believed_by_authority_and_name() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let client = ClientIdentity::new(trusting(&ours), clock()).unwrap();
    for (authority, host, expect) in [
        (&ours, "orders.example", None),
        (&ours, "other.example", Some("not valid for name")),
        (&theirs, "orders.example", Some("UnknownIssuer")),
    ] {
        let server = server(&authority.issue(&["orders.example"]));
        let result = shake(client.config(), server.config(None), host);
        match (result, expect) {
            (Ok(_), None) => {}
            (Err(error), Some(expect)) => {
                assert!(error.starts_with("client: ") && error.contains(expect), "{error}");
            }
            (found, expect) => panic!("{:?} for {expect:?}", found.map(|_| ())),
        }
    }
}

#[test]
fn the_authorities_of_the_system_do_not_know_ours() {
    let server = server(&Authority::new("ours").issue(&["orders.example"]));
    match ClientIdentity::new(ClientOptions::default(), clock()) {
        Ok(client) => {
            let error = shake(client.config(), server.config(None), "orders.example").unwrap_err();
            assert!(error.contains("UnknownIssuer"), "{error}");
        }
        // A machine may have none; then that is said, instead of believing nobody in silence.
        Err(faults) => assert!(faults.to_string().starts_with("system authorities: "), "{faults}"),
    }
}

#[test]
fn a_name_may_stand_in_for_the_host() {
    let authority = Authority::new("ours");
    let options =
        ClientOptions { server_name: Some("orders.example".into()), ..trusting(&authority) };
    let client = ClientIdentity::new(options, clock()).unwrap();
    assert_eq!(client.server_name().unwrap().to_str(), "orders.example");
    assert!(ClientIdentity::new(trusting(&authority), clock()).unwrap().server_name().is_none());
}

#[test]
fn anybody_is_believed_only_when_asked_for() {
    let server = server(&Authority::new("theirs").issue(&["orders.example"]));
    let options = ClientOptions { insecure_skip_verify: true, ..ClientOptions::default() };
    let client = ClientIdentity::new(options, clock()).unwrap();
    assert!(shake(client.config(), server.config(None), "whoever.example").is_ok());
}

#[test]
fn clones_of_a_configuration_follow_a_reload() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let folder = tempfile::tempdir().unwrap();
    let authorities = write(folder.path(), "ca.pem", &old.pem);
    let first = old.issue(&["client-1.example"]);
    let certificate = first.write(folder.path());
    let options = ClientOptions {
        authorities: Authorities::Files(vec![Pem::File(authorities)]),
        certificate: Some(certificate),
        ..ClientOptions::default()
    };
    let client = ClientIdentity::new(options, clock()).unwrap();
    let clone = Arc::new(ClientConfig::clone(&client.config()));
    let serving = |authority: &Authority| {
        let options = ServerOptions {
            certificates: vec![authority.issue(&["orders.example"]).inline()],
            client_auth: Some(ClientAuth {
                authorities: [&old, &new].map(|ca| Pem::Inline(ca.pem.clone())).into(),
                revoked: Vec::new(),
                mode: ClientAuthMode::Required,
            }),
            ..ServerOptions::default()
        };
        ServerIdentity::new(options, clock()).unwrap()
    };
    let (old_server, new_server) = (serving(&old), serving(&new));
    let call = |server: &ServerIdentity| {
        let shaken = shake(Arc::clone(&clone), server.config(None), "orders.example")?;
        let shown = shaken.server.peer_certificates().unwrap()[0].to_vec();
        Ok::<_, String>((shown, shaken.server.handshake_kind().unwrap()))
    };
    assert_eq!(client.reload().unwrap(), Reload::Unchanged);
    assert_eq!(call(&old_server), Ok((first.der.clone(), HandshakeKind::Full)));
    assert_eq!(call(&old_server), Ok((first.der, HandshakeKind::Resumed)));
    assert!(call(&new_server).unwrap_err().contains("UnknownIssuer"));

    let second = new.issue(&["client-2.example"]);
    second.write(folder.path());
    write(folder.path(), "ca.pem", "nothing");
    let faults = client.reload().unwrap_err().to_string();
    assert!(faults.contains("ca.pem: holds no PEM certificate"), "{faults}");
    assert_eq!(client.certificate().unwrap().names, ["client-1.example"]);

    write(folder.path(), "ca.pem", &new.pem);
    assert_eq!(client.reload().unwrap(), Reload::Changed);
    assert_eq!(call(&new_server), Ok((second.der, HandshakeKind::Full)));
    // The session with the old server is forgotten, so that it is judged anew.
    assert!(call(&old_server).unwrap_err().contains("UnknownIssuer"));
    assert_eq!(client.certificate().unwrap().names, ["client-2.example"]);
    assert_eq!(client.paths().len(), 3);
}

#[test]
fn everything_wrong_is_told_at_once() {
    let authority = Authority::new("ours");
    let (one, other) = (authority.issue(&["a"]), authority.issue(&["b"]));
    let options = ClientOptions {
        authorities: Authorities::Files(vec![
            Pem::File("/nowhere/ca.pem".into()),
            Pem::Inline("what".into()),
        ]),
        certificate: Some(CertificateSource { cert: one.inline().cert, key: other.inline().key }),
        server_name: Some("not a name".into()),
        ..ClientOptions::default()
    };
    let faults = ClientIdentity::new(options, clock()).unwrap_err();
    let text = faults.to_string();
    for expect in [
        "server name: `not a name` is neither",
        "inline key: the key does not match",
        "/nowhere/ca.pem: cannot be read",
        "inline authority: holds no PEM certificate",
    ] {
        assert!(text.contains(expect), "{expect}: {text}");
    }
    assert_eq!(faults.iter().count(), 4);
    let options =
        ClientOptions { authorities: Authorities::Files(Vec::new()), ..ClientOptions::default() };
    assert!(ClientIdentity::new(options, clock()).is_err());
}
