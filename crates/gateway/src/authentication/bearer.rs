//! Tokens as credentials (RFC 6750): the claims of one that is good, and the consumer that they lead to.

use std::{borrow::Cow, sync::Arc, time::SystemTime};

use weft_identity::token::{Claims, TokenFault, Unverified};
use weft_kernel::{Name, Tick};
use weft_proxy::Fact;
use weft_wire::RequestHead;

use super::{
    KeyPlace,
    extract::{self, Found},
    shown::{Good, Shown, Wrong},
};
use crate::{
    consumer::Consumer,
    credential::Digest,
    decision::{self, Verified},
    issuer::{Issuer, Keys},
    roster::Roster,
};

/// Tokens as a method of authentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearer {
    /// The issuers whose tokens are taken.
    pub issuers: Vec<Name>,
    /// Where a token may stand; in `authorization` behind `Bearer`.
    pub places: Vec<KeyPlace>,
    /// Audiences of which it must name one; those of the issuer without any.
    pub audiences: Vec<String>,
    /// Scopes that it must have.
    pub scopes: Vec<String>,
    /// Claims that it must have, each with one of these values.
    pub claims: Vec<(String, Vec<String>)>,
    /// Fields that tell the service a claim: name in lower case, and claim.
    pub tell: Vec<(String, String)>,
}

/// Token that was verified. The policy of authentication leaves it as a fact.
#[derive(Clone, Debug)]
pub struct AccessToken(pub(super) Arc<Verified>);

impl AccessToken {
    /// The name of its issuer in the configuration.
    pub fn issuer(&self) -> &Name {
        &self.0.issuer.name
    }

    /// What it says.
    pub fn claims(&self) -> &Claims {
        &self.0.claims
    }
}

impl Fact for AccessToken {}

/// The moment at which a token is judged.
#[derive(Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) now: Tick,
    pub(crate) wall: SystemTime,
    /// Whether keys may still be waited for.
    pub(crate) may_wait: bool,
}

impl Bearer {
    pub(super) fn look(
        &self,
        (roster, generation): (&Roster, u64),
        head: &RequestHead,
        at: Moment,
    ) -> Shown {
        let token = match self.token(head) {
            Ok(token) => token,
            Err(shown) => return shown,
        };
        // By keys that are too old nothing is believed, also not what was before.
        let known = decision::find(generation, &token);
        let verified = match known.filter(|known| known.issuer.keys(at.now).is_some()) {
            Some(verified) => {
                let skew = verified.issuer.rules.skew;
                if let Err(fault) = verified.claims.is_time(at.wall, skew) {
                    return fault.into();
                }
                verified
            }
            None => match self.verify(roster, &token, at) {
                Ok(verified) => {
                    let verified = Arc::new(verified);
                    decision::put(generation, &token, Arc::clone(&verified));
                    verified
                }
                Err(shown) => return shown,
            },
        };
        self.permit(verified)
    }

    /// The token that is shown.
    pub(super) fn token<'a>(&'a self, head: &'a RequestHead) -> Result<Cow<'a, [u8]>, Shown> {
        let found = self.places.iter().map(|place| extract::token(place, head));
        match found.into_iter().find(|found| !found.is_nothing()) {
            None => Err(Shown::Nothing),
            Some(Found::One(token)) => Ok(token),
            Some(_) => Err(Shown::Wrong(Wrong::token("there is more than one token"))),
        }
    }

    /// Believes a token, or says why not.
    fn verify(&self, roster: &Roster, token: &[u8], at: Moment) -> Result<Verified, Shown> {
        let read = Unverified::parse(token)?;
        let of = read.issuer().unwrap_or_default();
        let issuer = self.issuers.iter().filter_map(|name| roster.issuers.get(name));
        let issuer = issuer.into_iter().find(|issuer| issuer.rules.issuer == of);
        let Some(issuer) = issuer else { return Err(TokenFault::Issuer.into()) };
        let Some(keys) = issuer.keys(at.now) else { return Err(ask(issuer, at, Shown::Closed)) };
        match read.verify(&keys, &issuer.rules, at.wall) {
            Ok(claims) => {
                let consumer = consumer_of(roster, issuer, &claims)?;
                let (issuer, claims) = (Arc::clone(issuer), Arc::new(claims));
                Ok(Verified::new(issuer, claims, consumer, Tick::NEVER))
            }
            Err(TokenFault::UnknownKey) => Err(ask(issuer, at, TokenFault::UnknownKey.into())),
            Err(fault) => Err(fault.into()),
        }
    }

    /// Whether a token that is believed may do for this method.
    pub(super) fn permit(&self, verified: Arc<Verified>) -> Shown {
        if !self.issuers.contains(&verified.issuer.name) {
            return TokenFault::Issuer.into();
        }
        let claims = &verified.claims;
        let is_for = match &self.audiences[..] {
            [] => verified.is_for_issuer,
            audiences => audiences.iter().any(|audience| claims.is_for(audience)),
        };
        if !is_for {
            return TokenFault::Audience.into();
        }
        let has = |(claim, values): &(String, Vec<String>)| {
            claims.texts(claim).any(|text| values.iter().any(|value| value == text))
        };
        if !self.scopes.iter().all(|scope| claims.has_scope(scope)) || !self.claims.iter().all(has)
        {
            return Shown::Lacks;
        }
        let consumer = verified.consumer.clone();
        Shown::By(Good { consumer, token: Some(AccessToken(verified)), ..Good::default() })
    }
}

/// Has the keys of an issuer fetched, if they may be; else it is as it is.
fn ask(issuer: &Issuer, at: Moment, otherwise: Shown) -> Shown {
    match &issuer.keys {
        Some(Keys::Remote(remote)) if at.may_wait => match remote.ask(at.now) {
            Some(fetched) => Shown::Later(Box::pin(fetched)),
            None => otherwise,
        },
        _ => otherwise,
    }
}

/// The consumer that claims lead to.
pub(super) fn consumer_of(
    roster: &Roster,
    issuer: &Issuer,
    claims: &Claims,
) -> Result<Option<Consumer>, Shown> {
    let subject =
        claims.text("sub").map(|subject| Digest::of_subject(issuer.name.as_str(), subject));
    if let Some(consumer) = subject.and_then(|subject| roster.consumers.holder(&subject)) {
        return Ok(Some(consumer));
    }
    let Some(claim) = &issuer.consumer_claim else { return Ok(None) };
    let may = |name: &&str| {
        issuer.consumers.is_empty() || issuer.consumers.iter().any(|it| it.as_str() == *name)
    };
    let named = claims.text(claim).filter(may).and_then(|name| roster.consumers.named(name));
    match named {
        Some(consumer) => Ok(Some(consumer)),
        None => Err(Shown::Wrong(Wrong::token("the token leads to no consumer"))),
    }
}

impl From<TokenFault> for Shown {
    fn from(fault: TokenFault) -> Self {
        Self::Wrong(Wrong { why: fault.to_string().into(), is_token: true })
    }
}

#[cfg(test)]
mod tests;
