//! WebSockets of clients that speak HTTP/2 (RFC 8441).

use bytes::Bytes;
use h2::ext::Protocol;
use http::Request;
use weft_testkit::{
    Conn, Upstream, Weft,
    http2::{self, Client, request},
    websocket,
};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

fn before(service: &Upstream) -> Weft {
    Weft::start(
        BIN,
        &format!(
            "admin: off
telemetry: {{ access_log: all }}
listeners: {{ web: {{ address: '@web' }} }}
services: {{ it: {{ endpoints: '{}' }} }}
routes: [{{ name: all, to: it }}]
",
            service.address()
        ),
    )
}

fn connect(path: &str, protocol: &'static str) -> Request<()> {
    let mut request = request("CONNECT", path)
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", "chat")
        .body(())
        .unwrap();
    request.extensions_mut().insert(Protocol::from_static(protocol));
    request
}

/// Accepts, then sends back what comes.
fn echo(mut conn: Conn) {
    let Some(request) = conn.request() else { return };
    assert_eq!((request.method(), request.get("upgrade")), ("GET", Some("websocket")));
    let key = request.get("sec-websocket-key").unwrap();
    let said =
        if request.target() == "/wrong" { "wrong".to_owned() } else { websocket::accept(key) };
    conn.send(format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
         sec-websocket-protocol: chat\r\nsec-websocket-accept: {said}\r\n\r\n"
    ));
    loop {
        let byte = conn.take(1);
        if byte.is_empty() || !conn.send(byte) {
            return;
        }
    }
}

#[test]
fn an_extended_connect_is_joined_to_a_service_of_http1() {
    let service = Upstream::raw(echo);
    let weft = before(&service);
    http2::run(async {
        let client = Client::to(weft.address("web")).await;
        // The server's SETTINGS have come with the first response.
        let _ = client.get("/settled").await;
        assert!(client.may_connect());
        let (response, mut out) = client.begin(connect("/chat", "websocket")).await.unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
        assert!(!response.headers().contains_key("sec-websocket-accept"));
        let mut body = response.into_body();
        for turn in ["one", "two", "three"] {
            http2::send(&mut out, Bytes::from(turn)).await.unwrap();
            let mut back = Vec::new();
            while back.len() < turn.len() {
                let data = body.data().await.unwrap().unwrap();
                body.flow_control().release_capacity(data.len()).unwrap();
                back.extend_from_slice(&data);
            }
            assert_eq!(back, turn.as_bytes());
        }
        http2::send_all(&mut out, Bytes::new(), None).await.unwrap();
        let (rest, _) = http2::gather(body).await.unwrap();
        assert!(rest.is_empty(), "the end goes to the service and back");
    });
    // It was opened with 200, and that is what is told.
    let line = weft.wait_line("/chat");
    assert!(line.contains("\"status\":200"), "{line}");
}

#[test]
fn what_cannot_be_joined_is_refused_and_the_connection_goes_on() {
    let service = Upstream::raw(|mut conn: Conn| {
        if conn.head().is_some_and(|head| head.target() == "/refuse") {
            conn.send("HTTP/1.1 403 No\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno");
        } else {
            conn.send(
                "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
                 sec-websocket-accept: wrong\r\n\r\n",
            );
            conn.rest();
        }
    });
    let weft = before(&service);
    let table = [
        ("/refuse", "websocket", 403, ""),
        ("/wrong", "websocket", 502, "upstream_malformed"),
        ("/other", "connect-udp", 501, "not_supported"),
    ];
    http2::run(async {
        let client = Client::to(weft.address("web")).await;
        let _ = client.get("/refuse").await;
        for (path, protocol, status, reason) in table {
            let (response, _out) = client.begin(connect(path, protocol)).await.unwrap();
            let reply = http2::reply(response).await.unwrap();
            assert_eq!(reply.status, status, "{path}: {reply:?}");
            if !reason.is_empty() {
                assert!(reply.text().contains(reason), "{path}: {}", reply.text());
                assert!(weft.wait_line(path).contains(reason));
            }
        }
    });
}
