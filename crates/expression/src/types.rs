//! What types the parts of an expression have, as far as that can be known before there are values.
//!
//! An expression that can only fail is refused when it is compiled: it would be true of nothing, and nobody
//! would be told. What depends on what comes (claims, fields of JSON) is of any type, and goes with everything. A
//! part without names is worked out at once, which finds numbers out of range, networks that are none and the like.

use cel::{
    Context, Value,
    common::{
        ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue},
        types::CelString,
        value::CowVal,
    },
};

use crate::{
    bounds::is_constant,
    functions,
    scope::{
        Kind::{
            self, Any, Bool, Bytes, Double, Int, List, Map, Network, Null, Object, Optional, Text,
            Uint,
        },
        Result, Scope, Wanted,
    },
};

/// A function: its name, whether it is called on its first argument, what it takes, and what it gives.
struct Function(&'static str, bool, &'static [&'static [Kind]], Kind);

const SIZED: &[Kind] = &[Text, Bytes, List, Map];
const NUMBERS: &[Kind] = &[Int, Uint, Double, Text];
const ONE_TEXT: &[Kind] = &[Text];

const FUNCTIONS: [Function; 24] = [
    Function("size", false, &[SIZED], Int),
    Function("size", true, &[SIZED], Int),
    Function("contains", true, &[ONE_TEXT, ONE_TEXT], Bool),
    Function("startsWith", true, &[ONE_TEXT, ONE_TEXT], Bool),
    Function("endsWith", true, &[ONE_TEXT, ONE_TEXT], Bool),
    Function("matches", true, &[ONE_TEXT, ONE_TEXT], Bool),
    Function("matches", false, &[ONE_TEXT, ONE_TEXT], Bool),
    Function("string", false, &[&[Text, Bool, Int, Uint, Double, Bytes]], Text),
    Function("bytes", false, &[&[Text, Bytes]], Bytes),
    Function("int", false, &[NUMBERS], Int),
    Function("uint", false, &[NUMBERS], Uint),
    Function("double", false, &[NUMBERS], Double),
    Function("bool", false, &[&[Bool, Text]], Bool),
    Function("dyn", false, &[&[]], Any),
    Function("type", false, &[&[]], Kind::Type),
    Function("hasValue", true, &[&[Optional]], Bool),
    Function("value", true, &[&[Optional]], Any),
    Function("or", true, &[&[Optional], &[Optional]], Optional),
    Function("orValue", true, &[&[Optional], &[]], Any),
    Function("cidr", false, &[ONE_TEXT], Network),
    Function("containsIP", true, &[&[Network], ONE_TEXT], Bool),
    Function("optional.none", false, &[], Optional),
    Function("optional.of", false, &[&[]], Optional),
    Function("optional.ofNonZeroValue", false, &[&[]], Optional),
];

/// Checks an expression whole.
///
/// # Errors
/// What is wrong with it, in a sentence.
pub(crate) fn check(
    expression: &IdedExpr,
    scope: &Scope,
    wanted: Wanted,
    constants: &Context<'_, 'static>,
) -> Result<()> {
    let found = Checker { variables: scope, constants, bound: Vec::new() }.of(expression)?;
    match wanted {
        Wanted::Bool if !matches!(found, Bool | Any) => {
            Err(format!("the expression is true or false, and this one is a {}", found.word()))
        }
        Wanted::Number if !(found.is_number() || found == Any) => {
            Err(format!("the expression is a number, and this one is a {}", found.word()))
        }
        _ => Ok(()),
    }
}

struct Checker<'a> {
    variables: &'a Scope,
    constants: &'a Context<'a, 'static>,
    /// The names that loops bind, the innermost last.
    bound: Vec<(String, Kind)>,
}

impl Checker<'_> {
    fn of(&mut self, node: &IdedExpr) -> Result<Kind> {
        let found = match &node.expr {
            Expr::Literal(literal) => return Ok(of_literal(literal)),
            Expr::Ident(name) => return Ok(self.of_name(name)),
            Expr::Call(call) => self.of_call(call)?,
            Expr::Comprehension(inner) => self.of_comprehension(inner)?,
            Expr::Select(select) => {
                let operand = self.of(&select.operand)?;
                let found = of_member(operand, &select.field)?;
                if select.test { Bool } else { found }
            }
            Expr::List(list) => {
                list.elements.iter().try_for_each(|element| self.of(element).map(|_| ()))?;
                List
            }
            Expr::Map(map) => {
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        let key = self.of(&entry.key)?;
                        if !matches!(key, Any | Text | Int | Uint | Bool) {
                            return Err(format!("a {} is no key of a map", key.word()));
                        }
                        self.of(&entry.value)?;
                    }
                }
                Map
            }
            Expr::Struct(_) | Expr::Unspecified => Any,
        };
        if is_constant(node)
            && let Err(error) = Value::resolve_val(node, self.constants)
        {
            return Err(format!("a part of the expression always fails: {error}"));
        }
        Ok(found)
    }

    fn of_name(&self, name: &str) -> Kind {
        let bound = self.bound.iter().rev().find(|(bound, _)| bound == name);
        match bound {
            Some((_, bound)) => *bound,
            None => self.variables.kind(name).unwrap_or(Any),
        }
    }

    fn of_comprehension(&mut self, inner: &ComprehensionExpr) -> Result<Kind> {
        let range = self.of(&inner.iter_range)?;
        if !(range.fits(List) || range.is_map()) {
            return Err(format!("a {} has no elements to go through", range.word()));
        }
        let accumulated = self.of(&inner.accu_init)?;
        let outside = self.bound.len();
        self.bound.push((inner.accu_var.clone(), accumulated));
        for name in std::iter::once(&inner.iter_var).chain(&inner.iter_var2) {
            self.bound.push((name.clone(), Any));
        }
        let condition = self.of(&inner.loop_cond)?;
        let step = self.of(&inner.loop_step)?;
        self.bound.truncate(outside);
        if !condition.fits(Bool) || !step.fits(accumulated) {
            return Err(format!("what is asked of each element is a {}, not a bool", step.word()));
        }
        self.bound.push((inner.accu_var.clone(), accumulated));
        let result = self.of(&inner.result);
        self.bound.truncate(outside);
        result
    }

    fn of_call(&mut self, call: &CallExpr) -> Result<Kind> {
        let name = call.func_name.as_str();
        // `optional.of(x)` is a function with a dot in its name.
        if let Some(target) = &call.target
            && let Expr::Ident(space) = &target.expr
            && space == "optional"
        {
            let given = self.all(&call.args)?;
            return of_function(&format!("optional.{name}"), false, &given);
        }
        let mut given = Vec::with_capacity(call.args.len() + 1);
        if let Some(target) = &call.target {
            given.push(self.of(target)?);
        }
        given.extend(self.all(&call.args)?);
        if name == "_[_]"
            && let (Some(of @ Object(_)), Some(key)) = (given.first(), call.args.get(1))
            && let Expr::Literal(LiteralValue::String(key)) = &key.expr
        {
            return of_member(*of, key.inner());
        }
        if name == "matches"
            && let Some(pattern) = call.args.last()
        {
            self.is_pattern(pattern)?;
        }
        if call.target.is_none()
            && let Some(found) = of_operator(name, &given)?
        {
            return Ok(found);
        }
        of_function(name, call.target.is_some(), &given)
    }

    /// A pattern must be written out: one that comes with what is looked at could be made to run long, and would be
    /// compiled each time.
    fn is_pattern(&self, pattern: &IdedExpr) -> Result<()> {
        if !is_constant(pattern) {
            return Err("the pattern of `matches` must be written out".into());
        }
        let value = Value::resolve_val(pattern, self.constants).map(CowVal::into_owned);
        let Ok(value) = value else { return Ok(()) };
        let Some(text) = value.downcast_ref::<CelString<'_>>() else { return Ok(()) };
        let text = text.inner();
        let wrong = |error| format!("`{text}` is not a regular expression: {error}");
        functions::regex(text).map(|_| ()).map_err(wrong)
    }

    fn all(&mut self, nodes: &[IdedExpr]) -> Result<Vec<Kind>> {
        nodes.iter().map(|node| self.of(node)).collect()
    }
}

const fn of_literal(literal: &LiteralValue) -> Kind {
    match literal {
        LiteralValue::Boolean(_) => Bool,
        LiteralValue::Bytes(_) => Bytes,
        LiteralValue::Double(_) => Double,
        LiteralValue::Int(_) => Int,
        LiteralValue::Null => Null,
        LiteralValue::String(_) => Text,
        LiteralValue::UInt(_) => Uint,
    }
}

/// What a field of a value is.
fn of_member(of: Kind, field: &str) -> Result<Kind> {
    match of {
        Object(object) => object.field(field),
        Any | Map | Optional => Ok(Any),
        other => Err(format!("a {} has no field `{field}`", other.word())),
    }
}

/// What an operator gives; `None` if it is none.
fn of_operator(name: &str, given: &[Kind]) -> Result<Option<Kind>> {
    let sign = name.trim_matches(['_', '@']);
    let wrong = || {
        let types: Vec<&str> = given.iter().map(|one| one.word()).collect();
        Err(format!("`{sign}` does not go with {}", types.join(" and ")))
    };
    let all = |wanted: fn(Kind) -> bool| given.iter().all(|one| *one == Any || wanted(*one));
    let found = match (name, given) {
        ("_?_:_", [condition, one, other]) => {
            if !condition.fits(Bool) {
                return wrong();
            }
            if one == other { *one } else { Any }
        }
        ("_&&_" | "_||_", [_, _]) | ("!_" | "@not_strictly_false", [_]) => {
            if !all(|one| one == Bool) {
                return wrong();
            }
            Bool
        }
        ("_==_" | "_!=_", [Object(_), _] | [_, Object(_)]) => {
            return Err("fields are compared, and not a variable that has fields".into());
        }
        ("_==_" | "_!=_", [one, other]) => {
            let null = *one == Null || *other == Null;
            if !(one.fits(*other) || null || (one.is_number() && other.is_number())) {
                return wrong();
            }
            Bool
        }
        ("_<_" | "_<=_" | "_>_" | "_>=_", [one, other]) => {
            let same = one.fits(*other) && all(|one| matches!(one, Text | Bytes | Bool));
            if !(same || all(Kind::is_number)) {
                return wrong();
            }
            Bool
        }
        ("_+_", [one, other]) => {
            if !(one.fits(*other)
                && all(|one| matches!(one, Int | Uint | Double | Text | Bytes | List)))
            {
                return wrong();
            }
            if *one == Any { *other } else { *one }
        }
        ("_-_" | "_*_" | "_/_" | "_%_", [one, other]) => {
            let numbers = all(Kind::is_number) && (name != "_%_" || all(|one| one != Double));
            if !(one.fits(*other) && numbers) {
                return wrong();
            }
            if *one == Any { *other } else { *one }
        }
        ("-_", [one]) => {
            if !all(|one| matches!(one, Int | Double)) {
                return wrong();
            }
            *one
        }
        ("_[_]", [of, index]) => {
            let fits = match of {
                Any | Optional => true,
                List => all_of(*index, &[Int, Uint, Double]),
                Object(_) => all_of(*index, &[Text]),
                Map => all_of(*index, &[Text, Int, Uint, Bool, Double]),
                _ => false,
            };
            if !fits {
                return wrong();
            }
            match of {
                Object(object) if object.fields.is_empty() => object.others.unwrap_or(Any),
                _ => Any,
            }
        }
        ("_[?_]" | "_?._", [_, _]) => Optional,
        ("@in", [_, within]) => {
            if !(within.fits(List) || within.is_map()) {
                return wrong();
            }
            Bool
        }
        _ => return Ok(None),
    };
    Ok(Some(found))
}

fn all_of(given: Kind, wanted: &[Kind]) -> bool {
    given == Any || wanted.contains(&given) || (given.is_map() && wanted.contains(&Map))
}

/// What a function gives.
fn of_function(name: &str, member: bool, given: &[Kind]) -> Result<Kind> {
    let named = || FUNCTIONS.iter().filter(|function| function.0 == name);
    if named().next().is_none() {
        return Err(format!("there is no function `{name}`"));
    }
    let fits = |function: &&Function| {
        let Function(_, of_first, takes, _) = function;
        *of_first == member
            && takes.len() == given.len()
            && takes
                .iter()
                .zip(given)
                .all(|(wanted, given)| wanted.is_empty() || all_of(*given, wanted))
    };
    match named().find(fits) {
        Some(function) => Ok(function.3),
        None => {
            let types: Vec<&str> = given.iter().map(|one| one.word()).collect();
            Err(match (member, types.split_first()) {
                (true, Some((of, rest))) => {
                    format!("there is no function `{name}({})` of a {of}", rest.join(", "))
                }
                _ => format!("there is no function `{name}({})`", types.join(", ")),
            })
        }
    }
}
