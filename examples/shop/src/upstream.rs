//! Calls to other services of the shop, all of them through Weft.
//!
//! The caller names a service, never an address, and does not retry: finding an instance, retrying
//! what is safe and giving up in time is what Weft is there for. Only a last deadline is kept here.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{failure::Failure, trace::Trace};

const ANSWER_MAX: usize = 1024 * 1024;
const DEADLINE: Duration = Duration::from_secs(20);

/// The way to other services.
#[derive(Debug)]
pub(crate) struct Upstream {
    base: Option<String>,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Upstream {
    /// Calls go to `base`, the URL of Weft; without one each call says what is missing.
    pub(crate) fn new(base: Option<String>) -> Self {
        let base = base.map(|base| base.trim_end_matches('/').to_owned());
        Self { base, client: Client::builder(TokioExecutor::new()).build_http() }
    }

    /// Sends JSON to a path of a service and reads the JSON that comes back.
    pub(crate) async fn send<T: Serialize, R: DeserializeOwned>(
        &self,
        method: Method,
        service: &str,
        path: &str,
        body: &T,
        trace: &Trace,
    ) -> Result<R, Failure> {
        let path = format!("/internal/{service}{path}");
        let mut request = self.request(method, service, &path, body)?;
        trace.onto(request.headers_mut());
        self.exchange(service, request).await
    }

    /// Publishes an event: once it is answered, Weft has it on its disk. The id tells a repetition.
    pub(crate) async fn publish<T: Serialize>(
        &self,
        event: &str,
        id: &str,
        body: &T,
        trace: &Trace,
    ) -> Result<(), Failure> {
        let path = format!("/internal/events/{event}");
        let mut request = self.request(Method::POST, "events", &path, body)?;
        let fields = request.headers_mut();
        for (name, value) in [
            ("ce-specversion", "1.0"),
            ("ce-type", event),
            ("ce-source", "/shop/orders"),
            ("ce-id", id),
        ] {
            fields.insert(name, HeaderValue::from_str(value).map_err(internal)?);
        }
        trace.onto(fields);
        let _kept: serde_json::Value = self.exchange("events", request).await?;
        Ok(())
    }

    /// Asks the API of messages.
    pub(crate) async fn ask<T: Serialize, R: DeserializeOwned>(
        &self,
        path: &str,
        body: &T,
    ) -> Result<R, Failure> {
        let request = self.request(Method::POST, "messages", path, body)?;
        self.exchange("messages", request).await
    }

    /// A request with a body of JSON.
    fn request<T: Serialize>(
        &self,
        method: Method,
        service: &str,
        path: &str,
        body: &T,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let base = self.base.as_ref().ok_or_else(|| {
            unavailable(format!("{service} cannot be called: start with --weft URL"))
        })?;
        Request::builder()
            .method(method)
            .uri(format!("{base}{path}"))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(serde_json::to_vec(body).map_err(internal)?)))
            .map_err(internal)
    }

    /// Sends a request and reads the JSON that comes back.
    async fn exchange<R: DeserializeOwned>(
        &self,
        service: &str,
        request: Request<Full<Bytes>>,
    ) -> Result<R, Failure> {
        let exchange = async {
            let answer = self
                .client
                .request(request)
                .await
                .map_err(|error| unavailable(format!("{service}: {error}")))?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER_MAX)
                .collect()
                .await
                .map_err(|error| unavailable(format!("{service}: {error}")))?;
            Ok((status, body.to_bytes()))
        };
        let late = |_elapsed| Failure::new(StatusCode::GATEWAY_TIMEOUT, format!("{service}: late"));
        let (status, body) = tokio::time::timeout(DEADLINE, exchange).await.map_err(late)??;
        if !status.is_success() {
            return Err(Failure::new(status, format!("{service}: {}", detail(&body))));
        }
        serde_json::from_slice(&body)
            .map_err(|error| Failure::new(StatusCode::BAD_GATEWAY, format!("{service}: {error}")))
    }
}

fn unavailable(detail: String) -> Failure {
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, detail)
}

fn internal(error: impl std::fmt::Display) -> Failure {
    Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}

/// The sentence of a problem document, or the text as it came.
fn detail(body: &[u8]) -> String {
    let problem: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let sentence = problem.as_ref().and_then(|problem| problem["detail"].as_str());
    sentence.map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned)
}
