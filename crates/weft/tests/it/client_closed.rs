//! Clients that close their connection by HTTP/1.1, wherever their request waits: what it asked for is not
//! done, what it held is free at once, and the log and the metrics say that the client left.

use std::sync::{Mutex, mpsc};

use serde_json::{Value, json};
use weft_testkit::{Authority, Conn, Upstream, Weft, until, upstream::ok};

const BIN: &str = env!("CARGO_BIN_EXE_weft");
const JSON: &str = "application/json";

/// What a client does that leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    /// It ends its direction, as TLS and TCP do, and would go on reading.
    Ends,
    /// It ends its direction by TLS alone.
    EndsTls,
    /// It closes its connection, without a word of TLS.
    Closes,
}

/// The listener that it is at, and what it does.
const WAYS: [(&str, Leaving); 5] = [
    ("plain", Leaving::Ends),
    ("plain", Leaving::Closes),
    ("secure", Leaving::Ends),
    ("secure", Leaving::EndsTls),
    ("secure", Leaving::Closes),
];

/// What a service is told and sees.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Asked(String),
    Ended(String),
}

/// A service that answers nothing, but begins a stream where one is asked for, and answers one request when
/// it is told to.
fn quiet() -> (Upstream, mpsc::Receiver<Seen>, mpsc::SyncSender<()>) {
    let (tell, told) = mpsc::sync_channel(1024);
    let (go, may_go) = mpsc::sync_channel(1);
    let may_go = Mutex::new(may_go);
    let service = Upstream::raw(move |mut conn| {
        let Some(head) = conn.head() else { return };
        let target = head.target().to_owned();
        let _ = tell.try_send(Seen::Asked(target.clone()));
        if target.ends_with("stream") {
            conn.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n7\r\ndata: 1\r\n");
        }
        if target == "/later" && may_go.lock().unwrap().recv().is_ok() {
            conn.send(ok("done"));
        }
        // Until Weft ends the connection; what comes of a body is not of interest.
        while !conn.take(1).is_empty() {}
        let _ = tell.try_send(Seen::Ended(target));
    });
    (service, told, go)
}

struct Stage {
    weft: Weft,
    authority: Authority,
    told: mpsc::Receiver<Seen>,
    go: mpsc::SyncSender<()>,
    way: (&'static str, Leaving),
    _services: [Upstream; 2],
    _certificates: tempfile::TempDir,
}

impl Stage {
    fn new(way: (&'static str, Leaving)) -> Self {
        let (quiet, told, go) = quiet();
        let busy = Upstream::answering(
            |_| "HTTP/1.1 503 No\r\nretry-after: 60\r\ncontent-length: 0\r\n\r\n",
        );
        let authority = Authority::new("here");
        let folder = tempfile::tempdir().unwrap();
        authority.issue(&["it.test"]).write(folder.path(), "it");
        let yaml = format!(
            "admin: {{ listen: '@admin' }}
ledger: {{ path: '@@/data', wal_file: 4MiB }}
telemetry: {{ access_log: all }}
listeners:
  plain: {{ address: '@plain' }}
  secure: {{ address: '@secure', tls: {{ certificates: [{{ cert: '{at}/it.crt', key: '{at}/it.key' }}] }} }}
queues: {{ calls: {{}} }}
services:
  quiet: {{ endpoints: '{quiet}' }}
  narrow: {{ endpoints: '{quiet}', bulkhead: {{ in_flight_max: 1, queue_max: 8, queue_timeout: 55s }} }}
  single: {{ endpoints: '{quiet}', pool: {{ connections_max: 1 }} }}
  busy: {{ endpoints: '{busy}' }}
routes:
  - {{ name: quiet, match: /quiet/*, to: quiet, timeout: 5m }}
  - {{ name: narrow, match: /narrow/*, to: narrow, timeout: 5m }}
  - {{ name: single, match: /single/*, to: single, timeout: 5m }}
  - {{ name: late, match: /late, to: quiet, timeout: 5m, fault: {{ delay: 55s }} }}
  - {{ name: again, match: /again, to: busy, timeout: 5m, retry: {{ retry_after_max: 2m, unsafe_methods: true }} }}
  - {{ name: later, match: /later, to: quiet, timeout: 5m, respond_async: on }}
  - {{ name: messages, match: /m/*, messages: /m }}
",
            at = folder.path().display(),
            quiet = quiet.address(),
            busy = busy.address(),
        );
        let weft = Weft::with(BIN, &yaml, &["--workers", "1"]);
        Self { weft, authority, told, go, way, _services: [quiet, busy], _certificates: folder }
    }

    /// A connection of the client that will leave.
    fn connect(&self) -> Conn {
        match self.way.0 {
            "plain" => self.weft.connect("plain"),
            _ => {
                let tls = self.authority.client(&[]);
                Conn::secure(self.weft.address("secure"), "it.test", &tls).unwrap()
            }
        }
    }

    /// Sends a request that waits, and leaves it once it is under way and `waits` has returned; the line of
    /// the log that tells.
    fn leave(&self, request: &str, waits: impl FnOnce(&mut Conn)) -> Value {
        let before = self.active();
        let line = self.leave_at_once(request, |conn| {
            until("the request is under way", || (self.active() == before + 1.0).then_some(()));
            waits(conn);
        });
        until("it is over", || (self.active() == before).then_some(()));
        line
    }

    /// The same, as soon as `waits` has returned.
    fn leave_at_once(&self, request: &str, waits: impl FnOnce(&mut Conn)) -> Value {
        let mut conn = self.connect();
        conn.send(request);
        waits(&mut conn);
        match self.way.1 {
            Leaving::Closes => drop(conn),
            ends => {
                if ends == Leaving::Ends {
                    conn.finish();
                } else {
                    conn.finish_tls();
                }
                // It is not answered, unless to be told that its request was not whole.
                let rest = conn.rest();
                assert!(!rest.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&rest));
            }
        }
        let target = request.split(' ').nth(1).unwrap();
        let line = self.weft.wait_line(&format!("\"{target}\""));
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["reason"], "caller_gone", "{line}");
        line
    }

    fn active(&self) -> f64 {
        self.weft.metric("http_server_active_requests", &[])
    }

    /// The next thing that the service sees.
    fn told(&self) -> Seen {
        self.told.recv_timeout(weft_testkit::PATIENCE).unwrap()
    }

    /// A request to the admin API under way.
    fn admin(&self, method: &str, path: &str, media: &str, body: &str) -> Conn {
        let mut conn = self.weft.connect("admin");
        let length = body.len();
        conn.send(format!(
            "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: {media}\r\n\
             content-length: {length}\r\n\r\n{body}"
        ));
        conn
    }

    /// How many of something the queue has.
    fn queue(&self, member: &str) -> u64 {
        let text = self.admin("GET", "/v1/queues/calls", JSON, "").response().text();
        let queue: Value = serde_json::from_str(&text).unwrap();
        queue[member].as_u64().unwrap_or_else(|| panic!("no `{member}` in {text}"))
    }

    fn wait_queue(&self, member: &str, count: u64) {
        until(&format!("{count} {member}"), || (self.queue(member) == count).then_some(()));
    }
}

fn asked(target: &str) -> Seen {
    Seen::Asked(target.to_owned())
}

fn ended(target: &str) -> Seen {
    Seen::Ended(target.to_owned())
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: t\r\n\r\n")
}

fn post(path: &str, fields: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nhost: t\r\n{fields}content-length: {length}\r\n\r\n{body}")
}

/// Before it is sent to the service: for a delay, a place of a bulkhead, a connection, another try.
#[test]
fn a_request_whose_client_closes_while_it_waits_for_weft_is_not_sent_on() {
    for way in WAYS {
        let stage = Stage::new(way);
        let first = ["/narrow/first", "/single/first"].map(|path| {
            let mut conn = stage.weft.connect("plain");
            conn.send(get(path));
            assert_eq!(stage.told(), asked(path));
            conn
        });
        for path in ["/late", "/narrow/second", "/single/second", "/again"] {
            for request in [get(path), post(&format!("{path}?post"), "", "abc")] {
                let line = stage.leave(&request, |_| {});
                assert_eq!(line["status"], 499, "{way:?} {line}");
            }
        }
        // With requests sent ahead, which go with it.
        stage.leave(
            &[get("/late?ahead"), get("/quiet/ahead"), get("/quiet/ahead")].concat(),
            |_| {},
        );
        drop(first);
        // What waited would be sent on now, if it were still there.
        let mut places = [stage.told(), stage.told()];
        places.sort_by_key(|seen| format!("{seen:?}"));
        assert_eq!(places, [ended("/narrow/first"), ended("/single/first")], "{way:?}");
        until("nothing is under way", || (stage.active() == 0.0).then_some(()));
        let last = stage.leave(&get("/quiet/last"), |_| {
            assert_eq!(stage.told(), asked("/quiet/last"), "{way:?}");
        });
        assert_eq!(last["status"], 499);
        let gone = ["http_server_request_duration_seconds_count", "caller_gone"];
        assert!(stage.weft.metric(gone[0], &[gone[1]]) >= 10.0, "{way:?}");
    }
}

/// While the service is at it: before its head, within its stream, within the upload.
#[test]
fn a_request_whose_client_closes_while_the_service_works_is_ended_there() {
    for way in WAYS {
        let stage = Stage::new(way);
        for (target, request, status) in [
            ("/quiet/get", get("/quiet/get"), 499),
            ("/quiet/old", "GET /quiet/old HTTP/1.0\r\nhost: t\r\n\r\n".to_owned(), 499),
            ("/quiet/close", post("/quiet/close", "connection: close\r\n", "abc"), 499),
            ("/quiet/whole", post("/quiet/whole", "", "abc"), 499),
            ("/quiet/part", post("/quiet/part", "", "abc").replace(": 3", ": 9"), 499),
            ("/quiet/stream", get("/quiet/stream"), 200),
        ] {
            let line = stage.leave(&request, |conn| {
                assert_eq!(stage.told(), asked(target), "{way:?}");
                if target == "/quiet/stream" {
                    assert_eq!(conn.head().unwrap().status(), 200);
                    assert_eq!(conn.take(12), b"7\r\ndata: 1\r\n");
                }
            });
            assert_eq!(line["status"], status, "{way:?} {line}");
            assert_eq!(stage.told(), ended(target), "{way:?}");
        }
    }
}

/// What is to be answered later is kept: a client that leaves while it waits gives up the wait alone.
#[test]
fn an_operation_whose_client_closes_while_it_waits_goes_on() {
    for way in WAYS {
        let stage = Stage::new(way);
        let request = post("/later", "prefer: respond-async, wait=50\r\n", "abc");
        let line = stage.leave_at_once(&request, |_| assert_eq!(stage.told(), asked("/later")));
        assert_eq!(line["status"], 499, "{way:?} {line}");
        stage.go.send(()).unwrap();
        let line = stage.weft.wait_line("\"listener\":\"internal\"");
        assert!(line.contains("\"status\":200,"), "{way:?} {line}");
    }
}

/// A poll, a stream and a call that are left are no consumers any more, and take nothing.
#[test]
fn a_consumer_whose_client_closes_takes_no_message() {
    let body = json!({ "wait": "55s", "max": 1 }).to_string();
    let receive = "/m/v1/queues/calls/receive";
    let json = format!("content-type: {JSON}\r\n");
    for way in WAYS {
        let stage = Stage::new(way);
        for _ in 0..3 {
            let line =
                stage.leave(&post(receive, &json, &body), |_| stage.wait_queue("consumers", 1));
            assert_eq!(line["status"], 499, "{way:?} {line}");
            stage.wait_queue("consumers", 0);
        }
        let mut conn = stage.admin("POST", "/v1/queues/calls/messages", JSON, "1");
        assert_eq!(conn.response().status(), 200);
        let counts = ["ready", "leased", "failed"].map(|member| stage.queue(member));
        assert_eq!(counts, [1, 0, 0], "{way:?}");
        let line = stage.leave(
            &get("/m/v1/queues/calls/stream")
                .replace("\r\n\r\n", "\r\naccept: text/event-stream\r\n\r\n"),
            |conn| {
                assert_eq!(conn.head().unwrap().status(), 200);
                stage.wait_queue("leased", 1);
            },
        );
        assert_eq!(line["status"], 200, "{way:?} {line}");
        stage.wait_queue("consumers", 0);
        // What it was handed goes back with it.
        stage.wait_queue("ready", 1);
    }
}

/// A call that is left is forgotten: its reply finds nobody.
#[test]
fn a_call_whose_client_closes_waits_for_no_reply() {
    let receive = json!({ "wait": "55s", "max": 1 }).to_string();
    for way in WAYS {
        let stage = Stage::new(way);
        let mut worker = stage.admin("POST", "/v1/queues/calls/receive", JSON, &receive);
        stage.wait_queue("consumers", 1);
        let call = "/m/v1/queues/calls/request?timeout=60s";
        let mut taken = Value::Null;
        let line = stage.leave(&post(call, "", "abc"), |_| {
            taken = serde_json::from_str(&worker.response().text()).unwrap();
        });
        assert_eq!(line["status"], 499, "{way:?} {line}");
        let event = &taken["deliveries"][0]["event"];
        let reply = json!({
            "specversion": "1.0", "id": "1", "source": "/", "type": "reply",
            "correlationid": event["correlationid"], "data": 2,
        });
        let path = format!("/v1/queues/{}/messages", event["replyto"].as_str().unwrap());
        let media = "application/cloudevents+json";
        let answer = stage.admin("POST", &path, media, &reply.to_string()).response();
        assert_eq!(answer.status(), 503, "{way:?} {}", answer.text());
        assert!(answer.text().contains("no_listener"), "{way:?} {}", answer.text());
    }
}

/// What is answered at once is answered, and what is whole is written to its end, whoever ends its direction.
#[test]
fn what_is_ready_is_written_to_a_client_that_ends_its_direction() {
    let body = "x".repeat(1 << 20);
    let weft = Weft::start(
        BIN,
        &format!(
            "listeners: {{ web: {{ address: '@web' }} }}
routes:
  - {{ name: small, match: /small, respond: {{ body: well }} }}
  - {{ name: large, match: /large, respond: {{ body: {body} }} }}
"
        ),
    );
    let mut conn = weft.connect("web");
    conn.send([get("/small"), get("/large"), get("/small")].concat());
    conn.finish();
    assert_eq!(conn.response().text(), "well");
    assert_eq!(conn.response().body.len(), body.len());
    assert_eq!(conn.response().text(), "well");
    assert!(conn.is_closed());
}
