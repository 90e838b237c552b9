//! What is set comes back, and what is wrong is named.

use serde_json::json;
use weft_broker::options::{
    DeadLetter, Dedupe, OnFailure, Order, Overflow, QueueOptions, Retention, SubscriptionOptions,
    SubscriptionTarget, TopicOptions,
};

use weft_api::{
    Settings,
    body::{read, refuse},
    schema::{self, Section, Shape},
};
use weft_kernel::Reason;

use super::{
    queue::QueueSettings, schedule::ScheduleSettings, subscription::SubscriptionSettings,
    topic::TopicSettings, *,
};

fn topic(value: Value) -> Result<TopicOptions> {
    read::<TopicSettings>(value.to_string().as_bytes()).map(|settings| settings.options())
}

fn queue(value: Value) -> Result<QueueOptions> {
    read::<QueueSettings>(value.to_string().as_bytes()).map(|settings| settings.options())
}

fn subscription(value: Value) -> Result<SubscriptionOptions> {
    let settings = read::<SubscriptionSettings>(value.to_string().as_bytes())?;
    refuse(&settings.faults())?;
    settings.options()
}

#[test]
fn defaults_are_those_of_the_broker_but_that_nothing_is_lost_unread_or_kept_twice() {
    let mut expected = TopicOptions::default();
    expected.retention.keep_unread = true;
    assert_eq!(topic(json!({})).unwrap(), expected);
    assert_eq!(read::<TopicSettings>(b" ").unwrap().options(), expected);
    let known_again = QueueOptions { dedupe: Some(Dedupe::default()), ..QueueOptions::default() };
    assert_eq!(queue(json!({})).unwrap(), known_again);
    assert_eq!(subscription(json!({"topic": "a"})).unwrap(), SubscriptionOptions::default());
}

#[test]
fn what_is_set_arrives() {
    let options = topic(json!({
        "retention": {"age": "off", "size": "1GiB", "size_max": 2_147_483_648u64, "keep_unread": false},
        "durability": "memory", "dedupe": "off", "message_max": "4MiB", "compact": true,
    }))
    .unwrap();
    assert_eq!(options.retention.age, None);
    assert_eq!(options.retention.bytes, Some(1 << 30));
    assert_eq!(options.retention.bytes_max, Some(1 << 31));
    assert!(!options.retention.keep_unread && options.compact);
    assert_eq!((options.dedupe, options.durability), (None, Durability::Memory));
    assert_eq!(options.message_bytes_max, 4 << 20);

    let options = queue(json!({
        "lease": "1m30s", "order": "key-park", "ttl": "1h",
        "retry": {"failures_max": 3, "first": "5s", "factor": 1.5, "max": "1m", "jitter": 0},
        "limit": {"messages": 1000, "overflow": "drop-oldest"},
    }))
    .unwrap();
    assert_eq!(options.lease, Duration::from_secs(90));
    assert_eq!(options.order, Order::Key { on_failure: OnFailure::Park });
    assert_eq!((options.failures_max, options.retry.factor), (Some(3), 1.5));
    assert_eq!(options.limit.overflow, Overflow::DropOldest { dead_letter: true });
    assert!(options.expired_to_dead_letter);
    options.check().unwrap();
    let options = queue(json!({"dead_letter": "off", "ttl": "1h"})).unwrap();
    assert_eq!(options.dead_letter, DeadLetter::None);
    assert!(!options.expired_to_dead_letter);

    let options = subscription(json!({
        "topic": "orders.>", "start": "first", "queue": "work", "expires": "5m",
        "filter": {"type": "order.placed", "attributes": {"source": "/eu/*"}, "expression": "data.total > 1.0"},
    }))
    .unwrap();
    assert_eq!(options.target, SubscriptionTarget::Queue("work".into()));
    assert_eq!(options.filter.types, ["order.placed"]);
    assert_eq!(options.filter.attributes.len(), 1);
    assert_eq!(options.ephemeral, Some(Duration::from_secs(300)));
}

#[test]
fn what_is_told_can_be_sent_back() {
    let given = topic(json!({"retention": {"age": "1d"}, "dedupe": "5s"})).unwrap();
    let told = serde_json::to_value(TopicSettings::of(&given)).unwrap();
    assert_eq!(topic(told).unwrap(), given);
    let given = queue(json!({
        "dead_letter": "graveyard", "limit": {"size": "1MiB", "overflow": "refuse"}, "retry": {"failures_max": "off"},
    }))
    .unwrap();
    let told = serde_json::to_value(QueueSettings::of(&given)).unwrap();
    assert_eq!(queue(told).unwrap(), given);
    // A queue of dead letters has no bound, and one that AMQP declares has a larger one than HTTP carries.
    for message_bytes_max in [u64::MAX, (128 << 20) + (128 << 10)] {
        let given = QueueOptions { message_bytes_max, ..given.clone() };
        let told = serde_json::to_value(QueueSettings::of(&given)).unwrap();
        assert_eq!(queue(told).unwrap(), given);
    }
    let given = subscription(json!({
        "topic": "a", "start": "2026-01-31T00:00:00Z", "filter": {"type": ["x", "y"], "attributes": {"a": "b*", "c": "d"}},
    }))
    .unwrap();
    let told = serde_json::to_value(SubscriptionSettings::of("a", &given)).unwrap();
    assert_eq!(subscription(told).unwrap(), given);
}

#[test]
fn what_is_wrong_is_named() {
    for (error, said) in [
        (topic(json!({"retension": {}})).unwrap_err(), "`retension` is not known here"),
        (topic(json!({"dedupe": "soon"})).unwrap_err(), "`dedupe` is a duration"),
        (topic(json!({"message_max": -1})).unwrap_err(), "whole number of bytes"),
        (topic(json!([])).unwrap_err(), "the body"),
        (queue(json!({"order": "random"})).unwrap_err(), "`order` is none, key, key-park"),
        (
            subscription(json!({"topic": "a", "push": {"path": "/in"}})).unwrap_err(),
            "`push.service` is missing",
        ),
        (
            subscription(json!({"topic": "a", "push": "billing", "queue": "q"})).unwrap_err(),
            "a subscription leads to a service or to a queue, not to both",
        ),
        (
            subscription(json!({"topic": "a.>", "start": "5"})).unwrap_err(),
            "start: a position is one of a single topic",
        ),
        (
            subscription(json!({"topic": "a", "start": "yesterday"})).unwrap_err(),
            "`start` is first, last",
        ),
    ] {
        assert_eq!(error.reason(), Reason::MalformedRequest);
        assert!(error.said().contains(said), "{said}: {}", error.said());
    }
    assert!(read::<TopicSettings>(b"{").is_err());
}

/// Every setting of every noun, as it is by default.
#[test]
fn what_is_left_out_is_what_the_table_says() {
    fn of<T: Settings>(required: Value) -> Value {
        serde_json::to_value(T::read(required).unwrap()).unwrap()
    }
    fn check(section: &Section, whole: &Value, place: &str) {
        for setting in section.settings {
            let value = &whole[setting.name];
            let place = format!("{place}.{}", setting.name);
            assert!(setting.about.ends_with('.'), "{place}");
            match (setting.absent, &setting.shape) {
                (schema::Absent::Default(text), shape) => {
                    let written = schema::typed(shape, text);
                    assert!(schema::check(shape, &written).is_ok(), "{place} {text}");
                    // What is shown is another way to write the same.
                    assert_eq!(
                        schema::complete(shape, value.clone()),
                        serde_json::to_value(value).unwrap(),
                        "{place}"
                    );
                    assert!(!value.is_null(), "{place}");
                }
                (schema::Absent::Empty, Shape::Section(section)) => check(section, value, &place),
                _ => {}
            }
        }
    }
    check(TopicSettings::SECTION, &of::<TopicSettings>(json!({})), "topic");
    check(QueueSettings::SECTION, &of::<QueueSettings>(json!({})), "queue");
    let subscription = of::<SubscriptionSettings>(json!({"topic": "t"}));
    check(SubscriptionSettings::SECTION, &subscription, "subscription");
    let schedule = json!({"cron": "@daily", "to": "t"});
    check(ScheduleSettings::SECTION, &of::<ScheduleSettings>(schedule), "schedule");
    assert_eq!(
        TopicSettings::of(&TopicOptions {
            retention: Retention { keep_unread: true, ..Retention::default() },
            ..TopicOptions::default()
        }),
        TopicSettings::read(json!({})).unwrap()
    );
}

#[test]
fn a_conflict_names_each_setting_with_both_values() {
    let is = QueueSettings::read(json!({})).unwrap();
    let asked =
        QueueSettings::read(json!({"lease": "1m", "retry": 3, "dead_letter": "off"})).unwrap();
    assert_eq!(
        differences(&is, &asked),
        "`dead_letter` is null and not \"off\", `lease` is \"30s\" and not \"1m\", \
         `retry.failures_max` is 10 and not 3"
    );
}

#[test]
fn what_the_configuration_may_say_in_short_may_be_said_here() {
    let options = topic(json!({"retention": "30d"})).unwrap();
    assert_eq!(options.retention.age, Some(Duration::from_secs(30 * 86_400)));
    assert_eq!(topic(json!({"retention": "off"})).unwrap().retention.age, None);
    let options = queue(json!({"retry": 3, "limit": 100})).unwrap();
    assert_eq!((options.failures_max, options.limit.messages), (Some(3), Some(100)));
    assert_eq!(queue(json!({"retry": "off"})).unwrap().failures_max, None);
    let options = queue(json!({"retry": {"jitter": "20%"}})).unwrap();
    assert_eq!(options.retry.jitter, 0.2);
    let options = subscription(json!({"topic": "a", "filter": "data.total > 1.0"})).unwrap();
    assert_eq!(options.filter.expression.as_deref(), Some("data.total > 1.0"));
    // Nothing at all stands for the default, as it does there.
    assert_eq!(
        queue(json!({"retry": null, "limit": null, "lease": null})).unwrap(),
        queue(json!({})).unwrap()
    );
}
