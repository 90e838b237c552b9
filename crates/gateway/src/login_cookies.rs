//! The policy that keeps the cookies of logins between browsers and the node, on every route.
//!
//! A browser shows its session wherever it asks, also where a route does not ask for it; whoever is sent it could use
//! it, and whoever could set it could have a browser use the session of another. So no service and no local handler is
//! sent cookies of a login, and none of them sets one: what a response sets under such a name is taken off, unless the
//! login has answered itself. Routes have it only where logins are declared.

use std::{fmt, sync::Arc};

use weft_proxy::{
    Fact, Flow, OutgoingContext, Policy, PolicyMaker, RequestContext, ResponseContext, Sides,
    Stage, cookie, plan::Binding,
};
use weft_wire::{Fields, Known};

use crate::login::{Answered, Cookie};

/// The name under which the policy is made.
pub const LOGIN_COOKIES: &str = "login_cookies";

/// Settings of the policy: the cookies of all logins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginCookies(pub Vec<Cookie>);

impl fmt::Display for LoginCookies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("kept:")?;
        self.0.iter().try_for_each(|cookie| write!(f, " {}", cookie.name))
    }
}

/// Makes policies of settings.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoginCookiesMaker;

impl PolicyMaker for LoginCookiesMaker {
    fn make(&self, binding: &Binding) -> Result<Arc<dyn Policy>, String> {
        Ok(Arc::new(Keeper(Arc::new(binding.settings()?))))
    }
}

/// The policy of a route.
struct Keeper(Arc<LoginCookies>);

/// What is kept of a request, for who asks others about it.
pub(crate) struct Kept(Arc<LoginCookies>);

impl Fact for Kept {}

impl Kept {
    /// Takes the cookies of logins off.
    pub(crate) fn hide(&self, fields: &mut Fields) {
        self.0.hide(fields);
    }
}

impl LoginCookies {
    fn is_own(&self, name: &[u8]) -> bool {
        self.0.iter().any(|cookie| cookie.is_own(name))
    }

    /// Takes them off a request.
    fn hide(&self, fields: &mut Fields) {
        if fields.has(Known::Cookie) {
            cookie::retain(fields, |name| !self.is_own(name));
        }
    }

    /// Takes off a response what would set one.
    fn refuse(&self, fields: &mut Fields) {
        if fields.named("set-cookie").is_some() {
            fields.retain(|name, value| name != "set-cookie" || !self.is_own(set_name(value)));
        }
    }
}

/// The name under which a browser shows what a line sets. One without a name is shown as its value alone, which then
/// reads as a cookie of another name.
fn set_name(line: &[u8]) -> &[u8] {
    let pair = line.split(|byte| *byte == b';').next().unwrap_or_default();
    let begin = pair.iter().position(|byte| !byte.is_ascii_whitespace() && *byte != b'=');
    let pair = &pair[begin.unwrap_or(pair.len())..];
    let end = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
    pair[..end].trim_ascii()
}

impl Policy for Keeper {
    fn stage(&self) -> Stage {
        Stage::Authentication
    }

    fn sides(&self) -> Sides {
        Sides { request: true, outgoing: true, response: true, ..Sides::default() }
    }

    fn request<'a>(&'a self, cx: &'a mut RequestContext<'_>) -> Flow<'a> {
        if cx.head().fields.has(Known::Cookie) {
            cx.leave(Kept(Arc::clone(&self.0)));
        }
        Flow::Next
    }

    fn outgoing(&self, cx: &mut OutgoingContext<'_>) {
        self.0.hide(&mut cx.head_mut().fields);
    }

    fn keep(&self, cx: &mut OutgoingContext<'_>) {
        self.outgoing(cx);
    }

    fn response<'a>(&'a self, cx: &'a mut ResponseContext<'_>) -> Flow<'a> {
        // It stands behind the authentication of its route, which sets cookies after this.
        if cx.fact::<Answered>().is_none() {
            self.0.refuse(&mut cx.head_mut().fields);
        }
        Flow::Next
    }

    fn name(&self) -> &'static str {
        LOGIN_COOKIES
    }
}

#[cfg(test)]
mod tests {
    use weft_wire::Method;

    use super::*;
    use crate::{fixture::head, login::SameSite};

    fn kept() -> LoginCookies {
        let of =
            |name: &str| Cookie { name: name.to_owned(), domain: None, same_site: SameSite::Lax };
        LoginCookies(vec![of("shop"), of("admin")])
    }

    #[test]
    fn whoever_is_asked_is_shown_no_cookie_of_any_login() {
        let cookies = "a=1; shop=1.x; __Host-shop-1=y; shop.login-abc=z; admin=1.q; shopping=2";
        let mut fields = head(Method::Get, "/", &[("cookie", cookies)]).fields;
        kept().hide(&mut fields);
        assert_eq!(fields.get(Known::Cookie), Some(&b"a=1; shopping=2"[..]));
    }

    #[test]
    fn whoever_answers_sets_no_cookie_of_any_login() {
        for (line, stays) in [
            ("shop=1.x; Path=/", false),
            ("__Host-shop=1.x; Path=/; Secure", false),
            ("__Secure-admin-1=1.x", false),
            (" shop = 1.x", false),
            ("shop.login-abc=x", false),
            ("shop", false),
            // A browser shows these as `shop=1.x`.
            ("=shop=1.x", false),
            (" = shop=1.x; Path=/", false),
            ("shopping=1; Path=/shop", true),
            ("a=shop=1", true),
            ("Shop=1", true),
            ("", true),
        ] {
            let mut fields = head(Method::Get, "/", &[("set-cookie", line), ("x-a", "b")]).fields;
            kept().refuse(&mut fields);
            assert_eq!(fields.named("set-cookie").is_some(), stays, "{line}");
            assert!(fields.named("x-a").is_some());
        }
    }
}
