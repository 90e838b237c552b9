//! What Weft says as a client of an OAuth 2 server: its credentials, and forms (RFC 6749 section 2.3.1, appendix B).

use std::{fmt, pin::Pin};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use weft_kernel::Result;

/// What stays as it is in a form.
const FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'*');

/// How a client shows who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuthentication {
    /// In `Authorization` (`client_secret_basic`).
    Basic,
    /// In the form (`client_secret_post`).
    Post,
}

/// A client that an OAuth 2 server knows. It never shows its secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Client {
    /// Its id.
    pub id: Box<str>,
    /// Its secret; without one it is public (RFC 6749 section 2.1).
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
    /// Adds itself to a form, or gives what is to stand in `Authorization`.
    pub fn sign(&self, form: &mut String) -> Option<String> {
        match (&self.secret, self.authentication) {
            (Some(secret), ClientAuthentication::Basic) => {
                let encoded = |text| utf8_percent_encode(text, FORM);
                let both = format!("{}:{}", encoded(&self.id), encoded(secret));
                Some(format!("Basic {}", STANDARD.encode(both)))
            }
            (secret, _) => {
                push(form, "client_id", &self.id);
                if let Some(secret) = secret {
                    push(form, "client_secret", secret);
                }
                None
            }
        }
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
    use super::*;

    fn client(secret: Option<&str>, authentication: ClientAuthentication) -> Client {
        Client { id: "a b:c".into(), secret: secret.map(Into::into), authentication }
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
            let shown = client(secret, way).sign(&mut said);
            assert_eq!((&*said, shown.as_deref()), (form, authorization));
        }
        let shown = format!("{:?}", client(Some("secret"), Basic));
        assert!(!shown.contains("secret"), "{shown}");
    }
}
