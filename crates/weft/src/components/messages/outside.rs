//! Telling addresses outside of operations that have ended.

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Uri};
use weft_discovery::resolve::Hickory;
use weft_kernel::{Error, Reason, Result};
use weft_net::client::{Client, Options, Version};
use weft_wire::Fields;

use crate::components::trust::trust;

/// The time for one callback.
const LIMIT: Duration = Duration::from_secs(10);
/// Most of the answer that is read; nobody looks at it, and what is longer is cut.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Posts by HTTP and HTTPS, the latter to whom this machine believes.
pub(super) struct Callbacks(Client);

impl Callbacks {
    pub(super) fn new(dns: Hickory) -> anyhow::Result<Self> {
        let (_, tls) = trust(None)?;
        Ok(Self(Client::new(Options::default(), Arc::new(dns), Some(tls))))
    }

    async fn tell(&self, url: &str, fields: Fields, body: Bytes) -> Result<u16> {
        let wrong = || Error::new(Reason::MalformedRequest, "the callback is no URL");
        let url: Uri = url.parse().map_err(|error| wrong().because(error))?;
        let mut request = Request::post(url).body(body).map_err(|error| wrong().because(error))?;
        for (name, value) in fields.iter() {
            let name = HeaderName::from_bytes(name.as_bytes());
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
                request.headers_mut().append(name, value);
            }
        }
        let told = self.0.status(Version::Http1, request, ANSWER_BYTES_MAX, LIMIT);
        Ok(told.await?.as_u16())
    }
}

impl weft_broker_http::Outside for Callbacks {
    fn post<'a>(
        &'a self,
        url: &'a str,
        fields: Fields,
        body: Bytes,
    ) -> Pin<Box<dyn Future<Output = Result<u16>> + Send + 'a>> {
        Box::pin(self.tell(url, fields, body))
    }
}
