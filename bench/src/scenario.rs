//! What is driven: the table of scenarios.

use crate::asked::Choice;

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/1.1 with keep-alive, to HTTP/1.1.
    Http1,
    /// HTTP/2, to HTTP/1.1.
    Http2,
    /// gRPC unary calls, to HTTP/2.
    Grpc,
}

/// One kind of load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    /// What `--only` calls it.
    pub(crate) name: &'static str,
    pub(crate) protocol: Protocol,
    pub(crate) tls: bool,
    /// Bytes of a response body, of a gRPC message in both directions.
    pub(crate) size: usize,
    pub(crate) connections: usize,
    /// Requests in flight per connection.
    pub(crate) streams: usize,
    /// Requests a second in open loop; closed loop without.
    pub(crate) rate: Option<u64>,
    /// Part of `--quick`.
    pub(crate) quick: bool,
}

const KIB: usize = 1024;

#[rustfmt::skip]
pub(crate) const ALL: &[Scenario] = &[
    closed("h1_100",      Protocol::Http1, false, 100,         64, 1,  true),
    closed("h1_10k",      Protocol::Http1, false, 10 * KIB,    64, 1,  false),
    closed("h1_1m",       Protocol::Http1, false, KIB * KIB,   16, 1,  false),
    closed("tls_h1",      Protocol::Http1, true,  100,         64, 1,  true),
    closed("tls_h1_10k",  Protocol::Http1, true,  10 * KIB,    64, 1,  false),
    closed("tls_h1_1m",   Protocol::Http1, true,  KIB * KIB,   16, 1,  false),
    closed("h2_100",      Protocol::Http2, false, 100,         8,  16, true),
    closed("h2_10k",      Protocol::Http2, false, 10 * KIB,    8,  16, false),
    closed("h2_1m",       Protocol::Http2, false, KIB * KIB,   4,  4,  false),
    closed("tls_h2",      Protocol::Http2, true,  100,         8,  16, false),
    closed("tls_h2_10k",  Protocol::Http2, true,  10 * KIB,    8,  16, false),
    closed("tls_h2_1m",   Protocol::Http2, true,  KIB * KIB,   4,  4,  false),
    closed("grpc",        Protocol::Grpc,  false, 100,         8,  16, true),
    closed("grpc_10k",    Protocol::Grpc,  false, 10 * KIB,    8,  16, false),
    closed("tls_grpc",    Protocol::Grpc,  true,  100,         8,  16, false),
    Scenario { rate: Some(3_000), ..closed("fix_h1",   Protocol::Http1, false, 100, 50, 1,  true) },
    Scenario { rate: Some(3_000), ..closed("fix_tls",  Protocol::Http1, true,  100, 50, 1,  false) },
    Scenario { rate: Some(2_000), ..closed("fix_grpc", Protocol::Grpc,  false, 100, 20, 16, false) },
];

const fn closed(
    name: &'static str,
    protocol: Protocol,
    tls: bool,
    size: usize,
    connections: usize,
    streams: usize,
    quick: bool,
) -> Scenario {
    Scenario { name, protocol, tls, size, connections, streams, rate: None, quick }
}

impl Choice for Scenario {
    fn name(&self) -> &'static str {
        self.name
    }

    fn quick(&self) -> bool {
        self.quick
    }
}

impl Scenario {
    /// The path that is asked for.
    pub(crate) fn path(&self) -> String {
        match self.protocol {
            Protocol::Grpc => format!("{GRPC_PREFIX}{}", self.size),
            Protocol::Http1 | Protocol::Http2 => format!("/{}", self.size),
        }
    }
}

/// Where gRPC is routed to the gRPC server.
pub(crate) const GRPC_PREFIX: &str = "/bench.Echo/";

/// The scenario of that name.
pub(crate) fn find(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for (index, scenario) in ALL.iter().enumerate() {
            assert!(ALL[..index].iter().all(|other| other.name != scenario.name));
            assert_eq!(find(scenario.name).map(|found| found.path()), Some(scenario.path()));
            assert!(scenario.protocol != Protocol::Http1 || scenario.streams == 1);
        }
        assert!(find("h3").is_none());
    }
}
