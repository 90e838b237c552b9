//! The policies of routes that show services who asks.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use weft_gateway::{
    SERVICE_CREDENTIALS, ServiceCredentials, authentication::KeyPlace, service_credentials::Source,
};
use weft_kernel::Name;
use weft_proxy::plan::{self as proxy, Binding};

use super::sections::OAUTH_CLIENTS;
use crate::config::{
    catalogue::{Checked, KeyOf, PolicyKey},
    leaf::{Many, Pairs, Secret, Switch, Whole},
    problem::Problem,
    setting::{At, Cx, settings},
    source::Place,
    text::{CookieName, FieldName, HeaderName},
};

const KEY: KeyOf<Switch<Whole<CredentialsSection>>> = KeyOf::new(
    "service_credentials",
    "Service credentials: what the services of a route are shown of who asks, in place of what the client has sent.",
)
.or("off");

/// Their key in a policy.
pub(super) const SERVICE_CREDENTIALS_KEY: PolicyKey = PolicyKey {
    field: KEY.field(),
    build: |policy, cx| match KEY.read(policy, cx)? {
        Switch::On(Whole(section)) => {
            section.build(cx).map(|settings| Binding::new(SERVICE_CREDENTIALS, settings))
        }
        Switch::Off => None,
    },
};

settings! {
    /// Service credentials: one of these.
    pub struct CredentialsSection = "service credentials" {
        /// Token that never changes, in `authorization` behind `Bearer`; `file:PATH` reads it from a file.
        bearer: Option<At<Secret>>,
        /// User name and password (RFC 7617).
        basic: Option<ServiceBasic>,
        /// Headers with secrets, such as API keys.
        headers: Pairs<At<FieldName>, At<Secret>>,
        /// OAuth client that is given a token for itself (RFC 6749 section 4.4).
        client_credentials: Option<At<Name>>,
        /// OAuth client that is given a token in exchange for the one of the request (RFC 8693).
        token_exchange: Option<ExchangeSection>,
        /// Services that are shown them. Without any, those that the route leads to, and no fallback.
        services: Many<At<Name>>,
    }

    /// User name and password that a service is shown.
    pub struct ServiceBasic = "credentials of a service" {
        /// User name.
        username: At<String>,
        /// Password; `file:PATH` reads it from a file.
        password: At<Secret>,
    }

    /// Exchange of the token of a request for one of the service.
    pub struct ExchangeSection = "token exchange", short "client" {
        /// OAuth client that offers it.
        client: At<Name>,
        /// Header that it stands in. Without one, and without a cookie, `authorization`, behind `Bearer`.
        header: Option<HeaderName>,
        /// Cookie that it stands in.
        cookie: Option<At<CookieName>>,
    }
}

impl CredentialsSection {
    fn build(&self, cx: &mut Cx) -> Option<ServiceCredentials> {
        let Self { bearer, basic, headers, client_credentials, token_exchange, .. } = self;
        let said = [
            bearer.is_some(),
            basic.is_some(),
            !headers.0.is_empty(),
            client_credentials.is_some(),
            token_exchange.is_some(),
        ];
        if said.iter().filter(|is_said| **is_said).count() != 1 {
            let say = "expected one of `bearer`, `basic`, `headers`, `client_credentials` and `token_exchange`";
            cx.report(Problem::error(self.place, say));
            return None;
        }
        let authorization =
            |value: String| Source::Fields(vec![("authorization".into(), value.into_boxed_str())]);
        let source = if let Some(token) = bearer {
            let fits = |byte| matches!(byte, b'!'..=b'~');
            authorization(format!(
                "Bearer {}",
                whole(token, "a token is printable ASCII without spaces", fits, cx)?
            ))
        } else if let Some(basic) = basic {
            if basic.username.contains(':') || basic.username.chars().any(char::is_control) {
                // RFC 7617 section 2.
                let say = "a user name holds neither a colon nor control characters";
                cx.report(Problem::error(basic.username.place, say));
                return None;
            }
            let fits = |byte: u8| !byte.is_ascii_control();
            let password = whole(&basic.password, NO_CONTROLS, fits, cx)?;
            let both = format!("{}:{password}", basic.username.value);
            authorization(format!("Basic {}", STANDARD.encode(both)))
        } else if let Some(client) = client_credentials {
            Source::ClientCredentials(client.value.clone())
        } else if let Some(exchange) = token_exchange {
            Source::TokenExchange(exchange.client.value.clone(), exchange.place(cx)?)
        } else {
            let fits = |byte: u8| !byte.is_ascii_control();
            let field = |(name, value): &(At<FieldName>, At<Secret>)| {
                let value = whole(value, NO_CONTROLS, fits, cx)?;
                Some((name.0.as_str().into(), value.into()))
            };
            Source::Fields(headers.0.iter().map(field).collect::<Option<_>>()?)
        };
        let services = self.services.iter().map(|name| name.value.clone()).collect();
        Some(ServiceCredentials { source, services })
    }
}

impl ExchangeSection {
    fn place(&self, cx: &mut Cx) -> Option<KeyPlace> {
        match (&self.header, &self.cookie) {
            (Some(_), Some(cookie)) => {
                cx.report(Problem::error(cookie.place, "`header` and `cookie` exclude each other"));
                None
            }
            (None, Some(cookie)) => Some(KeyPlace::Cookie(cookie.0.as_str().into())),
            (Some(header), None) => Some(KeyPlace::Header(header.0.as_str().into())),
            (None, None) => Some(KeyPlace::Header("authorization".into())),
        }
    }
}

const NO_CONTROLS: &str = "this secret is text without control characters, or spaces at its ends";

/// A secret that can stand where it is to; `what` says what does not fit.
fn whole<'a>(
    secret: &'a At<Secret>,
    what: &str,
    fits: fn(u8) -> bool,
    cx: &mut Cx,
) -> Option<&'a str> {
    let text = secret.reveal();
    if text.is_empty() {
        cx.report(Problem::error(secret.place, "this secret is empty"));
        return None;
    }
    if text.trim() != text || !text.bytes().all(fits) {
        cx.report(Problem::error(secret.place, what));
        return None;
    }
    secret.discourage(cx);
    Some(text)
}

/// Checks that the OAuth client of a route, and the services that are named, are there.
pub(super) fn check(route: &proxy::Route, place: Place, whole: &Checked<'_>, cx: &mut Cx) {
    let clients = whole.names(&OAUTH_CLIENTS);
    let services = whole.plan.proxy.services.iter().map(|service| service.discovery.name.as_str());
    let bindings = route.policy.policies.iter();
    let ours = bindings.filter(|binding| binding.handler == SERVICE_CREDENTIALS);
    for of in ours.filter_map(|binding| binding.settings::<ServiceCredentials>().ok()) {
        let mut misses = |noun: &str, name: &Name, there: Vec<&str>| {
            let say = format!(
                "the service credentials of route `{}` name {noun} `{name}`, which is not there",
                route.name
            );
            cx.report(Problem::error(place, say).near(name.as_str(), there));
        };
        if let Some(client) = of.client().filter(|client| !clients.contains(client.as_str())) {
            let there = clients.iter().map(|(name, _)| name).collect();
            misses("OAuth client", client, there);
        }
        for name in &of.services {
            if !services.clone().any(|service| service == name.as_str()) {
                misses("service", name, services.clone().collect());
            }
        }
    }
}
