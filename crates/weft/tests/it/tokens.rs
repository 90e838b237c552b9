//! Tokens of the admin API: each operation of the table, with each permission and without any.

use serde_json::Value;
use weft::components::Components;
use weft_api::{Operation, Permission};
use weft_testkit::{HttpMessage, Weft};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

fn node() -> Weft {
    let tokens: Vec<String> = Permission::ALL
        .iter()
        .map(|one| {
            let word = one.word();
            format!("    may-{word}: {{ token: '{}', permissions: {word} }}\n", secret(*one))
        })
        .collect();
    Weft::start(
        BIN,
        &format!(
            "admin:
  listen: '@admin'
  token: the-one-for-all
  tokens:
{}    both: {{ token: publishes-and-consumes, permissions: [publish, consume] }}
ledger: data
listeners: {{ web: {{ address: '@web' }} }}
services: {{ orders: {{ endpoints: '127.0.0.1:9' }} }}
routes: [{{ name: all, to: orders }}]
topics: {{ t: {{}} }}
",
            tokens.concat()
        ),
    )
}

fn secret(of: Permission) -> String {
    format!("it-may-{}", of.word())
}

fn ask(node: &Weft, operation: &Operation, token: Option<&str>) -> HttpMessage {
    // Nothing has these names, so that what is allowed does no harm.
    let path = operation
        .place_names()
        .fold(operation.path.to_owned(), |path, name| path.replace(&format!("{{{name}}}"), "none"));
    let shown = token.map_or(String::new(), |token| format!("authorization: Bearer {token}\r\n"));
    node.connect("admin").ask(format!(
        "{} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 0\r\n{shown}\r\n",
        operation.method
    ))
}

fn reason(answer: &HttpMessage) -> (String, String) {
    let problem: Value = serde_json::from_slice(&answer.body).unwrap();
    let text = |name: &str| problem[name].as_str().unwrap().to_owned();
    (text("type").replace("urn:weft:problem:", ""), text("detail"))
}

#[test]
fn each_operation_is_for_who_has_its_permission() {
    let node = node();
    let operations = Components::operations();
    assert!(operations.len() > 60, "{}", operations.len());
    for operation in operations {
        let Some(needed) = operation.permission else {
            for token in [None, Some("wrong")] {
                let status = ask(&node, operation, token).status();
                assert_eq!(status, 200, "{operation:?} {token:?}");
            }
            continue;
        };
        for token in [None, Some("wrong"), Some("it-may-"), Some("it-may-reads")] {
            let answer = ask(&node, operation, token);
            assert_eq!(answer.status(), 401, "{operation:?} {token:?}");
            assert_eq!(answer.get("www-authenticate"), Some("Bearer"), "{operation:?}");
            assert_eq!(reason(&answer).0, "unauthenticated", "{operation:?}");
        }
        for permission in Permission::ALL {
            let answer = ask(&node, operation, Some(&secret(permission)));
            let place = format!("{operation:?} by {}: {}", permission.word(), answer.text());
            if permission == needed {
                assert!(![401, 403, 405].contains(&answer.status()), "{place}");
                continue;
            }
            assert_eq!(answer.status(), 403, "{place}");
            let challenge = answer.get("www-authenticate").unwrap();
            let scope = format!("scope=\"{}\"", needed.word());
            assert!(challenge.contains(&scope), "{place}: {challenge}");
            let (reason, detail) = reason(&answer);
            assert_eq!(reason, "permission_denied", "{place}");
            assert!(detail.contains(&format!("`{}`", needed.word())), "{place}");
        }
        for (token, has) in [
            ("the-one-for-all", true),
            ("publishes-and-consumes", matches!(needed, Permission::Publish | Permission::Consume)),
        ] {
            let status = ask(&node, operation, Some(token)).status();
            assert_eq!(status != 403, has, "{operation:?} {token}: {status}");
        }
    }
}

#[test]
fn no_path_tells_whether_it_is_there_without_a_token() {
    let node = node();
    for path in ["/v1/none", "/v1/topics/t", "/v1/queues/none/messages"] {
        let answer = node
            .connect("admin")
            .ask(format!("PATCH {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 0\r\n\r\n"));
        assert_eq!(answer.status(), 401, "{path}");
    }
}
