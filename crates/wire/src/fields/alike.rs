//! Names that differ here and are one name to services behind CGI, and to what is built like it.
//!
//! CGI hands a service `X-Claim` as `HTTP_X_CLAIM` (RFC 3875 section 4.1.18), and so do WSGI, Rack, PHP and others.
//! `x_claim` becomes the same variable everywhere, and `x.claim` in those that turn whatever is no letter and no digit
//! into an underscore. Who takes a field off, so that nobody but Weft says it, takes off all that read like it.

use super::Fields;

/// Whether two names are one to a service that is told them as CGI does.
pub fn is_alike(one: &str, other: &str) -> bool {
    // Most often it is the very same, or of another length.
    one == other || (one.len() == other.len() && begins_alike(one, other))
}

/// Whether a name begins with this one to a service that is told it as CGI does.
pub fn begins_alike(name: &str, beginning: &str) -> bool {
    name.len() >= beginning.len()
        && name.bytes().zip(beginning.bytes()).all(|(one, other)| plain(one) == plain(other))
}

/// Whether a name has more than letters, digits and hyphens, and so may read like another that has not.
pub fn is_odd(name: &[u8]) -> bool {
    !name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
}

/// The one byte for all that are one to such a service.
pub(super) const fn plain(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' }
}

impl Fields {
    /// Removes all fields whose names read like this one.
    pub fn remove_alike(&mut self, name: &str) {
        self.retain(|other, _| !is_alike(other, name));
    }

    /// Puts one field in the place of all whose names read like its own.
    pub fn set_alone(&mut self, name: &str, value: &[u8]) -> bool {
        self.remove_alike(name);
        self.append(name, value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Known;

    #[test]
    fn what_is_one_name_to_cgi() {
        for alike in ["x-claim", "X-Claim", "x_claim", "x.claim", "x~claim", "x!claim"] {
            assert!(is_alike(alike, "x-claim"), "{alike}");
            assert!(begins_alike(&format!("{alike}_more"), "x-claim-"), "{alike}");
        }
        for other in ["xclaim", "x-claims", "x-clai", "y-claim", "x--claim", ""] {
            assert!(!is_alike(other, "x-claim"), "{other}");
        }
        for (name, expected) in [("x-claim-2", false), ("x_claim", true), ("x.claim", true)] {
            assert_eq!(is_odd(name.as_bytes()), expected, "{name}");
        }
    }

    #[test]
    fn one_goes_with_all_that_read_like_it() {
        let mut fields = Fields::new();
        for name in ["x-claim", "x_claim", "x.claim", "x-other", "user-agent", "user_agent"] {
            assert!(fields.append(name, b"forged"));
        }
        assert!(fields.set_alone("x-claim", b"told"));
        fields.remove_alike("user-agent");
        let left: Vec<_> = fields.iter().collect();
        assert_eq!(left, [("x-other", &b"forged"[..]), ("x-claim", b"told")]);
        assert!(!fields.has(Known::UserAgent));
    }
}
