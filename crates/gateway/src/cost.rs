//! What a request costs of a limit or quota: a number, or an expression over the request, and over its response.
//!
//! A cost is worked out when a request comes, and is what must be left for it. A charge is worked out when the response
//! has ended, and takes the place of the cost that was counted. Both are whole units from nought to [`UNITS_MAX`];
//! a fraction is rounded up.
//!
//! Clients choose much of what an expression reads. So a cost that cannot be worked out is no cost that anybody has
//! named: the request is refused. A charge that cannot be worked out leaves what was counted as it is.

mod variables;

use std::{cell::RefCell, fmt, sync::Arc};

use weft_expression::{Expression, Failure, Wanted};
use weft_kernel::Tick;
use weft_proxy::{Ended, RequestContext, RequestView};
use weft_wire::{Fields, Length, RequestHead, ResponseHead};

use self::variables::{Request, Response, Seen};
use crate::consumer::Consumer;

/// The most units that one request costs.
pub const UNITS_MAX: u64 = 1_000_000_000_000;

/// What a request costs when it comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cost {
    /// So many units.
    Units(u64),
    /// What an expression over the request gives.
    Formula(Formula),
}

/// A compiled expression that gives units. Two are the same if they read the same.
#[derive(Clone)]
pub struct Formula(Arc<Expression>);

/// Why a formula gave no units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It could not be worked out.
    Failed(Failure),
    /// It gave a number that is no number of units.
    Range,
}

impl Formula {
    /// A cost, over the request.
    ///
    /// # Errors
    /// What is wrong with the text, in a sentence.
    pub fn cost(text: &str) -> Result<Self, String> {
        Self::compile(text, &variables::OF_REQUEST)
    }

    /// A charge, over request and response.
    ///
    /// # Errors
    /// What is wrong with the text, in a sentence.
    pub fn charge(text: &str) -> Result<Self, String> {
        Self::compile(text, &variables::OF_BOTH)
    }

    fn compile(text: &str, scope: &'static weft_expression::Scope) -> Result<Self, String> {
        Expression::compile(text, scope, Wanted::Number).map(|of| Self(Arc::new(of)))
    }

    /// The text.
    pub fn text(&self) -> &str {
        self.0.text()
    }

    /// Whether it may read this. What stands in a text of its own only seems to be read, which does no harm.
    fn may_read(&self, name: &str) -> bool {
        self.text().contains(name)
    }

    fn number(&self, seen: &Seen<'_>) -> Result<f64, Fault> {
        let number = self.0.number(seen).map_err(Fault::Failed)?;
        if number >= 0.0 { Ok(number) } else { Err(Fault::Range) }
    }
}

impl PartialEq for Formula {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Formula {}

impl fmt::Debug for Formula {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Formula").field(&self.text()).finish()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(failure) => write!(f, "what the request costs: {failure}"),
            Self::Range => write!(f, "what the request costs: it is not from 0 to {UNITS_MAX}"),
        }
    }
}

impl Cost {
    /// What a request costs.
    pub(crate) fn of(&self, cx: &RequestContext<'_>) -> Result<u64, Fault> {
        let body = match cx.body_length() {
            Length::Exact(bytes) => Some(bytes),
            Length::Unknown => None,
        };
        self.foresee(cx.view(), body)
    }

    /// What a request would cost whose body is so long, if that is known.
    pub(crate) fn foresee(&self, view: RequestView<'_>, body: Option<u64>) -> Result<u64, Fault> {
        match self {
            Self::Units(units) => Ok(*units),
            Self::Formula(formula) => {
                let host = view.host();
                let request = Request::new(view.head(), &host, body);
                let seen = Seen::new(Some(request), view.fact::<Consumer>(), None);
                match formula.number(&seen)?.ceil() {
                    #[expect(clippy::cast_precision_loss, reason = "it is far below 2^53")]
                    number if number <= UNITS_MAX as f64 => Ok(number as u64),
                    _ => Err(Fault::Range),
                }
            }
        }
    }
}

/// A request as it is remembered for what is charged in the end.
pub(crate) struct Tab {
    /// The head and the host, if a charge reads them.
    request: Option<(RequestHead, Box<str>)>,
    consumer: Option<Consumer>,
    began: Tick,
    /// Whether a charge reads fields of the response.
    reads_fields: bool,
    fields: RefCell<Fields>,
}

impl Tab {
    /// What is needed of a request for all of these charges.
    pub(crate) fn new<'a>(
        cx: &RequestContext<'_>,
        charges: impl Iterator<Item = &'a Formula>,
    ) -> Self {
        let (mut reads_request, mut reads_fields) = (false, false);
        for charge in charges {
            reads_request |= charge.may_read("request");
            reads_fields |= charge.may_read("response");
        }
        let request = reads_request.then(|| (cx.head().clone(), Box::from(&*cx.host())));
        let (consumer, began) = (cx.fact::<Consumer>().cloned(), cx.now());
        Self { request, consumer, began, reads_fields, fields: RefCell::default() }
    }

    /// Notes the response.
    pub(crate) fn respond(&self, head: &ResponseHead) {
        if self.reads_fields {
            *self.fields.borrow_mut() = head.fields.clone();
        }
    }

    /// What the request has cost.
    pub(crate) fn charge(&self, charge: &Formula, how: &Ended) -> Result<u64, Fault> {
        let request = self.request.as_ref();
        let request = request.map(|(head, host)| Request::new(head, host, Some(how.request_bytes)));
        let fields = self.fields.borrow();
        let response = Response::new(&fields, how, how.now.since(self.began));
        let seen = Seen::new(request, self.consumer.as_ref(), Some(response));
        let number = charge.number(&seen)?.ceil();
        // What is beyond the most is had all the same.
        Ok((number as u64).min(UNITS_MAX))
    }
}

#[cfg(test)]
mod tests;
