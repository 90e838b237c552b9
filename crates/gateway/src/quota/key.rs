//! The text that a quota counts a request under: it is kept and shown, so that it is short, plain, and no secret.

use std::{fmt::Write as _, net::IpAddr};

use aws_lc_rs::digest::{SHA256, digest};
use weft_proxy::RequestView;

use crate::{
    authentication::AccessToken,
    consumer::Consumer,
    rate_limit::{Part, network},
};

/// The longest value that is shown as it is, in bytes.
const SHOWN_BYTES_MAX: usize = 64;

/// Writes the key of a request.
pub(crate) fn write(by: &[Part], of: RequestView<'_>, to: &mut String) {
    if by.is_empty() {
        to.push_str("all");
    }
    for (at, part) in by.iter().enumerate() {
        if at > 0 {
            to.push(',');
        }
        match part {
            Part::Consumer => match of.fact::<Consumer>() {
                Some(consumer) => value(consumer.name().as_str().as_bytes(), to),
                None => client(of.client(), to),
            },
            Part::Client => client(of.client(), to),
            Part::Header(name) => {
                let mut values = of.head().fields.all_named(name);
                match (values.next(), values.next()) {
                    (None, _) => {}
                    (Some(only), None) => value(only, to),
                    (Some(_), Some(_)) => {
                        let all: Vec<&[u8]> = of.head().fields.all_named(name).collect();
                        hidden(&all.join(&b"\n"[..]), to);
                    }
                }
            }
            Part::Claim(name) => {
                let token = of.fact::<AccessToken>();
                match token.and_then(|token| token.claims().get(name)) {
                    None => {}
                    Some(claim) => match claim.as_str() {
                        Some(text) => value(text.as_bytes(), to),
                        None => value(claim.to_string().as_bytes(), to),
                    },
                }
            }
            Part::Host => value(of.host().as_bytes(), to),
            Part::Path => {
                value(of.head().target.split('?').next().unwrap_or_default().as_bytes(), to);
            }
        }
    }
}

/// A value as it is, if it is short and plain, else a digest of it.
fn value(bytes: &[u8], to: &mut String) {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~@+=/".contains(byte);
    match std::str::from_utf8(bytes) {
        Ok(text) if bytes.len() <= SHOWN_BYTES_MAX && bytes.iter().all(is_plain) => {
            to.push_str(text)
        }
        _ => hidden(bytes, to),
    }
}

fn hidden(bytes: &[u8], to: &mut String) {
    to.push_str("sha256:");
    for byte in &digest(&SHA256, bytes).as_ref()[..16] {
        // Writing to a string cannot fail.
        let _ = write!(to, "{byte:02x}");
    }
}

/// A client by its network, which no name of a consumer reads like.
fn client(address: Option<IpAddr>, to: &mut String) {
    let _ = match address.map(|address| address.to_canonical()) {
        None => write!(to, "client:unknown"),
        Some(IpAddr::V4(address)) => write!(to, "client:{address}"),
        Some(address @ IpAddr::V6(_)) => {
            let [a, b, c, d, e, f, g, h] = network(address);
            let [a, b, c, d] = [[a, b], [c, d], [e, f], [g, h]].map(u16::from_be_bytes);
            write!(to, "client:{a:x}:{b:x}:{c:x}:{d:x}::")
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(with: impl FnOnce(&mut String)) -> String {
        let mut text = String::new();
        with(&mut text);
        text
    }

    #[test]
    fn what_is_long_or_strange_is_hidden_and_still_told_apart() {
        assert_eq!(written(|to| value(b"tenant-1", to)), "tenant-1");
        let strange: [&[u8]; 5] = [b"a,b", b"a b", b"a\0", b"\xff", &[b'a'; 65]];
        let mut seen = std::collections::HashSet::new();
        for bytes in strange {
            let text = written(|to| value(bytes, to));
            assert!(text.starts_with("sha256:") && text.len() == 39, "{text}");
            assert!(seen.insert(text));
        }
    }

    #[test]
    fn a_client_is_told_by_its_network() {
        for (address, text) in [
            ("10.0.0.1", "client:10.0.0.1"),
            ("::ffff:10.0.0.1", "client:10.0.0.1"),
            ("2001:db8:1:2:3::4", "client:2001:db8:1:2::"),
        ] {
            assert_eq!(written(|to| client(address.parse().ok(), to)), text);
        }
    }
}
