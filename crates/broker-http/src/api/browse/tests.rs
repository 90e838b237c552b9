//! What a page tells when there is nothing to show.

use std::sync::Arc;

use weft_broker::{
    Key, MessageBuilder, Publish, PublishTarget, Topic, TopicOptions, message::Value,
};
use weft_ledger::disk::{SimulatedDisk, simulated::Faults};
use weft_wire::Method;

use super::LOOKED_MAX;
use weft_api::{Request, Response};

use crate::{Hooks, Surface, fixture::Fixture};

async fn topic(fixture: &Fixture) -> Arc<Topic> {
    let key = Key::plain("t").unwrap();
    let options = TopicOptions { dedupe: None, ..TopicOptions::default() };
    fixture.broker.declare_topic(&key, options).await.unwrap()
}

fn event() -> Publish {
    let event = MessageBuilder::event(64)
        .attribute("id", Value::Text("1"))
        .attribute("source", Value::Text("/s"))
        .attribute("type", Value::Text("t"));
    Publish::new(event.no_data().finish().unwrap())
}

async fn get(fixture: &Fixture, query: &str) -> Response {
    let target = format!("/v1/topics/t/messages?{query}");
    fixture.handle.answer(Surface::Route, Request::new(Method::Get, &target)).await
}

#[tokio::test]
async fn a_wait_that_a_failed_disk_ends_is_no_empty_page() {
    let disk = SimulatedDisk::new();
    let fixture = Fixture::on(disk.clone(), Hooks::default()).await;
    let topic = topic(&fixture).await;
    disk.set_faults(Faults { fail_sync_from: Some(disk.syncs() + 1), ..Faults::default() });
    let mut batch = fixture.broker.batch();
    batch.topic(&topic, &event(), None).unwrap();
    let receipt = fixture.broker.submit(batch).unwrap();
    fixture.broker.until_durable(&receipt).await.unwrap_err();
    let page = get(&fixture, "from=next&wait=30s").await;
    assert_eq!(page.status, 503, "{page:?}");
}

#[tokio::test]
async fn a_filter_that_takes_nothing_ends_a_page_and_says_where_to_go_on() {
    let fixture = Fixture::new(Hooks::default()).await;
    let target = PublishTarget::Topic(topic(&fixture).await);
    let many = vec![event(); 2_000];
    for _ in 0..=LOOKED_MAX / 2_000 {
        fixture.broker.publish(&target, &many, None).await.unwrap();
    }
    let page = get(&fixture, "from=first&filter=false").await;
    let body = page.collect().await.unwrap();
    assert_eq!(body, format!("{{\"messages\":[],\"next\":{LOOKED_MAX}}}"));
}
