//! Certificates, routes and endpoints that change under load by TLS, without a failed request.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use rustls::ClientConfig;
use weft_testkit::{
    Authority, Conn, Upstream, Weft,
    http2::{self, Client},
    until,
    upstream::ok,
};

const BIN: &str = env!("CARGO_BIN_EXE_weft");
/// How often everything changes.
const TURNS: usize = 5;

#[derive(Default)]
struct Tally {
    stop: AtomicBool,
    by_h1: AtomicUsize,
    by_h2: AtomicUsize,
}

/// Asks over new and kept connections until it is told to stop; what went wrong.
fn by_h1(address: SocketAddr, tls: &Arc<ClientConfig>, tally: &Tally) -> Vec<String> {
    let mut failed = Vec::new();
    while !tally.stop.load(Ordering::Acquire) {
        let mut conn = match Conn::secure(address, "shop.test", tls) {
            Ok(conn) => conn,
            Err(error) => {
                failed.push(format!("handshake: {error}"));
                continue;
            }
        };
        for _ in 0..10 {
            let response = conn.ask("GET /x HTTP/1.1\r\nhost: shop.test\r\n\r\n");
            if response.status() != 200 || response.text() != "here" {
                failed.push(format!("{response:?}"));
            }
            tally.by_h1.fetch_add(1, Ordering::AcqRel);
            if response.get("connection") == Some("close") {
                break;
            }
        }
    }
    failed
}

/// The same by HTTP/2: one connection for all turns, and one after the other.
async fn by_h2(
    address: SocketAddr,
    tls: Arc<ClientConfig>,
    tally: Arc<Tally>,
    kept: bool,
) -> Vec<String> {
    let mut failed = Vec::new();
    let mut client = Client::secure(address, "shop.test", &tls).await;
    while !tally.stop.load(Ordering::Acquire) {
        if !kept {
            client = Client::secure(address, "shop.test", &tls).await;
        }
        for _ in 0..10 {
            match client.get("/x").await {
                Ok(reply) if reply.status == 200 && reply.text() == "here" => {}
                other => failed.push(format!("{other:?}")),
            }
            tally.by_h2.fetch_add(1, Ordering::AcqRel);
        }
    }
    failed
}

#[test]
fn everything_changes_under_load_without_a_failed_request() {
    let authority = Authority::new("here");
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().display().to_string();
    authority.issue(&["shop.test"]).write(folder.path(), "shop");
    let services: Vec<_> = (0..3).map(|_| Upstream::answering(|_| ok("here"))).collect();
    let turn = |n: usize| {
        let ends: Vec<String> = (0..3)
            .filter(|end| end % 3 != n % 3)
            .map(|end| format!("'{}'", services[end].address()))
            .collect();
        let others: String = (0..n % 3)
            .map(|other| format!("  - {{ name: r{other}, match: /other{other}, to: it }}\n"))
            .collect();
        format!(
            "admin: {{ listen: '@admin' }}
telemetry: {{ access_log: errors }}
listeners: {{ web: {{ address: '@web', tls: {{ certificates: {{ cert: '{at}/shop.crt', key: '{at}/shop.key' }} }} }} }}
services: {{ it: {{ endpoints: [{}] }} }}
routes:
{others}  - {{ name: x{n}, match: /x, to: it }}
",
            ends.join(", ")
        )
    };
    let weft = Weft::start(BIN, &turn(0));
    let address = weft.address("web");
    let tally = Arc::new(Tally::default());
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let (tally, tls) = (tally.clone(), authority.client(&["http/1.1"]));
            thread::spawn(move || by_h1(address, &tls, &tally))
        })
        .collect();
    let tls = authority.client(&["h2"]);
    let failed = http2::run(async {
        let tasks: Vec<_> = [true, false]
            .into_iter()
            .map(|kept| http2::beside(by_h2(address, tls.clone(), tally.clone(), kept)))
            .collect();
        for n in 1..=TURNS {
            let fresh = authority.issue(&["shop.test"]);
            fresh.write(folder.path(), "shop");
            until("the new certificate is shown", || {
                let conn = Conn::secure(address, "shop.test", &tls).unwrap();
                (conn.tls()?.peer_certificates()?[0] == fresh.der()).then_some(())
            });
            weft.reload(&turn(n)).unwrap();
            let goals = [&tally.by_h1, &tally.by_h2]
                .map(|count| (count, count.load(Ordering::Acquire) + 50));
            until("the load goes on", || {
                goals
                    .iter()
                    .all(|(count, goal)| count.load(Ordering::Acquire) >= *goal)
                    .then_some(())
            });
        }
        tally.stop.store(true, Ordering::Release);
        let mut failed = Vec::new();
        for task in tasks {
            failed.extend(task.await.unwrap());
        }
        failed
    });
    let failed: Vec<String> =
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).chain(failed).collect();
    let asked = [&tally.by_h1, &tally.by_h2].map(|count| count.load(Ordering::Acquire));
    assert!(failed.is_empty(), "{} of {asked:?} failed: {:?}", failed.len(), failed.first());
    assert!(asked.iter().all(|asked| *asked >= TURNS * 50), "{asked:?}");
    assert!(services.iter().all(|service| !service.seen().is_empty()), "each had its turn");
}
