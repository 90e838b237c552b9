//! Sessions of browsers as credentials (OpenID Connect).

use std::sync::Arc;

use weft_kernel::{Name, Tick};
use weft_proxy::{RequestContext, ResponseContext};
use weft_wire::RequestHead;

use super::{
    Authentication, Scheme,
    bearer::{Bearer, Moment, consumer_of},
    shown::{Good, Shown},
};
use crate::{
    decision::Verified,
    login::{Handed, Login, Own, Seen, SetCookies, is_navigation},
    roster::Roster,
    signature::Message,
};

/// Logins of browsers as a method of authentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Oidc {
    /// The login.
    pub login: Name,
    /// What its ID tokens must say, and what the service is told of them.
    pub claims: Bearer,
}

/// What goes with a session.
#[derive(Default)]
pub(super) struct OfSession {
    access_token: Option<String>,
    cookies: Vec<String>,
}

impl OfSession {
    /// Its cookies alone, if there are any, for a browser whose session is not good for what it asks.
    fn renewed(self) -> Option<Self> {
        (!self.cookies.is_empty()).then_some(Self { access_token: None, ..self })
    }

    /// Leaves it for the service and the browser.
    pub(super) fn leave(self, cx: &mut RequestContext<'_>) {
        if let Some(token) = self.access_token {
            cx.leave(Handed(token));
        }
        if !self.cookies.is_empty() {
            cx.leave(SetCookies(self.cookies));
        }
    }
}

impl Oidc {
    pub(super) fn look(&self, roster: &Roster, message: &Message<'_>, at: Moment) -> Shown {
        let Some(login) = roster.logins.get(&self.login) else { return Shown::Closed };
        let (claims, access_token, cookies) =
            match login.look(message.is_secure, &message.head.fields, at) {
                Seen::Nothing => return Shown::Nothing,
                Seen::Later(asked) => return Shown::Later(asked),
                Seen::Session { claims, access_token, cookies } => (claims, access_token, cookies),
            };
        let session = OfSession { access_token, cookies };
        let consumer = match consumer_of(roster, login.issuer(), &claims) {
            Ok(consumer) => consumer,
            Err(shown) => return shown.renewing(session.renewed()),
        };
        let (issuer, claims) = (Arc::clone(login.issuer()), Arc::new(claims));
        let verified = Verified::new(issuer, claims, consumer, Tick::NEVER);
        match self.claims.permit(Arc::new(verified)) {
            Shown::By(good) => Shown::By(Good { session: Some(Box::new(session)), ..good }),
            shown => shown.renewing(session.renewed()),
        }
    }
}

impl Authentication {
    /// The logins of its methods.
    pub(super) fn logins<'a>(&'a self, roster: &'a Roster) -> impl Iterator<Item = &'a Arc<Login>> {
        self.methods.iter().filter_map(|method| match method {
            Scheme::Oidc(method) => roster.logins.get(&method.login),
            _ => None,
        })
    }

    /// The login whose own path a request asks for.
    pub(super) fn own(&self, roster: &Roster, path: &str) -> Option<(Arc<Login>, Own)> {
        self.logins(roster).find_map(|login| Some((Arc::clone(login), login.own(path)?)))
    }

    /// The login that a request begins which shows no credentials.
    pub(super) fn begins(
        &self,
        shown: &Shown,
        roster: &Roster,
        head: &RequestHead,
    ) -> Option<Arc<Login>> {
        let is_due = matches!(shown, Shown::Nothing) && self.anonymous.is_none();
        let login = self.logins(roster).next().filter(|_| is_due && is_navigation(head))?;
        Some(Arc::clone(login))
    }
}

/// Sets the cookies of a session that has changed. A response that sets them is nobody else's, whatever the service
/// says of caches.
pub(super) fn set_cookies(cx: &mut ResponseContext<'_>) {
    let Some(SetCookies(lines)) = cx.fact::<SetCookies>() else { return };
    let lines = lines.clone();
    let fields = &mut cx.head_mut().fields;
    for line in &lines {
        fields.append("set-cookie", line.as_bytes());
    }
    let is_private = |value: &[u8]| {
        let value = String::from_utf8_lossy(value).to_ascii_lowercase();
        value.contains("no-store") || value.contains("private")
    };
    if !fields.all_named("cache-control").any(is_private) {
        fields.set_named("cache-control", b"private, no-cache");
    }
}
