//! The table against a reference that looks at every match in turn, and what is said of it.

use std::sync::Arc;

use proptest::{prelude::*, sample::select};
use weft_wire::Fields;

use super::*;
use crate::plan::{Field, FieldValue, Host, Match, Path, Respond, Rewrite, Route, Target};

fn route(number: usize, listeners: &[&str], matches: Vec<Match>) -> Route {
    let respond = Respond { status: 200, headers: Vec::new(), body: [].into() };
    Route {
        name: Name::new(&format!("r{number}")).unwrap(),
        listeners: listeners.iter().map(|name| Name::new(name).unwrap()).collect(),
        matches,
        policy: Arc::default(),
        rewrite: Rewrite::default(),
        is_internal: false,
        target: Target::Respond(respond),
    }
}

fn routes(matches: Vec<Vec<Match>>) -> Vec<Route> {
    matches.into_iter().enumerate().map(|(number, matches)| route(number, &[], matches)).collect()
}

fn compile(routes: &[Route]) -> Table {
    let numbered = routes.iter().enumerate().map(|(number, route)| (number as u32, route));
    Table::compile(numbered).unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn errors(matches: Vec<Vec<Match>>) -> Vec<String> {
    let routes = routes(matches);
    let numbered = routes.iter().enumerate().map(|(number, route)| (number as u32, route));
    let errors = Table::compile(numbered).expect_err("it must not compile");
    errors.iter().map(ToString::to_string).collect()
}

fn exact(host: &str) -> Vec<Host> {
    vec![Host::Exact(host.into())]
}

fn below(host: &str) -> Vec<Host> {
    vec![Host::Wildcard(host.into())]
}

fn prefix(path: &str) -> Match {
    Match { path: Path::Prefix(path.into()), ..Match::default() }
}

fn template(path: &str) -> Match {
    Match { path: Path::Template(path.into()), ..Match::default() }
}

fn regex(pattern: &str) -> Match {
    Match { path: Path::Regex(pattern.into()), ..Match::default() }
}

fn with(name: &str, value: &str) -> Field {
    Field { name: name.into(), value: FieldValue::Exact(value.into()), invert: false }
}

fn methods(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// A request that owns its parts.
#[derive(Clone, Debug)]
struct Request {
    host: &'static str,
    method: &'static str,
    path: String,
    query: Option<&'static str>,
    fields: Fields,
}

impl Request {
    fn get(host: &'static str, path: &str) -> Self {
        Self { host, method: "GET", path: path.into(), query: None, fields: Fields::new() }
    }

    fn lookup(&self) -> Lookup<'_> {
        Lookup {
            host: self.host,
            method: self.method,
            path: &self.path,
            query: self.query,
            fields: &self.fields,
            certificate: None,
        }
    }
}

fn found(table: &Table, request: &Request) -> Option<usize> {
    table.find(&request.lookup(), &mut Captures::default()).ok().map(|found| found.route as usize)
}

mod reference {
    //! What the precedence says, without any table.

    use std::{cell::RefCell, cmp::Reverse, collections::HashMap};

    use super::*;

    type Key = ((u8, usize), (u8, usize, usize, usize, bool), (bool, usize, usize));

    /// The route and match that wins.
    pub(super) fn winner(routes: &[Route], request: &Request) -> Option<(usize, usize)> {
        let mut fitting = Vec::new();
        for (at, route) in routes.iter().enumerate() {
            let everything = [Match::default()];
            let matches = if route.matches.is_empty() { &everything[..] } else { &route.matches };
            for (number, one) in matches.iter().enumerate() {
                if let Some(key) = key(one, request) {
                    fitting.push((key, Reverse((at, number))));
                }
            }
        }
        fitting.into_iter().max().map(|(_, Reverse(place))| place)
    }

    fn key(one: &Match, request: &Request) -> Option<Key> {
        let host = if one.hosts.is_empty() {
            (0, 0)
        } else {
            one.hosts.iter().filter_map(|host| self::host(host, request.host)).max()?
        };
        let path = path(&one.path, &request.path)?;
        if !one.methods.is_empty() && !one.methods.iter().any(|m| m == request.method) {
            return None;
        }
        for field in &one.headers {
            let mut values = request.fields.iter().filter(|(name, _)| *name == field.name);
            if values.any(|(_, value)| fits(&field.value, value)) == field.invert {
                return None;
            }
        }
        for field in &one.query {
            let pairs =
                request.query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
            let mut values = pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .filter(|(name, _)| *name == field.name);
            if values.any(|(_, value)| fits(&field.value, value.as_bytes())) == field.invert {
                return None;
            }
        }
        Some((host, path, (!one.methods.is_empty(), one.headers.len(), one.query.len())))
    }

    fn host(pattern: &Host, host: &str) -> Option<(u8, usize)> {
        match pattern {
            Host::Exact(name) => (name == host).then_some((2, name.len())),
            Host::Wildcard(suffix) => {
                let ending = format!(".{suffix}");
                (host.ends_with(&ending) && host.len() > ending.len()).then_some((1, suffix.len()))
            }
        }
    }

    fn path(pattern: &Path, path: &str) -> Option<(u8, usize, usize, usize, bool)> {
        let given: Vec<&str> = path.split('/').skip(1).collect();
        match pattern {
            Path::Any => Some((0, 0, 0, 0, false)),
            Path::Exact(exact) => (exact == path).then_some((3, 0, 0, 0, false)),
            Path::Regex(regex) => {
                let fits = path.starts_with('/') && whole(regex, path);
                fits.then_some((1, 0, 0, 0, false))
            }
            Path::Prefix(prefix) => {
                let wanted: Vec<&str> =
                    prefix.split('/').skip(1).filter(|segment| !segment.is_empty()).collect();
                if wanted.is_empty() {
                    return Some((0, 0, 0, 0, false));
                }
                let length = wanted.iter().map(|segment| segment.len() + 1).sum();
                given.starts_with(&wanted).then_some((2, length, wanted.len(), 0, false))
            }
            Path::Template(template) => {
                let mut wanted: Vec<&str> = template.split('/').skip(1).collect();
                let rest = wanted.last().is_some_and(|last| last.starts_with("{*"));
                if rest {
                    wanted.pop();
                }
                let long_enough =
                    if rest { given.len() > wanted.len() } else { given.len() == wanted.len() };
                let fits = long_enough
                    && wanted.iter().zip(&given).all(|(wanted, given)| {
                        if wanted.starts_with('{') { !given.is_empty() } else { wanted == given }
                    });
                if !fits || !path.starts_with('/') {
                    return None;
                }
                let literals = wanted.iter().filter(|segment| !segment.starts_with('{'));
                let length = literals.clone().map(|segment| segment.len() + 1).sum();
                let captures = wanted.len() - literals.clone().count();
                Some(match (rest, captures, wanted.is_empty()) {
                    (false, 0, _) => (3, 0, 0, 0, false),
                    (true, _, true) => (0, 0, 0, 0, false),
                    _ => (2, length, literals.count(), captures, true),
                })
            }
        }
    }

    fn fits(test: &FieldValue, value: &[u8]) -> bool {
        let value = std::str::from_utf8(value).unwrap();
        match test {
            FieldValue::Present => true,
            FieldValue::Exact(text) => value == text,
            FieldValue::Prefix(text) => value.starts_with(text.as_str()),
            FieldValue::Regex(regex) => whole(regex, value),
        }
    }

    fn whole(pattern: &str, text: &str) -> bool {
        thread_local! {
            static COMPILED: RefCell<HashMap<String, regex::Regex>> = RefCell::default();
        }
        COMPILED.with_borrow_mut(|compiled| {
            let anchored = || regex::Regex::new(&format!("^(?:{pattern})$")).unwrap();
            compiled.entry(pattern.to_owned()).or_insert_with(anchored).is_match(text)
        })
    }
}

fn any_host() -> impl Strategy<Value = Host> {
    select(vec!["x", "a.x", "b.a.x", "c.b.a.x"]).prop_flat_map(|name: &str| {
        prop_oneof![Just(Host::Exact(name.into())), Just(Host::Wildcard(name.into()))]
    })
}

fn any_path() -> impl Strategy<Value = Path> {
    let segments = || prop::collection::vec(select(vec!["a", "b", "cc"]), 0..4);
    let shaped = prop::collection::vec(select(vec!["a", "b", "cc", "{}"]), 1..4);
    prop_oneof![
        Just(Path::Any),
        (segments(), any::<bool>()).prop_map(|(segments, slash)| {
            let end = if slash && !segments.is_empty() { "/" } else { "" };
            Path::Exact(format!("/{}{end}", segments.join("/")))
        }),
        (segments(), any::<bool>()).prop_map(|(segments, slash)| {
            let end = if slash && !segments.is_empty() { "/" } else { "" };
            Path::Prefix(format!("/{}{end}", segments.join("/")))
        }),
        select(vec![
            "/a.*",
            "/a/[ab]",
            "/(a|b)/.*",
            ".*",
            "/a/b/cc",
            "/b/?",
            "/a/b/.*",
            "/a/b.*",
            "a"
        ])
        .prop_map(|regex: &str| Path::Regex(regex.into())),
        (shaped, any::<bool>()).prop_map(|(segments, rest)| {
            let mut text = String::new();
            for (number, segment) in segments.iter().enumerate() {
                match *segment {
                    "{}" => text.push_str(&format!("/{{p{number}}}")),
                    literal => text.push_str(&format!("/{literal}")),
                }
            }
            Path::Template(if rest { format!("{text}/{{*rest}}") } else { text })
        }),
        Just(Path::Template("/{*rest}".into())),
    ]
}

fn any_field() -> impl Strategy<Value = Field> {
    let value = prop_oneof![
        Just(FieldValue::Present),
        select(vec!["1", "2"]).prop_map(|text: &str| FieldValue::Exact(text.into())),
        Just(FieldValue::Prefix("1".into())),
        Just(FieldValue::Regex("1|2".into())),
    ];
    (select(vec!["k", "host", "l"]), value, prop::bool::weighted(0.2))
        .prop_map(|(name, value, invert)| Field { name: name.into(), value, invert })
}

fn any_match() -> impl Strategy<Value = Match> {
    let methods = prop::collection::vec(select(vec!["GET", "POST", "PURGE"]), 0..3);
    (
        prop::collection::vec(any_host(), 0..3),
        any_path(),
        methods,
        prop::collection::vec(any_field(), 0..3),
        prop::collection::vec(any_field(), 0..2),
    )
        .prop_map(|(hosts, path, methods, headers, query)| Match {
            hosts,
            path,
            methods: methods.into_iter().map(str::to_owned).collect(),
            headers,
            query,
            certificate: Vec::new(),
        })
}

/// Like [`any_match`], but with so little choice that matches often collide.
fn narrow_match() -> impl Strategy<Value = Match> {
    let hosts = select(vec![vec![], exact("x"), below("x"), [exact("x"), exact("a.x")].concat()]);
    let paths = vec![
        Path::Any,
        Path::Prefix("/".into()),
        Path::Template("/{*rest}".into()),
        Path::Prefix("/a".into()),
        Path::Exact("/a/b".into()),
        Path::Template("/a/{x}".into()),
        Path::Template("/a/{y}".into()),
        Path::Regex("/a/b.*".into()),
        Path::Regex("/a/.".into()),
    ];
    let names = select(vec![&[][..], &["GET"], &["POST"], &["GET", "POST"]]);
    let headers = select(vec![vec![], vec![with("k", "1")], vec![with("k", "1"), with("k", "1")]]);
    (hosts, select(paths), names, headers).prop_map(|(hosts, path, names, headers)| Match {
        hosts,
        path,
        methods: methods(names),
        headers,
        query: Vec::new(),
        certificate: Vec::new(),
    })
}

fn any_request() -> impl Strategy<Value = Request> {
    let hosts = vec!["", "x", "a.x", "b.a.x", "c.b.a.x", "d.c.b.a.x", "y", ".x"];
    let segments = prop::collection::vec(select(vec!["a", "b", "cc", "d", "", "{p0}"]), 0..5);
    let path = prop_oneof![
        9 => segments.prop_map(|segments| format!("/{}", segments.join("/"))),
        1 => select(vec!["*", "", "a", "//"]).prop_map(str::to_owned),
    ];
    let fields = prop::collection::vec(
        (select(vec!["k", "host", "l"]), select(vec!["1", "2", "12", ""])),
        0..4,
    );
    let queries = vec![
        None,
        Some(""),
        Some("k=1"),
        Some("l=2&k=2"),
        Some("k"),
        Some("host=12&&k=1"),
        Some("K=1"),
    ];
    let methods = vec!["GET", "POST", "PURGE", "BREW", "get", ""];
    (select(hosts), select(methods), path, select(queries), fields).prop_map(
        |(host, method, path, query, lines)| {
            let mut fields = Fields::new();
            for (name, value) in lines {
                assert!(fields.append(name, value.as_bytes()));
            }
            Request { host, method, path, query, fields }
        },
    )
}

fn listed(matches: impl Strategy<Value = Match>, most: usize) -> impl Strategy<Value = Vec<Route>> {
    let listeners = select(vec![&[][..], &["one"], &["two"], &["one", "two"]]);
    prop::collection::vec((prop::collection::vec(matches, 0..3), listeners), 0..most).prop_map(
        |routes| {
            let numbered = routes.into_iter().enumerate();
            numbered.map(|(number, (matches, on))| route(number, on, matches)).collect()
        },
    )
}

proptest! {
    #[test]
    fn the_table_finds_what_the_reference_finds(
        routes in listed(any_match(), 16),
        requests in prop::collection::vec(any_request(), 1..32),
    ) {
        let table = compile(&routes);
        let mut captures = Captures::default();
        for request in &requests {
            let expected = reference::winner(&routes, request);
            let found = table.find(&request.lookup(), &mut captures);
            let place = found.as_ref().ok()
                .map(|found| (found.route as usize, found.match_index as usize));
            prop_assert_eq!(place, expected, "{:?}", request);
            match found {
                Ok(found) => prop_assert!(found.prefix_len as usize <= request.path.len()),
                Err(missing) => {
                    // Without a method in the way, there is something exactly if one is allowed.
                    let mut open = routes.clone();
                    open.iter_mut().flat_map(|route| &mut route.matches).for_each(|one| one.methods.clear());
                    let there = reference::winner(&open, request).is_some();
                    prop_assert_eq!(matches!(missing, Missing::MethodNotAllowed { .. }), there);
                }
            }
        }
    }

    #[test]
    fn a_method_that_is_allowed_is_let_in(
        routes in listed(any_match(), 12),
        request in any_request(),
    ) {
        let table = compile(&routes);
        if let Err(Missing::MethodNotAllowed { allow }) =
            table.find(&request.lookup(), &mut Captures::default())
        {
            for method in allow.split(", ") {
                let lookup = Lookup { method, ..request.lookup() };
                prop_assert!(table.find(&lookup, &mut Captures::default()).is_ok(), "{}", method);
            }
        }
    }

    #[test]
    fn a_route_that_is_told_to_be_shadowed_never_wins(
        routes in prop_oneof![listed(narrow_match(), 8), listed(any_match(), 8)],
        requests in prop::collection::vec(any_request(), 1..64),
    ) {
        let shadowed = shadowed(&routes);
        for (loser, winner) in &shadowed {
            prop_assert_ne!(loser, winner);
        }
        for listener in ["one", "two", "three"] {
            let here: Vec<(u32, &Route)> = routes.iter().enumerate()
                .filter(|(_, route)| route.listeners.is_empty()
                    || route.listeners.iter().any(|name| name.as_str() == listener))
                .map(|(number, route)| (number as u32, route)).collect();
            let table = Table::compile(here).unwrap();
            for request in &requests {
                if let Some(won) = found(&table, request) {
                    prop_assert!(shadowed.iter().all(|(loser, _)| *loser != won), "{} {:?}", won, request);
                }
            }
        }
    }

    #[test]
    fn an_explanation_agrees_with_the_table(
        routes in listed(any_match(), 12),
        request in any_request(),
    ) {
        let table = compile(&routes);
        let explanation = table.explain(&request.lookup());
        prop_assert_eq!(explanation.winner, table.find(&request.lookup(), &mut Captures::default()).ok());
        prop_assert!(explanation.candidates.len() <= 12);
        for candidate in &explanation.candidates {
            prop_assert!(!candidate.why.is_empty());
            // Alone, a match wins exactly if it lost to another.
            let mut alone = routes[candidate.route as usize].clone();
            alone.matches = alone.matches.get(candidate.match_index as usize).cloned().into_iter().collect();
            let wins = found(&compile(&[alone]), &request).is_some();
            let beaten = matches!(candidate.lost, Lost::Later | Lost::LessSpecific);
            prop_assert_eq!(wins, beaten, "{:?}", candidate);
        }
    }

    #[test]
    fn no_request_makes_it_panic(host in ".*", method in ".*", path in ".*", query in ".*") {
        let table = compile(&routes(vec![
            vec![prefix("/a"), template("/{a}/{b}/{*c}"), regex(".*[0-9]")],
            vec![Match { hosts: below("example.com"), query: vec![with("k", "1")], ..Match::default() }],
        ]));
        let fields = Fields::new();
        let lookup = Lookup { host: &host, method: &method, path: &path, query: Some(&query), fields: &fields, certificate: None };
        let mut captures = Captures::default();
        if table.find(&lookup, &mut captures).is_ok() {
            for index in 0..captures.len() {
                prop_assert!(captures.get(index, &path).is_some());
            }
        }
        prop_assert!(table.explain(&lookup).candidates.len() <= 12);
    }
}

#[test]
fn the_precedence_of_the_gateway_api() {
    // Each is more specific than all after it, for the request below.
    let falling = vec![
        Match { hosts: exact("a.b.c"), ..regex("/.*") },
        Match { hosts: below("b.c"), ..prefix("/o") },
        Match { hosts: below("c"), ..prefix("/o/1") },
        Match { path: Path::Exact("/o/1/i".into()), ..Match::default() },
        template("/o/{id}/i"),
        Match { methods: methods(&["GET"]), ..prefix("/o/1") },
        Match { headers: vec![with("k", "1"), with("l", "1")], ..prefix("/o/1") },
        Match { headers: vec![with("k", "1")], query: vec![with("q", "1")], ..prefix("/o/1") },
        Match { headers: vec![with("k", "1")], ..prefix("/o/1") },
        Match { query: vec![with("q", "1")], ..prefix("/o/1") },
        prefix("/o/1"),
        prefix("/o/1/"),
        template("/o/{id}/{*rest}"),
        prefix("/o"),
        template("/{a}/{b}/{c}"),
        Match { methods: methods(&["GET"]), ..regex("/o/.*") },
        regex(".*i"),
        regex("/o/1/i"),
        Match { methods: methods(&["GET"]), ..prefix("/") },
        template("/{*rest}"),
        Match::default(),
    ];
    let mut request = Request::get("a.b.c", "/o/1/i");
    request.query = Some("q=1");
    assert!(request.fields.append("k", b"1") && request.fields.append("l", b"1"));
    for cut in 0..falling.len() {
        // The last of the equals is the same as the one before it, but for the order.
        let table = compile(&routes(falling[cut..].iter().map(|one| vec![one.clone()]).collect()));
        assert_eq!(found(&table, &request), Some(0), "{:?}", falling[cut]);
        let mut turned: Vec<Match> = falling[cut..].to_vec();
        turned.reverse();
        let table = compile(&routes(turned.iter().map(|one| vec![one.clone()]).collect()));
        let equal = ["/o/1", "/o/1/i"];
        let last = turned.len() - 1;
        let first_of_equals = match &falling[cut].path {
            // `/o/1` and `/o/1/`, `.*i` and `/o/1/i`, `/{*rest}` and nothing are equally specific.
            Path::Prefix(path) if path == equal[0] && falling[cut..].len() == 11 => last - 1,
            Path::Regex(path) if path == ".*i" => last - 1,
            Path::Template(path) if path == "/{*rest}" => last - 1,
            _ => last,
        };
        assert_eq!(found(&table, &request), Some(first_of_equals), "{:?}", falling[cut]);
    }
}

#[test]
fn what_a_specific_host_turns_down_goes_on_to_a_wider_one() {
    let table = compile(&routes(vec![
        vec![Match { hosts: exact("a.b"), ..prefix("/one") }],
        vec![Match { hosts: below("b"), ..prefix("/two") }],
        vec![prefix("/three")],
    ]));
    for (host, path, expected) in [
        ("a.b", "/one", Some(0)),
        ("a.b", "/two", Some(1)),
        ("a.b", "/three", Some(2)),
        ("c.b", "/one", None),
        ("c.b", "/two", Some(1)),
        ("b", "/two", None),
        ("", "/three", Some(2)),
        ("a.b", "/four", None),
    ] {
        assert_eq!(found(&table, &Request::get(host, path)), expected, "{host}{path}");
    }
}

#[test]
fn what_a_winner_tells_of_the_path() {
    let table = compile(&routes(vec![
        vec![prefix("/a/")],
        vec![template("/u/{id}/files/{*rest}")],
        vec![regex("/r.*")],
        vec![Match { path: Path::Exact("/e".into()), ..Match::default() }],
        vec![Match::default()],
    ]));
    let mut captures = Captures::default();
    for (path, prefix_len, taken) in [
        ("/a/b", 2, &[][..]),
        ("/a", 2, &[]),
        ("/u/7/files/x/y", 14, &["7", "x/y"]),
        ("/u/7/files/", 11, &["7", ""]),
        ("/rest", 5, &[]),
        ("/e", 2, &[]),
        ("/other", 0, &[]),
        ("*", 0, &[]),
    ] {
        let request = Request::get("", path);
        let found = table.find(&request.lookup(), &mut captures).unwrap();
        assert_eq!(found.prefix_len, prefix_len, "{path}");
        let got: Vec<_> = (0..captures.len()).filter_map(|at| captures.get(at, path)).collect();
        assert_eq!(got, taken, "{path}");
    }
}

#[test]
fn a_method_that_no_match_has_is_told_from_a_path_that_is_not_there() {
    let get = Match { methods: methods(&["POST", "GET"]), ..prefix("/a") };
    let purge = Match { methods: methods(&["PURGE", "GET"]), ..prefix("/a/b") };
    let asked = Match { methods: methods(&["PUT"]), headers: vec![with("k", "1")], ..prefix("/a") };
    let table = compile(&routes(vec![vec![get], vec![purge], vec![asked]]));
    let missing = |path: &str| {
        let request = Request { method: "DELETE", ..Request::get("", path) };
        table.find(&request.lookup(), &mut Captures::default()).unwrap_err()
    };
    assert_eq!(missing("/c"), Missing::NotFound);
    assert_eq!(missing("/a"), Missing::MethodNotAllowed { allow: "GET, POST".into() });
    assert_eq!(missing("/a/b"), Missing::MethodNotAllowed { allow: "GET, POST, PURGE".into() });
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let bad = Match { hosts: exact("A"), methods: methods(&["get"]), ..prefix("a") };
    let header = Match {
        headers: vec![Field {
            name: "k".into(),
            value: FieldValue::Regex("[".into()),
            invert: false,
        }],
        ..Match::default()
    };
    let errors =
        errors(vec![vec![bad], vec![regex("("), header], vec![regex("("), Match::default()]]);
    let expected = [
        "route r0: host `A`",
        "route r0: path `a`",
        "route r0: `get`",
        "route r1: match 2: header k: `[` is not a regular expression",
        "route r1: `(` is not a regular expression",
        "route r2: `(` is not a regular expression",
    ];
    assert_eq!(errors.len(), expected.len(), "{errors:#?}");
    for (error, expected) in errors.iter().zip(expected) {
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn an_explanation_names_what_came_near() {
    let table = compile(&routes(vec![
        vec![prefix("/orders")],
        vec![Match { headers: vec![with("x-beta", "1")], ..prefix("/orders") }],
        vec![Match { methods: methods(&["POST"]), ..prefix("/orders") }],
        vec![Match { hosts: exact("shop"), ..prefix("/orders") }],
        vec![Match::default()],
        vec![prefix("/payments")],
        vec![Match { query: vec![with("debug", "1")], ..prefix("/orders") }],
        vec![prefix("/orders/")],
        vec![template("/orders/{id}/items")],
    ]));
    let mut request = Request::get("web", "/orders/7");
    request.query = Some("debug=2");
    let explanation = table.explain(&request.lookup());
    assert_eq!(explanation.winner.map(|found| found.route), Some(0));
    let told: Vec<_> = explanation
        .candidates
        .iter()
        .map(|candidate| (candidate.route, candidate.lost, candidate.why.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            (7, Lost::Later, "it is as specific as the winner, but stands after it"),
            (4, Lost::LessSpecific, "every path is less specific than prefix /orders"),
            (6, Lost::Query, "query parameter debug is `2`, and must be `1`"),
            (1, Lost::Header, "header x-beta is missing, and must be `1`"),
            (2, Lost::Method, "method GET is not POST"),
            (8, Lost::Path, "path /orders/7 does not fit template /orders/{id}/items"),
            (3, Lost::Host, "host web is not shop"),
        ]
    );
    let slip = compile(&routes(vec![vec![prefix("/orders")], vec![prefix("/payments")]]));
    let explanation = slip.explain(&Request::get("", "/ordrs/7").lookup());
    assert_eq!(explanation.winner, None);
    assert_eq!(explanation.candidates.len(), 1);
    assert_eq!(explanation.candidates[0].why, "path /ordrs/7 is not below /orders");
}

#[test]
fn routes_that_can_never_win() {
    fn on<'a>(listeners: &[&'a str], one: Match) -> (Vec<&'a str>, Vec<Match>) {
        (listeners.to_vec(), vec![one])
    }
    let get = |one: Match| Match { methods: methods(&["GET"]), ..one };
    let post = |one: Match| Match { methods: methods(&["POST"]), ..one };
    let both = |one: Match| Match { methods: methods(&["GET", "POST"]), ..one };
    let host = |one: Match| Match { hosts: exact("x"), ..one };
    let asked = |one: Match| Match { headers: vec![with("k", "1")], ..one };
    for (case, listed, expected) in [
        ("same path", vec![on(&[], prefix("/a")), on(&[], prefix("/a/"))], vec![(1, 0)]),
        ("same shape", vec![on(&[], template("/{a}")), on(&[], template("/{b}"))], vec![(1, 0)]),
        ("less specific first", vec![on(&[], prefix("/")), on(&[], prefix("/a"))], vec![]),
        (
            "method is more specific",
            vec![on(&[], prefix("/a")), on(&[], get(prefix("/a")))],
            vec![],
        ),
        ("some methods", vec![on(&[], get(prefix("/a"))), on(&[], both(prefix("/a")))], vec![]),
        (
            "all methods, from two",
            vec![
                on(&[], get(prefix("/a"))),
                on(&[], post(prefix("/a"))),
                on(&[], both(prefix("/a"))),
            ],
            vec![(2, 0)],
        ),
        (
            "header is more specific",
            vec![on(&[], prefix("/a")), on(&[], asked(prefix("/a")))],
            vec![],
        ),
        (
            "same header",
            vec![on(&[], asked(prefix("/a"))), on(&[], asked(prefix("/a")))],
            vec![(1, 0)],
        ),
        ("other host", vec![on(&[], host(prefix("/a"))), on(&[], prefix("/a"))], vec![]),
        ("every listener", vec![on(&[], prefix("/a")), on(&["one"], prefix("/a"))], vec![(1, 0)]),
        ("one listener", vec![on(&["one"], prefix("/a")), on(&[], prefix("/a"))], vec![]),
        (
            "each listener",
            vec![
                on(&["one"], prefix("/a")),
                on(&[], prefix("/b")),
                on(&["two"], prefix("/a")),
                on(&["one", "two"], prefix("/a")),
            ],
            vec![(3, 0)],
        ),
        (
            "expression below a prefix",
            vec![on(&[], regex("/api/v[0-9]+/x")), on(&[], prefix("/api"))],
            vec![(0, 1)],
        ),
        (
            "expression that goes further",
            vec![on(&[], regex("/api.*")), on(&[], prefix("/api"))],
            vec![],
        ),
        (
            "expression with a choice",
            vec![on(&[], regex("/api/a|/b")), on(&[], prefix("/api"))],
            vec![],
        ),
        (
            "expression above everything",
            vec![on(&[], regex("/api/.*")), on(&[], Match::default())],
            vec![],
        ),
        (
            "prefix of one method",
            vec![on(&[], regex("/api/.*")), on(&[], get(prefix("/api")))],
            vec![],
        ),
        (
            "expression of that method",
            vec![on(&[], get(regex("/api/.*"))), on(&[], get(prefix("/api")))],
            vec![(0, 1)],
        ),
        ("everything twice", vec![on(&[], Match::default()), on(&[], prefix("/"))], vec![(1, 0)]),
        (
            "rest after everything",
            vec![on(&[], Match::default()), on(&[], template("/{*r}"))],
            vec![(1, 0)],
        ),
        (
            "everything after rest",
            vec![on(&[], template("/{*r}")), on(&[], Match::default())],
            vec![],
        ),
    ] {
        let routes: Vec<Route> = listed
            .into_iter()
            .enumerate()
            .map(|(number, (listeners, matches))| route(number, &listeners, matches))
            .collect();
        assert_eq!(shadowed(&routes), expected, "{case}");
    }
}

#[test]
fn one_live_match_keeps_a_route_alive() {
    let first = route(0, &[], vec![prefix("/a"), prefix("/b")]);
    let dead = route(1, &[], vec![prefix("/b"), prefix("/b"), prefix("/a")]);
    let alive = route(2, &[], vec![prefix("/b"), prefix("/c")]);
    let doubled = route(3, &[], vec![prefix("/d"), prefix("/d")]);
    assert_eq!(shadowed(&[first, dead, alive, doubled]), [(1, 0)]);
}

#[test]
fn thousands_of_routes_are_told_apart() {
    let list = routes(
        (0..5000)
            .map(|number| {
                let path = match number % 3 {
                    0 => Path::Prefix(format!("/api/v{}/s{number}", number % 7)),
                    1 => Path::Exact(format!("/api/v{}/s{number}/x", number % 7)),
                    _ => Path::Template(format!("/api/{{v}}/s{number}/{{*rest}}")),
                };
                vec![Match {
                    hosts: exact(&format!("h{}.x", number % 50)),
                    path,
                    ..Match::default()
                }]
            })
            .collect(),
    );
    let table = compile(&list);
    assert_eq!(table.len(), 5000);
    let hosts: Vec<&'static str> =
        (0..50).map(|number| &*Box::leak(format!("h{number}.x").into_boxed_str())).collect();
    for number in 0..5000 {
        let request =
            Request::get(hosts[number % 50], &format!("/api/v{}/s{number}/x", number % 7));
        assert_eq!(found(&table, &request), Some(number));
    }
    assert!(shadowed(&list).is_empty());
}
