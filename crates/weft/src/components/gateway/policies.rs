//! The policies of routes that ask who calls.

use weft_gateway::{
    AUTHENTICATION, Authentication, Signature,
    authentication::{Bearer, Combine, KeyPlace, Oidc, Scheme, is_ours},
    signature::is_component,
};
use weft_kernel::{ByteSize, Name};
use weft_proxy::plan::Binding;

use super::{
    authorization::AUTHORIZATION_KEY, cors::CORS_KEY, external::EXTERNAL_AUTHORIZATION_KEY,
    limits::RATE_LIMITS_KEY, security_headers::SECURITY_HEADERS_KEY,
    service_credentials::SERVICE_CREDENTIALS_KEY,
};
use crate::config::{
    catalogue::{KeyOf, PolicyKey},
    leaf::{Many, Pairs, Some1, Span, Switch, Whole},
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
            if let (Scheme::Oidc(_), Combine::All) = (&method.value.0, combine) {
                let say = "`oidc` goes with `any`: who has not logged in shows nothing";
                cx.report(Problem::error(method.place, say));
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
        /// Signature of the request (RFC 9421).
        signature: Option<SignatureSection>,
        /// Session of a browser that has logged in (OpenID Connect).
        oidc: Option<OidcSection>,
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

settings! {
    /// Session of a browser; one that has none is sent to log in.
    pub struct OidcSection = "login of browsers", short "login" {
        /// Login of `logins`.
        login: Name,
        /// Claims that its ID token must have, each with one of these values; those within others are named with
        /// dots.
        claims: Pairs<String, Many<String>>,
        /// Headers that tell the service a claim: name of the header, and of the claim. What a client sends
        /// under these names is taken off.
        claim_headers: Pairs<FieldName, String>,
    }
}

settings! {
    /// Signature of the request (RFC 9421).
    pub struct SignatureSection = "signature", short "keys" {
        /// Keys of `signature_keys` that are taken; all if none is named.
        keys: Many<Name>,
        /// Components that it must cover: fields, in lower case, and `@method`, `@target-uri`, `@authority`,
        /// `@scheme`, `@path`, `@query` or `@request-target`. Who covers `@target-uri` covers what that holds.
        components: Many<At<String>> = "['@method', '@authority', '@path', '@query']",
        /// Whether it must cover `content-digest` of a request with a body, which the body is then held to.
        content_digest: bool = "true",
        /// Maximum size of a body that is held to its digest.
        body_max: ByteSize = "1MiB",
        /// Age at which a signature is too old.
        age_max: Span = "5m",
        /// Time by which the clock of the client may differ from that of the node.
        skew: Span = "60s",
        /// Whether a signature must have a `nonce`, and is taken once.
        nonce: bool = "false",
        /// Label of the signature; that of any if it is left out.
        label: Option<At<String>>,
        /// Word by which a signature says what it is for (`tag`).
        tag: Option<At<String>>,
    }
}

impl SignatureSection {
    fn build(&self, cx: &mut Cx) -> Option<Signature> {
        let mut is_right = true;
        if let Some(component) = self.components.iter().find(|it| !is_component(it)) {
            let say = format!("`{}` is no component that a signature can cover", component.value);
            let help = "name fields in lower case, or `@method`, `@target-uri`, `@authority`, `@scheme`, `@path`, `@query`, `@request-target`";
            cx.report(Problem::error(component.place, say).help(help));
            is_right = false;
        }
        let key = |text: &str| {
            let legal = |byte: u8| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.*".contains(&byte)
            };
            text.starts_with(|first: char| first.is_ascii_lowercase() || first == '*')
                && text.bytes().all(legal)
        };
        if let Some(label) = self.label.as_ref().filter(|label| !key(label)) {
            let say = "a label is lower-case letters, digits, `_`, `-`, `.` and `*`";
            cx.report(Problem::error(label.place, say));
            is_right = false;
        }
        let quoted = |byte: u8| matches!(byte, b' '..=b'~') && !b"\"\\".contains(&byte);
        if let Some(tag) = self.tag.as_ref().filter(|tag| !tag.bytes().all(quoted)) {
            let say = "a tag is printable ASCII without quotes and backslashes";
            cx.report(Problem::error(tag.place, say));
            is_right = false;
        }
        is_right.then(|| Signature {
            keys: self.keys.to_vec(),
            label: self.label.as_ref().map(|label| label.as_str().into()),
            tag: self.tag.as_ref().map(|tag| tag.as_str().into()),
            components: self.components.iter().map(|it| it.as_str().into()).collect(),
            content_digest: self.content_digest,
            body_bytes_max: usize::try_from(self.body_max.0).unwrap_or(usize::MAX),
            age_max: self.age_max.0,
            skew: self.skew.0,
            nonce: self.nonce,
        })
    }
}

impl Setting for Method {
    fn shape() -> Shape {
        const WORDS: &[(&str, &str)] = &[
            ("api_key", "API key"),
            ("basic", "user name and password (RFC 7617)"),
            ("client_certificate", "certificate that the client shows in the TLS handshake"),
            ("signature", "signature of the request (RFC 9421)"),
        ];
        Shape::Either(vec![Shape::Words(WORDS), MethodSection::shape()])
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        const EXPECTED: &str = "a method: `api_key`, `basic`, `client_certificate`, `signature`, `jwt: ISSUER`, `introspection: ISSUER` or `oidc: LOGIN`";
        // A word stands for the method without settings.
        let scheme = match (&node.kind, node.text()) {
            (_, Some("api_key")) => api_key(&ApiKeySection::absent()?),
            (_, Some("basic")) => Scheme::Basic,
            (_, Some("client_certificate")) => Scheme::ClientCertificate,
            (_, Some("signature")) => Scheme::Signature(SignatureSection::absent()?.build(cx)?),
            (Kind::Map(entries), _) => {
                let section = MethodSection::read(node, cx)?;
                let MethodSection {
                    api_key: key,
                    jwt: token,
                    introspection: asked,
                    signature,
                    oidc: login,
                    ..
                } = section;
                match (entries.len(), key, token, asked, signature, login) {
                    (1, Some(key), ..) => api_key(&key),
                    (1, _, Some(token), ..) => {
                        are_free(&token.claim_headers, node, cx)?;
                        Scheme::Jwt(jwt(token))
                    }
                    (1, _, _, Some(token), ..) => {
                        are_free(&token.claim_headers, node, cx)?;
                        Scheme::Introspection(introspection(token))
                    }
                    (1, .., Some(signature), None) => Scheme::Signature(signature.build(cx)?),
                    (1, .., Some(section)) => {
                        are_free(&section.claim_headers, node, cx)?;
                        Scheme::Oidc(oidc(section))
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

fn oidc(section: OidcSection) -> Oidc {
    let claims = section.claims.0.into_iter().map(|(claim, values)| (claim, values.0));
    let tell = section.claim_headers.0.into_iter().map(|(name, claim)| (name.0, claim));
    let claims = Bearer {
        places: Vec::new(),
        issuers: vec![section.login.clone()],
        audiences: Vec::new(),
        scopes: Vec::new(),
        claims: claims.collect(),
        tell: tell.collect(),
    };
    Oidc { login: section.login, claims }
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
