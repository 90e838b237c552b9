//! Who may ask the admin API.
//!
//! With a token, whoever shows it. Without one the API is reachable from the machine itself alone, and
//! then the danger is a browser there: a page that posts to it, or whose name was made to resolve to it.
//! Both are told apart by what a browser always sends.

use http::{HeaderMap, header};
use weft_kernel::Code;

use super::problem::Problem;

/// Whether a request with this header section may go on; `host` is that of its target, if it names one.
pub(super) fn check(
    headers: &HeaderMap,
    host: Option<&str>,
    token: Option<&str>,
) -> Result<(), Problem> {
    match token {
        Some(token) => check_token(headers, token),
        None => check_origin(headers, host),
    }
}

fn check_token(headers: &HeaderMap, token: &str) -> Result<(), Problem> {
    let shown = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
    let shown = shown.and_then(|value| {
        let (scheme, shown) = value.split_at_checked("Bearer ".len())?;
        scheme.eq_ignore_ascii_case(b"bearer ").then_some(shown.trim_ascii())
    });
    if shown.is_some_and(|shown| same(shown, token.as_bytes())) {
        return Ok(());
    }
    let detail = "send the token of the admin API as `Authorization: Bearer …`";
    Err(Problem::new(Code::Unauthenticated, detail))
}

/// Compares in a time that depends on the lengths alone.
fn same(a: &[u8], b: &[u8]) -> bool {
    let differences = a.iter().zip(b).fold(0, |all, (a, b)| std::hint::black_box(all | (a ^ b)));
    a.len() == b.len() && differences == 0
}

fn check_origin(headers: &HeaderMap, target: Option<&str>) -> Result<(), Problem> {
    if headers.contains_key(header::ORIGIN) {
        let detail = "web pages may not use the admin API unless it has a token";
        return Err(Problem::new(Code::Denied, detail));
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if is_local(host) && target.is_none_or(is_local) {
        return Ok(());
    }
    let detail = "without a token the admin API answers to an address or to localhost alone";
    Err(Problem::new(Code::Denied, detail))
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
            let checked = check(&headers(&lines), None, Some("secret"));
            assert_eq!(checked.is_ok(), good, "{shown:?}");
            assert!(checked.is_ok() || checked.unwrap_err().code == Code::Unauthenticated);
        }
        // Whoever knows the token may come from anywhere.
        let lines = [("authorization", "Bearer secret"), ("origin", "http://x"), ("host", "x")];
        assert_eq!(check(&headers(&lines), None, Some("secret")), Ok(()));
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
            assert_eq!(check(&headers(&[("host", host)]), None, None).is_ok(), good, "{host}");
        }
        let page = headers(&[("host", "127.0.0.1:9901"), ("origin", "http://evil.example")]);
        assert!(check(&page, None, None).is_err());
        // A target that names a host itself is for that one, whatever Host says (RFC 9112 section 3.2.2).
        let local = headers(&[("host", "localhost")]);
        assert!(check(&local, Some("127.0.0.1:9901"), None).is_ok());
        assert!(check(&local, Some("evil.example"), None).is_err());
    }
}
