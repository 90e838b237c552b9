//! Deliveries over a WebSocket, spoken with another implementation's client.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{DuplexStream, duplex};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        protocol::{Role, frame::coding::CloseCode},
    },
};
use weft_api::{Content, Request};
use weft_wire::{Known, Method};

use crate::node::Node;

type Client = WebSocketStream<DuplexStream>;

fn request(target: &str) -> Request {
    Request::new(Method::Get, target)
        .with_field("sec-websocket-version", "13")
        .with_field("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .with_field("sec-websocket-protocol", "weft.messages.v1")
        .upgrading()
}

/// Talks over a socket of `target` while the node serves it.
async fn talk<F: AsyncFnOnce(Client)>(node: &Node, target: &str, client: F) {
    let response = node.send(request(target)).await;
    assert_eq!(response.status, 101, "{response:?}");
    assert_eq!(
        response.fields.get_str(Known::SecWebSocketAccept),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
    let Content::Socket(session) = response.content else { panic!("no socket") };
    let (ours, theirs) = duplex(1 << 16);
    let socket = WebSocketStream::from_raw_socket(theirs, Role::Client, None).await;
    tokio::join!(session.talk(Box::new(ours)), client(socket));
}

/// The next text of the server.
async fn hear(client: &mut Client) -> Value {
    loop {
        match client.next().await.unwrap().unwrap() {
            Message::Text(text) => return serde_json::from_str(&text).unwrap(),
            Message::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn say(client: &mut Client, what: Value) {
    client.send(Message::text(what.to_string())).await.unwrap();
}

/// How the server closes.
async fn closed(client: &mut Client) -> CloseCode {
    loop {
        match client.next().await.unwrap().unwrap() {
            Message::Close(frame) => return frame.unwrap().code,
            Message::Ping(_) | Message::Text(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn deliveries_come_by_credit_and_are_settled() {
    let node = Node::new().await;
    node.put("/v1/queues/q", "{}").await.expect(201);
    node.publish("/v1/queues/q", 0..5).await;
    talk(&node, "/v1/queues/q/stream?credit=1", async |mut client| {
        let first = hear(&mut client).await;
        assert_eq!(first["event"]["data"], 0);
        say(&mut client, json!({"settle": [{"id": first["id"], "how": "accept"}], "credit": 2}))
            .await;
        let mut told = Vec::new();
        let mut settled = 0;
        while told.len() < 2 || settled < 1 {
            let text = hear(&mut client).await;
            match text.get("settled") {
                Some(outcomes) => {
                    assert_eq!(outcomes[0]["ok"], true);
                    settled += 1;
                }
                None => told.push(text["event"]["data"].as_u64().unwrap()),
            }
        }
        assert_eq!(told, [1, 2]);
        client.close(None).await.unwrap();
    })
    .await;
    // What was not settled goes back, as what has lost its consumer.
    node.broker.maintain_once().await.unwrap();
    let seen = node.get("/v1/queues/q").await.expect(200);
    assert_eq!((&seen["ready"], &seen["leased"]), (&json!(4), &json!(0)));
}

#[tokio::test]
async fn what_is_not_understood_ends_the_socket() {
    let node = Node::new().await;
    node.put("/v1/queues/q", "{}").await.expect(201);
    for (message, code) in [
        (Message::text("nonsense"), CloseCode::Policy),
        (Message::text(r#"{"surprise": 1}"#), CloseCode::Policy),
        (Message::text(r#"{"settle": []}"#), CloseCode::Policy),
        (Message::text(format!(r#"{{"x": "{}"}}"#, "x".repeat(1 << 20))), CloseCode::Size),
    ] {
        talk(&node, "/v1/queues/q/stream", async |mut client| {
            client.send(message).await.unwrap();
            assert_eq!(closed(&mut client).await, code);
        })
        .await;
    }
}

#[tokio::test]
async fn a_socket_ends_at_the_drain_and_with_its_queue() {
    let node = Node::new().await;
    node.put("/v1/queues/q", "{}").await.expect(201);
    talk(&node, "/v1/queues/q/stream", async |mut client| {
        node.delete("/v1/queues/q").await.expect(204);
        let told = hear(&mut client).await;
        assert_eq!(told["error"]["type"], "urn:weft:problem:no_queue");
        assert_eq!(closed(&mut client).await, CloseCode::Error);
    })
    .await;
    node.put("/v1/queues/q", "{}").await.expect(201);
    talk(&node, "/v1/queues/q/stream", async |mut client| {
        node.stop.drain(weft_kernel::Tick::NEVER);
        assert_eq!(closed(&mut client).await, CloseCode::Away);
    })
    .await;
}

#[tokio::test]
async fn a_handshake_that_is_not_ours_is_refused() {
    let node = Node::new().await;
    node.put("/v1/queues/q", "{}").await.expect(201);
    for (field, value, status) in [
        ("sec-websocket-version", "8", 426),
        ("sec-websocket-version", "", 426),
        ("sec-websocket-key", "", 400),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ", 400),
        ("sec-websocket-protocol", "chat, superchat", 400),
    ] {
        let mut request = request("/v1/queues/q/stream");
        request.fields.set_named(field, value.as_bytes());
        let refused = node.send(request).await;
        assert_eq!(refused.status, status, "{field}: {value}");
        let spoken = refused.fields.named("sec-websocket-version");
        assert_eq!(spoken, (status == 426).then_some(&b"13"[..]), "{field}: {value}");
    }
    // Without an upgrade of the connection there is none, whatever the other fields say.
    let plain = Request { upgrades: false, ..request("/v1/queues/q/stream") };
    assert_eq!(node.send(plain).await.status, 426);
    let seen = node.get("/v1/queues/q").await.expect(200);
    assert_eq!(seen["consumers"], 0);
}

#[tokio::test]
async fn a_client_is_told_the_subprotocol_that_it_has_named_and_no_other() {
    let node = Node::new().await;
    node.put("/v1/queues/q", "{}").await.expect(201);
    for (named, told) in [
        (None, None),
        (Some(""), None),
        (Some("weft.messages.v1"), Some(&b"weft.messages.v1"[..])),
        (Some("chat, weft.messages.v1"), Some(&b"weft.messages.v1"[..])),
    ] {
        let mut request = request("/v1/queues/q/stream");
        request.fields.remove_named("sec-websocket-protocol");
        if let Some(named) = named {
            request = request.with_field("sec-websocket-protocol", named);
        }
        let response = node.send(request).await;
        assert_eq!(response.status, 101, "{named:?}");
        assert_eq!(response.fields.named("sec-websocket-protocol"), told, "{named:?}");
    }
}

#[tokio::test]
async fn the_close_of_a_client_is_answered() {
    let node = Node::new().await;
    node.put("/v1/queues/q", "{}").await.expect(201);
    talk(&node, "/v1/queues/q/stream", async |mut client| {
        client.close(None).await.unwrap();
        loop {
            match client.next().await {
                Some(Ok(Message::Ping(_))) => {}
                Some(Ok(Message::Close(_))) => break,
                other => panic!("{other:?}"),
            }
        }
        assert!(client.next().await.is_none());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_answers_no_ping_or_reads_nothing_holds_nothing() {
    let node = Node::new().await;
    node.put("/v1/queues/q", "{}").await.expect(201);
    node.publish("/v1/queues/q", 0..3).await;
    // It reads no byte, and so answers nothing.
    talk(&node, "/v1/queues/q/stream", async |client| {
        let gone = async {
            while node.get("/v1/queues/q").await.expect(200)["consumers"] != 0 {
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        };
        let began = tokio::time::Instant::now();
        gone.await;
        let took = began.elapsed().as_secs();
        assert!((60..200).contains(&took), "{took}");
        drop(client);
    })
    .await;
    // What it held when it went is there for others.
    node.broker.maintain_once().await.unwrap();
    let seen = node.get("/v1/queues/q").await.expect(200);
    assert_eq!(seen["leased"], 0);
}
