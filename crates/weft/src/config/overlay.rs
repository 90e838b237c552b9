//! One policy over another: sections merge key by key, everything else is replaced.
//!
//! It works on nodes, so that each value keeps the place that it came from.

use super::{
    leaf::is_off,
    setting::{Field, Shape, Table, unfold},
    tree::{Kind, Node},
};

/// `over` on top of `base`, both of the section `table`; keys that it does not have are dropped.
pub fn overlay(base: &Node, over: &Node, table: &'static Table) -> Node {
    let mut entries: Vec<_> = base
        .entries()
        .iter()
        .filter(|(key, _)| table.field(&key.text).is_some())
        .cloned()
        .collect();
    for (key, value) in over.entries() {
        let Some(field) = table.field(&key.text) else { continue };
        match entries.iter_mut().find(|(other, _)| other.text == key.text) {
            Some((_, below)) => *below = merge(below, value, field),
            None => entries.push((key.clone(), value.clone())),
        }
    }
    Node { place: over.place, kind: Kind::Map(entries) }
}

fn merge(base: &Node, over: &Node, field: &Field) -> Node {
    let shape = (field.shape)();
    let shape = match shape {
        Shape::Switch(inner) if !is_off(base) && !is_off(over) => *inner,
        other => other,
    };
    match shape {
        Shape::Section(table) => {
            let unfolded = |node: &Node| match node.kind {
                Kind::Map(_) => Some(node.clone()),
                _ => unfold(node, table),
            };
            match (unfolded(base), unfolded(over)) {
                (Some(base), Some(over)) => overlay(&base, &over, table),
                _ => over.clone(),
            }
        }
        Shape::Map { .. } => match (&base.kind, &over.kind) {
            (Kind::Map(below), Kind::Map(above)) => {
                let mut entries: Vec<_> = below
                    .iter()
                    .filter(|(key, _)| above.iter().all(|(other, _)| other.text != key.text))
                    .cloned()
                    .collect();
                entries.extend(above.iter().cloned());
                Node { place: over.place, kind: Kind::Map(entries) }
            }
            _ => over.clone(),
        },
        _ => over.clone(),
    }
}
