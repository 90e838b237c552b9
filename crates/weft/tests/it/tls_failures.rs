//! TLS handshakes that fail are counted by why they did, and told without a flood; a client whose server name
//! is an address is served like one without a name.

use std::sync::Arc;

use rustls::{
    ClientConfig, ClientConnection,
    version::{TLS12, TLS13},
};
use tempfile::TempDir;
use weft_testkit::{Authority, Conn, Upstream, Weft};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

struct Node {
    weft: Weft,
    authority: Authority,
    _service: Upstream,
    _folder: TempDir,
}

fn node(tls: &str) -> Node {
    let authority = Authority::new("here");
    let folder = tempfile::tempdir().unwrap();
    authority.write(folder.path(), "ca");
    authority.issue(&["shop.test"]).write(folder.path(), "shop");
    let service = Upstream::saying("well");
    let at = folder.path().display();
    let weft = Weft::start(
        BIN,
        &format!(
            "admin: {{ listen: '@admin' }}
listeners:
  web:
    address: '@web'
    tls: {{ certificates: [{{ cert: '{at}/shop.crt', key: '{at}/shop.key' }}]{tls} }}
services: {{ it: {{ endpoints: '{}' }} }}
routes: [{{ name: all, to: it }}]
",
            service.address()
        )
        .replace("CA", &format!("{at}/ca.crt")),
    );
    Node { weft, authority, _service: service, _folder: folder }
}

impl Node {
    fn failed(&self, reason: &str, count: f64) {
        let labels = [&*format!("reason=\"{reason}\"")];
        self.weft.wait_metric("weft_listener_tls_handshake_failures_total", &labels, count);
    }

    /// Whether an exchange by these settings goes well.
    fn asks(&self, tls: &Arc<ClientConfig>) -> bool {
        let Ok(mut conn) = Conn::secure(self.weft.address("web"), "shop.test", tls) else {
            return false;
        };
        conn.send("GET / HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n");
        conn.head().is_some()
    }

    /// The bytes of a hello for a server name, in place of which another of the same length stands.
    fn hello(&self, name: &'static str, instead: &str) -> Vec<u8> {
        assert_eq!(name.len(), instead.len());
        let tls = self.authority.client(&["http/1.1"]);
        let mut client = ClientConnection::new(tls, name.try_into().unwrap()).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        let at = bytes.windows(name.len()).position(|window| window == name.as_bytes()).unwrap();
        bytes[at..at + name.len()].copy_from_slice(instead.as_bytes());
        bytes
    }

    /// What is answered to bytes.
    fn answer(&self, bytes: &[u8]) -> Vec<u8> {
        let mut conn = self.weft.connect("web");
        conn.send(bytes);
        conn.finish();
        conn.rest()
    }
}

#[test]
fn failures_are_counted_by_why_and_told_once_a_minute() {
    let open = node("");
    for _ in 0..20 {
        open.answer(b"GET / HTTP/1.1\r\nhost: t\r\n\r\n");
    }
    open.failed("not_tls", 20.0);
    let told = open.weft.wait_line("reason=\"not_tls\"");
    assert!(told.contains("a TLS handshake failed"), "{told}");
    let lines = open.weft.output();
    assert_eq!(lines.lines().filter(|line| line.contains("not_tls")).count(), 1, "{lines}");
    open.answer(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00");
    open.failed("malformed", 1.0);
    open.answer(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
    open.failed("closed", 1.0);
    // A client that does not believe the certificate says so.
    let stranger = Authority::new("strangers");
    assert!(!open.asks(&stranger.client(&["http/1.1"])));
    open.failed("alert", 1.0);
    // A protocol in common there must be, where the client names any.
    assert!(!open.asks(&open.authority.client(&["smtp"])));
    open.failed("nothing_in_common", 1.0);
    open.weft.wait_metric("weft_listener_tls_handshakes_total", &["outcome=\"failed\""], 24.0);

    let new = node(", min_version: '1.3'");
    assert!(!new.asks(&new.authority.client_of(&[&TLS12], &["http/1.1"], None)));
    new.failed("version", 1.0);

    let strict = node(", client_auth: { ca: 'CA', mode: required }");
    let other = stranger.issue(&["other"]);
    for version in [&TLS12, &TLS13] {
        assert!(!strict.asks(&strict.authority.client_of(&[version], &["http/1.1"], None)));
        let shown = strict.authority.client_of(&[version], &["http/1.1"], Some(&other));
        assert!(!strict.asks(&shown));
    }
    strict.failed("no_certificate", 2.0);
    strict.failed("certificate", 2.0);
}

#[test]
fn a_name_that_is_an_address_gets_the_default_certificate() {
    let node = node("");
    // A handshake record: the server goes on. The rest cannot fit, as the hello was changed on its way.
    let answer = node.answer(&node.hello("abc.d.e.f", "127.0.0.1"));
    assert_eq!(answer.first(), Some(&22), "{answer:?}");
    // What is no host name at all is refused by the library, with illegal_parameter; it is counted and told.
    for (count, name, instead) in [
        (1.0, "bad-label.test", "bad label.test"),
        (2.0, "aa.b", "a..b"),
        (3.0, "ab.test", "a\u{1}.test"),
    ] {
        let answer = node.answer(&node.hello(name, instead));
        assert_eq!(answer, [21, 3, 3, 0, 2, 2, 47], "{instead:?}");
        // Another worker may have the next one, and overtake what this one has still to tell.
        node.failed("server_name", count);
    }
    let told = node.weft.wait_line("reason=\"server_name\"");
    assert!(told.contains("bad label.test"), "{told}");
}

#[test]
fn openssl_with_an_address_as_the_name_is_served() {
    let node = node("");
    let address = node.weft.address("web").to_string();
    let asked = std::process::Command::new("sh")
        .arg("-c")
        .arg(format!(
            "printf 'GET / HTTP/1.1\\r\\nhost: t\\r\\nconnection: close\\r\\n\\r\\n' | \
             timeout 20 openssl s_client -quiet -ign_eof -connect {address} -servername 127.0.0.1"
        ))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&asked.stdout);
    let why = String::from_utf8_lossy(&asked.stderr);
    assert!(!why.contains("not found"), "apt-get install openssl: {why}");
    assert!(said.starts_with("HTTP/1.1 200"), "{said} {why}");
}
