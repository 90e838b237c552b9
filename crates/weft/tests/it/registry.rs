//! The registry of consumers: keys that are drawn, used, rotated and revoked while a node runs.

use std::{
    process::{Command, Output},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use weft_testkit::{
    HttpMessage, Upstream, Weft,
    http2::{self, Client},
    until,
    upstream::ok,
};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

fn config(service: &Upstream, registry: &str) -> String {
    format!(
        "
admin: {{ listen: '@admin' }}
ledger: data
telemetry: {{ log: {{ level: trace }}, access_log: {{ include: all, output: '@@/access.log' }} }}
{registry}
listeners: {{ web: {{ address: '@web' }} }}
services: {{ app: {{ endpoints: '{}' }} }}
consumers:
  web: {{ groups: [browsers], api_keys: '${{WEB:-a-key-of-the-web-client}}' }}
routes:
  - {{ name: a, match: /*, authentication: [api_key, basic], to: app }}
",
        service.address()
    )
}

const ON: &str = "consumer_registry: { prefix: shop_live }";

fn api(weft: &Weft, method: &str, path: &str, body: &Value) -> HttpMessage {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    weft.connect("admin").ask(format!(
        "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    ))
}

fn done(answer: &HttpMessage, status: u16) -> Value {
    assert_eq!(answer.status(), status, "{}", answer.text());
    if answer.body.is_empty() { Value::Null } else { serde_json::from_slice(&answer.body).unwrap() }
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_else(|| panic!("{name}: {value}")).to_owned()
}

/// A key that was drawn: its id, and it.
fn draw(weft: &Weft, consumer: &str, body: &Value) -> (String, String) {
    let key = done(&api(weft, "POST", &format!("/v1/consumers/{consumer}/keys"), body), 201);
    (text(&key, "id"), text(&key, "key"))
}

fn status(weft: &Weft, key: &str) -> u16 {
    weft.get("/", &format!("x-api-key: {key}\r\n")).status()
}

fn run(weft: &Weft, arguments: &[&str]) -> Output {
    let url = format!("http://{}", weft.address("admin"));
    Command::new(BIN).args(arguments).args(["--admin", &url]).output().unwrap()
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn a_key_lets_in_until_it_is_revoked_also_over_a_restart() {
    let service = Upstream::answering(|_| ok("x"));
    let weft = Weft::start(BIN, &config(&service, ON));
    let groups = json!({ "groups": ["partners", "apps"] });
    let made = done(&api(&weft, "PUT", "/v1/consumers/mobile", &groups), 201);
    assert_eq!((text(&made, "origin"), made["keys"].clone()), ("registry".into(), json!([])));
    done(&api(&weft, "PUT", "/v1/consumers/mobile", &groups), 200);
    let other = json!({ "groups": ["apps"] });
    done(&api(&weft, "PUT", "/v1/consumers/mobile", &other), 409);
    done(&api(&weft, "PUT", "/v1/consumers/web", &groups), 409);
    done(&api(&weft, "PUT", "/v1/consumers/mobile", &json!({ "groups": ["a b"] })), 400);
    done(&api(&weft, "POST", "/v1/consumers/nobody/keys", &Value::Null), 404);
    let (id, key) = draw(&weft, "mobile", &Value::Null);
    assert!(is_drawn(&key), "{key}");
    assert_eq!(status(&weft, &key), 200);
    let told = |name: &str| service.seen().pop().unwrap().get(name).map(str::to_owned);
    assert_eq!(told("x-consumer-username").as_deref(), Some("mobile"));
    assert_eq!(told("x-consumer-groups").as_deref(), Some("partners,apps"));
    assert_eq!(told("x-api-key"), None);
    // Groups change for keys that are there.
    done(&api(&weft, "PUT", "/v1/consumers/mobile?change=true", &other), 200);
    assert_eq!(status(&weft, &key), 200);
    assert_eq!(told("x-consumer-groups").as_deref(), Some("apps"));
    // One of the configuration has keys of the registry beside its own.
    let (id_of_web, web) = draw(&weft, "web", &json!({ "expires_in": "30d" }));
    assert_eq!((status(&weft, &web), status(&weft, "a-key-of-the-web-client")), (200, 200));
    assert_eq!(told("x-consumer-groups").as_deref(), Some("browsers"));
    let shown = done(&api(&weft, "GET", "/v1/consumers/mobile", &Value::Null), 200);
    assert_eq!(shown["keys"][0]["last4"], key[key.len() - 4..]);
    assert_eq!(shown["keys"][0]["id"], *id);
    assert!(shown["keys"][0]["last_used"].is_string(), "{shown}");
    let all = done(&api(&weft, "GET", "/v1/consumers", &Value::Null), 200);
    let names: Vec<_> =
        all["consumers"].as_array().unwrap().iter().map(|it| text(it, "name")).collect();
    assert_eq!((names, &all["next"]), (vec!["mobile".into(), "web".into()], &Value::Null));
    let page = done(&api(&weft, "GET", "/v1/consumers?max=1", &Value::Null), 200);
    assert_eq!(
        (&page["consumers"][0]["name"], &page["next"]),
        (&json!("mobile"), &json!("mobile"))
    );
    let page = done(&api(&weft, "GET", "/v1/consumers?max=1&after=mobile", &Value::Null), 200);
    assert_eq!((&page["consumers"][0]["name"], &page["next"]), (&json!("web"), &Value::Null));
    // A restart, after a crash.
    weft.kill();
    let weft = weft.again(&config(&service, ON));
    assert_eq!((status(&weft, &key), status(&weft, &web)), (200, 200));
    assert_eq!(told("x-consumer-username").as_deref(), Some("web"));
    // Without the registry nobody is let in by it, and with it again everybody.
    weft.reload(&config(&service, "")).unwrap();
    assert_eq!((status(&weft, &key), status(&weft, &web)), (401, 401));
    assert_eq!(status(&weft, "a-key-of-the-web-client"), 200);
    weft.reload(&config(&service, ON)).unwrap();
    assert_eq!((status(&weft, &key), status(&weft, &web)), (200, 200));
    done(&api(&weft, "DELETE", &format!("/v1/consumers/mobile/keys/{id}"), &Value::Null), 204);
    // On every worker, and at once.
    for _ in 0..8 {
        assert_eq!(status(&weft, &key), 401);
    }
    done(&api(&weft, "DELETE", &format!("/v1/consumers/mobile/keys/{id}"), &Value::Null), 404);
    let (_, key) = draw(&weft, "mobile", &Value::Null);
    assert_eq!(status(&weft, &key), 200);
    done(&api(&weft, "DELETE", "/v1/consumers/mobile", &Value::Null), 204);
    assert_eq!(status(&weft, &key), 401);
    done(&api(&weft, "GET", "/v1/consumers/mobile", &Value::Null), 404);
    // One of the configuration would be there as before, with all that lets it in.
    let refused = done(&api(&weft, "DELETE", "/v1/consumers/web", &Value::Null), 409);
    assert!(text(&refused, "type").ends_with(":conflict"), "{refused}");
    assert_eq!((status(&weft, &web), status(&weft, "a-key-of-the-web-client")), (200, 200));
    let path = format!("/v1/consumers/web/keys/{id_of_web}");
    done(&api(&weft, "DELETE", &path, &Value::Null), 204);
    assert_eq!((status(&weft, &web), status(&weft, "a-key-of-the-web-client")), (401, 200));
    done(&api(&weft, "DELETE", "/v1/consumers/web", &Value::Null), 409);
    let log = std::fs::read_to_string(weft.folder().join("access.log")).unwrap();
    for secret in [&key, &web] {
        assert!(!weft.output().contains(&**secret) && !log.contains(&**secret));
    }
}

/// Whether a text looks as keys of the tests look.
fn is_drawn(key: &str) -> bool {
    let rest = key.strip_prefix("shop_live_").unwrap_or_default();
    rest.len() == 36 && rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Asks the admin API for a change and leaves at once, so that only the node knows what becomes of it.
fn leave(weft: &Weft, method: &str, path: &str, body: &str) {
    let mut conn = weft.connect("admin");
    let length = body.len();
    conn.send(format!(
        "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    ));
}

#[test]
fn a_change_is_whole_also_when_whoever_asked_for_it_has_left() {
    let service = Upstream::answering(|_| ok("x"));
    let weft = Weft::start(BIN, &config(&service, ON));
    let told = |name: &str| service.seen().pop().unwrap().get(name).map(str::to_owned);
    let gone = |path: &str| api(&weft, "GET", path, &Value::Null).status() == 404;
    // A change that was not begun before its caller had left is none, so each is asked for until it is made.
    for number in 0..12 {
        let at = format!("/v1/consumers/c{number}");
        until("it is made", || {
            leave(&weft, "PUT", &at, r#"{"groups":["admins"]}"#);
            (!gone(&at)).then_some(())
        });
        let (id, key) = draw(&weft, &format!("c{number}"), &Value::Null);
        let (_, other) = draw(&weft, &format!("c{number}"), &Value::Null);
        assert_eq!((status(&weft, &key), status(&weft, &other)), (200, 200), "{number}");
        assert_eq!(told("x-consumer-groups").as_deref(), Some("admins"), "{number}");
        until("it is changed", || {
            leave(&weft, "PUT", &format!("{at}?change=true"), r#"{"groups":[]}"#);
            let shown = done(&api(&weft, "GET", &at, &Value::Null), 200);
            (shown["groups"] == json!([])).then_some(())
        });
        until("everybody knows", || {
            assert_eq!(status(&weft, &key), 200, "{number}");
            told("x-consumer-groups").is_none().then_some(())
        });
        until("it is revoked", || {
            leave(&weft, "DELETE", &format!("{at}/keys/{id}"), "");
            let shown = done(&api(&weft, "GET", &at, &Value::Null), 200);
            (shown["keys"].as_array().unwrap().len() == 1).then_some(())
        });
        until("it lets nobody in", || (status(&weft, &key) == 401).then_some(()));
        until("it is deleted", || {
            leave(&weft, "DELETE", &at, "");
            gone(&at).then_some(())
        });
        until("its key lets nobody in", || (status(&weft, &other) == 401).then_some(()));
    }
}

#[test]
fn nobody_inherits_the_keys_of_another() {
    let service = Upstream::answering(|_| ok("x"));
    let weft = Weft::start(BIN, &config(&service, ON));
    let put =
        |status| done(&api(&weft, "PUT", "/v1/consumers/ada", &json!({ "groups": [] })), status);
    put(201);
    let mut keys: Vec<(String, String)> =
        (0..100).map(|_| draw(&weft, "ada", &Value::Null)).collect();
    let rotate = |id: &str, overlap: &str, status| {
        let path = format!("/v1/consumers/ada/keys/{id}/rotate");
        done(&api(&weft, "POST", &path, &json!({ "overlap": overlap })), status)
    };
    // There is no room for two in the place of one, but for one.
    rotate(&keys[0].0, "1h", 409);
    let drawn = rotate(&keys[0].0, "0s", 201);
    assert_eq!(status(&weft, &keys[0].1), 401);
    keys[0] = (text(&drawn, "id"), text(&drawn, "key"));
    done(&api(&weft, "DELETE", "/v1/consumers/ada", &Value::Null), 204);
    done(&api(&weft, "GET", "/v1/consumers/ada", &Value::Null), 404);
    put(201);
    for (_, key) in &keys {
        assert_eq!(status(&weft, key), 401);
    }
    // Keys that are drawn while a consumer is deleted are its own, or nobody's.
    for _ in 0..6 {
        let drawn = std::sync::Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..8 {
                        let answer = api(&weft, "POST", "/v1/consumers/ada/keys", &Value::Null);
                        if answer.status() == 201 {
                            let body: Value = serde_json::from_slice(&answer.body).unwrap();
                            drawn.lock().unwrap().push(text(&body, "key"));
                        }
                    }
                });
            }
            done(&api(&weft, "DELETE", "/v1/consumers/ada", &Value::Null), 204);
        });
        put(201);
        for key in drawn.into_inner().unwrap() {
            assert_eq!(status(&weft, &key), 401);
        }
    }
    // One of the configuration that is taken out of it leaves its keys, which nobody else is given.
    let (_, key) = draw(&weft, "web", &Value::Null);
    assert_eq!(status(&weft, &key), 200);
    weft.reload(&config(&service, ON).replace("  web: {", "  other: {")).unwrap();
    let refused = api(&weft, "PUT", "/v1/consumers/web", &json!({ "groups": ["admins"] }));
    assert_eq!(refused.status(), 409, "{}", refused.text());
    assert_eq!(status(&weft, &key), 401);
    done(&api(&weft, "DELETE", "/v1/consumers/web", &Value::Null), 204);
    done(&api(&weft, "PUT", "/v1/consumers/web", &json!({ "groups": ["admins"] })), 201);
    assert_eq!(status(&weft, &key), 401);
}

#[test]
fn keys_are_rotated_with_overlap_and_end_in_time() {
    let service = Upstream::answering(|_| ok("x"));
    let weft = Weft::start(BIN, &config(&service, "consumer_registry: on"));
    let made = said(&run(&weft, &["consumer", "create", "ada", "--groups", "staff"]));
    assert!(made.contains("ada") && made.contains("staff"), "{made}");
    let create = ["consumer", "key", "create", "ada", "--output", "json"];
    let drawn: Value = serde_json::from_str(&said(&run(&weft, &create))).unwrap();
    let (id, first) = (text(&drawn, "id"), text(&drawn, "key"));
    assert!(first.starts_with("weft_"));
    let rotate = ["consumer", "key", "rotate", "ada", &id, "--overlap", "1h", "--output", "json"];
    let drawn: Value = serde_json::from_str(&said(&run(&weft, &rotate))).unwrap();
    let (next, second) = (text(&drawn, "id"), text(&drawn, "key"));
    assert_eq!((status(&weft, &first), status(&weft, &second)), (200, 200));
    let listed = said(&run(&weft, &["consumer", "key", "list", "ada"]));
    assert!(listed.contains(&id) && listed.contains(&next), "{listed}");
    assert!(!listed.contains(&first) && !listed.contains(&second), "{listed}");
    // Once more without overlap; the first one ends when it was to end.
    let rotate = ["consumer", "key", "rotate", "ada", &next, "--overlap", "0", "--output", "json"];
    let drawn: Value = serde_json::from_str(&said(&run(&weft, &rotate))).unwrap();
    let third = text(&drawn, "key");
    assert_eq!([&first, &second, &third].map(|key| status(&weft, key)), [200, 401, 200]);
    said(&run(&weft, &["consumer", "key", "revoke", "ada", &id]));
    assert_eq!(status(&weft, &first), 401);
    let twice = run(&weft, &["consumer", "key", "revoke", "ada", &id]);
    assert_eq!(twice.status.code(), Some(1));
    // What is rotated is good for as long as it was to be.
    let (short, key) = draw(&weft, "ada", &json!({ "expires_in": "1500ms" }));
    assert_eq!(status(&weft, &key), 200);
    let path = format!("/v1/consumers/ada/keys/{short}/rotate");
    let rotated = done(&api(&weft, "POST", &path, &json!({ "overlap": "10d" })), 201);
    let second = text(&rotated, "key");
    assert!(rotated["expires"].is_string(), "{rotated}");
    until("both have ended", || {
        ([&key, &second].map(|key| status(&weft, key)) == [401, 401]).then_some(())
    });
    // Passwords.
    let (_, password) = draw(&weft, "ada", &json!({ "kind": "password" }));
    assert_eq!(status(&weft, &password), 401);
    let token = STANDARD.encode(format!("ada:{password}"));
    assert_eq!(weft.get("/", &format!("authorization: Basic {token}\r\n")).status(), 200);
    for body in [
        json!({ "kind": "token" }),
        json!({ "expires_in": "0s" }),
        json!({ "expires": "1d" }),
        json!({ "expires_in": 5 }),
    ] {
        done(&api(&weft, "POST", "/v1/consumers/ada/keys", &body), 400);
    }
    let all = said(&run(&weft, &["consumer", "list"]));
    assert!(all.contains("ada") && all.contains("configuration"), "{all}");
    said(&run(&weft, &["consumer", "delete", "ada", "--confirm", "ada"]));
    assert_eq!(status(&weft, &third), 401);
}

#[test]
fn many_edits_under_traffic_lose_no_request() {
    let service = Upstream::answering(|_| ok("x"));
    let weft = Weft::start(BIN, &config(&service, ON));
    done(&api(&weft, "PUT", "/v1/consumers/steady", &json!({})), 201);
    let (_, key) = draw(&weft, "steady", &Value::Null);
    let (stop, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut conn = weft.connect("web");
                while !stop.load(Ordering::Relaxed) {
                    let request = format!("GET / HTTP/1.1\r\nhost: t\r\nx-api-key: {key}\r\n\r\n");
                    assert_eq!(conn.ask(request).status(), 200);
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        scope.spawn(|| {
            http2::run(async {
                let client = Client::to(weft.address("web")).await;
                while !stop.load(Ordering::Relaxed) {
                    let request = http2::request("GET", "/").header("x-api-key", &*key);
                    let answer = client.ask(request.body(Vec::new()).unwrap()).await.unwrap();
                    assert_eq!(answer.status, 200);
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        });
        for number in 0..100 {
            let name = format!("c{number}");
            done(&api(&weft, "PUT", &format!("/v1/consumers/{name}"), &json!({})), 201);
            let (id, fresh) = draw(&weft, &name, &Value::Null);
            assert_eq!(status(&weft, &fresh), 200);
            if number % 2 == 0 {
                let path = format!("/v1/consumers/{name}/keys/{id}");
                done(&api(&weft, "DELETE", &path, &Value::Null), 204);
                assert_eq!(status(&weft, &fresh), 401);
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(asked.load(Ordering::Relaxed) > 100);
    assert_eq!(weft.metric("weft_kept_consumers", &[]), 101.0);
    assert_eq!(weft.metric("weft_kept_keys", &[]), 51.0);
}

#[test]
fn a_digest_stands_for_a_key_and_a_password() {
    let service = Upstream::answering(|_| ok("x"));
    let create = Command::new(BIN).args(["key", "create", "--output", "json"]).output().unwrap();
    let drawn: Value = serde_json::from_str(&said(&create)).unwrap();
    let (key, digest) = (text(&drawn, "key"), text(&drawn, "digest"));
    let yaml = config(&service, "")
        .replace("'${WEB:-a-key-of-the-web-client}'", &format!("'{digest}', basic: '@PASSWORD'"));
    let yaml = yaml.replace("@PASSWORD", &digest_of("web", "a-password"));
    let weft = Weft::start(BIN, &yaml);
    assert_eq!((status(&weft, &key), status(&weft, &digest)), (200, 401));
    let token = STANDARD.encode("web:a-password");
    assert_eq!(weft.get("/", &format!("authorization: Basic {token}\r\n")).status(), 200);
    let unknown = api(&weft, "GET", "/v1/consumers", &Value::Null);
    done(&unknown, 404);
}

/// What `weft key digest` makes of a password.
fn digest_of(username: &str, password: &str) -> String {
    use std::io::Write as _;
    let mut child = Command::new(BIN)
        .args(["key", "digest", "--username", username])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{password}").unwrap();
    said(&child.wait_with_output().unwrap()).trim().to_owned()
}
