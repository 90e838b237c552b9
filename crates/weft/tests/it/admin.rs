//! The admin API and the commands that ask it, through the real binary.

use std::process::{Command, Output};

use serde_json::{Value, json};
use weft_testkit::{HttpMessage, Upstream, Weft, upstream::ok};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

fn node(service: &Upstream, admin: &str) -> Weft {
    Weft::start(BIN, &config(service, admin))
}

fn config(service: &Upstream, admin: &str) -> String {
    format!(
        "admin: {admin}
listeners: {{ web: {{ address: '@web' }} }}
services:
  orders: {{ endpoints: '{0}', breaker: on, bulkhead: 5 }}
  bare: {{ endpoints: '{0}', ejection: off }}
routes:
  - {{ name: orders/v1, match: {{ path: '/orders/{{id}}', method: GET }}, to: orders }}
  - {{ name: bare, match: /bare/*, to: bare }}
  - {{ name: gone, match: /gone, redirect: {{ scheme: https, status: 308 }} }}
  - {{ name: hello, match: /hello, respond: {{ status: 200, body: hello }} }}
",
        service.address()
    )
}

const PLAIN: &str = "{ listen: '@admin' }";

fn call(weft: &Weft, method: &str, path: &str, fields: &str, body: &str) -> HttpMessage {
    weft.connect("admin").ask(format!(
        "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {}\r\n{fields}\r\n{body}",
        body.len()
    ))
}

fn get(weft: &Weft, path: &str) -> Value {
    let answer = call(weft, "GET", path, "", "");
    assert_eq!(answer.status(), 200, "{path}: {}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}

fn post(weft: &Weft, path: &str, body: &str) -> (u16, Value) {
    let answer = call(weft, "POST", path, "", body);
    (answer.status(), serde_json::from_slice(&answer.body).unwrap())
}

fn weft(node: &Weft, arguments: &[&str]) -> Output {
    let url = format!("http://{}", node.address("admin"));
    let mut command = Command::new(BIN);
    command.args(arguments).env("WEFT_ADMIN", url).env_remove("WEFT_ADMIN_TOKEN");
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    let all = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8(all).unwrap()
}

/// Whether a value is what a schema of the document says, and nothing else.
fn conforms(value: &Value, schema: &Value, document: &Value, place: &str) {
    if let Some(to) = schema["$ref"].as_str() {
        let found = document.pointer(to.strip_prefix('#').unwrap()).unwrap();
        return conforms(value, found, document, place);
    }
    if let Some(any) = schema["anyOf"].as_array() {
        return if value.is_null() {
        } else {
            conforms(value, &any[0], document, place)
        };
    }
    if let Some(one) = schema["oneOf"].as_array() {
        let kind = |of: &&Value| of["properties"]["kind"]["const"] == value["kind"];
        return conforms(value, one.iter().find(kind).unwrap(), document, place);
    }
    if let Some(types) = schema["type"].as_array() {
        // A type or null.
        let mut of = schema.clone();
        of["type"] = types[0].clone();
        assert_eq!((types.len(), &types[1]), (2, &json!("null")), "{place}");
        return if value.is_null() {
        } else {
            conforms(value, &of, document, place)
        };
    }
    match schema["type"].as_str() {
        Some("object") => {
            let map = value.as_object().unwrap_or_else(|| panic!("{place}: {value}"));
            let Some(known) = schema["properties"].as_object() else { return };
            for (key, value) in map {
                let of = known.get(key).unwrap_or_else(|| panic!("{place}/{key} is not described"));
                conforms(value, of, document, &format!("{place}/{key}"));
            }
            for key in schema["required"].as_array().unwrap() {
                assert!(map.contains_key(key.as_str().unwrap()), "{place}/{key} is missing");
            }
        }
        Some("array") => {
            for item in value.as_array().unwrap_or_else(|| panic!("{place}: {value}")) {
                conforms(item, &schema["items"], document, place);
            }
        }
        Some("string") => assert!(value.is_string(), "{place}: {value}"),
        Some("boolean") => assert!(value.is_boolean(), "{place}: {value}"),
        Some("integer") => assert!(value.is_u64(), "{place}: {value}"),
        Some("number") => assert!(value.is_number(), "{place}: {value}"),
        _ => assert_eq!(value, &schema["const"], "{place}"),
    }
}

#[test]
fn every_operation_is_served_and_answers_as_described() {
    let service = Upstream::answering(|_| ok("x"));
    let node = node(&service, PLAIN);
    assert_eq!(node.get("/orders/1", "").status(), 200);
    let document = get(&node, "/v1/openapi.json");
    assert_eq!(document["openapi"], "3.1.0");
    let mut asked = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let name = match path.split('/').nth(2) {
                Some("routes") => "orders%2Fv1",
                Some("listeners") => "web",
                _ => "orders",
            };
            let endpoint = service.address().to_string();
            let real = path.replace("{name}", name).replace("{endpoint}", &endpoint);
            let body = match operation["operationId"].as_str().unwrap() {
                "breaker" => json!({ "mode": "enforce" }).to_string(),
                "explain_route" | "explain_request" => {
                    json!({ "method": "GET", "url": "/orders/1" }).to_string()
                }
                _ => String::new(),
            };
            let answer = call(&node, &method.to_uppercase(), &real, "", &body);
            assert_eq!(answer.status(), 200, "{method} {real}: {}", answer.text());
            let content = operation["responses"]["200"]["content"].as_object().unwrap();
            let (media, of) = content.iter().next().unwrap();
            assert!(answer.get("content-type").unwrap().starts_with(media.as_str()), "{path}");
            if media == "application/json" {
                let value = serde_json::from_slice(&answer.body).unwrap();
                conforms(&value, &of["schema"], &document, path);
            }
            asked += 1;
        }
    }
    assert!(asked >= 17, "{asked}");
    let metrics = call(&node, "GET", "/metrics", "", "").text();
    for line in [
        "weft_service_endpoints{weft_service=\"orders\",state=\"available\"} 1",
        "weft_service_breaker_state{weft_service=\"orders\"} 0",
        "weft_tasks{thread=\"control\"} ",
        "weft_tasks{thread=\"0\"} ",
        "weft_endpoint_healthy{weft_service=\"orders\",endpoint=\"",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}

#[test]
fn an_endpoint_is_taken_out_and_back_by_hand() {
    let service = Upstream::answering(|_| ok("x"));
    let node = node(&service, PLAIN);
    let address = service.address().to_string();
    let state = || get(&node, "/v1/services/orders")["endpoints"][0]["state"].clone();
    for (out, back, word) in [("drain", "undrain", "drained"), ("isolate", "restore", "isolated")] {
        let path = format!("/v1/services/orders/endpoints/{address}");
        let (status, shown) = post(&node, &format!("{path}/{out}"), "");
        assert_eq!((status, &shown["endpoints"][0]["state"]), (200, &json!(word)));
        assert_eq!(node.get("/orders/1", "").status(), 503, "{out}");
        // Endpoints belong to their service: the same address elsewhere goes on.
        assert_eq!(node.get("/bare/1", "").status(), 200, "{out}");
        assert_eq!(post(&node, &format!("{path}/{back}"), "").0, 200);
        assert_eq!(state(), "available");
        assert_eq!(node.get("/orders/1", "").status(), 200, "{back}");
    }
    let (status, problem) =
        post(&node, &format!("/v1/services/bare/endpoints/{address}/isolate"), "");
    assert_eq!((status, &problem["code"]), (409, &json!("conflict")));
}

#[test]
fn a_breaker_is_set_by_hand() {
    let service = Upstream::answering(|_| ok("x"));
    let node = node(&service, PLAIN);
    let (status, shown) =
        post(&node, "/v1/services/orders/breaker", &json!({ "mode": "isolated" }).to_string());
    assert_eq!((status, &shown["breaker"]["mode"]), (200, &json!("isolated")));
    assert_eq!(node.get("/orders/1", "").status(), 503);
    let metrics = call(&node, "GET", "/metrics", "", "").text();
    assert!(metrics.contains("weft_service_breaker_state{weft_service=\"orders\"} 3"));
    assert_eq!(post(&node, "/v1/services/orders/breaker", r#"{"mode":"enforce"}"#).0, 200);
    assert_eq!(node.get("/orders/1", "").status(), 200);
    for (path, body, status) in [
        ("/v1/services/orders/breaker", r#"{"mode":"ajar"}"#, 400),
        ("/v1/services/orders/breaker", "{}", 400),
        ("/v1/services/orders/breaker", "", 400),
        ("/v1/services/bare/breaker", r#"{"mode":"enforce"}"#, 409),
        ("/v1/services/none/breaker", r#"{"mode":"enforce"}"#, 404),
        ("/v1/services/orders/endpoints/7.7.7.7:7/drain", "", 404),
        ("/v1/routes/none", "", 405),
        ("/v1/none", "", 404),
        ("/v1/explain/route", r#"{"method":"GET","url":"nothing"}"#, 400),
        ("/v1/explain/request", r#"{"method":"GET","url":"nothing"}"#, 400),
        ("/v1/explain/request", r#"{"method":"GET","url":"/","client":"me"}"#, 400),
        ("/v1/explain/request", r#"{"method":"GET","url":"/","listener":"none"}"#, 404),
    ] {
        let answer = call(&node, "POST", path, "", body);
        assert_eq!(answer.status(), status, "{path} {body}: {}", answer.text());
        assert_eq!(answer.get("content-type"), Some("application/problem+json"), "{path}");
    }
    let large = format!("{{\"mode\":\"{}\"}}", "x".repeat(70_000));
    assert_eq!(call(&node, "POST", "/v1/services/orders/breaker", "", &large).status(), 413);
}

#[test]
fn a_token_is_asked_for_and_never_shown() {
    let service = Upstream::answering(|_| ok("x"));
    let node = node(&service, "{ listen: '@admin', token: quite-a-secret }");
    for (path, status) in [("/v1/status", 401), ("/metrics", 401), ("/healthz", 200)] {
        assert_eq!(call(&node, "GET", path, "", "").status(), status, "{path}");
    }
    assert_eq!(call(&node, "GET", "/v1/none", "", "").status(), 401);
    let refused = call(&node, "POST", "/v1/reload", "authorization: Bearer wrong\r\n", "");
    assert_eq!((refused.status(), refused.get("www-authenticate")), (401, Some("Bearer")));
    let shown = call(&node, "GET", "/v1/config", "authorization: Bearer quite-a-secret\r\n", "");
    assert_eq!(shown.status(), 200);
    assert!(!shown.text().contains("quite-a-secret"), "{}", shown.text());
    let refused = weft(&node, &["status"]);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    let told = weft(&node, &["status", "--token", "quite-a-secret"]);
    assert_eq!(told.status.code(), Some(0), "{}", text(&told));
}

#[test]
fn a_web_page_may_not_ask_without_a_token() {
    let service = Upstream::answering(|_| ok("x"));
    let node = node(&service, PLAIN);
    let from_page = call(&node, "POST", "/v1/reload", "origin: http://evil.example\r\n", "");
    assert_eq!(from_page.status(), 403);
    let rebound = node
        .connect("admin")
        .ask("GET /v1/config HTTP/1.1\r\nhost: evil.example\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(rebound.status(), 403);
}

#[test]
fn a_refused_configuration_is_told_and_changes_nothing() {
    let service = Upstream::answering(|_| ok("x"));
    let node = node(&service, PLAIN);
    assert_eq!(get(&node, "/v1/status")["config"]["refused"], Value::Null);
    assert!(node.reload("routes: [{ name: lost, to: nobody }]\n").is_err());
    let refused = get(&node, "/v1/status")["config"]["refused"]["reason"].clone();
    assert!(refused.as_str().unwrap().contains("nobody"), "{refused}");
    let (status, problem) = post(&node, "/v1/reload", "");
    assert_eq!((status, &problem["code"]), (409, &json!("conflict")));
    assert_eq!(node.get("/hello", "").status(), 200);
}

#[test]
fn the_commands_tell_what_the_node_says() {
    let service = Upstream::answering(|_| ok("x"));
    let node = node(&service, PLAIN);
    let address = service.address().to_string();
    for (arguments, code, part) in [
        (&["status"][..], 0, "2 services, 2 of 2 endpoints available"),
        (&["route"], 0, "orders/v1"),
        (&["route", "orders/v1"], 0, "GET /orders/{id}"),
        (&["route", "none"], 1, "there is no route `none`"),
        (&["service"], 0, "1 of 1"),
        (&["service", "orders"], 0, "closed (enforce)"),
        (&["service", "list"], 0, "1 of 1"),
        (&["service", "show", "orders"], 0, "closed (enforce)"),
        (&["service", "show", "none"], 1, "there is no service `none`"),
        (&["route", "list"], 0, "orders"),
        (&["route", "show", "nothing"], 1, "there is no route `nothing`"),
        (&["service", "none"], 1, "there is no service `none`"),
        (&["service", "orders", "drain", &address], 0, "drained"),
        (&["service", "orders", "undrain", &address], 0, "available"),
        (&["service", "orders", "drain"], 2, "ENDPOINT"),
        (&["status", "--admin", "https://x"], 2, "plain HTTP"),
        (&["status", "--admin", "unix:/nowhere/at.all"], 2, "cannot ask"),
        (&["explain", "route", "GET", "/orders/1", "--live"], 0, "route orders/v1 to orders"),
        (&["explain", "route", "POST", "/orders/1", "--live"], 1, "405"),
    ] {
        let output = weft(&node, arguments);
        let shown = text(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {shown}");
        assert!(shown.contains(part), "{arguments:?}: {shown}");
    }
    let output = weft(&node, &["service", "orders", "--output", "json"]);
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["endpoints"][0]["address"], address);
    assert!(node.folder().join("weft.yaml").exists());
    let path = node.folder().join("weft.yaml");
    let offline = ["explain", "route", "GET", "http://x/orders/1", "--config"];
    let offline = [&offline[..], &[path.to_str().unwrap()]].concat();
    let output = weft(&node, &offline);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("GET x /orders/1 on web"), "{}", text(&output));
}

/// Connections that say nothing, or no more than this.
const QUIET: [&str; 4] = [
    "",
    "GET /v1/st",
    "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "POST /v1/config/check HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\nab",
];

#[test]
fn connections_without_a_request_keep_nobody_out() {
    let service = Upstream::saying("well");
    let weft = node(&service, PLAIN);
    for said in QUIET {
        let quiet: Vec<_> = (0..100)
            .map(|_| {
                let mut conn = weft.connect("admin");
                conn.send(said);
                conn
            })
            .collect();
        let began = std::time::Instant::now();
        for path in ["/healthz", "/readyz", "/metrics", "/v1/status"] {
            assert_eq!(call(&weft, "GET", path, "", "").status(), 200, "{path} beside {said:?}");
        }
        assert!(began.elapsed() < std::time::Duration::from_secs(5), "{said:?}");
        drop(quiet);
    }
}

#[test]
fn a_request_says_once_which_host_it_is_for() {
    let service = Upstream::saying("well");
    let weft = node(&service, PLAIN);
    let ask = |head: &str| weft.connect("admin").ask(format!("{head}\r\n\r\n")).status();
    for path in ["/v1/status", "/healthz"] {
        let twice = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nhost: evil.example");
        assert_eq!(ask(&twice), 400, "{path}");
    }
    assert_eq!(ask("GET http://evil.example/v1/status HTTP/1.1\r\nhost: localhost"), 403);
    assert_eq!(ask("GET http://localhost/v1/status HTTP/1.1\r\nhost: localhost"), 200);
}
