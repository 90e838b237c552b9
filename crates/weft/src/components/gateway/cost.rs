//! Costs of requests as they are written: a number of units, or an expression.

use weft_gateway::cost::{Cost, Formula, UNITS_MAX};

use crate::config::{
    problem::Problem,
    setting::{Cx, Setting, Shape},
    tree::Node,
};

/// What a request costs when it comes.
#[derive(Clone, Debug)]
pub struct CostText(Cost);

impl CostText {
    /// What it comes to.
    pub const fn cost(&self) -> &Cost {
        &self.0
    }

    /// Whether every request costs more than so many units.
    pub const fn is_beyond(&self, units: u64) -> bool {
        matches!(self.0, Cost::Units(cost) if cost > units)
    }
}

impl Setting for CostText {
    fn shape() -> Shape {
        let number = Shape::Int { min: 1, max: UNITS_MAX };
        Shape::Either(vec![number, Shape::Text { what: "CEL expression", pattern: None }])
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let what = "a whole number of units, at least 1, or a CEL expression over the request";
        let text = cx.text(node, what)?;
        let number = text.replace('_', "");
        if number.parse::<f64>().is_ok() {
            let units = number.parse().ok().filter(|units| (1..=UNITS_MAX).contains(units));
            if units.is_none() {
                cx.expected(node, what);
            }
            return units.map(|units| Self(Cost::Units(units)));
        }
        let formula = compiled(Formula::cost(text), node, cx)?;
        Some(Self(Cost::Formula(formula)))
    }
}

/// What a request has cost when its response has ended.
#[derive(Clone, Debug)]
pub struct ChargeText(Formula);

impl ChargeText {
    /// What it comes to.
    pub const fn formula(&self) -> &Formula {
        &self.0
    }
}

impl Setting for ChargeText {
    fn shape() -> Shape {
        Shape::Text { what: "CEL expression", pattern: None }
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let text = cx.text(node, "a CEL expression over request and response")?;
        compiled(Formula::charge(text), node, cx).map(Self)
    }
}

fn compiled(of: Result<Formula, String>, node: &Node, cx: &mut Cx) -> Option<Formula> {
    of.map_err(|say| cx.report(Problem::error(node.place, say))).ok()
}
