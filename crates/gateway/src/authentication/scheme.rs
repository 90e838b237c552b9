//! The methods of authentication, one beside the other.

use weft_identity::peer::Names;

use super::{
    bearer::{Bearer, Moment},
    extract,
    oidc::Oidc,
    shown::Shown,
};
use crate::{
    certificate,
    credential::{Digest, KEY_BYTES_MAX},
    roster::Roster,
    signature::{Message, Signature},
};

/// One way to find out who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// An API key, in the first of these places that has one.
    ApiKey(Vec<KeyPlace>),
    /// User name and password (RFC 7617).
    Basic,
    /// The certificate that the client showed in the handshake (RFC 8446 section 4.4.2).
    ClientCertificate,
    /// A token of an issuer (RFC 6750, RFC 7519).
    Jwt(Bearer),
    /// A token that its issuer, the first one, is asked about (RFC 7662).
    Introspection(Bearer),
    /// A signature of the request (RFC 9421).
    Signature(Signature),
    /// A session of a browser that has logged in (OpenID Connect).
    Oidc(Oidc),
}

/// Where a key may stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPlace {
    /// In a header field, its name in lower case; in `authorization` behind the scheme `ApiKey` or `Bearer`.
    Header(Box<str>),
    /// In a parameter of the query.
    Query(Box<str>),
    /// In a cookie.
    Cookie(Box<str>),
}

impl Scheme {
    /// What it makes of a request.
    pub(super) fn look(
        &self,
        (roster, generation): (&Roster, u64),
        (message, certificate): (&Message<'_>, Option<&Names>),
        at: Moment,
    ) -> Shown {
        let (consumers, head) = (&roster.consumers, message.head);
        match self {
            Self::Jwt(method) => method.look((roster, generation), head, at),
            Self::Introspection(method) => method.ask((roster, generation), head, at),
            Self::Signature(method) => method.look(roster, message, at),
            Self::Oidc(method) => method.look(roster, message, at),
            Self::ApiKey(places) => {
                let found = places.iter().map(|place| extract::key(place, head));
                let digest = match found.into_iter().find(|found| !found.is_nothing()) {
                    None => return Shown::Nothing,
                    Some(extract::Found::One(key)) if key.len() <= KEY_BYTES_MAX => {
                        Digest::of_api_key(&key)
                    }
                    Some(extract::Found::One(_)) => return "the API key is too long".into(),
                    Some(_) => return "there is more than one API key".into(),
                };
                Shown::of(consumers.holder(&digest), "nobody has this API key")
            }
            Self::ClientCertificate => match certificate {
                None => Shown::Nothing,
                Some(names) => match certificate::holder(consumers, names) {
                    Ok(consumer) => Shown::by(consumer),
                    Err(why) => why.into(),
                },
            },
            Self::Basic => match extract::authorization(&head.fields, "basic") {
                extract::Found::Nothing => Shown::Nothing,
                extract::Found::Several => "there is more than one field `Authorization`".into(),
                extract::Found::One(token) => match extract::basic(&token) {
                    None => "the user name and password cannot be read".into(),
                    Some(digest) => {
                        Shown::of(consumers.holder(&digest), "the user name or password is wrong")
                    }
                },
            },
        }
    }

    /// What it is called.
    pub(super) const fn noun(&self) -> &'static str {
        match self {
            Self::ApiKey(_) => "API key",
            Self::Basic => "user name and password",
            Self::ClientCertificate => "client certificate",
            Self::Jwt(_) => "token",
            Self::Introspection(_) => "introspected token",
            Self::Signature(_) => "signature",
            Self::Oidc(_) => "login",
        }
    }

    /// What a client is told that would do (RFC 9110 section 11.6.1). Where no registered scheme is one for it, a name
    /// stands in its place: a challenge there must be (section 15.5.2).
    pub(super) fn challenge(&self, realm: &str) -> Box<str> {
        match self {
            Self::ApiKey(_) => format!("ApiKey realm=\"{realm}\""),
            Self::Basic => format!("Basic realm=\"{realm}\", charset=\"UTF-8\""),
            Self::ClientCertificate => format!("ClientCertificate realm=\"{realm}\""),
            // What must be covered is told in a field of its own.
            Self::Signature(_) => format!("Signature realm=\"{realm}\""),
            // What asks for data learns that its page must log in.
            Self::Oidc(_) => format!("OpenID realm=\"{realm}\""),
            Self::Jwt(_) | Self::Introspection(_) => format!("Bearer realm=\"{realm}\""),
        }
        .into()
    }
}
