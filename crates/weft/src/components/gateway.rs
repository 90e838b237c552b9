//! The edge as a component: the consumers of a node, and the policies of routes that ask for them.

mod build;
pub mod plan;
pub mod policies;
pub mod sections;

use std::sync::Arc;

use weft_api::Row;
use weft_gateway::{AUTHENTICATION, Authentication, Directory, Maker};
use weft_proxy::Handlers;

use crate::{
    cli::verbs::OfTable,
    component::{Component, Host},
    config::{
        catalogue::{Checked, PolicyKey, Sections},
        problem::Problem,
        setting::{Cx, Field},
    },
    node::Node,
};

/// The consumers of a node.
pub struct Gateway {
    authentication: Maker,
}

impl Component for Gateway {
    type Plan = plan::Gateway;
    type Ready = Arc<Directory>;
    type Fixed = ();
    type Locals = Maker;
    type Api = ();
    type Noun = OfTable<Self>;

    fn sections() -> &'static [Field] {
        sections::ALL
    }

    fn policies() -> &'static [PolicyKey] {
        &policies::ALL
    }

    fn build(said: &mut Sections<'_>, cx: &mut Cx) -> Option<plan::Gateway> {
        build::build(said, cx)
    }

    fn check(whole: &Checked<'_>, cx: &mut Cx) {
        let consumers = whole.names(&sections::CONSUMERS);
        for (route, place) in whole.routes() {
            let bindings = route.policy.policies.iter();
            let settings = bindings.filter(|binding| binding.handler == AUTHENTICATION);
            for settings in settings.filter_map(|binding| binding.settings::<Authentication>().ok())
            {
                let Some(name) =
                    settings.anonymous.filter(|name| !consumers.contains(name.as_str()))
                else {
                    continue;
                };
                let names: Vec<&str> = consumers.iter().map(|(name, _)| name).collect();
                let say = format!(
                    "route `{}` lets requests without credentials in as consumer `{name}`, whom \
                     nobody declares",
                    route.name
                );
                cx.report(Problem::error(place, say).near(name.as_str(), names));
            }
        }
    }

    async fn open(_plan: &plan::Gateway, _host: &Host, locals: &Maker) -> anyhow::Result<Self> {
        Ok(Self { authentication: locals.clone() })
    }

    fn register(locals: &Maker, handlers: Handlers) -> Handlers {
        handlers.with_policy(AUTHENTICATION, locals.clone())
    }

    fn fixed(_plan: Option<&plan::Gateway>) {}

    fn awaits_restart((): &(), _plan: Option<&plan::Gateway>) -> Vec<&'static str> {
        Vec::new()
    }

    async fn prepare(&self, plan: Option<&plan::Gateway>) -> Result<Arc<Directory>, Vec<String>> {
        Ok(plan.map(|plan| Arc::clone(&plan.directory)).unwrap_or_default())
    }

    async fn commit(&self, directory: Arc<Directory>) {
        self.authentication.replace(directory);
    }

    fn operations() -> &'static [Row<()>] {
        &[]
    }

    fn api(self: &Arc<Self>, _node: &Arc<Node>) {}
}
