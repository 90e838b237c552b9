//! What a new component costs: a folder, and one line of a list. [`notes`] is one that this crate does not
//! know; it is told of, checked, prepared, asked and measured as the node's own are.

pub mod notes;
mod together;

use std::{
    path::Path,
    process::ExitCode,
    sync::{Arc, LazyLock},
};

use anyhow::Context as _;
use clap::Subcommand as _;
use weft_api::{Operation, Request, Table};
use weft_ledger::{Durability, Transaction};
use weft_proxy::plan::Target;
use weft_telemetry::metrics::{self, Def, TABLE};
use weft_wire::Method;

use self::notes::Notes;
use super::{Discovery, List, Messages, Storage, Telemetry};
use crate::{
    admin,
    component::{Component, Host, Member, Noun as _, Slot, contribution},
    config::{
        Loaded, Loader, Plan, Refused,
        catalogue::{Catalogue, Contribution},
        print, reference, report, schema, watch,
    },
    node,
};

components! {
    notes: Notes,
    messages: Messages,
    discovery: Discovery,
    telemetry: Telemetry,
    storage: Storage,
}

fn catalogue() -> &'static Catalogue {
    static CATALOGUE: LazyLock<&Catalogue> =
        LazyLock::new(|| Catalogue::new(Components::contributions()));
    *CATALOGUE
}

fn load(text: &str) -> Result<Loaded, Box<Refused>> {
    let variables = |name: &str| (name == "TITLE").then(|| "of a variable".to_owned());
    Loader::new(catalogue()).load_text(Path::new("weft.yaml"), text, &variables)
}

const NODE: &str = "
admin: off
topics: { orders: {} }
notes: { topic: orders }
pages:
  first: ${TITLE}
  second: { title: b }
";

#[test]
fn a_section_is_told_of_wherever_the_nodes_own_are() {
    let schema = schema::schema(catalogue());
    assert_eq!(schema["properties"]["pages"]["description"], "Pages by name: sheets with notes.");
    assert_eq!(schema["$defs"]["notes"]["properties"]["pages_max"]["default"], 2);
    let page = reference::page(catalogue());
    for line in [
        "| `notes` | [notes](#notes) |  | Keeping of notes. |",
        "| `pages_max` | whole number, 1 to 100 | `2` | Maximum number of pages. |",
        "## page\n",
    ] {
        assert!(page.contains(line), "{line}: {page}");
    }
    let shown = print::yaml(&load(NODE).unwrap(), &|_name| Some("of a variable".to_owned()));
    for line in [
        "  pages_max: 2 # default\n",
        "    title: \"of a variable\" # weft.yaml:6, ${TITLE}\n",
        "    title: b # weft.yaml:7\n",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    // A node without it knows nothing of it.
    assert!(Loader::default().load_text(Path::new("weft.yaml"), NODE, &|_| None).is_err());
}

#[test]
fn a_mistake_is_told_where_it_stands() {
    for (good, bad, at, told) in [
        ("{ title: b }", "{ titel: b }", "7:13", "page has no key `titel`"),
        ("pages:", "page:", "5:1", "configuration has no key `page`"),
        ("orders }", "orders, pages_max: 1 }", "4:36", "2 pages are more than `pages_max`"),
        ("topic: orders", "topic: order", "4:17", "there is no topic `order`"),
        ("topic: orders", "pages_max: 0", "4:21", "expected a whole number from 1 to 100"),
    ] {
        let refused = load(&NODE.replace(good, bad)).unwrap_err();
        let text = report::text(&refused.problems, &refused.sources, false);
        assert!(text.contains(told) && text.contains(&format!("weft.yaml:{at}")), "{told}: {text}");
    }
    let near = load(&NODE.replace("pages:", "page:")).unwrap_err();
    assert!(near.problems.iter().any(|one| one.help.as_deref() == Some("did you mean `pages`?")));
}

#[test]
fn a_route_leads_to_what_a_component_answers_for() {
    let route = |target: &str| {
        let listener = "listeners: { web: { address: 127.0.0.1:80 } }";
        load(&format!("{NODE}{listener}\nroutes:\n  - {{ name: r, match: /r, {target} }}\n"))
    };
    let plan = route("note: b").unwrap().plan;
    assert!(
        matches!(&plan.proxy.routes[0].target, Target::Local(binding) if binding.handler == "note")
    );
    assert!(reference::page(catalogue()).contains("| `note` | text |  | Title of the page"));
    for (target, told) in [
        ("note: z", "weft.yaml:10:33: no page is titled `z`"),
        ("note: b, respond: 204", "weft.yaml:10:13: the route `r` has more than one target"),
        ("nota: b, respond: 204", "weft.yaml:10:27: route has no key `nota`"),
    ] {
        assert!(route(target).unwrap_err().to_string().starts_with(told), "{told}");
    }
    let help = route("timeout: 1s").unwrap_err().problems.remove(0).help.unwrap();
    assert!(help.starts_with("say one of") && help.contains(", `note`"), "{help}");
}

#[test]
fn a_policy_has_the_keys_of_components() {
    let plan = |policy: &str, route: &str| {
        let listener = "listeners: { web: { address: 127.0.0.1:80 } }";
        let routes = format!("routes: [{{ name: r, policies: p, respond: 204, {route} }}]");
        load(&format!("admin: off\n{listener}\npolicies:\n  p: {{ {policy} }}\n{routes}\n"))
    };
    for (policy, route, count) in [
        ("noted: true", "timeout: 1s", 1),
        ("noted: true", "noted: false", 0),
        ("noted: true, respond_async: on", "noted: true", 2),
        ("", "noted: true", 1),
    ] {
        let plan = plan(policy, route).unwrap().plan;
        let of: Vec<_> = plan.proxy.routes[0].policy.policies.iter().collect();
        assert_eq!(of.len(), count, "{policy} {route}: {of:?}");
    }
    for (policy, told) in [
        ("noted: 7", "weft.yaml:4:15: expected true or false, found `7`"),
        ("note: true", "weft.yaml:4:8: policy has no key `note`"),
    ] {
        assert_eq!(plan(policy, "").unwrap_err().to_string(), told);
    }
    let shown = print::yaml(&plan("noted: true", "").unwrap(), &|_name| None);
    assert_eq!(shown.matches("noted: true # weft.yaml:4").count(), 2, "{shown}");
}

#[test]
fn several_files_add_to_a_map_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (folder.path().join("a.yaml"), folder.path().join("b.yaml"));
    std::fs::write(&one, "admin: off\npages: { a: a }").unwrap();
    std::fs::write(&other, "pages: { b: b }").unwrap();
    let load = || Loader::new(catalogue()).load(folder.path(), &|_| None);
    assert_eq!(Notes::plan(&load().unwrap().plan).unwrap().titles, ["a", "b"]);
    std::fs::write(&other, "pages: { a: b }").unwrap();
    assert!(load().unwrap_err().to_string().contains("`a` stands twice under `pages`"));
}

#[test]
fn metrics_of_all_components_follow_the_rules() {
    let faults = |of: Vec<&'static Def>| metrics::faults(TABLE.iter().chain(of));
    assert_eq!(faults(Components::metrics()), [""; 0]);
    assert_eq!(faults(super::Components::metrics()), [""; 0]);
}

/// A node, for components to be handed.
async fn node(folder: &Path) -> Arc<node::Node> {
    let config = folder.join("weft.yaml");
    std::fs::write(&config, "admin: off").unwrap();
    let watcher = watch::Watcher::start(config.clone(), watch::Options::default()).unwrap();
    let mut loader = Loader::default();
    let loaded = loader.load(&config, &|_| None).unwrap();
    let options = node::Options {
        config,
        workers: Some(1),
        handover: None,
        zone: None,
        drain: std::time::Duration::ZERO,
    };
    node::Node::start(options, watcher, loader, loaded).await.unwrap().0
}

#[tokio::test]
async fn a_component_is_prepared_asked_and_measured_with_all_others() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("{NODE}\nledger: {}", folder.path().join("data").display());
    let plan = load(&text).unwrap().plan;
    let host = Host::idle().unwrap();
    let metrics = host.metrics.clone();
    let components = Arc::new(Components::new(&plan));
    for exclusive in [false, true] {
        components.open(&plan, &host, exclusive).await.unwrap();
    }
    let of = components.clone();
    metrics.source(move |to| of.measure(to));
    let node = node(folder.path()).await;
    let table = Table::new(components.parts(&node));
    let count = async || {
        let request = Request::new(Method::Get, "/v1/notes");
        let answer = table.find(&request.method, &request.path).unwrap().answer(&request).await;
        answer.collect().await.unwrap()
    };

    let mut faults = Vec::new();
    let ready = components.prepare(&plan, &mut faults).await;
    assert_eq!((faults.len(), count().await), (0, "0".into()), "what is prepared is not in force");
    components.commit(ready).await.unwrap();
    assert_eq!(count().await, "2");
    let scrape = metrics.encode();
    for line in ["# HELP weft_note_pages Pages of notes.", "weft_note_pages 2.0"] {
        assert!(scrape.lines().any(|one| one == line), "{line}: {scrape}");
    }

    let other = load(&text.replace("title: b", "title: secret").replace("topic: orders", ""));
    let other = other.unwrap().plan;
    assert_eq!(components.awaits_restart(&other), ["notes.topic"]);
    let ready = components.prepare(&other, &mut faults).await;
    assert!(ready.notes.is_none());
    assert_eq!(faults, ["nobody may note `secret`"]);

    assert!(Noun::has_subcommand("note"), "its noun is one of the command line");
    assert!(Components::operations().iter().any(|one| one.path == "/v1/notes"));
    components.close();
    node.stop.close();
}
