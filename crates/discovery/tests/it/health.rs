//! Active checks: their pace and verdicts in simulated time, and each kind over a real connection.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use weft_discovery::{
    Check, Health, ProbeTls, ServiceOptions,
    endpoint::Verdict,
    health::{Checkup, Finding, NetProbe, Probe},
};
use weft_kernel::Rng;

use crate::fleet::{Fleet, addresses, options, pick, until};

fn checked(endpoints: &[(&str, u32)]) -> ServiceOptions {
    ServiceOptions {
        health: Some(Health::new(Check::http("/health"))),
        ..options("orders", endpoints)
    }
}

#[tokio::test(start_paused = true)]
async fn verdicts_come_go_and_outlive_a_reload() {
    let fleet = Fleet::paused();
    let all = [("10.0.0.1:80", 1), ("10.0.0.2:80", 1), ("10.0.0.3:80", 1)];
    fleet.wellness.sicken("10.0.0.3:80");
    fleet.services.apply(vec![checked(&all)], fleet.clock.now());
    let service = fleet.services.get("orders").unwrap();
    let verdict = |index: usize| service.set().members()[index].endpoint.verdict();
    fleet
        .during(async {
            until("first verdicts", || (0..3).all(|index| verdict(index) != Verdict::Unknown))
                .await;
            assert!(fleet.clock.now() < crate::fleet::START.plus(Duration::from_secs(1)));
            assert_eq!((verdict(0), verdict(2)), (Verdict::Healthy, Verdict::Unhealthy));
            let mut rng = Rng::seeded(1);
            for _ in 0..200 {
                let picked = pick(&service, None, fleet.clock.now(), &mut rng).unwrap();
                assert_ne!(&**picked.label(), "10.0.0.3:80");
            }

            fleet.wellness.sicken("10.0.0.1:80");
            let began = fleet.clock.now();
            until("three failures", || verdict(0) == Verdict::Unhealthy).await;
            let took = fleet.clock.now().since(began).as_secs_f64();
            assert!((8.0..=18.0).contains(&took), "{took}");
            assert!(service.set().panicking(), "one of three is left");

            fleet.wellness.heal("10.0.0.3:80");
            until("one success", || verdict(2) == Verdict::Healthy).await;
            assert!(!service.set().panicking());

            let mut moved = checked(&all);
            moved.health = Some(Health::new(Check::http("/elsewhere")));
            fleet.wellness.sicken("10.0.0.2:80");
            let before = fleet.wellness.checked("10.0.0.2:80");
            fleet.services.apply(vec![moved], fleet.clock.now());
            until("a check of another kind", || fleet.wellness.checked("10.0.0.2:80") > before + 1)
                .await;
            assert_eq!(verdict(1), Verdict::Healthy, "two failures do not overturn what stood");
            fleet.wellness.heal("10.0.0.2:80");
            fleet.services.apply(vec![checked(&all)], fleet.clock.now());
            let before = fleet.wellness.checked("10.0.0.2:80");
            until("the old kind", || fleet.wellness.checked("10.0.0.2:80") > before).await;

            let mut more = checked(&all);
            more.endpoints.extend(options("x", &[("10.0.0.4:80", 1)]).endpoints);
            let before = fleet.wellness.checked("10.0.0.1:80");
            fleet.services.apply(vec![more], fleet.clock.now());
            assert_eq!((verdict(0), verdict(1)), (Verdict::Unhealthy, Verdict::Healthy));
            until("a check of the new one", || verdict(3) == Verdict::Healthy).await;
            assert_eq!(fleet.wellness.checked("10.0.0.1:80"), before, "only the new one at once");
            let status = fleet.services.status_of("orders").unwrap();
            let check = status.endpoints[0].check.clone().unwrap();
            assert_eq!(check.detail, "status 500");
            assert!(check.failures >= 3 && check.verdict_age.is_some());

            fleet.services.apply(vec![options("orders", &all)], fleet.clock.now());
            assert_eq!(verdict(0), Verdict::Unknown, "nobody checks any more");
            let before = fleet.wellness.checked("10.0.0.2:80");
            tokio::time::sleep(Duration::from_secs(30)).await;
            assert_eq!(fleet.wellness.checked("10.0.0.2:80"), before);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn many_endpoints_are_checked_at_their_pace_and_not_too_many_at_once() {
    let fleet = Fleet::paused();
    let addresses = addresses(1_000);
    let endpoints: Vec<(&str, u32)> = addresses.iter().map(|key| (key.as_str(), 1)).collect();
    fleet.services.apply(vec![checked(&endpoints)], fleet.clock.now());
    fleet
        .during(async {
            tokio::time::sleep(Duration::from_secs(60)).await;
        })
        .await;
    for address in &addresses {
        let checks = fleet.wellness.checked(address);
        assert!((11..=15).contains(&checks), "{address}: {checks} in a minute");
    }
    let most = fleet.wellness.most_at_once();
    assert!(most <= weft_discovery::services::PROBES_MAX, "{most}");
}

/// A server that reads a request and sends these bytes back, once.
async fn server(answer: &'static [u8]) -> (String, tokio::task::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let task = tokio::task::spawn_local(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut read = vec![0; 4096];
        let length = stream.read(&mut read).await.unwrap();
        read.truncate(length);
        stream.write_all(answer).await.unwrap();
        stream.shutdown().await.unwrap();
        read
    });
    (address, task)
}

async fn probe(address: &str, check: Check) -> Finding {
    let checkup = Checkup {
        check,
        address: address.parse().unwrap(),
        hostname: Some(Arc::from("orders.internal")),
        tls: None,
        proxy_header: None,
        timeout: Duration::from_secs(5),
    };
    NetProbe.probe(checkup).await
}

async fn locally(test: impl Future<Output = ()>) {
    tokio::task::LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn an_http_check_goes_by_the_status() {
    locally(async {
        for (answer, expect) in [
            (&b"HTTP/1.1 204 No Content\r\n\r\n"[..], Ok("status 204")),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", Ok("status 200")),
            (b"HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n", Err("status 302")),
            (b"HTTP/1.1 503 Gone\r\ncontent-length: 0\r\n\r\n", Err("status 503")),
        ] {
            let (address, task) = server(answer).await;
            let found = probe(&address, Check::http("/health?deep=1")).await;
            assert_eq!(found, expect.map(str::to_owned).map_err(str::to_owned));
            let asked = String::from_utf8(task.await.unwrap()).unwrap().to_ascii_lowercase();
            assert!(asked.starts_with("get /health?deep=1 http/1.1\r\n"), "{asked}");
            let port = address.rsplit(':').next().unwrap();
            assert_eq!(asked.matches("\r\nhost:").count(), 1, "{asked}");
            assert!(asked.contains(&format!("\r\nhost: orders.internal:{port}\r\n")), "{asked}");
        }
        let (address, _task) = server(b"SSH-2.0-x\r\n").await;
        assert!(probe(&address, Check::http("/")).await.is_err());
    })
    .await;
}

#[tokio::test]
async fn a_tcp_check_connects_and_may_talk() {
    locally(async {
        let ping = || Check::Tcp {
            send: Bytes::from_static(b"PING\r\n"),
            expect: Bytes::from_static(b"+PONG"),
        };
        let (address, task) = server(b"+PONG\r\n").await;
        assert_eq!(probe(&address, ping()).await, Ok("answered as expected".into()));
        assert_eq!(task.await.unwrap(), b"PING\r\n");
        let (address, _task) = server(b"-LOADING\r\n").await;
        assert_eq!(probe(&address, ping()).await, Err("answered \"-LOAD\"".into()));

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        assert_eq!(probe(&address, Check::tcp()).await, Ok("connected".into()));
        drop(listener);
        let refused = probe(&address, Check::tcp()).await.unwrap_err();
        assert!(refused.contains("refused"), "{refused}");
    })
    .await;
}

#[tokio::test]
async fn a_silent_endpoint_is_given_up_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let checkup = Checkup {
        check: Check::http("/"),
        address: listener.local_addr().unwrap().into(),
        hostname: None,
        tls: None,
        proxy_header: None,
        timeout: Duration::from_millis(50),
    };
    let said = NetProbe.probe(checkup).await.unwrap_err();
    assert!(said.contains("50ms"), "{said}");
}

#[tokio::test]
async fn a_check_over_tls_verifies_the_name_and_speaks_its_own_protocol() {
    locally(async {
        let key = rcgen::generate_simple_self_signed(["orders.internal".to_owned()]).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![key.cert.der().clone()],
                rustls_pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap(),
            )
            .unwrap();
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::task::spawn_local(async move {
            let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                let _ = stream.shutdown().await;
            }
        });
        let mut roots = rustls::RootCertStore::empty();
        roots.add(key.cert.der().clone()).unwrap();
        let mut client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let config = Arc::new(client);
        let checkup = |hostname: &str| Checkup {
            check: Check::http("/"),
            address: address.into(),
            hostname: Some(hostname.into()),
            tls: Some(ProbeTls { config: Arc::clone(&config), name: None }),
            proxy_header: None,
            timeout: Duration::from_secs(5),
        };
        assert_eq!(NetProbe.probe(checkup("orders.internal")).await, Ok("status 200".into()));
        let said = NetProbe.probe(checkup("users.internal")).await.unwrap_err();
        assert!(said.contains("TLS") && said.contains("users.internal"), "{said}");
    })
    .await;
}

/// A gRPC server on the `h2` crate that answers any call with these bytes and this status.
async fn grpc_server(answer: &'static [u8], status: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::task::spawn_local(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
            assert_eq!(request.headers()["content-type"], "application/grpc");
            let head = http::Response::builder().header("content-type", "application/grpc");
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", http::HeaderValue::from_static(status));
            if answer.is_empty() {
                let head = head.header("grpc-status", status).body(()).unwrap();
                respond.send_response(head, true).unwrap();
            } else {
                let mut body = respond.send_response(head.body(()).unwrap(), false).unwrap();
                body.send_data(Bytes::from_static(answer), false).unwrap();
                body.send_trailers(trailers).unwrap();
            }
        }
    });
    address
}

#[tokio::test]
async fn a_grpc_check_goes_by_the_serving_status() {
    locally(async {
        for (answer, status, expect) in [
            (&[0, 0, 0, 0, 2, 8, 1][..], "0", Ok("SERVING")),
            (&[0, 0, 0, 0, 2, 8, 2], "0", Err("NOT_SERVING")),
            (&[0, 0, 0, 0, 0], "0", Err("UNKNOWN")),
            (&[], "12", Err("grpc-status 12: the server has no health service")),
            (&[], "5", Err("grpc-status 5: the server does not know this service")),
            (&[7, 7], "0", Err("not a health response")),
        ] {
            let address = grpc_server(answer, status).await;
            let found = probe(&address, Check::grpc()).await;
            assert_eq!(found, expect.map(str::to_owned).map_err(str::to_owned));
        }
    })
    .await;
}
