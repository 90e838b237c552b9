//! What a queue holds at most, how long its messages live, and in which order they go.

use weft_wire::amqp::{Method, Properties, Table, TableWriter, Value};

use crate::{
    client::{Client, PERSISTENT},
    node::{Node, run},
};

/// Limits of a queue, with its dead letters in the queue `dead`.
fn limits(limits: &[(&str, i64)], overflow: Option<&str>, dead: bool) -> Vec<u8> {
    let mut arguments = Vec::new();
    {
        let mut table = TableWriter::new(&mut arguments);
        for (name, most) in limits {
            table.entry(name, Value::I64(*most));
        }
        if let Some(overflow) = overflow {
            table.text("x-overflow", overflow);
        }
        if dead {
            table.text("x-dead-letter-exchange", "").text("x-dead-letter-routing-key", "dead");
        }
    }
    arguments[4..].to_vec()
}

fn why_dead(properties: &[u8]) -> String {
    let headers = Properties::parse(properties).unwrap().headers.unwrap();
    headers.get("x-first-death-reason").unwrap().text().unwrap().to_owned()
}

async fn depth(client: &mut Client, queue: &str) -> u32 {
    let declare = Method::QueueDeclare {
        ticket: 0,
        queue,
        passive: true,
        durable: false,
        exclusive: false,
        auto_delete: false,
        no_wait: false,
        arguments: Table::EMPTY,
    };
    let answer = client.call(1, declare).await;
    let Method::QueueDeclareOk { message_count, .. } = answer.method() else {
        panic!("{:?}", answer.method())
    };
    message_count
}

async fn all(client: &mut Client, queue: &str) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    while let Some(content) = client.look(queue).await {
        found.push((String::from_utf8(content.body).unwrap(), content.properties));
    }
    found
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| format!("{number:04}")).collect()
}

#[test]
fn a_burst_leaves_the_newest_and_buries_the_oldest() {
    run(|| async {
        let node = Node::new().await;
        let mut client = node.connect().await;
        client.queue("dead", true, b"").await;
        for (at, (durable, raw)) in
            [(true, &PERSISTENT[..]), (true, &[0, 0]), (false, &[0, 0])].into_iter().enumerate()
        {
            for (by, limit) in [("x-max-length", 10), ("x-max-length-bytes", 1000)] {
                let queue = format!("q-{at}-{by}");
                client.queue(&queue, durable, &limits(&[(by, limit)], None, true)).await;
                for body in numbers(0..1000) {
                    client.publish("", &queue, raw, body.as_bytes()).await;
                }
                let left = depth(&mut client, &queue).await;
                let found = all(&mut client, &queue).await;
                assert_eq!(found.len() as u32, left);
                if by == "x-max-length" {
                    assert_eq!(left, 10, "{queue}");
                } else {
                    // The bytes are those of properties and routing keys as well.
                    assert!((5..=40).contains(&left), "{queue}: {left}");
                }
                let bodies: Vec<_> = found.into_iter().map(|(body, _)| body).collect();
                assert_eq!(bodies, numbers(1000 - left..1000), "{queue}");
                let dead = all(&mut client, "dead").await;
                assert!(dead.iter().all(|(_, properties)| why_dead(properties) == "maxlen"));
                let dead: Vec<_> = dead.into_iter().map(|(body, _)| body).collect();
                assert_eq!(dead, numbers(0..1000 - left), "{queue}");
            }
        }
    });
}

#[test]
fn the_newest_stays_alone_after_every_confirm() {
    run(|| async {
        let node = Node::new().await;
        let mut client = node.connect().await;
        client.queue("q", true, &limits(&[("x-max-length", 1)], None, false)).await;
        client.queue("none", true, &limits(&[("x-max-length", 0)], None, false)).await;
        client.confirms().await;
        for body in numbers(0..20) {
            for queue in ["q", "none"] {
                client.publish("", queue, &PERSISTENT, body.as_bytes()).await;
                assert!(matches!(client.next().await.method(), Method::BasicAck { .. }));
            }
            assert_eq!((depth(&mut client, "q").await, depth(&mut client, "none").await), (1, 0));
        }
        assert_eq!(all(&mut client, "q").await[0].0, "0019");
    });
}

#[test]
fn what_is_given_back_does_not_make_a_queue_hold_more() {
    run(|| async {
        let node = Node::new().await;
        for durable in [true, false] {
            let queue = format!("q-{durable}");
            let mut client = node.connect().await;
            client.queue(&queue, durable, &limits(&[("x-max-length", 3)], None, false)).await;
            for round in 0..2 {
                for body in numbers(0..3) {
                    client.publish("", &queue, &PERSISTENT, body.as_bytes()).await;
                }
                let mut last = 0;
                for _ in 0..3 {
                    let get = Method::BasicGet { ticket: 0, queue: &queue, no_ack: false };
                    let answer = client.call(1, get).await;
                    let Method::BasicGetOk { delivery_tag, .. } = answer.method() else {
                        panic!("{:?}", answer.method())
                    };
                    last = delivery_tag;
                    client.content().await;
                }
                // What is out does not count.
                for body in numbers(3..6) {
                    client.publish("", &queue, &PERSISTENT, body.as_bytes()).await;
                }
                assert_eq!(depth(&mut client, &queue).await, 3);
                if round == 0 {
                    let nack =
                        Method::BasicNack { delivery_tag: last, multiple: true, requeue: true };
                    client.send(1, nack).await;
                } else {
                    let close = Method::ChannelClose {
                        reply_code: 200,
                        reply_text: "",
                        class_id: 0,
                        method_id: 0,
                    };
                    client.call(1, close).await;
                    client.channel(1).await;
                }
                assert_eq!(depth(&mut client, &queue).await, 3, "round {round}");
                let found = all(&mut client, &queue).await;
                let found: Vec<_> = found.into_iter().map(|(body, _)| body).collect();
                assert_eq!(found, numbers(3..6), "the oldest go");
            }
        }
    });
}

#[test]
fn a_queue_that_refuses_counts_what_is_ready() {
    run(|| async {
        let node = Node::new().await;
        let mut client = node.connect().await;
        client.queue("dead", true, b"").await;
        for (at, overflow) in ["reject-publish", "reject-publish-dlx"].into_iter().enumerate() {
            let mut client = node.connect().await;
            let queue = format!("q-{at}");
            let arguments = limits(&[("x-max-length", 2)], Some(overflow), at == 1);
            client.queue(&queue, true, &arguments).await;
            client.confirms().await;
            let mut taken = Vec::new();
            for (round, body) in numbers(0..4).into_iter().enumerate() {
                client.publish("", &queue, &PERSISTENT, body.as_bytes()).await;
                taken.push(matches!(client.next().await.method(), Method::BasicAck { .. }));
                if round == 2 {
                    let get = Method::BasicGet { ticket: 0, queue: &queue, no_ack: false };
                    assert!(matches!(
                        client.call(1, get).await.method(),
                        Method::BasicGetOk { .. }
                    ));
                    client.content().await;
                }
            }
            assert_eq!(taken, [true, true, false, true], "{overflow}");
            assert_eq!(depth(&mut client, "dead").await, at as u32, "{overflow}");
        }
    });
}

#[test]
fn only_a_queue_that_is_full_buries_what_is_refused() {
    run(|| async {
        let node = Node::new().await;
        // Which of two queues are full, and which dead-letter what they refuse: whose dead letters there are.
        for (at, (full, dead_letters)) in [
            ([true, false], [false, true]),
            ([true, false], [true, true]),
            ([false, true], [true, true]),
            ([true, true], [false, true]),
            ([true, true], [true, true]),
            ([true, true], [true, false]),
        ]
        .into_iter()
        .enumerate()
        {
            let mut client = node.connect().await;
            let dead = format!("dead-{at}");
            client.queue(&dead, true, b"").await;
            client.confirms().await;
            let queues = [0, 1].map(|which| format!("q-{at}-{which}"));
            for (which, queue) in queues.iter().enumerate() {
                let mut arguments = Vec::new();
                {
                    let mut table = TableWriter::new(&mut arguments);
                    table.entry("x-max-length", Value::I64(1));
                    let dead_letters = dead_letters[which];
                    table.text(
                        "x-overflow",
                        if dead_letters { "reject-publish-dlx" } else { "reject-publish" },
                    );
                    table
                        .text("x-dead-letter-exchange", "")
                        .text("x-dead-letter-routing-key", &dead);
                }
                client.queue(queue, true, &arguments[4..]).await;
                let routing_key = format!("all-{at}");
                let bind = Method::QueueBind {
                    ticket: 0,
                    queue,
                    exchange: "amq.direct",
                    routing_key: &routing_key,
                    no_wait: false,
                    arguments: Table::EMPTY,
                };
                assert_eq!(client.call(1, bind).await.method(), Method::QueueBindOk {});
                if full[which] {
                    client.publish("", queue, &PERSISTENT, b"there").await;
                    assert!(matches!(client.next().await.method(), Method::BasicAck { .. }));
                }
            }
            client.publish("amq.direct", &format!("all-{at}"), &PERSISTENT, b"refused").await;
            assert!(matches!(client.next().await.method(), Method::BasicNack { .. }));
            let expected = (0..2).filter(|&which| full[which] && dead_letters[which]).count();
            let found = all(&mut client, &dead).await;
            assert_eq!(found.len(), expected, "{full:?} {dead_letters:?}");
            assert!(found.iter().all(|(body, raw)| body == "refused" && why_dead(raw) == "maxlen"));
            for (which, queue) in queues.iter().enumerate() {
                assert_eq!(depth(&mut client, queue).await, u32::from(full[which]), "{queue}");
            }
        }
    });
}

#[test]
fn a_queue_that_may_hold_nothing_hands_everything_to_who_waits() {
    run(|| async {
        let node = Node::new().await;
        for (at, (limit, durable)) in
            [("x-max-length", true), ("x-max-length", false), ("x-max-length-bytes", true)]
                .into_iter()
                .enumerate()
        {
            let mut client = node.connect().await;
            let queue = format!("q-{at}");
            client.queue(&queue, durable, &limits(&[(limit, 0)], None, false)).await;
            client.confirms().await;
            client.publish("", &queue, &PERSISTENT, b"nobody").await;
            assert!(matches!(client.next().await.method(), Method::BasicAck { .. }));
            assert_eq!(depth(&mut client, &queue).await, 0, "{queue}: nobody has waited");
            let mut consumer = node.connect().await;
            consumer.consume(&queue, "t").await;
            for number in 0..50u8 {
                client.publish("", &queue, &PERSISTENT, &[number]).await;
                let taken = consumer.next().await;
                assert!(matches!(taken.method(), Method::BasicDeliver { .. }), "{taken:?}");
                assert_eq!(consumer.content().await.body, [number], "{queue}");
                assert!(matches!(client.next().await.method(), Method::BasicAck { .. }));
            }
        }
    });
}

#[test]
fn without_any_time_to_live_only_who_waits_gets_it() {
    run(|| async {
        let node = Node::new().await;
        let mut raw = Vec::new();
        Properties { expiration: Some("0"), delivery_mode: Some(2), ..Properties::default() }
            .write(&mut raw);
        for durable in [true, false] {
            for by_queue in [false, true] {
                let mut client = node.connect().await;
                let queue = format!("q-{durable}-{by_queue}");
                let dead = format!("dead-{durable}-{by_queue}");
                let mut arguments = Vec::new();
                {
                    let mut table = TableWriter::new(&mut arguments);
                    table.text("x-dead-letter-exchange", "");
                    table.text("x-dead-letter-routing-key", &dead);
                    if by_queue {
                        table.entry("x-message-ttl", Value::I64(0));
                    }
                }
                client.queue(&dead, true, b"").await;
                client.queue(&queue, durable, &arguments[4..]).await;
                let raw: &[u8] = if by_queue { &PERSISTENT } else { &raw };
                client.publish("", &queue, raw, b"nobody").await;
                assert!(client.look(&queue).await.is_none(), "{queue}: nobody has waited");
                let gone = client.get(&dead).await;
                assert_eq!(gone.body, b"nobody");
                assert_eq!(why_dead(&gone.properties), "expired");
                let mut consumer = node.connect().await;
                consumer.consume(&queue, "t").await;
                for number in 0..20u8 {
                    client.publish("", &queue, raw, &[number]).await;
                    let taken = consumer.next().await;
                    assert!(matches!(taken.method(), Method::BasicDeliver { .. }), "{taken:?}");
                    assert_eq!(consumer.content().await.body, [number], "{queue}");
                }
                assert!(client.look(&dead).await.is_none());
                // What comes back has waited already, and is for nobody any more.
                let back = Method::BasicReject { delivery_tag: 20, requeue: true };
                consumer.send(1, back).await;
                assert_eq!(client.get(&dead).await.body, [19], "{queue}");
                assert!(consumer.is_quiet().await, "{queue}: it was handed out again");
            }
        }
    });
}

#[test]
fn each_of_255_priorities_is_one() {
    run(|| async {
        let node = Node::new().await;
        let mut client = node.connect().await;
        for durable in [true, false] {
            let queue = format!("q-{durable}");
            client.queue(&queue, durable, &limits(&[("x-max-priority", 255)], None, false)).await;
            let order: Vec<u8> = (0..=255u8).map(|at| at.wrapping_mul(37)).collect();
            for priority in &order {
                let mut raw = Vec::new();
                let delivery_mode = Some(2);
                Properties { priority: Some(*priority), delivery_mode, ..Properties::default() }
                    .write(&mut raw);
                client.publish("", &queue, &raw, &[*priority]).await;
            }
            // Now and then a lower one goes before, so that none starves; all others go by their order.
            let mut found = Vec::new();
            while let Some(content) = client.look(&queue).await {
                found.push(content.body[0]);
            }
            assert_eq!(found.len(), 256);
            let falls = found.windows(2).filter(|pair| pair[0] > pair[1]).count();
            assert!(found[0] == 255 && falls > 230, "{found:?}");
        }
    });
}

#[test]
fn a_queue_with_dead_letters_that_wait_is_not_empty() {
    run(|| async {
        let node = Node::new().await;
        let mut client = node.connect().await;
        client
            .queue("dead", true, &limits(&[("x-max-length", 1)], Some("reject-publish"), false))
            .await;
        client.publish("", "dead", &PERSISTENT, b"there").await;
        client.queue("q", true, &limits(&[], None, true)).await;
        client.publish("", "q", &PERSISTENT, b"waits").await;
        let get = Method::BasicGet { ticket: 0, queue: "q", no_ack: false };
        let Method::BasicGetOk { delivery_tag, .. } = client.call(1, get).await.method() else {
            panic!("nothing is there")
        };
        client.content().await;
        client.send(1, Method::BasicReject { delivery_tag, requeue: false }).await;
        let delete = |queue| Method::QueueDelete {
            ticket: 0,
            queue,
            if_unused: false,
            if_empty: true,
            no_wait: false,
        };
        // It waits for room, and is in the queue as long.
        assert_eq!(depth(&mut client, "q").await, 0);
        let refused = client.call(1, delete("q")).await;
        assert!(
            matches!(refused.method(), Method::ChannelClose { reply_code: 406, .. }),
            "{refused:?}"
        );
        client.send(1, Method::ChannelCloseOk {}).await;
        client.channel(1).await;
        client.get("dead").await;
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while depth(&mut client, "dead").await == 0 {
            assert!(std::time::Instant::now() < deadline, "it does not go on");
            tokio::time::advance(std::time::Duration::from_secs(1)).await;
        }
        assert_eq!(
            client.call(1, delete("q")).await.method(),
            Method::QueueDeleteOk { message_count: 0 }
        );
    });
}
