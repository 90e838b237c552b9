//! Tokens that their issuer is asked about (RFC 7662): opaque ones, or signed ones that can be revoked.

use std::sync::Arc;

use weft_identity::token::{Claims, TOKEN_BYTES_MAX, TokenFault};
use weft_wire::RequestHead;

use super::{
    bearer::{Bearer, Moment, consumer_of},
    shown::{Shown, Wrong},
};
use crate::{
    credential::Digest,
    decision::{self, Verified},
    introspection::{Known, Token},
    issuer::Issuer,
    roster::Roster,
};

impl Bearer {
    /// What an issuer makes of a token.
    pub(super) fn ask(
        &self,
        (roster, generation): (&Roster, u64),
        head: &RequestHead,
        at: Moment,
    ) -> Shown {
        let token = match self.token(head) {
            Ok(token) => token,
            Err(shown) => return shown,
        };
        let issuer = self.issuers.first().and_then(|name| roster.issuers.get(name));
        let Some((issuer, endpoint)) =
            issuer.and_then(|issuer| Some((issuer, issuer.introspection.as_ref()?)))
        else {
            return Shown::Closed;
        };
        if token.len() > TOKEN_BYTES_MAX {
            return TokenFault::TooLong.into();
        }
        let digest = Digest::of_opaque(issuer.name.as_str(), &token);
        let remembered = decision::find_opaque(generation, &digest);
        if let Some(verified) = remembered.filter(|verified| at.now < verified.until) {
            return match verified.claims.is_time(at.wall, issuer.rules.skew) {
                Ok(()) => self.permit(verified),
                Err(fault) => fault.into(),
            };
        }
        let (claims, until) = match endpoint.known(&digest, at.now) {
            Some(
                Known::Said(Token::Active(claims, until))
                | Known::Old(Token::Active(claims, until)),
            ) => (claims, until),
            Some(Known::Said(Token::Inactive) | Known::Old(Token::Inactive)) => {
                return Shown::Wrong(Wrong::token("its issuer says that the token is not active"));
            }
            Some(Known::Failed) => return Shown::Closed,
            None if at.may_wait => {
                return match endpoint.ask(digest, &token, at.now) {
                    Some(asked) => Shown::Later(Box::pin(asked)),
                    None => Shown::Closed,
                };
            }
            None => return Shown::Closed,
        };
        if let Err(fault) = is_fit(issuer, &claims, at) {
            return fault.into();
        }
        let consumer = match consumer_of(roster, issuer, &claims) {
            Ok(consumer) => consumer,
            Err(shown) => return shown,
        };
        let verified = Arc::new(Verified::new(Arc::clone(issuer), claims, consumer, until));
        if token.len() <= decision::TOKEN_BYTES_MAX {
            decision::put_opaque(generation, digest, Arc::clone(&verified));
        }
        self.permit(verified)
    }
}

/// Whether what the issuer says of a token fits what is believed of that issuer. Its end is its own affair: a token
/// that never ends is good for as long as it says so.
fn is_fit(issuer: &Issuer, claims: &Claims, at: Moment) -> Result<(), TokenFault> {
    let rules = &issuer.rules;
    if claims.get("iss").is_some() && claims.text("iss") != Some(&rules.issuer) {
        return Err(TokenFault::Issuer);
    }
    let mut required = rules.required.iter().filter(|name| *name != "exp");
    if let Some(missing) = required.find(|name| claims.get(name).is_none()) {
        return Err(TokenFault::Missing(missing.clone()));
    }
    claims.is_time(at.wall, rules.skew)
}

#[cfg(test)]
mod tests;
