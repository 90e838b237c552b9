//! The embedded engine against the suite that every engine has to pass.

use weft_broker::{
    Durability, conformance,
    engine::{Answer, Capability, Engine},
};
use weft_kernel::Reason;

use crate::node::Node;

#[test]
fn the_embedded_engine_passes() {
    let node = Node::new();
    let one = &node;
    let pass = |span| -> Answer<'_, ()> {
        Box::pin(async move {
            one.clock.advance(span);
            one.broker.maintain_once().await?;
            let seq = one.broker.store().stats().submitted;
            weft_ledger::until_durable(one.broker.store(), seq, Durability::Fsync).await
        })
    };
    let ran = node.run(conformance::run(&node.broker, &pass)).unwrap();
    assert_eq!(ran.len(), 16, "nothing is left out: {ran:?}");
    assert_eq!(node.broker.capabilities().iter().count(), Capability::ALL.len());
    let gone = node.run(Engine::delete_queue(&node.broker, &crate::node::key("none")));
    assert_eq!(gone.unwrap_err().reason(), Reason::NoQueue);
}
