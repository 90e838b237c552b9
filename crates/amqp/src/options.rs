//! What the front-end can be told, with the defaults that RabbitMQ has.

use std::fmt;

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest};
use base64::{Engine, engine::general_purpose::STANDARD};
use regex::Regex;
use weft_kernel::{Error, Reason, Result};

/// What the front-end can be told.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who may log in. Empty: `guest` with the password `guest`, from this machine alone.
    pub users: Vec<User>,
    /// The virtual hosts beside `/`, which is always there and is the broker's default space.
    pub vhosts: Vec<String>,
    /// The most channels of a connection (2,047).
    pub channels_max: u16,
    /// The largest frame in bytes (131,072).
    pub frame_bytes_max: u32,
    /// The heartbeat that is proposed, in seconds (60); 0 for none.
    pub heartbeat_seconds: u16,
    /// The largest body of a message in bytes (16 MiB, as RabbitMQ since 4.0). The ledger has to take
    /// records of that size and a little more.
    pub message_bytes_max: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            users: Vec::new(),
            vhosts: Vec::new(),
            channels_max: 2047,
            frame_bytes_max: 131_072,
            heartbeat_seconds: 60,
            message_bytes_max: 16 << 20,
        }
    }
}

/// Somebody who may log in.
#[derive(Clone, Debug)]
pub struct User {
    /// The name.
    pub name: String,
    /// What proves it.
    pub password: Password,
    /// What may be done where; empty for everything everywhere.
    pub grants: Vec<Grant>,
    /// Whether the user may come from other machines.
    pub remote: bool,
}

/// A password, or what is left of it.
#[derive(Clone)]
pub enum Password {
    /// As it is.
    Plain(String),
    /// RabbitMQ's `password_hash`: base64 of four bytes of salt and SHA-256 of salt and password.
    Sha256(String),
    /// None: the user logs in by certificate alone.
    None,
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

impl Password {
    /// Whether `given` is the password; takes the same time wherever it differs.
    pub(crate) fn is(&self, given: &[u8]) -> bool {
        match self {
            Self::Plain(text) => {
                // Hashes are of one length, so that the length of the password does not show either.
                let (one, other) = (sha256(&[text.as_bytes()]), sha256(&[given]));
                verify_slices_are_equal(one.as_ref(), other.as_ref()).is_ok()
            }
            Self::Sha256(text) => {
                let Ok(stored) = STANDARD.decode(text) else { return false };
                let Some((salt, hash)) = stored.split_at_checked(4) else { return false };
                verify_slices_are_equal(hash, sha256(&[salt, given]).as_ref()).is_ok()
            }
            Self::None => false,
        }
    }
}

fn sha256(parts: &[&[u8]]) -> digest::Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    context.finish()
}

/// What a user may do in one virtual host: three patterns that names have to match.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The virtual host.
    pub vhost: String,
    /// What may be declared and deleted.
    pub configure: PermissionPattern,
    /// What may be published to, bound to something, and named as the exchange for dead letters or for
    /// what finds no way.
    pub write: PermissionPattern,
    /// What may be consumed and purged, bound from, and given an exchange for dead letters or for what
    /// finds no way.
    pub read: PermissionPattern,
}

/// What a permission is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource<'a> {
    /// A queue.
    Queue(&'a str),
    /// An exchange; the one without a name is `amq.default` to permissions.
    Exchange(&'a str),
}

impl<'a> Resource<'a> {
    /// The name that patterns are held against.
    pub(crate) fn name(self) -> &'a str {
        match self {
            Self::Exchange("") => "amq.default",
            Self::Queue(name) | Self::Exchange(name) => name,
        }
    }

    /// What it is.
    pub(crate) const fn kind(self) -> &'static str {
        match self {
            Self::Queue(_) => "queue",
            Self::Exchange(_) => "exchange",
        }
    }
}

impl Grant {
    /// Everything in one virtual host.
    pub fn all(vhost: &str) -> Self {
        Self {
            vhost: vhost.to_owned(),
            configure: PermissionPattern(None),
            write: PermissionPattern(None),
            read: PermissionPattern(None),
        }
    }
}

/// A pattern over names of queues and exchanges.
#[derive(Clone, Debug, Default)]
pub struct PermissionPattern(Option<Regex>);

impl PermissionPattern {
    /// A regular expression that a name must match somewhere; the empty one matches nothing but the
    /// empty name, as in RabbitMQ.
    ///
    /// # Errors
    /// [`Reason::Misconfigured`] when it is no regular expression.
    pub fn new(text: &str) -> Result<Self> {
        let text = if text.is_empty() { "^$" } else { text };
        let regex = Regex::new(text).map_err(|error| {
            Error::new(Reason::Misconfigured, "a permission is no regular expression")
                .because(error)
        })?;
        Ok(Self(Some(regex)))
    }

    pub(crate) fn allows(&self, of: Resource<'_>) -> bool {
        self.0.as_ref().is_none_or(|regex| regex.is_match(of.name()))
    }
}

impl Options {
    /// The users, with RabbitMQ's guest where none are named.
    pub(crate) fn users(&self) -> Vec<User> {
        if !self.users.is_empty() {
            return self.users.clone();
        }
        vec![User {
            name: "guest".into(),
            password: Password::Plain("guest".into()),
            grants: Vec::new(),
            remote: false,
        }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_known_plain_and_hashed() {
        assert!(Password::Plain("secret".into()).is(b"secret"));
        assert!(!Password::Plain("secret".into()).is(b"secret2"));
        assert!(!Password::Plain("secret".into()).is(b""));
        // The example of RabbitMQ's documentation on credentials: salt 908D C60A, password test12.
        let hashed = Password::Sha256("kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR".into());
        assert!(hashed.is(b"test12"));
        assert!(!hashed.is(b"test13"));
        assert!(!Password::Sha256("%".into()).is(b""));
        assert!(!Password::None.is(b""));
        assert_eq!(format!("{hashed:?}"), "Password(..)");
    }

    #[test]
    fn patterns_are_those_of_permissions() {
        let queue = Resource::Queue;
        assert!(PermissionPattern::default().allows(queue("anything")));
        let own = PermissionPattern::new("^app\\.").unwrap();
        assert!(own.allows(queue("app.q")) && !own.allows(queue("other.app.q")));
        let none = PermissionPattern::new("").unwrap();
        assert!(none.allows(queue("")) && !none.allows(queue("x")));
        assert!(PermissionPattern::new("(").is_err());
        // The exchange without a name has one here.
        assert!(!none.allows(Resource::Exchange("")));
        assert!(PermissionPattern::new("^amq\\.default$").unwrap().allows(Resource::Exchange("")));
    }
}
