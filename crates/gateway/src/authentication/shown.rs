//! What comes of looking for credentials in a request.

use std::{borrow::Cow, pin::Pin};

use weft_proxy::Fact;

use super::{bearer::AccessToken, oidc::OfSession};
use crate::{
    consumer::Consumer,
    signature::{Content, Nonce},
};

/// What came of looking for credentials.
pub(super) enum Shown {
    /// There are none.
    Nothing,
    /// They are not good.
    Wrong(Wrong),
    /// They are a token that is good, and lacks what is needed here.
    Lacks,
    /// It cannot be said, since the keys of the issuer are not there.
    Closed,
    /// It can be said after this, or at least once more.
    Later(Pin<Box<dyn Future<Output = ()>>>),
    /// They are not good here, and are a session that has changed, which its browser is to have nevertheless.
    Renewed(Box<(OfSession, Self)>),
    /// They are good.
    By(Good),
}

/// What good credentials come to: a consumer, a token, or both.
#[derive(Default)]
pub(super) struct Good {
    pub(super) consumer: Option<Consumer>,
    /// The token; of several, that of the first method.
    pub(super) token: Option<AccessToken>,
    /// The methods that let it through, each with its own token.
    pub(super) by: Vec<By>,
    /// What a signature says besides, which is held to once it is known that all else is good.
    pub(super) signed: Option<Box<Signed>>,
    /// What goes with a session of a browser.
    pub(super) session: Option<Box<OfSession>>,
}

/// A method that let a request through: its place among those of the policy, and the token that did it.
#[derive(Clone, Debug)]
pub(super) struct By {
    pub(super) method: usize,
    pub(super) token: Option<AccessToken>,
}

impl Good {
    /// By this method.
    pub(super) fn by(mut self, method: usize) -> Self {
        self.by = vec![By { method, token: self.token.clone() }];
        self
    }

    /// Both of two methods; the first counts where both say something.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            consumer: self.consumer.or(other.consumer),
            token: self.token.or(other.token),
            by: [self.by, other.by].concat(),
            signed: self.signed.or(other.signed),
            session: self.session.or(other.session),
        }
    }
}

/// What a signature asks for beyond itself.
#[derive(Debug, Default)]
pub(super) struct Signed {
    /// The body must be this one.
    pub(super) content: Option<(Content, usize)>,
    /// The signature may be shown once.
    pub(super) nonce: Option<Nonce>,
}

/// Why credentials are not good, which is for the log alone.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) why: Cow<'static, str>,
    pub(super) is_token: bool,
}

/// That a token was refused, for the challenge (RFC 6750 section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Token,
    Scope,
}

impl Fact for Refused {}

impl Wrong {
    pub(super) const fn of(why: &'static str) -> Self {
        Self { why: Cow::Borrowed(why), is_token: false }
    }

    pub(super) const fn token(why: &'static str) -> Self {
        Self { why: Cow::Borrowed(why), is_token: true }
    }
}

impl From<&'static str> for Shown {
    fn from(why: &'static str) -> Self {
        Self::Wrong(Wrong::of(why))
    }
}

impl Shown {
    /// How much it says of why a request is not let on.
    pub(super) const fn weight(&self) -> u8 {
        match self {
            Self::Nothing | Self::By(_) => 0,
            Self::Wrong(_) => 1,
            Self::Lacks => 2,
            Self::Closed => 3,
            Self::Later(_) => 4,
            Self::Renewed(both) => both.1.weight(),
        }
    }

    /// What it is without a session that has changed, and that.
    pub(super) fn parted(self) -> (Self, Option<OfSession>) {
        match self {
            Self::Renewed(both) => (both.1, Some(both.0)),
            shown => (shown, None),
        }
    }

    /// The same with a session that has changed. What is looked at again brings that itself.
    pub(super) fn renewing(self, session: Option<OfSession>) -> Self {
        match (self, session) {
            (Self::By(good), Some(session)) => {
                let session = good.session.or_else(|| Some(Box::new(session)));
                Self::By(Good { session, ..good })
            }
            (shown @ (Self::Later(_) | Self::Renewed(_)), _) | (shown, None) => shown,
            (shown, Some(session)) => Self::Renewed(Box::new((session, shown))),
        }
    }

    /// Of the consumer that credentials lead to.
    pub(super) fn of(holder: Option<Consumer>, otherwise: &'static str) -> Self {
        match holder {
            Some(consumer) => Self::by(consumer),
            None => otherwise.into(),
        }
    }

    /// By a consumer.
    pub(super) fn by(consumer: Consumer) -> Self {
        Self::By(Good { consumer: Some(consumer), ..Good::default() })
    }
}
