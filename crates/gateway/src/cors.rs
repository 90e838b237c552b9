//! The policy that lets pages of other origins ask (CORS, in the Fetch standard).
//!
//! It answers preflights itself, before anybody is asked for credentials, which browsers do not send with them,
//! and tells browsers with every response whether the page may read it, also with those that refuse. What the
//! service says of CORS is taken out: one of the two must decide. Requests of other origins are not refused, since
//! nothing but browsers keeps to this: CORS protects users, not services.

use std::{fmt, sync::Arc, time::Duration};

use weft_kernel::Result;
use weft_net::body::Body;
use weft_proxy::{
    DryRun, Flow, Foreseen, Policy, PolicyMaker, PolicyOutcome, Reply, RequestContext,
    ResponseContext, Sides, Stage, plan::Binding,
};
use weft_wire::{Fields, Known, Method, RequestHead, ResponseHead};

/// The name under which the policy is made.
pub const CORS: &str = "cors";

/// What browsers ask with, and are answered with.
const ASKED_METHOD: &str = "access-control-request-method";
const ASKED_HEADERS: &str = "access-control-request-headers";
const ASKED_PRIVATE: &str = "access-control-request-private-network";
/// What every field of an answer begins with.
const PREFIX: &str = "access-control-";

/// Settings of the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// The origins whose pages may ask.
    pub origins: Vec<Origin>,
    /// The methods that they may use beside GET, HEAD and POST.
    pub methods: Vec<Box<str>>,
    /// The header fields that they may send beside the safelisted ones, in lower case; `None` for any.
    pub headers: Option<Vec<Box<str>>>,
    /// The header fields of responses that they may read beside the safelisted ones.
    pub expose: Vec<Box<str>>,
    /// Whether browsers may send cookies and other credentials of the user.
    pub credentials: bool,
    /// For how long browsers may remember the answer to a preflight.
    pub max_age: Duration,
    /// Whether public pages may ask for what is in a private network.
    pub private_network: bool,
}

/// Whose pages may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Those of any origin.
    Any,
    /// Those of this origin, in lower case.
    Exactly(Box<str>),
    /// Those of hosts below a name: what stands before it (`https://`), and it with its dot (`.example.com`).
    Below(Box<str>, Box<str>),
}

impl Origin {
    fn takes(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(one) => **one == *origin,
            Self::Below(scheme, name) => {
                let host = origin.strip_prefix(&**scheme).and_then(|of| of.strip_suffix(&**name));
                host.is_some_and(|host| {
                    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
                    !host.is_empty() && !host.starts_with('.') && host.bytes().all(plain)
                })
            }
        }
    }
}

impl fmt::Display for Cors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("pages of ")?;
        for (at, origin) in self.origins.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { ", " })?;
            match origin {
                Origin::Any => f.write_str("any origin")?,
                Origin::Exactly(origin) => f.write_str(origin)?,
                Origin::Below(scheme, name) => write!(f, "{scheme}*{name}")?,
            }
        }
        Ok(())
    }
}

/// Makes policies of settings.
#[derive(Clone, Copy, Debug, Default)]
pub struct CorsMaker;

impl PolicyMaker for CorsMaker {
    fn make(&self, binding: &Binding) -> Result<Arc<dyn Policy>, String> {
        Ok(Arc::new(Shared::new(binding.settings()?)))
    }
}

/// The policy of a route, with its values of fields.
struct Shared {
    settings: Cors,
    /// Whether every origin is answered alike.
    is_for_all: bool,
    methods: String,
    headers: Option<String>,
    expose: String,
    max_age: String,
}

impl Shared {
    fn new(settings: Cors) -> Self {
        let more = settings.methods.iter().map(|of| &**of);
        let methods: Vec<&str> = ["GET", "HEAD", "POST"].into_iter().chain(more).collect();
        Self {
            is_for_all: settings.origins.contains(&Origin::Any) && !settings.credentials,
            methods: methods.join(", "),
            headers: settings.headers.as_ref().map(|headers| headers.join(", ")),
            expose: settings.expose.join(", "),
            max_age: settings.max_age.as_secs().to_string(),
            settings,
        }
    }

    /// The value of the field that lets a request's page read its response.
    fn allowed<'a>(&self, head: &'a RequestHead) -> Option<&'a [u8]> {
        let origin = head.fields.get_str(Known::Origin)?;
        if self.is_for_all {
            return Some(b"*");
        }
        // A browser writes an origin in lower case; one that does not is none.
        let taken = self.settings.origins.iter().any(|of| of.takes(origin));
        taken.then_some(origin.as_bytes())
    }

    /// What a page is told with each response.
    fn tell(&self, head: &RequestHead, fields: &mut Fields) {
        let Some(allowed) = self.allowed(head) else { return };
        fields.append("access-control-allow-origin", allowed);
        if self.settings.credentials {
            fields.append("access-control-allow-credentials", b"true");
        }
    }

    /// The answer to a preflight. It allows nothing to a page of another origin, which its browser tells it.
    fn preflight(&self, head: &RequestHead) -> Reply {
        let mut fields = Fields::with_capacity(8, 512);
        self.tell(head, &mut fields);
        if fields.is_empty() {
            return Reply::new(ResponseHead { status: 204, fields }, Body::Empty);
        }
        fields.append("access-control-allow-methods", self.methods.as_bytes());
        let asked = head.fields.named(ASKED_HEADERS);
        match (&self.headers, asked) {
            (Some(headers), _) if !headers.is_empty() => {
                fields.append("access-control-allow-headers", headers.as_bytes());
            }
            // Named one by one: `*` does not stand for `authorization`, nor for anything with credentials.
            (None, Some(asked)) => {
                fields.append("access-control-allow-headers", asked);
            }
            _ => {}
        }
        fields.append("access-control-max-age", self.max_age.as_bytes());
        if self.settings.private_network && head.fields.named(ASKED_PRIVATE) == Some(b"true") {
            fields.append("access-control-allow-private-network", b"true");
        }
        Reply::new(ResponseHead { status: 204, fields }, Body::Empty)
    }
}

/// Whether a browser asks what a page may ask (Fetch standard, CORS-preflight request).
pub(crate) fn is_preflight(head: &RequestHead) -> bool {
    head.method == Method::Options
        && head.fields.has(Known::Origin)
        && head.fields.named(ASKED_METHOD).is_some()
}

impl Policy for Shared {
    fn stage(&self) -> Stage {
        Stage::Cors
    }

    fn sides(&self) -> Sides {
        Sides { request: true, response: true, ..Sides::default() }
    }

    fn request<'a>(&'a self, cx: &'a mut RequestContext<'_>) -> Flow<'a> {
        if is_preflight(cx.head()) { Flow::answer(self.preflight(cx.head())) } else { Flow::Next }
    }

    fn foresee(&self, cx: &mut DryRun<'_>) -> Foreseen {
        let head = cx.view().head();
        if is_preflight(head) {
            return Foreseen::new(PolicyOutcome::Answers(204), "it is a preflight");
        }
        let why = match (head.fields.has(Known::Origin), self.allowed(head)) {
            (false, _) => "no page of another origin asks",
            (true, Some(_)) => "the page may read the response",
            (true, None) => {
                "the browser keeps the response from the page: its origin is not among these"
            }
        };
        Foreseen::new(PolicyOutcome::Passes, why)
    }

    fn response<'a>(&'a self, cx: &'a mut ResponseContext<'_>) -> Flow<'a> {
        let is_preflight = is_preflight(cx.request());
        let mut told = Fields::new();
        if !is_preflight {
            self.tell(cx.request(), &mut told);
            if !told.is_empty() && !self.expose.is_empty() {
                told.append("access-control-expose-headers", self.expose.as_bytes());
            }
        }
        let fields = &mut cx.head_mut().fields;
        if !is_preflight && fields.iter().any(|(name, _)| name.starts_with(PREFIX)) {
            fields.retain(|name, _| !name.starts_with(PREFIX));
        }
        for (name, value) in told.iter() {
            fields.append(name, value);
        }
        // What is cached for one origin, or for none, is not for another.
        if is_preflight {
            fields.append(
                "vary",
                b"origin, access-control-request-method, access-control-request-headers",
            );
        } else if !self.is_for_all {
            fields.append("vary", b"origin");
        }
        Flow::Next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn cors(origins: Vec<Origin>) -> Cors {
        Cors {
            origins,
            methods: vec!["PUT".into()],
            headers: None,
            expose: vec![],
            credentials: false,
            max_age: Duration::from_secs(600),
            private_network: false,
        }
    }

    fn head(method: Method, of: &[(&str, &str)]) -> RequestHead {
        fixture::head(method, "/", of)
    }

    #[test]
    fn an_origin_is_taken_as_it_is_said() {
        let below = Origin::Below("https://".into(), ".example.com".into());
        for (origin, taken) in [
            ("https://a.example.com", true),
            ("https://a.b.example.com", true),
            ("https://example.com", false),
            ("https://.example.com", false),
            ("http://a.example.com", false),
            ("https://a.example.com.evil.net", false),
            ("https://evil.net/.example.com", false),
            ("https://evil.net#.example.com", false),
            ("https://u@a.example.com", false),
            ("https://a:8443.example.com", false),
            ("https://evilexample.com", false),
            ("null", false),
        ] {
            assert_eq!(below.takes(origin), taken, "{origin}");
        }
        let exactly = Origin::Exactly("https://a.net:8443".into());
        assert!(exactly.takes("https://a.net:8443") && !exactly.takes("https://a.net"));
        assert!(Origin::Any.takes("null"));
    }

    #[test]
    fn a_preflight_is_one_only_with_all_that_makes_it() {
        let asks = [("origin", "https://a.net"), (ASKED_METHOD, "PUT")];
        assert!(is_preflight(&head(Method::Options, &asks)));
        assert!(!is_preflight(&head(Method::Get, &asks)));
        assert!(!is_preflight(&head(Method::Options, &asks[..1])));
        assert!(!is_preflight(&head(Method::Options, &asks[1..])));
    }

    #[test]
    fn a_preflight_of_another_origin_is_told_nothing() {
        let policy = Shared::new(cors(vec![Origin::Exactly("https://a.net".into())]));
        let asks = |origin| {
            let asks = [("origin", origin), (ASKED_METHOD, "PUT"), (ASKED_HEADERS, "x-a,x-b")];
            policy.preflight(&head(Method::Options, &asks)).head
        };
        let good = asks("https://a.net");
        let named =
            |name: &str| good.fields.named(name).map(|of| String::from_utf8_lossy(of).into_owned());
        assert_eq!(good.status, 204);
        assert_eq!(named("access-control-allow-origin").as_deref(), Some("https://a.net"));
        assert_eq!(named("access-control-allow-headers").as_deref(), Some("x-a,x-b"));
        assert_eq!(named("access-control-max-age").as_deref(), Some("600"));
        assert_eq!(named("access-control-allow-credentials"), None);
        let other = asks("https://b.net");
        assert_eq!((other.status, other.fields.len()), (204, 0));
    }

    #[test]
    fn with_credentials_no_answer_is_for_all() {
        let asks = [("origin", "https://a.net")];
        let mut with = cors(vec![Origin::Exactly("https://a.net".into())]);
        with.credentials = true;
        let mut fields = Fields::new();
        Shared::new(with).tell(&head(Method::Get, &asks), &mut fields);
        assert_eq!(fields.named("access-control-allow-origin"), Some(&b"https://a.net"[..]));
        assert_eq!(fields.named("access-control-allow-credentials"), Some(&b"true"[..]));
        let mut fields = Fields::new();
        Shared::new(cors(vec![Origin::Any])).tell(&head(Method::Get, &asks), &mut fields);
        assert_eq!(fields.named("access-control-allow-origin"), Some(&b"*"[..]));
    }
}
