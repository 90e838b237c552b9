//! Outboxes, as far as that needs no database: those are the suite `outboxes`.

use std::process::Command;

use weft_testkit::{HttpMessage, Upstream, Weft};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

/// The `@` of the URL is written as YAML has it: the kit takes one for the name of an address.
fn config(port: u16, more: &str) -> String {
    format!(
        "admin: {{ listen: '@admin' }}
listeners: {{ web: {{ address: '@web' }} }}
routes: [{{ name: all, respond: 200 }}]
topics: {{ outbox.event.order: {{}} }}
outboxes: {{ shop: {{ database: \"postgres://weft:a-password\\x40127.0.0.1:{port}/shop\", table: outbox{more} }} }}
"
    )
}

fn admin(node: &Weft, method: &str, path: &str, body: &str) -> HttpMessage {
    let length = body.len();
    node.connect("admin").ask(format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    ))
}

#[test]
fn an_outbox_whose_database_is_away_says_so_and_holds_up_nothing() {
    let nowhere = Upstream::nowhere();
    let yaml = config(nowhere.address().port(), ", required: true");
    let node = Weft::start(BIN, &yaml);
    assert_eq!(node.get("/", "").status(), 200);
    let line = node.wait_line("the outbox waits");
    assert!(line.contains("shop") && !line.contains("a-password"), "{line}");
    assert_eq!(node.metric("weft_outbox_up", &["shop"]), 0.0);
    // It is tried again, and nobody has to decide anything.
    assert_eq!(admin(&node, "GET", "/readyz", "").status(), 200);
    let shown = admin(&node, "GET", "/v1/outboxes/shop", "");
    assert_eq!(shown.status(), 200);
    let text = shown.text();
    assert!(text.contains("\"state\":\"away\"") && text.contains("refused"), "{text}");
    assert!(!text.contains("a-password"), "{text}");
    assert_eq!(admin(&node, "GET", "/v1/outboxes/other", "").status(), 404);
    let reset = admin(&node, "POST", "/v1/outboxes/shop/reset", r#"{"from":"now"}"#);
    assert_eq!(reset.status(), 409, "{}", reset.text());
    let wrong = admin(&node, "POST", "/v1/outboxes/shop/reset", r#"{"from":"then"}"#);
    assert_eq!(wrong.status(), 400, "{}", wrong.text());
}

#[test]
fn the_command_line_lists_and_shows_outboxes() {
    let nowhere = Upstream::nowhere();
    let node = Weft::start(BIN, &config(nowhere.address().port(), ""));
    let admin = format!("http://{}", node.address("admin"));
    let said = |arguments: &[&str]| {
        let output = Command::new(BIN).args(arguments).args(["--admin", &admin]).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, list) = said(&["outbox", "list"]);
    assert_eq!(code, Some(0), "{list}");
    assert!(list.contains("shop") && list.contains("127.0.0.1"), "{list}");
    let (code, one) = said(&["outbox", "show", "shop"]);
    assert_eq!(code, Some(0), "{one}");
    assert!(one.contains("weft_shop") && !one.contains("a-password"), "{one}");
    assert_eq!(said(&["outbox", "reset", "other", "--from", "now"]).0, Some(1));
}

#[test]
fn outboxes_come_and_go_with_a_reload() {
    let nowhere = Upstream::nowhere();
    let yaml = config(nowhere.address().port(), "");
    let without = yaml.replace("outboxes:", "# outboxes:");
    let node = Weft::start(BIN, &without);
    assert_ne!(admin(&node, "GET", "/v1/outboxes", "").status(), 200);
    node.reload(&yaml).unwrap();
    assert!(admin(&node, "GET", "/v1/outboxes", "").text().contains("shop"));
    node.wait_line("the outbox waits");
    node.reload(&without).unwrap();
    assert_eq!(admin(&node, "GET", "/v1/outboxes", "").text().trim(), "[]");
}
