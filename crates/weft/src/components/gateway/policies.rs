//! The policies of routes that ask who calls.

use weft_gateway::{
    AUTHENTICATION, Authentication,
    authentication::{Bearer, Combine, KeyPlace, Scheme, is_ours},
};
use weft_kernel::Name;
use weft_proxy::plan::Binding;

use super::{
    authorization::AUTHORIZATION_KEY, cors::CORS_KEY, external::EXTERNAL_AUTHORIZATION_KEY,
    limits::RATE_LIMITS_KEY, security_headers::SECURITY_HEADERS_KEY,
    service_credentials::SERVICE_CREDENTIALS_KEY,
};
use crate::config::{
    catalogue::{KeyOf, PolicyKey},
    leaf::{Many, Pairs, Some1, Switch, Whole},
    problem::Problem,
    setting::{At, Cx, Setting, Shape, settings},
    text::{CookieName, FieldName, HeaderName},
    tree::{Kind, Node},
};

const KEY: KeyOf<Switch<Whole<AuthenticationSection>>> = KeyOf::new(
    "authentication",
    "Authentication: the consumer that a request must come from, and how it shows that.",
)
.or("off");

/// Their keys in a policy.
pub(super) static ALL: [PolicyKey; 7] = [
    CORS_KEY,
    // Before the one that asks others: what is known here costs nobody a question.
    AUTHORIZATION_KEY,
    EXTERNAL_AUTHORIZATION_KEY,
    PolicyKey {
        field: KEY.field(),
        build: |policy, cx| match KEY.read(policy, cx)? {
            Switch::On(Whole(section)) => {
                section.build(cx).map(|settings| Binding::new(AUTHENTICATION, settings))
            }
            Switch::Off => None,
        },
    },
    RATE_LIMITS_KEY,
    SERVICE_CREDENTIALS_KEY,
    SECURITY_HEADERS_KEY,
];

settings! {
    /// Authentication: which credentials are asked for, and what becomes of them.
    pub struct AuthenticationSection = "authentication", short "any" {
        /// Methods of which one must succeed; they are tried in this order.
        any: Many<At<Method>>,
        /// Methods that must all succeed, for the same consumer.
        all: Many<At<Method>>,
        /// Consumer of a request that shows no credentials at all. Such requests are refused without it, and
        /// those with wrong credentials always.
        anonymous: Option<At<Name>>,
        /// Whether the service is shown the credentials.
        forward: bool = "false",
        /// Realm that a client is told its credentials are for (RFC 9110 section 11.5).
        realm: At<String> = "weft",
        /// Whether CORS preflights, which browsers send without credentials, go to the service without any.
        preflight: bool = "false",
    }

    /// API key, in the first of these places that has one. Without any, in the header `x-api-key`.
    pub struct ApiKeySection = "API key", short "header" {
        /// Headers that it may stand in; in `authorization` behind the scheme `ApiKey` or `Bearer`.
        header: Many<HeaderName>,
        /// Query parameters that it may stand in.
        query: Many<String>,
        /// Cookies that it may stand in.
        cookie: Many<CookieName>,
    }
}

impl AuthenticationSection {
    fn build(&self, cx: &mut Cx) -> Option<Authentication> {
        let (combine, methods) = match (&*self.any, &*self.all) {
            (any @ [_, ..], []) => (Combine::Any, any),
            ([], all @ [_, ..]) => (Combine::All, all),
            ([], []) => {
                let say = "no method is named by which a request may be authenticated";
                let help = "say `authentication: api_key`, or `any:` with a list";
                cx.report(Problem::error(self.place, say).help(help));
                return None;
            }
            ([_, ..], [all, ..]) => {
                let say = "`any` and `all` exclude each other";
                cx.report(Problem::error(all.place, say));
                return None;
            }
        };
        let quoted = |byte: u8| matches!(byte, b' '..=b'~') && !b"\"\\".contains(&byte);
        if !self.realm.bytes().all(quoted) {
            let say = "a realm is printable ASCII without quotes and backslashes";
            cx.report(Problem::error(self.realm.place, say));
            return None;
        }
        let mut schemes: Vec<Scheme> = Vec::with_capacity(methods.len());
        for method in methods {
            if schemes.contains(&method.value.0) {
                cx.report(Problem::error(method.place, "this method stands here twice"));
                return None;
            }
            schemes.push(method.value.0.clone());
        }
        Some(Authentication {
            combine,
            methods: schemes,
            anonymous: self.anonymous.as_ref().map(|name| name.value.clone()),
            forward: self.forward,
            realm: self.realm.as_str().into(),
            preflight: self.preflight,
        })
    }
}

/// A method: its word, or its word with settings.
#[derive(Clone, Debug)]
pub struct Method(Scheme);

settings! {
    /// Method of authentication with settings of its own.
    pub struct MethodSection = "method" {
        /// API key.
        api_key: Option<ApiKeySection>,
        /// Token that its issuer has signed.
        jwt: Option<JwtSection>,
        /// Token that its issuer is asked about (RFC 7662).
        introspection: Option<IntrospectionSection>,
    }

    /// JSON Web Token, in the first of these places that has one. Without any, in `authorization` behind `Bearer`.
    pub struct JwtSection = "token", short "issuers" {
        /// Issuers whose tokens are taken.
        issuers: Some1<Name>,
        /// Headers that it may stand in.
        header: Many<HeaderName>,
        /// Query parameters that it may stand in.
        query: Many<String>,
        /// Cookies that it may stand in.
        cookie: Many<CookieName>,
        /// Audiences of which it must name one; those of the issuer if none is named.
        audiences: Many<String>,
        /// Scopes that it must have.
        scopes: Many<String>,
        /// Claims that it must have, each with one of these values; those within others are named with dots.
        claims: Pairs<String, Many<String>>,
        /// Headers that tell the service a claim: name of the header, and of the claim. What a client sends
        /// under these names is taken off.
        claim_headers: Pairs<FieldName, String>,
    }
}

settings! {
    /// Token that its issuer is asked about, in the first of these places that has one. Without any, in
    /// `authorization` behind `Bearer`.
    pub struct IntrospectionSection = "introspection", short "issuer" {
        /// Issuer that is asked; it needs `introspection`.
        issuer: Name,
        /// Headers that it may stand in.
        header: Many<HeaderName>,
        /// Query parameters that it may stand in.
        query: Many<String>,
        /// Cookies that it may stand in.
        cookie: Many<CookieName>,
        /// Audiences of which it must be for one; those of the issuer if none is named.
        audiences: Many<String>,
        /// Scopes that it must have.
        scopes: Many<String>,
        /// Claims that it must have, each with one of these values; those within others are named with dots.
        claims: Pairs<String, Many<String>>,
        /// Headers that tell the service a claim: name of the header, and of the claim. What a client sends
        /// under these names is taken off.
        claim_headers: Pairs<FieldName, String>,
    }
}

impl Setting for Method {
    fn shape() -> Shape {
        const WORDS: &[(&str, &str)] = &[
            ("api_key", "API key"),
            ("basic", "user name and password (RFC 7617)"),
            ("client_certificate", "certificate that the client shows in the TLS handshake"),
        ];
        Shape::Either(vec![Shape::Words(WORDS), MethodSection::shape()])
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        const EXPECTED: &str = "a method: `api_key`, `basic`, `client_certificate`, `jwt: ISSUER` or `introspection: ISSUER`";
        // A word stands for the method without settings.
        let scheme = match (&node.kind, node.text()) {
            (_, Some("api_key")) => api_key(&ApiKeySection::absent()?),
            (_, Some("basic")) => Scheme::Basic,
            (_, Some("client_certificate")) => Scheme::ClientCertificate,
            (Kind::Map(entries), _) => {
                let section = MethodSection::read(node, cx)?;
                match (entries.len(), section.api_key, section.jwt, section.introspection) {
                    (1, Some(key), None, None) => api_key(&key),
                    (1, None, Some(token), None) => {
                        are_free(&token.claim_headers, node, cx)?;
                        Scheme::Jwt(jwt(token))
                    }
                    (1, None, None, Some(token)) => {
                        are_free(&token.claim_headers, node, cx)?;
                        Scheme::Introspection(introspection(token))
                    }
                    _ => {
                        cx.report(Problem::error(node.place, format!("expected {EXPECTED}")));
                        return None;
                    }
                }
            }
            _ => {
                cx.expected(node, EXPECTED);
                return None;
            }
        };
        Some(Self(scheme))
    }
}

/// Where credentials may stand; in a header if none of these is named.
fn places(
    headers: &[HeaderName],
    queries: &[String],
    cookies: &[CookieName],
    otherwise: &str,
) -> Vec<KeyPlace> {
    let headers = headers.iter().map(|name| KeyPlace::Header(name.0.as_str().into()));
    let queries = queries.iter().map(|name| KeyPlace::Query(name.as_str().into()));
    let cookies = cookies.iter().map(|name| KeyPlace::Cookie(name.0.as_str().into()));
    let mut places: Vec<_> = headers.chain(queries).chain(cookies).collect();
    if places.is_empty() {
        places.push(KeyPlace::Header(otherwise.into()));
    }
    places
}

fn api_key(section: &ApiKeySection) -> Scheme {
    Scheme::ApiKey(places(&section.header, &section.query, &section.cookie, "x-api-key"))
}

/// That none of the names of headers is one that tells the consumer.
fn are_free(headers: &Pairs<FieldName, String>, node: &Node, cx: &mut Cx) -> Option<()> {
    let Some((name, _)) = headers.0.iter().find(|(name, _)| is_ours(&name.0)) else {
        return Some(());
    };
    let say = format!("`{}` tells the consumer, and no claim may", name.0);
    cx.report(Problem::error(node.place, say));
    None
}

fn jwt(section: JwtSection) -> Bearer {
    let claims = section.claims.0.into_iter().map(|(claim, values)| (claim, values.0));
    let tell = section.claim_headers.0.into_iter().map(|(name, claim)| (name.0, claim));
    Bearer {
        places: places(&section.header, &section.query, &section.cookie, "authorization"),
        issuers: section.issuers.0,
        audiences: section.audiences.0,
        scopes: section.scopes.0,
        claims: claims.collect(),
        tell: tell.collect(),
    }
}

fn introspection(section: IntrospectionSection) -> Bearer {
    let claims = section.claims.0.into_iter().map(|(claim, values)| (claim, values.0));
    let tell = section.claim_headers.0.into_iter().map(|(name, claim)| (name.0, claim));
    Bearer {
        places: places(&section.header, &section.query, &section.cookie, "authorization"),
        issuers: vec![section.issuer],
        audiences: section.audiences.0,
        scopes: section.scopes.0,
        claims: claims.collect(),
        tell: tell.collect(),
    }
}
