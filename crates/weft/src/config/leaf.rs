//! The plain types of settings: each says its shape for schema and reference, and reads a node or tells
//! what is wrong with it.

mod file;
mod list;
mod map;
mod number;
mod quantity;
mod switch;

pub use file::{FilePath, InputFile, Secret};
pub use list::{Many, Some1};
pub use map::{Named, Pairs};
pub use number::{Count, Factor, Fraction, Int, Number, Port, Share};
pub use quantity::Span;
pub use switch::{Switch, is_off};

use weft_kernel::Name;

use super::{
    problem::Problem,
    setting::{Cx, Setting, Shape},
    tree::Node,
};

impl Setting for Name {
    fn shape() -> Shape {
        Shape::Text { what: "name", pattern: Some(r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$") }
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let text = cx.text(node, "a name")?;
        Self::new(text)
            .map_err(|error| cx.report(Problem::error(node.place, error.to_string())))
            .ok()
    }
}

impl Setting for String {
    fn shape() -> Shape {
        Shape::Text { what: "text", pattern: None }
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        cx.text(node, "text").map(Into::into)
    }
}

/// A section that a later policy replaces as a whole, since its keys exclude each other.
#[derive(Clone, Debug, PartialEq)]
pub struct Whole<T>(pub T);

impl<T: Setting> Setting for Whole<T> {
    fn shape() -> Shape {
        Shape::Either(vec![T::shape()])
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        T::read(node, cx).map(Self)
    }
}
