//! Addresses and hosts: what is sent as one, listened on, connected to and believed.

use ipnet::IpNet;
use weft_discovery::Location;
use weft_net::Address;

use super::{authority_of, bare_host, beyond_scheme, shown, texts};
use crate::config::{
    problem::Problem,
    setting::{Cx, Setting, Shape},
    tree::Node,
};

/// A host, with or without a port, as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority(pub String);

texts! {
    Authority, "host", None, |text| {
        let good = !text.is_empty()
            && text.parse::<http::uri::Authority>().is_ok_and(|authority| authority.as_str() == text)
            && !text.contains('@');
        match beyond_scheme(text) {
            _ if good => Ok(Self(text.to_ascii_lowercase())),
            Some(rest) => Err(format!(
                "`{}` is a URL, and a host is wanted: write `{}`",
                shown(text),
                shown(authority_of(rest))
            )),
            None => Err(format!("`{}` is not a host", shown(text))),
        }
    };
    Address, "address", None, |text| {
        text.parse().map_err(|_error| {
            if let Some(rest) = beyond_scheme(text) {
                return format!(
                    "`{}` is a URL, and an address to listen on is wanted: write `{}`",
                    shown(text),
                    shown(authority_of(rest))
                );
            }
            format!(
                "`{}` is not an address to listen on: write 0.0.0.0:8080, [::]:8080 or unix:/run/weft.sock",
                shown(text)
            )
        })
    };
    Location, "endpoint", None, |text| {
        text.parse().map_err(|error: weft_discovery::options::ParseLocationError| match beyond_scheme(text) {
            None => match text.strip_prefix("file:") {
                Some(path) => {
                    format!("`{}` is a file, which is written so: {{ file: {path} }}", shown(text))
                }
                None => error.to_string(),
            },
            Some(rest) => {
                let authority = authority_of(rest);
                let secure = text.starts_with("https:") || text.starts_with("grpcs:");
                let port = if secure { 443 } else { 80 };
                let whole = if authority.len() > bare_host(rest).len() {
                    authority.to_owned()
                } else {
                    format!("{authority}:{port}")
                };
                let tls = if secure { ", and `tls: on` for the service" } else { "" };
                format!(
                    "`{}` is a URL, and an endpoint is wanted: write `{}`{tls}",
                    shown(text),
                    shown(&whole)
                )
            }
        })
    };
    IpNet, "network", None, |text| {
        let single = || text.parse::<std::net::IpAddr>().ok().map(IpNet::from);
        text.parse().ok().or_else(single).ok_or_else(|| {
            format!("`{}` is not a network: write 10.0.0.0/8, or a single address", shown(text))
        })
    };
}
