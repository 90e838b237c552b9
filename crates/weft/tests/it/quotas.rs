//! Quotas, as clients and operators meet them.

use std::{path::Path, process::Command};

use serde_json::{Value, json};
use weft_testkit::{
    HttpMessage, Upstream, Weft,
    http2::{self, Client, request},
    until,
};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

fn config(service: &Upstream, folder: &Path, quotas: &str) -> String {
    format!(
        "admin: {{ listen: '@admin' }}
telemetry: {{ access_log: all }}
ledger: {{ path: '{}', wal_file: 1MiB }}
listeners: {{ web: {{ address: '@web' }} }}
services: {{ s: {{ endpoints: '{}' }} }}
quotas: {quotas}
routes:
  - {{ name: one, match: '/one', to: s, quotas: plan }}
  - {{ name: two, match: '/two', to: s, quotas: plan }}
  - {{ name: free, match: '/*', to: s }}
",
        folder.join("data").display(),
        service.address()
    )
}

fn by_tenant(limit: &str) -> String {
    format!("{{ plan: {{ limit: {limit}, by: [{{ header: x-tenant }}] }} }}")
}

fn of<'a>(node: &Weft, path: &str, tenant: impl Into<Option<&'a str>>) -> HttpMessage {
    let tenant = tenant.into().map_or(String::new(), |tenant| format!("x-tenant: {tenant}\r\n"));
    node.get(path, &tenant)
}

fn admin(node: &Weft, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let body = if method == "GET" { String::new() } else { body.to_string() };
    let length = body.len();
    let answer = node.connect("admin").ask(format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    ));
    (answer.status(), serde_json::from_str(&answer.text()).unwrap_or_default())
}

#[test]
fn a_quota_is_shared_by_its_routes_told_and_kept_over_a_restart() {
    let (service, folder) = (Upstream::saying("ok"), tempfile::tempdir().unwrap());
    let yaml = config(&service, folder.path(), &by_tenant("4/month"));
    let mut node = Weft::start(BIN, &yaml);
    for (path, left) in [("/one", 3), ("/two", 2), ("/one", 1)] {
        let answer = of(&node, path, "a");
        assert_eq!(answer.status(), 200);
        let policy = answer.get("ratelimit-policy").unwrap();
        assert!(policy.starts_with("\"plan\";q=4;w="), "{policy}");
        let said = answer.get("ratelimit").unwrap();
        assert!(said.starts_with(&format!("\"plan\";r={left};t=")), "{said}");
    }
    assert_eq!(of(&node, "/free", "a").get("ratelimit"), None);
    assert_eq!(of(&node, "/one", "b").status(), 200);
    node.terminate();
    assert!(node.wait().success());
    let node = node.again(&yaml);
    assert_eq!(of(&node, "/one", "a").status(), 200);
    let refused = of(&node, "/two", "a");
    assert_eq!(refused.status(), 429);
    assert!(refused.text().contains("urn:weft:problem:quota_exceeded"), "{}", refused.text());
    assert!(
        refused.text().contains("the quota `plan` of the month is used up"),
        "{}",
        refused.text()
    );
    let wait: u64 = refused.get("retry-after").unwrap().parse().unwrap();
    assert!((1..=31 * 86_400).contains(&wait), "{wait}");
    assert_eq!(of(&node, "/one", "b").status(), 200);
    let line = node.wait_line("quota reached a threshold");
    assert!(line.contains("plan") && line.contains('a'), "{line}");
    node.wait_metric("weft_quota_warnings_total", &["plan", "100"], 1.0);
    node.wait_metric("weft_quota_refusals_total", &["plan"], 1.0);
    node.wait_metric("weft_route_fact_requests_total", &["quota_exceeded", "plan"], 1.0);
}

#[test]
fn a_crash_gives_nothing_and_costs_no_more_than_two_slices() {
    let (service, folder) = (Upstream::saying("ok"), tempfile::tempdir().unwrap());
    let yaml = config(&service, folder.path(), &by_tenant("1000/month"));
    let mut node = Weft::start(BIN, &yaml);
    let mut granted = 0;
    for _ in 0..4 {
        for _ in 0..37 {
            assert_eq!(of(&node, "/one", "a").status(), 200);
            granted += 1;
        }
        node.kill();
        node.wait();
        node = node.again(&yaml);
    }
    let (status, key) = admin(&node, "GET", "/v1/quotas/plan/keys/a", &Value::Null);
    assert_eq!(status, 200, "{key}");
    let used = key["used"].as_u64().unwrap();
    assert!((granted..=granted + 4 * 20).contains(&used), "{used} of {granted}");
    // The rest is there, and not one more, whoever asks by whichever protocol.
    let left = key["left"].as_u64().unwrap();
    assert_eq!(used + left, 1_000);
    let address = node.address("web");
    let by_h2 = http2::run(async move {
        let client = Client::to(address).await;
        let mut passed = 0;
        for _ in 0..100 {
            let get = request("GET", "/two").header("x-tenant", "a").body(Vec::new()).unwrap();
            passed += u64::from(client.ask(get).await.unwrap().status == 200);
        }
        passed
    });
    let node = &node;
    let by_h1: u64 = std::thread::scope(|scope| {
        let client =
            || (0..300).map(|_| u64::from(of(node, "/one", "a").status() == 200)).sum::<u64>();
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(client)).collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    assert_eq!(by_h1 + by_h2, left);
}

#[test]
fn operators_see_and_change_what_a_key_has_used() {
    let (service, folder) = (Upstream::saying("ok"), tempfile::tempdir().unwrap());
    let yaml = config(&service, folder.path(), &by_tenant("2/day"));
    let mut node = Weft::start(BIN, &yaml);
    let spend = |node: &Weft| {
        let mut passed = 0;
        while of(node, "/one", "a").status() == 200 {
            passed += 1;
        }
        passed
    };
    assert_eq!(spend(&node), 2);
    let post = |node: &Weft, what: &str, body: Value| {
        admin(node, "POST", &format!("/v1/quotas/plan/keys/a/{what}"), &body)
    };
    assert_eq!(post(&node, "reset", json!({})).1["left"], 2);
    assert_eq!(spend(&node), 2);
    assert_eq!(post(&node, "add", json!({ "units": 3 })).1["left"], 3);
    assert_eq!(spend(&node), 3);
    let (status, key) = post(&node, "set", json!({ "used": 1, "limit": 4 }));
    assert_eq!((status, &key["left"], &key["own_limit"]), (200, &json!(6), &json!(true)), "{key}");
    node.kill();
    node.wait();
    let node = node.again(&yaml);
    assert_eq!(spend(&node), 6, "what was set is kept over a crash");
    assert_eq!(post(&node, "set", json!({ "limit": "default" })).1["limit"], 2);
    for (what, body) in [
        ("set", json!({})),
        ("set", json!({ "limit": -1 })),
        ("set", json!({ "limit": "none" })),
        ("add", json!({ "units": 0 })),
        ("add", json!({ "units": 1, "more": 1 })),
    ] {
        assert_eq!(post(&node, what, body.clone()).0, 400, "{what} {body}");
    }
    assert_eq!(admin(&node, "GET", "/v1/quotas/none", &Value::Null).0, 404);
    assert_eq!(admin(&node, "GET", "/v1/quotas/plan/keys/none", &Value::Null).0, 404);
    of(&node, "/one", "b");
    of(&node, "/one", None);
    let (_, page) = admin(&node, "GET", "/v1/quotas/plan/keys?max=1&after=a", &Value::Null);
    assert_eq!((&page["keys"][0]["key"], page.get("next")), (&json!("b"), None), "{page}");

    let weft = |arguments: &[&str]| {
        let url = format!("http://{}", node.address("admin"));
        let out = Command::new(BIN).args(arguments).args(["--admin", &url]).output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));
        text
    };
    assert!(weft(&["quota", "list"]).contains("plan"));
    assert!(weft(&["quota", "show", "plan"]).contains("header x-tenant"));
    assert!(weft(&["quota", "reset", "plan", "a"]).contains('a'));
    assert!(weft(&["quota", "add", "plan", "a", "5"]).contains('5'));
    assert!(weft(&["quota", "set", "plan", "a", "--used", "1", "--limit", "9"]).contains('9'));
    let keys = weft(&["quota", "keys", "plan"]);
    assert!(keys.contains("9 (own)"), "{keys}");
    assert!(weft(&["quota", "key", "plan", "a"]).contains("13"), "9 and 5, of which 1 is used");
}

#[test]
fn a_reload_keeps_what_was_used_and_another_limit_counts_at_once() {
    let (service, folder) = (Upstream::saying("ok"), tempfile::tempdir().unwrap());
    let yaml = config(&service, folder.path(), &by_tenant("2/day"));
    let node = Weft::start(BIN, &yaml);
    assert_eq!(of(&node, "/one", "a").status(), 200);
    assert_eq!(of(&node, "/one", "a").status(), 200);
    assert_eq!(of(&node, "/one", "a").status(), 429);
    node.reload(&yaml.replace("2/day", "3/day")).unwrap();
    until("the new limit", || (of(&node, "/one", "a").status() == 200).then_some(()));
    assert_eq!(of(&node, "/one", "a").status(), 429);
    // Months are something else than days.
    node.reload(&yaml.replace("2/day", "1/month")).unwrap();
    until("the new period", || (of(&node, "/one", "a").status() == 200).then_some(()));
    assert_eq!(of(&node, "/one", "a").status(), 429);
}

#[test]
fn keys_that_clients_make_up_are_bounded_and_no_secret_is_shown() {
    let (service, folder) = (Upstream::saying("ok"), tempfile::tempdir().unwrap());
    let quotas = "{ plan: { limit: 3/day, by: [{ header: x-tenant }], keys_max: 2 } }";
    let node = Weft::start(BIN, &config(&service, folder.path(), quotas));
    let strange = "a b, with a lot of words that nobody wants to see as the name of a key anywhere";
    for tenant in ["a", strange] {
        assert_eq!(of(&node, "/one", tenant).status(), 200);
    }
    let passed =
        (0..9).filter(|at| of(&node, "/one", &*format!("new-{at}")).status() == 200).count();
    assert_eq!(passed, 3, "those that come late are counted together");
    assert_eq!(of(&node, "/one", "a").status(), 200);
    let (_, page) = admin(&node, "GET", "/v1/quotas/plan/keys", &Value::Null);
    let keys: Vec<_> =
        page["keys"].as_array().unwrap().iter().map(|key| key["key"].as_str().unwrap()).collect();
    assert_eq!((keys.len(), keys[0], keys[1]), (3, ":others", "a"), "{keys:?}");
    assert!(keys[2].starts_with("sha256:") && keys[2].len() == 39, "{keys:?}");
}

#[test]
fn what_is_wrong_is_told_where_it_stands() {
    for (quotas, said) in [
        ("{ plan: { limit: 10 } }", "units within a period"),
        ("{ plan: 10/hour }", "units within a period"),
        ("{ plan: { limit: 10/day, time_zone: Europe/Berlyn } }", "no time zone"),
        ("{ plan: { limit: 10/day, cost: 11 } }", "costs more than the quota ever grants"),
        ("{ plan: { limit: 10/day, by: [{ header: authorization }] } }", "is a secret"),
        ("{ plan: { limit: 10/day, warn_at: [101] } }", "100"),
        ("{ plan: { limit: 10/day, warn: 3 } }", "warn_at"),
        ("{ plann: 10/day }", "plann"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("weft.yaml");
        let yaml =
            format!("quotas: {quotas}\nroutes:\n  - {{ name: r, respond: 200, quotas: plan }}\n");
        std::fs::write(&file, yaml).unwrap();
        let out = Command::new(BIN).args(["check", "--config"]).arg(&file).output().unwrap();
        let text = String::from_utf8_lossy(&out.stderr).into_owned()
            + &String::from_utf8_lossy(&out.stdout);
        assert!(!out.status.success(), "{quotas}: {text}");
        assert!(text.contains(said) && text.contains("weft.yaml:"), "{quotas}: {text}");
    }
}

/// The events of a topic, as far as they go.
fn events(node: &Weft, count: usize) -> Vec<Value> {
    until("events of quotas", || {
        let path = format!("/v1/topics/usage/messages?from=first&max={}", count + 1);
        let (status, found) = admin(node, "GET", &path, &Value::Null);
        assert_eq!(status, 200, "{found}");
        let found = found["messages"].as_array().unwrap().clone();
        (found.len() >= count).then_some(found)
    })
}

#[test]
fn a_threshold_is_published_once_for_a_key_and_period_also_over_crashes() {
    let (service, folder) = (Upstream::saying("ok"), tempfile::tempdir().unwrap());
    let quotas = "{ plan: { limit: 10/month, by: [{ header: x-tenant }], warn_at: [50, 100], publish_to: usage } }";
    let yaml = format!("topics: {{ usage: {{}} }}\n{}", config(&service, folder.path(), quotas));
    let mut node = Weft::start(BIN, &yaml);
    let mut passed = 0;
    // Whatever moment it is that it is killed in, and with a start that finds what was used.
    for tenant in ["a", "b"] {
        for _ in 0..6 {
            passed += u32::from(of(&node, "/one", tenant).status() == 200);
        }
        node.kill();
        node.wait();
        node = node.again(&yaml);
    }
    assert_eq!(passed, 12);
    for tenant in ["a", "b"] {
        while of(&node, "/one", tenant).status() == 200 {}
    }
    let found = events(&node, 4);
    let mut told: Vec<(String, u64)> = found
        .iter()
        .map(|message| {
            let event = &message["event"];
            assert_eq!(event["type"], "io.weft.quota.threshold", "{event}");
            assert_eq!(event["source"], "/weft/quotas/plan", "{event}");
            let data = &event["data"];
            assert_eq!(
                (&data["key"], &data["allowed"]),
                (&event["subject"], &json!(10)),
                "{event}"
            );
            (event["subject"].as_str().unwrap().into(), data["percent"].as_u64().unwrap())
        })
        .collect();
    told.sort();
    let each: Vec<(String, u64)> = [("a", 50), ("a", 100), ("b", 50), ("b", 100)]
        .map(|(key, percent)| (key.to_owned(), percent))
        .into();
    assert_eq!(told, each, "each once");
    // After one more start, nothing is told again.
    node.terminate();
    assert!(node.wait().success());
    let node = node.again(&yaml);
    assert_eq!(of(&node, "/one", "a").status(), 429);
    assert_eq!(of(&node, "/one", "c").status(), 200);
    assert_eq!(events(&node, 4).len(), 4);
}
