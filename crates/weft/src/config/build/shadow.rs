//! Routes that can never win, because others take every request that they match.

use weft_proxy::plan;

use crate::config::{
    problem::{Problem, Severity},
    sections::{Policy, Route},
    setting::Cx,
};

pub(super) fn check(sections: &[(Route, Policy)], routes: &[plan::Route], cx: &mut Cx) {
    // With a route missing, positions would not agree; the error that removed it is told instead.
    let broken = cx.problems.iter().any(|problem| problem.severity == Severity::Error);
    if broken || sections.len() != routes.len() {
        return;
    }
    for (loser, winner) in weft_proxy::router::shadowed(routes) {
        let (Some((loser, _)), Some((winner, _))) = (sections.get(loser), sections.get(winner))
        else {
            continue;
        };
        cx.report(
            Problem::error(
                loser.name.place,
                format!(
                    "the route `{}` can never win: `{}` takes all of its requests",
                    loser.name.value, winner.name.value
                ),
            )
            .and(winner.name.place, "this one wins")
            .help("make its match narrower, or remove it"),
        );
    }
}
