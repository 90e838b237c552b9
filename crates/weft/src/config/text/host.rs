//! Hosts to match.

use weft_proxy::plan;

use super::{bare_host, beyond_scheme, shown, texts};
use crate::config::{
    problem::Problem,
    setting::{Cx, Setting, Shape},
    tree::Node,
};

/// A host to match, `*` for any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern(pub Option<plan::Host>);

texts! {
    HostPattern, "host", None, host_pattern;
}

fn host_pattern(text: &str) -> Result<HostPattern, String> {
    if text == "*" {
        return Ok(HostPattern(None));
    }
    if let Some(rest) = beyond_scheme(text) {
        return Err(format!(
            "`{}` is a URL, and a host is wanted: write `{}`",
            shown(text),
            shown(bare_host(rest))
        ));
    }
    let lower = text.to_ascii_lowercase();
    // The dot of the root names the same host.
    let lower = match lower.strip_suffix('.') {
        Some(rest) if !rest.is_empty() => rest.to_owned(),
        _ => lower,
    };
    let (wildcard, name) = match lower.strip_prefix("*.") {
        Some(rest) => (true, rest),
        None => (false, lower.as_str()),
    };
    let bracketed = name.starts_with('[') && name.ends_with(']') && !wildcard;
    let labels = name.len() <= 253
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        });
    if name.contains('*') {
        return Err(format!(
            "`{}`: a wildcard stands alone for the first labels, as in *.example.com",
            shown(text)
        ));
    }
    if !bracketed && name.contains(':') {
        return Err(format!("`{}`: a host is matched without its port", shown(text)));
    }
    let literal = || name[1..name.len() - 1].parse::<std::net::Ipv6Addr>().is_ok();
    if !(labels || bracketed && literal()) {
        return Err(format!(
            "`{}` is not a host such as shop.example.com or *.example.com",
            shown(text)
        ));
    }
    let name = name.to_owned();
    Ok(HostPattern(Some(if wildcard {
        plan::Host::Wildcard(name)
    } else {
        plan::Host::Exact(name)
    })))
}
