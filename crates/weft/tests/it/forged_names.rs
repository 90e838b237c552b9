//! What a client says under names that are not its own: names that read like another to services behind CGI, before a
//! body and after it; and secrets in a target, whoever refuses the request.

use std::sync::{Arc, Mutex};

use http::{HeaderMap, HeaderName};
use weft_testkit::{
    HttpMessage, Upstream, Weft, grpc,
    http2::{self, Client, Service},
    until,
    upstream::ok,
};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

fn config(service: &str, more: &str) -> String {
    format!(
        "
admin: {{ listen: '@admin' }}
telemetry: {{ access_log: {{ include: all, output: '@@/access.log' }} }}
listeners: {{ web: {{ address: '@web', underscores: true }} }}
services: {{ app: {{ endpoints: '{service}'{more} }} }}
consumers: {{ mobile: {{ api_keys: '${{K:-key-of-mobile-0123456789}}' }} }}
policies:
  known:
    authentication: {{ any: {{ api_key: {{ header: x-key, query: key }} }} }}
    headers: {{ request: {{ remove: x-internal, set: {{ x-zone: blue }} }} }}
    service_credentials: {{ headers: {{ x-service-key: '${{S:-shown-to-the-service}}' }} }}
routes:
  - {{ name: known, match: /known/*, policies: known, to: app }}
  - {{ name: small, match: /small/*, policies: known, body_max: 4B, cors: https://a.example, to: app }}
"
    )
}

/// Names under which nobody but the node says anything here, each as it reads and as it stands.
const FORGED: [&str; 18] = [
    "x_consumer_username",
    "x.consumer.groups",
    "x-anonymous_consumer",
    "x_key",
    "x.key",
    "x_internal",
    "x.internal",
    "x_zone",
    "x.zone",
    "x_service_key",
    "x.service.key",
    "x_forwarded_for",
    "x.forwarded.host",
    "x_forwarded_client_cert",
    "x_real_ip",
    "x.request.attempt",
    "content_length",
    "transfer.encoding",
];

/// The names of fields that read like one of those, and were not made by the node.
fn forged<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let plain = |name: &str| name.replace(['_', '.'], "-");
    names
        .filter(|name| {
            name.contains(['_', '.']) && FORGED.iter().any(|it| plain(it) == plain(name))
        })
        .map(str::to_owned)
        .collect()
}

#[test]
fn names_that_read_like_one_of_the_nodes_own_go_no_further() {
    let service = Upstream::answering(|_| ok("x"));
    let weft = Weft::start(BIN, &config(&service.address().to_string(), ""));
    let lines: String = FORGED.iter().map(|name| format!("{name}: forged\r\n")).collect();
    let key = "x-key: key-of-mobile-0123456789\r\n";
    let answer =
        weft.get("/known/1", &format!("{lines}{key}x-service-key: forged\r\nx_own: 1\r\n"));
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let seen = service.seen().pop().unwrap();
    let names = seen.fields.iter().map(|(name, _)| &**name);
    assert_eq!(forged(names), Vec::<String>::new());
    for (name, value) in [
        ("x-consumer-username", "mobile"),
        ("x-zone", "blue"),
        ("x-service-key", "shown-to-the-service"),
        ("x_own", "1"),
        ("x-forwarded-for", "127.0.0.1"),
    ] {
        assert_eq!(seen.all(name), [value], "{name}");
    }
}

const AFTER: [&str; 8] = [
    "x-consumer-username",
    "x_consumer_groups",
    "x-key",
    "x.key",
    "x-internal",
    "x_zone",
    "x-service-key",
    "x.forwarded.for",
];

#[test]
fn nothing_of_the_kind_comes_after_a_body() {
    let service = Upstream::answering(|_| ok("x"));
    let weft = Weft::start(BIN, &config(&service.address().to_string(), ""));
    let ask = |trailers: &str| -> HttpMessage {
        let answer = weft.ask(format!(
            "POST /known/1 HTTP/1.1\r\nhost: t\r\nx-key: key-of-mobile-0123456789\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n{trailers}\r\n"
        ));
        assert_eq!(answer.status(), 200, "{}", answer.text());
        service.seen().pop().unwrap()
    };
    let lines: String = AFTER.iter().map(|name| format!("{name}: forged\r\n")).collect();
    let seen = ask(&format!("{lines}x-sum: 1\r\n"));
    assert_eq!((&*seen.text(), seen.trailers), ("hi", vec![("x-sum".into(), "1".into())]));
    // What has nothing left is whole all the same.
    let seen = ask(&lines);
    assert_eq!((&*seen.text(), seen.trailers.len()), ("hi", 0));
}

#[test]
fn nothing_of_the_kind_comes_after_a_body_of_http_2() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let kept = told.clone();
    let service = Service::new(move |request, mut respond| {
        let kept = kept.clone();
        async move {
            let (body, trailers) = http2::gather(request.into_body()).await?;
            kept.lock().unwrap().push((body, trailers));
            let mut out = grpc::begin(&mut respond)?;
            out.send_trailers(grpc::status(0, ""))
        }
    });
    let more = ", protocol: http2";
    let weft = Weft::start(BIN, &config(&service.address().to_string(), more));
    http2::run(async {
        let client = Client::to(weft.address("web")).await;
        let request = grpc::call("/known/Call").header("x-key", "key-of-mobile-0123456789");
        let (response, mut stream) = client.begin(request.body(()).unwrap()).await.unwrap();
        let mut trailers = HeaderMap::new();
        for name in AFTER.iter().chain(&["x-sum"]) {
            trailers.insert(HeaderName::from_static(name), "1".parse().unwrap());
        }
        http2::send_all(&mut stream, grpc::message("hi"), Some(trailers)).await.unwrap();
        let reply = http2::reply(response).await.unwrap();
        assert_eq!((reply.status, reply.trailer("grpc-status")), (200, "0"));
    });
    let (body, trailers) = told.lock().unwrap().pop().unwrap();
    assert_eq!(body, grpc::message("hi"));
    assert_eq!(trailers.keys().collect::<Vec<_>>(), ["x-sum"]);
}

#[test]
fn a_key_in_the_query_is_logged_by_nobody_who_refuses() {
    let service = Upstream::answering(|_| ok("x"));
    let weft = Weft::start(BIN, &config(&service.address().to_string(), ""));
    let large = "POST /small//large?key=a-secret-key&a=1 HTTP/1.1\r\nhost: t\r\ncontent-length: 9\r\n\r\nnine long";
    assert_eq!(weft.ask(large).status(), 413);
    let preflight = "origin: https://a.example\r\naccess-control-request-method: PUT\r\n";
    let asked = format!(
        "OPTIONS /small/preflight?a=1&k%65y=a-secret-key HTTP/1.1\r\nhost: t\r\n{preflight}\r\n"
    );
    assert!(weft.ask(asked).status() < 300);
    let refused = "origin: https://b.example\r\naccess-control-request-method: PUT\r\n";
    weft.ask(format!("OPTIONS /small/other?key=a-secret-key HTTP/1.1\r\nhost: t\r\n{refused}\r\n"));
    let log = until("all are logged", || {
        let log = std::fs::read_to_string(weft.folder().join("access.log")).unwrap();
        let all = ["/small//large?a=1\"", "/small/preflight?a=1\"", "/small/other\""];
        all.iter().all(|target| log.contains(target)).then_some(log)
    });
    assert!(!log.contains("a-secret-key"), "{log}");
}

#[test]
fn a_try_that_fails_is_counted_once() {
    let hangs = Upstream::raw(|mut conn| {
        let _ = conn.rest();
    });
    let yaml = format!(
        "
admin: {{ listen: '@admin' }}
listeners: {{ web: {{ address: '@web' }} }}
services: {{ app: {{ endpoints: '{}' }}, none: {{ endpoints: '127.0.0.1:1' }} }}
routes:
  - {{ name: late, match: /late, timeout: 200ms, retry: off, to: app }}
  - {{ name: none, match: /none, retry: off, to: none }}
",
        hangs.address()
    );
    let weft = Weft::start(BIN, &yaml);
    assert_eq!((weft.get("/late", "").status(), weft.get("/none", "").status()), (504, 502));
    for (service, reason) in [("app", "request_timeout"), ("none", "connect_refused")] {
        let labels = [format!("weft_service=\"{service}\""), format!("reason=\"{reason}\"")];
        let labels: Vec<_> = labels.iter().map(|label| &**label).collect();
        assert_eq!(weft.metric("weft_service_failures_total", &labels), 1.0, "{service}");
    }
}
