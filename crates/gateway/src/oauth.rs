//! What Weft says as a client of an OAuth 2 server: its credentials, and forms (RFC 6749 section 2.3.1, appendix B).

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_lc_rs::rand;
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};
use weft_identity::token::SigningKey;
use weft_kernel::Result;

/// What stays as it is in a form.
const FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'*');

/// The type of a token by which a client shows who it is (RFC 7523 section 2.2).
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// The life of such a token.
const ASSERTION_LIFE: Duration = Duration::from_secs(60);

/// How a client shows who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientAuthentication {
    /// In `Authorization` (`client_secret_basic`).
    Basic,
    /// In the form (`client_secret_post`).
    Post,
    /// By a token that it signs for each question (`private_key_jwt`, RFC 7523).
    PrivateKey(Arc<ClientKey>),
}

/// Key by which a client signs.
#[derive(Debug, PartialEq, Eq)]
pub struct ClientKey {
    /// The key.
    pub key: SigningKey,
    /// What the server knows it as (`kid`), if that has to be said.
    pub id: Option<Box<str>>,
}

/// A client that an OAuth 2 server knows. It never shows its secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Client {
    /// Its id.
    pub id: Box<str>,
    /// Its secret; without one, and without a key, it is public (RFC 6749 section 2.1).
    pub secret: Option<Box<str>>,
    /// How it shows them.
    pub authentication: ClientAuthentication,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Client {
    /// Adds itself to a form for an endpoint, or gives what is to stand in `Authorization`.
    pub fn sign(&self, form: &mut String, endpoint: &str, wall: SystemTime) -> Option<String> {
        match (&self.secret, &self.authentication) {
            (Some(secret), ClientAuthentication::Basic) => {
                let encoded = |text| utf8_percent_encode(text, FORM);
                let both = format!("{}:{}", encoded(&self.id), encoded(secret));
                return Some(format!("Basic {}", STANDARD.encode(both)));
            }
            (_, ClientAuthentication::PrivateKey(key)) => {
                push(form, "client_id", &self.id);
                push(form, "client_assertion_type", ASSERTION);
                // A key that was found good signs; without a token the server would refuse the client.
                let token = key.key.sign(key.id.as_deref(), &self.assertion(endpoint, wall));
                push(form, "client_assertion", &token.unwrap_or_default());
            }
            (secret, _) => {
                push(form, "client_id", &self.id);
                if let Some(secret) = secret {
                    push(form, "client_secret", secret);
                }
            }
        }
        None
    }

    /// What it says of itself to an endpoint, which may be taken once (RFC 7523 section 3).
    fn assertion(&self, endpoint: &str, wall: SystemTime) -> Map<String, Value> {
        let now = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut id = [0; 16];
        // If it fails, the server finds a token shown twice, and refuses it.
        let _ = rand::fill(&mut id);
        [
            ("iss", Value::from(&*self.id)),
            ("sub", Value::from(&*self.id)),
            ("aud", Value::from(endpoint)),
            ("jti", Value::from(URL_SAFE_NO_PAD.encode(id))),
            ("iat", Value::from(now.as_secs())),
            ("exp", Value::from((now + ASSERTION_LIFE).as_secs())),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }
}

/// Adds a parameter to a form, or to a query.
pub fn push(form: &mut String, name: &str, value: &str) {
    if !form.is_empty() {
        form.push('&');
    }
    form.push_str(name);
    form.push('=');
    form.extend(utf8_percent_encode(value, FORM));
}

/// What is sent to an endpoint.
pub struct Form {
    /// The form.
    pub body: String,
    /// What stands in `Authorization`.
    pub authorization: Option<String>,
}

/// What an endpoint has answered: status and body.
pub type Answer = (u16, Bytes);

/// A future answer of an endpoint.
pub type Answering<'a> = Pin<Box<dyn Future<Output = Result<Answer>> + Send + 'a>>;

/// Sends forms to an endpoint, in bounded time and size.
pub trait Post: Send + Sync {
    /// The answer to a form; at most so many bytes of it, or none.
    fn post<'a>(&'a self, url: &'a str, form: Form, bytes_max: usize) -> Answering<'a>;
}

#[cfg(test)]
mod tests {
    use weft_identity::token::{Algorithm, KeySet, Rules, Unverified};

    use super::*;

    const KEY: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEILn2crM04QEmiBEmrur/Xf8gDfqWc/0YAI58izVOfEAO
-----END PRIVATE KEY-----";
    const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEA6+pFZ3zNRieSN6dpYeXl26Rvqca6s7wZ8HwYtzdcyVY=
-----END PUBLIC KEY-----";

    fn client(secret: Option<&str>, authentication: ClientAuthentication) -> Client {
        Client { id: "a b:c".into(), secret: secret.map(Into::into), authentication }
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_client_signs_for_an_endpoint_and_for_a_minute() {
        let key = SigningKey::of_pem(KEY.as_bytes()).unwrap_or_else(|why| panic!("{why}"));
        let key = Arc::new(ClientKey { key, id: Some("k1".into()) });
        let client = client(None, ClientAuthentication::PrivateKey(key));
        let keys = KeySet::of_file(PUBLIC.as_bytes(), &[Algorithm::EdDsa]).unwrap_or_default();
        let rules = Rules {
            issuer: "a b:c".into(),
            audiences: Some(vec!["https://id.example/token".into()]),
            algorithms: vec![Algorithm::EdDsa],
            required: ["exp", "iat", "jti", "sub"].map(Into::into).into(),
            ..Rules::default()
        };
        let mut seen = Vec::new();
        for _ in 0..2 {
            let mut said = String::from("token=t");
            assert_eq!(client.sign(&mut said, "https://id.example/token", at(1000)), None);
            let (form, token) = said.split_once("&client_assertion=").unwrap_or_default();
            let kind = "urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer";
            let expected = format!("token=t&client_id=a%20b%3Ac&client_assertion_type={kind}");
            assert_eq!(form, expected);
            let verified = |now| Unverified::parse(token.as_bytes())?.verify(&keys, &rules, now);
            let claims = verified(at(1059)).unwrap_or_else(|fault| panic!("{fault}"));
            assert_eq!(claims.text("sub"), Some("a b:c"));
            assert!(verified(at(1060)).is_err());
            seen.extend(claims.text("jti").map(str::to_owned));
        }
        assert_eq!(seen.len(), 2);
        assert_ne!(seen[0], seen[1]);
    }

    #[test]
    fn a_client_shows_who_it_is() {
        use ClientAuthentication::{Basic, Post};
        // RFC 6749 section 2.3.1: both are encoded as in a form before they are joined.
        let basic = format!("Basic {}", STANDARD.encode("a%20b%3Ac:s%2F%C3%A9"));
        for (secret, way, form, authorization) in [
            (Some("s/é"), Basic, "token=t", Some(&*basic)),
            (Some("s/é"), Post, "token=t&client_id=a%20b%3Ac&client_secret=s%2F%C3%A9", None),
            (None, Basic, "token=t&client_id=a%20b%3Ac", None),
        ] {
            let mut said = String::new();
            push(&mut said, "token", "t");
            let shown = client(secret, way).sign(&mut said, "https://id.example", at(0));
            assert_eq!((&*said, shown.as_deref()), (form, authorization));
        }
        let shown = format!("{:?}", client(Some("secret"), Basic));
        assert!(!shown.contains("secret"), "{shown}");
    }
}
