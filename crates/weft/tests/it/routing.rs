//! Which route takes a request, and what it does with it.

use weft_testkit::{
    Upstream, Weft,
    http2::{self, Client},
    upstream::ok,
};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

#[test]
fn the_most_specific_route_takes_a_request() {
    let said = |name: &str, of: &str| {
        format!("  - {{ name: {name}, match: {of}, respond: {{ body: {name} }} }}\n")
    };
    let routes = [
        said("rest", "/*"),
        said("prefix", "/a/*"),
        said("longer", "/a/b/*"),
        said("exact", "/a/b"),
        said("template", "'/orders/{id}'"),
        said("get-only", "{ path: /only, method: GET }"),
        said("header", "{ path: /a/b, headers: { x-beta: '1' } }"),
        said("host", "{ host: shop.example, path: /* }"),
        said("wild", "{ host: '*.example', path: /* }"),
    ]
    .concat();
    let weft = Weft::start(
        BIN,
        &format!("admin: off\nlisteners: {{ web: {{ address: '@web' }} }}\nroutes:\n{routes}"),
    );
    let table = [
        ("/", "t", "", "rest"),
        ("/a/x", "t", "", "prefix"),
        ("/a/b/c", "t", "", "longer"),
        ("/a/b", "t", "", "exact"),
        ("/a/./c/../b", "t", "", "exact"),
        ("/a/b", "t", "x-beta: 1\r\n", "header"),
        ("/orders/7", "t", "", "template"),
        ("/orders/7/x", "t", "", "rest"),
        ("/a/b", "shop.example", "", "host"),
        ("/a/b", "SHOP.example:8080", "", "host"),
        ("/a/b", "www.example", "", "wild"),
    ];
    for (path, host, fields, route) in table {
        let response = weft.ask(format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{fields}\r\n"));
        assert_eq!(response.text(), route, "{host}{path} {fields}");
    }
}

#[test]
fn what_a_route_changes_is_changed() {
    let service = Upstream::answering(|request| {
        format!("HTTP/1.1 200 OK\r\nserver: secret\r\n{}", &ok(request.target())[17..])
    });
    let weft = Weft::start(
        BIN,
        &format!(
            "admin: off
listeners: {{ web: {{ address: '@web' }} }}
services: {{ it: {{ endpoints: '{}' }} }}
routes:
  - {{ name: prefix, match: /api/*, rewrite: {{ prefix: /v2 }}, to: it }}
  - {{ name: template, match: '/old/{{id}}', rewrite: {{ template: '/new/{{id}}' }}, to: it }}
  - {{ name: moved, match: /moved, redirect: {{ scheme: https, path: /there, status: 308 }} }}
  - {{ name: get, match: {{ path: /get, method: GET }}, to: it }}
  - {{ name: said, match: /said, respond: {{ status: 418, body: tea, headers: {{ x-a: b }} }} }}
  - name: headers
    match: /headers
    headers:
      request: {{ set: {{ x-set: '1' }}, remove: x-gone }}
      response: {{ remove: server, add: {{ x-added: '2' }} }}
    to: it
",
            service.address()
        ),
    );
    assert_eq!(weft.get("/api/x?q=1", "").text(), "/v2/x?q=1");
    assert_eq!(weft.get("/old/7", "").text(), "/new/7");
    let moved = weft.get("/moved?q=1", "");
    assert_eq!(moved.status(), 308);
    assert_eq!(moved.get("location"), Some("https://test/there?q=1"));
    let refused = weft.ask("PUT /get HTTP/1.1\r\nhost: t\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(refused.status(), 405);
    assert!(refused.get("allow").is_some_and(|allow| allow.contains("GET")), "{refused:?}");
    let said = weft.get("/said", "");
    assert_eq!((said.status(), said.text(), said.get("x-a")), (418, "tea".to_owned(), Some("b")));
    let changed = weft.get("/headers", "x-gone: 1\r\n");
    assert_eq!((changed.get("server"), changed.get("x-added")), (None, Some("2")));
    let seen = service.seen().pop().unwrap();
    assert_eq!((seen.get("x-set"), seen.get("x-gone")), (Some("1"), None));
    assert_eq!(weft.get("/nowhere", "").status(), 404);
}

#[test]
fn weights_are_kept_and_mirrors_see_copies() {
    let (one, two, mirror) =
        (Upstream::saying("one"), Upstream::saying("two"), Upstream::saying("dropped"));
    let weft = Weft::start(
        BIN,
        &format!(
            "admin: off
listeners: {{ web: {{ address: '@web' }} }}
services:
  one: {{ endpoints: '{}' }}
  two: {{ endpoints: '{}' }}
  mirror: {{ endpoints: '{}' }}
routes:
  - {{ name: split, match: /split, to: [{{ service: one, weight: 3 }}, {{ service: two, weight: 1 }}] }}
  - {{ name: copied, match: /copied, to: one, mirror: mirror }}
",
            one.address(),
            two.address(),
            mirror.address()
        ),
    );
    let mut conn = weft.connect("web");
    let turns = 400;
    let first = (0..turns)
        .filter(|_| conn.ask("GET /split HTTP/1.1\r\nhost: t\r\n\r\n").text() == "one")
        .count();
    assert!((250..=350).contains(&first), "{first} of {turns} at a weight of 3 in 4");
    let copied = weft.ask("POST /copied HTTP/1.1\r\nhost: t\r\ncontent-length: 4\r\n\r\nbody");
    assert_eq!(copied.text(), "one");
    assert_eq!(mirror.wait_seen(1)[0].text(), "body");
    // By HTTP/2 the end of a body is not asked for either, if its length was told.
    http2::run(async {
        let client = Client::to(weft.address("web")).await;
        for (seen, length) in [(2, None), (3, Some("5"))] {
            let mut asked = http2::request("POST", "/copied");
            if let Some(length) = length {
                asked = asked.header("content-length", length);
            }
            client.ask(asked.body(b"hello".to_vec()).unwrap()).await.unwrap();
            assert_eq!(mirror.wait_seen(seen)[seen - 1].text(), "hello", "{length:?}");
        }
    });
}

/// A copy is framed by the body that is held, however the request that it is made of was framed: else its
/// body would be the mirror's next request.
#[test]
fn a_copy_of_a_chunked_request_is_one_request() {
    let (one, mirror) = (Upstream::saying("one"), Upstream::saying("dropped"));
    let weft = Weft::start(
        BIN,
        &format!(
            "admin: off
listeners: {{ web: {{ address: '@web' }} }}
services:
  one: {{ endpoints: '{}' }}
  mirror: {{ endpoints: '{}' }}
routes: [{{ name: copied, to: one, mirror: mirror }}]
",
            one.address(),
            mirror.address()
        ),
    );
    let inner = "DELETE /admin HTTP/1.1\r\nhost: t\r\ncontent-length: 0\r\n\r\n";
    let chunks = format!("{:x}\r\n{inner}\r\n0\r\nx-sum: 1\r\n\r\n", inner.len());
    let asked =
        "POST /copied HTTP/1.1\r\nhost: t\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n";
    assert_eq!(weft.ask(format!("{asked}{chunks}")).text(), "one");
    let without = weft.ask("POST /none HTTP/1.1\r\nhost: t\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(without.text(), "one");
    let mut seen = mirror.wait_seen(2);
    seen.sort_by_key(|copy| copy.target().to_owned());
    assert_eq!((seen[0].method(), seen[0].text().as_str()), ("POST", inner));
    let length = inner.len().to_string();
    assert_eq!(seen[0].get("content-length"), Some(length.as_str()));
    assert_eq!(seen[0].get("trailer"), None, "a copy has no trailers");
    assert_eq!((seen[1].target(), seen[1].get("content-length")), ("/none", Some("0")));
    assert_eq!(mirror.seen().len(), 2);
}
