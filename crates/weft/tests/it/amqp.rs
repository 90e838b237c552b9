//! What the configuration says of AMQP, seen by a client: permissions, and the largest message.

use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, ErrorKind,
    options::{
        BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions,
        QueueDeclareOptions,
    },
    types::FieldTable,
};
use weft_testkit::Weft;

use crate::config::{good, refused};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

fn config(amqp: &str) -> String {
    format!(
        "admin: off
ledger: {{ path: '@@/data' }}
listeners: {{ rabbit: {{ address: '@rabbit', protocol: amqp }} }}
{amqp}"
    )
}

fn run<F: Future<Output = ()>>(test: F) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

async fn connect(weft: &Weft, user: &str, vhost: &str) -> Result<Channel, lapin::Error> {
    let url = format!("amqp://{user}@{}/{vhost}", weft.address("rabbit"));
    Connection::connect(&url, ConnectionProperties::default()).await?.create_channel().await
}

async fn declare(channel: &Channel, queue: &str) -> Result<(), lapin::Error> {
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.into(), options, FieldTable::default()).await.map(|_| ())
}

/// The code and the text that a refusal came with.
fn told<T>(result: Result<T, lapin::Error>) -> (u16, String) {
    match result.map(|_| ()).expect_err("it is allowed").kind() {
        ErrorKind::ProtocolError(error) => (error.get_id(), error.get_message().to_string()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn permissions_are_those_of_the_configuration() {
    let weft = Weft::start(
        BIN,
        &config(
            "amqp:
  vhosts: [ staging ]
  users:
    shop:
      password: pw
      permissions:
        /: { configure: '^shop', write: '^(shop|amq)', read: '^shop' }
    audit:
      password: pw
      vhosts: [ staging ]
      permissions:
        /: { read: '.*' }
    all: pw
",
        ),
    );
    run(async {
        let shop = connect(&weft, "shop:pw", "%2f").await.unwrap();
        declare(&shop, "shop.orders").await.unwrap();
        let refusal = told(declare(&shop, "other").await);
        let text = "ACCESS_REFUSED - access to queue 'other' in vhost '/' refused for user 'shop'";
        assert_eq!(refusal, (403, text.into()));
        let error = connect(&weft, "shop:pw", "staging").await.expect_err("it is allowed");
        assert!(error.to_string().contains("access to vhost 'staging' refused"), "{error}");
        let audit = connect(&weft, "audit:pw", "%2f").await.unwrap();
        let get = BasicGetOptions { no_ack: true };
        assert!(audit.basic_get("shop.orders".into(), get).await.unwrap().is_none());
        // What is not named is not allowed.
        let options = QueueBindOptions::default();
        let bind = audit
            .queue_bind(
                "shop.orders".into(),
                "amq.topic".into(),
                "k".into(),
                options,
                FieldTable::default(),
            )
            .await;
        assert_eq!(told(bind).0, 403);
        // Everything where everything may be done.
        let audit = connect(&weft, "audit:pw", "staging").await.unwrap();
        declare(&audit, "anything").await.unwrap();
        for vhost in ["%2f", "staging"] {
            let all = connect(&weft, "all:pw", vhost).await.unwrap();
            declare(&all, "everything").await.unwrap();
        }
    });
}

#[test]
fn larger_messages_are_taken_when_the_limit_is_raised() {
    let weft = Weft::start(BIN, &config("amqp: { message_max: 40MiB }"));
    run(async {
        let channel = connect(&weft, "guest:guest", "%2f").await.unwrap();
        declare(&channel, "large").await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let body: Vec<u8> = (0..33 << 20).map(|at: u32| (at % 251) as u8).collect();
        for mode in [2, 1] {
            let confirm = channel
                .basic_publish(
                    "".into(),
                    "large".into(),
                    BasicPublishOptions::default(),
                    &body,
                    BasicProperties::default().with_delivery_mode(mode),
                )
                .await
                .unwrap()
                .await
                .unwrap();
            assert!(confirm.is_ack());
        }
        for _ in 0..2 {
            let get = BasicGetOptions { no_ack: true };
            let found = channel.basic_get("large".into(), get).await.unwrap().unwrap();
            assert!(found.delivery.data == body, "another body of {}", found.delivery.data.len());
        }
        let publish = channel
            .basic_publish(
                "".into(),
                "large".into(),
                BasicPublishOptions::default(),
                &vec![7; (40 << 20) + 1],
                BasicProperties::default(),
            )
            .await
            .unwrap();
        let (code, text) = told(publish.await);
        let size = (40 << 20) + 1;
        assert_eq!(code, 406, "{text}");
        let said = format!("message size {size} is larger than configured max size {}", 40 << 20);
        assert!(text.contains(&said), "{text}");
    });
}

#[test]
fn a_queue_that_is_deleted_over_http_takes_its_bindings_along() {
    let yaml = "admin: off
ledger: { path: '@@/data' }
amqp: {}
listeners:
  rabbit: { address: '@rabbit', protocol: amqp }
  web: { address: '@web' }
routes:
  - { name: messages, match: /v1/*, messages: / }
";
    let weft = Weft::start(BIN, yaml);
    run(async {
        let channel = connect(&weft, "guest:guest", "%2f").await.unwrap();
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        // Whether a message that is published to the exchange is routed to anything.
        let routed = async |channel: &Channel| {
            let properties = BasicProperties::default();
            let publish =
                channel.basic_publish("amq.fanout".into(), "".into(), options, b"m", properties);
            let confirmed = publish.await.unwrap().await.unwrap();
            confirmed.take_message().is_none()
        };
        let confirm = ConfirmSelectOptions::default();
        channel.confirm_select(confirm).await.unwrap();
        declare(&channel, "bound").await.unwrap();
        let bind = QueueBindOptions::default();
        let none = FieldTable::default();
        channel
            .queue_bind("bound".into(), "amq.fanout".into(), "".into(), bind, none)
            .await
            .unwrap();
        assert!(routed(&channel).await);
        let deleted = weft.ask("DELETE /v1/queues/bound HTTP/1.1\r\nhost: t\r\n\r\n");
        assert!((200..300).contains(&deleted.status()), "{}", deleted.text());
        assert!(!routed(&channel).await, "the binding is gone");
        declare(&channel, "bound").await.unwrap();
        assert!(!routed(&channel).await, "and does not come back with the name");
        weft.kill();
        let weft = weft.successor();
        let channel = connect(&weft, "guest:guest", "%2f").await.unwrap();
        channel.confirm_select(confirm).await.unwrap();
        declare(&channel, "bound").await.unwrap();
        assert!(!routed(&channel).await, "nor after a restart");
    });
}

#[test]
fn what_cannot_be_kept_or_does_not_exist_is_refused_in_words() {
    let with = |amqp: &str| {
        config(amqp).replace("'@@/data'", "data").replace("'@rabbit'", "127.0.0.1:5672")
    };
    good(&with("amqp: { message_max: 40MiB }"));
    for (amqp, said) in [
        ("amqp: { message_max: 129MiB }", "a message has at most 128MiB"),
        ("amqp: { message_max: 100MiB }", "does not fit one file of 64MiB"),
        (
            "amqp: { users: { a: { password: p, permissions: { there: { read: x } } } } }",
            "there is no virtual host `there`",
        ),
        (
            "amqp: { users: { a: { password: p, vhosts: /, permissions: { /: { read: x } } } } }",
            "everything may be done in `/` already",
        ),
        (
            "amqp: { users: { a: { password: p, permissions: { /: { read: '(' } } } } }",
            "this regular expression does not compile",
        ),
    ] {
        let told = format!("{:?}", refused(&with(amqp)));
        assert!(told.contains(said), "{amqp}: {told}");
    }
}
