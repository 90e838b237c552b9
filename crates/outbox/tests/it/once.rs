//! Whatever is cut, every event is published once, in order, and the server is told no more than what is durable.

use std::sync::atomic::Ordering::SeqCst;

use weft_outbox::state::State;

use super::server::{Node, Server, Story, until};

fn story(sizes: &[usize]) -> (Vec<Story>, Vec<String>) {
    let stories = sizes.iter().zip(1u32..).map(|(size, xid)| {
        let row = |index| (format!("{xid}-{index}"), "orders");
        Story(xid, (0..*size).map(row).collect())
    });
    let stories: Vec<Story> = stories.collect();
    let ids = stories.iter().flat_map(|story| story.1.iter().map(|(id, _)| id.clone())).collect();
    (stories, ids)
}

#[tokio::test]
async fn a_connection_that_is_cut_anywhere_loses_and_doubles_nothing() {
    let (log, ids) = story(&[1, 3, 0, 5, 2]);
    let frames = 2 + log.iter().map(|story| story.1.len() + 2).sum::<usize>();
    let mut node = Node::start().await;
    for cut in 1..frames {
        let server = Server::start(log.clone()).await;
        node.forget(cut).await;
        let before = node.ids("orders").await.len();
        let outbox = node.outbox(&server, None);
        server.script.lock().frames = cut;
        until(&outbox, "it is cut", async || outbox.counts().connections > 1).await;
        server.script.lock().frames = usize::MAX;
        let found = async || node.ids("orders").await.split_off(before);
        until(&outbox, "all is there", async || found().await.len() >= ids.len()).await;
        assert_eq!(found().await, ids, "{cut}");
    }
}

#[tokio::test]
async fn a_node_that_begins_again_goes_on_where_it_was() {
    let (log, ids) = story(&[2, 2, 2, 2]);
    let server = Server::start(log[..2].to_vec()).await;
    let node = Node::start().await;
    let outbox = node.outbox(&server, None);
    until(&outbox, "four", async || node.ids("orders").await.len() == 4).await;
    drop(outbox);
    let node = node.again().await;
    server.script.lock().log = log;
    let outbox = node.outbox(&server, None);
    let confirmed = || server.confirmed.load(SeqCst);
    until(&outbox, "eight", async || confirmed() == 4_000).await;
    assert_eq!(node.ids("orders").await, ids);
}

#[tokio::test]
async fn a_large_transaction_is_published_in_parts_each_of_which_is_kept() {
    let (log, ids) = story(&[1, 1_500]);
    let server = Server::start(log).await;
    let node = Node::start().await;
    let outbox = node.outbox(&server, None);
    // Within the second transaction, behind its first parts.
    server.script.lock().frames = 1 + 3 + 1 + 1_300;
    until(&outbox, "it is cut", async || outbox.counts().connections > 1).await;
    let before = node.ids("orders").await;
    assert!((512..1_500).contains(&before.len()), "{}", before.len());
    // Nothing of a transaction is confirmed before all of it is there.
    assert!(server.confirmed.load(SeqCst) <= 1_000);
    drop(outbox);
    let node = node.again().await;
    server.script.lock().frames = usize::MAX;
    let outbox = node.outbox(&server, None);
    until(&outbox, "all", async || server.confirmed.load(SeqCst) == 2_000).await;
    assert_eq!(node.ids("orders").await, ids);
    assert_eq!(outbox.state(), State::Reading);
}
