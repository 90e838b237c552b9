//! Routes that can never win, because others take every request that they match.

use weft_proxy::router;

use crate::config::{
    problem::{Problem, Severity},
    routes::Built,
    setting::Cx,
};

pub(super) fn check(built: &[Built], cx: &mut Cx) {
    // A route that could not be built might be the one that wins; its error is told instead.
    if cx.problems.iter().any(|problem| problem.severity == Severity::Error) {
        return;
    }
    let routes: Vec<_> = built.iter().map(|route| &*route.item.plan).collect();
    for (loser, winner) in router::shadowed(&routes) {
        let (Some(loser), Some(winner)) = (built.get(loser), built.get(winner)) else { continue };
        cx.report(
            Problem::error(
                loser.name,
                format!(
                    "the route `{}` can never win: `{}` takes all of its requests",
                    loser.item.plan.name, winner.item.plan.name
                ),
            )
            .and(winner.name, "this one wins")
            .help("make its match narrower, or remove it"),
        );
    }
}
