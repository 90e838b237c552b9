//! A login under way: what is remembered of it in the browser until that comes back.

use std::time::SystemTime;

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

/// The longest target that a browser is sent back to.
const BACK_BYTES_MAX: usize = 2_000;

/// A login under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pending {
    /// What the provider repeats, so that its answer is known to be to this browser's question.
    pub(super) state: String,
    /// What the ID token must hold, so that it was made for this login.
    pub(super) nonce: String,
    /// What shows the provider that the code comes from whoever has asked (RFC 7636).
    pub(super) verifier: String,
    /// Where the browser comes back to, as the provider was told.
    pub(super) redirect_uri: String,
    /// Scheme and host that the browser was at.
    pub(super) origin: String,
    /// The target that it had asked for.
    pub(super) back: String,
    /// The last second at which it may come back.
    pub(super) until: i64,
}

/// Seconds since 1970.
pub(super) fn seconds(wall: SystemTime) -> i64 {
    let since = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Text of so many bytes drawn by chance; `None` if the system gives none.
pub(super) fn drawn<const N: usize>() -> Option<String> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).ok()?;
    Some(URL_SAFE_NO_PAD.encode(bytes))
}

/// What the provider is told of a verifier (`S256`).
pub(super) fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()))
}

/// Whether a target leads to nowhere but the site that it is said on: a path, which no browser reads as the
/// name of another host.
pub fn is_local(target: &str) -> bool {
    let bytes = target.as_bytes();
    target.len() <= BACK_BYTES_MAX
        && bytes.first() == Some(&b'/')
        && !matches!(bytes.get(1), Some(b'/' | b'\\'))
        && bytes.iter().all(|byte| matches!(byte, b'!'..=b'~') && *byte != b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_the_site_are_local() {
        for good in ["/", "/a?b=//evil.example", "/a/b", "/?", "/a:b@c", "/.//x"] {
            assert!(is_local(good), "{good}");
        }
        let long = format!("/{}", "a".repeat(BACK_BYTES_MAX));
        for bad in [
            "",
            "//evil.example",
            "///evil.example",
            "/\\evil.example",
            "\\/evil.example",
            "/a\\b",
            "https://evil.example",
            "evil.example",
            "/\t/evil.example",
            "/\n//evil.example",
            "/ /evil.example",
            "/a\r\nset-cookie: a=b",
            "/\u{2028}",
            "/é",
            &long,
        ] {
            assert!(!is_local(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_challenge_is_that_of_the_standard() {
        // RFC 7636 appendix B.
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert_eq!(challenge(verifier), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
        let (one, other) = (drawn::<32>().unwrap(), drawn::<32>().unwrap());
        assert!(one != other && one.len() == 43);
    }
}
