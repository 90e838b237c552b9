//! Bounds of an expression: nesting, loops, and names that there are.

use cel::common::ast::{EntryExpr, Expr, IdedExpr};

use crate::scope::{Result, Scope};

/// The deepest nesting of a text.
pub(crate) const DEPTH_MAX: usize = 32;

/// How deep brackets, and chains of operators that a parser nests, go in a text; an upper bound that is
/// cheap, so that the parser is never asked to recurse further.
pub(crate) fn depth(text: &str) -> usize {
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

/// Refuses what would make the work grow beyond the size of what is looked at.
pub(crate) fn check(node: &IdedExpr, depth: usize, within: bool) -> Result<()> {
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
        Expr::Unspecified => Err("the expression has a part that says nothing".into()),
        Expr::Ident(_) | Expr::Literal(_) => Ok(()),
    }
}

/// Refuses names that there are not.
pub(crate) fn names(node: &IdedExpr, scope: &Scope) -> Result<()> {
    let references = node.references();
    let unknown = references
        .variables()
        .into_iter()
        .find(|name| scope.kind(name).is_none() && !name.starts_with('@') && !binds(node, name));
    let Some(name) = unknown else { return Ok(()) };
    let near = scope.variables.iter().map(|(known, _)| *known);
    let near = near.min_by_key(|known| strsim::osa_distance(known, name));
    Err(match near.filter(|known| strsim::osa_distance(known, name) <= 2) {
        Some(near) => format!("the expression names `{name}`; did you mean `{near}`?"),
        None => format!("the expression names `{name}`; there are {}", scope.names()),
    })
}

/// Whether a loop of the expression binds a name.
fn binds(node: &IdedExpr, name: &str) -> bool {
    match &node.expr {
        Expr::Comprehension(inner) => {
            inner.iter_var == name
                || inner.iter_var2.as_deref() == Some(name)
                || inner.accu_var == name
                || binds(&inner.iter_range, name)
                || binds(&inner.loop_step, name)
                || binds(&inner.loop_cond, name)
                || binds(&inner.result, name)
        }
        Expr::Call(call) => {
            call.target.as_ref().is_some_and(|target| binds(target, name))
                || call.args.iter().any(|argument| binds(argument, name))
        }
        Expr::List(list) => list.elements.iter().any(|element| binds(element, name)),
        Expr::Select(select) => binds(&select.operand, name),
        _ => false,
    }
}

/// Whether a part depends on no name, so that it is always the same.
pub(crate) fn is_constant(node: &IdedExpr) -> bool {
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

/// How many nodes a part has.
pub(crate) fn nodes(node: &IdedExpr) -> u64 {
    1 + match &node.expr {
        Expr::Comprehension(inner) => {
            let parts = [&inner.iter_range, &inner.loop_cond, &inner.loop_step, &inner.result];
            parts.into_iter().map(nodes).sum()
        }
        Expr::Call(call) => {
            call.target.as_deref().map_or(0, nodes) + call.args.iter().map(nodes).sum::<u64>()
        }
        Expr::List(list) => list.elements.iter().map(nodes).sum(),
        Expr::Select(select) => nodes(&select.operand),
        Expr::Map(map) => map.entries.iter().map(|entry| entry_nodes(&entry.expr)).sum(),
        Expr::Struct(_) | Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => 0,
    }
}

fn entry_nodes(entry: &EntryExpr) -> u64 {
    match entry {
        EntryExpr::MapEntry(entry) => nodes(&entry.key) + nodes(&entry.value),
        EntryExpr::StructField(field) => nodes(&field.value),
    }
}
