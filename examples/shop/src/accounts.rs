//! Accounts: where people say who they are. An OpenID Connect provider of a few pages, so that the tour can log
//! in without one of somebody else's. It asks for no password, and its keys last as long as it runs.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use aws_lc_rs::{
    digest,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use axum::{
    Json, Router,
    extract::{Query, State},
    response::{Html, IntoResponse, Response},
    routing::{get, post},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use http::{
    HeaderMap, StatusCode, Uri,
    header::{HOST, LOCATION},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{failure::Failure, store::Store};

/// Who has an account.
const PEOPLE: [(&str, &str); 2] = [("1", "Ada"), ("2", "Grace")];
/// How long a code may be changed for tokens, and how long these are good.
const CODE: Duration = Duration::from_secs(60);
const TOKEN: Duration = Duration::from_secs(600);

struct Provider {
    key: EcdsaKeyPair,
    chance: SystemRandom,
    codes: Store<String, Grant>,
}

/// What a program asks of a browser (OpenID Connect Core section 3.1.2.1).
#[derive(Clone, Debug, Deserialize)]
struct Wish {
    client_id: String,
    redirect_uri: String,
    state: String,
    nonce: String,
    code_challenge: String,
    /// The person, once somebody has said so.
    user: Option<String>,
}

/// What a code stands for.
#[derive(Clone, Debug)]
struct Grant {
    wish: Wish,
    user: &'static (&'static str, &'static str),
    until: SystemTime,
}

/// What a program shows for tokens.
#[derive(Debug, Deserialize)]
struct Exchange {
    code: String,
    redirect_uri: String,
    code_verifier: String,
}

/// The provider's pages.
pub(crate) fn routes() -> Result<Router> {
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).context("draw a key")?;
    let provider = Provider { key, chance: SystemRandom::new(), codes: Store::new() };
    Ok(Router::new()
        .route("/.well-known/openid-configuration", get(about))
        .route("/keys", get(keys))
        .route("/authorize", get(authorize))
        .route("/token", post(token))
        .with_state(Arc::new(provider)))
}

/// What it is called, by whom it is asked.
fn issuer(headers: &HeaderMap) -> Result<String, Failure> {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let missing = || Failure::new(StatusCode::BAD_REQUEST, "the request names no host");
    host.map(|host| format!("http://{host}")).ok_or_else(missing)
}

async fn about(headers: HeaderMap) -> Result<Json<Value>, Failure> {
    let issuer = issuer(&headers)?;
    Ok(Json(json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/keys"),
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["none"],
    })))
}

async fn keys(State(provider): State<Arc<Provider>>) -> Json<Value> {
    // An uncompressed point: a byte, and two numbers of 32.
    let point = provider.key.public_key().as_ref();
    let (x, y) = (BASE64.encode(&point[1..33]), BASE64.encode(&point[33..]));
    Json(json!({ "keys": [
        { "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "1", "x": x, "y": y }
    ] }))
}

/// Asks who it is, and sends whoever has said so back with a code.
async fn authorize(
    State(provider): State<Arc<Provider>>,
    headers: HeaderMap,
    uri: Uri,
    Query(wish): Query<Wish>,
) -> Result<Response, Failure> {
    let bad = |detail: &str| Failure::new(StatusCode::BAD_REQUEST, detail);
    let is_known = wish.client_id == "shop" && wish.redirect_uri.starts_with("http://127.0.0.1:");
    if !is_known {
        return Err(bad("only `shop` on this machine can log people in here"));
    }
    let Some(user) = &wish.user else {
        let query = uri.query().unwrap_or_default().replace('&', "&amp;");
        let links: String = PEOPLE
            .iter()
            .map(|(id, name)| {
                format!("<p><a href=\"/authorize?{query}&amp;user={id}\">I am {name}</a></p>")
            })
            .collect();
        return Ok(
            Html(format!("<!doctype html><title>Who are you?</title>{links}")).into_response()
        );
    };
    let user = PEOPLE.iter().find(|(id, _)| id == user).ok_or_else(|| bad("nobody is that"))?;
    let code = provider.draw()?;
    let (state, iss) = (&wish.state, issuer(&headers)?);
    let back = format!("{}?code={code}&state={state}&iss={iss}", wish.redirect_uri);
    let until = SystemTime::now() + CODE;
    provider.codes.put(code, Grant { user, until, wish });
    Ok((StatusCode::SEE_OTHER, [(LOCATION, back)]).into_response())
}

/// Changes a code for tokens, once.
async fn token(
    State(provider): State<Arc<Provider>>,
    headers: HeaderMap,
    body: String,
) -> Result<Response, Failure> {
    let shown: Exchange = form(&body)?;
    let grant = provider.codes.remove(&shown.code).filter(|grant| grant.is_for(&shown));
    let Some(Grant { wish, user: (id, name), .. }) = grant else {
        let error = Json(json!({ "error": "invalid_grant" }));
        return Ok((StatusCode::BAD_REQUEST, error).into_response());
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let claims = json!({
        "iss": issuer(&headers)?, "aud": wish.client_id, "sub": id, "name": name,
        "nonce": wish.nonce, "iat": now, "exp": now + TOKEN.as_secs(),
    });
    Ok(Json(json!({
        "token_type": "Bearer",
        "access_token": provider.draw()?,
        "expires_in": TOKEN.as_secs(),
        "id_token": provider.sign(&claims)?,
    }))
    .into_response())
}

/// What a form says: it is written as a query is.
fn form<T: DeserializeOwned>(body: &str) -> Result<T, Failure> {
    let bad = |detail: String| Failure::new(StatusCode::BAD_REQUEST, detail);
    let uri: Uri = format!("/?{body}").parse().map_err(|_error| bad("this is no form".into()))?;
    let Query(read) = Query::try_from_uri(&uri).map_err(|error| bad(error.body_text()))?;
    Ok(read)
}

impl Grant {
    /// Whether it was given to whom it is shown by (RFC 7636 section 4.6), and is not over.
    fn is_for(&self, shown: &Exchange) -> bool {
        let verifier = digest::digest(&digest::SHA256, shown.code_verifier.as_bytes());
        BASE64.encode(verifier) == self.wish.code_challenge
            && shown.redirect_uri == self.wish.redirect_uri
            && SystemTime::now() < self.until
    }
}

impl Provider {
    /// A text that nobody can guess.
    fn draw(&self) -> Result<String, Failure> {
        let mut bytes = [0; 24];
        aws_lc_rs::rand::fill(&mut bytes).map_err(broken)?;
        Ok(BASE64.encode(bytes))
    }

    /// A JSON Web Token of claims.
    fn sign(&self, claims: &Value) -> Result<String, Failure> {
        let head = json!({ "alg": "ES256", "typ": "JWT", "kid": "1" });
        let (head, claims) = (BASE64.encode(head.to_string()), BASE64.encode(claims.to_string()));
        let signed = format!("{head}.{claims}");
        let signature = self.key.sign(&self.chance, signed.as_bytes()).map_err(broken)?;
        Ok(format!("{signed}.{}", BASE64.encode(signature)))
    }
}

fn broken(_error: aws_lc_rs::error::Unspecified) -> Failure {
    Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "chance or key fail")
}
