//! Names that are not resolved when the node starts.

use weft_testkit::{Weft, until};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

#[test]
fn a_service_whose_names_were_never_resolved_says_dns_failed() {
    // Names below `invalid` are nobody's (RFC 6761): the resolver says so, or there is none that answers.
    let weft = Weft::start(
        BIN,
        "admin: { listen: '@admin' }
telemetry: { access_log: all }
listeners: { web: { address: '@web' } }
services:
  it: { endpoints: nobody.invalid:80 }
  srv: { dns: { name: _http._tcp.nobody.invalid, type: srv } }
routes:
  - { name: it, match: /it, to: it, timeout: 2s }
  - { name: srv, match: /srv, to: srv, timeout: 2s }
",
    );
    for path in ["/it", "/srv"] {
        let response = weft.get(path, "");
        assert_eq!(response.status(), 502, "{}", response.text());
        assert!(response.text().contains("dns_failed"), "{}", response.text());
        assert!(response.get("proxy-status").unwrap().contains("dns_error"));
        let line = weft.wait_line(&format!("\"path\":\"{path}\""));
        assert!(line.contains("\"reason\":\"dns_failed\""), "{line}");
    }
    // It is a fault of nobody who could be put out.
    until("it is counted", || {
        let labels = ["weft_service=\"it\"", "reason=\"dns_failed\""];
        (weft.metric("weft_service_failures_total", &labels) >= 1.0).then_some(())
    });
}
