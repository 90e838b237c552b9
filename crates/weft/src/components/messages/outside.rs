//! Telling addresses outside of operations that have ended.

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use rustls_pki_types::ServerName;
use weft_identity::client::{Client, ClientOptions};
use weft_kernel::{Error, Reason, Result, SystemClock};
use weft_net::{
    ClientTls, Target,
    oneshot::{self, Version},
};
use weft_wire::Fields;

/// The time for one callback.
const LIMIT: Duration = Duration::from_secs(10);
/// Most of the answer that is read; nobody looks at it, and what is longer is cut.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Posts by HTTP and HTTPS, the latter to whom this machine believes.
pub(super) struct Callbacks(Client);

impl Callbacks {
    pub(super) fn new() -> anyhow::Result<Self> {
        let options =
            ClientOptions { alpn: vec![b"http/1.1".to_vec()], ..ClientOptions::default() };
        Ok(Self(Client::new(options, Arc::new(SystemClock))?))
    }

    async fn target(&self, url: &Uri) -> Result<Target> {
        let wrong = |what: &str| Error::new(Reason::MalformedRequest, what.to_owned());
        let host = url.host().ok_or_else(|| wrong("the callback has no host"))?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let is_secure = match url.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong("the callback is neither http nor https")),
        };
        let port = url.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
        let unknown = || Error::new(Reason::DnsFailed, format!("{host} has no address"));
        let mut found = tokio::net::lookup_host((bare, port))
            .await
            .map_err(|error| unknown().because(error))?;
        let address = found.next().ok_or_else(unknown)?;
        let tls = match is_secure {
            false => None,
            true => Some(ClientTls {
                config: self.0.config(),
                name: ServerName::try_from(bare.to_owned())
                    .map_err(|error| wrong("the callback's host is no name").because(error))?,
            }),
        };
        Ok(Target { address: address.into(), tls, proxy_header: None })
    }
}

impl weft_messages::Outside for Callbacks {
    fn post<'a>(
        &'a self,
        url: &'a str,
        fields: Fields,
        body: Bytes,
    ) -> Pin<Box<dyn Future<Output = Result<u16>> + Send + 'a>> {
        let told = async move {
            let wrong = || Error::new(Reason::MalformedRequest, "the callback is no URL");
            let url: Uri = url.parse().map_err(|error| wrong().because(error))?;
            let target = self.target(&url).await?;
            let path = url.path_and_query().map_or("/", |path| path.as_str());
            let authority = url.authority().map_or("", |authority| authority.as_str());
            let mut request = Request::builder()
                .method(Method::POST)
                .uri(path)
                .header(http::header::HOST, authority)
                .body(body)
                .map_err(|error| wrong().because(error))?;
            for (name, value) in fields.iter() {
                let name = HeaderName::from_bytes(name.as_bytes());
                if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
                    request.headers_mut().append(name, value);
                }
            }
            let told = oneshot::status(&target, Version::Http1, request, ANSWER_BYTES_MAX, LIMIT);
            Ok(told.await?.as_u16())
        };
        Box::pin(async {
            // Looking the host up takes its time too.
            tokio::time::timeout(LIMIT, told).await.unwrap_or_else(|_elapsed| {
                Err(Error::new(Reason::RequestTimeout, "the callback did not answer in time"))
            })
        })
    }
}
