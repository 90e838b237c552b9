//! Who a request comes from, and what a service is told of it.

use base64::engine::general_purpose::STANDARD as BASE64;
use proptest::prelude::*;
use weft_wire::{Method, RequestHead};

use super::*;
use crate::{
    credential::{Digest, KEY_BYTES_MAX},
    fixture::{self, name},
};

fn head(target: &str, fields: &[(&str, &str)]) -> RequestHead {
    fixture::head(Method::Get, target, fields)
}

fn basic(username: &str, password: &str) -> String {
    use base64::Engine as _;
    format!("Basic {}", BASE64.encode(format!("{username}:{password}")))
}

fn directory() -> Directory {
    let mut directory = Directory::default();
    for (who, groups) in [("mobile", vec![name("partners")]), ("web", vec![]), ("guest", vec![])] {
        directory.add(name(who), groups);
    }
    for (digest, who) in [
        (Digest::of_api_key(b"mobile-key"), "mobile"),
        (Digest::of_basic(b"mobile", b"pass:word"), "mobile"),
        (Digest::of_api_key(b"web-key"), "web"),
    ] {
        assert_eq!(directory.give(digest, &name(who)), Ok(()));
    }
    directory
}

fn settings(combine: Combine, methods: Vec<Scheme>) -> Authentication {
    Authentication {
        combine,
        methods,
        anonymous: None,
        forward: false,
        realm: "weft".into(),
        preflight: false,
    }
}

fn everywhere() -> Scheme {
    Scheme::ApiKey(vec![
        KeyPlace::Header("x-api-key".into()),
        KeyPlace::Header("authorization".into()),
        KeyPlace::Query("key".into()),
        KeyPlace::Cookie("key".into()),
    ])
}

/// The name of the consumer, nobody, or why not.
fn judge(settings: &Authentication, head: &RequestHead) -> Result<String, String> {
    let guard = Guard::new(Arc::default(), settings.clone());
    let roster = Roster { consumers: Arc::new(directory()), ..Roster::default() };
    let at = Moment { now: clock::now(), wall: clock::wall(), may_wait: false };
    let (target, host) = (&*head.target, "h");
    let message = Message { head, target, host, is_secure: false, has_body: false };
    match guard.judge((&roster, 0), (&message, None), at) {
        Shown::Nothing => Ok("nobody".to_owned()),
        Shown::By(good) => {
            Ok(good.consumer.map_or_else(String::new, |consumer| consumer.name().to_string()))
        }
        Shown::Wrong(wrong) => Err(wrong.why.into_owned()),
        Shown::Lacks => Err("lacks".to_owned()),
        Shown::Closed | Shown::Later(_) | Shown::Renewed(_) => Err("closed".to_owned()),
    }
}

#[test]
fn an_api_key_in_each_of_its_places() {
    let settings = settings(Combine::Any, vec![everywhere()]);
    let long = "k".repeat(KEY_BYTES_MAX + 1);
    let long_field = [("x-api-key", &*long)];
    for (target, fields, expected) in [
        ("/", &[][..], Ok("nobody")),
        ("/", &[("x-api-key", "mobile-key")], Ok("mobile")),
        ("/", &[("x-api-key", "web-key")], Ok("web")),
        ("/", &[("x-api-key", "")], Ok("nobody")),
        ("/", &[("authorization", "ApiKey mobile-key")], Ok("mobile")),
        ("/", &[("authorization", "bearer  mobile-key")], Ok("mobile")),
        ("/", &[("authorization", "Bearermobile-key")], Ok("nobody")),
        ("/", &[("authorization", "Basic bW9iaWxlOng=")], Ok("nobody")),
        ("/?key=mobile-key", &[], Ok("mobile")),
        ("/?a=1&key=mobile%2Dkey", &[], Ok("mobile")),
        ("/?key=", &[], Ok("nobody")),
        ("/", &[("cookie", "a=1; key=mobile-key")], Ok("mobile")),
        ("/", &[("x-api-key", "mobile-kez")], Err("nobody has this API key")),
        ("/?key=a%00b", &[], Err("nobody has this API key")),
        (
            "/",
            &[("x-api-key", "mobile-key"), ("x-api-key", "x")],
            Err("there is more than one API key"),
        ),
        ("/?key=mobile-key&key=x", &[], Err("there is more than one API key")),
        (
            "/",
            &[("cookie", "key=mobile-key"), ("cookie", "key=x")],
            Err("there is more than one API key"),
        ),
        ("/", &long_field, Err("the API key is too long")),
    ] {
        let found = judge(&settings, &head(target, fields));
        assert_eq!(found.as_deref().map_err(|why| &**why), expected, "{target} {fields:?}");
    }
}

#[test]
fn a_user_name_with_its_password() {
    let settings = settings(Combine::Any, vec![Scheme::Basic]);
    let wrong = Err("the user name or password is wrong");
    let unread = Err("the user name and password cannot be read");
    let right = basic("mobile", "pass:word");
    for (value, expected) in [
        (right.clone(), Ok("mobile")),
        (right.trim_end_matches('=').to_owned(), Ok("mobile")),
        (right.replace("Basic", "bASIC"), Ok("mobile")),
        (basic("mobile", "pass"), wrong),
        (basic("Mobile", "pass:word"), wrong),
        (basic("mobile:pass", "word"), Ok("mobile")),
        (basic("web", ""), wrong),
        (basic("mobile-key", ""), wrong),
        ("Basic bW9iaWxl".to_owned(), unread),
        ("Basic *".to_owned(), unread),
        (format!("Basic {}", "A".repeat(2048)), unread),
        ("Basic".to_owned(), Ok("nobody")),
        ("Digest username=\"mobile\"".to_owned(), Ok("nobody")),
    ] {
        let found = judge(&settings, &head("/", &[("authorization", &value)]));
        assert_eq!(found.as_deref().map_err(|why| &**why), expected, "{value}");
    }
    let twice = head("/", &[("authorization", &right), ("authorization", &right)]);
    assert_eq!(
        judge(&settings, &twice),
        Err("there is more than one field `Authorization`".into())
    );
}

#[test]
fn any_of_several_or_all() {
    let methods =
        || vec![Scheme::ApiKey(vec![KeyPlace::Header("x-api-key".into())]), Scheme::Basic];
    let (any, all) = (settings(Combine::Any, methods()), settings(Combine::All, methods()));
    let (good, bad) = (basic("mobile", "pass:word"), basic("mobile", "no"));
    let wrong = Err("the user name or password is wrong");
    for (key, authorization, with_any, with_all) in [
        ("mobile-key", "", Ok("mobile"), Err("one of several credentials is missing")),
        ("", &*good, Ok("mobile"), Err("one of several credentials is missing")),
        ("mobile-key", &good, Ok("mobile"), Ok("mobile")),
        ("web-key", &good, Ok("web"), Err("the credentials belong to different consumers")),
        ("web-key", &bad, Ok("web"), wrong),
        ("x", &good, Ok("mobile"), Err("nobody has this API key")),
        ("", &bad, wrong, wrong),
        ("", "", Ok("nobody"), Ok("nobody")),
    ] {
        let head = head("/", &[("x-api-key", key), ("authorization", authorization)]);
        for (settings, expected) in [(&any, with_any), (&all, with_all)] {
            let found = judge(settings, &head);
            let found = found.as_deref().map_err(|why| &**why);
            assert_eq!(found, expected, "{key} {authorization} {settings}");
        }
    }
}

/// What the service sees of a request: its target, and its fields in order.
fn seen(settings: &Authentication, consumer: Option<&Consumer>, mut head: RequestHead) -> String {
    forward::tell((settings, &Suspects::of(settings)), consumer, &Passed::default(), &mut head);
    let fields = head.fields.iter();
    let lines: Vec<_> =
        fields.map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value))).collect();
    format!("{} {}", head.target, lines.join(" "))
}

#[test]
fn the_service_is_told_and_not_shown() {
    let hidden = settings(Combine::Any, vec![everywhere(), Scheme::Basic]);
    let shown = Authentication { forward: true, ..hidden.clone() };
    let request = || {
        head(
            "/a?key=1&b=2",
            &[
                ("host", "h"),
                ("x-api-key", "k"),
                ("X_Consumer_Username", "admin"),
                ("x-consumer-groups", "root"),
                ("x-anonymous-consumer", "true"),
                ("authorization", "Basic bW9iaWxlOng="),
                ("cookie", "key=1; a=2"),
                ("weft-kept-consumer", "admin"),
            ],
        )
    };
    let directory = directory();
    let (mobile, guest) = (directory.named("mobile"), directory.anonymous("guest"));
    assert_eq!(
        seen(&hidden, mobile.as_ref(), request()),
        "/a?b=2 host=h cookie=a=2 x-consumer-username=mobile x-consumer-groups=partners"
    );
    assert_eq!(
        seen(&hidden, guest.as_ref(), request()),
        "/a?b=2 host=h cookie=a=2 x-consumer-username=guest x-anonymous-consumer=true"
    );
    assert_eq!(seen(&hidden, None, request()), "/a?b=2 host=h cookie=a=2");
    // Shown is what was verified, and nothing was.
    assert_eq!(seen(&shown, None, request()), "/a?b=2 host=h cookie=a=2");
    // Credentials of another kind are not this policy's.
    let keys = settings(Combine::Any, vec![Scheme::ApiKey(vec![KeyPlace::Header("x-key".into())])]);
    let other = head("/", &[("authorization", "Bearer t"), ("x-key", "k")]);
    assert_eq!(seen(&keys, None, other), "/ authorization=Bearer t");
}

/// What the service is shown of a request that shows credentials of several kinds, where it is shown any.
fn shown(
    methods: Vec<Scheme>,
    anonymous: Option<&str>,
    target: &str,
    of: &[(&str, &str)],
) -> String {
    let settings = Authentication {
        forward: true,
        anonymous: anonymous.map(name),
        ..settings(Combine::Any, methods)
    };
    let guard = Guard::new(Arc::default(), settings.clone());
    let roster = Roster { consumers: Arc::new(directory()), ..Roster::default() };
    let at = Moment { now: clock::now(), wall: clock::wall(), may_wait: false };
    let mut head = head(target, of);
    let message = Message { head: &head, target, host: "h", is_secure: false, has_body: false };
    let by = match guard.judge((&roster, 0), (&message, None), at) {
        Shown::By(good) => good.by,
        Shown::Nothing if anonymous.is_some() => Vec::new(),
        _ => panic!("it is let through"),
    };
    forward::tell((&settings, &Suspects::of(&settings)), None, &Passed::By(by), &mut head);
    let fields = head.fields.iter();
    let lines = fields.map(|(name, value)| format!(" {name}={}", String::from_utf8_lossy(value)));
    lines.fold(head.target, |all, line| all + &line)
}

#[test]
fn a_service_is_shown_no_credentials_that_nobody_verified() {
    let key = || Scheme::ApiKey(vec![KeyPlace::Header("x-api-key".into())]);
    let (good, forged) = (basic("mobile", "pass:word"), basic("root", "made up"));
    let both = || vec![key(), Scheme::Basic];
    let key_shown = ("x-api-key", "mobile-key");
    assert_eq!(
        shown(both(), None, "/", &[key_shown, ("authorization", &forged)]),
        "/ x-api-key=mobile-key"
    );
    assert_eq!(
        shown(both(), None, "/", &[("x-api-key", "made-up"), ("authorization", &good)]),
        format!("/ authorization={good}")
    );
    // Of the places of one method the first that has one is looked at, and no other.
    assert_eq!(
        shown(
            vec![everywhere()],
            None,
            "/?key=made-up&a=1",
            &[key_shown, ("authorization", "Bearer made-up"), ("cookie", "key=made-up; b=2")]
        ),
        "/?a=1 x-api-key=mobile-key cookie=b=2"
    );
    assert_eq!(
        shown(vec![everywhere()], None, "/?key=mobile-key", &[("cookie", "key=made-up")]),
        "/?key=mobile-key"
    );
    // What reads like the name of a field that was looked at was not.
    assert_eq!(
        shown(vec![key()], None, "/", &[key_shown, ("x_api_key", "made-up"), ("x.api.key", "1")]),
        "/ x-api-key=mobile-key"
    );
    // Whoever is nobody has shown nothing that Weft looks at.
    for odd in [forged.replace(' ', "\t"), "Basic".to_owned(), "basic,x".to_owned()] {
        let fields = [("authorization", &*odd)];
        assert_eq!(shown(vec![Scheme::Basic], Some("guest"), "/", &fields), "/", "{odd}");
    }
}

#[test]
fn a_tab_stands_behind_no_scheme() {
    let settings = settings(Combine::Any, vec![everywhere(), Scheme::Basic]);
    for (value, expected) in [
        ("Bearer mobile-key", Ok("mobile")),
        ("Bearer   mobile-key ", Ok("mobile")),
        ("Bearer\tmobile-key", Ok("nobody")),
        ("Bearer \tmobile-key", Err("nobody has this API key")),
        ("ApiKey\tmobile-key", Ok("nobody")),
    ] {
        let found = judge(&settings, &head("/", &[("authorization", value)]));
        assert_eq!(found.as_deref().map_err(|why| &**why), expected, "{value}");
        let left = seen(&settings, None, head("/", &[("authorization", value)]));
        assert_eq!(left, "/ ", "{value}");
    }
}

#[test]
fn nothing_that_weft_says_or_looks_at_comes_after_a_body() {
    let keys = Scheme::ApiKey(vec![KeyPlace::Header("x-key".into())]);
    let guard = Guard::new(Arc::default(), settings(Combine::Any, vec![keys]));
    for name in
        ["x-consumer-username", "x_consumer_groups", "x.key", "x-key", "x-anonymous-consumer"]
    {
        assert!(guard.takes_off(name), "{name}");
    }
    assert!(!guard.takes_off("x-sum") && !guard.takes_off("x-keys"));
}

#[test]
fn what_is_kept_holds_the_consumer_and_no_credentials() {
    let settings = Authentication {
        forward: true,
        ..settings(Combine::Any, vec![everywhere(), Scheme::Basic])
    };
    let directory = directory();
    for (consumer, expected) in [
        (directory.named("mobile"), Some(&b"mobile"[..])),
        (directory.anonymous("guest"), Some(b"?guest")),
        (None, None),
    ] {
        let mut head = head("/?key=1", &[("x-api-key", "k"), ("weft-kept-consumer", "admin")]);
        forward::keep((&settings, &Suspects::of(&settings)), consumer.as_ref(), &mut head);
        assert_eq!((&*head.target, head.fields.only_named(KEPT)), ("/", expected));
        assert!(head.fields.named("x-api-key").is_none());
    }
}

proptest! {
    #[test]
    fn nothing_makes_it_panic_or_let_in(
        target in "/[ -~]{0,40}",
        key in proptest::collection::vec(any::<u8>(), 0..64),
        authorization in "(Basic|Bearer|ApiKey)?[ -~]{0,64}",
    ) {
        let mut head = head("/", &[("authorization", &authorization)]);
        head.target = target;
        head.fields.append("x-api-key", &key);
        head.fields.append("cookie", &key);
        let settings = settings(Combine::Any, vec![everywhere(), Scheme::Basic]);
        let found = judge(&settings, &head);
        prop_assert!(found.is_err() || found == Ok("nobody".to_owned()));
        let line = seen(&settings, None, head);
        prop_assert!(!line.contains("x-api-key="));
    }
}
