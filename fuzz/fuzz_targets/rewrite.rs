//! What a path is rewritten to is as normal as what was asked, and a `Location` is printable and leads
//! nowhere that was not named.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_fuzz::{matching, rewriting};
use weft_proxy::{
    plan::{Redirect, Rewrite, Route},
    rewrite::{PATH_BYTES_MAX, Redirector, Rewriter},
    router::{Captures, Lookup, Table},
};
use weft_wire::{Fields, path};

// A line with a match, one with a rewrite, one with a host, and one with a target.
fuzz_target!(|text: &str| {
    let lines: Vec<&str> = text.split('\n').collect();
    let [matched, rewrite, host, target] = lines[..] else { return };
    let (Some(matched), Some(path)) = (matching(matched), rewriting(rewrite)) else { return };
    let rules = path::Rules { encoded_slash: path::EncodedSlash::Keep, ..path::Rules::default() };
    let Ok(target) = path::normalise(target, rules) else { return };
    let route: Route = weft_fuzz::route(0, vec![matched.clone()]);
    let Ok(table) = Table::compile([(0, &route)]) else { return };
    let (asked, query) =
        target.split_once('?').map_or((&*target, None), |(path, query)| (path, Some(query)));
    let fields = Fields::new();
    let lookup = Lookup { host: "test", method: "GET", path: asked, query, fields: &fields };
    let mut captures = Captures::default();
    let Ok(found) = table.find(&lookup, &mut captures) else { return };

    let matches = [matched];
    let plan = Rewrite { path: Some(path.clone()), host: None };
    if let Ok(rewriter) = Rewriter::compile(&plan, &matches)
        && let Ok(Some(made)) = rewriter.target(&target, &found, &captures)
    {
        let (new, kept) =
            made.split_once('?').map_or((&*made, None), |(path, query)| (path, Some(query)));
        assert!(new.starts_with('/') && new.len() <= PATH_BYTES_MAX + 1, "{made}");
        assert_eq!(path::normalise(new, rules).as_deref(), Ok(new));
        assert_eq!(kept, query);
    }

    let own_host = host.len() % 2 == 0;
    let plan = Redirect {
        scheme: own_host.then(|| "https".into()),
        host: own_host.then(|| "shop.example".into()),
        port: None,
        path: Some(path),
        status: 308,
        strip_query: false,
    };
    if let Ok(redirector) = Redirector::compile(&plan, &matches)
        && let Ok(location) = redirector.location(false, host, &target, &found, &captures)
    {
        assert!(location.bytes().all(|byte| matches!(byte, b'!'..=b'~')), "{location}");
        if own_host {
            assert!(location.starts_with("https://shop.example/"), "{location}");
        } else if host.is_empty() {
            assert!(location.starts_with('/') && !location.starts_with("//"), "{location}");
        } else {
            let rest = location.strip_prefix("http://").expect("a scheme");
            let (authority, _) = rest.split_once('/').expect("a path");
            assert!(!authority.is_empty() && host.starts_with(authority), "{location} {host}");
        }
    }
});
