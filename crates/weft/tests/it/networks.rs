//! Networks through the real binary: who may ask from where, by lists that change, break and vanish.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use weft_testkit::{
    Upstream, Weft,
    http2::{self, Client},
    until,
};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

fn config(service: &Upstream, lists: &str, policy: &str) -> String {
    format!(
        "
admin: {{ listen: '@admin' }}
telemetry: {{ access_log: {{ include: all, output: '@@/access.log' }} }}
listeners: {{ web: {{ address: '@web', trusted_proxies: 127.0.0.0/8 }} }}
services: {{ app: {{ endpoints: '{}' }} }}
{lists}
routes:
  - {{ name: held, match: /held/*, networks: {policy}, to: app }}
  - {{ name: free, match: /*, networks: off, to: app }}
",
        service.address()
    )
}

fn status(weft: &Weft, client: &str) -> u16 {
    weft.get("/held/1", &format!("x-forwarded-for: {client}\r\n")).status()
}

#[test]
fn what_is_denied_is_refused_and_only_what_is_allowed_is_let_on() {
    let service = Upstream::saying("ok");
    let policy = "{ allow: [10.0.0.0/8, '2001:db8::/32', 192.0.2.7], deny: 10.6.0.0/16 }";
    let weft = Weft::start(BIN, &config(&service, "", policy));
    for (client, expected) in [
        ("10.1.2.3", 200),
        ("::ffff:10.1.2.3", 200),
        ("2001:db8::7", 200),
        ("192.0.2.7", 200),
        ("192.0.2.8", 403),
        ("10.6.1.1", 403),
        ("::ffff:10.6.1.1", 403),
        ("2001:db9::7", 403),
    ] {
        assert_eq!(status(&weft, client), expected, "{client}");
    }
    // Who is not a trusted proxy says nothing of the client, and this one is at home.
    assert_eq!(weft.get("/held/1", "").status(), 403);
    assert_eq!(weft.get("/free/1", "").status(), 200);
    let refused = weft.get("/held/1", "x-forwarded-for: 10.6.1.1\r\n");
    let problem: Value = serde_json::from_slice(&refused.body).unwrap();
    assert_eq!(problem["type"], "urn:weft:problem:network_denied");
    assert!(!refused.text().contains("10.6"), "{}", refused.text());
    weft.wait_metric("weft_route_fact_requests_total", &["networks", "denied"], 3.0);
    weft.wait_metric("weft_route_fact_requests_total", &["networks", "not allowed"], 2.0);
    http2::run(async {
        let client = Client::to(weft.address("web")).await;
        let call = http2::request("POST", "/held/1").header("content-type", "application/grpc");
        let call = call.header("te", "trailers").body(Vec::new()).unwrap();
        let call = client.ask(call).await.unwrap();
        assert_eq!((call.status, call.get("grpc-status")), (200, "7"));
    });
}

#[test]
fn a_shadow_refuses_nothing_and_tells() {
    let service = Upstream::saying("ok");
    let policy = "{ allow: 10.0.0.0/8, shadow: true }";
    let weft = Weft::start(BIN, &config(&service, "", policy));
    assert_eq!(status(&weft, "192.0.2.1"), 200);
    let told = ["networks", "not allowed (shadow)"];
    weft.wait_metric("weft_route_fact_requests_total", &told, 1.0);
}

#[test]
fn lists_are_read_again_and_the_last_good_one_stays() {
    let service = Upstream::saying("ok");
    // Written before the start, in the folder of a node that is started again.
    let plain = Weft::start(BIN, &config(&service, "", "10.0.0.0/8"));
    plain.write("office.txt", "192.0.2.0/24 # office\n");
    plain.write("bad.txt", "192.0.2.66\n");
    let lists = "network_lists: { office: office.txt, bad: { file: bad.txt } }";
    let with = config(&service, lists, "{ allow: office, deny: bad }");
    plain.reload(&with).unwrap();
    let weft = plain;
    assert_eq!([status(&weft, "192.0.2.1"), status(&weft, "192.0.2.66")], [200, 403]);
    assert_eq!(status(&weft, "10.0.0.1"), 403);
    weft.wait_metric("weft_network_list_networks", &["office"], 1.0);

    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(status(&weft, "192.0.2.1"), 200, "it is in every list");
                assert_eq!(status(&weft, "192.0.2.66"), 403, "and this one in none");
            }
        });
        for round in 0..5 {
            let other = format!("192.0.2.0/24\n198.51.100.{round}\n");
            weft.write("office.txt", &other);
            let client = format!("198.51.100.{round}");
            until("the list is read again", || (status(&weft, &client) == 200).then_some(()));
        }
        // A hundred thousand of them.
        let many: Vec<String> = (0..100_000_u32)
            .map(|at| std::net::Ipv4Addr::from(0x0b00_0000 + at * 2).to_string())
            .collect();
        weft.write("office.txt", &format!("192.0.2.0/24\n{}\n", many.join("\n")));
        until("the long list is read", || (status(&weft, "11.0.0.2") == 200).then_some(()));
        assert_eq!(status(&weft, "11.0.0.3"), 403);
        weft.write("office.txt", "192.0.2.0/24\n10.0.0.0/99\n");
        weft.wait_line("line 2: expected a network or an address, found `10.0.0.0/99`");
        assert_eq!(status(&weft, "11.0.0.2"), 200, "the list before stays");
        std::fs::remove_file(weft.folder().join("office.txt")).unwrap();
        weft.wait_line("there is no file at");
        assert_eq!(status(&weft, "11.0.0.2"), 200, "the list before stays");
        weft.write("office.txt", "192.0.2.0/24\n203.0.113.7\n");
        until("it is back", || (status(&weft, "203.0.113.7") == 200).then_some(()));
        assert_eq!(status(&weft, "11.0.0.2"), 403);
        stop.store(true, Ordering::Relaxed);
    });
    // A list that no route names any more.
    weft.reload(&config(&service, "", "198.51.100.0/24")).unwrap();
    assert_eq!([status(&weft, "192.0.2.1"), status(&weft, "198.51.100.1")], [403, 200]);
}
