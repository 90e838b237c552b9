//! A client that comes back to its TLS session is held to its certificate as it is judged then: by its
//! validity, and by the authorities that are in force.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::{
    ClientConfig, SupportedProtocolVersion,
    version::{TLS12, TLS13},
};
use tempfile::TempDir;
use weft_testkit::{Authority, Conn, Issued, Upstream, Weft, until};

const BIN: &str = env!("CARGO_BIN_EXE_weft");
const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

struct Node {
    weft: Weft,
    authority: Authority,
    folder: TempDir,
    _service: Upstream,
}

/// An authority for clients, whose certificates end at a second of one's choice.
struct Clients {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Clients {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn issue(&self, lasts: Duration) -> Issued {
        let mut params = CertificateParams::new(["client".to_owned()]).unwrap();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs((now + lasts).as_secs());
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Issued { cert: cert.pem(), key: key.serialize_pem() }
    }
}

fn node(clients: &Clients) -> Node {
    let authority = Authority::new("here");
    let folder = tempfile::tempdir().unwrap();
    authority.issue(&["shop.test"]).write(folder.path(), "shop");
    std::fs::write(folder.path().join("clients.crt"), &clients.pem).unwrap();
    let service = Upstream::saying("well");
    let at = folder.path().display();
    let weft = Weft::start(
        BIN,
        &format!(
            "admin: {{ listen: '@admin' }}
listeners:
  web:
    address: '@web'
    tls:
      certificates: [{{ cert: '{at}/shop.crt', key: '{at}/shop.key' }}]
      client_auth: {{ ca: '{at}/clients.crt', mode: required }}
services: {{ it: {{ endpoints: '{}' }} }}
routes: [{{ name: all, to: it }}]
",
            service.address()
        ),
    );
    Node { weft, authority, folder, _service: service }
}

impl Node {
    /// Whether an exchange goes well, and whether its session was one of before.
    fn ask(&self, tls: &Arc<ClientConfig>) -> Option<bool> {
        let mut conn = Conn::secure(self.weft.address("web"), "shop.test", tls).ok()?;
        conn.send("GET / HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n");
        conn.head()?;
        // The tickets of TLS 1.3 come behind the handshake.
        conn.rest();
        let kind = conn.tls().unwrap().handshake_kind();
        Some(kind == Some(rustls::HandshakeKind::Resumed))
    }

    fn client(
        &self,
        version: &'static SupportedProtocolVersion,
        own: &Issued,
    ) -> Arc<ClientConfig> {
        self.authority.client_of(&[version], &["http/1.1"], Some(own))
    }
}

#[test]
fn an_expired_certificate_resumes_no_session() {
    let clients = Clients::new();
    let node = node(&clients);
    let lasting = clients.issue(Duration::from_secs(3_600));
    let short = clients.issue(Duration::from_secs(4));
    let comers: Vec<_> = VERSIONS
        .into_iter()
        .map(|version| (node.client(version, &lasting), node.client(version, &short)))
        .collect();
    for (lasting, short) in &comers {
        for tls in [lasting, short] {
            assert_eq!(node.ask(tls), Some(false));
            assert_eq!(node.ask(tls), Some(true), "the second time it is resumed");
        }
    }
    for (lasting, short) in &comers {
        until("the expired one is refused", || node.ask(short).is_none().then_some(()));
        assert_eq!(node.ask(short), None, "and again");
        assert_eq!(node.ask(lasting), Some(true), "others are not");
    }
    let labels = ["reason=\"certificate\""];
    assert!(node.weft.metric("weft_listener_tls_handshake_failures_total", &labels) >= 4.0);
    assert!(node.weft.output().contains("good no more"));
}

#[test]
fn an_authority_that_is_gone_resumes_no_session() {
    let (clients, others) = (Clients::new(), Clients::new());
    let node = node(&clients);
    let own = clients.issue(Duration::from_secs(3_600));
    let new = others.issue(Duration::from_secs(3_600));
    let comers = VERSIONS.map(|version| (node.client(version, &own), node.client(version, &new)));
    for (own, _) in &comers {
        assert_eq!(node.ask(own), Some(false));
        assert_eq!(node.ask(own), Some(true));
    }
    let fresh = node.folder.path().join("fresh.crt");
    std::fs::write(&fresh, &others.pem).unwrap();
    std::fs::rename(&fresh, node.folder.path().join("clients.crt")).unwrap();
    until("the new authority is believed", || node.ask(&comers[0].1).map(|_| ()));
    for (own, new) in &comers {
        assert_eq!(node.ask(own), None);
        assert!(node.ask(new).is_some());
    }
}
