//! The functions that expressions may call: CEL's own, `matches` with bounds, and networks.

use std::{
    any::Any,
    cell::Cell,
    fmt,
    net::IpAddr,
    sync::{Arc, LazyLock},
};

use cel::{
    Env, ExecutionError,
    common::{
        types::{CelBool, CelInt, CelString, DYN_TYPE, INT_TYPE, STRING_TYPE, Type},
        value::{CowVal, StaticVal, Val},
    },
};
use ipnet::IpNet;
use regex::{Regex, RegexBuilder};

/// Function around what a loop goes through: takes its cost from the budget.
pub(crate) const CHARGE: &str = "@charge";
/// The largest program that a regular expression is compiled to, in bytes.
const REGEX_BYTES_MAX: usize = 256 << 10;

/// What a node of a loop's body costs.
const NODE: u64 = 4;

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(env()));

thread_local! {
    /// What the evaluation that is under way may still cost: functions of `cel` have no other way to it.
    static BUDGET: Cell<u64> = const { Cell::new(0) };
}

pub(crate) fn environment() -> Arc<Env> {
    Arc::clone(&ENV)
}

/// Begins an evaluation, which may cost this much.
pub(crate) fn budget(units: u64) {
    BUDGET.set(units);
}

/// Takes from the budget; `None` if it is not enough.
pub(crate) fn pay(units: u64) -> Option<()> {
    let left = BUDGET.get().checked_sub(units);
    BUDGET.set(left.unwrap_or(0));
    left.map(|_| ())
}

fn env() -> Env {
    let mut env = Env::stdlib();
    let declared = [
        env.add_overload(CHARGE, "charge", vec![DYN_TYPE, INT_TYPE], charge),
        env.add_overload("matches", "matches", vec![STRING_TYPE, PATTERN.to_owned()], matches),
        env.add_member_overload("matches", "of", STRING_TYPE, vec![PATTERN.to_owned()], matches),
        env.add_overload("matches", "written", vec![STRING_TYPE, STRING_TYPE], matches_text),
        env.add_member_overload("matches", "of_w", STRING_TYPE, vec![STRING_TYPE], matches_text),
        env.add_overload("cidr", "cidr", vec![STRING_TYPE], cidr),
        env.add_member_overload(
            "containsIP",
            "ip",
            NETWORK.to_owned(),
            vec![STRING_TYPE],
            contains,
        ),
    ];
    debug_assert!(declared.iter().all(Result::is_ok), "{declared:?}");
    env
}

type Given<'b, 'v> = Vec<CowVal<'b, 'v>>;
type Gives<'b, 'v> = Result<CowVal<'b, 'v>, ExecutionError>;

fn charge<'b, 'v>(mut given: Given<'b, 'v>) -> Gives<'b, 'v> {
    let nodes = given.pop().and_then(|nodes| nodes.downcast_ref::<CelInt>().map(|of| *of.inner()));
    let range = given.pop().ok_or(ExecutionError::MissingArgumentOrTarget)?;
    let turns = range.as_sizer().map_or(0, |sizer| *sizer.size().inner());
    let (turns, nodes) = (u64::try_from(turns), u64::try_from(nodes.unwrap_or(0)));
    let units = turns.unwrap_or(0).saturating_mul(nodes.unwrap_or(0)).saturating_mul(NODE);
    pay(units).map(|()| range).ok_or_else(too_long)
}

/// That the budget is spent.
pub(crate) fn too_long() -> ExecutionError {
    ExecutionError::function_error(CHARGE, "it would take too long")
}

fn text<'c>(of: Option<&'c CowVal<'_, '_>>) -> Result<&'c str, ExecutionError> {
    let text = of.and_then(|of| of.downcast_ref::<CelString<'_>>());
    text.map(CelString::inner).ok_or(ExecutionError::MissingArgumentOrTarget)
}

fn matches<'b, 'v>(given: Given<'b, 'v>) -> Gives<'b, 'v> {
    let pattern = given.get(1).and_then(|of| of.downcast_ref::<Pattern>());
    let pattern = pattern.ok_or(ExecutionError::MissingArgumentOrTarget)?;
    Ok(CowVal::owned(CelBool::from(pattern.0.is_match(text(given.first())?))))
}

/// For what was declared before patterns had to be written out; all others are compiled once.
fn matches_text<'b, 'v>(given: Given<'b, 'v>) -> Gives<'b, 'v> {
    let regex = regex(text(given.get(1))?);
    let regex = regex.map_err(|error| ExecutionError::function_error("matches", error))?;
    Ok(CowVal::owned(CelBool::from(regex.is_match(text(given.first())?))))
}

fn cidr<'b, 'v>(given: Given<'b, 'v>) -> Gives<'b, 'v> {
    let text = text(given.first())?;
    let network = network(text).ok_or_else(|| {
        ExecutionError::function_error("cidr", "expected a network such as 10.0.0.0/8")
    })?;
    Ok(CowVal::owned(Network(network)))
}

/// A network, or the one of a single address; IPv4 within IPv6 is IPv4.
fn network(text: &str) -> Option<IpNet> {
    match text.parse::<IpNet>() {
        Ok(network) => Some(network.trunc()),
        Err(_) => text.parse::<IpAddr>().ok().map(|address| IpNet::from(address.to_canonical())),
    }
}

fn contains<'b, 'v>(given: Given<'b, 'v>) -> Gives<'b, 'v> {
    let network = given.first().and_then(|of| of.downcast_ref::<Network>());
    let network = network.ok_or(ExecutionError::MissingArgumentOrTarget)?;
    let address = text(given.get(1))?.parse::<IpAddr>();
    let is_in = address.is_ok_and(|address| network.0.contains(&address.to_canonical()));
    Ok(CowVal::owned(CelBool::from(is_in)))
}

/// A regular expression with bounds.
pub(crate) fn regex(text: &str) -> Result<Regex, regex::Error> {
    let mut builder = RegexBuilder::new(text);
    builder.size_limit(REGEX_BYTES_MAX).dfa_size_limit(REGEX_BYTES_MAX).nest_limit(64).build()
}

static PATTERN: Type = Type::new_unspecified_type("pattern");
static NETWORK: Type = Type::new_unspecified_type("network");

/// A regular expression that is compiled.
#[derive(Clone)]
pub(crate) struct Pattern(pub(crate) Regex);

/// An IP network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Network(IpNet);

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pattern").field(&self.0.as_str()).finish()
    }
}

impl Val for Pattern {
    fn get_type(&self) -> &Type {
        &PATTERN
    }

    fn cel_type() -> &'static Type {
        &PATTERN
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for Pattern {}

impl Val for Network {
    fn get_type(&self) -> &Type {
        &NETWORK
    }

    fn cel_type() -> &'static Type {
        &NETWORK
    }

    fn equals(&self, other: &dyn Val) -> bool {
        other.downcast_ref::<Self>().is_some_and(|other| other.0 == self.0)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(*self)
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for Network {}
