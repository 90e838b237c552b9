//! Sealing of what is kept in cookies: AES-256-GCM with a nonce drawn by chance, under keys that are derived of
//! secrets (HKDF, RFC 5869) for one login.
//!
//! The first secret seals and all open, so that one is changed without ending sessions. What is sealed for one purpose
//! does not open for another. A secret should be changed before it has sealed some billions of cookies.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    hkdf::{HKDF_SHA256, Salt},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::SessionSecret;

/// Seals and opens.
pub(super) struct Sealer(Vec<RandomizedNonceKey>);

impl Sealer {
    /// By secrets, for a login.
    pub(super) fn new(login: &str, secrets: &[SessionSecret]) -> Self {
        let key = |secret: &SessionSecret| {
            let drawn = Salt::new(HKDF_SHA256, b"weft login").extract(secret.0.as_bytes());
            let mut bytes = [0; 32];
            drawn.expand(&[login.as_bytes()], HKDF_SHA256).ok()?.fill(&mut bytes).ok()?;
            RandomizedNonceKey::new(&AES_256_GCM, &bytes).ok()
        };
        Self(secrets.iter().filter_map(key).collect())
    }

    /// Seals for a purpose, as text that can stand in a cookie; `None` if there is no chance or key.
    pub(super) fn seal(&self, purpose: &str, plain: Vec<u8>) -> Option<String> {
        let mut bytes = plain;
        let key = self.0.first()?;
        let nonce = key.seal_in_place_append_tag(Aad::from(purpose.as_bytes()), &mut bytes).ok()?;
        let mut all = nonce.as_ref().to_vec();
        all.append(&mut bytes);
        Some(URL_SAFE_NO_PAD.encode(all))
    }

    /// Opens what was sealed for a purpose.
    pub(super) fn open(&self, purpose: &str, text: &[u8]) -> Option<Vec<u8>> {
        let all = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (nonce, sealed) = all.split_at_checked(NONCE_LEN)?;
        self.0.iter().find_map(|key| {
            let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
            let mut bytes = sealed.to_vec();
            let plain = key.open_in_place(nonce, Aad::from(purpose.as_bytes()), &mut bytes).ok()?;
            Some(plain.to_vec())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(login: &str, secrets: &[&str]) -> Sealer {
        let secrets: Vec<_> = secrets.iter().map(|of| SessionSecret((*of).into())).collect();
        Sealer::new(login, &secrets)
    }

    #[test]
    fn what_is_sealed_opens_by_any_of_the_secrets_for_its_purpose_alone() {
        let (one, both) = (sealer("shop", &["one"]), sealer("shop", &["two", "one"]));
        let text = one.seal("session", b"ada".to_vec()).unwrap();
        assert_eq!(one.open("session", text.as_bytes()).as_deref(), Some(&b"ada"[..]));
        assert_eq!(both.open("session", text.as_bytes()).as_deref(), Some(&b"ada"[..]));
        assert_ne!(one.seal("session", b"ada".to_vec()).unwrap(), text, "the nonce is drawn anew");
        let newer = both.seal("session", b"ada".to_vec()).unwrap();
        assert_eq!(one.open("session", newer.as_bytes()), None, "the first seals");
        assert_eq!(one.open("login", text.as_bytes()), None);
        assert_eq!(sealer("other", &["one"]).open("session", text.as_bytes()), None);
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            // The last letter has bits that stand for nothing, and must be zero.
            assert_eq!(one.open("session", &changed), None, "{at}");
        }
        for bad in ["", "A", "AAAAAAAAAAAAAAAA", "*", &text[1..], &text[..text.len() - 4]] {
            assert_eq!(one.open("session", bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(sealer("shop", &[]).seal("session", vec![]), None);
    }
}
