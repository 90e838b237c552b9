//! What is known of a provider: its discovery document (OpenID Connect Discovery 1.0 section 4), and its keys.
//!
//! Both are fetched together and kept fresh as the keys of issuers are ([`jwks`](crate::jwks)): a provider that moves
//! an endpoint is followed, and one that is away is remembered.

use std::{pin::Pin, sync::Arc};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use serde::Deserialize;
use weft_kernel::{Error, Reason, Result};

use crate::jwks::Fetch;

/// What is kept of the document.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Metadata {
    /// Its name for itself.
    pub issuer: String,
    /// Where browsers are sent to log in.
    pub authorization_endpoint: String,
    /// What gives tokens for codes.
    pub token_endpoint: String,
    /// Where its keys are.
    pub jwks_uri: String,
    /// Where browsers are sent to end their session there, if they can.
    #[serde(default)]
    pub end_session_endpoint: Option<String>,
    /// Whether it names itself in its answers (RFC 9207).
    #[serde(default)]
    pub authorization_response_iss_parameter_supported: bool,
}

impl Metadata {
    /// Reads a document, and holds it to the name that is expected.
    fn of(text: &[u8], issuer: &str) -> Result<Self, String> {
        let read: Self = serde_json::from_slice(text)
            .map_err(|error| format!("the discovery document is not understood: {error}"))?;
        if read.issuer != issuer {
            return Err("the discovery document is of another issuer".into());
        }
        let end = read.end_session_endpoint.iter();
        let urls = [&read.authorization_endpoint, &read.token_endpoint, &read.jwks_uri];
        for url in urls.into_iter().chain(end) {
            let safe = url.starts_with("https://");
            // What is told safely must not be asked in the clear.
            if !safe && (issuer.starts_with("https://") || !url.starts_with("http://")) {
                return Err("an endpoint in the discovery document is no `https` URL".into());
            }
            if !url.bytes().all(|byte| matches!(byte, b'!'..=b'~')) || url.contains('#') {
                return Err("an endpoint in the discovery document is no URL".into());
            }
        }
        Ok(read)
    }
}

/// Fetches a document, leaves what it says, and then fetches the keys that it names.
pub(super) struct Discovery<F> {
    fetch: F,
    issuer: String,
    found: Arc<ArcSwapOption<Metadata>>,
}

impl<F: Fetch> Discovery<F> {
    pub(super) const fn new(fetch: F, issuer: String, found: Arc<ArcSwapOption<Metadata>>) -> Self {
        Self { fetch, issuer, found }
    }

    async fn discover(&self, url: &str) -> Result<Bytes> {
        let text = self.fetch.get(url).await?;
        let metadata = Metadata::of(&text, &self.issuer)
            .map_err(|why| Error::new(Reason::UpstreamMalformed, why))?;
        let keys = self.fetch.get(&metadata.jwks_uri).await?;
        self.found.store(Some(Arc::new(metadata)));
        Ok(keys)
    }
}

impl<F: Fetch> Fetch for Discovery<F> {
    fn get<'a>(&'a self, url: &'a str) -> Pin<Box<dyn Future<Output = Result<Bytes>> + Send + 'a>> {
        Box::pin(self.discover(url))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_held_to_its_issuer_and_to_safe_urls() {
        let of = |issuer: &str, token: &str| {
            let text = format!(
                r#"{{"issuer":"{issuer}","authorization_endpoint":"https://id.example/auth","token_endpoint":"{token}","jwks_uri":"https://id.example/keys","x":1}}"#
            );
            Metadata::of(text.as_bytes(), "https://id.example").map(|it| it.token_endpoint)
        };
        let good = "https://id.example/token";
        assert_eq!(of("https://id.example", good).as_deref(), Ok(good));
        assert!(of("https://evil.example", good).is_err());
        assert!(of("https://id.example/", good).is_err());
        for bad in [
            "http://id.example/token",
            "/token",
            "",
            "https://id.example/ a",
            "https://id.example/a#b",
        ] {
            assert!(of("https://id.example", bad).is_err(), "{bad}");
        }
        assert!(Metadata::of(b"{}", "https://id.example").is_err());
        assert!(Metadata::of(b"<html>", "https://id.example").is_err());
    }
}
