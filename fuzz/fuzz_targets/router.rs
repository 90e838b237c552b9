//! Whatever routes are compiled and whatever is asked, an answer stays within what was asked, and what is
//! told to be out of reach is never found.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_fuzz::{ROUTES_MAX, routes};
use weft_proxy::router::{Captures, Lookup, Missing, Table, shadowed};
use weft_wire::{Fields, path};

// Lines of routes, an empty line, then lines of `METHOD HOST TARGET`.
fuzz_target!(|text: &str| {
    let (given, asked) = text.split_once("\n\n").unwrap_or((text, ""));
    let routes = routes(given);
    let numbered = || routes.iter().enumerate().map(|(at, route)| (at as u32, route));
    let Ok(table) = Table::compile(numbered()) else { return };
    let unreachable = shadowed(&routes);
    let mut fields = Fields::new();
    fields.append("x-test", b"one");
    for line in asked.lines().take(ROUTES_MAX) {
        let mut words = line.splitn(3, ' ');
        let (Some(method), Some(host), Some(target)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        let Ok(target) = path::normalise(target, path::Rules::default()) else { continue };
        let (path, query) =
            target.split_once('?').map_or((&*target, None), |(path, query)| (path, Some(query)));
        let lookup = Lookup { host, method, path, query, fields: &fields };
        let (mut captures, mut again) = (Captures::default(), Captures::default());
        let found = table.find(&lookup, &mut captures);
        assert_eq!(found, table.find(&lookup, &mut again));
        assert_eq!(captures, again);
        assert_eq!(table.explain(&lookup).winner, found.clone().ok());
        match found {
            Ok(found) => {
                assert!(!unreachable.iter().any(|(at, _)| *at == found.route as usize), "{line}");
                let route = &routes[found.route as usize];
                assert!(
                    found.match_index == 0 || (found.match_index as usize) < route.matches.len()
                );
                assert!(path.get(found.prefix_len as usize..).is_some(), "{path} {found:?}");
                for at in 0..captures.len() {
                    assert!(captures.get(at, path).is_some(), "{path} {captures:?}");
                }
            }
            Err(Missing::MethodNotAllowed { allow }) => {
                assert!(!allow.is_empty());
                assert!(!allow.split(", ").any(|allowed| allowed == method), "{method} {allow}");
            }
            Err(Missing::NotFound) => {
                assert!(routes.iter().all(|route| !route.matches.is_empty()), "{line}");
            }
        }
    }
});
