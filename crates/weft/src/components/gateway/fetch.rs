//! Fetches the keys of issuers, by the node's HTTP client.

use std::{path::PathBuf, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Uri, header};
use weft_discovery::resolve::Hickory;
use weft_gateway::jwks::{Fetch, SET_BYTES_MAX};
use weft_identity::client::ClientIdentity;
use weft_kernel::{Error, Reason, Result};
use weft_net::client::{Client, Options, Version};

use crate::components::trust::trust;

/// The time for one fetch.
const LIMIT: Duration = Duration::from_secs(5);

/// Gets what is at a URL. Redirects are not followed.
pub(super) struct Fetcher {
    client: Client,
    /// Whom it believes, if that is read from a file, which may be another by the next time.
    trust: Option<Arc<ClientIdentity>>,
}

impl Fetcher {
    /// Believes certificates of an authority, or of those of the system.
    pub(super) fn new(dns: Hickory, ca_file: Option<PathBuf>) -> anyhow::Result<Self> {
        let is_own = ca_file.is_some();
        let (identity, tls) = trust(ca_file)?;
        let client = Client::new(Options::default(), Arc::new(dns), Some(tls));
        Ok(Self { client, trust: is_own.then_some(identity) })
    }

    async fn get(&self, url: &str) -> Result<Bytes> {
        if let Some(Err(faults)) = self.trust.as_ref().map(|trust| trust.reload()) {
            tracing::warn!("the authority in use for {url} stays: {faults}");
        }
        let wrong = || Error::new(Reason::Misconfigured, "this is no URL");
        let url: Uri = url.parse().map_err(|error| wrong().because(error))?;
        let request = Request::get(url).header(header::ACCEPT, "application/json");
        let request = request.body(Bytes::new()).map_err(|error| wrong().because(error))?;
        let answer = self.client.request(Version::Http1, request, SET_BYTES_MAX, LIMIT).await?;
        if answer.status != http::StatusCode::OK {
            let say = format!("the answer has status {}", answer.status.as_u16());
            return Err(Error::new(Reason::UpstreamMalformed, say));
        }
        Ok(answer.body)
    }
}

impl Fetch for Fetcher {
    fn get<'a>(&'a self, url: &'a str) -> Pin<Box<dyn Future<Output = Result<Bytes>> + Send + 'a>> {
        Box::pin(self.get(url))
    }
}
