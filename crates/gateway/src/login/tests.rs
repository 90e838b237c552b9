//! Sessions in time: what ends one, and what becomes of it when its tokens are refreshed.

use std::{pin::Pin, sync::Mutex, time::SystemTime};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use serde_json::{Value, json};
use weft_net::clock;

use super::{granted::Granted, session::Session, *};
use crate::{
    authentication::Moment,
    credential::Digest,
    fixture::{head, name},
    oauth::{Answering, ClientAuthentication, Form},
};

/// A provider: its document, its keys, and what its token endpoint says.
struct Provider {
    key: Ed25519KeyPair,
    answer: Mutex<(u16, String)>,
}

#[derive(Clone)]
struct Way(Arc<Provider>);

impl Fetch for Way {
    fn get<'a>(
        &'a self,
        url: &'a str,
    ) -> Pin<Box<dyn Future<Output = weft_kernel::Result<Bytes>> + Send + 'a>> {
        let x = URL_SAFE_NO_PAD.encode(self.0.key.public_key().as_ref());
        let text = match url {
            "https://id.example/keys" => {
                json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x}]})
            }
            _ => json!({
                "issuer": "https://id.example",
                "authorization_endpoint": "https://id.example/auth",
                "token_endpoint": "https://id.example/token",
                "jwks_uri": "https://id.example/keys",
            }),
        };
        Box::pin(std::future::ready(Ok(text.to_string().into())))
    }
}

impl Post for Way {
    fn post<'a>(&'a self, _url: &'a str, _form: Form, _bytes_max: usize) -> Answering<'a> {
        let (status, text) = self.0.answer.lock().unwrap().clone();
        Box::pin(std::future::ready(Ok((status, text.into()))))
    }
}

fn now() -> i64 {
    pending::seconds(clock::wall())
}

impl Provider {
    fn new() -> Arc<Self> {
        let key = Ed25519KeyPair::generate().unwrap();
        Arc::new(Self { key, answer: Mutex::new((503, String::new())) })
    }

    fn id_token(&self, more: &Value) -> String {
        let mut claims = json!({
            "iss": "https://id.example", "aud": "weft", "sub": "ada", "iat": now(), "exp": now() + 300
        });
        for (name, value) in more.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let part = |of: Value| URL_SAFE_NO_PAD.encode(of.to_string());
        let text = format!("{}.{}", part(json!({"alg": "EdDSA"})), part(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.key.sign(text.as_bytes()));
        format!("{text}.{signature}")
    }

    fn says(&self, status: u16, text: impl ToString) {
        *self.answer.lock().unwrap() = (status, text.to_string());
    }
}

fn options() -> Options {
    Options {
        name: name("shop"),
        issuer: "https://id.example".into(),
        discovery: "https://id.example/.well-known/openid-configuration".into(),
        ca_file: None,
        client: Client {
            id: "weft".into(),
            secret: None,
            authentication: ClientAuthentication::Post,
        },
        scopes: vec!["openid".into()],
        parameters: vec![],
        algorithms: vec![Algorithm::EdDsa],
        skew: Duration::from_secs(60),
        origin: None,
        callback_path: "/back".into(),
        login_path: Some("/in".into()),
        logout_path: "/out".into(),
        backchannel_path: None,
        post_logout: "/".into(),
        cookie: Cookie { name: "shop".into(), domain: None, same_site: SameSite::Lax },
        idle: Duration::from_secs(800),
        max: Duration::from_secs(7_200),
        access_token: Some("authorization".into()),
        consumer_claim: None,
        consumers: Vec::new(),
        secrets: vec![SessionSecret("a secret of thirty-two characters".into())],
    }
}

fn login(provider: &Arc<Provider>) -> Login {
    let way = || Way(Arc::clone(provider));
    Login::new(options(), way(), way(), Generation::default())
}

/// The fields of a request that shows a session.
fn fields(login: &Login, session: &Session) -> Fields {
    let lines = login.cookies_of(session, false, 0, now()).unwrap();
    let pairs: Vec<_> = lines.iter().filter_map(|line| line.split(';').next()).collect();
    head(Method::Get, "/", &[("cookie", &pairs.join("; "))]).fields
}

fn session(provider: &Provider) -> Session {
    Session::new("one".into(), provider.id_token(&json!({"sid": "s1"})), now())
}

/// What is seen of a session after so many seconds: the subject with the access token and the number of cookies that
/// are set, or what else.
fn seen(login: &Login, fields: &Fields, after: u64) -> String {
    let wall = clock::wall() + Duration::from_secs(after);
    let at = Moment { now: clock::now(), wall, may_wait: true };
    match login.look(false, fields, at) {
        Seen::Nothing => "nothing".to_owned(),
        Seen::Later(_) => "later".to_owned(),
        Seen::Session { claims, access_token, cookies } => {
            let token = access_token.unwrap_or_default();
            format!("{} {token} {}", claims.text("sub").unwrap_or_default(), cookies.len())
        }
    }
}

#[test]
fn a_session_goes_on_while_it_is_used_and_no_longer_than_it_may() {
    let provider = Provider::new();
    let login = login(&provider);
    let session = session(&provider);
    let of = fields(&login, &session);
    for (after, expected) in
        [(0, "ada  0"), (99, "ada  0"), (102, "ada  1"), (798, "ada  1"), (801, "nothing")]
    {
        assert_eq!(seen(&login, &of, after), expected, "{after}");
    }
    let used = Session { seen: now() + 7_000, ..session.clone() };
    assert_eq!(seen(&login, &fields(&login, &used), 7_190), "ada  1");
    assert_eq!(seen(&login, &fields(&login, &used), 7_201), "nothing");
    assert_eq!(seen(&login, &Fields::new(), 0), "nothing");
    // One that was sealed for another login is none.
    let other =
        Login { sealer: Sealer::new("other", &options().secrets), ..self::login(&provider) };
    assert_eq!(seen(&other, &of, 0), "nothing");

    login.revoked.end(Digest::of_session("sid", "s2"), now(), now(), now() + 900);
    assert_eq!(seen(&login, &of, 0), "ada  0");
    login.revoked.end(Digest::of_session("sid", "s1"), session.began - 1, now(), now() + 900);
    assert_eq!(seen(&login, &of, 0), "ada  0", "it began after that");
    login.revoked.end(Digest::of_session("sid", "s1"), session.began, now(), now() + 900);
    assert_eq!(seen(&login, &of, 0), "nothing");
    // By the clock of the provider, which may be another.
    let ahead = Session { issued: Some(session.began + 30), id: "two".into(), ..session };
    let of = fields(&login, &ahead);
    assert_eq!(seen(&login, &of, 0), "ada  0");
    login.revoked.end(Digest::of_session("id", "two"), now(), now(), now() + 900);
    assert_eq!(seen(&login, &of, 0), "nothing");
}

#[test]
fn of_several_cookies_of_a_name_the_good_one_counts() {
    let provider = Provider::new();
    let login = login(&provider);
    let session = session(&provider);
    let over = Session { began: now() - 9_000, ..session.clone() };
    let large = Session { access_token: Some("t".repeat(5_000)), ..session.clone() };
    let large_over = Session { began: now() - 9_000, id: "old".into(), ..large.clone() };
    let line = |of: &Session| {
        let fields = fields(&login, of);
        String::from_utf8(fields.get(Known::Cookie).unwrap().to_vec()).unwrap()
    };
    let with = |lines: &[&str]| head(Method::Get, "/", &[("cookie", &lines.join("; "))]).fields;
    let (good, stale, large, large_stale) =
        (line(&session), line(&over), line(&large), line(&large_over));
    let odd = "shop=1.AAAA";
    for (lines, expected) in [
        (&[&*stale, &*good][..], "ada"),
        (&[&good, &stale], "ada"),
        (&[odd, &stale, odd, &good], "ada"),
        (&[&stale, odd], "nothing"),
        (&[&large_stale, &large], "ada"),
        (&[&large, &large_stale], "ada"),
        (&[&stale, &large], "ada"),
        (&[&large_stale, &good], "ada"),
        (&["shop-1=left.over", &large], "ada"),
        // There is an end to looking.
        (&[odd, odd, odd, odd, &good], "nothing"),
    ] {
        let found = seen(&login, &with(lines), 0);
        assert_eq!(found.split(' ').next(), Some(expected), "{lines:.200?}");
    }
    // The one that began last, and of that what is newest.
    let eve = provider.id_token(&json!({"sub": "eve"}));
    let later = Session { began: now() + 1, id_token: eve, ..session.clone() };
    assert_eq!(seen(&login, &with(&[&good, &line(&later)]), 0), "eve  0");
    assert_eq!(seen(&login, &with(&[&line(&later), &good]), 0), "eve  0");
}

#[tokio::test]
async fn a_refresh_token_that_was_used_up_is_not_sent_again() {
    let provider = Provider::new();
    let login = login(&provider);
    let next = json!({"access_token": "next", "refresh_token": "r2", "expires_in": 600});
    provider.says(200, next);
    let mut old = session(&provider);
    old.refresh_token = Some("r1".into());
    old.refresh_at = Some(now());
    let of = fields(&login, &old);
    let work = async {
        if let Some(fetched) = login.keys.ask(clock::now()) {
            fetched.await;
        }
        let at = |after: u64| Moment {
            now: clock::now().plus(Duration::from_secs(after)),
            wall: clock::wall() + Duration::from_secs(after),
            may_wait: true,
        };
        let Seen::Later(asked) = login.look(false, &of, at(0)) else { panic!("it waits") };
        asked.await;
        let is_known = |after| matches!(login.look(false, &of, at(after)), Seen::Session { .. });
        assert!(is_known(0) && is_known(590));
        // One that is two refreshes behind gets what is newest.
        let newer =
            Session { refresh_token: Some("r2".into()), refresh_at: Some(now()), ..old.clone() };
        let newest = json!({"access_token": "newest", "refresh_token": "r3", "expires_in": 9_000});
        provider.says(200, newest);
        let of_newer = fields(&login, &newer);
        let Seen::Later(asked) = login.look(false, &of_newer, at(0)) else { panic!("it waits") };
        asked.await;
        assert_eq!(seen(&login, &of, 595), "ada newest 1");
        // What came of it is forgotten, and that it was used is not.
        assert!(matches!(login.look(false, &of, at(700)), Seen::Nothing));
    };
    tokio::select! { () = work => {}, () = login.run() => {} }
}

#[tokio::test]
async fn a_refresh_that_is_late_is_waited_for_once() {
    let provider = Provider::new();
    let login = login(&provider);
    let mut due = session(&provider);
    due.refresh_token = Some("r1".into());
    due.refresh_at = Some(now());
    let of = fields(&login, &due);
    let fetch = async {
        if let Some(fetched) = login.keys.ask(clock::now()) {
            fetched.await;
        }
    };
    tokio::select! { () = fetch => {}, () = login.run() => {} }
    // Nobody answers from now on.
    let at = |after: u64| Moment {
        now: clock::now().plus(Duration::from_secs(after)),
        wall: clock::wall(),
        may_wait: true,
    };
    assert!(matches!(login.look(false, &of, at(0)), Seen::Later(_)));
    assert!(matches!(login.look(false, &of, at(4)), Seen::Later(_)));
    assert!(matches!(login.look(false, &of, at(6)), Seen::Session { .. }), "it goes on");
    provider.says(200, json!({"access_token": "next", "refresh_token": "r2"}));
    let work = async {
        let digest = tokens::Grant::Refresh("r1").digest();
        while login.tokens.known(&digest, clock::now()).is_none() {
            tokio::task::yield_now().await;
        }
        assert_eq!(seen(&login, &of, 0), "ada next 1", "what came of it is kept");
    };
    tokio::select! { () = work => {}, () = login.run() => {} }
}

#[tokio::test]
async fn an_id_token_is_of_somebody_and_of_its_time() {
    let provider = Provider::new();
    let login = login(&provider);
    let fetch = async {
        if let Some(fetched) = login.keys.ask(clock::now()) {
            fetched.await;
        }
    };
    tokio::select! { () = fetch => {}, () = login.run() => {} }
    for (more, is_good) in [
        (json!({}), true),
        (json!({"iat": now() + 50}), true),
        (json!({"iat": now() + 90}), false),
        (json!({"iat": "now"}), false),
        (json!({"sub": ""}), false),
        (json!({"sub": 7}), false),
        (json!({"sub": null}), false),
    ] {
        assert_eq!(login.verify(&provider.id_token(&more), None).is_ok(), is_good, "{more}");
    }
}

#[tokio::test]
async fn tokens_are_refreshed_ahead_of_their_time() {
    let provider = Provider::new();
    let login = login(&provider);
    let granted = |at| Granted {
        id_token: None,
        access_token: Some("first".into()),
        refresh_token: Some("r1".into()),
        expires_in: Some(600),
        token_type: None,
        at,
    };
    let id_token = |more: Value| provider.id_token(&more);
    for (status, answer, expected) in [
        (
            200,
            json!({"access_token": "next", "refresh_token": "r2", "expires_in": 600}),
            "ada next 1",
        ),
        (200, json!({"access_token": "next", "id_token": id_token(json!({"x": 1}))}), "ada next 1"),
        (
            200,
            json!({"access_token": "next", "id_token": id_token(json!({"sub": "eve"}))}),
            "nothing",
        ),
        (
            200,
            json!({"access_token": "next", "id_token": id_token(json!({"aud": "x"}))}),
            "nothing",
        ),
        (
            200,
            json!({"access_token": "next", "id_token": id_token(json!({"at_hash": "x"}))}),
            "nothing",
        ),
        (400, json!({"error": "invalid_grant"}), "nothing"),
        // The provider is away, or not well: what there is goes on.
        (503, json!({}), "ada first 0"),
        (200, json!("odd"), "ada first 0"),
        (401, json!({"error": "invalid_client"}), "ada first 0"),
        (400, json!({"error": "invalid_request"}), "ada first 0"),
        (429, json!({"error": "invalid_grant"}), "ada first 0"),
        (200, json!({"access_token": "next", "token_type": "DPoP"}), "nothing"),
    ] {
        let login = self::login(&provider);
        provider.says(status, &answer);
        let mut session = session(&provider);
        session.take(&granted(now()), login.options());
        let early = fields(&login, &session);
        assert_eq!(seen(&login, &early, 0), "ada first 0");
        session.refresh_at = Some(now());
        let due = fields(&login, &session);
        let work = async {
            // Without what is known of the provider there is nobody to ask.
            if let Some(fetched) = login.keys.ask(clock::now()) {
                fetched.await;
            }
            assert_eq!(seen(&login, &due, 0), "later", "{answer}");
            let at = Moment { now: clock::now(), wall: SystemTime::now(), may_wait: true };
            let Seen::Later(asked) = login.look(false, &due, at) else { panic!("it waits") };
            asked.await;
            assert_eq!(seen(&login, &due, 0), expected, "{answer}");
            assert_eq!(seen(&login, &due, 0), expected, "it is remembered");
        };
        tokio::select! { () = work => {}, () = login.run() => {} }
    }
    // It is asked for a fifth of its time ahead, and no more than a minute.
    let mut session = session(&provider);
    session.take(&granted(1_000), login.options());
    assert_eq!((session.due(1_539), session.due(1_540)), (None, Some("r1")));
    session.take(&Granted { expires_in: Some(100), ..granted(1_000) }, login.options());
    assert_eq!((session.due(1_079), session.due(1_080)), (None, Some("r1")));
    session.take(&Granted { expires_in: None, ..granted(1_000) }, login.options());
    assert_eq!(session.due(i64::MAX), None);
}

#[test]
fn only_a_page_is_sent_to_log_in() {
    let html = ("accept", "text/html,*/*;q=0.8");
    for (method, fields, expected) in [
        (Method::Get, &[html][..], true),
        (Method::Get, &[html, ("sec-fetch-mode", "navigate")], true),
        (Method::Get, &[("accept", "application/json"), ("sec-fetch-mode", "navigate")], false),
        (Method::Get, &[html, ("sec-fetch-mode", "cors")], false),
        (Method::Get, &[html, ("sec-fetch-mode", "navigate"), ("sec-fetch-mode", "cors")], false),
        (Method::Get, &[html, ("x-requested-with", "XMLHttpRequest")], false),
        (Method::Get, &[("accept", "*/*")], false),
        (Method::Get, &[], false),
        (Method::Post, &[html], false),
        (Method::Head, &[html], false),
    ] {
        assert_eq!(is_navigation(&head(method, "/", fields)), expected, "{fields:?}");
    }
}

#[test]
fn a_service_is_shown_no_token_but_its_own() {
    let login = login(&Provider::new());
    for (handed, expected) in [(None, None), (Some(Handed("t".into())), Some(&b"Bearer t"[..]))] {
        let mut fields = head(Method::Get, "/", &[("authorization", "Bearer forged")]).fields;
        login.hand_on(handed.as_ref(), &mut fields);
        assert_eq!(fields.get(Known::Authorization), expected);
    }
    let paths = ["/back", "/in", "/out", "/other", "/back/"].map(|path| login.own(path));
    assert_eq!(paths, [Some(Own::Back), Some(Own::Begin), Some(Own::Out), None, None]);
}
