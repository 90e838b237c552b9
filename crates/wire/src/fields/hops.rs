//! What does not go on to the next hop: fields of one connection, and what may not come after a body.

use super::{
    Fields,
    alike::{is_odd, plain},
    known::{Known, Names, UNKNOWN},
};

impl Fields {
    /// Removes what belongs to one connection alone (RFC 9110 section 7.6.1): `Connection`, all that it
    /// names, and the fields that are hop by hop by definition. `TE: trailers` is kept when `keep_te`.
    pub fn strip_hop_by_hop(&mut self, keep_te: bool) {
        let mut named: Vec<String> = Vec::new();
        for value in self.all(Known::Connection) {
            for option in value.split(|b| *b == b',') {
                let option = option.trim_ascii();
                let plain = option.eq_ignore_ascii_case(b"close")
                    || option.eq_ignore_ascii_case(b"keep-alive")
                    || option.eq_ignore_ascii_case(b"upgrade")
                    || option.eq_ignore_ascii_case(b"te");
                if !plain && !option.is_empty() {
                    named.push(String::from_utf8_lossy(option).to_ascii_lowercase());
                }
            }
        }
        // What routing and framing stand on cannot be declared away by a peer.
        named.retain(|name| {
            let kept = matches!(name.as_str(), "host" | "content-length" | "transfer-encoding")
                || name.starts_with("x-forwarded-")
                || matches!(name.as_str(), "forwarded" | "via" | "authorization" | "cookie");
            !kept
        });
        if !named.is_empty() {
            // In one pass, however many a peer names.
            named.sort_unstable();
            self.retain(|name, _| named.binary_search_by(|it| it.as_str().cmp(name)).is_err());
        }
        // As most say it, it stays where it is.
        let stays = keep_te && self.all(Known::Te).eq([b"trailers"]);
        let trailers = keep_te
            && !stays
            && self.all(Known::Te).any(|value| {
                value
                    .split(|b| *b == b',')
                    .any(|option| option.trim_ascii().eq_ignore_ascii_case(b"trailers"))
            });
        const HOP: Names = Names::of(&[
            Known::Connection,
            Known::KeepAlive,
            Known::ProxyConnection,
            Known::TransferEncoding,
            Known::Te,
            Known::Upgrade,
            Known::Http2Settings,
        ]);
        let mut hop = HOP;
        if stays {
            hop.remove(Known::Te as u8);
        }
        if self.present.meets(hop) {
            self.lines.retain(|line| line.known == UNKNOWN || !hop.has(line.known));
            self.present.remove_all(hop);
        }
        if trailers {
            self.add(Known::Te, b"trailers");
        }
    }

    /// Removes what may not come after a body (RFC 9110 sections 6.5.1 and 7.6.1), in either direction: what
    /// frames, routes or controls a message, belongs to a connection, or says who somebody is and which way
    /// a request came. A name is taken for what it reads like
    /// to services that are told it as CGI does.
    pub fn keep_trailers(&mut self) {
        let text = &self.text;
        let mut present = Names::none();
        self.lines.retain(|line| {
            let start = line.start as usize;
            let name = &text[start..start + line.name_len as usize];
            let stays = match is_odd(name) {
                true => may_trail(&name.iter().copied().map(plain).collect::<Vec<u8>>()),
                false => may_trail(name),
            };
            if stays && line.known != UNKNOWN {
                present.add(line.known);
            }
            stays
        });
        self.present = present;
    }
}

/// Whether a field of this name may come after a body. Of the names that the request path looks for, those
/// that tell how a call ended may.
fn may_trail(name: &[u8]) -> bool {
    const UNNAMED: &[&[u8]] = &[
        b"age",
        b"api-key",
        b"apikey",
        b"cf-connecting-ip",
        b"content-range",
        b"expires",
        b"max-forwards",
        b"pragma",
        b"range",
        b"remote-user",
        b"true-client-ip",
        b"vary",
        b"warning",
        b"www-authenticate",
        b"x-access-token",
        b"x-cluster-client-ip",
        b"x-host",
        b"x-method-override",
        b"x-real-ip",
    ];
    // How a request is to be taken, and whose it is, by the customs of proxies and frameworks.
    const BEGINNINGS: &[&[u8]] = &[
        b"if-",
        b"proxy-",
        b"sec-",
        b"x-api-key",
        b"x-auth",
        b"x-client-",
        b"x-csrf",
        b"x-envoy-",
        b"x-forwarded-",
        b"x-http-method",
        b"x-original-",
        b"x-remote-",
        b"x-rewrite-",
        b"x-ssl-",
        b"x-xsrf",
    ];
    match Known::of(name) {
        Some(known) => matches!(
            known,
            Known::GrpcStatus | Known::GrpcMessage | Known::GrpcRetryPushback | Known::ProxyStatus
        ),
        None => {
            let begins = BEGINNINGS.iter().any(|beginning| name.starts_with(beginning));
            !begins && !UNNAMED.contains(&name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hop_by_hop_fields_go_and_routing_stays() {
        let mut fields = Fields::new();
        fields.push_checked(b"Host", b"shop.example");
        fields.push_checked(b"X-Thing", b"1");
        fields.push_checked(b"Connection", b"close, X-Thing, host, X-Forwarded-For");
        fields.push_checked(b"Keep-Alive", b"timeout=5");
        fields.push_checked(b"TE", b"gzip, trailers");
        fields.push_checked(b"Upgrade", b"h2c");
        fields.push_checked(b"X-Forwarded-For", b"10.0.0.1");
        fields.strip_hop_by_hop(true);
        assert_eq!(
            fields.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            ["host", "x-forwarded-for", "te"]
        );
        assert_eq!(fields.get(Known::Te), Some(&b"trailers"[..]));
    }

    #[test]
    fn trailers_hold_nothing_that_belongs_before_a_body() {
        let mut fields = Fields::new();
        for name in [
            "Host",
            "content-length",
            "transfer-encoding",
            "connection",
            "keep-alive",
            "te",
            "trailer",
            "upgrade",
            "proxy-connection",
            "proxy-authorization",
            "authorization",
            "cookie",
            "set-cookie",
            "content-type",
            "content-encoding",
            "expect",
            "forwarded",
            "via",
            "x-forwarded-for",
            "X-Forwarded-Prefix",
            "x_forwarded_for",
            "x-real-ip",
            "X_Real_IP",
            "x.forwarded.for",
            "x~api~key",
            "x-forwarded-client-cert",
            "x-request-id",
            "traceparent",
            "grpc-timeout",
            "if-match",
            "sec-websocket-key",
            "www-authenticate",
            "X-HTTP-Method-Override",
            "x-original-url",
            "x_rewrite_url",
            "x-api-key",
            "X_API_KEY",
            "x-csrf-token",
            "x-auth-request-user",
            "x-ssl-client-verify",
        ] {
            fields.push_checked(name.as_bytes(), b"1");
        }
        let stay = ["grpc-status", "grpc-message", "x-sum", "x_sum", "content-digest", "hosts"];
        for name in stay {
            fields.push_checked(name.as_bytes(), b"1");
        }
        fields.keep_trailers();
        assert_eq!(fields.iter().map(|(name, _)| name).collect::<Vec<_>>(), stay);
        assert!(fields.has(Known::GrpcStatus) && !fields.has(Known::Host));
    }
}
