//! Durations and sizes, which are written with their units.

use std::time::Duration;

use weft_kernel::{ByteSize, parse_duration};

use crate::config::{
    problem::Problem,
    setting::{Cx, Setting, Shape},
    tree::Node,
};

const DURATION: Option<&str> = Some(r"^(0|([0-9.]+(ns|us|ms|s|m|h|d))+)$");

impl Setting for Duration {
    fn shape() -> Shape {
        Shape::Text { what: "duration", pattern: DURATION }
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let text = cx.text(node, "a duration such as 250ms")?;
        parse_duration(text)
            .map_err(|error| cx.report(Problem::error(node.place, error.to_string())))
            .ok()
    }
}

/// A duration of which zero makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl Setting for Span {
    fn shape() -> Shape {
        Duration::shape()
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let span = Duration::read(node, cx)?;
        if span.is_zero() {
            cx.report(Problem::error(node.place, "this duration must be longer than nothing"));
            return None;
        }
        Some(Self(span))
    }
}

impl Setting for ByteSize {
    fn shape() -> Shape {
        Shape::Text { what: "size", pattern: Some(r"^[0-9.]+ ?([KMGT]i?B|kB|B)?$") }
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let text = cx.text(node, "a size such as 64KiB")?;
        text.parse()
            .map_err(|error: weft_kernel::units::ParseUnitError| {
                cx.report(Problem::error(node.place, error.to_string()));
            })
            .ok()
    }
}
