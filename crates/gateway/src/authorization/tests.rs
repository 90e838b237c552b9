//! Rules over requests: what they read, what decides, and what is no rule.

use weft_identity::{peer::Names, token::Claims};
use weft_wire::Fields;

use super::*;
use crate::{consumer::Consumer, fixture::name};

fn rule(when: &str) -> Rule {
    Rule::new(name("r"), when, Effect::Allow).unwrap_or_else(|why| panic!("{when}: {why}"))
}

fn fields(of: &[(&str, &str)]) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in of {
        assert!(fields.append(name, value.as_bytes()), "{name}");
    }
    fields
}

fn with(fields: &Fields) -> Attributes<'_> {
    Attributes {
        method: "GET",
        path: "/orders/a%7Cb",
        captures: vec![("id", "a%7Cb")],
        query: Some("role=user&role=admin&x=%41+b&flag"),
        fields,
        host: "shop.example".into(),
        is_secure: true,
        consumer: None,
        claims: None,
        certificate: None,
        client: None,
        listener: "web",
        route: "orders",
    }
}

/// What a rule makes of a request: `None` if it cannot be worked out.
fn asked(when: &str, attributes: &Attributes<'_>) -> Option<bool> {
    attributes::LookedAt::new(attributes).fit(&rule(when).when).ok()
}

#[test]
fn rules_read_the_request() {
    let fields = fields(&[
        ("x-a", "1"),
        ("x-b", "2"),
        ("x-a", "3"),
        ("x-long", &"y".repeat(10_240)),
        ("cookie", "a=1"),
        ("cookie", "b=2"),
    ]);
    let attributes = with(&fields);
    for (when, truth) in [
        ("request.method == 'GET' && request.path == '/orders/a%7Cb'", Some(true)),
        ("request.captures.id == 'a|b'", Some(true)),
        ("request.captures.other == 'a|b'", None),
        ("has(request.captures.other)", Some(false)),
        ("request.host == 'shop.example' && request.scheme == 'https'", Some(true)),
        ("request.headers['x-b'] == '2'", Some(true)),
        // Whatever a rule makes of one that was sent twice, the service may take the other.
        ("request.headers['x-a'] == '1'", None),
        ("'x-a' in request.headers && request.headers['x-a'] == '7'", None),
        ("request.headers.exists(name, request.headers[name] == '2')", None),
        ("'x-a' in request.headers", Some(true)),
        ("request.header_values['x-a'] == ['1', '3']", Some(true)),
        ("'3' in request.header_values['x-a'] && has(request.header_values.none)", Some(false)),
        ("request.headers['cookie'] == 'a=1; b=2'", Some(true)),
        ("'x-c' in request.headers", Some(false)),
        ("request.headers['x-c'] == ''", None),
        ("request.headers['x-long'].matches('^y+$')", Some(true)),
        ("size(request.headers) == 4", Some(true)),
        ("request.query.role == ['user', 'admin']", Some(true)),
        ("'admin' in request.query.role && request.query.x[0] == 'A b'", Some(true)),
        ("request.query.flag == ['']", Some(true)),
        ("has(request.query.none)", Some(false)),
        ("listener == 'web' && route == 'orders'", Some(true)),
        ("has(consumer.name)", Some(false)),
        ("consumer.name == 'ada'", None),
        ("has(claims.sub) || has(certificate.subject) || has(client.address)", Some(false)),
        ("request.headers.exists(name, name.startsWith('x-l'))", Some(true)),
    ] {
        assert_eq!(asked(when, &attributes), truth, "{when}");
    }
}

#[test]
fn rules_read_who_asks() {
    let fields = Fields::new();
    let consumer = Consumer::new(name("ada"), vec![name("staff"), name("eu")], false);
    let claims = br#"{"sub":"a|b","roles":["r"],"age":7,"a.b":1,"realm":{"roles":["x"]}}"#;
    let claims = Claims::of_json(claims).unwrap();
    let certificate = Names {
        dns: vec!["a.example".into()],
        addresses: vec![],
        uri: vec!["spiffe://d/ns/a".into()],
        subject: "CN=a".into(),
        common_name: Some("a".into()),
        fingerprint: "ab".into(),
    };
    let attributes = Attributes {
        consumer: Some(&consumer),
        claims: Some(&claims),
        certificate: Some(&certificate),
        client: "::ffff:10.1.2.3".parse().ok(),
        ..with(&fields)
    };
    for (when, truth) in [
        ("consumer.name == 'ada' && 'staff' in consumer.groups && !consumer.anonymous", Some(true)),
        ("claims.sub == request.captures.id", Some(true)),
        ("'r' in claims.roles && claims.age >= 7 && claims['a.b'] == 1", Some(true)),
        ("'x' in claims.realm.roles", Some(true)),
        ("claims.none == 1", None),
        ("claims.sub > 1", None),
        ("certificate.spiffe == 'spiffe://d/ns/a' && 'a.example' in certificate.dns", Some(true)),
        ("certificate.common_name == 'a' && certificate.fingerprint == 'ab'", Some(true)),
        ("cidr('10.0.0.0/8').containsIP(client.address)", Some(true)),
        ("cidr('fd00::/8').containsIP(client.address)", Some(false)),
        ("client.address == '10.1.2.3'", Some(true)),
    ] {
        assert_eq!(asked(when, &attributes), truth, "{when}");
    }
}

#[test]
fn what_can_only_be_a_mistake_is_no_rule() {
    for (when, part) in [
        ("request.method", "true or false"),
        ("request.headers['X-A'] == ''", "lower case: `x-a`"),
        ("request.query.role == 'admin'", "does not go with"),
        ("consumer.grups == []", "did you mean `groups`"),
        ("requests.method == 'GET'", "did you mean `request`"),
        ("request.method = 'GET'", "not CEL"),
        ("cidr('10.0.0.0/33').containsIP(client.address)", "always fails"),
        ("request.path.matches(request.method)", "must be written out"),
        ("consumer.groups.exists(a, consumer.groups.exists(b, a == b))", "within another"),
    ] {
        let why = Rule::new(name("r"), when, Effect::Allow).unwrap_err();
        assert!(why.contains(part), "{when}: {why}");
    }
}

#[test]
fn the_first_rule_that_is_true_decides() {
    let rule = |of: &str, when: &str, then| Rule::new(name(of), when, then).unwrap();
    let mut rules = Authorization {
        rules: vec![
            rule("no-deletes", "request.method == 'DELETE'", Effect::Deny),
            rule("staff", "'staff' in consumer.groups", Effect::Allow),
            rule("reads", "request.method == 'GET'", Effect::Allow),
        ],
        default: Effect::Deny,
        skips_failures: false,
        shadow: false,
    };
    let fields = Fields::new();
    let consumer = Consumer::new(name("ada"), vec![name("staff")], false);
    let ask = |rules: &Authorization, method, consumer| {
        let verdict = rules.decide(&Attributes { method, consumer, ..with(&fields) });
        (verdict.effect, verdict.by().to_owned(), verdict.failure.is_some())
    };
    let told = |effect, by: &str, failure| (effect, by.to_owned(), failure);
    let ada = Some(&consumer);
    assert_eq!(ask(&rules, "DELETE", ada), told(Effect::Deny, "no-deletes", false));
    assert_eq!(ask(&rules, "POST", ada), told(Effect::Allow, "staff", false));
    // What is not there cannot be looked at, and then nobody knows whether the rule would have decided.
    assert_eq!(ask(&rules, "GET", None), told(Effect::Deny, "staff", true));
    rules.skips_failures = true;
    assert_eq!(ask(&rules, "GET", None), told(Effect::Allow, "reads", false));
    assert_eq!(ask(&rules, "POST", None), told(Effect::Deny, DEFAULT, false));
    rules.default = Effect::Allow;
    assert_eq!(ask(&rules, "POST", None), told(Effect::Allow, DEFAULT, false));
    // Methods are told apart by case (RFC 9110 section 9.1).
    assert_eq!(ask(&rules, "delete", None), told(Effect::Allow, DEFAULT, false));
    assert_eq!(rules.to_string(), "no-deletes, staff, reads, else allow");
}

#[test]
fn a_loop_over_what_a_client_sends_has_a_bound() {
    let pairs: Vec<String> = (0..4_000).map(|at| format!("n{at}=v")).collect();
    let query = pairs.join("&");
    let fields = Fields::new();
    let attributes = Attributes { query: Some(&query), ..with(&fields) };
    let looked_at = attributes::LookedAt::new(&attributes);
    let when = "request.query.all(name, name.size() < 99 && name != 'x' && !name.endsWith('y'))";
    assert_eq!(rule(when).when.is_true(&looked_at), Err(Failure::TooLong));
}
