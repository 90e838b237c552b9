//! What the value of a header field or a query parameter must be.

use weft_proxy::plan;

use super::Pattern;
use crate::config::{
    problem::Problem,
    setting::{Cx, Setting, Shape, settings},
    tree::{Kind, Node, Text},
};

settings! {
    /// What the value of a field must be.
    pub struct FieldForms = "field" {
        /// Exactly this.
        exact: Option<String>,
        /// It begins with this.
        prefix: Option<String>,
        /// A regular expression that the whole value must fit.
        regex: Option<Pattern>,
        /// `true`: there, with any value; `false`: not there.
        present: Option<bool>,
        /// Turns the condition round.
        not: bool = "false",
    }
}

/// What a value must be: `text` is that text, `*` any, `~…` an expression; a map says more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldMatch {
    /// The condition.
    pub value: plan::FieldValue,
    /// Whether it is turned round.
    pub invert: bool,
}

impl Setting for FieldMatch {
    fn shape() -> Shape {
        Shape::Either(vec![Shape::Text { what: "value", pattern: None }, FieldForms::shape()])
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        if matches!(node.kind, Kind::Map(_)) {
            let forms = FieldForms::read(node, cx)?;
            let not = forms.not;
            let mut said = Vec::new();
            said.extend(forms.exact.map(|text| (plan::FieldValue::Exact(text), false)));
            said.extend(forms.prefix.map(|text| (plan::FieldValue::Prefix(text), false)));
            said.extend(forms.regex.map(|text| (plan::FieldValue::Regex(text.0), false)));
            said.extend(forms.present.map(|there| (plan::FieldValue::Present, !there)));
            if let (Some((value, invert)), 0) = (said.pop(), said.len()) {
                return Some(Self { value, invert: invert != not });
            }
            cx.report(Problem::error(
                node.place,
                "exactly one of exact, prefix, regex, present must be said",
            ));
            return None;
        }
        let text = cx.text(node, "a value")?;
        let value = if text == "*" {
            plan::FieldValue::Present
        } else if let Some(regex) = text.strip_prefix('~') {
            let text = Text::new(regex);
            plan::FieldValue::Regex(
                Pattern::read(&Node { place: node.place, kind: Kind::Text(text) }, cx)?.0,
            )
        } else {
            plan::FieldValue::Exact(text.to_owned())
        };
        Some(Self { value, invert: false })
    }
}
