//! What expressions of costs read, and what comes of them.

use weft_wire::Method;

use super::*;
use crate::{
    consumer::Known,
    fixture::{head, name},
};

const PLACE: &str = "/v1/chat?model=large&n=3&n=4&say=a+b%21";

fn request() -> RequestHead {
    let fields = [("x-max", "250"), ("X-Two", "1"), ("x-two", "2"), ("x-odd", "\u{e9}")];
    head(Method::Post, PLACE, &fields)
}

fn cost(text: &str) -> Result<f64, Fault> {
    let formula = Formula::cost(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let consumer = Consumer {
        known: Arc::new(Known::new(name("mobile"), vec![name("gold")])),
        is_anonymous: false,
    };
    let head = request();
    let request = Request::new(&head, "api.example", Some(1_500));
    formula.number(&Seen::new(Some(request), Some(&consumer), None))
}

#[test]
fn a_cost_reads_the_request_and_its_consumer() {
    for (text, expect) in [
        ("request.method == 'POST' ? 5 : 1", 5.0),
        ("request.path == '/v1/chat' ? 2 : 1", 2.0),
        ("request.host.endsWith('.example') ? 3 : 1", 3.0),
        ("int(request.headers['x-max'])", 250.0),
        ("int(request.headers['x-max']) / 100", 2.0),
        ("double(request.headers['x-max']) / 100.0", 2.5),
        ("has(request.headers.missing) ? 9 : 1", 1.0),
        ("request.query.model == 'large' ? 10 : 1", 10.0),
        ("request.query['say'] == 'a b!' ? 4 : 1", 4.0),
        ("request.query['n'] == '3, 4' ? 7 : 1", 7.0),
        ("request.headers['x-two'] == '1, 2' ? 7 : 1", 7.0),
        ("request.body_bytes / 1000 + 1", 2.0),
        ("'gold' in consumer.groups ? 1 : 10", 1.0),
        ("consumer.name == 'mobile' && !consumer.anonymous ? 6 : 1", 6.0),
        ("request.query.all(name, name != 'free') ? 8 : 0", 8.0),
        ("size(request.headers)", 3.0),
    ] {
        assert_eq!(cost(text), Ok(expect), "{text}");
    }
}

#[test]
fn what_cannot_be_worked_out_is_a_fault_that_shows_no_value() {
    for text in [
        "int(request.headers['missing'])",
        "int(request.headers['x-two'])",
        "int(request.query.model)",
        "0 - int(request.headers['x-max'])",
        "0.0 / (double(request.headers['x-max']) - 250.0)",
        "1 / (int(request.headers['x-max']) - 250)",
    ] {
        let fault = cost(text).unwrap_err().to_string();
        assert!(!fault.contains("250") && !fault.contains("large"), "{text}: {fault}");
    }
}

#[test]
fn what_can_only_fail_is_refused_with_the_cause() {
    for (text, said) in [
        ("request.metod == 'GET' ? 1 : 2", "did you mean `method`?"),
        ("request.headers['X-Max'] == '1' ? 1 : 2", "lower case"),
        ("response.status", "`response`"),
        ("request.method", "string"),
        ("true", "bool"),
        ("1 +", "not CEL"),
    ] {
        let error = Formula::cost(text).unwrap_err();
        assert!(error.contains(said), "{text}: {error}");
    }
    assert!(Formula::charge("response.status >= 500 ? 0 : 1").is_ok());
    assert!(Formula::charge("response.headers['X'] == '' ? 0 : 1").is_err());
}

#[test]
fn a_charge_reads_the_response_as_it_has_ended() {
    let how = Ended {
        status: 200,
        grpc: Some(8),
        request_bytes: 40,
        response_bytes: 9_000,
        now: Tick::ZERO.plus(std::time::Duration::from_millis(2_500)),
    };
    let request = request();
    let tab = |reads_fields| Tab {
        request: Some((request.clone(), "api.example".into())),
        consumer: None,
        began: Tick::ZERO,
        reads_fields,
        fields: RefCell::default(),
    };
    let mut response = ResponseHead::new(200);
    response.fields.append("X-Tokens", b"1234");
    response.fields.append("x-huge", b"1e30");
    let charge = |text: &str| {
        let tab = tab(true);
        tab.respond(&response);
        tab.charge(&Formula::charge(text).unwrap_or_else(|error| panic!("{text}: {error}")), &how)
    };
    for (text, expect) in [
        ("int(response.headers['x-tokens'])", 1_234),
        ("response.status >= 500 ? 0 : 1", 1),
        ("response.grpc_status == 8 ? 3 : 1", 3),
        ("double(response.body_bytes) / 1024.0", 9),
        ("double(response.duration_ms) / 1000.0", 3),
        ("request.body_bytes + response.body_bytes", 9_040),
        ("request.method == 'POST' && !has(consumer.name) ? 2 : 1", 2),
        ("double(response.headers['x-huge'])", UNITS_MAX),
    ] {
        assert_eq!(charge(text), Ok(expect), "{text}");
    }
    assert!(charge("0 - int(response.headers['x-tokens'])").is_err());
    assert!(charge("int(response.headers['x-none'])").is_err());
    // A client that left before there was a response.
    let charge = Formula::charge("int(response.headers['x-tokens'])").unwrap();
    assert!(tab(true).charge(&charge, &how).is_err());
}
