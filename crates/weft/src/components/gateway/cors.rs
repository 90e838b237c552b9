//! The policies of routes that let pages of other origins ask.

use weft_gateway::{CORS, Cors, cors};
use weft_proxy::plan::Binding;

use crate::config::{
    catalogue::{KeyOf, PolicyKey},
    leaf::{Many, Some1, Span, Switch, Whole},
    problem::Problem,
    setting::{At, Cx, Setting, Shape, settings},
    text::{HeaderName, Method},
    tree::Node,
};

const KEY: KeyOf<Switch<Whole<CorsSection>>> =
    KeyOf::new("cors", "CORS: pages of other origins that may ask.").or("off");

/// Their key in a policy.
pub(super) const CORS_KEY: PolicyKey = PolicyKey {
    field: KEY.field(),
    build: |policy, cx| match KEY.read(policy, cx)? {
        Switch::On(Whole(section)) => {
            section.build(cx).map(|settings| Binding::new(CORS, settings))
        }
        Switch::Off => None,
    },
};

settings! {
    /// CORS. Preflights are answered by Weft, before authentication, and do not get to the service, whose own
    /// fields of CORS are left out.
    pub struct CorsSection = "CORS", short "origins" {
        /// Origins whose pages may ask: `https://app.example.com`, `https://*.example.com` for all below it, or
        /// `*`.
        origins: Some1<At<OriginText>>,
        /// Methods that they may use beside GET, HEAD and POST.
        methods: Many<Method> = "[PUT, PATCH, DELETE]",
        /// Headers that they may send beside those that are always allowed; any if it is left out.
        headers: Many<HeaderName>,
        /// Headers of responses that they may read beside those that are always allowed.
        expose: Many<HeaderName>,
        /// Whether browsers may send cookies and other credentials of the user; not with `*`.
        credentials: bool = "false",
        /// Time for which browsers may remember the answer to a preflight; they cut it to 2 h or 24 h.
        max_age: Span = "10m",
        /// Whether public pages may ask for what is in a private network.
        private_network: bool = "false",
    }
}

impl CorsSection {
    fn build(&self, cx: &mut Cx) -> Option<Cors> {
        let any = self.origins.iter().find(|origin| origin.0 == cors::Origin::Any);
        if let (Some(any), true) = (any, self.credentials) {
            let say = "every page could read what the user may see";
            let help = "name the origins, or leave `credentials` off";
            cx.report(Problem::error(any.place, say).help(help));
            return None;
        }
        let names = |of: &Many<HeaderName>| of.iter().map(|name| name.0.as_str().into()).collect();
        Some(Cors {
            origins: self.origins.iter().map(|origin| origin.0.clone()).collect(),
            methods: self.methods.iter().map(|method| method.0.as_str().into()).collect(),
            headers: (!self.headers.is_empty()).then(|| names(&self.headers)),
            expose: names(&self.expose),
            credentials: self.credentials,
            max_age: self.max_age.0,
            private_network: self.private_network,
        })
    }
}

/// Whose pages may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginText(cors::Origin);

impl OriginText {
    /// An origin as browsers write it (RFC 6454 section 6.2), or with a wildcard for the first labels.
    fn parse(text: &str) -> Option<Self> {
        match text {
            "*" => return Some(Self(cors::Origin::Any)),
            "null" => return Some(Self(cors::Origin::Exactly(text.into()))),
            _ => {}
        }
        let lower = text.to_ascii_lowercase();
        let (scheme, authority) = lower.split_once("://")?;
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !authority.ends_with(']') => {
                (host, Some(port.parse::<u16>().ok()?))
            }
            _ => (authority, None),
        };
        // The port that goes without saying is not said.
        let port = match (scheme, port) {
            ("http", Some(80)) | ("https", Some(443)) | (_, None) => String::new(),
            (_, Some(port)) => format!(":{port}"),
        };
        let plain = |of: &str, more: &[u8]| {
            !of.is_empty()
                && of.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
        };
        if !plain(scheme, b"+-.") {
            return None;
        }
        Some(Self(match host.strip_prefix("*.") {
            Some(name) if plain(name, b"-._") => {
                cors::Origin::Below(format!("{scheme}://").into(), format!(".{name}{port}").into())
            }
            None if plain(host, b"-._[]:") => {
                cors::Origin::Exactly(format!("{scheme}://{host}{port}").into())
            }
            _ => return None,
        }))
    }
}

impl Setting for OriginText {
    fn shape() -> Shape {
        Shape::Text {
            what: "origin",
            pattern: Some("^(\\*|null|[a-zA-Z][a-zA-Z0-9+.-]*://[^/]+)$"),
        }
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let what = "an origin such as https://app.example.com or https://*.example.com, or *";
        let text = cx.text(node, what)?;
        let origin = Self::parse(text);
        if origin.is_none() {
            cx.expected(node, what);
        }
        origin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_read_as_browsers_write_them() {
        let exactly = |text: &str| Some(OriginText(cors::Origin::Exactly(text.into())));
        for (text, origin) in [
            ("https://App.Example.com", exactly("https://app.example.com")),
            ("https://a.net:443", exactly("https://a.net")),
            ("http://a.net:443", exactly("http://a.net:443")),
            ("http://[::1]:8080", exactly("http://[::1]:8080")),
            ("http://[::1]", exactly("http://[::1]")),
            ("capacitor://localhost", exactly("capacitor://localhost")),
            ("null", exactly("null")),
        ] {
            assert_eq!(OriginText::parse(text), origin, "{text}");
        }
        let below = cors::Origin::Below("https://".into(), ".example.com:8443".into());
        assert_eq!(OriginText::parse("https://*.example.com:8443"), Some(OriginText(below)));
        let bad = [
            "",
            "example.com",
            "https://",
            "https://a.net/",
            "https://a.net/x",
            "https://*",
            "https://*.",
            "https://a.*.net",
            "https://*a.net",
            "https://u@a.net",
            "https://a.net:99999",
            "://a.net",
        ];
        for text in bad {
            assert_eq!(OriginText::parse(text), None, "{text}");
        }
    }
}
