//! Exports spans by OTLP, over gRPC or over HTTP with protobuf, in batches.
//!
//! What carries the requests is a [`Transport`] of the caller's: this room knows no sockets.
//!
//! An [`Exporter`] runs on the control runtime until it is stopped, sends one batch at a time, retries
//! what the specification says may be retried, and gives up after a bound: spans are worth less than
//! the memory they would pile up in. Everything lost is counted by cause; a collector that is down is
//! told once, not per batch.

mod answer;
mod message;

use std::{
    future::Future,
    path::PathBuf,
    pin::{Pin, pin},
    sync::Arc,
    time::{Duration, SystemTime},
};

use answer::{Failure, grpc_answer, http_answer};
use bytes::{BufMut, Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri,
    header::{CONTENT_TYPE, TE, USER_AGENT},
};
use message::{ResourceSpans, Scope, ScopeSpans};
use prost::Message;
use tokio::{
    select,
    time::{Instant, sleep, sleep_until, timeout},
};
use weft_kernel::{Error, Reason, Rng};

use crate::span::{Queue, SpanRecord};

/// The longest answer of a collector that is to be read.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// The longest wait between tries, also if the collector asks for more.
const PAUSE_MAX: Duration = Duration::from_secs(30);
const GRPC_PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const HTTP_PATH: &str = "/v1/traces";

/// Which of the two OTLP transports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Protocol {
    /// gRPC, by custom on port 4317.
    #[default]
    Grpc,
    /// HTTP/1.1 with protobuf, by custom on port 4318.
    Http,
}

/// How to export.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// `http://` or `https://`, host and port; over HTTP, `/v1/traces` is added unless the path ends so.
    pub endpoint: String,
    /// gRPC or HTTP.
    pub protocol: Protocol,
    /// More header fields, for example an API key.
    pub headers: Vec<(String, String)>,
    /// Certificates (PEM) to trust instead of the machine's.
    pub ca_file: Option<PathBuf>,
    /// Attributes of the resource; `service.name` is `weft` unless it stands here.
    pub resource: Vec<(String, String)>,
    /// The time for one try, connecting included, and for what is left when stopped.
    pub timeout: Duration,
    /// Tries beyond the first.
    pub retries_max: u32,
    /// The pause before the first retry; doubled for each further, with full jitter.
    pub pause: Duration,
    /// The most spans in one batch.
    pub batch_max: usize,
    /// How long a span waits for its batch to fill.
    pub interval: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            endpoint: "http://127.0.0.1:4317".into(),
            protocol: Protocol::Grpc,
            headers: Vec::new(),
            ca_file: None,
            resource: Vec::new(),
            timeout: Duration::from_secs(10),
            retries_max: 4,
            pause: Duration::from_millis(500),
            batch_max: 512,
            interval: Duration::from_secs(5),
        }
    }
}

/// What a collector answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The fields.
    pub headers: HeaderMap,
    /// The body; empty if it is longer than [`ANSWER_BYTES_MAX`] or broke off.
    pub body: Bytes,
    /// The trailers, if there were some.
    pub trailers: Option<HeaderMap>,
}

/// The future of an answer.
pub type Answering<'a> = Pin<Box<dyn Future<Output = Result<Answer, Error>> + Send + 'a>>;

/// Carries requests to a collector.
pub trait Transport: Send + Sync {
    /// Sends a request to where its URI says, by HTTP/2 for gRPC and HTTP/1.1 otherwise, and reads the
    /// answer, all within `timeout`. Given up when it is dropped.
    fn send(&self, protocol: Protocol, request: Request<Bytes>, timeout: Duration)
    -> Answering<'_>;
}

/// Empties a queue of spans into a collector.
pub struct Exporter {
    options: Options,
    queue: Queue,
    batch: Vec<SpanRecord>,
    sending: Sending,
}

/// What one export needs, apart from the batch.
struct Sending {
    transport: Arc<dyn Transport>,
    uri: Uri,
    headers: HeaderMap,
    resource: message::Resource,
    rng: Rng,
    failing: bool,
}

impl Exporter {
    /// Checks the options; nothing is sent yet.
    pub fn new(
        options: Options,
        queue: Queue,
        transport: Arc<dyn Transport>,
    ) -> Result<Self, Error> {
        let place = || format!("trace exporter {}", options.endpoint);
        let wrong = |say: String| Error::new(Reason::Misconfigured, say);
        let uri: Uri = options.endpoint.parse().map_err(|error: http::uri::InvalidUri| {
            wrong("the endpoint is not a URL".to_owned()).because(error).at(place())
        })?;
        let uri = located(uri, options.protocol).map_err(|error| error.at(place()))?;
        let uri = target(&uri, options.protocol).map_err(|error| error.at(place()))?;
        let mut headers = HeaderMap::new();
        for (name, value) in &options.headers {
            let name: HeaderName =
                name.parse().map_err(|error: http::header::InvalidHeaderName| {
                    wrong(format!("`{name}` is not a header name")).because(error).at(place())
                })?;
            let mut value: HeaderValue =
                value.parse().map_err(|error: http::header::InvalidHeaderValue| {
                    wrong(format!("the value of header `{name}` is not allowed"))
                        .because(error)
                        .at(place())
                })?;
            value.set_sensitive(true);
            headers.append(name, value);
        }
        let sending = Sending {
            transport,
            headers,
            resource: resource(&options.resource),
            uri,
            rng: Rng::from_entropy(),
            failing: false,
        };
        Ok(Self { options, queue, batch: Vec::new(), sending })
    }

    /// Exports until `stop` completes or every sender is gone, then sends what is queued, within the
    /// timeout of one try.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        let mut stopping = false;
        while !stopping {
            let open = select! {
                open = self.gather() => open,
                () = &mut stop => false,
            };
            stopping = !open;
            if stopping || self.batch.is_empty() {
                continue;
            }
            let batch = std::mem::take(&mut self.batch);
            let count = batch.len() as u64;
            let meter = self.queue.meter.clone();
            let mut export = pin!(self.sending.export(batch, &self.options, &self.queue));
            select! {
                () = &mut export => {}
                () = &mut stop => {
                    stopping = true;
                    if timeout(self.options.timeout, export).await.is_err() {
                        meter.failed.add(count);
                    }
                }
            }
        }
        self.queue.receiver.close();
        let grace = sleep(self.options.timeout);
        let mut grace = pin!(grace);
        loop {
            while self.batch.len() < self.options.batch_max
                && let Ok(span) = self.queue.receiver.try_recv()
            {
                self.batch.push(span);
            }
            if self.batch.is_empty() {
                return;
            }
            let batch = std::mem::take(&mut self.batch);
            let count = batch.len() as u64;
            select! {
                () = self.sending.export(batch, &self.options, &self.queue) => {}
                () = &mut grace => {
                    let left = count + self.queue.receiver.len() as u64;
                    self.queue.meter.failed.add(left);
                    tracing::warn!(spans = left, "spans were left when the trace exporter stopped");
                    return;
                }
            }
        }
    }

    /// Fills the batch until it is full or its first span has waited long enough; `false` once all
    /// senders are gone. Cancel-safe: what was taken stays in the batch.
    async fn gather(&mut self) -> bool {
        let room = self.options.batch_max.max(1);
        let mut due = None;
        loop {
            let wait = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            let more = room.saturating_sub(self.batch.len()).max(1);
            select! {
                got = self.queue.receiver.recv_many(&mut self.batch, more) => {
                    if got == 0 {
                        return false;
                    }
                    if self.batch.len() >= room {
                        return true;
                    }
                    due.get_or_insert_with(|| Instant::now() + self.options.interval);
                }
                () = wait => return true,
            }
        }
    }
}

impl Sending {
    /// Sends a batch, with retries, and counts what became of it.
    async fn export(&mut self, batch: Vec<SpanRecord>, options: &Options, queue: &Queue) {
        let count = batch.len() as u64;
        let spans = batch.into_iter().map(Into::into).collect();
        let scope = Some(Scope {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        });
        let request = message::Request {
            resource_spans: vec![ResourceSpans {
                resource: Some(self.resource.clone()),
                scope_spans: vec![ScopeSpans { scope, spans }],
            }],
        };
        let body = body(&request, options.protocol);
        let mut retries = 0;
        loop {
            let tried = self.once(&body, options).await;
            match tried {
                Ok(partial) => {
                    let refused = u64::try_from(partial.rejected_spans).unwrap_or(0).min(count);
                    queue.meter.exported.add(count - refused);
                    queue.meter.refused.add(refused);
                    self.told(None, &partial.error_message);
                    return;
                }
                Err(Failure::Again(why, after)) if retries < options.retries_max => {
                    let most = options.pause.saturating_mul(1 << retries.min(16)).min(PAUSE_MAX);
                    let pause =
                        after.map_or_else(|| self.rng.up_to(most), |after| after.min(PAUSE_MAX));
                    retries += 1;
                    tracing::debug!(retries, ?pause, why, "trace export will be tried again");
                    sleep(pause).await;
                }
                Err(Failure::Again(why, _)) => {
                    queue.meter.failed.add(count);
                    self.told(Some(&why), "");
                    return;
                }
                Err(Failure::Refused(why)) => {
                    queue.meter.refused.add(count);
                    self.told(Some(&why), "");
                    return;
                }
            }
        }
    }

    /// Tells the operator when export begins to fail and when it works again.
    fn told(&mut self, why: Option<&str>, remark: &str) {
        match (self.failing, why) {
            (false, Some(why)) => {
                tracing::warn!(endpoint = %self.uri, why, "spans are not exported");
            }
            (true, None) => tracing::info!(endpoint = %self.uri, "spans are exported again"),
            _ => {}
        }
        if !remark.is_empty() {
            tracing::debug!(remark, "the collector remarks");
        }
        self.failing = why.is_some();
    }

    /// One try.
    async fn once(
        &self,
        body: &Bytes,
        options: &Options,
    ) -> Result<message::PartialSuccess, Failure> {
        let request =
            self.request(body, options).map_err(|error| Failure::Refused(error.to_string()))?;
        let answered = self.transport.send(options.protocol, request, options.timeout).await;
        let Answer { status, headers, body, trailers } = answered
            .map_err(|error| Failure::Again(format!("no answer: {}", error.detail()), None))?;
        match options.protocol {
            Protocol::Http => http_answer(status, &headers, &body),
            Protocol::Grpc if status != StatusCode::OK => http_answer(status, &headers, &[]),
            Protocol::Grpc => grpc_answer(trailers.as_ref().unwrap_or(&headers), &body),
        }
    }

    fn request(&self, body: &Bytes, options: &Options) -> http::Result<Request<Bytes>> {
        let mut request = Request::post(self.uri.clone())
            .header(USER_AGENT, concat!("weft/", env!("CARGO_PKG_VERSION")));
        request = match options.protocol {
            Protocol::Grpc => {
                request.header(CONTENT_TYPE, "application/grpc").header(TE, "trailers").header(
                    "grpc-timeout",
                    format!("{}m", options.timeout.as_millis().clamp(1, 99_999_999)),
                )
            }
            Protocol::Http => request.header(CONTENT_TYPE, "application/x-protobuf"),
        };
        let mut request = request.body(body.clone())?;
        request.headers_mut().extend(self.headers.clone());
        Ok(request)
    }
}

/// The endpoint with its port, which by custom is not that of its scheme.
fn located(uri: Uri, protocol: Protocol) -> Result<Uri, Error> {
    let wrong = |say: String| Error::new(Reason::Misconfigured, say);
    let host = uri.host().ok_or_else(|| wrong(format!("`{uri}` has no host")))?;
    let is_secure = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(wrong(format!("`{uri}` begins with neither http:// nor https://"))),
    };
    let port = match (is_secure, protocol) {
        _ if uri.port().is_some() => return Ok(uri),
        (_, Protocol::Grpc) => 4317,
        (false, Protocol::Http) => 4318,
        (true, Protocol::Http) => 443,
    };
    let authority = format!("{host}:{port}").parse();
    let mut parts = uri.into_parts();
    parts.authority = Some(authority.map_err(|error: http::uri::InvalidUri| {
        wrong("the host of the endpoint is not allowed".to_owned()).because(error)
    })?);
    Uri::from_parts(parts)
        .map_err(|error| wrong("the endpoint is not a URL".to_owned()).because(error))
}

fn target(uri: &Uri, protocol: Protocol) -> Result<Uri, Error> {
    let base = uri.path().trim_end_matches('/');
    let path = match protocol {
        Protocol::Grpc => format!("{base}{GRPC_PATH}"),
        Protocol::Http if base.ends_with(HTTP_PATH) => base.to_owned(),
        Protocol::Http => format!("{base}{HTTP_PATH}"),
    };
    let mut parts = uri.clone().into_parts();
    let wrong = || Error::new(Reason::Misconfigured, "the path of the endpoint is not allowed");
    parts.path_and_query =
        Some(path.parse().map_err(|error: http::uri::InvalidUri| wrong().because(error))?);
    Uri::from_parts(parts).map_err(|error| wrong().because(error))
}

fn resource(attributes: &[(String, String)]) -> message::Resource {
    let mut all: Vec<_> = attributes.iter().map(|(key, value)| message::text(key, value)).collect();
    if !attributes.iter().any(|(key, _)| key == "service.name") {
        all.push(message::text("service.name", "weft"));
    }
    message::Resource { attributes: all }
}

/// The message, over gRPC behind its five-byte prefix (uncompressed, length).
fn body(request: &message::Request, protocol: Protocol) -> Bytes {
    let length = request.encoded_len();
    let mut body = BytesMut::with_capacity(length + 5);
    if protocol == Protocol::Grpc {
        body.put_u8(0);
        body.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    }
    body.put_slice(&request.encode_to_vec());
    body.freeze()
}

/// Nanoseconds since 1970, as spans and access log entries want them; 0 before.
pub fn wall_nanos(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Carries nothing anywhere.
    struct Nowhere;

    impl Transport for Nowhere {
        fn send(&self, _: Protocol, _: Request<Bytes>, _: Duration) -> Answering<'_> {
            Box::pin(std::future::pending())
        }
    }

    #[test]
    fn ports_are_those_of_custom() {
        for (endpoint, protocol, expect) in [
            ("http://h", Protocol::Grpc, "http://h:4317/"),
            ("https://h/a", Protocol::Grpc, "https://h:4317/a"),
            ("http://[::1]", Protocol::Http, "http://[::1]:4318/"),
            ("https://h", Protocol::Http, "https://h:443/"),
            ("http://h:1/a", Protocol::Http, "http://h:1/a"),
        ] {
            assert_eq!(located(endpoint.parse().unwrap(), protocol).unwrap(), expect);
        }
    }

    #[test]
    fn targets() {
        for (endpoint, protocol, expect) in [
            ("http://h:1", Protocol::Http, "http://h:1/v1/traces"),
            ("http://h:1/", Protocol::Http, "http://h:1/v1/traces"),
            ("https://h/otlp", Protocol::Http, "https://h/otlp/v1/traces"),
            ("https://h/otlp/v1/traces", Protocol::Http, "https://h/otlp/v1/traces"),
        ] {
            assert_eq!(target(&endpoint.parse().unwrap(), protocol).unwrap(), expect);
        }
        let grpc = target(&"http://h:1".parse().unwrap(), Protocol::Grpc).unwrap();
        assert_eq!(grpc.path(), GRPC_PATH);
    }

    #[test]
    fn options_are_checked_before_anything_is_connected() {
        let open = |options| {
            let (_, queue) = crate::span::queue(1, Default::default());
            Exporter::new(options, queue, Arc::new(Nowhere))
                .map(drop)
                .map_err(|error| error.to_string())
        };
        assert_eq!(open(Options::default()), Ok(()));
        let at = |endpoint: &str| Options { endpoint: endpoint.into(), ..Options::default() };
        for endpoint in ["", "collector:4317", "/x", "ftp://h", "http://"] {
            assert!(open(at(endpoint)).is_err(), "{endpoint}");
        }
        let headers = vec![("a b".to_owned(), String::new())];
        let said = open(Options { headers, ..Options::default() }).unwrap_err();
        assert!(said.contains("`a b` is not a header name"), "{said}");
    }
}
