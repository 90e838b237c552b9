//! Arguments that are refused, declarations that differ, and what the broker is told.

use weft_wire::amqp::TableWriter;

use super::*;

fn declared(durable: bool, fill: impl FnOnce(&mut TableWriter<'_>)) -> Declared {
    let mut out = Vec::new();
    fill(&mut TableWriter::new(&mut out));
    Declared { durable, exclusive: false, auto_delete: false, arguments: out[4..].into() }
}

fn with(name: &str, value: Value<'_>) -> Declared {
    declared(true, |table| {
        table.entry(name, value);
    })
}

#[test]
fn wrong_arguments_are_named() {
    let check = |name: &str, value: Value<'_>, text: &str| {
        let fault = with(name, value).arguments("q", "/").unwrap_err();
        let whole = format!(
            "PRECONDITION_FAILED - invalid arg '{name}' for queue 'q' in vhost '/': {text}"
        );
        assert_eq!(fault.text, whole);
        assert!(!fault.connection);
    };
    check("x-message-ttl", Value::Long(b"soon"), "{unacceptable_type,longstr}");
    check("x-message-ttl", Value::I32(-1), "{value_negative,-1}");
    check("x-expires", Value::I32(0), "{value_zero,0}");
    check("x-max-priority", Value::I32(256), "{value_too_big,256}");
    check("x-overflow", Value::Long(b"explode"), "invalid_overflow");
    check("x-queue-type", Value::Long(b"rainbow"), "unsupported queue type");
    check("x-dead-letter-routing-key", Value::Long(b"k"), "routing_key_but_no_dlx_defined");
    check("x-single-active-consumer", Value::I32(1), "{unacceptable_type,signedint}");
    let fault = with("x-dead-letter-exchange", Value::I32(7)).arguments("q", "/").unwrap_err();
    assert!(fault.text.contains("invalid type 'signedint' for arg 'x-dead-letter-exchange'"));
    let mut quorum = with("x-queue-type", Value::Long(b"quorum"));
    assert!(quorum.arguments("q", "/").unwrap().quorum);
    quorum.durable = false;
    let text = quorum.arguments("q", "/").unwrap_err().text;
    assert!(text.contains("invalid property 'non-durable' for queue 'q'"), "{text}");
}

#[test]
fn differences_are_told_as_they_are() {
    let check = |current: &Declared, asked: &Declared, text: Option<&str>| {
        let found = current.same(asked, "q", "/").err().map(|fault| fault.text);
        let expect = text.map(|text| {
            let (name, rest) = text.split_once(' ').unwrap();
            format!(
                "PRECONDITION_FAILED - inequivalent arg '{name}' for queue 'q' in vhost '/': {rest}"
            )
        });
        assert_eq!(found, expect);
    };
    let ttl = |value| with("x-message-ttl", value);
    let bare = declared(true, |_| ());
    check(&bare, &bare, None);
    check(&ttl(Value::I32(5)), &ttl(Value::I64(5)), None);
    check(&bare, &with("x-queue-type", Value::Long(b"classic")), None);
    check(&bare, &with("x-unknown", Value::I32(1)), None);
    check(
        &ttl(Value::I32(5000)),
        &bare,
        Some("x-message-ttl received none but current is the value '5000' of type 'signedint'"),
    );
    check(
        &ttl(Value::I16(5000)),
        &ttl(Value::I16(6000)),
        Some("x-message-ttl received '6000' but current is '5000'"),
    );
    check(
        &bare,
        &with("x-queue-type", Value::Long(b"quorum")),
        Some("x-queue-type received the value 'quorum' of type 'longstr' but current is none"),
    );
    let transient = declared(false, |_| ());
    check(&bare, &transient, Some("durable received 'false' but current is 'true'"));
    let auto = Declared { auto_delete: true, ..bare.clone() };
    check(&bare, &auto, Some("auto_delete received 'true' but current is 'false'"));
}

#[test]
fn declarations_come_back_from_the_broker() {
    let declared = declared(true, |table| {
        table
            .entry("x-max-length", Value::I32(3))
            .text("x-dead-letter-exchange", "dlx")
            .entry("x-delivery-limit", Value::I32(2))
            .entry("x-max-priority", Value::I32(200));
    });
    let arguments = declared.arguments("q", "/").unwrap();
    let options = declared.options(&arguments, None, 1 << 20);
    assert_eq!(options.check().map_err(|error| error.to_string()), Ok(()));
    assert_eq!(options.failures_max, Some(3));
    assert_eq!(options.limit.overflow, Overflow::DropOldest { dead_letter: true });
    assert_eq!(options.dead_letter, DeadLetter::Hook(String::new()));
    assert_eq!(Declared::of_queue(&options), declared);
    assert_eq!(arguments.priority(Some(255)), 200);
    assert_eq!(arguments.priority(None), 0);
    let foreign = Declared::of_queue(&QueueOptions::default());
    assert!(foreign.durable && !foreign.exclusive && foreign.arguments.is_empty());
}
