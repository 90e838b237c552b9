//! Chains with every kind of trust, and what strangers write.

use proptest::{collection::vec, prelude::*};

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn networks(list: &[&str]) -> Trust {
    Trust::Networks(list.iter().map(|text| text.parse().unwrap()).collect())
}

fn lines<'a>(list: &'a [&'a str]) -> impl Iterator<Item = &'a [u8]> {
    list.iter().map(|line| line.as_bytes())
}

const PEER: &str = "10.0.0.9";

fn seen(client: Client) -> (IpAddr, usize, bool) {
    (client.address, client.depth, client.broken)
}

#[test]
fn a_trusted_proxy_that_names_nobody_is_believed_in_the_rest() {
    let networks = networks(&["10.0.0.0/8"]);
    let asked = |trust: &Trust, chain: &[&str]| {
        let found = client_by_forwarded(ip(PEER), trust, lines(chain));
        let told = told(found.said, lines(chain));
        (found.depth, told.proto)
    };
    for trust in [&networks, &Trust::Hops(1)] {
        for chain in ["proto=https", "for=unknown;proto=https", "for=_x;proto=HTTPS;host=e.example"]
        {
            assert_eq!(asked(trust, &[chain]), (0, Some("https".into())), "{chain}");
            let behind = format!("for=6.6.6.6;proto=http, {chain}");
            assert_eq!(asked(trust, &[&behind]), (0, Some("https".into())), "{behind}");
        }
        assert_eq!(client(ip(PEER), trust, lines(&[])).said, 1);
        assert_eq!(client(ip(PEER), trust, lines(&["unknown"])).said, 1);
        assert_eq!(asked(trust, &["for=\"x, proto=https"]), (0, None), "nothing of a broken line");
        assert_eq!(client(ip("192.0.2.1"), &networks, lines(&[])).said, 0);
    }
    // The second of them names nobody, the first has named the second.
    let chain = "for=6.6.6.6;proto=ws, for=unknown;proto=https, for=10.0.0.7;proto=http";
    assert_eq!(asked(&networks, &[chain]), (1, Some("https".into())));
    // Who names others, but too few, has not passed all of them.
    let two = Trust::Hops(2);
    assert_eq!(asked(&two, &["for=1.2.3.4;proto=https"]), (0, None));
    assert_eq!(asked(&two, &["proto=https, proto=http"]), (1, Some("https".into())));
    assert_eq!(asked(&Trust::Nobody, &["proto=https"]), (0, None));
}

#[test]
fn clients_by_count_of_hops() {
    for (hops, chain, address, depth, broken) in [
        (0, &["1.2.3.4"][..], PEER, 0, false),
        (1, &["1.2.3.4"], "1.2.3.4", 1, false),
        (1, &["6.6.6.6, 1.2.3.4"], "1.2.3.4", 1, false),
        (1, &["6.6.6.6", "1.2.3.4"], "1.2.3.4", 1, false),
        (2, &["6.6.6.6, 1.2.3.4 ,10.0.0.8"], "1.2.3.4", 2, false),
        (2, &["6.6.6.6, 1.2.3.4", "", " , 10.0.0.8"], "1.2.3.4", 2, false),
        (2, &["1.2.3.4, unknown"], "1.2.3.4", 2, false),
        // Too short: the request did not pass both proxies.
        (2, &["1.2.3.4"], PEER, 0, true),
        (1, &[], PEER, 0, true),
        (1, &["6.6.6.6, what"], PEER, 0, true),
        (2, &["6.6.6.6, <script>, 10.0.0.8"], "10.0.0.8", 1, true),
        (1, &["1.2.3.4:5678"], "1.2.3.4", 1, false),
        (1, &["[2001:db8::1]:443"], "2001:db8::1", 1, false),
        (1, &["2001:db8::1"], "2001:db8::1", 1, false),
        (1, &["::ffff:1.2.3.4"], "1.2.3.4", 1, false),
        (1, &["010.1.1.1"], PEER, 0, true),
        (1, &["1.2.3.4.5"], PEER, 0, true),
        (1, &["fe80::1%eth0"], PEER, 0, true),
        (255, &["1.2.3.4"], PEER, 0, true),
    ] {
        assert_eq!(
            seen(client(ip(PEER), &Trust::Hops(hops), lines(chain))),
            (ip(address), depth, broken),
            "{hops} {chain:?}"
        );
    }
}

#[test]
fn clients_by_networks() {
    let trust = networks(&["10.0.0.0/8", "fd00::/8"]);
    for (peer, chain, address, depth, broken) in [
        ("192.0.2.1", &["1.2.3.4"][..], "192.0.2.1", 0, false),
        (PEER, &["1.2.3.4"], "1.2.3.4", 1, false),
        (PEER, &["6.6.6.6, 1.2.3.4, 10.1.1.1, fd00::7"], "1.2.3.4", 3, false),
        ("::ffff:10.0.0.9", &["1.2.3.4"], "1.2.3.4", 1, false),
        // All trusted: the outermost that is known.
        (PEER, &["10.1.1.1, 10.2.2.2"], "10.1.1.1", 2, false),
        (PEER, &[], PEER, 0, true),
        (PEER, &["1.2.3.4, junk, 10.2.2.2"], "10.2.2.2", 1, true),
        (PEER, &["1.2.3.4, unknown"], PEER, 0, true),
    ] {
        assert_eq!(
            seen(client(ip(peer), &trust, lines(chain))),
            (ip(address), depth, broken),
            "{peer} {chain:?}"
        );
    }
}

#[test]
fn only_the_last_lines_and_hops_count() {
    let many: Vec<String> = (0..100).map(|n| format!("10.0.1.{n}")).collect();
    let each: Vec<&str> = many.iter().map(String::as_str).collect();
    let trust = networks(&["10.0.0.0/8"]);
    let found = client(ip(PEER), &trust, lines(&each));
    assert_eq!((found.address, found.depth), (ip("10.0.1.84"), LINES_MAX));
    let joined = many.join(",");
    let found = client(ip(PEER), &trust, lines(&[&joined]));
    assert_eq!((found.address, found.depth), (ip("10.0.1.68"), HOPS_MAX));
    let forwarded = many.iter().map(|a| format!("for={a}")).collect::<Vec<_>>().join(",");
    let found = client_by_forwarded(ip(PEER), &trust, lines(&[&forwarded]));
    assert_eq!((found.address, found.depth), (ip("10.0.1.68"), HOPS_MAX));
}

#[test]
fn clients_by_forwarded() {
    let trust = Trust::Hops(1);
    for (chain, address, broken) in [
        (&["for=1.2.3.4;proto=https;by=10.0.0.9"][..], "1.2.3.4", false),
        (&["for=6.6.6.6, For=\"[2001:db8::1]:47011\""], "2001:db8::1", false),
        (&["for=6.6.6.6", "for=1.2.3.4;host=\"a.example:8080\""], "1.2.3.4", false),
        (&["for=_hidden"], PEER, true),
        (&["proto=https"], PEER, true),
        // A quote that a stranger leaves open swallows the rest of its line, never another line.
        (&["for=6.6.6.6;host=\", for=1.2.3.4"], PEER, true),
        (&["for=6.6.6.6;host=\"", "for=1.2.3.4"], "1.2.3.4", false),
        (&["for=1.2.3.4", "for=\"x"], PEER, true),
        (&[], PEER, true),
    ] {
        let found = client_by_forwarded(ip(PEER), &trust, lines(chain));
        assert_eq!((found.address, found.broken), (ip(address), broken), "{chain:?}");
    }
    let trust = networks(&["10.0.0.0/8"]);
    let found =
        client_by_forwarded(ip(PEER), &trust, lines(&["for=1.2.3.4", "for=\"", "for=10.0.0.8"]));
    assert_eq!(seen(found), (ip("10.0.0.8"), 1, true));
}

#[test]
fn elements_of_a_line() {
    let line = br#"For="[2001:db8:cafe::17]:4711";proto=http;by=203.0.113.43;host=a.example, for=unknown , , for="_gazonk:_x" ; secret="a,b;\"c\"""#;
    let all: Vec<_> = elements(line).collect::<Result<_, _>>().unwrap();
    assert_eq!(all.len(), 3);
    assert_eq!(all[0].for_, Some(Node::Address(ip("2001:db8:cafe::17"), Some(4711))));
    assert_eq!(all[0].by, Some(Node::Address(ip("203.0.113.43"), None)));
    assert_eq!(all[0].host.as_deref(), Some("a.example"));
    assert_eq!(all[0].proto.as_deref(), Some("http"));
    assert_eq!(all[1].for_, Some(Node::Unknown));
    assert_eq!(all[2].for_, Some(Node::Hidden("_gazonk")));
    for bad in [
        "for",
        "for=",
        "=1.2.3.4",
        "for =1.2.3.4",
        "for=2001:db8::1",
        "for=\"2001:db8::1",
        "for=1.2.3.4 x",
        "for=1.2.3.4;for=1.2.3.4",
        "host=\"a b\"",
        "host=\"a\r\nb\"",
        "for=1.2.3.4\0",
        "for=\"[::1\"",
        "for=\"1.2.3.4:99999\"",
        "for=\"1.2.3.4:+1\"",
        "for=\"1\\.2.3.4\"",
        "host=\"\\",
        "for=1.2.3.4;é=1",
    ] {
        assert!(elements(bad.as_bytes()).any(|element| element.is_err()), "{bad:?}");
    }
}

#[test]
fn scheme_and_host_come_from_whom_is_trusted() {
    for (depth, values, secure) in [
        (0, &["https"][..], None),
        (1, &["https"], Some(true)),
        (2, &["HTTPS"], Some(true)),
        (1, &["https, http"], Some(false)),
        (2, &["https", "http"], Some(true)),
        (2, &["gopher, https, http"], Some(true)),
        (1, &["gopher"], None),
        (1, &[], None),
        (usize::MAX, &["wss"], Some(true)),
    ] {
        assert_eq!(is_secure(depth, lines(values)), secure, "{depth} {values:?}");
    }
    for (depth, value, found) in [
        (0, "a.example", None),
        (1, "a.example", Some("a.example")),
        (1, "evil.example, a.example:8443", Some("a.example:8443")),
        (1, "[2001:db8::1]:80", Some("[2001:db8::1]:80")),
        (1, "a.example/path", None),
        (1, "user@a.example", None),
        (1, "a b", None),
        (1, "a:99999", None),
        (1, ":80", None),
        (1, "[::1", None),
        (1, "a.example\u{0}", None),
    ] {
        assert_eq!(host(depth, lines(&[value])), found, "{value}");
    }
}

#[test]
fn what_is_sent_on() {
    for (chain, peer, expect) in [
        (&[][..], "10.0.0.9", "10.0.0.9"),
        (&["1.2.3.4"], "255.100.10.0", "1.2.3.4, 255.100.10.0"),
        (&["a, b ", "", "c"], "::ffff:10.0.0.9", "a, b, c, 10.0.0.9"),
        (&["1.2.3.4"], "2001:db8::1", "1.2.3.4, 2001:db8::1"),
    ] {
        let mut out = Vec::new();
        write_x_forwarded_for(lines(chain), ip(peer), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expect);
    }
    for (peer, host, secure, expect) in [
        ("10.0.0.9", Some("a.example"), true, "for=10.0.0.9;host=a.example;proto=https"),
        ("2001:db8::1", Some("a:80"), false, "for=\"[2001:db8::1]\";host=\"a:80\";proto=http"),
        ("10.0.0.9", Some("a\"b"), false, "for=10.0.0.9;proto=http"),
        ("10.0.0.9", None, false, "for=10.0.0.9;proto=http"),
    ] {
        let mut out = Vec::new();
        write_element(ip(peer), host, secure, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expect);
    }
}

fn entry() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(|octets| IpAddr::from(octets).to_string()),
        any::<[u8; 16]>().prop_map(|octets| IpAddr::from(octets).to_string()),
        Just("unknown".to_owned()),
        "[ -+--~]{0,12}",
    ]
}

proptest! {
    #[test]
    fn a_stranger_cannot_choose_an_address(
        forged in vec(entry(), 0..6),
        client_octets in any::<[u8; 4]>(),
        inner in 0u8..4,
    ) {
        // Whatever the client sends, each proxy adds whom it was called by.
        let real = IpAddr::from(client_octets);
        let mut chain = forged;
        chain.push(real.to_string());
        chain.extend((0..inner).map(|n| format!("10.0.0.{n}")));
        let joined = chain.join(", ");
        let found = client(ip(PEER), &Trust::Hops(inner + 1), [joined.as_bytes()]);
        prop_assert_eq!(found.address, real);
        if !real.to_string().starts_with("10.") {
            let found = client(ip(PEER), &networks(&["10.0.0.0/8"]), [joined.as_bytes()]);
            prop_assert_eq!(found.address, real);
        }
    }

    #[test]
    fn without_trust_the_peer_is_the_client(line in vec(any::<u8>(), 0..80)) {
        let expect = Client { address: ip(PEER), depth: 0, said: 0, broken: false };
        prop_assert_eq!(client(ip(PEER), &Trust::Nobody, [&line[..]]), expect);
        prop_assert_eq!(client_by_forwarded(ip(PEER), &Trust::Nobody, [&line[..]]), expect);
    }

    #[test]
    fn any_bytes_end_in_an_address(line in vec(any::<u8>(), 0..80), text in "[a-z_=;,:\"\\\\\\[\\]0-9. ]{0,60}") {
        for line in [&line[..], text.as_bytes()] {
            for trust in [Trust::Hops(2), networks(&["0.0.0.0/0"])] {
                let found = client(ip(PEER), &trust, [line]);
                prop_assert!(found.depth <= HOPS_MAX);
                let found = client_by_forwarded(ip(PEER), &trust, [line]);
                prop_assert!(found.depth <= HOPS_MAX);
            }
            prop_assert!(elements(line).count() <= line.len());
        }
    }

    #[test]
    fn our_own_element_reads_back(octets in any::<[u8; 16]>(), four in any::<[u8; 4]>(), v6 in any::<bool>()) {
        let peer = if v6 { IpAddr::from(octets).to_canonical() } else { IpAddr::from(four) };
        let mut out = Vec::new();
        write_element(peer, Some("shop.example:8080"), true, &mut out);
        let element = elements(&out).next().unwrap().unwrap();
        prop_assert_eq!(element.for_.unwrap().address(), Some(peer));
        prop_assert_eq!(element.host.as_deref(), Some("shop.example:8080"));
        for cut in 0..out.len() {
            for element in elements(&out[..cut]).flatten() {
                prop_assert!(element.proto.as_deref() != Some("https"));
            }
        }
    }
}
