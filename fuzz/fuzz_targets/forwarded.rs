//! Without trust nothing is believed; with it the answer is bounded, and what is written is readable.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};

use libfuzzer_sys::fuzz_target;
use weft_wire::{
    fields::is_value,
    forwarded::{self, HOPS_MAX, Trust},
};

fuzz_target!(|bytes: &[u8]| {
    let peer = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9));
    let lines = || bytes.split(|byte| *byte == b'\n');
    assert_eq!(forwarded::client(peer, &Trust::Nobody, lines()).address, peer);
    for trust in [Trust::Hops(2), Trust::Networks(vec!["0.0.0.0/0".parse().unwrap()])] {
        for client in [
            forwarded::client(peer, &trust, lines()),
            forwarded::client_by_forwarded(peer, &trust, lines()),
        ] {
            assert!(client.depth <= HOPS_MAX);
        }
    }
    for line in lines() {
        let broken = forwarded::elements(line).filter(Result::is_err).count();
        assert!(broken <= 1);
    }
    if let Some(host) = forwarded::host(1, lines()) {
        let mut out = Vec::new();
        forwarded::write_element(peer, Some(host), true, &mut out);
        let element = forwarded::elements(&out).next().unwrap().unwrap();
        assert_eq!(element.host.as_deref(), Some(host));
    }
    let _ = forwarded::is_secure(1, lines());
    let mut out = Vec::new();
    forwarded::write_x_forwarded_for(lines(), peer, &mut out);
    assert!(out.ends_with(b"10.0.0.9"));
    assert!(!bytes.iter().all(|byte| !matches!(byte, b'\r' | 0)) || is_value(&out));
});
