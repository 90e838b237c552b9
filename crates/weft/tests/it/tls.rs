//! TLS in front of the real binary and behind it.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::{
    ClientConfig, RootCertStore,
    version::{TLS12, TLS13},
};
use tempfile::TempDir;
use weft_testkit::{Authority, Conn, Issued, Upstream, Weft, until, upstream::ok};

const BIN: &str = env!("CARGO_BIN_EXE_weft");
const GET: &str = "GET / HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n";

fn folder(authority: &Authority, names: &[(&str, &[&str])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    authority.write(folder.path(), "ca");
    for (file, names) in names {
        authority.issue(names).write(folder.path(), file);
    }
    folder
}

/// A node with TLS at `@web`, of certificates in a folder; `tls` are further settings.
fn node(service: &Upstream, folder: &TempDir, files: &[&str], tls: &str) -> Weft {
    let at = folder.path().display();
    let certificates: String = files
        .iter()
        .map(|file| format!("{{ cert: '{at}/{file}.crt', key: '{at}/{file}.key' }},"))
        .collect();
    Weft::start(
        BIN,
        &format!(
            "admin: {{ listen: '@admin' }}
telemetry: {{ access_log: all, log: debug }}
listeners: {{ web: {{ address: '@web', tls: {{ certificates: [{certificates}]{tls} }} }} }}
services: {{ it: {{ endpoints: '{}' }} }}
routes: [{{ name: all, to: it }}]
",
            service.address()
        ),
    )
}

/// What an exchange comes to: the response's text, or nothing if the handshake or the connection failed.
fn ask(weft: &Weft, name: &str, tls: &Arc<ClientConfig>) -> Option<String> {
    let mut conn = Conn::secure(weft.address("web"), name, tls).ok()?;
    conn.send(GET);
    let head = conn.head()?;
    assert_eq!(head.status(), 200);
    Some(String::from_utf8(conn.rest()).unwrap())
}

#[test]
fn the_server_name_chooses_the_certificate() {
    let authority = Authority::new("here");
    let folder = folder(
        &authority,
        &[("first", &["first.test"]), ("shop", &["shop.test"]), ("wild", &["*.wild.test"])],
    );
    let service = Upstream::saying("well");
    let weft = node(&service, &folder, &["first", "shop", "wild"], "");
    let tls = authority.client(&[]);
    for (name, file) in [("first.test", "first"), ("shop.test", "shop"), ("any.wild.test", "wild")]
    {
        let conn = Conn::secure(weft.address("web"), name, &tls).unwrap();
        let shown = conn.tls().unwrap().peer_certificates().unwrap()[0].clone();
        let pem = std::fs::read_to_string(folder.path().join(format!("{file}.crt"))).unwrap();
        let expected = weft_testkit::Issued { cert: pem, key: String::new() }.der();
        assert!(shown == expected, "{name}");
        assert_eq!(ask(&weft, name, &tls).as_deref(), Some("well"), "{name}");
    }
    // Any other name gets the first, which does not fit it; so does one label too many.
    for name in ["other.test", "a.b.wild.test", "wild.test"] {
        let error = Conn::secure(weft.address("web"), name, &tls).unwrap_err();
        assert!(error.to_string().contains("certificate not valid for name"), "{name}: {error}");
    }
}

#[test]
fn old_versions_are_spoken_only_where_they_may_be() {
    let authority = Authority::new("here");
    let folder = folder(&authority, &[("shop", &["shop.test"])]);
    let service = Upstream::saying("well");
    let old = authority.client_of(&[&TLS12], &["http/1.1"], None);
    let new = authority.client_of(&[&TLS13], &["http/1.1"], None);
    let both = node(&service, &folder, &["shop"], "");
    assert_eq!(ask(&both, "shop.test", &old).as_deref(), Some("well"));
    assert!(both.wait_line("TLSv1.2").contains("\"status\":200"));
    assert_eq!(ask(&both, "shop.test", &new).as_deref(), Some("well"));
    let strict = node(&service, &folder, &["shop"], ", min_version: '1.3'");
    assert_eq!(ask(&strict, "shop.test", &new).as_deref(), Some("well"));
    assert_eq!(ask(&strict, "shop.test", &old), None);
    strict.wait_metric("weft_listener_tls_handshakes_total", &["outcome=\"failed\""], 1.0);
}

#[test]
fn clients_show_certificates_where_they_must_or_may() {
    let (authority, clients, strangers) =
        (Authority::new("here"), Authority::new("clients"), Authority::new("strangers"));
    let folder = folder(&authority, &[("shop", &["shop.test"])]);
    clients.write(folder.path(), "clients");
    let service = Upstream::saying("well");
    let ca = folder.path().join("clients.crt");
    let auth = |mode: &str| format!(", client_auth: {{ ca: '{}', mode: {mode} }}", ca.display());
    let required = node(&service, &folder, &["shop"], &auth("required"));
    let optional = node(&service, &folder, &["shop"], &auth("optional"));
    for version in [&TLS12, &TLS13] {
        let with = |own| authority.client_of(&[version], &["http/1.1"], own);
        let (known, stranger) = (clients.issue(&["one"]), strangers.issue(&["one"]));
        for (own, must, may) in
            [(Some(&known), true, true), (None, false, true), (Some(&stranger), false, false)]
        {
            let tls = with(own);
            assert_eq!(ask(&required, "shop.test", &tls).is_some(), must, "{version:?} {own:?}");
            assert_eq!(ask(&optional, "shop.test", &tls).is_some(), may, "{version:?} {own:?}");
        }
    }
    required.wait_metric("weft_listener_tls_handshakes_total", &["outcome=\"failed\""], 4.0);
    optional.wait_metric("weft_listener_tls_handshakes_total", &["outcome=\"failed\""], 2.0);
    assert_eq!(service.seen().len(), 2 + 4, "nobody else got to the service");
}

#[test]
fn what_is_not_tls_is_refused_and_harms_nobody() {
    let authority = Authority::new("here");
    let folder = folder(&authority, &[("shop", &["shop.test"])]);
    let service = Upstream::saying("well");
    let weft = node(&service, &folder, &["shop"], "");
    let tls = authority.client(&["http/1.1"]);
    let mut kept = Conn::secure(weft.address("web"), "shop.test", &tls).unwrap();
    let long = [b"\x16\x03\x01\xff\xff".to_vec(), vec![0; 70_000]].concat();
    let cut = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec();
    let table: [(&str, Vec<u8>); 5] = [
        ("plain HTTP", GET.into()),
        ("HTTP/2", weft_testkit::frames::PREFACE.to_vec()),
        ("noise", (0..=255).rev().cycle().take(9_000).collect()),
        ("a record that is too long", long),
        ("a hello that is cut off", cut),
    ];
    for (what, bytes) in &table {
        let mut conn = weft.connect("web");
        conn.send(bytes);
        conn.finish();
        let answer = conn.rest();
        assert!(!answer.starts_with(b"HTTP/"), "{what}");
        // At most an alert, which is seven bytes.
        assert!(answer.len() <= 7, "{what}: {answer:?}");
        assert_eq!(kept.ask("GET / HTTP/1.1\r\nhost: t\r\n\r\n").text(), "well", "{what}");
    }
    weft.wait_metric("weft_listener_tls_handshakes_total", &["outcome=\"failed\""], 5.0);
    weft.wait_line("the TLS handshake failed");
    assert_eq!(service.seen().len(), table.len());
}

#[test]
fn tls_is_led_by_its_server_name_without_being_ended() {
    let authority = Authority::new("services");
    let (one, two) = (authority.issue(&["one.test"]), authority.issue(&["deep.two.test"]));
    let first = Upstream::secure(one.server(&["http/1.1"], None), |_| ok("first"));
    let second = Upstream::secure(two.server(&["http/1.1"], None), |_| ok("second"));
    let weft = Weft::start(
        BIN,
        &format!(
            "admin: off
telemetry: {{ log: debug }}
listeners:
  web: {{ address: '@web', protocol: tls-passthrough, sni: {{ one.test: one, '*.two.test': two }} }}
services: {{ one: {{ endpoints: '{}' }}, two: {{ endpoints: '{}' }} }}
",
            first.address(),
            second.address()
        ),
    );
    let tls = authority.client(&["http/1.1"]);
    for (name, issued, said) in [("one.test", &one, "first"), ("deep.two.test", &two, "second")] {
        let mut conn = Conn::secure(weft.address("web"), name, &tls).unwrap();
        let shown = conn.tls().unwrap().peer_certificates().unwrap()[0].clone();
        assert!(shown == issued.der(), "the service itself ends TLS");
        assert_eq!(conn.ask("GET / HTTP/1.1\r\nhost: t\r\n\r\n").text(), said);
    }
    assert!(Conn::secure(weft.address("web"), "three.test", &tls).is_err());
    weft.wait_line("no service for the server name `three.test`");
    let mut plain = weft.connect("web");
    plain.send(GET);
    assert!(plain.rest().is_empty());
    weft.wait_line("this is not TLS");
}

#[test]
fn services_are_verified() {
    let (authority, strangers) = (Authority::new("services"), Authority::new("strangers"));
    let folder = folder(&authority, &[("own", &["weft"])]);
    let at = folder.path().display();
    let good = Upstream::secure(authority.issue(&["127.0.0.1"]).server(&[], None), |_| ok("good"));
    let named = Upstream::secure(authority.issue(&["in.test"]).server(&[], None), |_| ok("named"));
    let unknown = Upstream::secure(strangers.issue(&["127.0.0.1"]).server(&[], None), |_| ok("no"));
    let mutual =
        Upstream::secure(authority.issue(&["127.0.0.1"]).server(&[], Some(&authority)), |_| {
            ok("mutual")
        });
    let plain = Upstream::raw(|mut conn| {
        conn.take(1);
        conn.send("HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    });
    let ca = format!("ca: '{at}/ca.crt'");
    let own = format!("{ca}, cert: '{at}/own.crt', key: '{at}/own.key'");
    let table = [
        ("good", &good, ca.clone(), Ok("good")),
        ("wrong-name", &named, ca.clone(), Err("upstream_tls")),
        ("named", &named, format!("{ca}, server_name: in.test"), Ok("named")),
        ("unknown", &unknown, ca.clone(), Err("upstream_tls")),
        ("unverified", &unknown, "insecure_skip_verify: true".into(), Ok("no")),
        ("mutual", &mutual, own, Ok("mutual")),
        ("plain", &plain, ca.clone(), Err("upstream_tls")),
    ];
    let services: String = table
        .iter()
        .map(|(name, service, tls, _)| {
            format!("  {name}: {{ endpoints: '{}', tls: {{ {tls} }} }}\n", service.address())
        })
        .collect();
    let routes: String = table
        .iter()
        .map(|(name, ..)| {
            format!("  - {{ name: {name}, match: /{name}, to: {name}, retry: off }}\n")
        })
        .collect();
    let weft = Weft::start(
        BIN,
        &format!(
            "admin: {{ listen: '@admin' }}\ntelemetry: {{ access_log: all }}\n\
             listeners: {{ web: {{ address: '@web' }} }}\nservices:\n{services}routes:\n{routes}"
        ),
    );
    for (name, _, _, expect) in &table {
        let response = weft.get(&format!("/{name}"), "");
        match expect {
            Ok(text) => {
                assert_eq!((response.status(), response.text().as_str()), (200, *text), "{name}")
            }
            Err(reason) => {
                assert_eq!(response.status(), 502, "{name}: {response:?}");
                assert!(response.text().contains(reason), "{name}: {}", response.text());
                let told = response.get("proxy-status").unwrap();
                assert!(told.contains("tls"), "{name}: {told}");
                assert!(
                    weft.wait_line(&format!("\"path\":\"/{name}\"")).contains(reason),
                    "{name}"
                );
                let labels = [format!("weft_service=\"{name}\""), format!("reason=\"{reason}\"")];
                weft.wait_metric("weft_service_failures_total", &[&labels[0], &labels[1]], 1.0);
            }
        }
    }
}

/// An authority whose certificates are valid from one year to another, and a client that believes it.
struct Calendar {
    issuer: Issuer<'static, KeyPair>,
    client: Arc<ClientConfig>,
}

impl Calendar {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(params.self_signed(&key).unwrap().der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { issuer: Issuer::new(params, key), client: Arc::new(client) }
    }

    fn issue(&self, from: i32, to: i32) -> Issued {
        let mut params = CertificateParams::new(["shop.test".to_owned()]).unwrap();
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(to, 1, 1);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Issued { cert: cert.pem(), key: key.serialize_pem() }
    }
}

#[test]
fn an_expired_certificate_is_told_of_and_holds_up_no_change() {
    let calendar = Calendar::new();
    let folder = tempfile::tempdir().unwrap();
    let (over, future) = (calendar.issue(2020, 2021), calendar.issue(3000, 3001));
    over.write(folder.path(), "shop");
    future.write(folder.path(), "future");
    Issued { cert: over.cert, key: future.key }.write(folder.path(), "unfit");
    let yaml = |file: &str, says: &str| {
        let at = folder.path().join(file).display().to_string();
        format!(
            "admin: {{ listen: '@admin' }}
listeners:
  web: {{ address: '@web' }}
  safe:
    address: '@safe'
    tls: {{ certificates: {{ cert: '{at}.crt', key: '{at}.key' }} }}
services:
  it: {{ endpoints: '127.0.0.1:1', tls: {{ cert: '{at}.crt', key: '{at}.key' }} }}
routes:
  - {{ name: all, respond: {{ body: {says} }} }}
  - {{ name: it, match: /it, to: it }}
"
        )
    };
    let asked = |weft: &Weft, path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n");
        weft.connect("admin").ask(request).text()
    };
    // The verdict that comes first may be on what was there before: what is served tells for certain.
    let change = |weft: &Weft, file: &str, says: &str| {
        let _ = weft.reload(&yaml(file, says));
        until(says, || (weft.get("/", "").text() == says).then_some(()));
    };
    let weft = Weft::start(BIN, &yaml("shop", "one"));
    let told = weft.output();
    assert_eq!(told.matches("shop.crt: certificate 1 expired on Jan  1").count(), 2, "{told}");
    for place in ["weft.yaml:6:", "weft.yaml:8:"] {
        assert!(told.contains(place), "{place}: {told}");
    }
    let status = asked(&weft, "/v1/status");
    assert!(status.contains("\"warnings\":2"), "{status}");
    assert!(status.contains("\"left_seconds\":0"), "{status}");
    let expiry = |weft: &Weft| {
        weft.metric("weft_certificate_expiry_timestamp_seconds", &["certificate=\"shop.test\""])
    };
    assert_eq!(expiry(&weft), 1_609_459_200.0);
    // It is shown, and whoever verifies it says what is the matter.
    let refused = Conn::secure(weft.address("safe"), "shop.test", &calendar.client).unwrap_err();
    assert!(refused.to_string().contains("expired"), "{refused}");

    change(&weft, "shop", "two");
    let line = weft.wait_line("configuration: ");
    assert!(line.contains("WARN") && line.contains("certificate 1 expired"), "{line}");
    let check = |more: &[&str]| {
        let mut check = std::process::Command::new(BIN);
        check.args(["check", "--config"]).arg(weft.folder().join("weft.yaml")).args(more);
        check.output().unwrap().status.code()
    };
    assert_eq!((check(&[]), check(&["--strict"])), (Some(0), Some(1)));

    for (file, why) in
        [("future", "certificate 1 is not valid before"), ("unfit", "the key does not match")]
    {
        let _ = weft.reload(&yaml(file, "three"));
        let line = weft.wait_line(why);
        assert!(line.contains("configuration refused"), "{line}");
        assert_eq!(weft.get("/", "").text(), "two");
    }

    change(&weft, "shop", "four");
    calendar.issue(2020, 3000).write(folder.path(), "shop");
    weft.wait_metric("weft_certificate_expiry_timestamp_seconds", &[], 32_503_680_000.0);
    let mut conn = Conn::secure(weft.address("safe"), "shop.test", &calendar.client).unwrap();
    assert_eq!(conn.ask("GET / HTTP/1.1\r\nhost: t\r\n\r\n").text(), "four");
    until("nothing is suspicious any more", || {
        asked(&weft, "/v1/status").contains("\"warnings\":0").then_some(())
    });
}
