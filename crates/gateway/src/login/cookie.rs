//! Cookies of a login (RFC 6265bis): the session, over several of them if it is large, and one for each login under
//! way.
//!
//! By TLS they are `Secure` and their names begin with `__Host-`, or `__Secure-` where they have a domain, so that no
//! neighbouring host can plant one. Scripts cannot read them. A session over several cookies says in the first how many there are; what does
//! not fit together does not open.

use std::time::Duration;

use weft_proxy::cookie;
use weft_wire::{Fields, Known};

/// The most bytes of the value of one cookie; browsers take 4,096 with name and attributes.
const VALUE_BYTES_MAX: usize = 3_500;
/// The most cookies of one session.
pub(super) const COOKIES_MAX: usize = 6;
/// What stands between the name and the state of a login under way.
const PENDING: &str = ".login-";
/// The most cookies of one name that are looked at.
const SAME_MAX: usize = 4;
/// The most logins that are under way in one browser.
const PENDING_MAX: usize = 8;

/// What other sites' requests show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// Links to pages show the cookies, and nothing else does.
    Lax,
    /// All show them, so that a page can stand in a frame of another site.
    None,
}

/// How cookies are named, and where they are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cookie {
    /// The name, without prefix.
    pub name: String,
    /// The domain below which they are shown; the host alone without one.
    pub domain: Option<String>,
    /// What other sites' requests show.
    pub same_site: SameSite,
}

impl Cookie {
    /// Whether a cookie is one of these, with whatever prefix.
    pub(crate) fn is_own(&self, name: &[u8]) -> bool {
        let bare = ["__Host-", "__Secure-"].iter().find_map(|it| name.strip_prefix(it.as_bytes()));
        let Some(rest) = bare.unwrap_or(name).strip_prefix(self.name.as_bytes()) else {
            return false;
        };
        let is_part = |digit: &[u8]| digit.len() == 1 && digit[0].is_ascii_digit();
        rest.is_empty()
            || rest.strip_prefix(b"-").is_some_and(is_part)
            || rest.starts_with(PENDING.as_bytes())
    }

    fn full_name(&self, secure: bool) -> String {
        let prefix = match (secure, &self.domain) {
            (false, _) => "",
            (true, None) => "__Host-",
            (true, Some(_)) => "__Secure-",
        };
        format!("{prefix}{}", self.name)
    }

    fn part_name(&self, secure: bool, part: usize) -> String {
        match part {
            0 => self.full_name(secure),
            part => format!("{}-{part}", self.full_name(secure)),
        }
    }

    /// The name of the cookie of a login under way.
    pub(super) fn pending_name(&self, secure: bool, state: &str) -> String {
        let begin = state.get(..12).unwrap_or(state);
        format!("{}{PENDING}{begin}", self.full_name(secure))
    }

    /// What may be the sealed session of a request, each with over how many cookies it is. A browser that shows several
    /// cookies of a name shows some that were left over, or planted; which is good is known once it is opened.
    pub(super) fn sessions(&self, secure: bool, fields: &Fields) -> Vec<(Vec<u8>, usize)> {
        if !fields.has(Known::Cookie) {
            return Vec::new();
        }
        let of = |part: usize| {
            let name = self.part_name(secure, part);
            cookie::values(fields, &name).take(SAME_MAX).map(<[u8]>::to_vec).collect::<Vec<_>>()
        };
        let first = of(0);
        let mut parts: Vec<Vec<Vec<u8>>> = Vec::new();
        let mut found = Vec::with_capacity(first.len());
        for (at, sealed) in first.iter().enumerate() {
            let Some((count, data)) = counted(sealed) else { continue };
            while parts.len() + 1 < count {
                parts.push(of(parts.len() + 1));
            }
            let parts = &parts[..count - 1];
            for is_from_last in [false, true] {
                // Those of one session stand at the same place, seen from the first or from the last of their names.
                let place = |of: &[Vec<u8>]| match is_from_last {
                    false => at.min(of.len().saturating_sub(1)),
                    true => of.len().saturating_sub(first.len() - at),
                };
                let mut all = data.to_vec();
                let whole = parts.iter().all(|of| {
                    let part = of.get(place(of));
                    part.inspect(|part| all.extend_from_slice(part)).is_some()
                });
                if whole && found.last().is_none_or(|(last, _)| *last != all) {
                    found.push((all, count));
                }
            }
        }
        found
    }

    /// Over how many cookies the session of a request is, at most.
    pub(super) fn parts(&self, secure: bool, fields: &Fields) -> usize {
        self.sessions(secure, fields).iter().map(|(_, count)| *count).max().unwrap_or_default()
    }

    /// The lines that set a sealed session in the place of one over so many cookies; `None` if it is too large.
    pub(super) fn set_session(
        &self,
        secure: bool,
        sealed: &str,
        before: usize,
        age: Duration,
    ) -> Option<Vec<String>> {
        let parts: Vec<&[u8]> = sealed.as_bytes().chunks(VALUE_BYTES_MAX).collect();
        if parts.len() > COOKIES_MAX {
            return None;
        }
        let mut lines = Vec::with_capacity(parts.len());
        for (at, part) in parts.iter().enumerate() {
            let mark = if at == 0 { format!("{}.", parts.len()) } else { String::new() };
            let value = format!("{mark}{}", std::str::from_utf8(part).ok()?);
            lines.push(self.set(secure, &self.part_name(secure, at), &value, age));
        }
        lines.extend(
            (parts.len()..before).map(|at| self.unset(secure, &self.part_name(secure, at))),
        );
        Some(lines)
    }

    /// The lines that take the session off.
    pub(super) fn unset_session(&self, secure: bool, fields: &Fields) -> Vec<String> {
        (0..COOKIES_MAX)
            .map(|at| self.part_name(secure, at))
            .filter(|name| cookie::value(fields, name).is_some())
            .map(|name| self.unset(secure, &name))
            .collect()
    }

    /// The lines that set the cookie of a login under way; if there are too many of them, the others go.
    pub(super) fn set_pending(
        &self,
        secure: bool,
        state: &str,
        sealed: &str,
        age: Duration,
        fields: &Fields,
    ) -> Vec<String> {
        let prefix = format!("{}{PENDING}", self.full_name(secure));
        let mut lines = Vec::new();
        let there: Vec<String> = cookie::names(fields)
            .filter_map(|name| std::str::from_utf8(name).ok())
            .filter(|name| name.starts_with(&prefix))
            .map(str::to_owned)
            .collect();
        if there.len() >= PENDING_MAX {
            lines.extend(there.iter().map(|name| self.unset(secure, name)));
        }
        lines.push(self.set(secure, &self.pending_name(secure, state), sealed, age));
        lines
    }

    /// The sealed cookie of a login under way.
    pub(super) fn pending(&self, secure: bool, state: &str, fields: &Fields) -> Option<Vec<u8>> {
        only(fields, &self.pending_name(secure, state))
    }

    /// The line that takes the cookie of a login off.
    pub(super) fn unset_pending(&self, secure: bool, state: &str) -> String {
        self.unset(secure, &self.pending_name(secure, state))
    }

    fn set(&self, secure: bool, name: &str, value: &str, age: Duration) -> String {
        let domain = self.domain.as_ref().map(|of| format!("; Domain={of}")).unwrap_or_default();
        let (secure, site) = match (secure, self.same_site) {
            (true, SameSite::None) => ("; Secure", "None"),
            (true, SameSite::Lax) => ("; Secure", "Lax"),
            // Browsers take `None` with `Secure` alone.
            (false, _) => ("", "Lax"),
        };
        let age = age.as_secs();
        format!("{name}={value}; Path=/{domain}; Max-Age={age}; HttpOnly; SameSite={site}{secure}")
    }

    fn unset(&self, secure: bool, name: &str) -> String {
        self.set(secure, name, "", Duration::ZERO)
    }
}

/// How many cookies a session is over, and its part in the first.
fn counted(first: &[u8]) -> Option<(usize, &[u8])> {
    let (count, data) = first.split_at_checked(2)?;
    let number = usize::from(count[0].wrapping_sub(b'0'));
    (count[1] == b'.' && (1..=COOKIES_MAX).contains(&number)).then_some((number, data))
}

/// The value of the only cookie of a name: of two, one was planted, and nobody can tell which.
fn only(fields: &Fields, name: &str) -> Option<Vec<u8>> {
    let mut values = cookie::values(fields, name);
    let value = values.next()?;
    values.next().is_none().then(|| value.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cookie(domain: Option<&str>) -> Cookie {
        let domain = domain.map(str::to_owned);
        Cookie { name: "weft-shop".to_owned(), domain, same_site: SameSite::Lax }
    }

    /// What a browser sends of what it was told.
    fn sent(lines: &[String]) -> Fields {
        let mut fields = Fields::new();
        let pairs = lines.iter().filter_map(|line| line.split(';').next());
        let pairs: Vec<_> = pairs.filter(|pair| !pair.ends_with('=')).collect();
        assert!(fields.append("cookie", pairs.join("; ").as_bytes()));
        fields
    }

    #[test]
    fn a_session_comes_back_over_as_many_cookies_as_it_needs() {
        let day = Duration::from_secs(86_400);
        let cookie = cookie(None);
        for (length, count) in [(1, 1), (VALUE_BYTES_MAX, 1), (VALUE_BYTES_MAX + 1, 2), (20_000, 6)]
        {
            let sealed = "s".repeat(length);
            let lines = cookie.set_session(true, &sealed, 4, day).unwrap();
            assert_eq!(lines.len(), count.max(4));
            assert!(lines.iter().all(|line| line.len() < 4_000));
            let set = "; Path=/; Max-Age=86400; HttpOnly; SameSite=Lax; Secure";
            assert!(
                lines[0].starts_with(&format!("__Host-weft-shop={count}.s"))
                    && lines[0].ends_with(set)
            );
            let fields = sent(&lines);
            assert_eq!(cookie.sessions(true, &fields), [(sealed.into_bytes(), count)]);
            assert_eq!(cookie.sessions(false, &fields), []);
            assert_eq!(cookie.unset_session(true, &fields).len(), count);
        }
        assert_eq!(cookie.set_session(true, &"s".repeat(21_001), 0, day), None);
        for bad in [
            "weft-shop=",
            "weft-shop=1",
            "weft-shop=0.a",
            "weft-shop=7.a",
            "weft-shop=2.a",
            "weft-shop=x.a",
        ] {
            let pairs: Vec<String> = bad.split("; ").map(str::to_owned).collect();
            assert_eq!(cookie.sessions(false, &sent(&pairs)), [], "{bad}");
        }
        let many = vec!["weft-shop=1.a".to_owned(); 1_000];
        assert!(cookie.sessions(false, &sent(&many)).len() <= SAME_MAX * 2);
    }

    #[test]
    fn names_and_attributes_fit_the_way_that_a_browser_came() {
        let hour = Duration::from_secs(3600);
        for (domain, secure, expected) in [
            (None, false, "weft-shop=1.s; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax"),
            (
                Some("shop.example"),
                true,
                "__Secure-weft-shop=1.s; Path=/; Domain=shop.example; Max-Age=3600; HttpOnly; SameSite=Lax; Secure",
            ),
        ] {
            let lines = cookie(domain).set_session(secure, "s", 0, hour).unwrap();
            assert_eq!(lines, [expected]);
        }
        let cookie = cookie(None);
        for own in ["weft-shop", "__Host-weft-shop", "__Secure-weft-shop-1", "weft-shop.login-abc"]
        {
            assert!(cookie.is_own(own.as_bytes()), "{own}");
        }
        for other in ["weft-shopping", "weft-shop-a", "weft-shop-10", "weft", "x-weft-shop", ""] {
            assert!(!cookie.is_own(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn logins_under_way_are_bounded_in_a_browser() {
        let (cookie, age) = (cookie(None), Duration::from_secs(600));
        let mut lines: Vec<String> = Vec::new();
        for number in 0..PENDING_MAX {
            let state = format!("{number:012}rest");
            let set = cookie.set_pending(true, &state, "s", age, &sent(&lines));
            assert_eq!(set.len(), 1);
            lines.extend(set);
        }
        let fields = sent(&lines);
        assert_eq!(cookie.pending(true, "000000000003rest", &fields).as_deref(), Some(&b"s"[..]));
        assert_eq!(cookie.pending(true, "000000000099rest", &fields), None);
        assert_eq!(cookie.set_pending(true, "state", "s", age, &fields).len(), PENDING_MAX + 1);
        assert!(cookie.unset_pending(true, "state").contains("Max-Age=0"));
    }
}
