//! What an issuer says of a token, and what becomes of it.

use std::time::Duration;

use weft_identity::token::Rules;
use weft_net::clock;
use weft_wire::Method;

use super::*;
use crate::{
    authentication::KeyPlace,
    directory::Directory,
    fixture::{head, name},
    introspection::{Introspection, Options},
    oauth::{Answering, Client, ClientAuthentication, Form, Post},
};

/// Answers with what the token itself says.
struct Echo;

impl Post for Echo {
    fn post<'a>(&'a self, _url: &'a str, form: Form, _bytes_max: usize) -> Answering<'a> {
        let token = form.body.split(['=', '&']).nth(1).unwrap_or_default();
        let text = percent_encoding::percent_decode_str(token).decode_utf8_lossy().into_owned();
        Box::pin(std::future::ready(Ok((200, text.into()))))
    }
}

fn roster() -> Roster {
    let mut consumers = Directory::default();
    consumers.add(name("mobile"), vec![]);
    assert_eq!(consumers.give(Digest::of_subject("corp", "ada"), &name("mobile")), Ok(()));
    let options = Options {
        issuer: name("corp"),
        url: "https://id.example/introspect".into(),
        ca_file: None,
        client: Client {
            id: "weft".into(),
            secret: None,
            authentication: ClientAuthentication::Post,
        },
        cache: Duration::from_secs(60),
        refused: Duration::from_secs(10),
    };
    let rules = Rules {
        issuer: "https://corp.example".into(),
        required: vec!["exp".into(), "sub".into()],
        skew: Duration::from_secs(60),
        ..Rules::default()
    };
    let issuer = Issuer {
        name: name("corp"),
        rules,
        audiences: Some(["orders".to_owned()].into()),
        keys: None,
        introspection: Some(Arc::new(Introspection::new(options, Echo))),
        consumer_claim: None,
        consumers: Box::default(),
    };
    let issuers = [(name("corp"), Arc::new(issuer))].into();
    Roster { consumers: Arc::new(consumers), issuers, ..Roster::default() }
}

async fn judged(method: &Bearer, token: &str) -> String {
    let roster = roster();
    let head = head(Method::Get, "/", &[("authorization", &format!("Bearer {token}"))]);
    let at = Moment { now: clock::now(), wall: clock::wall(), may_wait: true };
    let endpoint = roster.issuers.values().find_map(|issuer| issuer.introspection.clone());
    let endpoint = endpoint.unwrap_or_else(|| panic!("it has one"));
    let mut shown = method.ask((&roster, 21), &head, at);
    if let Shown::Later(asked) = shown {
        tokio::select! { () = asked => {}, () = endpoint.run() => {} }
        shown = method.ask((&roster, 21), &head, Moment { may_wait: false, ..at });
    }
    let text = |shown| match shown {
        Shown::Nothing => "nothing".to_owned(),
        Shown::Wrong(wrong) => wrong.why.into_owned(),
        Shown::Lacks => "lacks".to_owned(),
        Shown::Closed | Shown::Later(_) | Shown::Renewed(_) => "closed".to_owned(),
        Shown::By(good) => {
            good.consumer.map_or_else(|| "-".to_owned(), |consumer| consumer.name().to_string())
        }
    };
    let first = text(shown);
    assert_eq!(text(method.ask((&roster, 21), &head, at)), first, "remembered");
    first
}

#[tokio::test]
async fn what_an_issuer_says_of_a_token() {
    let method = Bearer {
        issuers: vec![name("corp")],
        places: vec![KeyPlace::Header("authorization".into())],
        audiences: vec![],
        scopes: vec!["read".into()],
        claims: vec![],
        tell: vec![],
    };
    let all = r#""active":true,"aud":"orders","scope":"read""#;
    for (token, expected) in [
        (format!(r#"{{{all},"sub":"ada"}}"#), "mobile"),
        (format!(r#"{{{all},"sub":"bob"}}"#), "-"),
        (format!(r#"{{{all},"sub":"bob","iss":"https://corp.example"}}"#), "-"),
        (
            format!(r#"{{{all},"sub":"bob","iss":"https://evil.example"}}"#),
            "the token is of another issuer",
        ),
        (format!(r#"{{{all},"sub":"bob","iss":7}}"#), "the token is of another issuer"),
        (format!(r#"{{{all}}}"#), "the token has no claim `sub`"),
        (format!(r#"{{{all},"sub":"bob","exp":1}}"#), "the token has expired"),
        (format!(r#"{{{all},"sub":"bob","nbf":1e12}}"#), "the token is not valid yet"),
        (
            r#"{"active":true,"sub":"bob","scope":"read"}"#.to_owned(),
            "the token is for another audience",
        ),
        (r#"{"active":true,"sub":"bob","aud":"orders","scope":"write"}"#.to_owned(), "lacks"),
        (r#"{"active":false}"#.to_owned(), "its issuer says that the token is not active"),
        (r#"{"active":1}"#.to_owned(), "closed"),
        ("x".repeat(20_000), "the token is longer than 16384 bytes"),
    ] {
        assert_eq!(judged(&method, &token).await, expected, "{token:.100}");
    }
}
