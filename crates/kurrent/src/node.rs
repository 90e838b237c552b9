//! What a client asks on connecting: which nodes there are, and what they can do.

use weft_net::clock;
use weft_proxy::Reply;

use crate::{
    answer,
    event::uuid_of,
    messages::{
        ClusterInfo, SupportedMethods,
        cluster_info::{EndPoint, Member},
        supported_methods::Method,
    },
    service::{METHODS, PERSISTENT},
};

/// The state of a member that leads.
const LEADER: i32 = 8;
/// The version of KurrentDB whose protocol this is.
const VERSION: &str = "25.1.0";

/// `Gossip/Read`: this node alone, at the address by which the client has come.
pub(crate) fn gossip(host: &str) -> Reply {
    let (address, port) = split(host);
    let now = clock::wall().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let ticks = i64::try_from(now.as_micros() * 10).unwrap_or(i64::MAX);
    let member = Member {
        instance_id: Some(uuid_of(1, false)),
        time_stamp: ticks,
        state: LEADER,
        is_alive: true,
        http_end_point: Some(EndPoint { address, port }),
    };
    answer::message(&ClusterInfo { members: vec![member] })
}

/// The address and the port of an authority (RFC 3986 section 3.2).
fn split(host: &str) -> (String, u32) {
    let (address, port) = match host.rsplit_once(':') {
        Some((address, port)) if !port.contains(']') => (address, port.parse().unwrap_or(2113)),
        _ => (host, 2113),
    };
    (address.trim_start_matches('[').trim_end_matches(']').to_owned(), port)
}

/// `ServerFeatures/GetSupportedMethods`. Names are told in small letters, as KurrentDB does.
pub(crate) fn features() -> Reply {
    let method = |(service, method): &(&str, &str)| Method {
        method_name: method.to_lowercase(),
        service_name: service.to_lowercase(),
        features: match *service {
            PERSISTENT if *method != "RestartSubsystem" => vec!["stream".into(), "all".into()],
            _ => Vec::new(),
        },
    };
    let methods = METHODS.iter().map(method).collect();
    let event_store_server_version = VERSION.to_owned();
    answer::message(&SupportedMethods { methods, event_store_server_version })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities() {
        for (host, address, port) in [
            ("localhost:8080", "localhost", 8080),
            ("localhost", "localhost", 2113),
            ("[::1]:99", "::1", 99),
            ("[::1]", "::1", 2113),
            ("", "", 2113),
        ] {
            assert_eq!(split(host), (address.to_owned(), port));
        }
    }
}
