//! Rewrites and redirects: the table of the Gateway API, and that nothing unsafe comes out.

use std::sync::Arc;

use proptest::prelude::*;
use weft_wire::Fields;

use super::*;
use crate::{
    plan::{Match, Path, Respond, Route, Target},
    router::{Lookup, Table},
};

fn matching(path: Path) -> Vec<Match> {
    vec![Match { path, ..Match::default() }]
}

fn prefix(text: &str) -> Path {
    Path::Prefix(text.into())
}

fn replace(pattern: &str, replace: &str) -> PathRewrite {
    PathRewrite::Regex { pattern: pattern.into(), replace: replace.into() }
}

/// What the table finds for a target.
fn find(matches: &[Match], target: &str) -> (Found, Captures) {
    let respond = Respond { status: 200, headers: Vec::new(), body: [].into() };
    let route = Route {
        name: weft_kernel::Name::new("r").unwrap(),
        listeners: Vec::new(),
        matches: matches.to_vec(),
        policy: Arc::default(),
        rewrite: plan::Rewrite::default(),
        is_internal: false,
        target: Target::Respond(respond),
    };
    let table = Table::compile([(0, &route)]).unwrap();
    let (path, query) = split(target);
    let fields = Fields::new();
    let lookup =
        Lookup { host: "", method: "GET", path, query, fields: &fields, certificate: None };
    let mut captures = Captures::default();
    let found = table.find(&lookup, &mut captures).unwrap();
    (found, captures)
}

fn rewriter(path: PathRewrite, matches: &[Match]) -> Result<Rewriter, String> {
    Rewriter::compile(&plan::Rewrite { path: Some(path), host: None }, matches)
}

fn rewritten(path: PathRewrite, matches: &[Match], target: &str) -> weft_kernel::Result<String> {
    let (found, captures) = find(matches, target);
    let rewriter = rewriter(path, matches).unwrap();
    Ok(rewriter.target(target, &found, &captures)?.unwrap_or_else(|| target.into()))
}

#[test]
fn a_prefix_is_replaced_as_the_gateway_api_says() {
    for (target, matched, new, expected) in [
        ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
        ("/foo", "/foo", "/xyz", "/xyz"),
        ("/foo/", "/foo", "/xyz", "/xyz/"),
        ("/foo/bar", "/foo", "", "/bar"),
        ("/foo/", "/foo", "", "/"),
        ("/foo", "/foo", "", "/"),
        ("/foo/", "/foo", "/", "/"),
        ("/foo", "/foo", "/", "/"),
        ("/foo", "/foo", "/xyz/", "/xyz/"),
        ("/foo/bar", "/", "/xyz", "/xyz/foo/bar"),
        ("/", "/", "/xyz", "/xyz/"),
        ("/foo/bar?a=/foo", "/foo", "/xyz", "/xyz/bar?a=/foo"),
        ("/foo?", "/foo", "/xyz", "/xyz?"),
    ] {
        let made = rewritten(PathRewrite::Prefix(new.into()), &matching(prefix(matched)), target);
        assert_eq!(made.unwrap(), expected, "{target} {matched} {new}");
    }
}

#[test]
fn the_other_kinds() {
    let template = |text: &str| Path::Template(text.into());
    let to = |text: &str| PathRewrite::Template(text.into());
    for (path, rewrite, target, expected) in [
        (Path::Exact("/a".into()), PathRewrite::Prefix("/b/".into()), "/a", "/b/"),
        (Path::Regex("/a.*".into()), PathRewrite::Prefix("/b".into()), "/abc/d", "/b"),
        (Path::Any, PathRewrite::Prefix("/b".into()), "/a", "/b/a"),
        (prefix("/a"), PathRewrite::Full("/x".into()), "/a/b?c=d", "/x?c=d"),
        (Path::Any, replace("^/api/(?<v>v[0-9])/(.*)$", "/$2/$v"), "/api/v1/o/7", "/o/7/v1"),
        (Path::Any, replace("o", "0"), "/foo/o", "/f00/0"),
        (Path::Any, replace("x", "y"), "/foo", "/foo"),
        (Path::Any, replace("^", "/x"), "/foo", "/x/foo"),
        (Path::Any, replace("/+$", "/"), "/foo/", "/foo/"),
        (template("/o/{id}"), to("/v2/orders/{id}"), "/o/7?x=1", "/v2/orders/7?x=1"),
        (template("/{a}/{b}"), to("/{b}/x-{a}.json"), "/1/2", "/2/x-1.json"),
        (template("/f/{*rest}"), to("/g/{rest}"), "/f/a/b/", "/g/a/b/"),
        (template("/f/{*rest}"), to("/g/{*rest}"), "/f/", "/g/"),
        (template("/f/{*rest}"), to("/{rest}/"), "/f/", "/"),
        (template("/f/{id}"), to("/x"), "/f/1", "/x"),
    ] {
        let made = rewritten(rewrite.clone(), &matching(path), target).unwrap();
        assert_eq!(made, expected, "{rewrite:?} {target}");
    }
}

#[test]
fn each_match_has_captures_of_its_own() {
    let matches: Vec<Match> = ["/a/{x}/{id}", "/b/{id}"]
        .map(|text| Match { path: Path::Template(text.into()), ..Match::default() })
        .into();
    for (target, expected) in [("/a/1/2", "/o/2"), ("/b/3", "/o/3")] {
        let made = rewritten(PathRewrite::Template("/o/{id}".into()), &matches, target);
        assert_eq!(made.unwrap(), expected);
    }
    assert!(rewriter(PathRewrite::Template("/o/{x}".into()), &matches).is_err());
}

#[test]
fn what_is_not_safe_is_refused() {
    for (rewrite, target) in [
        (replace("^/files", "/static/"), "/files../admin"),
        (replace("^/files", "/static/"), "/files."),
        (replace("^/files", "/static/"), "/files..;x/admin"),
        (replace("x", &"y".repeat(4000)), &format!("/{}", "x".repeat(4000))),
    ] {
        let made = rewritten(rewrite.clone(), &matching(Path::Any), target);
        assert_eq!(made.unwrap_err().reason(), Reason::UnsafePath, "{rewrite:?}");
    }
}

#[test]
fn what_cannot_work_is_refused_when_compiled() {
    let template = matching(Path::Template("/{a}".into()));
    for bad in [
        PathRewrite::Prefix("x".into()),
        PathRewrite::Prefix("/a?b".into()),
        PathRewrite::Prefix("/a\r\n".into()),
        PathRewrite::Full(String::new()),
        replace("x", "/../.."),
        replace("b", ".."),
        replace("b", "a/%2E%2e"),
        replace("(.)x", "%2e"),
        PathRewrite::Full("/a/../b".into()),
        PathRewrite::Full("//a".into()),
        PathRewrite::Full("/a#b".into()),
        replace("(", ""),
        replace("a{9999999}", ""),
        replace("a", "$1"),
        replace("(a)", "$1x"),
        replace("(a)", "${2}"),
        replace("(a)", "$"),
        replace("(a)", "${1"),
        replace("a", "\r\n"),
        replace("a", "?x"),
        replace("x", "%"),
        replace("x", "/%zz"),
        replace("^/", ""),
        replace("^/.*", "abc"),
        replace("^/x", "evil"),
        replace("", "y"),
        replace("a", "ä"),
        PathRewrite::Template("{a}".into()),
        PathRewrite::Template("/{b}".into()),
        PathRewrite::Template("/{a".into()),
        PathRewrite::Template("/a}".into()),
        PathRewrite::Template("/}{a".into()),
        PathRewrite::Template("/{}".into()),
        PathRewrite::Template("/../{a}".into()),
        PathRewrite::Template("/{a}?x".into()),
    ] {
        assert!(rewriter(bad.clone(), &template).is_err(), "{bad:?}");
    }
    assert!(rewriter(PathRewrite::Template("/{a}".into()), &matching(prefix("/a"))).is_err());
    assert!(rewriter(PathRewrite::Template("/{a}".into()), &[]).is_err());
    assert!(rewriter(replace("(?<n>a)", "${1}x$n$$"), &template).is_ok());
    for (host, fits) in
        [("a.b", true), ("a:80", true), ("a b", false), ("a\r\n", false), ("", false)]
    {
        let host = Some(plan::HostRewrite::Literal(host.into()));
        let compiled = Rewriter::compile(&plan::Rewrite { path: None, host }, &template);
        assert_eq!(compiled.is_ok(), fits);
    }
}

fn redirect() -> plan::Redirect {
    plan::Redirect {
        scheme: None,
        host: None,
        port: None,
        path: None,
        status: 302,
        strip_query: false,
    }
}

fn location(plan: &plan::Redirect, secure: bool, host: &str, target: &str) -> Option<String> {
    let matches = matching(prefix("/"));
    let (found, captures) = find(&matches, target);
    let redirector = Redirector::compile(plan, &matches).unwrap();
    redirector.location(secure, host, target, &found, &captures).ok()
}

#[test]
fn where_a_redirect_leads() {
    let to = |scheme: Option<&str>, host: Option<&str>, port| plan::Redirect {
        scheme: scheme.map(Into::into),
        host: host.map(Into::into),
        port,
        ..redirect()
    };
    let path = |rewrite| plan::Redirect { path: Some(rewrite), ..redirect() };
    for (plan, secure, host, target, expected) in [
        (to(Some("https"), None, None), false, "a.b", "/x?y=1", Some("https://a.b/x?y=1")),
        (to(Some("https"), None, None), false, "a.b:8080", "/x", Some("https://a.b/x")),
        (to(Some("https"), None, Some(8443)), false, "a.b:80", "/", Some("https://a.b:8443/")),
        (to(Some("https"), None, Some(443)), false, "a.b", "/", Some("https://a.b/")),
        (to(Some("http"), None, Some(443)), true, "a.b", "/", Some("http://a.b:443/")),
        (to(None, Some("c.d"), None), false, "a.b", "/x", Some("http://c.d/x")),
        (to(None, Some("c.d"), None), true, "a.b", "/x", Some("https://c.d/x")),
        (to(None, Some("c.d"), None), false, "a.b:8080", "/x", Some("http://c.d:8080/x")),
        (to(None, None, Some(80)), false, "a.b:8080", "/x", Some("http://a.b/x")),
        (to(None, None, None), false, "[::1]:8080", "/x", Some("http://[::1]:8080/x")),
        (to(None, None, None), false, "[::1]", "/x", Some("http://[::1]/x")),
        (to(None, None, None), false, "a.b:", "/x", Some("http://a.b/x")),
        (to(Some("https"), None, None), false, "a.b:", "/x", Some("https://a.b/x")),
        (to(None, None, None), true, "[::1]:", "/x", Some("https://[::1]/x")),
        (to(None, None, None), false, ":", "/x", None),
        (to(None, Some("c.d"), None), false, "", "/x", Some("http://c.d/x")),
        (to(Some("https"), None, None), false, "", "/x?y", Some("/x?y")),
        (to(None, None, None), false, "", "//evil", None),
        (to(None, None, None), false, "a.b", "//evil", Some("http://a.b//evil")),
        (to(None, None, None), false, "a.b", "*", Some("http://a.b/")),
        (
            to(None, None, None),
            false,
            "a.b",
            "/x?\u{e4} \r\n",
            Some("http://a.b/x?%C3%A4%20%0D%0A"),
        ),
        (path(PathRewrite::Prefix("/v2".into())), false, "a.b", "/x?y", Some("http://a.b/v2/x?y")),
        (path(PathRewrite::Full("/z".into())), false, "a.b", "/x?y", Some("http://a.b/z?y")),
        (path(replace("^/x", "//evil.example")), false, "", "/x", Some("/evil.example")),
        (path(replace("^/x", "/\u{7e}")), false, "a.b", "/x", Some("http://a.b/~")),
        (
            plan::Redirect { strip_query: true, ..redirect() },
            false,
            "a.b",
            "/x?y",
            Some("http://a.b/x"),
        ),
    ] {
        assert_eq!(
            location(&plan, secure, host, target).as_deref(),
            expected,
            "{plan:?} {host} {target}"
        );
    }
}

#[test]
fn a_host_that_is_none_is_not_led_to() {
    for host in [
        "a b",
        "a/b",
        "a@b",
        "a\\b",
        "a?b",
        "a#b",
        "a\r\nb",
        "a::",
        "a:x",
        "a:99999",
        "a:123456",
        ":80",
        "[::1",
        "::1]",
        "[x]:80",
        "a:80:80",
        "[::1]x:80",
        "[::1]x",
        "ä",
    ] {
        assert_eq!(location(&redirect(), false, host, "/"), None, "{host}");
    }
}

#[test]
fn a_redirect_that_cannot_work_is_refused_when_compiled() {
    for bad in [
        plan::Redirect { scheme: Some("ftp".into()), ..redirect() },
        plan::Redirect { scheme: Some("javascript".into()), ..redirect() },
        plan::Redirect { host: Some("a/b".into()), ..redirect() },
        plan::Redirect { host: Some("a:80".into()), ..redirect() },
        plan::Redirect { host: Some(String::new()), ..redirect() },
        plan::Redirect { port: Some(0), ..redirect() },
        plan::Redirect { status: 200, ..redirect() },
        plan::Redirect { status: 304, ..redirect() },
        plan::Redirect { path: Some(PathRewrite::Full("x".into())), ..redirect() },
    ] {
        assert!(Redirector::compile(&bad, &[]).is_err(), "{bad:?}");
    }
}

/// What every path that leaves must be.
fn is_safe(path: &str) -> bool {
    path.starts_with('/')
        && !path.starts_with("//")
        && path.bytes().all(|byte| matches!(byte, b'!'..=b'~') && byte != b'\\' && byte != b'#')
        && !path.split('/').any(|segment| {
            let plain = segment.to_ascii_lowercase().replace("%2e", ".");
            plain == "." || plain == ".."
        })
}

proptest! {
    #[test]
    fn whatever_is_made_is_safe(
        target in "/[a-z./%2fe]{0,24}(\\?[a-z&=/.%]{0,8})?",
        with in "[/.a-z%$12e]{0,12}",
        kind in 0..4,
    ) {
        let rules = path::Rules::default();
        let Ok(target) = path::normalise(&target, rules) else { return Ok(()) };
        let (path, rewrite) = match kind {
            0 => (Path::Template("/{a}/{*b}".into()), PathRewrite::Template(format!("/{with}/{{b}}/{{a}}"))),
            1 => (Path::Any, PathRewrite::Prefix(format!("/{with}"))),
            2 => (Path::Any, PathRewrite::Full(format!("/{with}"))),
            _ => (Path::Any, replace("([a-z]+)(/)?", &with)),
        };
        // The route must fit, and the rewrite be one that compiles.
        let matches = vec![matching(path).remove(0), Match::default()];
        let Ok(rewriter) = rewriter(rewrite, if kind == 0 { &matches[..1] } else { &matches }) else {
            return Ok(());
        };
        let (found, captures) = find(&matches, &target);
        match rewriter.target(&target, &found, &captures) {
            Ok(made) => {
                let made = made.unwrap();
                let (path, query) = split(&made);
                prop_assert!(is_safe(path), "{target} {made}");
                prop_assert_eq!(query, split(&target).1);
                prop_assert!(matches!(path::normalise(&made, path::Rules {
                    encoded_slash: path::EncodedSlash::Keep, ..rules
                }), Ok(std::borrow::Cow::Borrowed(_))), "{}", made);
            }
            Err(error) => prop_assert_eq!(error.reason(), Reason::UnsafePath),
        }
    }

    #[test]
    fn a_location_is_one_line_and_leads_where_it_should(
        host in ".{0,12}",
        target in "/.{0,16}",
        secure in any::<bool>(),
    ) {
        if let Some(location) = location(&redirect(), secure, &host, &target) {
            prop_assert!(location.bytes().all(|byte| matches!(byte, b'!'..=b'~')), "{}", location);
            match location.split_once("://") {
                Some((scheme, rest)) if !host.is_empty() => {
                    prop_assert_eq!(scheme, if secure { "https" } else { "http" });
                    let authority = &rest[..rest.find('/').unwrap_or(rest.len())];
                    prop_assert!(host.starts_with(authority), "{} {}", host, location);
                }
                _ => prop_assert!(host.is_empty() && location.starts_with('/') && !location.starts_with("//")),
            }
        }
    }
}
