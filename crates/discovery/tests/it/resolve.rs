//! Names: simulated answers through the services, and the real client against a name server of the
//! test's own on the loopback.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use hickory_resolver::{
    config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts},
    proto::{
        op::{Message, MessageType, ResponseCode},
        rr::{Name, RData, Record, rdata::SRV},
    },
};
use tokio::net::UdpSocket;
use weft_discovery::{
    Family, Outcome,
    resolve::{Failure, Hickory, Lookup, Query, State},
};
use weft_kernel::{Reason, Rng};
use weft_net::client::Resolver as _;

use crate::fleet::{Fleet, START, options, pick, until};

#[tokio::test(start_paused = true)]
async fn endpoints_follow_the_answers_and_survive_their_absence() {
    let fleet = Fleet::paused();
    let name = "orders.internal:80";
    fleet.names.set(name, 10, &["10.0.0.1:80", "10.0.0.2:80"]);
    let shared = options("more", &[(name, 1)]);
    fleet.services.apply(vec![options("orders", &[(name, 2), ("10.0.9.9:80", 1)]), shared], START);
    let service = fleet.services.get("orders").unwrap();
    let labels = || -> Vec<String> {
        service.set().members().iter().map(|m| m.endpoint.label().to_string()).collect()
    };
    assert_eq!(labels(), ["10.0.9.9:80"], "what is an address needs no answer");
    assert_eq!(fleet.services.pending(), 1);
    fleet
        .during(async {
            until("the first answer", || labels().len() == 3).await;
            assert_eq!(fleet.services.pending(), 0);
            assert_eq!(fleet.names.asked(name), 1, "one look-up for both services");
            let kept = service.set().members()[1].endpoint.clone();
            assert_eq!(kept.hostname().map(|name| &**name), Some("orders.internal"));
            assert_eq!(service.set().members()[1].weight, 2);

            fleet.names.set(name, 10, &["10.0.0.2:80", "10.0.0.3:80"]);
            until("the next", || labels().contains(&"10.0.0.3:80".into())).await;
            let waited = fleet.clock.now().since(START);
            assert!(waited >= Duration::from_secs(10) && waited < Duration::from_secs(12));
            assert!(Arc::ptr_eq(&service.set().members()[0].endpoint, &kept));

            fleet.names.fail(name, Failure::Unanswered("timed out".into()));
            let state = || fleet.services.status_of("orders").unwrap().sources[0].clone();
            until("staleness", || state().state == State::Stale).await;
            tokio::time::sleep(Duration::from_secs(600)).await;
            assert_eq!(labels().len(), 3);
            assert_eq!(state().error.as_deref(), Some("timed out"));

            fleet.names.fail(name, Failure::Empty("NXDOMAIN".into()));
            until("it is believed", || labels() == ["10.0.9.9:80"]).await;
            assert_eq!(state().state, State::Failed);
            assert!(kept.is_gone());
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_service_whose_endpoints_fail_is_resolved_again_at_once() {
    let fleet = Fleet::paused();
    let name = "orders.internal:80";
    fleet.names.set(name, 300, &["10.0.0.1:80", "10.0.0.2:80"]);
    fleet.services.apply(vec![options("orders", &[(name, 1)])], START);
    let service = fleet.services.get("orders").unwrap();
    fleet
        .during(async {
            until("the first answer", || service.set().members().len() == 2).await;
            tokio::time::sleep(Duration::from_secs(20)).await;
            fleet.names.set(name, 300, &["10.0.0.3:80"]);
            let moved = fleet.clock.now();
            let bad = service.set().members()[0].endpoint.clone();
            let mut rng = Rng::seeded(1);
            for _ in 0..5 {
                bad.clone().begin(moved).finish(Outcome::FAILED, moved, &mut rng);
            }
            assert!(bad.is_ejected());
            until("the new address", || service.set().members().len() == 1).await;
            assert!(fleet.clock.now().since(moved) < Duration::from_secs(2));
            let new = pick(&service, None, fleet.clock.now(), &mut rng).unwrap();
            assert_eq!(&**new.label(), "10.0.0.3:80");

            fleet.services.drain(new.id(), true);
            let asked = fleet.names.asked(name);
            let until_then = fleet.clock.now().plus(Duration::from_secs(10));
            while fleet.clock.now() < until_then {
                let refused = pick(&service, None, fleet.clock.now(), &mut rng).unwrap_err();
                assert_eq!(refused, Reason::NoHealthyEndpoint);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let asked = fleet.names.asked(name) - asked;
            assert!(
                (5..=11).contains(&asked),
                "{asked}: about once a second, not with each request"
            );
        })
        .await;
}

/// What a name server knows.
type Zone = Arc<Mutex<Vec<Record>>>;

/// A name server on the loopback: answers from its zone, NXDOMAIN otherwise.
async fn name_server(zone: Zone) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        let mut bytes = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut bytes).await {
            let Ok(asked) = Message::from_vec(&bytes[..length]) else { continue };
            let query = asked.queries[0].clone();
            let mut answer = Message::response(asked.metadata.id, asked.metadata.op_code);
            assert_eq!(answer.metadata.message_type, MessageType::Response);
            answer.add_query(query.clone());
            let zone = zone.lock().unwrap().clone();
            let named = zone.iter().any(|record| record.name == *query.name());
            let fits = |record: &&Record| {
                record.name == *query.name() && record.record_type() == query.query_type()
            };
            for record in zone.iter().filter(fits) {
                answer.add_answer(record.clone());
            }
            if !named {
                answer.metadata.response_code = ResponseCode::NXDomain;
            }
            let _ = socket.send_to(&answer.to_vec().unwrap(), from).await;
        }
    });
    address
}

fn client(server: SocketAddr) -> Hickory {
    let mut connection = ConnectionConfig::udp();
    connection.port = server.port();
    let server = NameServerConfig::new(server.ip(), true, vec![connection]);
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    Hickory::new(config, ResolverOpts::default()).unwrap()
}

fn host(name: &str, family: Family) -> Query {
    Query::Host { host: name.into(), port: 8080, family }
}

#[tokio::test]
async fn the_real_client_reads_hosts_and_services() {
    let record =
        |name: &str, ttl, data| Record::from_rdata(Name::from_ascii(name).unwrap(), ttl, data);
    let ip = |text: &str| match text.parse().unwrap() {
        IpAddr::V4(ip) => RData::A(ip.into()),
        IpAddr::V6(ip) => RData::AAAA(ip.into()),
    };
    let srv = |priority, weight, port, target: &str| {
        RData::SRV(SRV::new(priority, weight, port, Name::from_ascii(target).unwrap()))
    };
    let zone: Zone = Arc::new(Mutex::new(vec![
        record("orders.test.", 30, ip("192.0.2.1")),
        record("orders.test.", 30, ip("192.0.2.2")),
        record("orders.test.", 30, ip("2001:db8::1")),
        record("six.test.", 40, ip("2001:db8::6")),
        record("_http._tcp.orders.test.", 20, srv(1, 70, 8001, "orders.test.")),
        record("_http._tcp.orders.test.", 20, srv(2, 0, 8002, "six.test.")),
        record("_http._tcp.orders.test.", 20, srv(3, 0, 8003, "missing.test.")),
        record("_none._tcp.test.", 20, srv(0, 0, 0, ".")),
    ]));
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let client = client(name_server(Arc::clone(&zone)).await);
            for (name, family, expect) in [
                ("orders.test.", Family::PreferIpv4, &["192.0.2.1:8080", "192.0.2.2:8080"][..]),
                ("orders.test.", Family::PreferIpv6, &["[2001:db8::1]:8080"]),
                ("six.test", Family::PreferIpv4, &["[2001:db8::6]:8080"]),
                (
                    "orders.test",
                    Family::Both,
                    &["192.0.2.1:8080", "192.0.2.2:8080", "[2001:db8::1]:8080"],
                ),
            ] {
                let answer = client.lookup(&host(name, family)).await.unwrap();
                let mut found: Vec<String> =
                    answer.records.iter().map(|record| record.address.to_string()).collect();
                found.sort();
                assert_eq!(found, expect, "{name} {family:?}");
                assert!(answer.records.iter().all(|record| !record.hostname.ends_with('.')));
                assert!(
                    answer.ttl > Duration::from_secs(25) && answer.ttl <= Duration::from_secs(40)
                );
            }

            let found = client.resolve("orders.test").await.unwrap();
            assert_eq!(found.len(), 3);
            assert!(found[0].is_ipv4() && found[2].is_ipv6(), "{found:?}");
            let error = client.resolve("missing.test").await.unwrap_err();
            assert_eq!(error.reason(), Reason::DnsFailed);

            let family = Family::PreferIpv4;
            let query = Query::Srv { name: "_http._tcp.orders.test.".into(), family };
            let mut answer = client.lookup(&query).await.unwrap();
            answer.records.sort();
            let found: Vec<_> = answer
                .records
                .iter()
                .map(|r| (r.address.to_string(), &*r.hostname, r.priority, r.weight))
                .collect();
            assert_eq!(
                found,
                [
                    ("192.0.2.1:8001".to_owned(), "orders.test", 1, 70),
                    ("192.0.2.2:8001".to_owned(), "orders.test", 1, 70),
                    ("[2001:db8::6]:8002".to_owned(), "six.test", 2, 1),
                ]
            );
            assert!(answer.ttl <= Duration::from_secs(20));

            let missing = client.lookup(&host("missing.test.", family)).await;
            assert!(matches!(missing, Err(Failure::Empty(_))), "{missing:?}");
            let none = Query::Srv { name: "_none._tcp.test.".into(), family };
            let none = client.lookup(&none).await;
            assert!(matches!(none, Err(Failure::Empty(_))), "{none:?}");

            // What changes on the server is seen at once: nothing is cached beneath the services.
            zone.lock().unwrap().retain(|record| record.data != ip("192.0.2.1"));
            let answer = client.lookup(&host("orders.test.", family)).await.unwrap();
            assert_eq!(answer.records.len(), 1);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_not_there_is_no_answer() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    drop(socket);
    let found = client(address).lookup(&host("orders.test.", Family::PreferIpv4)).await;
    assert!(matches!(found, Err(Failure::Unanswered(_))), "{found:?}");
}
