//! Fetches the keys of issuers, and asks their endpoints, by the node's HTTP client.

use std::{path::PathBuf, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, header, request::Builder};
use weft_discovery::resolve::Hickory;
use weft_gateway::{
    jwks::{Fetch, SET_BYTES_MAX},
    oauth::{Answer, Answering, Form, Post},
};
use weft_identity::client::ClientIdentity;
use weft_kernel::{Error, Reason, Result};
use weft_net::client::{Client, Options, Version};

use crate::components::trust::trust;

/// The time for one fetch or question.
const LIMIT: Duration = Duration::from_secs(5);
/// The time for a question that must not be put again, so that its answer is worth waiting for.
const PATIENT: Duration = Duration::from_secs(60);

/// Asks what is at a URL. Redirects are not followed.
pub(super) struct Fetcher {
    client: Client,
    limit: Duration,
    /// Whom it believes, if that is read from a file, which may be another by the next time.
    trust: Option<Arc<ClientIdentity>>,
}

impl Fetcher {
    /// Believes certificates of an authority, or of those of the system.
    pub(super) fn new(dns: Hickory, ca_file: Option<PathBuf>) -> anyhow::Result<Self> {
        let is_own = ca_file.is_some();
        let (identity, tls) = trust(ca_file)?;
        let client = Client::new(Options::default(), Arc::new(dns), Some(tls));
        Ok(Self { client, limit: LIMIT, trust: is_own.then_some(identity) })
    }

    /// The same with time for slow answers.
    pub(super) fn patient(self) -> Self {
        Self { limit: PATIENT, ..self }
    }

    async fn get(&self, url: &str) -> Result<Bytes> {
        let request = Request::get(url).header(header::ACCEPT, "application/json");
        let (status, body) = self.send(url, request, Bytes::new(), SET_BYTES_MAX).await?;
        if status != 200 {
            let say = format!("the answer has status {status}");
            return Err(Error::new(Reason::UpstreamMalformed, say));
        }
        Ok(body)
    }

    async fn put(&self, url: &str, form: Form, bytes_max: usize) -> Result<Answer> {
        let mut request = Request::post(url)
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(authorization) = form.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        self.send(url, request, form.body.into(), bytes_max).await
    }

    async fn send(
        &self,
        url: &str,
        request: Builder,
        body: Bytes,
        bytes_max: usize,
    ) -> Result<Answer> {
        if let Some(Err(faults)) = self.trust.as_ref().map(|trust| trust.reload()) {
            tracing::warn!("the authority in use for {url} stays: {faults}");
        }
        let wrong = || Error::new(Reason::Misconfigured, "this is no URL");
        let request = request.body(body).map_err(|error| wrong().because(error))?;
        let answer = self.client.request(Version::Http1, request, bytes_max, self.limit).await?;
        Ok((answer.status.as_u16(), answer.body))
    }
}

impl Fetch for Fetcher {
    fn get<'a>(&'a self, url: &'a str) -> Pin<Box<dyn Future<Output = Result<Bytes>> + Send + 'a>> {
        Box::pin(self.get(url))
    }
}

impl Post for Fetcher {
    fn post<'a>(&'a self, url: &'a str, form: Form, bytes_max: usize) -> Answering<'a> {
        Box::pin(self.put(url, form, bytes_max))
    }
}
