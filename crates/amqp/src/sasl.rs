//! Who is there: the mechanisms PLAIN, AMQPLAIN and EXTERNAL.

use weft_wire::amqp::{Table, Value};

use crate::options::User;

/// What is offered; EXTERNAL only to who has shown a certificate.
pub(crate) fn mechanisms(certificate: bool) -> &'static [u8] {
    if certificate { b"PLAIN AMQPLAIN EXTERNAL" } else { b"PLAIN AMQPLAIN" }
}

/// What came of a login.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Login {
    /// Welcome, user of this index.
    User(usize),
    /// Unknown, or the wrong password.
    Refused,
    /// Known, but may only come from this machine.
    LoopbackOnly(String),
    /// No such mechanism.
    NoMechanism,
}

/// Where a client comes from, as far as logins are concerned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whence<'a> {
    /// From this machine.
    pub(crate) loopback: bool,
    /// The name in the certificate it has shown.
    pub(crate) certificate: Option<&'a str>,
}

/// Checks a client's response.
pub(crate) fn login(users: &[User], mechanism: &str, response: &[u8], whence: Whence<'_>) -> Login {
    let (name, password) = match mechanism {
        "PLAIN" => match plain(response) {
            Some((name, password)) => (name, Some(password)),
            None => return Login::Refused,
        },
        "AMQPLAIN" => match amqplain(response) {
            Some((name, password)) => (name, Some(password)),
            None => return Login::Refused,
        },
        "EXTERNAL" => match whence.certificate {
            Some(name) => (name, None),
            None => return Login::NoMechanism,
        },
        _ => return Login::NoMechanism,
    };
    let found = users.iter().position(|user| user.name == name);
    let Some(index) = found else { return Login::Refused };
    let user = &users[index];
    if password.is_some_and(|given| !user.password.is(given)) {
        return Login::Refused;
    }
    if !user.remote && !whence.loopback {
        return Login::LoopbackOnly(user.name.clone());
    }
    Login::User(index)
}

/// `authzid NUL name NUL password`; the first is ignored, as RabbitMQ does.
fn plain(response: &[u8]) -> Option<(&str, &[u8])> {
    let mut parts = response.splitn(3, |byte| *byte == 0);
    let (_, name, password) = (parts.next()?, parts.next()?, parts.next()?);
    Some((std::str::from_utf8(name).ok()?, password))
}

/// A table's inside with LOGIN and PASSWORD.
fn amqplain(response: &[u8]) -> Option<(&str, &[u8])> {
    let table = Table::parse(response).ok()?;
    let Some(Value::Long(password)) = table.get("PASSWORD") else { return None };
    Some((table.get("LOGIN")?.text()?, password))
}

#[cfg(test)]
mod tests {
    use weft_wire::amqp::TableWriter;

    use super::*;
    use crate::options::Password;

    #[test]
    fn logins() {
        let user = |name: &str, remote| User {
            name: name.into(),
            password: Password::Plain(format!("{name}-pw")),
            grants: vec![],
            remote,
        };
        let users = [user("app", true), user("local", false)];
        let far = Whence { loopback: false, certificate: None };
        let near = Whence { loopback: true, certificate: None };
        let check = |mechanism, response: &[u8], whence, expect| {
            assert_eq!(login(&users, mechanism, response, whence), expect, "{response:?}");
        };
        check("PLAIN", b"\0app\0app-pw", far, Login::User(0));
        check("PLAIN", b"other\0app\0app-pw", far, Login::User(0));
        check("PLAIN", b"\0app\0wrong", near, Login::Refused);
        check("PLAIN", b"\0nobody\0app-pw", near, Login::Refused);
        check("PLAIN", b"app-pw", near, Login::Refused);
        check("PLAIN", b"\0local\0local-pw", near, Login::User(1));
        check("PLAIN", b"\0local\0local-pw", far, Login::LoopbackOnly("local".into()));
        let mut table = Vec::new();
        TableWriter::new(&mut table).text("LOGIN", "app").text("PASSWORD", "app-pw");
        check("AMQPLAIN", &table[4..], far, Login::User(0));
        check("AMQPLAIN", &table[5..], far, Login::Refused);
        check("EXTERNAL", b"", far, Login::NoMechanism);
        let shown = Whence { loopback: false, certificate: Some("app") };
        check("EXTERNAL", b"", shown, Login::User(0));
        check("EXTERNAL", b"", Whence { certificate: Some("who"), ..shown }, Login::Refused);
        check("SCRAM", b"", near, Login::NoMechanism);
    }
}
