//! Maps whose keys are the user's: names, or texts of some type.

use std::sync::Arc;

use weft_kernel::Name;

use crate::config::{
    problem::Problem,
    setting::{Absent, At, Cx, Setting, Shape},
    tree::{Kind, Node, Text},
};

/// Things by the names that the user gives them, in the order of the file.
#[derive(Clone, Debug)]
pub struct Named<T>(pub Vec<(At<Name>, T)>);

impl<T: Setting> Setting for Named<T> {
    const ABSENT: Absent = Absent::Empty;

    fn shape() -> Shape {
        Shape::Map { key: "name", value: Box::new(T::shape()) }
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        Self::read_by(node, cx, T::read)
    }

    fn absent() -> Option<Self> {
        Some(Self(Vec::new()))
    }
}

impl<T> Named<T> {
    /// Reads things of which each is read so.
    pub(in crate::config) fn read_by(
        node: &Node,
        cx: &mut Cx,
        read: impl Fn(&Node, &mut Cx) -> Option<T>,
    ) -> Option<Self> {
        match &node.kind {
            Kind::Map(entries) => {
                let mut values = Vec::with_capacity(entries.len());
                for (key, value) in entries {
                    let name = Name::new(&key.text)
                        .map_err(|error| cx.report(Problem::error(key.place, error.to_string())));
                    // Without a body, the reader of the value says what is missing, at the name.
                    let bare = Node { place: key.place, kind: Kind::Map(Vec::new()) };
                    let body = if matches!(value.kind, Kind::Null) { &bare } else { value };
                    if let (Ok(name), Some(value)) = (name, read(body, cx)) {
                        values.push((At { value: name, place: key.place }, value));
                    }
                }
                Some(Self(values))
            }
            Kind::Null => Some(Self(Vec::new())),
            _ => {
                cx.expected(node, "a map by name");
                None
            }
        }
    }
}

/// A map from texts of the user's choice.
#[derive(Clone, Debug, PartialEq)]
pub struct Pairs<K, V>(pub Vec<(K, V)>);

impl<K: Setting, V: Setting> Setting for Pairs<K, V> {
    const ABSENT: Absent = Absent::Empty;

    fn shape() -> Shape {
        let key = match K::shape() {
            Shape::Text { what, .. } => what,
            _ => "text",
        };
        Shape::Map { key, value: Box::new(V::shape()) }
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        match &node.kind {
            Kind::Map(entries) => {
                let mut all = true;
                let mut values = Vec::with_capacity(entries.len());
                for (key, value) in entries {
                    let text = Text::new(Arc::clone(&key.text));
                    let key = K::read(&Node { place: key.place, kind: Kind::Text(text) }, cx);
                    match (key, V::read(value, cx)) {
                        (Some(key), Some(value)) => values.push((key, value)),
                        _ => all = false,
                    }
                }
                all.then_some(Self(values))
            }
            Kind::Null => Some(Self(Vec::new())),
            _ => {
                cx.expected(node, "a map");
                None
            }
        }
    }

    fn absent() -> Option<Self> {
        Some(Self(Vec::new()))
    }
}
