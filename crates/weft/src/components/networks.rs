//! Networks as a component: lists of networks from files, and the policies of routes that let requests on by them.
//!
//! A list is read with the configuration, and again when its file changes, as any file is that a configuration refers
//! to: what is wrong with it is told with its line, and the list before stays in force.

pub mod sections;

use std::sync::Arc;

use weft_api::Row;
use weft_gateway::{NETWORKS, NetworkLists, Networks as Settings, networks::NetworkSet};
use weft_kernel::{Name, Result};
use weft_net::Stop;
use weft_proxy::Handlers;
use weft_telemetry::metrics::{Def, Kind, Writer};

use self::sections::{NETWORK_LISTS, NetworkListSection};
use crate::{
    cli::verbs::OfTable,
    component::{Component, Host},
    config::{
        catalogue::{Checked, PolicyKey, Sections},
        problem::Problem,
        setting::{Cx, Field},
        source,
    },
    node::Node,
};

/// The lists of a node.
pub struct Networks {
    lists: NetworkLists,
}

/// What the section comes to.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The lists, as their files have them.
    pub lists: Vec<(Name, Arc<NetworkSet>)>,
}

static METRICS: [Def; 1] = [Def {
    name: "weft_network_list_networks",
    kind: Kind::Gauge,
    unit: "",
    labels: &["list"],
    help: "Networks of a list, once those within others are put together.",
}];

impl Component for Networks {
    type Plan = Plan;
    type Ready = Vec<(Name, Arc<NetworkSet>)>;
    type Fixed = ();
    type Locals = NetworkLists;
    type Api = ();
    type Noun = OfTable<Self>;

    fn sections() -> &'static [Field] {
        sections::ALL
    }

    fn policies() -> &'static [PolicyKey] {
        &sections::POLICIES
    }

    fn build(said: &mut Sections<'_>, cx: &mut Cx) -> Option<Plan> {
        let lists = said.entries(&NETWORK_LISTS, cx);
        if said.place(&NETWORK_LISTS).is_none() && lists.is_empty() {
            return None;
        }
        let read = |(name, section): &(_, NetworkListSection)| {
            let name: &crate::config::setting::At<Name> = name;
            Some((name.value.clone(), Arc::new(read(section, cx)?)))
        };
        Some(Plan { lists: lists.iter().filter_map(read).collect() })
    }

    fn check(whole: &Checked<'_>, cx: &mut Cx) {
        let lists = whole.names(&NETWORK_LISTS);
        for (route, place) in whole.routes() {
            let bindings = route.policy.policies.iter().filter(|of| of.handler == NETWORKS);
            for Settings { allow, deny, .. } in bindings.filter_map(|of| of.settings().ok()) {
                let named = allow.lists.iter().chain(&deny.lists);
                for name in named.filter(|name| !lists.contains(name.as_str())) {
                    let say = format!(
                        "route `{}` names the network list `{name}`, which is not there",
                        route.name
                    );
                    let there: Vec<&str> = lists.iter().map(|(name, _)| name).collect();
                    cx.report(Problem::error(place, say).near(name.as_str(), there));
                }
            }
        }
    }

    async fn open(_plan: &Plan, _host: &Host, locals: &NetworkLists) -> anyhow::Result<Self> {
        Ok(Self { lists: locals.clone() })
    }

    fn register(locals: &NetworkLists, handlers: Handlers) -> Handlers {
        handlers.with_policy(NETWORKS, locals.clone())
    }

    fn fixed(_plan: Option<&Plan>) {}

    fn awaits_restart((): &(), _plan: Option<&Plan>) -> Vec<&'static str> {
        Vec::new()
    }

    async fn prepare(&self, plan: Option<&Plan>) -> Result<Self::Ready, Vec<String>> {
        Ok(plan.map(|plan| plan.lists.clone()).unwrap_or_default())
    }

    async fn commit(&self, ready: Self::Ready) {
        self.lists.replace(ready);
    }

    async fn run(self: Arc<Self>, stop: Stop) {
        stop.closed().await;
    }

    fn metrics() -> &'static [Def] {
        &METRICS
    }

    fn measure(&self, to: &mut Writer) {
        for (list, networks) in self.lists.sizes() {
            to.gauge(&METRICS[0], &[("list", list.as_str())], networks as f64);
        }
    }

    fn operations() -> &'static [Row<()>] {
        &[]
    }

    fn api(self: &Arc<Self>, _node: &Arc<Node>) {}
}

/// The networks in the file of a list; `None` if it cannot be read, which was then reported.
fn read(section: &NetworkListSection, cx: &mut Cx) -> Option<NetworkSet> {
    let path = &section.file.value.0;
    let place = section.file.place;
    let text = source::read_bounded(path, source::FILE_BYTES_MAX).and_then(|bytes| {
        String::from_utf8(bytes).map_err(|_error| "this is not UTF-8 text".into())
    });
    let text = match text {
        Ok(text) => text,
        Err(why) => {
            cx.report(Problem::error(place, format!("{}: {why}", path.display())));
            return None;
        }
    };
    match NetworkSet::parse(&text) {
        Ok(set) => {
            if set.is_empty() {
                let say = format!("{}: there is no network in this list", path.display());
                cx.report(Problem::warning(place, say));
            }
            Some(set)
        }
        Err((line, why)) => {
            let say = format!("{}, line {line}: {why}", path.display());
            let help = "write a network or an address a line; comments begin with `#`";
            cx.report(Problem::error(place, say).help(help));
            None
        }
    }
}
