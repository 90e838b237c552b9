//! Connections from their first byte to their last: who is let in, silence, drains, slow readers.

use std::time::Duration;

use weft_amqp::{ClientPeer, Grant, Options, Password, PermissionPattern, User};
use weft_ledger::disk::SimulatedDisk;
use weft_wire::amqp::Method;

use crate::{
    client::PERSISTENT,
    node::{Node, near, run},
};

fn user(name: &str, grants: Vec<Grant>) -> User {
    User { name: name.into(), password: Password::Plain("pw".into()), grants, remote: true }
}

#[test]
fn guest_comes_from_this_machine_alone() {
    run(|| async {
        let node = Node::new().await;
        let far = ClientPeer { loopback: false, ..near() };
        let mut client = node.dial(far);
        client.log_in("PLAIN", b"\0guest\0guest").await;
        let text = client.closed_with(403).await;
        assert!(text.contains("user 'guest' can only connect via localhost"), "{text}");
        let mut client = node.dial(near());
        client.log_in("EXTERNAL", b"").await;
        let text = client.closed_with(503).await;
        assert!(text.contains("authentication mechanism 'EXTERNAL'"), "{text}");
    });
}

#[test]
fn a_certificate_logs_in_and_permissions_hold() {
    run(|| async {
        let own = Grant {
            vhost: "/".into(),
            configure: PermissionPattern::new("^app\\.").unwrap(),
            write: PermissionPattern::new("").unwrap(),
            read: PermissionPattern::new(".*").unwrap(),
        };
        let options = Options {
            users: vec![user("app", vec![own]), user("admin", vec![])],
            vhosts: vec!["other".into()],
            ..Options::default()
        };
        let node = Node::with(SimulatedDisk::new(), options).await;
        let shown = ClientPeer { certificate: Some("app".into()), loopback: false, ..near() };
        let mut client = node.dial(shown);
        client.log_in("EXTERNAL", b"").await;
        let _tune = client.next().await;
        let tune = Method::ConnectionTuneOk { channel_max: 10, frame_max: 131_072, heartbeat: 0 };
        client.send(0, tune).await;
        let open = Method::ConnectionOpen { virtual_host: "/", capabilities: "", insist: false };
        client.call(0, open).await;
        client.channel(1).await;
        client.queue("app.q", false, b"").await;
        client.publish("", "app.q", &PERSISTENT, b"no").await;
        let answer = client.next().await;
        let Method::ChannelClose { reply_code, reply_text, .. } = answer.method() else {
            panic!("{answer:?}")
        };
        assert_eq!(reply_code, 403);
        assert_eq!(
            reply_text,
            "ACCESS_REFUSED - access to exchange 'amq.default' in vhost '/' refused for user 'app'"
        );
        let mut client = node.dial(near());
        client.open("admin", "pw", "other").await;
        client.queue("app.q", true, b"").await;
    });
}

#[test]
fn silence_ends_a_connection_and_gives_back_what_it_held() {
    run(|| async {
        let node = Node::new().await;
        let mut client = node.dial(near());
        client.log_in("PLAIN", b"\0guest\0guest").await;
        let _tune = client.next().await;
        let tune = Method::ConnectionTuneOk { channel_max: 10, frame_max: 131_072, heartbeat: 20 };
        client.send(0, tune).await;
        let open = Method::ConnectionOpen { virtual_host: "/", capabilities: "", insist: false };
        client.call(0, open).await;
        client.channel(1).await;
        client.queue("q", true, b"").await;
        client.publish("", "q", &PERSISTENT, b"held").await;
        client.consume("q", "c").await;
        assert!(matches!(client.next().await.method(), Method::BasicDeliver { .. }));
        assert_eq!(client.content().await.body, b"held");
        for _ in 0..10 {
            tokio::time::advance(Duration::from_secs(5)).await;
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        }
        assert!(client.take().await.is_none(), "half-open for ever");
        let mut other = node.connect().await;
        assert_eq!(other.get("q").await.body, b"held");
    });
}

#[test]
fn a_connection_that_never_opens_is_ended() {
    run(|| async {
        let node = Node::new().await;
        let mut client = node.dial(near());
        client.raw(b"AMQP").await.unwrap();
        for _ in 0..3 {
            tokio::time::advance(Duration::from_secs(5)).await;
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        }
        assert!(client.take().await.is_none());
    });
}

#[test]
fn a_drain_is_told() {
    run(|| async {
        let node = Node::new().await;
        let mut client = node.connect().await;
        node.drain();
        let text = client.closed_with(320).await;
        assert!(text.starts_with("CONNECTION_FORCED - "), "{text}");
    });
}

#[test]
fn a_consumer_that_does_not_read_holds_no_more_than_a_buffer() {
    run(|| async {
        let node = Node::new().await;
        let mut client = node.connect().await;
        client.queue("q", true, b"").await;
        let body = vec![7; 64 << 10];
        client.confirms().await;
        for tag in 1..=100 {
            client.publish("", "q", &PERSISTENT, &body).await;
            let told = client.next().await;
            assert!(matches!(told.method(), Method::BasicAck { .. }), "{tag}");
        }
        let mut idle = node.connect().await;
        idle.consume("q", "idle").await;
        for _ in 0..2000 {
            tokio::task::yield_now().await;
        }
        let queue = node.broker.queue(&weft_broker::Key::plain("q").unwrap()).unwrap();
        let ready = node.broker.queue_view(&queue).ready;
        assert!(ready > 50, "{} were handed to who does not read", 100 - ready);
        // It reads at last, and gets all.
        for _ in 0..100 {
            assert!(matches!(idle.next().await.method(), Method::BasicDeliver { .. }));
            assert_eq!(idle.content().await.body.len(), body.len());
        }
    });
}

#[test]
fn what_was_asked_behind_a_full_buffer_is_answered_once_it_is_read() {
    run(|| async {
        let node = Node::new().await;
        let mut client = node.connect().await;
        client.queue("q", true, b"").await;
        let body = vec![7; 256 << 10];
        client.confirms().await;
        for _ in 0..20 {
            client.publish("", "q", &PERSISTENT, &body).await;
            assert!(matches!(client.next().await.method(), Method::BasicAck { .. }));
        }
        for _ in 0..20 {
            client.send(1, Method::BasicGet { ticket: 0, queue: "q", no_ack: true }).await;
        }
        for _ in 0..20 {
            assert!(matches!(client.next().await.method(), Method::BasicGetOk { .. }));
            assert_eq!(client.content().await.body.len(), body.len());
        }
    });
}
