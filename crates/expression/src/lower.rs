//! From an expression as it was read to one that is worked out: what is always the same is worked out now, and
//! what stands in a loop is paid for.

use cel::{
    Context, Value,
    common::{
        ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue},
        types::{CelInt, CelString},
        value::{CowVal, Val},
    },
};

use crate::{
    bounds::{is_constant, nodes},
    functions::{self, CHARGE, Pattern},
    scope::Scope,
};

/// Makes an expression ready; gives its constants, which it names by their numbers.
pub(crate) fn lower(
    root: &mut IdedExpr,
    scope: &Scope,
    context: &Context<'_, 'static>,
) -> Vec<Box<dyn Val>> {
    let mut lowering = Lowering { scope, context, constants: Vec::new() };
    lowering.node(root, &Place { bound: &[], in_loop: false });
    lowering.constants
}

struct Lowering<'a> {
    scope: &'a Scope,
    context: &'a Context<'a, 'static>,
    constants: Vec<Box<dyn Val>>,
}

/// Where a part stands.
struct Place<'a> {
    /// The names that the loop around it binds.
    bound: &'a [String],
    in_loop: bool,
}

impl Lowering<'_> {
    fn node(&mut self, node: &mut IdedExpr, at: &Place<'_>) {
        let is_plain = matches!(node.expr, Expr::Literal(_));
        if !is_plain && is_constant(node) && self.constant(node) {
            return;
        }
        match &mut node.expr {
            Expr::Ident(name) => {
                if at.in_loop && !at.bound.contains(name) && self.scope.kind(name).is_some() {
                    name.insert(0, '@');
                }
            }
            Expr::Call(call) => self.call(call, at),
            Expr::Comprehension(inner) => self.comprehension(inner, at),
            Expr::List(list) => list.elements.iter_mut().for_each(|of| self.node(of, at)),
            Expr::Select(select) => self.node(&mut select.operand, at),
            Expr::Map(map) => {
                for entry in &mut map.entries {
                    if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                        self.node(&mut entry.key, at);
                        self.node(&mut entry.value, at);
                    }
                }
            }
            Expr::Struct(_) | Expr::Unspecified | Expr::Literal(_) => {}
        }
    }

    /// Puts a constant in the place of what always gives it; not if it fails.
    fn constant(&mut self, node: &mut IdedExpr) -> bool {
        let Ok(value) = Value::resolve_val(node, self.context).map(CowVal::into_owned) else {
            return false;
        };
        self.keep(node, value);
        true
    }

    fn keep(&mut self, node: &mut IdedExpr, value: Box<dyn Val>) {
        node.expr = Expr::Ident(format!("@{}", self.constants.len()));
        self.constants.push(value);
    }

    fn call(&mut self, call: &mut CallExpr, at: &Place<'_>) {
        if call.func_name == "matches"
            && let Some(pattern) = call.args.last_mut()
            && is_constant(pattern)
        {
            let text = Value::resolve_val(pattern, self.context).map(CowVal::into_owned);
            let text = text.ok().and_then(|text| {
                text.downcast_ref::<CelString<'_>>().map(|text| text.inner().to_owned())
            });
            if let Some(regex) = text.and_then(|text| functions::regex(&text).ok()) {
                self.keep(pattern, Box::new(Pattern(regex)));
            }
        }
        if let Some(target) = &mut call.target {
            self.node(target, at);
        }
        // What is appended in a loop stays a list that is written out: `cel` knows that form, and does not copy
        // what was gathered before.
        let appends = call.func_name == "_+_" && at.in_loop;
        for argument in &mut call.args {
            match &mut argument.expr {
                Expr::List(list) if appends => {
                    list.elements.iter_mut().for_each(|of| self.node(of, at));
                }
                _ => self.node(argument, at),
            }
        }
    }

    fn comprehension(&mut self, inner: &mut ComprehensionExpr, at: &Place<'_>) {
        let parts = [&inner.loop_cond, &inner.loop_step, &inner.result];
        let body = parts.into_iter().map(nodes).sum::<u64>();
        self.node(&mut inner.iter_range, at);
        let range = std::mem::take(&mut inner.iter_range);
        let cost = CelInt::from(i64::try_from(body).unwrap_or(i64::MAX));
        let cost = IdedExpr { id: 0, expr: Expr::Literal(LiteralValue::Int(cost)) };
        let args = vec![range, cost];
        let call = CallExpr { func_name: CHARGE.to_owned(), target: None, args };
        inner.iter_range = IdedExpr { id: 0, expr: Expr::Call(call) };
        let mut bound = vec![inner.iter_var.clone(), inner.accu_var.clone()];
        bound.extend(inner.iter_var2.clone());
        let within = Place { bound: &bound, in_loop: true };
        for part in [&mut inner.loop_cond, &mut inner.loop_step, &mut inner.result] {
            self.node(part, &within);
        }
    }
}
