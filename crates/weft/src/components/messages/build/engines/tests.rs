//! What is asked of an engine is told where it is written.

use weft_broker::engine::Support;

use super::*;
use crate::config::{
    leaf::Named,
    setting::Setting,
    tree::{Node, parse_alone},
};

/// What is wrong with a configuration of messages, each with its line; a second engine `far` has hardly
/// anything.
fn problems(text: &str) -> Vec<String> {
    fn read<T: Setting>(root: &Node, section: &str, cx: &mut Cx) -> Vec<(At<Name>, T)> {
        let Some(node) = root.get(section) else { return Vec::new() };
        Named::<T>::read(node, cx).expect("the section can be read").0
    }
    let root = parse_alone(text).expect("it is YAML");
    let mut cx = Cx::default();
    let topics = read::<Topic>(&root, "topics", &mut cx);
    let queues = read::<Queue>(&root, "queues", &mut cx);
    let subscriptions = read::<Subscription>(&root, "subscriptions", &mut cx);
    let schedules = read::<Schedule>(&root, "schedules", &mut cx);
    let few = Capabilities::new(|capability| match capability {
        Capability::FailureLimit | Capability::DelayedRetry | Capability::DeadLetters => {
            Support::Emulated
        }
        Capability::DurableConfirms | Capability::Retention | Capability::KeepUnread => {
            Support::Native
        }
        _ => Support::Missing,
    });
    let all = vec![(EMBEDDED, Capabilities::embedded()), ("far", &few)];
    let engines = Engines::among(all, &topics, &queues);
    topics.iter().for_each(|(_, of)| engines.check_topic(of, &mut cx));
    queues.iter().for_each(|(_, of)| engines.check_queue(of, &mut cx));
    subscriptions.iter().for_each(|(_, of)| engines.check_subscription(of, &mut cx));
    schedules.iter().for_each(|(_, of)| engines.check_schedule(of, &mut cx));
    let told = cx.problems.iter().map(|problem| {
        let start = problem.place.expect("it has a place").start as usize;
        format!("{}: {}", text[..start].lines().count().max(1), problem.message)
    });
    told.collect()
}

#[test]
fn an_engine_that_is_not_there_is_told() {
    let told = problems("queues:\n  a:\n    engine: embeded\n  b: {}\n");
    assert_eq!(told, ["3: there is no engine `embeded`"]);
    let told = problems("topics:\n  a: {}\nqueues:\n  b: {engine: embedded, priorities: true}\n");
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn a_setting_that_an_engine_lacks_is_told_at_its_line() {
    let told = problems(
        "topics:\n  t:\n    engine: far\n    compact: true\n    dedupe: off\nqueues:\n  q:\n    engine: far\n    \
         dedupe: off\n    priorities: true\n    ttl: 5s\n    limit: 9\n",
    );
    let wanted = ["4: ", "10: ", "11: ", "12: "];
    assert_eq!(told.len(), wanted.len(), "{told:?}");
    for (told, wanted) in told.iter().zip(wanted) {
        assert!(told.starts_with(wanted), "{told}");
        assert!(told.contains("engine `far` does not have"), "{told}");
    }
}

#[test]
fn a_subscription_is_held_to_the_engine_of_its_topic() {
    let told = problems(
        "topics:\n  t: {engine: far, dedupe: off}\nsubscriptions:\n  s:\n    topic: t\n    filter: \
         event.id == '1'\n",
    );
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("6: ") && told[0].contains("`filters`"), "{told:?}");
}

#[test]
fn nothing_leads_from_one_engine_to_another() {
    let told = problems(
        "topics:\n  t: {}\nqueues:\n  far: {engine: far, dedupe: off}\n  q:\n    dead_letter: far\n\
         subscriptions:\n  s:\n    topic: t\n    queue: far\nschedules:\n  n:\n    cron: '0 * * * *'\n    \
         type: tick\n    to: {queue: far}\n",
    );
    let wanted =
        ["6: engine `far` keeps queue `far`", "10: engine `far` keeps queue `far`", "15: "];
    assert_eq!(told.len(), wanted.len(), "{told:?}");
    for (told, wanted) in told.iter().zip(wanted) {
        assert!(told.starts_with(wanted), "{told}");
    }
    assert!(told[2].contains("`named_schedules`"), "{told:?}");
}
