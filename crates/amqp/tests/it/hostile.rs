//! Frames in any order with any content: the server answers or closes, and serves others all the same.

use weft_kernel::Rng;
use weft_wire::amqp::{FrameKind, Method, Table, frame};

use crate::{
    client::PERSISTENT,
    node::{Node, run},
};

/// Some frame that a client could send, sensible or not.
fn any_frame(rng: &mut Rng, out: &mut Vec<u8>) {
    let channel = rng.below(3) as u16;
    let names = ["", "q", "amq.topic", "none", "amq.rabbitmq.reply-to"];
    let mut name = || names[rng.below(names.len() as u64) as usize];
    let (one, two) = (name(), name());
    let flag = rng.below(2) == 0;
    let tag = rng.below(4);
    let arguments = Table::EMPTY;
    let method = match rng.below(16) {
        0 => Method::ChannelOpen { reserved: "" },
        1 => Method::ChannelClose { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 },
        2 => Method::ChannelCloseOk {},
        3 => Method::QueueDeclare {
            ticket: 0,
            queue: one,
            passive: flag,
            durable: flag,
            exclusive: !flag,
            auto_delete: flag,
            no_wait: flag,
            arguments,
        },
        4 => Method::QueueBind {
            ticket: 0,
            queue: one,
            exchange: two,
            routing_key: "#",
            no_wait: flag,
            arguments,
        },
        5 => Method::BasicConsume {
            ticket: 0,
            queue: one,
            consumer_tag: two,
            no_local: flag,
            no_ack: flag,
            exclusive: false,
            no_wait: flag,
            arguments,
        },
        6 => Method::BasicAck { delivery_tag: tag, multiple: flag },
        7 => Method::BasicNack { delivery_tag: tag, multiple: flag, requeue: flag },
        8 => Method::BasicGet { ticket: 0, queue: one, no_ack: flag },
        9 => Method::BasicCancel { consumer_tag: one, no_wait: flag },
        10 => Method::ConfirmSelect { no_wait: flag },
        11 => Method::BasicRecover { requeue: true },
        12 => Method::QueueDelete {
            ticket: 0,
            queue: one,
            if_unused: flag,
            if_empty: flag,
            no_wait: flag,
        },
        13 => Method::BasicPublish {
            ticket: 0,
            exchange: one,
            routing_key: two,
            mandatory: flag,
            immediate: false,
        },
        14 => Method::BasicQos { prefetch_size: 0, prefetch_count: tag as u16, global: flag },
        _ => {
            let kind = if flag { FrameKind::Header } else { FrameKind::Body };
            let length = rng.below(20);
            frame::write(kind, channel, out, |out| {
                if kind == FrameKind::Header {
                    out.extend_from_slice(&[0, 60, 0, 0]);
                    out.extend_from_slice(&length.to_be_bytes());
                    out.extend_from_slice(&[0, 0]);
                } else {
                    out.extend((0..length).map(|byte| byte as u8));
                }
            });
            return;
        }
    };
    if matches!(method, Method::BasicPublish { .. }) && rng.below(4) > 0 {
        weft_wire::amqp::write_content(channel, &method, &PERSISTENT, b"body", 4096, out);
    } else {
        method.write(channel, out);
    }
}

#[test]
fn any_frames_in_any_order_do_no_harm() {
    run(|| async {
        let node = Node::new().await;
        for seed in 0..24 {
            let mut rng = Rng::seeded(seed);
            let mut client = node.connect().await;
            let mut out = Vec::new();
            for _ in 0..60 {
                any_frame(&mut rng, &mut out);
            }
            if seed % 3 == 0 {
                // Some bytes are not what they were.
                for _ in 0..3 {
                    let at = rng.below(out.len() as u64) as usize;
                    out[at] ^= 1 << rng.below(8);
                }
            }
            for piece in out.chunks(97) {
                if client.raw(piece).await.is_err() {
                    break;
                }
                client.is_quiet().await;
            }
        }
        // Whatever they did, who comes after them is served.
        let mut client = node.connect().await;
        client.queue("after", true, b"").await;
        client.publish("", "after", &PERSISTENT, b"fine").await;
        assert_eq!(client.get("after").await.body, b"fine");
    });
}
