//! Who may do what: permissions, and the tokens that carry them.
//!
//! A token is kept as its SHA-256 digest. What a caller shows is digested and compared with all of them,
//! so that the time it takes tells nothing of a token, not even whether one is near.

use std::fmt;

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest};
use weft_kernel::{Error, Reason, Result};

/// What an operation needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Looking at configuration, state and metrics; not at what messages hold.
    Read,
    /// Publishing messages.
    Publish,
    /// Taking, settling and reading messages.
    Consume,
    /// Declaring, changing, steering and deleting.
    Manage,
}

impl Permission {
    /// Every permission.
    pub const ALL: [Self; 4] = [Self::Read, Self::Publish, Self::Consume, Self::Manage];

    /// The word for configuration, API and pages.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Publish => "publish",
            Self::Consume => "consume",
            Self::Manage => "manage",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of permissions.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Permissions(u8);

impl Permissions {
    /// All of them.
    pub const ALL: Self = Self(0b1111);

    /// Those of a list.
    pub fn of(list: &[Permission]) -> Self {
        Self(list.iter().fold(0, |bits, permission| bits | permission.bit()))
    }

    /// Whether one is among them.
    pub const fn has(self, permission: Permission) -> bool {
        self.0 & permission.bit() != 0
    }

    /// Refuses what needs a permission that is not among them.
    ///
    /// # Errors
    /// [`Reason::PermissionDenied`], which names it.
    pub fn check(self, needed: Option<Permission>) -> Result<()> {
        match needed {
            Some(needed) if !self.has(needed) => Err(Error::new(
                Reason::PermissionDenied,
                format!("the token does not have the permission `{}`", needed.word()),
            )),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(Permission::ALL.iter().filter(|one| self.has(**one))).finish()
    }
}

/// The tokens of an API; without any, it asks for none.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tokens(Vec<Token>);

#[derive(Clone, PartialEq, Eq)]
struct Token {
    digest: [u8; 32],
    permissions: Permissions,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|token| token.permissions)).finish()
    }
}

impl Tokens {
    /// Adds a token; `false` if the same one is there already.
    pub fn add(&mut self, secret: &[u8], permissions: Permissions) -> bool {
        let digest = digest_of(secret);
        let is_new = self.0.iter().all(|token| token.digest != digest);
        if is_new {
            self.0.push(Token { digest, permissions });
        }
        is_new
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the token may do that a caller shows; `None` if it is none of these.
    pub fn permissions(&self, shown: &[u8]) -> Option<Permissions> {
        let shown = digest_of(shown);
        let mut found = None;
        for token in &self.0 {
            if verify_slices_are_equal(&token.digest, &shown).is_ok() {
                found = Some(token.permissions);
            }
        }
        found
    }
}

fn digest_of(secret: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, secret).as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_its_own_permissions_and_no_other() {
        let mut tokens = Tokens::default();
        assert!(tokens.is_empty() && tokens.permissions(b"").is_none());
        assert!(tokens.add(b"one", Permissions::of(&[Permission::Read, Permission::Consume])));
        assert!(tokens.add(b"all", Permissions::ALL));
        assert!(!tokens.add(b"one", Permissions::ALL));
        for shown in [&b""[..], b"on", b"one ", b"One", b"ones"] {
            assert_eq!(tokens.permissions(shown), None);
        }
        let one = tokens.permissions(b"one").unwrap();
        let all = tokens.permissions(b"all").unwrap();
        for permission in Permission::ALL {
            let has = matches!(permission, Permission::Read | Permission::Consume);
            assert_eq!(one.has(permission), has);
            assert!(all.has(permission));
            assert_eq!(one.check(Some(permission)).is_ok(), has);
        }
        assert!(Permissions::of(&[]).check(None).is_ok());
        let refused = one.check(Some(Permission::Publish)).unwrap_err();
        assert_eq!(refused.reason(), Reason::PermissionDenied);
        assert!(refused.said().contains("`publish`"), "{refused}");
    }

    #[test]
    fn no_token_is_shown() {
        let mut tokens = Tokens::default();
        tokens.add(b"secret", Permissions::of(&[Permission::Read]));
        assert_eq!(format!("{tokens:?}"), "[{Read}]");
    }
}
