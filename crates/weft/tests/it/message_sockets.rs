//! WebSockets of the messages API through the real binary, spoken with another implementation's client:
//! by HTTP/1.1 and HTTP/2, in the clear and by TLS, on a listener and on the admin API.

use std::{future::poll_fn, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use h2::ext::Protocol;
use rustls::{ClientConfig, pki_types::ServerName};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{
        Error, Message,
        client::IntoClientRequest,
        protocol::{CloseFrame, Role, frame::coding::CloseCode},
    },
};
use weft_testkit::{
    Authority, Weft,
    http2::{self, Client, beside, request},
    until,
};

const BIN: &str = env!("CARGO_BIN_EXE_weft");
const STREAM: &str = "/v1/queues/jobs/stream";
const PROTOCOL: &str = "weft.messages.v1";

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

type Socket = WebSocketStream<Box<dyn Duplex>>;

/// How a client comes.
#[derive(Clone, Copy, Debug)]
enum By {
    Http1,
    Http1Tls,
    Http2,
    Http2Tls,
    Admin,
}

const ALL: [By; 5] = [By::Http1, By::Http1Tls, By::Http2, By::Http2Tls, By::Admin];

struct Node {
    weft: Weft,
    authority: Authority,
}

impl Node {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new("messages");
        authority.issue(&["localhost"]).write(folder.path(), "own");
        let file = |end: &str| folder.path().join(format!("own.{end}")).display().to_string();
        let weft = Weft::start(
            BIN,
            &format!(
                "admin: {{ listen: '@admin' }}
ledger: {{ path: '@@/data', wal_file: 4MiB }}
listeners:
  web: {{ address: '@web' }}
  safe: {{ address: '@safe', tls: {{ certificates: [{{ cert: '{}', key: '{}' }}] }} }}
topics: {{ news: {{}} }}
queues: {{ jobs: {{}} }}
routes:
  - {{ name: messages, match: /v1/*, messages: / }}
  - {{ name: placed, match: /events, publish: news }}
",
                file("crt"),
                file("key")
            ),
        );
        // What was read is not read again without a change.
        drop(folder);
        Self { weft, authority }
    }

    fn publish(&self, count: u64) {
        for number in 0..count {
            let body = number.to_string();
            let answer = self.weft.ask(format!(
                "POST /v1/queues/jobs/messages HTTP/1.1\r\nhost: t\r\ncontent-type: \
                 application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            ));
            assert_eq!(answer.status(), 200, "{}", answer.text());
        }
    }

    fn queue(&self) -> Value {
        serde_json::from_str(&self.weft.get("/v1/queues/jobs", "").text()).unwrap()
    }

    fn tls(&self, alpn: &str) -> Arc<ClientConfig> {
        self.authority.client(&[alpn])
    }

    /// A WebSocket of a path; with the subprotocol or without.
    async fn open(&self, by: By, path: &str, named: bool) -> Result<Socket, Error> {
        let name = |by| match by {
            By::Http1 | By::Http2 => "web",
            By::Http1Tls | By::Http2Tls => "safe",
            By::Admin => "admin",
        };
        let address = self.weft.address(name(by));
        match by {
            By::Http1 | By::Admin => {
                let io: Box<dyn Duplex> = Box::new(TcpStream::connect(address).await.unwrap());
                shake(io, address, path, named).await
            }
            By::Http1Tls => {
                let io = TcpStream::connect(address).await.unwrap();
                let server = ServerName::try_from("localhost").unwrap();
                let io = TlsConnector::from(self.tls("http/1.1")).connect(server, io).await;
                shake(Box::new(io.unwrap()), address, path, named).await
            }
            By::Http2 => Ok(connect(&Client::to(address).await, path, named).await.unwrap()),
            By::Http2Tls => {
                let client = Client::secure(address, "localhost", &self.tls("h2")).await;
                Ok(connect(&client, path, named).await.unwrap())
            }
        }
    }
}

async fn shake(
    io: Box<dyn Duplex>,
    address: SocketAddr,
    path: &str,
    named: bool,
) -> Result<Socket, Error> {
    let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
    if named {
        request.headers_mut().insert("sec-websocket-protocol", PROTOCOL.parse().unwrap());
    }
    let (socket, response) = client_async(request, io).await?;
    assert_eq!(response.headers()["connection"], "upgrade");
    assert_eq!(response.headers()["upgrade"], "websocket");
    let told = response.headers().get("sec-websocket-protocol").map(|told| told.as_bytes());
    assert_eq!(told, named.then_some(PROTOCOL.as_bytes()));
    Ok(socket)
}

/// A WebSocket by extended CONNECT (RFC 8441); the status if there is none.
async fn connect(client: &Client, path: &str, named: bool) -> Result<Socket, u16> {
    // The server's SETTINGS have come with the first response.
    client.get("/v1/queues").await.unwrap();
    assert!(client.may_connect());
    let mut asked = request("CONNECT", path).header("sec-websocket-version", "13");
    if named {
        asked = asked.header("sec-websocket-protocol", PROTOCOL);
    }
    let mut asked = asked.body(()).unwrap();
    asked.extensions_mut().insert(Protocol::from_static("websocket"));
    let (response, mut out) = client.begin(asked).await.unwrap();
    let response = response.await.unwrap();
    if response.status() != 200 {
        return Err(response.status().as_u16());
    }
    for field in ["connection", "upgrade", "sec-websocket-accept"] {
        assert!(!response.headers().contains_key(field), "{field}");
    }
    let told = response.headers().get("sec-websocket-protocol").map(|told| told.as_bytes());
    assert_eq!(told, named.then_some(PROTOCOL.as_bytes()));
    let mut body = response.into_body();
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let (mut from, mut into) = tokio::io::split(theirs);
    beside(async move {
        let mut buffer = vec![0; 1 << 14];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            let data = Bytes::copy_from_slice(&buffer[..count]);
            if http2::send(&mut out, data).await.is_err() {
                return;
            }
        }
        let _ = out.send_data(Bytes::new(), true);
    });
    beside(async move {
        while let Some(Ok(data)) = poll_fn(|cx| body.poll_data(cx)).await {
            let _ = body.flow_control().release_capacity(data.len());
            if into.write_all(&data).await.is_err() {
                return;
            }
        }
        let _ = into.shutdown().await;
    });
    let io: Box<dyn Duplex> = Box::new(ours);
    Ok(WebSocketStream::from_raw_socket(io, Role::Client, None).await)
}

/// The next text of the server.
async fn hear(socket: &mut Socket) -> Value {
    loop {
        match socket.next().await.unwrap().unwrap() {
            Message::Text(text) => return serde_json::from_str(&text).unwrap(),
            Message::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// How the server closes; the end of the connection is waited for.
async fn closed(socket: &mut Socket) -> Option<CloseFrame> {
    let mut frame = None;
    while let Some(Ok(message)) = socket.next().await {
        if let Message::Close(told) = message {
            frame = told;
        }
    }
    frame
}

#[test]
fn deliveries_come_and_are_settled_however_a_client_comes() {
    let node = Node::new();
    for by in ALL {
        for named in [true, false] {
            node.publish(3);
            http2::run(async {
                let mut socket = node.open(by, &format!("{STREAM}?credit=2"), named).await.unwrap();
                let ids = [hear(&mut socket).await, hear(&mut socket).await];
                let settle: Vec<_> =
                    ids.iter().map(|one| json!({"id": one["id"], "how": "accept"})).collect();
                let say = json!({ "settle": settle, "credit": 1 }).to_string();
                socket.send(Message::text(say)).await.unwrap();
                let (mut settled, mut third) = (None, None);
                while settled.is_none() || third.is_none() {
                    let text = hear(&mut socket).await;
                    match text.get("settled") {
                        Some(_) => settled = Some(text),
                        None => third = Some(text),
                    }
                }
                assert_eq!(settled.unwrap()["settled"][1]["ok"], true, "{by:?}");
                // In pieces, and as bytes: a message is a message.
                let say = json!({"settle": [{"id": third.unwrap()["id"], "how": "accept"}]});
                socket.send(Message::binary(say.to_string().into_bytes())).await.unwrap();
                assert_eq!(hear(&mut socket).await["settled"][0]["ok"], true);
                socket.send(Message::Ping(Bytes::from_static(b"there?"))).await.unwrap();
                loop {
                    match socket.next().await.unwrap().unwrap() {
                        Message::Pong(back) => break assert_eq!(&back[..], b"there?"),
                        Message::Ping(_) => {}
                        other => panic!("{other:?}"),
                    }
                }
                // The close of the client is answered by the same code.
                let frame = CloseFrame { code: CloseCode::Library(4001), reason: "enough".into() };
                socket.close(Some(frame.clone())).await.unwrap();
                assert_eq!(closed(&mut socket).await, Some(frame), "{by:?}");
            });
            let queue = node.queue();
            assert_eq!((&queue["ready"], &queue["leased"]), (&json!(0), &json!(0)), "{by:?}");
        }
    }
}

#[test]
fn what_a_server_ends_is_told_by_its_code_and_ends_at_once() {
    let node = Node::new();
    for by in ALL {
        for (message, code) in [
            (Message::text("nonsense"), CloseCode::Policy),
            (Message::text(format!("{{\"x\": \"{}\"}}", "x".repeat(1 << 20))), CloseCode::Size),
        ] {
            http2::run(async {
                let mut socket = node.open(by, STREAM, true).await.unwrap();
                let began = std::time::Instant::now();
                // It may end while the client still writes.
                let _ = socket.send(message).await;
                assert_eq!(closed(&mut socket).await.unwrap().code, code, "{by:?}");
                assert!(began.elapsed().as_secs() < 4, "{by:?}: {:?}", began.elapsed());
            });
        }
    }
}

#[test]
fn a_drain_says_goodbye_to_every_socket() {
    let node = Node::new();
    http2::run(async {
        let mut sockets = Vec::new();
        for by in ALL {
            sockets.push((by, node.open(by, STREAM, true).await.unwrap()));
        }
        node.weft.terminate();
        for (by, socket) in &mut sockets {
            assert_eq!(closed(socket).await.unwrap().code, CloseCode::Away, "{by:?}");
        }
    });
    let Node { mut weft, .. } = node;
    assert!(weft.wait().success());
}

#[test]
fn a_handshake_that_is_none_is_refused_as_the_standard_says() {
    let node = Node::new();
    let good = "upgrade: websocket\r\nconnection: keep-alive, Upgrade\r\n";
    let key = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let version = "sec-websocket-version: 13\r\n";
    let cases = [
        ("GET", "1.1", format!("{good}{key}{version}"), 101),
        ("GET", "1.1", format!("{good}{key}"), 426),
        ("GET", "1.1", format!("{good}{key}sec-websocket-version: 8\r\n"), 426),
        ("GET", "1.1", format!("{key}{version}"), 426),
        ("GET", "1.1", format!("upgrade: websocket\r\n{key}{version}"), 426),
        ("GET", "1.1", format!("connection: upgrade\r\nupgrade: h2c\r\n{key}{version}"), 426),
        ("GET", "1.0", format!("{good}{key}{version}"), 426),
        ("GET", "1.1", format!("{good}{version}"), 400),
        ("GET", "1.1", format!("{good}sec-websocket-key: short\r\n{version}"), 400),
        ("GET", "1.1", format!("{good}{key}{key}{version}"), 400),
        ("GET", "1.1", format!("{good}{key}{version}sec-websocket-protocol: chat\r\n"), 400),
        ("POST", "1.1", format!("{good}{key}{version}content-length: 0\r\n"), 405),
        ("HEAD", "1.1", format!("{good}{key}{version}"), 400),
    ];
    for name in ["web", "admin"] {
        for (method, http, fields, status) in &cases {
            let asked = format!("{method} {STREAM} HTTP/{http}\r\nhost: 127.0.0.1\r\n{fields}\r\n");
            let mut conn = node.weft.connect(name);
            conn.send(&asked);
            let told = conn.head().unwrap();
            assert_eq!(told.status(), *status, "{name}: {asked}");
            if *status == 426 {
                assert_eq!(told.get("sec-websocket-version"), Some("13"), "{name}: {asked}");
                // Nobody can be told of another protocol but by HTTP/1.1.
                let upgrade = (*http == "1.1").then_some("websocket");
                assert!(name == "admin" || told.get("upgrade") == upgrade, "{name}: {asked}");
            }
            // What is not offered is not taken up.
            assert_eq!(told.get("sec-websocket-extensions"), None);
        }
    }
    // A page of a browser does not speak with the admin API, which has no token here.
    let asked = format!(
        "GET {STREAM} HTTP/1.1\r\nhost: 127.0.0.1\r\norigin: http://evil.example\r\n{good}{key}{version}\r\n"
    );
    let mut conn = node.weft.connect("admin");
    conn.send(&asked);
    assert_eq!(conn.head().unwrap().status(), 403);
    // Nobody is left of those that were refused.
    until("no consumer is left", || (node.queue()["consumers"] == 0).then_some(()));
}

#[test]
fn an_extended_connect_to_what_is_no_socket_gets_no_consent() {
    let node = Node::new();
    http2::run(async {
        let client = Client::to(node.weft.address("web")).await;
        for path in ["/v1/queues/jobs", "/v1/topics/news/messages", "/events"] {
            let status = connect(&client, path, true).await.map(drop).unwrap_err();
            assert_eq!(status, 501, "{path}");
        }
        let status = connect(&client, "/v1/queues/none/stream", true).await.map(drop).unwrap_err();
        assert_eq!(status, 404);
    });
    let topic: Value = serde_json::from_str(&node.weft.get("/v1/topics/news", "").text()).unwrap();
    assert_eq!(topic["messages"], 0);
}

#[test]
fn a_client_that_vanishes_gives_back_what_it_held() {
    let node = Node::new();
    node.publish(2);
    for by in ALL {
        http2::run(async {
            let mut socket = node.open(by, STREAM, true).await.unwrap();
            hear(&mut socket).await;
            hear(&mut socket).await;
            drop(socket);
        });
        until("what it held is ready again", || {
            let queue = node.queue();
            (queue["ready"] == 2 && queue["consumers"] == 0).then_some(())
        });
    }
}

#[test]
fn a_socket_whose_queue_is_deleted_is_told() {
    let node = Node::new();
    for by in ALL {
        let made = node
            .weft
            .ask("PUT /v1/queues/temporary HTTP/1.1\r\nhost: t\r\ncontent-length: 2\r\n\r\n{}");
        assert_eq!(made.status(), 201);
        http2::run(async {
            let mut socket = node.open(by, "/v1/queues/temporary/stream", true).await.unwrap();
            let gone = node.weft.ask("DELETE /v1/queues/temporary HTTP/1.1\r\nhost: t\r\n\r\n");
            assert_eq!(gone.status(), 204);
            assert_eq!(hear(&mut socket).await["error"]["type"], "urn:weft:problem:no_queue");
            assert_eq!(closed(&mut socket).await.unwrap().code, CloseCode::Error, "{by:?}");
        });
    }
}
