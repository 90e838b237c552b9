//! Tokens as credentials: which are believed, for what, and whose they are.

use std::{pin::Pin, time::Duration};

use aws_lc_rs::{
    hmac,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use weft_identity::token::{Algorithm, KeySet, Rules};
use weft_net::clock;
use weft_wire::Method;

use super::{
    super::{Authentication, Combine, Guard, Scheme, forward, forward::Passed},
    *,
};
use crate::{
    directory::Directory,
    fixture::{self, name},
    jwks::{self, Fetch, Remote},
    roster::Generation,
    signature::Message,
};

const SECRET: &[u8; 32] = b"a secret of thirty-two bytes....";

fn issuer(of: &str, consumer_claim: Option<&str>) -> Arc<Issuer> {
    let algorithms = vec![Algorithm::Hs256];
    let keys = KeySet::of_secret(SECRET, &algorithms).unwrap_or_else(|why| panic!("{why}"));
    let rules = Rules {
        issuer: format!("https://{of}.example"),
        algorithms,
        skew: Duration::from_secs(60),
        required: vec!["exp".to_owned()],
        ..Rules::default()
    };
    Arc::new(Issuer {
        name: name(of),
        rules,
        audiences: Some(["orders".to_owned()].into()),
        keys: Some(Keys::Fixed(Arc::new(keys))),
        introspection: None,
        consumer_claim: consumer_claim.map(Into::into),
        consumers: Box::default(),
    })
}

fn roster() -> Roster {
    let mut consumers = Directory::default();
    consumers.add(name("mobile"), vec![]);
    consumers.add(name("web"), vec![]);
    assert_eq!(consumers.give(Digest::of_subject("corp", "ada"), &name("mobile")), Ok(()));
    let issuers = [("corp", None), ("apps", Some("azp")), ("other", None)];
    let issuers = issuers.map(|(of, claim)| (name(of), issuer(of, claim)));
    Roster { consumers: Arc::new(consumers), issuers: issuers.into(), ..Roster::default() }
}

fn method() -> Bearer {
    Bearer {
        issuers: vec![name("corp"), name("apps")],
        places: vec![KeyPlace::Header("authorization".into()), KeyPlace::Cookie("token".into())],
        audiences: vec![],
        scopes: vec![],
        claims: vec![],
        tell: vec![],
    }
}

/// A token of corp, with other claims in place of some; `null` takes one off.
fn token(claims: &Value) -> String {
    let now = clock::wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut all =
        json!({"iss": "https://corp.example", "exp": now + 300, "aud": "orders", "sub": "bob"});
    for (name, value) in claims.as_object().into_iter().flatten() {
        all[name] = value.clone();
    }
    let part = |of: String| URL_SAFE_NO_PAD.encode(of);
    let text = format!("{}.{}", part(json!({"alg": "HS256"}).to_string()), part(all.to_string()));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(hmac::sign(&key, text.as_bytes())))
}

fn head(fields: &[(&str, String)]) -> RequestHead {
    let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    fixture::head(Method::Get, "/", &fields)
}

/// The consumer, `-` for none, or why not; asked twice, since the second time it is remembered.
fn judged(method: &Bearer, head: &RequestHead) -> String {
    let roster = roster();
    let at = Moment { now: clock::now(), wall: clock::wall(), may_wait: false };
    let once = || match method.look((&roster, 3), head, at) {
        Shown::Nothing => "nothing".to_owned(),
        Shown::Wrong(wrong) => wrong.why.into_owned(),
        Shown::Lacks => "lacks".to_owned(),
        Shown::Closed | Shown::Later(_) | Shown::Renewed(_) => "closed".to_owned(),
        Shown::By(good) => {
            assert!(good.token.is_some());
            good.consumer.map_or_else(|| "-".to_owned(), |consumer| consumer.name().to_string())
        }
    };
    let first = once();
    assert_eq!(once(), first, "remembered");
    first
}

fn bearer(claims: &Value) -> RequestHead {
    head(&[("authorization", format!("Bearer {}", token(claims)))])
}

#[test]
fn whose_a_token_is() {
    let apps = |azp: &str| json!({"iss": "https://apps.example", "azp": azp});
    for (claims, expected) in [
        (json!({}), "-"),
        (json!({"sub": "ada"}), "mobile"),
        (apps("web"), "web"),
        (apps("nobody"), "the token leads to no consumer"),
        (json!({"iss": "https://apps.example"}), "the token leads to no consumer"),
        (json!({"iss": "https://other.example"}), "the token is of another issuer"),
        (json!({"iss": "https://evil.example"}), "the token is of another issuer"),
        (json!({"iss": null}), "the token is of another issuer"),
        (json!({"exp": 1}), "the token has expired"),
        (json!({"aud": "payments"}), "the token is for another audience"),
    ] {
        assert_eq!(judged(&method(), &bearer(&claims)), expected, "{claims}");
    }
    // What is remembered of an issuer counts only where that issuer is asked for.
    let of_other = bearer(&json!({"iss": "https://other.example"}));
    let others = Bearer { issuers: vec![name("other")], ..method() };
    assert_eq!(judged(&others, &of_other), "-");
    assert_eq!(judged(&method(), &of_other), "the token is of another issuer");
}

#[test]
fn where_a_token_stands() {
    let (good, method) = (token(&json!({"sub": "ada"})), method());
    let field = Bearer { places: vec![KeyPlace::Header("x-token".into())], ..method.clone() };
    for (method, fields, expected) in [
        (&method, vec![], "nothing"),
        (&method, vec![("authorization", format!("bearer {good}"))], "mobile"),
        (&method, vec![("authorization", format!("Basic {good}"))], "nothing"),
        (&method, vec![("cookie", format!("a=1; token={good}"))], "mobile"),
        (&field, vec![("x-token", good.clone())], "mobile"),
        (&field, vec![("x-token", format!("Bearer {good}"))], "mobile"),
        (
            &field,
            vec![("x-token", good.clone()), ("x-token", good.clone())],
            "there is more than one token",
        ),
        (&field, vec![("x-token", "a".repeat(20_000))], "the token is longer than 16384 bytes"),
        (
            &field,
            vec![("x-token", "junk".to_owned())],
            "the token is malformed: it has not three parts",
        ),
    ] {
        assert_eq!(judged(method, &head(&fields)), expected);
    }
}

#[test]
fn what_a_token_may_do() {
    let asks = Bearer {
        audiences: vec!["payments".into(), "orders".into()],
        scopes: vec!["read".into(), "write".into()],
        claims: vec![("tenant.id".into(), vec!["a".into(), "b".into()])],
        ..method()
    };
    let tenant = |id: &str| json!({"id": id});
    for (claims, expected) in [
        (json!({"scope": "read write", "tenant": tenant("b")}), "-"),
        (json!({"scp": ["write", "read"], "tenant": tenant("a"), "aud": ["payments"]}), "-"),
        (json!({"scope": "read", "tenant": tenant("a")}), "lacks"),
        (json!({"scope": "read writer", "tenant": tenant("a")}), "lacks"),
        (json!({"scope": "read write", "tenant": tenant("c")}), "lacks"),
        (json!({"scope": "read write"}), "lacks"),
        (
            json!({"scope": "read write", "tenant": tenant("a"), "aud": "x"}),
            "the token is for another audience",
        ),
    ] {
        assert_eq!(judged(&asks, &bearer(&claims)), expected, "{claims}");
    }
}

#[test]
fn what_the_service_is_told_of_claims() {
    let tell = [
        ("x-user", "sub"),
        ("x-roles", "roles"),
        ("x-age", "age"),
        ("x-none", "none"),
        ("x-deep", "a.b"),
    ];
    let tell = tell.map(|(name, claim)| (name.to_owned(), claim.to_owned())).to_vec();
    let method = Bearer { tell, ..method() };
    let head = bearer(&json!({"roles": ["a", "b"], "age": 7, "none": {}, "a": {"b": true}}));
    let at = Moment { now: clock::now(), wall: clock::wall(), may_wait: false };
    let Shown::By(Good { token: Some(token), .. }) = method.look((&roster(), 4), &head, at) else {
        panic!("it is good")
    };
    let told: Vec<_> = method.told(&token).map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(told, ["x-user=bob", "x-roles=a,b", "x-age=7", "x-deep=true"]);
    assert_eq!(token.issuer(), &name("corp"));
}

#[test]
fn a_claim_names_no_consumer_that_its_issuer_may_not() {
    let claims = |azp: &str| bearer(&json!({"iss": "https://apps.example", "azp": azp}));
    let mut roster = roster();
    let mut apps = Issuer::clone(&issuer("apps", Some("azp")));
    apps.consumers = [name("web")].into();
    roster.issuers.insert(name("apps"), Arc::new(apps));
    let at = Moment { now: clock::now(), wall: clock::wall(), may_wait: false };
    for (azp, expected) in [("web", true), ("mobile", false)] {
        let shown = method().look((&roster, 12), &claims(azp), at);
        assert_eq!(matches!(shown, Shown::By(_)), expected, "{azp}");
    }
}

/// What a service is told in its fields of a request that a policy lets through, or why it does not.
fn told_by(combine: Combine, methods: &[&Bearer], mut head: RequestHead) -> String {
    let methods = methods.iter().map(|method| Scheme::Jwt((*method).clone())).collect();
    let settings = Authentication {
        combine,
        methods,
        anonymous: None,
        forward: false,
        realm: "weft".into(),
        preflight: false,
    };
    let guard = Guard::new(Arc::default(), settings);
    let at = Moment { now: clock::now(), wall: clock::wall(), may_wait: false };
    let (target, host) = ("/", "h");
    let message = Message { head: &head, target, host, is_secure: false, has_body: false };
    let good = match guard.judge((&roster(), 5), (&message, None), at) {
        Shown::By(good) => good,
        Shown::Wrong(wrong) => return wrong.why.into_owned(),
        _ => return "otherwise".to_owned(),
    };
    let first = good.token.as_ref().map(|token| token.issuer().to_string()).unwrap_or_default();
    forward::tell((&guard.settings, &guard.suspects), None, &Passed::By(good.by), &mut head);
    let line = |(name, value): (&str, &[u8])| format!(" {name}={}", String::from_utf8_lossy(value));
    head.fields.iter().map(line).fold(format!("{first}:"), |all, line| all + &line)
}

#[test]
fn each_method_tells_of_the_token_that_it_let_through() {
    let tell = |of: &[(&str, &str)]| {
        of.iter().map(|(name, claim)| ((*name).to_owned(), (*claim).to_owned())).collect()
    };
    let corp = Bearer {
        issuers: vec![name("corp")],
        places: vec![KeyPlace::Header("x-staff".into())],
        tell: tell(&[("x-staff-id", "sub"), ("x-admin", "admin")]),
        ..method()
    };
    let other = Bearer {
        issuers: vec![name("other")],
        places: vec![KeyPlace::Header("x-guest".into())],
        tell: tell(&[("x-guest-id", "sub")]),
        ..method()
    };
    let of_corp = || token(&json!({"sub": "carl", "admin": true}));
    // Whoever issues tokens to guests says nothing of staff.
    let of_other =
        || token(&json!({"iss": "https://other.example", "sub": "gus", "admin": "forged"}));
    let forged = || ("x-admin", "yes".to_owned());
    for (combine, fields, expected) in [
        (Combine::Any, vec![("x-staff", of_corp())], "corp: x-staff-id=carl x-admin=true"),
        (Combine::Any, vec![("x-guest", of_other()), forged()], "other: x-guest-id=gus"),
        (
            Combine::Any,
            vec![("x-guest", of_other()), ("x-staff", of_corp())],
            "corp: x-staff-id=carl x-admin=true",
        ),
        (
            Combine::All,
            vec![("x-guest", of_other()), ("x-staff", of_corp()), forged()],
            "corp: x-staff-id=carl x-admin=true x-guest-id=gus",
        ),
    ] {
        assert_eq!(told_by(combine, &[&corp, &other], head(&fields)), expected, "{combine:?}");
    }
    let both = head(&[("x-guest", of_other()), ("x-staff", of_corp())]);
    let expected = "other: x-guest-id=gus x-staff-id=carl x-admin=true";
    assert_eq!(told_by(Combine::All, &[&other, &corp], both), expected);
}

/// A host that answers with one set.
struct Host(bytes::Bytes);

impl Fetch for Host {
    fn get<'a>(
        &'a self,
        _url: &'a str,
    ) -> Pin<Box<dyn Future<Output = weft_kernel::Result<bytes::Bytes>> + Send + 'a>> {
        Box::pin(std::future::ready(Ok(self.0.clone())))
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_remembered_is_believed_no_longer_than_the_keys_it_was_signed_by() {
    let key = Ed25519KeyPair::generate().unwrap_or_else(|error| panic!("{error}"));
    let set = json!({"keys": [{
        "kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(key.public_key().as_ref())
    }]});
    let options = jwks::Options {
        issuer: name("corp"),
        url: "https://corp.example/keys".into(),
        ca_file: None,
        algorithms: vec![Algorithm::EdDsa],
        cache: Duration::from_secs(600),
        stale: Duration::from_secs(3_600),
    };
    let host = Host(set.to_string().into());
    let remote = Arc::new(Remote::new(options, host, Generation::default()));
    let _ = tokio::time::timeout(Duration::from_secs(1), remote.refresh()).await;
    let mut corp = Issuer::clone(&issuer("corp", None));
    corp.rules.algorithms = vec![Algorithm::EdDsa];
    corp.keys = Some(Keys::Remote(remote));
    let roster = Roster { issuers: [(name("corp"), Arc::new(corp))].into(), ..Roster::default() };
    let part = |of: Value| URL_SAFE_NO_PAD.encode(of.to_string());
    let claims = json!({"iss": "https://corp.example", "exp": 1e12, "aud": "orders"});
    let text = format!("{}.{}", part(json!({"alg": "EdDSA"})), part(claims));
    let signature = URL_SAFE_NO_PAD.encode(key.sign(text.as_bytes()));
    let head = head(&[("authorization", format!("Bearer {text}.{signature}"))]);
    let fetched = clock::now();
    for (after, is_believed) in [(0, true), (4_190, true), (4_210, false)] {
        let now = fetched.plus(Duration::from_secs(after));
        let at = Moment { now, wall: clock::wall(), may_wait: false };
        let shown = method().look((&roster, 11), &head, at);
        assert_eq!(matches!(shown, Shown::By(_)), is_believed, "{after}");
        assert_eq!(matches!(shown, Shown::Closed), !is_believed, "{after}");
    }
}
