//! A CEL expression over a message, with its bounds.

use std::sync::{Arc, LazyLock};

use cel::{
    Context, Env, Program, Value,
    common::ast::{EntryExpr, Expr, IdedExpr},
    objects::{Key, Map},
};
use weft_kernel::{Error, Reason, Result};

use super::{EXPRESSION_BYTES_MAX, Judged, types};
use crate::message::{Item, Message, Value as Attribute};

/// The deepest nesting of an expression.
const DEPTH_MAX: usize = 32;
/// The largest body that is parsed for an expression, in bytes.
const BODY_BYTES_MAX: usize = 1 << 20;

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// A compiled expression.
pub(super) struct Expression {
    program: Program,
    /// Whether it names `data`, `headers`.
    data: bool,
    headers: bool,
}

impl std::fmt::Debug for Expression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Expression").field("data", &self.data).finish_non_exhaustive()
    }
}

fn refuse(why: String) -> Error {
    Error::new(Reason::MalformedRequest, why)
}

impl Expression {
    /// Compiles an expression; one that was declared before may fail on every message still, which is
    /// counted then.
    pub(super) fn compile(text: &str, declared: bool) -> Result<Self> {
        if text.len() > EXPRESSION_BYTES_MAX {
            return Err(refuse("filter: an expression has at most 4 KiB".into()));
        }
        if depth(text) > DEPTH_MAX {
            return Err(refuse("filter: the expression is nested deeper than 32".into()));
        }
        let program = ENV
            .compile(text)
            .map_err(|error| refuse(format!("filter: the expression is not CEL: {error}")))?;
        check(program.expression(), 0, false).map_err(|why| refuse(format!("filter: {why}")))?;
        let (data, headers) = {
            let references = program.references();
            if let Some(name) = references
                .variables()
                .into_iter()
                .find(|name| !["event", "headers", "data"].contains(name) && !name.starts_with('@'))
                .filter(|name| !bound(program.expression(), name))
            {
                return Err(refuse(format!(
                    "filter: the expression names `{name}`; there are `event`, `headers` and `data`"
                )));
            }
            (references.has_variable("data"), references.has_variable("headers"))
        };
        if !declared {
            let constants = Context::with_env(Arc::clone(&ENV));
            types::check(program.expression(), &constants)
                .map_err(|why| refuse(format!("filter: {why}")))?;
        }
        Ok(Self { program, data, headers })
    }

    /// What it says of an event.
    pub(super) fn judge(&self, message: &Message) -> Judged {
        let Some(event) = message.event() else { return Judged::Failed };
        let mut context = Context::with_env(Arc::clone(&ENV));
        let mut attributes = std::collections::HashMap::new();
        let mut headers = std::collections::HashMap::new();
        for item in event.items() {
            match item {
                Item::Attribute(name, value) => {
                    attributes.insert(Key::from(name), attribute(value));
                }
                Item::Header(name, value) if self.headers => {
                    headers.insert(Key::from(name.to_ascii_lowercase()), Value::from(value));
                }
                Item::Header(..) | Item::NoData => {}
            }
        }
        attributes.entry(Key::from("specversion")).or_insert_with(|| Value::from("1.0"));
        context.add_variable_from_value("event", map(attributes));
        if self.headers {
            context.add_variable_from_value("headers", map(headers));
        }
        if self.data {
            let body = message.body();
            if body.len() > BODY_BYTES_MAX {
                return Judged::Failed;
            }
            let data = serde_json::from_slice(&body).map_or(Value::Null, json);
            context.add_variable_from_value("data", data);
        }
        match self.program.execute(&context) {
            Ok(Value::Bool(true)) => Judged::Takes,
            Ok(Value::Bool(false)) => Judged::Passes,
            Ok(_) | Err(_) => Judged::Failed,
        }
    }
}

fn map(entries: std::collections::HashMap<Key, Value>) -> Value {
    Value::Map(Map { map: Arc::new(entries) })
}

fn attribute(value: Attribute<'_>) -> Value {
    match value {
        Attribute::Integer(number) => Value::Int(i64::from(number)),
        Attribute::Boolean(truth) => Value::Bool(truth),
        Attribute::Binary(bytes) => Value::Bytes(Arc::new(bytes.to_vec())),
        Attribute::Text(text) => Value::from(text),
    }
}

/// JSON as CEL has it: numbers that are whole are integers.
fn json(value: serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(truth) => Value::Bool(truth),
        serde_json::Value::Number(number) => {
            if let Some(whole) = number.as_i64() {
                Value::Int(whole)
            } else if let Some(whole) = number.as_u64() {
                Value::UInt(whole)
            } else {
                Value::Float(number.as_f64().unwrap_or(f64::NAN))
            }
        }
        serde_json::Value::String(text) => Value::String(Arc::new(text)),
        serde_json::Value::Array(items) => {
            Value::List(Arc::new(items.into_iter().map(json).collect()))
        }
        serde_json::Value::Object(fields) => {
            map(fields.into_iter().map(|(name, value)| (Key::from(name), json(value))).collect())
        }
    }
}

/// How deep brackets, and chains of operators that a parser nests, go in a text; an upper bound that is
/// cheap, so that the parser is never asked to recurse further.
fn depth(text: &str) -> usize {
    let (mut open, mut deepest, mut run, mut longest) = (0usize, 0, 0usize, 0);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => {
                open += 1;
                deepest = deepest.max(open);
            }
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        // `!!!!…` and `----…` nest without a bracket.
        run = if matches!(byte, b'!' | b'-') { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    deepest + longest
}

/// Refuses what would make the work grow beyond the size of a message.
fn check(node: &IdedExpr, depth: usize, within: bool) -> Result<(), String> {
    if depth > 128 {
        return Err("the expression is nested too deep".into());
    }
    let all = |nodes: &[&IdedExpr], within: bool| {
        nodes.iter().try_for_each(|node| check(node, depth + 1, within))
    };
    match &node.expr {
        Expr::Comprehension(inner) => {
            if within {
                return Err("an all, exists, map or filter may not stand within another".into());
            }
            all(&[&inner.iter_range, &inner.accu_init], false)?;
            all(&[&inner.loop_cond, &inner.loop_step, &inner.result], true)
        }
        Expr::Call(call) => {
            if let Some(target) = &call.target {
                all(&[target], within)?;
            }
            all(&call.args.iter().collect::<Vec<_>>(), within)
        }
        Expr::List(list) => all(&list.elements.iter().collect::<Vec<_>>(), within),
        Expr::Select(select) => all(&[&select.operand], within),
        Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
            EntryExpr::MapEntry(entry) => {
                check(&entry.key, depth + 1, within)?;
                check(&entry.value, depth + 1, within)
            }
            EntryExpr::StructField(field) => check(&field.value, depth + 1, within),
        }),
        Expr::Struct(_) => Err("an expression builds no objects".into()),
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => Ok(()),
    }
}

/// Whether a comprehension of the expression binds a name.
fn bound(node: &IdedExpr, name: &str) -> bool {
    match &node.expr {
        Expr::Comprehension(inner) => {
            inner.iter_var == name
                || inner.iter_var2.as_deref() == Some(name)
                || inner.accu_var == name
                || bound(&inner.iter_range, name)
                || bound(&inner.loop_step, name)
                || bound(&inner.loop_cond, name)
                || bound(&inner.result, name)
        }
        Expr::Call(call) => {
            call.target.as_ref().is_some_and(|target| bound(target, name))
                || call.args.iter().any(|argument| bound(argument, name))
        }
        Expr::List(list) => list.elements.iter().any(|element| bound(element, name)),
        Expr::Select(select) => bound(&select.operand, name),
        _ => false,
    }
}
