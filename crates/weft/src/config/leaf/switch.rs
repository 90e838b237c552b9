//! What is true or false, what may be left out, and what may be turned off.

use crate::config::{
    problem::Problem,
    setting::{Absent, Cx, Setting, Shape},
    tree::{Kind, Node},
};

impl Setting for bool {
    fn shape() -> Shape {
        Shape::Bool
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        match cx.text(node, "true or false")? {
            "true" | "True" | "TRUE" => Some(true),
            "false" | "False" | "FALSE" => Some(false),
            text => {
                let problem =
                    Problem::error(node.place, format!("expected true or false, found `{text}`"));
                cx.report(match text {
                    "yes" | "on" | "y" | "1" => problem.help("write `true`"),
                    "no" | "off" | "n" | "0" => problem.help("write `false`"),
                    _ => problem,
                });
                None
            }
        }
    }
}

impl<T: Setting> Setting for Option<T> {
    const ABSENT: Absent = Absent::Unset;

    fn shape() -> Shape {
        T::shape()
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        if matches!(node.kind, Kind::Null) { Some(None) } else { T::read(node, cx).map(Some) }
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

/// Something that can be turned off with the word `off`.
#[derive(Clone, Debug, PartialEq)]
pub enum Switch<T> {
    /// It is not done.
    Off,
    /// It is done so.
    On(T),
}

impl<T> Switch<T> {
    /// How it is done, unless it is off.
    pub fn on(&self) -> Option<&T> {
        match self {
            Self::On(value) => Some(value),
            Self::Off => None,
        }
    }
}

/// Whether a node turns something off.
pub fn is_off(node: &Node) -> bool {
    matches!(node.text(), Some("off" | "false" | "Off" | "OFF"))
}

impl<T: Setting> Setting for Switch<T> {
    const ABSENT: Absent = T::ABSENT;

    fn shape() -> Shape {
        Shape::Switch(Box::new(T::shape()))
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        if is_off(node) {
            return Some(Self::Off);
        }
        // `on`, with every default, where there is one for everything.
        if matches!(node.text(), Some("on" | "true"))
            && let Some(value) = T::absent()
        {
            return Some(Self::On(value));
        }
        T::read(node, cx).map(Self::On)
    }

    fn absent() -> Option<Self> {
        T::absent().map(Self::On)
    }
}
