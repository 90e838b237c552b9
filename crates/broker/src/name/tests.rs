//! Names, and what a pattern takes.

use super::*;

#[test]
fn names_are_bounded_and_printable() {
    for good in ["a", "orders.eu.created", "queue with spaces", "é", &"x".repeat(255)] {
        assert!(Key::plain(good).is_ok(), "{good}");
    }
    for bad in ["", "a\nb", "\0", &"x".repeat(256)] {
        assert!(Key::plain(bad).is_err(), "{bad:?}");
    }
    assert!(Key::new("/", "q").is_ok());
    assert!(Key::new("a\u{1f}", "q").is_err());
}

#[test]
fn stored_names_never_meet() {
    let key = |space: &str, name: &str| Key::new(space, name).unwrap();
    let mut names = vec![
        stored::queue(&key("", "a/b")),
        stored::queue(&key("/", "b")),
        stored::queue(&key("a", "b")),
        stored::queue(&key("%2F", "b")),
        stored::queue(&key("/a", "b")),
        stored::topic(&key("", "a/b")),
        stored::subscription(&key("", "a"), "b/c"),
        stored::subscription(&key("", "a/b"), "c"),
        stored::subscription(&key("a", "b"), "c"),
        stored::member(&SubscriptionKey::new(&key("", "a.*"), "s").unwrap(), &key("", "a.b")),
        stored::subscription(&key("", "a.*"), "s"),
    ];
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
    assert_eq!(stored::queue(&key("/", "orders")), "q/%2F/orders");
}

#[test]
fn patterns_take_words_and_the_rest() {
    let table = [
        ("orders.*", "orders.created", true),
        ("orders.*", "orders", false),
        ("orders.*", "orders.eu.created", false),
        ("orders.>", "orders.eu.created", true),
        ("orders.>", "orders", false),
        ("*.created", "orders.created", true),
        ("*.created", "orders.deleted", false),
        (">", "anything.at.all", true),
        ("a.*.c", "a.b.c", true),
        ("a.*.c", "a.b.d", false),
        ("a", "a", true),
        ("a*", "ab", false),
    ];
    for (pattern, name, takes) in table {
        assert_eq!(Pattern::new(pattern).unwrap().takes(name), takes, "{pattern} {name}");
    }
    for bad in ["", ">.a", "a..b", ".a", "a."] {
        assert!(Pattern::new(bad).is_err(), "{bad}");
    }
    assert!(Pattern::is_one("a.*") && Pattern::is_one(">") && !Pattern::is_one("a*.b"));
}

#[test]
fn the_dead_letters_of_a_subscription_have_a_queue_of_their_own() {
    let topic = Key::plain("orders").unwrap();
    let subscription = SubscriptionKey::new(&topic, "billing").unwrap();
    assert_eq!(&*subscription.dead().unwrap().name, "billing.dead");
}
