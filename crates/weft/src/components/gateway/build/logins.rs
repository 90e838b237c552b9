//! Logins of browsers.

use std::time::Duration;

use weft_gateway::{
    LOGIN_COOKIES, LoginCookies,
    login::{Cookie, Options, SECRET_BYTES_MIN, SameSite, SessionSecret, is_local},
    oauth::{Client, ClientAuthentication},
};
use weft_identity::token::Algorithm;
use weft_kernel::Name;
use weft_proxy::plan::Binding;

use super::{
    super::sections::logins::{self, Login},
    issuers::{algorithm, client, url},
};
use crate::config::{
    catalogue::Sections,
    merge::NameSet,
    problem::{Problem, Severity},
    setting::{At, Cx},
};

const RISK: &str = "whoever is on the way to this URL can log in as anybody";
/// What Weft says itself to the provider.
const OURS: [&str; 8] = [
    "response_type",
    "client_id",
    "redirect_uri",
    "scope",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
];

/// Those that can be built; what is wrong with the others was reported.
pub(super) fn build(said: &[(At<Name>, Login)], issuers: &NameSet, cx: &mut Cx) -> Vec<Options> {
    let mut built: Vec<Options> = Vec::with_capacity(said.len());
    for (name, login) in said {
        if issuers.contains(name.as_str()) {
            let say = format!(
                "an issuer has the name `{}`, too: no metric could tell them apart",
                name.value
            );
            cx.report(Problem::error(name.place, say));
            continue;
        }
        let Some(options) = login_of(name, login, cx) else { continue };
        if let Some(other) = built.iter().find(|other| other.cookie.name == options.cookie.name) {
            let say =
                format!("login `{}` has the cookie `{}`, too", other.name, options.cookie.name);
            let place = login.cookie.name.as_ref().map_or(name.place, |name| name.place);
            cx.report(Problem::error(place, say));
            continue;
        }
        built.push(options);
    }
    built
}

/// Has every route keep the cookies of logins from whoever answers there.
pub(super) fn keep_cookies(logins: &[Options], said: &mut Sections<'_>) {
    let cookies: Vec<Cookie> = logins.iter().map(|login| login.cookie.clone()).collect();
    if !cookies.is_empty() {
        said.bind_everywhere(Binding::new(LOGIN_COOKIES, LoginCookies(cookies)));
    }
}

fn login_of(name: &At<Name>, login: &Login, cx: &mut Cx) -> Option<Options> {
    let before = cx.problems.len();
    let issuer = url(&login.issuer, RISK, cx);
    let discovery = match (&login.discovery, &issuer) {
        (Some(said), _) => url(said, RISK, cx),
        (None, Some(issuer)) => {
            Some(format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/')))
        }
        (None, None) => None,
    };
    let client = match &login.client_secret {
        Some(secret) => client(&login.client_id, secret, login.client_authentication, cx),
        None => Some(Client {
            id: login.client_id.as_str().into(),
            secret: None,
            authentication: ClientAuthentication::Post,
        }),
    };
    let algorithms: Vec<Algorithm> = match &*login.algorithms {
        [] => vec![Algorithm::Rs256, Algorithm::Ps256, Algorithm::Es256, Algorithm::EdDsa],
        named => named.iter().map(|one| algorithm(one.value)).collect(),
    };
    if let Some(misfit) =
        login.algorithms.iter().find(|one| algorithm(one.value).secret_bytes_min() > 0)
    {
        let say = "this algorithm takes a secret, which is nothing that a URL may tell";
        cx.report(Problem::error(misfit.place, say));
    }
    let (mut scopes, token) = (vec!["openid".to_owned()], |text: &str| {
        // RFC 6749 section 3.3.
        !text.is_empty()
            && text.bytes().all(|byte| matches!(byte, b'!'..=b'~') && !b"\"\\".contains(&byte))
    });
    for scope in login.scopes.iter() {
        if !token(scope) {
            cx.report(Problem::error(scope.place, "a scope is one word of printable ASCII"));
        } else if !scopes.contains(&scope.value) {
            scopes.push(scope.value.clone());
        }
    }
    for (parameter, _) in &login.parameters.0 {
        if OURS.contains(&&***parameter) {
            let say = format!("`{}` is a parameter that Weft says itself", parameter.value);
            cx.report(Problem::error(parameter.place, say));
        }
    }
    paths(login, cx);
    let origin = login.origin.as_ref().map(|said| origin(said, cx));
    let domain = login.cookie.domain.as_ref().map(|said| domain(said, cx));
    times(login, cx);
    let secrets = secrets(login, cx);
    if cx.problems[before..].iter().any(|of| of.severity == Severity::Error) {
        return None;
    }
    let text = |said: &Option<At<String>>| said.as_ref().map(|said| said.value.clone());
    let cookie_name = login.cookie.name.as_ref().map(|name| name.0.clone());
    Some(Options {
        name: name.value.clone(),
        issuer: issuer?,
        discovery: discovery?,
        ca_file: login.ca_file.as_ref().map(|file| file.value.0.clone()),
        client: client?,
        scopes,
        parameters: login
            .parameters
            .0
            .iter()
            .map(|(name, value)| (name.value.clone(), value.clone()))
            .collect(),
        algorithms,
        skew: login.skew.0,
        origin: origin.flatten(),
        callback_path: login.callback_path.value.clone(),
        login_path: text(&login.login_path),
        logout_path: login.logout_path.value.clone(),
        backchannel_path: text(&login.backchannel_path),
        post_logout: login.post_logout.value.clone(),
        cookie: Cookie {
            name: cookie_name.unwrap_or_else(|| format!("weft-{}", name.value).replace('/', "-")),
            domain: domain.flatten(),
            same_site: match login.cookie.same_site {
                logins::SameSite::Lax => SameSite::Lax,
                logins::SameSite::None => SameSite::None,
            },
        },
        idle: login.session.idle.0,
        max: login.session.max.0,
        access_token: login.forward_access_token.as_ref().map(|name| name.0.clone()),
        consumer_claim: login.consumer.clone(),
        consumers: login.consumers.to_vec(),
        secrets,
    })
}

/// The paths of its own, each another.
fn paths(login: &Login, cx: &mut Cx) {
    let own = [
        Some(&login.callback_path),
        Some(&login.logout_path),
        login.login_path.as_ref(),
        login.backchannel_path.as_ref(),
    ];
    let own: Vec<&At<String>> = own.into_iter().flatten().collect();
    for path in own.iter().copied().chain([&login.post_logout]) {
        if !is_local(path) {
            let say = "this is a path of the site: it begins with one slash";
            cx.report(Problem::error(path.place, say));
        }
    }
    for (at, path) in own.iter().enumerate() {
        if path.contains(['?', '#']) {
            cx.report(Problem::error(path.place, "a path of a login has neither `?` nor `#`"));
        }
        if let Some(first) = own[..at].iter().find(|other| other.value == path.value) {
            let say = "two paths of the login are the same";
            cx.report(Problem::error(path.place, say).and(first.place, "first here"));
        }
    }
}

/// Scheme and host, without a path.
fn origin(said: &At<String>, cx: &mut Cx) -> Option<String> {
    let parsed: Option<http::Uri> = said.parse().ok();
    let fits = parsed.as_ref().and_then(|url| {
        let scheme = url.scheme_str().filter(|scheme| ["http", "https"].contains(scheme))?;
        let authority = url.authority()?.as_str();
        (!authority.contains('@') && url.path() == "/" && url.query().is_none())
            .then(|| format!("{scheme}://{}", authority.to_ascii_lowercase()))
    });
    if fits.is_none() {
        let say = "expected scheme and host, such as `https://shop.example`";
        cx.report(Problem::error(said.place, say));
    }
    fits
}

fn domain(said: &At<String>, cx: &mut Cx) -> Option<String> {
    let name = said.trim_start_matches('.').to_ascii_lowercase();
    let plain = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if name.contains('.') && name.split('.').all(plain) {
        return Some(name);
    }
    let say = "a domain of cookies is a DNS name of two labels and more, such as `shop.example`";
    cx.report(Problem::error(said.place, say));
    None
}

fn times(login: &Login, cx: &mut Cx) {
    let least = Duration::from_secs(60);
    for span in [&login.session.idle, &login.session.max] {
        if span.value.0 < least {
            cx.report(Problem::error(span.place, "a session lasts for a minute and more"));
        }
    }
    if login.session.idle.value.0 > login.session.max.value.0 {
        let say = "a session that is not used cannot last longer than one that is";
        cx.report(Problem::error(login.session.idle.place, say));
    }
}

fn secrets(login: &Login, cx: &mut Cx) -> Vec<SessionSecret> {
    for secret in login.session_keys.iter() {
        secret.discourage(cx);
        if secret.reveal().len() < SECRET_BYTES_MIN {
            let say = format!("a secret of sessions needs {SECRET_BYTES_MIN} bytes");
            let help = "draw one by chance: `openssl rand -base64 48`";
            cx.report(Problem::error(secret.place, say).help(help));
        }
    }
    login.session_keys.iter().map(|secret| SessionSecret(secret.reveal().into())).collect()
}
