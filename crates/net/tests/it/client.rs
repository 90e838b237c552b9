//! One request against servers that are not ours: hyper's, and raw bytes.

use std::{convert::Infallible, future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_kernel::Reason;
use weft_net::{
    Alpn, ConnectTarget, Io, Listener, Rewound, accept,
    client::{self, Version},
};

use crate::stage::{LONG, listener, over_tls, soon, tls};

/// Answers with what was asked, a body in two frames, and a trailer.
async fn mirror(
    request: Request<Incoming>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, hyper::Error> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let frames =
        [Frame::data(body), Frame::data(Bytes::from_static(b"!")), Frame::trailers(trailers)];
    let body = StreamBody::new(futures_util::stream::iter(frames.map(Ok::<_, Infallible>)));
    let host = parts.headers.get("host").and_then(|host| host.to_str().ok());
    let authority = parts.uri.authority().map(http::uri::Authority::as_str).or(host);
    Ok(Response::builder()
        .header("x-asked", format!("{} {}", parts.method, parts.uri.path()))
        .header("x-authority", authority.unwrap_or_default())
        .header("trailer", "grpc-status")
        .body(BoxBody::new(body))
        .unwrap())
}

async fn serve(io: Io, version: Version) {
    let io = TokioIo::new(io);
    let service = service_fn(mirror);
    // An error here shows in the client, where it is asserted.
    let _ = match version {
        Version::Http1 => {
            hyper::server::conn::http1::Builder::new().serve_connection(io, service).await
        }
        Version::Http2 => {
            hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(io, service)
                .await
        }
    };
}

fn post() -> Request<Bytes> {
    Request::post("/health?deep")
        .header("te", "trailers")
        .body(Bytes::from_static(b"ping"))
        .unwrap()
}

async fn plain(listener: &Listener) -> Io {
    listener.accept().await.unwrap().0.into()
}

/// The future is `Send`: probes run on a work-stealing runtime.
fn send<T>(future: impl Future<Output = T> + Send) -> impl Future<Output = T> + Send {
    future
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_versions_plain_and_under_tls_bring_body_and_trailers() {
    for version in [Version::Http1, Version::Http2] {
        for secure in [false, true] {
            let alpn = if version == Version::Http2 { Alpn::H2 } else { Alpn::H1 };
            let (server, client) = tls("orders.test", &[alpn.id()]);
            let listener = listener();
            let target = if secure {
                over_tls(listener.address(), &client)
            } else {
                ConnectTarget::plain(listener.address().clone())
            };
            let server = async {
                let mut io = plain(&listener).await;
                if secure {
                    let Io::Tcp(tcp) = io else { panic!("{io:?}") };
                    let socket = Rewound::new(weft_net::Socket::Tcp(tcp));
                    io = accept::tls(socket, LONG, |_| Some(Arc::clone(&server))).await.unwrap();
                }
                serve(io, version).await;
            };
            let asked = send(client::request(&target, version, post(), 1024, LONG));
            let answer = soon(async {
                tokio::select! {
                    biased;
                    answer = asked => answer,
                    () = async { server.await; std::future::pending().await } => unreachable!(),
                }
            })
            .await
            .unwrap();
            assert_eq!(answer.status, 200);
            assert_eq!(answer.headers["x-asked"], "POST /health");
            let authority = if secure { "orders.test".into() } else { target.address.to_string() };
            assert_eq!(answer.headers["x-authority"], authority);
            assert_eq!(answer.body, "ping!");
            assert_eq!(answer.trailers.unwrap()["grpc-status"], "0", "{version:?} {secure}");
        }
    }
}

/// On the one thread of both: whoever asks must not be kept from looking at anything else.
#[tokio::test]
async fn interim_responses_without_end_are_no_answer() {
    let listener = listener();
    let target = ConnectTarget::plain(listener.address().clone());
    let server = async {
        let mut io = plain(&listener).await;
        io.read_exact(&mut [0; 4]).await.unwrap();
        let some = b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(1000);
        while io.write_all(&some).await.is_ok() {}
    };
    let get = Request::get("/").body(Bytes::new()).unwrap();
    let asked = client::request(&target, Version::Http1, get, 1024, LONG);
    let (answer, ()) = soon(async { tokio::join!(asked, server) }).await;
    let error = answer.unwrap_err();
    assert_eq!(error.reason(), Reason::UpstreamMalformed, "{error:?}");
}

#[tokio::test]
async fn each_broken_answer_has_its_reason() {
    let huge = format!("HTTP/1.1 200 OK\r\ncontent-length: 2000\r\n\r\n{}", "x".repeat(2000));
    for (bytes, reason) in [
        (&b""[..], Reason::UpstreamClosed),
        (b"HTTP/1.1 20", Reason::UpstreamClosed),
        (b"SSH-2.0-OpenSSH\r\n", Reason::UpstreamMalformed),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort", Reason::UpstreamIncomplete),
        (huge.as_bytes(), Reason::UpstreamMalformed),
    ] {
        let listener = listener();
        let target = ConnectTarget::plain(listener.address().clone());
        let server = async {
            let mut io = plain(&listener).await;
            let mut asked = [0; 4];
            io.read_exact(&mut asked).await.unwrap();
            assert_eq!(&asked, b"GET ");
            io.write_all(bytes).await.unwrap();
            io.shutdown().await.unwrap();
            // Until the client has gone: an earlier close would be a reset.
            let _ = io.read_to_end(&mut Vec::new()).await;
        };
        let get = Request::get("/").body(Bytes::new()).unwrap();
        let asked = client::request(&target, Version::Http1, get, 1024, LONG);
        let (answer, ()) = soon(async { tokio::join!(asked, server) }).await;
        let error = answer.unwrap_err();
        assert_eq!(
            error.reason(),
            reason,
            "{:?}: {}",
            String::from_utf8_lossy(bytes),
            error.detail()
        );
    }
}

#[tokio::test]
async fn silence_and_the_wrong_protocol_are_told_apart() {
    let silent = listener();
    let target = ConnectTarget::plain(silent.address().clone());
    let get = || Request::get("/").body(Bytes::new()).unwrap();
    let time = Duration::from_millis(30);
    let error = client::request(&target, Version::Http1, get(), 1024, time).await.unwrap_err();
    assert_eq!(error.reason(), Reason::TryTimeout);
    assert_eq!(error.to_string(), "no whole answer within 30ms");

    let (server, client) = tls("orders.test", &[Alpn::H1.id()]);
    let listener = listener();
    let target = over_tls(listener.address(), &client);
    let accepting = async {
        let (socket, _) = listener.accept().await.unwrap();
        accept::tls(Rewound::new(socket), LONG, |_| Some(server)).await.unwrap()
    };
    let asked = client::request(&target, Version::Http2, get(), 1024, LONG);
    let (answer, _io) = soon(async { tokio::join!(asked, accepting) }).await;
    assert!(answer.unwrap_err().to_string().contains("http/1.1"));
}
