//! Whether browsers that come back from a login find somebody who takes them in.

use weft_gateway::{AUTHENTICATION, Authentication, authentication::Scheme, login::Options};
use weft_proxy::plan::{Path, Route};

use super::plan;
use crate::config::{catalogue::Checked, problem::Problem, setting::Cx};

/// Tells of logins whose callback no route takes that has them.
pub(super) fn check(whole: &Checked<'_>, built: &plan::Gateway, cx: &mut Cx) {
    for login in &built.logins {
        let mut with = whole.routes().filter(|(route, _)| has(route, login)).peekable();
        let Some((first, place)) = with.peek().map(|(route, place)| (route.name.clone(), *place))
        else {
            continue;
        };
        if with.any(|(route, _)| takes(route, &login.callback_path)) {
            continue;
        }
        let say = format!(
            "browsers come back from login `{}` to `{}`, which no route with that login takes",
            login.name, login.callback_path
        );
        let help = format!("have route `{first}` match it as well, or say another `callback_path`");
        cx.report(Problem::error(place, say).help(help));
    }
}

fn has(route: &Route, login: &Options) -> bool {
    let bindings = route.policy.policies.iter().filter(|of| of.handler == AUTHENTICATION);
    let mut settings = bindings.filter_map(|of| of.settings::<Authentication>().ok());
    let is_it = |method: &Scheme| matches!(method, Scheme::Oidc(of) if of.login == login.name);
    settings.any(|settings| settings.methods.iter().any(is_it))
}

/// Whether a route may take a path, as far as that can be told.
fn takes(route: &Route, path: &str) -> bool {
    route.matches.is_empty()
        || route.matches.iter().any(|of| match &of.path {
            Path::Any | Path::Regex(_) | Path::Template(_) => true,
            Path::Exact(exact) => exact == path,
            Path::Prefix(prefix) => {
                let rest = path.strip_prefix(prefix.trim_end_matches('/'));
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
        })
}
