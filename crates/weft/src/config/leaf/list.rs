//! Lists, also of a single item without its brackets.

use crate::config::{
    problem::Problem,
    setting::{Absent, Cx, Setting, Shape},
    tree::{Kind, Node},
};

impl<T: Setting> Setting for Vec<T> {
    const ABSENT: Absent = Absent::Empty;

    fn shape() -> Shape {
        Shape::List(Box::new(T::shape()))
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        match &node.kind {
            Kind::List(items) => items_of(items, cx),
            Kind::Null => Some(Self::new()),
            _ => {
                cx.expected(node, "a list");
                None
            }
        }
    }

    fn absent() -> Option<Self> {
        Some(Self::new())
    }
}

/// Reads each item, the rest also when one cannot be.
fn items_of<T: Setting>(items: &[Node], cx: &mut Cx) -> Option<Vec<T>> {
    let mut all = true;
    let mut values = Vec::with_capacity(items.len());
    for item in items {
        match T::read(item, cx) {
            Some(value) => values.push(value),
            None => all = false,
        }
    }
    all.then_some(values)
}

/// A list whose brackets may be left out around a single item.
#[derive(Clone, Debug, PartialEq)]
pub struct Many<T>(pub Vec<T>);

impl<T> std::ops::Deref for Many<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: Setting> Setting for Many<T> {
    const ABSENT: Absent = Absent::Empty;

    fn shape() -> Shape {
        Shape::Many(Box::new(T::shape()))
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        match &node.kind {
            Kind::List(items) => items_of(items, cx).map(Self),
            Kind::Null => Some(Self(Vec::new())),
            _ => T::read(node, cx).map(|value| Self(vec![value])),
        }
    }

    fn absent() -> Option<Self> {
        Some(Self(Vec::new()))
    }
}

/// A list that must hold something; its brackets may be left out around a single item.
#[derive(Clone, Debug, PartialEq)]
pub struct Some1<T>(pub Vec<T>);

impl<T> std::ops::Deref for Some1<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: Setting> Setting for Some1<T> {
    fn shape() -> Shape {
        Shape::Many(Box::new(T::shape()))
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let Many(items) = Many::read(node, cx)?;
        if items.is_empty() {
            cx.report(Problem::error(node.place, "this list is empty"));
            return None;
        }
        Some(Self(items))
    }
}
