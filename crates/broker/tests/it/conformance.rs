//! The engines against the suite that every engine has to pass: the embedded one, and it behind a channel.

use std::{sync::Arc, time::Duration};

use weft_broker::{
    Durability,
    conformance::{self, remote::Remote},
    engine::{Answer, Capabilities, Capability, Engine, Support},
};
use weft_kernel::Reason;

use crate::node::Node;

/// Lets time go by on a node.
async fn pass(node: &Node, span: Duration) -> weft_kernel::Result<()> {
    node.clock.advance(span);
    node.broker.maintain_once().await?;
    let seq = node.broker.store().stats_now().submitted;
    weft_ledger::until_durable(node.broker.store(), seq, Durability::Fsync).await
}

#[test]
fn the_embedded_engine_passes() {
    let node = Node::new();
    let one = &node;
    let pass = |span| -> Answer<'_, ()> { Box::pin(pass(one, span)) };
    let ran = node.run(conformance::run(&node.broker, &pass)).unwrap();
    assert_eq!(ran.len(), 30, "nothing is left out: {ran:?}");
    let gone = node.run(Engine::delete_queue(&node.broker, &crate::node::key("none")));
    assert_eq!(gone.unwrap_err().reason(), Reason::NoQueue);
}

#[test]
fn an_engine_behind_a_channel_passes_what_it_claims() {
    let all = Capabilities::new(|_| Support::Native);
    let some = Capabilities::new(|capability| match capability {
        Capability::Peek | Capability::Skip | Capability::Redrive | Capability::Compaction => {
            Support::Missing
        }
        Capability::Dedupe => Support::Emulated,
        _ => Support::Native,
    });
    for (capabilities, checks) in [(all, 30), (some, 26)] {
        let node = Node::new();
        let one = &node;
        let behind: Arc<dyn Engine> = Arc::new(node.broker.clone());
        let (remote, server, _switch) = Remote::new("far", capabilities, behind);
        let pass = |span| -> Answer<'_, ()> { Box::pin(pass(one, span)) };
        let ran = node.run(async {
            tokio::select! {
                ran = conformance::run(&remote, &pass) => ran,
                () = server.serve() => Err("nobody serves it any more".into()),
            }
        });
        assert_eq!(ran.unwrap().len(), checks);
    }
}
