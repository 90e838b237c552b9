//! The exporter against a collector on a real socket, which answers as each test says.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use weft::components::Collector as Transport;
use weft_net::client::System;
use weft_telemetry::{
    metrics::SpanMeter,
    otlp::{Exporter, Options, Protocol},
    span::{self, Sender, SpanRecord},
};

/// How the collector answers its n-th request.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Ok,
    Http(u16),
    Grpc(&'static str),
    Partial,
    Never,
}

/// What arrived: the header and the number of spans of each request.
type Arrived = mpsc::Receiver<(HeaderMap, String, usize)>;

struct Collector {
    at: SocketAddr,
    arrived: Arrived,
    _tasks: JoinSet<()>,
}

async fn collector(protocol: Protocol, answers: &'static [Answer]) -> Collector {
    secure_collector(protocol, answers, None).await
}

async fn secure_collector(
    protocol: Protocol,
    answers: &'static [Answer],
    tls: Option<TlsAcceptor>,
) -> Collector {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let (tell, arrived) = mpsc::channel(100);
    let turn = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let (tell, turn) = (tell.clone(), Arc::clone(&turn));
            let service = service_fn(move |request: Request<Incoming>| {
                let tell = tell.clone();
                let turn = turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let answer = *answers.get(turn).or(answers.last()).unwrap_or(&Answer::Ok);
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    let message = match protocol {
                        Protocol::Grpc => {
                            assert_eq!(
                                body[..5],
                                [&[0][..], &(body.len() as u32 - 5).to_be_bytes()].concat()
                            );
                            body.slice(5..)
                        }
                        Protocol::Http => body,
                    };
                    let arrived = (head.headers, head.uri.to_string(), count_spans(&message));
                    tell.send(arrived).await.unwrap();
                    Ok::<_, Infallible>(respond(protocol, answer).await)
                }
            });
            let tls = tls.clone();
            connections.spawn(async move {
                match tls {
                    None => serve(protocol, stream, service).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            serve(protocol, stream, service).await;
                        }
                    }
                }
            });
        }
    });
    Collector { at, arrived, _tasks: tasks }
}

async fn serve<S, H>(protocol: Protocol, stream: S, service: H)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: hyper::service::Service<
            Request<Incoming>,
            Response = Response<BoxBody<Bytes, Infallible>>,
            Error = Infallible,
        >,
    H::Future: Send + 'static,
{
    let io = TokioIo::new(stream);
    // How a connection ends is the client's affair.
    match protocol {
        Protocol::Http => {
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
        }
        Protocol::Grpc => {
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection(io, service).await;
        }
    }
}

async fn respond(protocol: Protocol, answer: Answer) -> Response<BoxBody<Bytes, Infallible>> {
    let (mut status, mut grpc) = (StatusCode::OK, "0");
    // partial_success { rejected_spans: 2 }
    let mut message: &[u8] = &[];
    match answer {
        Answer::Ok => {}
        Answer::Http(code) => status = StatusCode::from_u16(code).unwrap(),
        Answer::Grpc(code) => grpc = code,
        Answer::Partial => message = &[0x0a, 2, 0x08, 2],
        Answer::Never => std::future::pending().await,
    }
    let (body, trailers) = match protocol {
        Protocol::Http => (message.to_vec(), None),
        Protocol::Grpc => {
            let mut body = vec![0];
            body.extend((message.len() as u32).to_be_bytes());
            body.extend(message);
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static(grpc));
            (body, Some(trailers))
        }
    };
    let body = Full::new(Bytes::from(body)).with_trailers(async { trailers.map(Ok) }).boxed();
    Response::builder().status(status).body(body).unwrap()
}

/// The spans of an export request: field 2 in field 2 in field 1.
fn count_spans(request: &[u8]) -> usize {
    let scopes = fields(request, 1).into_iter().flat_map(|resource| fields(resource, 2));
    scopes.map(|scope| fields(scope, 2).len()).sum()
}

/// The length-delimited fields with a number, of a message that has no others.
fn fields(mut message: &[u8], number: u64) -> Vec<&[u8]> {
    let mut found = Vec::new();
    while !message.is_empty() {
        let tag = varint(&mut message);
        assert_eq!(tag & 7, 2);
        let length = varint(&mut message) as usize;
        let (value, rest) = message.split_at(length);
        message = rest;
        if tag >> 3 == number {
            found.push(value);
        }
    }
    found
}

fn varint(from: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = from[0];
        *from = &from[1..];
        value |= u64::from(byte & 127) << shift;
        if byte < 128 {
            break;
        }
    }
    value
}

struct Running {
    sender: Sender,
    meter: SpanMeter,
    stop: oneshot::Sender<()>,
    tasks: JoinSet<()>,
}

fn options(protocol: Protocol, at: SocketAddr) -> Options {
    Options {
        endpoint: format!("http://{at}"),
        protocol,
        headers: vec![("x-api-key".into(), "secret".into())],
        timeout: Duration::from_secs(10),
        retries_max: 3,
        pause: Duration::from_millis(1),
        batch_max: 10,
        interval: Duration::from_millis(5),
        ..Options::default()
    }
}

fn start(options: Options) -> Running {
    let meter = SpanMeter::default();
    let (sender, queue) = span::queue(100, meter.clone());
    let (stop, stopped) = oneshot::channel();
    let transport = Transport::new(&options, Arc::new(System)).unwrap();
    let exporter = Exporter::new(options, queue, Arc::new(transport)).unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(exporter.run(async { drop(stopped.await) }));
    Running { sender, meter, stop, tasks }
}

impl Running {
    fn send(&self, count: u64) {
        for span_id in 1..=count {
            self.sender.send(SpanRecord { trace_id: 1, span_id, ..SpanRecord::default() });
        }
    }

    async fn end(mut self) {
        let _ = self.stop.send(());
        within(self.tasks.join_next()).await.unwrap().unwrap();
    }
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work).await.unwrap()
}

async fn until(condition: impl Fn() -> bool) {
    within(async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn batches_are_full_or_due_and_reach_the_right_path() {
    for (protocol, path, content) in [
        (Protocol::Http, "/v1/traces", "application/x-protobuf"),
        (
            Protocol::Grpc,
            "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            "application/grpc",
        ),
    ] {
        let mut collector = collector(protocol, &[Answer::Ok]).await;
        let running = start(options(protocol, collector.at));
        running.send(25);
        let mut sizes = Vec::new();
        while sizes.iter().sum::<usize>() < 25 {
            let (headers, uri, spans) = within(collector.arrived.recv()).await.unwrap();
            assert!(uri.ends_with(path), "{uri}");
            assert_eq!(headers["content-type"], content);
            assert_eq!(headers["x-api-key"], "secret");
            sizes.push(spans);
        }
        assert_eq!(sizes, [10, 10, 5], "{protocol:?}");
        until(|| running.meter.exported.get() == 25).await;
        running.end().await;
    }
}

#[tokio::test]
async fn what_may_be_retried_is_and_what_may_not_is_not() {
    for (protocol, answers, requests, exported, refused, failed) in [
        (Protocol::Http, &[Answer::Http(503), Answer::Http(429), Answer::Ok][..], 3, 5, 0, 0),
        (Protocol::Http, &[Answer::Http(400)], 1, 0, 5, 0),
        (Protocol::Http, &[Answer::Http(502)], 4, 0, 0, 5),
        (Protocol::Http, &[Answer::Partial], 1, 3, 2, 0),
        (Protocol::Grpc, &[Answer::Grpc("14"), Answer::Ok], 2, 5, 0, 0),
        (Protocol::Grpc, &[Answer::Grpc("3")], 1, 0, 5, 0),
        (Protocol::Grpc, &[Answer::Grpc("4")], 4, 0, 0, 5),
        (Protocol::Grpc, &[Answer::Http(503), Answer::Ok], 2, 5, 0, 0),
        (Protocol::Grpc, &[Answer::Partial], 1, 3, 2, 0),
    ] {
        let mut collector = collector(protocol, answers).await;
        let running = start(options(protocol, collector.at));
        running.send(5);
        let meter = running.meter.clone();
        until(|| meter.exported.get() + meter.refused.get() + meter.failed.get() == 5).await;
        running.end().await;
        let mut count = 0;
        while let Ok((_, _, spans)) = collector.arrived.try_recv() {
            assert_eq!(spans, 5);
            count += 1;
        }
        let got = (count, meter.exported.get(), meter.refused.get(), meter.failed.get());
        assert_eq!(got, (requests, exported, refused, failed), "{protocol:?} {answers:?}");
    }
}

#[tokio::test]
async fn a_collector_that_is_not_there_costs_its_spans_alone() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    drop(listener);
    let running = start(options(Protocol::Grpc, at));
    running.send(3);
    until(|| running.meter.failed.get() == 3).await;
    running.end().await;
}

#[tokio::test]
async fn stopping_sends_what_is_queued() {
    for protocol in [Protocol::Http, Protocol::Grpc] {
        let mut collector = collector(protocol, &[Answer::Ok]).await;
        let slow =
            Options { interval: Duration::from_secs(3_600), ..options(protocol, collector.at) };
        let running = start(slow);
        running.send(7);
        let meter = running.meter.clone();
        running.end().await;
        assert_eq!(meter.exported.get(), 7);
        assert_eq!(within(collector.arrived.recv()).await.unwrap().2, 7);
    }
}

#[tokio::test]
async fn a_collector_that_hangs_holds_up_neither_senders_nor_the_end() {
    for protocol in [Protocol::Http, Protocol::Grpc] {
        let mut collector = collector(protocol, &[Answer::Never]).await;
        let timeout = Duration::from_millis(50);
        let running = start(Options { timeout, ..options(protocol, collector.at) });
        running.send(1);
        within(collector.arrived.recv()).await.unwrap();
        running.send(500);
        let meter = running.meter.clone();
        assert!(meter.full.get() > 300, "{meter:?}");
        running.end().await;
        assert_eq!(meter.exported.get(), 0);
        assert_eq!(meter.failed.get() + meter.full.get(), 501);
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_is_opened_again() {
    let mut first = collector(Protocol::Http, &[Answer::Ok]).await;
    let running = start(options(Protocol::Http, first.at));
    running.send(1);
    within(first.arrived.recv()).await.unwrap();
    until(|| running.meter.exported.get() == 1).await;
    // The collector restarts at the same address.
    let at = first.at;
    drop(first);
    let listener = within(async {
        loop {
            if let Ok(listener) = TcpListener::bind(at).await {
                return listener;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    running.send(1);
    let (mut stream, _) = within(listener.accept()).await.unwrap();
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut buffer = [0; 4_096];
    assert!(stream.read(&mut buffer).await.unwrap() > 0);
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    until(|| running.meter.exported.get() == 2).await;
    running.end().await;
}

#[tokio::test]
async fn tls_is_spoken_and_the_certificate_checked() {
    let folder = tempfile::tempdir().unwrap();
    for protocol in [Protocol::Http, Protocol::Grpc] {
        let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut server = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], own.signing_key.into())
            .unwrap();
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(server));
        let collector = secure_collector(protocol, &[Answer::Ok], Some(acceptor)).await;
        for (certificate, exported, failed) in [(&own.cert, 1, 0), (&other.cert, 0, 1)] {
            let ca = folder.path().join("ca.pem");
            std::fs::write(&ca, certificate.pem()).unwrap();
            let running = start(Options {
                endpoint: format!("https://{}", collector.at),
                ca_file: Some(ca),
                ..options(protocol, collector.at)
            });
            running.send(1);
            let meter = running.meter.clone();
            until(|| meter.exported.get() + meter.failed.get() == 1).await;
            running.end().await;
            assert_eq!(
                (meter.exported.get(), meter.failed.get()),
                (exported, failed),
                "{protocol:?}"
            );
        }
    }
}
