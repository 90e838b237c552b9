//! Who may ask the admin API.
//!
//! With tokens, whoever shows one that has the permission. Without one the API is reachable from the machine
//! itself alone, and then the danger is a browser there: a page that posts to it, or whose name was made to
//! resolve to it. Both are told apart by what a browser always sends.

use http::{HeaderMap, header, request::Parts};
use weft_api::{Operation, Permissions, Response, Tokens};
use weft_kernel::{Error, Reason, Result};

/// Refuses who may not ask for an operation, or for what is none.
pub(super) fn check(
    request: &Parts,
    operation: Option<&Operation>,
    tokens: &Tokens,
) -> Result<(), Response> {
    let headers = &request.headers;
    if headers.get_all(header::HOST).iter().nth(1).is_some() {
        let say = "the field Host is there more than once";
        return Err(Response::problem(&Error::new(Reason::MalformedRequest, say)));
    }
    let permission = operation.map(|operation| operation.permission);
    if permission == Some(None) {
        return Ok(());
    }
    let host = request.uri.authority().map(http::uri::Authority::as_str);
    let has = permissions(headers, host, tokens).map_err(|error| {
        let response = Response::problem(&error);
        match error.reason() {
            Reason::Unauthenticated => response.with("www-authenticate", "Bearer"),
            _ => response,
        }
    })?;
    let needed = permission.flatten();
    has.check(needed).map_err(|error| {
        // RFC 6750 section 3.1.
        let scope = needed.map_or("", |needed| needed.word());
        let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"{scope}\"");
        Response::problem(&error).with("www-authenticate", &challenge)
    })
}

/// What a request with this header section may do; `host` is that of its target, if it names one.
fn permissions(headers: &HeaderMap, host: Option<&str>, tokens: &Tokens) -> Result<Permissions> {
    if tokens.is_empty() {
        return check_origin(headers, host).map(|()| Permissions::ALL);
    }
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let shown = all.next().map(|value| value.as_bytes());
    if all.next().is_some() {
        let say = "the field Authorization is there more than once";
        return Err(Error::new(Reason::MalformedRequest, say));
    }
    let shown = shown.and_then(|value| {
        let (scheme, shown) = value.split_at_checked("Bearer ".len())?;
        // Nothing but spaces stands between them (RFC 9110 section 11.4).
        let begin = shown.iter().position(|byte| *byte != b' ').unwrap_or(shown.len());
        scheme.eq_ignore_ascii_case(b"bearer ").then_some(&shown[begin..])
    });
    let say = "send the token of the admin API as `Authorization: Bearer …`";
    shown
        .and_then(|shown| tokens.permissions(shown))
        .ok_or_else(|| Error::new(Reason::Unauthenticated, say))
}

fn check_origin(headers: &HeaderMap, target: Option<&str>) -> Result<()> {
    if headers.contains_key(header::ORIGIN) {
        let detail = "web pages may not use the admin API unless it has a token";
        return Err(Error::new(Reason::OriginDenied, detail));
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if is_local(host) && target.is_none_or(is_local) {
        return Ok(());
    }
    let detail = "without a token the admin API answers to an address or to localhost alone";
    Err(Error::new(Reason::OriginDenied, detail))
}

/// Whether a host, with or without a port, is no name that somebody else's DNS could lead here.
fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.is_empty()
        || name.eq_ignore_ascii_case("localhost")
        || address.parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (http::HeaderName::from_static(name), value.parse().unwrap())
        };
        lines.iter().map(pair).collect()
    }

    fn open(headers: &HeaderMap, host: Option<&str>) -> Result<Permissions> {
        permissions(headers, host, &Tokens::default())
    }

    fn only(secret: &str) -> Tokens {
        let mut tokens = Tokens::default();
        tokens.add(secret.as_bytes(), Permissions::ALL);
        tokens
    }

    #[test]
    fn a_token_must_be_shown_as_it_is() {
        for (shown, good) in [
            (Some("Bearer secret"), true),
            (Some("bearer secret"), true),
            (Some("Bearer secre"), false),
            (Some("Bearer secrett"), false),
            (Some("Bearer "), false),
            (Some("Basic secret"), false),
            (Some("secret"), false),
            (Some(""), false),
            (None, false),
        ] {
            let lines: Vec<_> = shown.map(|shown| ("authorization", shown)).into_iter().collect();
            let checked = permissions(&headers(&lines), None, &only("secret"));
            assert_eq!(checked.is_ok(), good, "{shown:?}");
            assert!(checked.is_ok() || checked.unwrap_err().reason() == Reason::Unauthenticated);
        }
        for value in ["Bearer\tsecret", "Bearer \tsecret", "\tBearer secret"] {
            let shown = [("authorization", value)];
            assert!(permissions(&headers(&shown), None, &only("secret")).is_err(), "{value:?}");
        }
        // Of two somebody on the way might have gone by the other one.
        let mut twice = headers(&[("authorization", "Bearer secret")]);
        twice.append("authorization", "Bearer other".parse().unwrap());
        let refused = permissions(&twice, None, &only("secret")).unwrap_err();
        assert_eq!(refused.reason(), Reason::MalformedRequest);
        // Whoever knows the token may come from anywhere.
        let lines = [("authorization", "Bearer secret"), ("origin", "http://x"), ("host", "x")];
        let has = permissions(&headers(&lines), None, &only("secret")).unwrap();
        assert_eq!(has, Permissions::ALL);
    }

    #[test]
    fn without_a_token_browsers_are_kept_out() {
        for (host, good) in [
            ("127.0.0.1:9901", true),
            ("127.0.0.1", true),
            ("[::1]:9901", true),
            ("[::1]", true),
            ("localhost:9901", true),
            ("LOCALHOST", true),
            ("", true),
            ("evil.example:9901", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example:9901", false),
            ("a:b:c", false),
        ] {
            assert_eq!(open(&headers(&[("host", host)]), None).is_ok(), good, "{host}");
        }
        let page = headers(&[("host", "127.0.0.1:9901"), ("origin", "http://evil.example")]);
        assert!(open(&page, None).is_err());
        // A target that names a host itself is for that one, whatever Host says (RFC 9112 section 3.2.2).
        let local = headers(&[("host", "localhost")]);
        assert!(open(&local, Some("127.0.0.1:9901")).is_ok());
        assert!(open(&local, Some("evil.example")).is_err());
    }
}
