//! What types the parts of an expression have, as far as that can be known before there is a message.
//!
//! An expression that can only fail is refused when it is declared: it would take nothing, and nobody
//! would be told. What depends on the message (fields of `data`, attributes that are extensions) is of
//! any type, and goes with everything. A part without names is worked out at once, which finds regular
//! expressions that are none, numbers out of range and the like.

use cel::{
    Context, Program, Value,
    common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue},
};

/// A type, or any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Any,
    Bool,
    Int,
    Uint,
    Double,
    Text,
    Bytes,
    Null,
    List,
    Map,
    Kind,
    Optional,
    /// The attributes of the event.
    Event,
    /// Its headers.
    Headers,
}

use Type::{Any, Bool, Bytes, Double, Event, Headers, Int, List, Map, Null, Optional, Text, Uint};

impl Type {
    const fn word(self) -> &'static str {
        match self {
            Any => "any",
            Bool => "bool",
            Int => "int",
            Uint => "uint",
            Double => "double",
            Text => "string",
            Bytes => "bytes",
            Null => "null",
            List => "list",
            Map | Event | Headers => "map",
            Self::Kind => "type",
            Optional => "optional",
        }
    }

    const fn is_number(self) -> bool {
        matches!(self, Int | Uint | Double)
    }

    const fn is_map(self) -> bool {
        matches!(self, Map | Event | Headers)
    }

    /// Whether a value of one type may be a value of the other.
    fn fits(self, other: Self) -> bool {
        self == other || self == Any || other == Any || (self.is_map() && other.is_map())
    }
}

/// Attributes that every event may have, all of them texts.
const ATTRIBUTES: [&str; 8] =
    ["id", "source", "type", "specversion", "subject", "time", "datacontenttype", "dataschema"];

/// A function: its name, whether it is called on its first argument, what it takes, and what it gives.
struct Function(&'static str, bool, &'static [&'static [Type]], Type);

const SIZED: &[Type] = &[Text, Bytes, List, Map, Event, Headers];
const NUMBERS: &[Type] = &[Int, Uint, Double, Text];
const ONE_TEXT: &[Type] = &[Text];

const FUNCTIONS: [Function; 22] = [
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
    Function("type", false, &[&[]], Type::Kind),
    Function("hasValue", true, &[&[Optional]], Bool),
    Function("value", true, &[&[Optional]], Any),
    Function("or", true, &[&[Optional], &[Optional]], Optional),
    Function("orValue", true, &[&[Optional], &[]], Any),
    Function("optional.none", false, &[], Optional),
    Function("optional.of", false, &[&[]], Optional),
    Function("optional.ofNonZeroValue", false, &[&[]], Optional),
];

/// Checks an expression whole.
///
/// # Errors
/// What is wrong with it, in a sentence.
pub(super) fn check(expression: &IdedExpr, constants: &Context<'_, '_>) -> Result<(), String> {
    match (Checker { constants, scope: Vec::new() }).of(expression)? {
        Bool | Any => Ok(()),
        other => {
            Err(format!("the expression is true or false, and this one is a {}", other.word()))
        }
    }
}

struct Checker<'a> {
    constants: &'a Context<'a, 'a>,
    /// The names that comprehensions bind, the innermost last.
    scope: Vec<(String, Type)>,
}

impl Checker<'_> {
    fn of(&mut self, node: &IdedExpr) -> Result<Type, String> {
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
            && let Err(error) = Value::resolve(node, self.constants)
        {
            return Err(format!("a part of the expression always fails: {error}"));
        }
        Ok(found)
    }

    fn of_name(&self, name: &str) -> Type {
        let bound = self.scope.iter().rev().find(|(bound, _)| bound == name);
        match (bound, name) {
            (Some((_, bound)), _) => *bound,
            (None, "event") => Event,
            (None, "headers") => Headers,
            (None, _) => Any,
        }
    }

    fn of_comprehension(&mut self, inner: &ComprehensionExpr) -> Result<Type, String> {
        let range = self.of(&inner.iter_range)?;
        if !(range.fits(List) || range.is_map()) {
            return Err(format!("a {} has no elements to go through", range.word()));
        }
        let accumulated = self.of(&inner.accu_init)?;
        let outside = self.scope.len();
        self.scope.push((inner.accu_var.clone(), accumulated));
        for name in std::iter::once(&inner.iter_var).chain(&inner.iter_var2) {
            self.scope.push((name.clone(), Any));
        }
        let condition = self.of(&inner.loop_cond)?;
        let step = self.of(&inner.loop_step)?;
        self.scope.truncate(outside);
        if !condition.fits(Bool) || !step.fits(accumulated) {
            return Err(format!("what is asked of each element is a {}, not a bool", step.word()));
        }
        self.scope.push((inner.accu_var.clone(), accumulated));
        let result = self.of(&inner.result);
        self.scope.truncate(outside);
        result
    }

    fn of_call(&mut self, call: &CallExpr) -> Result<Type, String> {
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
            && let (Some(of @ (Event | Headers)), Some(key)) = (given.first(), call.args.get(1))
            && let Expr::Literal(LiteralValue::String(key)) = &key.expr
        {
            return of_member(*of, key.inner());
        }
        // A pattern that is written out is tried, whatever text it will be held against.
        if name == "matches"
            && let Some(pattern) = call.args.last().filter(|pattern| is_constant(pattern))
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

    fn is_pattern(&self, pattern: &IdedExpr) -> Result<(), String> {
        let Ok(Value::String(text)) = Value::resolve(pattern, self.constants) else {
            return Ok(());
        };
        let tried = Program::compile("''.matches(pattern)").map_err(|error| error.to_string())?;
        let mut context = self.constants.new_inner_scope();
        context.add_variable_from_value("pattern", Value::String(text.clone()));
        match tried.execute(&context) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("`{text}` is not a regular expression: {error}")),
        }
    }

    fn all(&mut self, nodes: &[IdedExpr]) -> Result<Vec<Type>, String> {
        nodes.iter().map(|node| self.of(node)).collect()
    }
}

const fn of_literal(literal: &LiteralValue) -> Type {
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
fn of_member(of: Type, field: &str) -> Result<Type, String> {
    match of {
        Event if ATTRIBUTES.contains(&field) => Ok(Text),
        Event if field == "data" => Err("the body is `data`, not `event.data`".into()),
        Event
            if field.is_empty()
                || !field
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) =>
        {
            Err(format!(
                "no event has an attribute `{field}`: their names are lower-case letters and digits"
            ))
        }
        Headers if field.bytes().any(|byte| byte.is_ascii_uppercase()) => {
            Err(format!("headers have their names in lower case: `{}`", field.to_ascii_lowercase()))
        }
        Headers => Ok(Text),
        Any | Map | Event | Optional => Ok(Any),
        other => Err(format!("a {} has no field `{field}`", other.word())),
    }
}

/// What an operator gives; `None` if it is none.
fn of_operator(name: &str, given: &[Type]) -> Result<Option<Type>, String> {
    let sign = name.trim_matches(['_', '@']);
    let wrong = || {
        let types: Vec<&str> = given.iter().map(|one| one.word()).collect();
        Err(format!("`{sign}` does not go with {}", types.join(" and ")))
    };
    let all = |wanted: fn(Type) -> bool| given.iter().all(|one| *one == Any || wanted(*one));
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
        ("_==_" | "_!=_", [one, other]) => {
            let null = *one == Null || *other == Null;
            if !(one.fits(*other) || null || (one.is_number() && other.is_number())) {
                return wrong();
            }
            Bool
        }
        ("_<_" | "_<=_" | "_>_" | "_>=_", [one, other]) => {
            let same = one.fits(*other) && all(|one| matches!(one, Text | Bytes | Bool));
            if !(same || all(Type::is_number)) {
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
            let numbers = all(Type::is_number) && (name != "_%_" || all(|one| one != Double));
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
                Event | Headers => all_of(*index, &[Text]),
                Map => all_of(*index, &[Text, Int, Uint, Bool, Double]),
                _ => false,
            };
            if !fits {
                return wrong();
            }
            if *of == Headers { Text } else { Any }
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

fn all_of(given: Type, wanted: &[Type]) -> bool {
    given == Any || wanted.contains(&given)
}

/// What a function gives.
fn of_function(name: &str, member: bool, given: &[Type]) -> Result<Type, String> {
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

/// Whether a part depends on no name, so that it is the same for every message.
fn is_constant(node: &IdedExpr) -> bool {
    match &node.expr {
        Expr::Literal(_) => true,
        Expr::Call(call) => {
            call.target.as_ref().is_none_or(|target| is_constant(target))
                && call.args.iter().all(is_constant)
        }
        Expr::List(list) => list.elements.iter().all(is_constant),
        _ => false,
    }
}
