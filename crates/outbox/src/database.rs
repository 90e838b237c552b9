//! Where a database is and who connects to it, as a URL says it.
//!
//! `postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=…`, with parts escaped as in any URL. TLS with a certificate
//! that is checked is what is spoken unless the host is this machine or `sslmode=disable` stands there: a mode that
//! encrypts for whoever answers would look safe and be not.

use std::{fmt, net::IpAddr};

use percent_encoding::percent_decode_str;

/// The port of PostgreSQL.
const PORT: u16 = 5432;

/// A database, and who connects to it.
#[derive(Clone, PartialEq, Eq)]
pub struct Database {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Name of the database.
    pub name: String,
    /// Role that connects.
    pub user: String,
    /// Its password, if the server asks for one.
    pub password: Option<String>,
    /// Whether TLS is spoken, with a certificate of the host's name.
    pub tls: bool,
}

impl fmt::Debug for Database {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Database({self}, tls: {})", self.tls)
    }
}

impl fmt::Display for Database {
    /// Without user and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, name, .. } = self;
        match host.contains(':') {
            true => write!(f, "[{host}]:{port}/{name}"),
            false => write!(f, "{host}:{port}/{name}"),
        }
    }
}

impl Database {
    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong with it, without any part of it that may be secret.
    pub fn parse(url: &str) -> Result<Self, String> {
        let rest = ["postgres://", "postgresql://"].iter().find_map(|it| url.strip_prefix(it));
        let rest = rest.ok_or("it begins with `postgres://`")?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, name) = rest.split_once('/').unwrap_or((rest, ""));
        // A password may hold an `@` that nobody has escaped; a host never does.
        let (login, place) = authority.rsplit_once('@').ok_or("it has no user")?;
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (login, None),
        };
        let (host, port) = place_of(place)?;
        let user = unescaped(user)?;
        let name = if name.is_empty() { user.clone() } else { unescaped(name)? };
        if host.is_empty() || user.is_empty() {
            return Err("it has no host or no user".into());
        }
        if name.contains('/') {
            return Err("it has more than one `/` behind its host".into());
        }
        let tls = match tls_of(query)? {
            Some(tls) => tls,
            None => !is_here(&host),
        };
        Ok(Self { host, port, name, user, password: password.map(unescaped).transpose()?, tls })
    }
}

/// Whether a host is this machine.
fn is_here(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn place_of(place: &str) -> Result<(String, u16), String> {
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or("its `[` is not closed")?;
            (host, port.strip_prefix(':'))
        }
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    if host.contains(',') {
        return Err("it has several hosts; name the one that takes writes, or a proxy".into());
    }
    let port = port.map(|port| port.parse().ok().filter(|port| *port > 0));
    let port = port.unwrap_or(Some(PORT)).ok_or("its port is no number from 1 to 65535")?;
    Ok((host.to_ascii_lowercase(), port))
}

fn tls_of(query: &str) -> Result<Option<bool>, String> {
    let mut tls = None;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("sslmode", "disable")) => tls = Some(false),
            Some(("sslmode", "require" | "verify-ca" | "verify-full")) => tls = Some(true),
            Some(("sslmode", _)) => {
                return Err(
                    "`sslmode` is `disable`, or `verify-full` for a certificate that is checked"
                        .into(),
                );
            }
            _ => return Err("behind its `?` nothing but `sslmode` is known".into()),
        }
    }
    Ok(tls)
}

fn unescaped(text: &str) -> Result<String, String> {
    let text = percent_decode_str(text).decode_utf8();
    let text = text.map_err(|_not_text| "an escape in it is no UTF-8".to_owned())?;
    if text.contains('\0') {
        return Err("it holds a zero byte".into());
    }
    Ok(text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(host: &str, port: u16, name: &str, login: (&str, Option<&str>)) -> Database {
        let (user, password) = (login.0.to_owned(), login.1.map(str::to_owned));
        Database { host: host.into(), port, name: name.into(), user, password, tls: true }
    }

    #[test]
    fn urls_are_read() {
        let local = |database: Database| Database { tls: false, ..database };
        for (url, expect) in [
            ("postgres://weft@db.internal", database("db.internal", 5432, "weft", ("weft", None))),
            (
                "postgresql://weft:p%40ss@DB:6000/shop?sslmode=require",
                database("db", 6000, "shop", ("weft", Some("p@ss"))),
            ),
            (
                "postgres://a:b:c@d@127.0.0.1:1/x",
                local(database("127.0.0.1", 1, "x", ("a", Some("b:c@d")))),
            ),
            ("postgres://a@[::1]:7/x%20y", local(database("::1", 7, "x y", ("a", None)))),
            ("postgres://a@h/x?sslmode=disable", local(database("h", 5432, "x", ("a", None)))),
            (
                "postgres://a@localhost/x?sslmode=verify-full",
                database("localhost", 5432, "x", ("a", None)),
            ),
        ] {
            assert_eq!(Database::parse(url), Ok(expect), "{url}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_without_the_password() {
        for url in [
            "",
            "mysql://weft:secret@h/x",
            "postgres://h/x",
            "postgres://weft:secret@/x",
            "postgres://weft:secret@h:0/x",
            "postgres://weft:secret@h:x/x",
            "postgres://weft:secret@a,b/x",
            "postgres://weft:secret@h/x/y",
            "postgres://weft:secret@h/x?sslmode=prefer",
            "postgres://weft:secret@h/x?password=secret",
            "postgres://weft:secret%ff@h/x",
            "postgres://weft:secret@[::1/x",
        ] {
            let wrong = Database::parse(url).unwrap_err();
            assert!(!wrong.contains("secret"), "{url}: {wrong}");
        }
        let shown = format!("{:?}", Database::parse("postgres://weft:secret@h/x"));
        assert!(!shown.contains("secret"), "{shown}");
    }
}
