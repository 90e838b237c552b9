//! A token endpoint that gives, lies, refuses and fails, in paused time.

use std::sync::atomic::{AtomicUsize, Ordering};

use weft_kernel::{Error, Reason};

use super::*;
use crate::{
    fixture::name,
    oauth::{Answering, ClientAuthentication},
};

/// What an endpoint answers: status and body, or nothing at all.
type Answer = Option<(u16, &'static str)>;

/// An endpoint with its answers, one after the other; the last again and again. It remembers the forms.
#[derive(Clone, Default)]
struct Script {
    answers: Arc<Mutex<Vec<Answer>>>,
    forms: Arc<Mutex<Vec<String>>>,
    asked: Arc<AtomicUsize>,
}

impl Post for Script {
    fn post<'a>(&'a self, _url: &'a str, form: Form, _bytes_max: usize) -> Answering<'a> {
        assert_eq!(form.authorization.as_deref(), Some("Basic d2VmdDpzZWNyZXQ="));
        self.forms.lock().push(form.body);
        let at = self.asked.fetch_add(1, Ordering::Relaxed);
        let answers = self.answers.lock();
        let answer = answers[at.min(answers.len() - 1)];
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            match answer {
                None => Err(Error::new(Reason::UpstreamClosed, "it broke off")),
                Some((status, body)) => Ok((status, body.into())),
            }
        })
    }
}

fn client(answers: &[Answer]) -> (TokenClient, Script) {
    let script = Script { answers: Arc::new(Mutex::new(answers.to_vec())), ..Script::default() };
    let options = Options {
        name: name("billing"),
        url: "https://id.example/token".into(),
        ca_file: None,
        client: Client {
            id: "weft".into(),
            secret: Some("secret".into()),
            authentication: ClientAuthentication::Basic,
        },
        scopes: vec!["read".into(), "write".into()],
        audiences: vec!["https://billing.example".into()],
        resources: Vec::new(),
        subject_type: "urn:ietf:params:oauth:token-type:access_token".into(),
        life: Duration::from_secs(300),
    };
    (TokenClient::new(options, script.clone()), script)
}

/// What is known of a token after it was asked for.
async fn fetched(client: &TokenClient, subject: &[u8]) -> Option<Known<Granted>> {
    let digest = client.digest(subject);
    let asked = client.ask(digest, subject, clock::now());
    let asked = asked.unwrap_or_else(|| panic!("it may ask"));
    tokio::select! { () = asked => {}, () = client.run() => {} }
    client.known(&digest, clock::now())
}

fn has(known: Option<&Known<Granted>>) -> Option<&str> {
    match known {
        Some(Known::Said(Granted::Token(line)) | Known::Old(Granted::Token(line))) => Some(line),
        _ => None,
    }
}

const TOKEN: &str = r#"{"access_token":"one","token_type":"bearer","expires_in":100}"#;

#[tokio::test(start_paused = true)]
async fn a_token_is_used_until_shortly_before_its_end_and_renewed_before_that() {
    let (client, script) = client(&[Some((200, TOKEN))]);
    let known = fetched(&client, b"").await;
    assert_eq!(has(known.as_ref()), Some("Bearer one"));
    let form =
        "grant_type=client_credentials&scope=read%20write&audience=https%3A%2F%2Fbilling.example";
    assert_eq!(*script.forms.lock(), [form]);
    let (digest, now) = (client.digest(b""), clock::now());
    let at = |seconds| client.known(&digest, now.plus(Duration::from_secs(seconds)));
    assert!(matches!(at(69), Some(Known::Said(_))));
    assert!(matches!(at(70), Some(Known::Old(_))));
    assert!(matches!(at(94), Some(Known::Old(_))));
    assert_eq!(at(95), None);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_exchanged_for_another_and_what_is_refused_is_not_offered_again_at_once() {
    let refusal = r#"{"error":"invalid_request"}"#;
    let (client, script) = client(&[Some((200, TOKEN)), Some((400, refusal))]);
    let known = fetched(&client, b"of-ada").await;
    assert_eq!(has(known.as_ref()), Some("Bearer one"));
    assert!(script.forms.lock()[0].starts_with(
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&subject_token=of-ada\
         &subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token&scope="
    ));
    let refused = Some(Known::Said(Granted::Refused("invalid_request".into())));
    assert_eq!(fetched(&client, b"of-eve").await, refused);
    assert_eq!(client.known(&client.digest(b"of-bob"), clock::now()), None);
    let counts = Counts { good: 1, bad: 1, failed: 0, waiting: 0 };
    assert_eq!(client.counts(), counts);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_token_is_none() {
    const BAD: [Answer; 14] = [
        None,
        Some((200, "")),
        Some((200, "[]")),
        Some((200, r#"{"access_token":"one"}"#)),
        Some((200, r#"{"access_token":"","token_type":"Bearer"}"#)),
        Some((200, r#"{"access_token":"a\nb","token_type":"Bearer"}"#)),
        Some((200, r#"{"access_token":"one","token_type":"DPoP"}"#)),
        Some((200, r#"{"access_token":"one","token_type":"Bearer","expires_in":0}"#)),
        Some((200, r#"{"access_token":"one","token_type":"Bearer","expires_in":-5}"#)),
        Some((200, r#"{"access_token":"one","token_type":"Bearer","expires_in":"soon"}"#)),
        Some((200, r#"{"access_token":"one","token_type":"Bearer","expires_in":{}}"#)),
        Some((302, TOKEN)),
        // Said of the client, whoever's token is offered.
        Some((401, r#"{"error":"invalid_client","error_description":"no"}"#)),
        Some((400, r#"{"error":"unauthorized_client"}"#)),
    ];
    for bad in BAD {
        let (client, _script) = client(&[bad]);
        assert_eq!(fetched(&client, b"of-ada").await, Some(Known::Failed), "{bad:?}");
    }
    // Of a token for the node itself, there is nobody else to tell.
    let (client, _script) = client(&[Some((400, r#"{"error":"invalid_grant"}"#))]);
    assert_eq!(fetched(&client, b"").await, Some(Known::Failed));
}

#[tokio::test(start_paused = true)]
async fn ends_that_are_said_otherwise_are_understood() {
    for (said, seconds) in [
        (r#"{"access_token":"one","token_type":"Bearer"}"#, 295),
        (r#"{"access_token":"one","token_type":"Bearer","expires_in":null}"#, 295),
        (r#"{"access_token":"one","token_type":"BEARER","expires_in":"100"}"#, 95),
        (r#"{"access_token":"one","token_type":"Bearer","expires_in":1e300}"#, 86_395),
        (r#"{"access_token":"one","token_type":"Bearer","expires_in":10.0}"#, 9),
    ] {
        let (client, _script) = client(&[Some((200, said))]);
        assert!(fetched(&client, b"").await.is_some(), "{said}");
        let at = |seconds| {
            client.known(&client.digest(b""), clock::now().plus(Duration::from_secs(seconds)))
        };
        assert!(at(seconds - 1).is_some() && at(seconds).is_none(), "{said}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_away_leaves_the_token_there_is() {
    let (client, script) = client(&[Some((200, TOKEN)), None]);
    let began = fetched(&client, b"").await;
    assert!(began.is_some());
    tokio::time::advance(Duration::from_secs(75)).await;
    let known = fetched(&client, b"").await;
    assert!(matches!(known, Some(Known::Said(_))), "{known:?}: not asked again at once");
    assert_eq!(has(known.as_ref()), Some("Bearer one"));
    tokio::time::advance(Duration::from_secs(1)).await;
    let known = client.known(&client.digest(b""), clock::now());
    assert!(matches!(known, Some(Known::Old(_))), "{known:?}");
    tokio::time::advance(Duration::from_secs(25)).await;
    assert_eq!(fetched(&client, b"").await, Some(Known::Failed));
    assert_eq!(script.asked.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_a_service_does_not_take_is_fetched_anew_but_not_each_time() {
    let (client, _script) = client(&[Some((200, TOKEN))]);
    let digest = client.digest(b"");
    for (advance, is_forgotten) in [(0, true), (9, false), (1, true)] {
        assert!(fetched(&client, b"").await.is_some());
        tokio::time::advance(Duration::from_secs(advance)).await;
        client.doubt(&digest, clock::now());
        let known = client.known(&digest, clock::now());
        assert_eq!(known.is_none(), is_forgotten, "{advance}");
    }
}
