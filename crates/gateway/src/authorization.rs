//! The policy that decides by rules whether a request is allowed.
//!
//! Rules are CEL over the [`Attributes`] of a request: method, path, headers, consumer, claims and so on. They are
//! asked in their order, and the first whose condition is true decides; if none is, the default does. A condition
//! that cannot be worked out, since it reads what is not there or would take too long, refuses the request unless the
//! settings say that such a rule is passed over. A shadow decides likewise, and lets every request on.
//!
//! Who is refused learns neither the rule nor what it asks for; log, span and metrics tell the rule's name.

mod attributes;

use std::{borrow::Cow, fmt, sync::Arc};

use weft_expression::{Expression, Failure, Wanted};
use weft_kernel::{Error, Name, Reason, Result};
use weft_proxy::{
    DryRun, Fact, Flow, Foreseen, Policy, PolicyMaker, PolicyOutcome, RequestContext, Sides, Stage,
    plan::Binding,
};

pub use self::attributes::Attributes;

/// The name under which the policy is made.
pub const AUTHORIZATION: &str = "authorization";

/// The most rules of one policy.
pub const RULES_MAX: usize = 100;

/// The name under which the default is told; no rule has it.
pub const DEFAULT: &str = "default";

/// Settings of the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorization {
    /// The rules, in the order in which they are asked.
    pub rules: Vec<Rule>,
    /// What becomes of a request for which no rule decides.
    pub default: Effect,
    /// Whether a rule that cannot be worked out is passed over, and does not refuse.
    pub skips_failures: bool,
    /// Whether nothing is refused.
    pub shadow: bool,
}

/// What a rule does with a request that it is true of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It goes on.
    Allow,
    /// It is refused.
    Deny,
}

/// A rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its name, for log and metrics.
    pub name: Name,
    /// What it does.
    pub then: Effect,
    when: Arc<Expression>,
}

impl Rule {
    /// A rule with a condition in CEL.
    ///
    /// # Errors
    /// What is wrong with the condition, in a sentence.
    pub fn new(name: Name, when: &str, then: Effect) -> Result<Self, String> {
        let when = Expression::compile(when, &attributes::SCOPE, Wanted::Bool)?;
        Ok(Self { name, then, when: Arc::new(when) })
    }

    /// Its condition, as it is written.
    pub fn when(&self) -> &str {
        self.when.text()
    }
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.then == other.then && self.when() == other.when()
    }
}

impl Eq for Rule {}

impl fmt::Display for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, rule) in self.rules.iter().enumerate() {
            write!(f, "{}{}", if at == 0 { "" } else { ", " }, rule.name)?;
        }
        let default = match self.default {
            Effect::Allow => "allow",
            Effect::Deny => "deny",
        };
        write!(f, ", else {default}{}", if self.shadow { " (shadow)" } else { "" })
    }
}

/// What the rules say of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict<'a> {
    /// What becomes of it.
    pub effect: Effect,
    /// The rule that decides; `None` for the default.
    pub rule: Option<&'a Rule>,
    /// Why that rule could not be worked out.
    pub failure: Option<Failure>,
}

impl Verdict<'_> {
    /// The name of the rule, or [`DEFAULT`].
    pub fn by(&self) -> &str {
        self.rule.map_or(DEFAULT, |rule| rule.name.as_str())
    }

    /// Why it came out like that, for whoever runs the node.
    pub fn why(&self) -> String {
        match (&self.rule, &self.failure) {
            (None, _) => "no rule decides, so the default does".into(),
            (Some(rule), None) => format!("rule `{}`", rule.name),
            (Some(rule), Some(failure)) => {
                format!("rule `{}` cannot be worked out: {failure}", rule.name)
            }
        }
    }
}

impl Authorization {
    /// Decides about a request.
    pub fn decide(&self, attributes: &Attributes<'_>) -> Verdict<'_> {
        let looked_at = attributes::LookedAt::new(attributes);
        for rule in &self.rules {
            match looked_at.fit(&rule.when) {
                Ok(true) => return Verdict { effect: rule.then, rule: Some(rule), failure: None },
                Ok(false) => {}
                Err(_) if self.skips_failures => {}
                Err(failure) => {
                    let failure = Some(failure);
                    return Verdict { effect: Effect::Deny, rule: Some(rule), failure };
                }
            }
        }
        Verdict { effect: self.default, rule: None, failure: None }
    }
}

/// What was decided about a request. The policy leaves it as a fact, in a shadow too; log, span and metrics tell it
/// under `authorization`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decided {
    /// What becomes of it.
    pub effect: Effect,
    /// Whether that is so since a rule could not be worked out.
    pub is_failure: bool,
    /// Whether it goes on whatever was decided.
    pub is_shadow: bool,
}

impl Fact for Decided {
    fn told(&self) -> Option<(&'static str, Cow<'_, str>)> {
        let word = match (self.effect, self.is_failure, self.is_shadow) {
            (Effect::Allow, ..) => "allowed",
            (Effect::Deny, false, false) => "denied",
            (Effect::Deny, false, true) => "denied (shadow)",
            (Effect::Deny, true, false) => "failed",
            (Effect::Deny, true, true) => "failed (shadow)",
        };
        Some((AUTHORIZATION, word.into()))
    }

    fn is_counted(&self) -> bool {
        true
    }
}

/// The rule that has decided; `None` for the default.
struct DecidedBy(Option<Name>);

impl Fact for DecidedBy {
    fn told(&self) -> Option<(&'static str, Cow<'_, str>)> {
        Some(("authorization_rule", self.0.as_ref().map_or(DEFAULT, Name::as_str).into()))
    }

    fn is_counted(&self) -> bool {
        true
    }
}

/// Makes policies of settings.
#[derive(Clone, Copy, Debug, Default)]
pub struct AuthorizationMaker;

impl PolicyMaker for AuthorizationMaker {
    fn make(&self, binding: &Binding) -> Result<Arc<dyn Policy>, String> {
        Ok(Arc::new(Rules(binding.settings()?)))
    }
}

/// The policy of a route.
struct Rules(Authorization);

impl Policy for Rules {
    fn stage(&self) -> Stage {
        Stage::Authorization
    }

    fn sides(&self) -> Sides {
        Sides { request: true, ..Sides::default() }
    }

    fn request<'a>(&'a self, cx: &'a mut RequestContext<'_>) -> Flow<'a> {
        // What begins inside was let through when it came from outside.
        if cx.is_internal() {
            return Flow::Next;
        }
        let verdict = self.0.decide(&Attributes::of(cx.view()));
        let is_shadow = self.0.shadow;
        let is_failure = verdict.failure.is_some();
        cx.leave(DecidedBy(verdict.rule.map(|rule| rule.name.clone())));
        cx.leave(Decided { effect: verdict.effect, is_failure, is_shadow });
        if verdict.effect == Effect::Allow || is_shadow {
            return Flow::Next;
        }
        let say = "the request is not allowed";
        Flow::Refuse(Error::new(Reason::Forbidden, say).note(verdict.why()))
    }

    fn foresee(&self, cx: &mut DryRun<'_>) -> Foreseen {
        let verdict = self.0.decide(&Attributes::of(cx.view()));
        match (verdict.effect, self.0.shadow) {
            (Effect::Allow, _) => Foreseen::of(PolicyOutcome::Passes, verdict.why()),
            (Effect::Deny, false) => {
                Foreseen::of(PolicyOutcome::Refuses(Reason::Forbidden), verdict.why())
            }
            (Effect::Deny, true) => Foreseen::of(
                PolicyOutcome::Passes,
                format!("{}, and would deny (shadow)", verdict.why()),
            ),
        }
    }
}

#[cfg(test)]
mod tests;
