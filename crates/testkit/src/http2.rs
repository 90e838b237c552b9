//! HTTP/2 on either side by the library `h2`, for many streams at once and for the rules that Weft's
//! peers keep; what breaks the rules is written by hand with [`crate::frames`].

use std::{
    future::{Future, poll_fn},
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use h2::{RecvStream, SendStream, client, server};
use http::{HeaderMap, Request, Response};
use rustls::{ClientConfig, ServerConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    runtime::{self, Runtime},
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::wait::PATIENCE;

/// A runtime whose tasks go on while its test waits for something else.
fn runtime() -> Runtime {
    runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Runs the body of a test; panics if it takes much too long.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = runtime();
    let limited = async { timeout(PATIENCE * 3, future).await };
    let result = runtime.block_on(limited);
    runtime.shutdown_background();
    match result {
        Ok(result) => result,
        Err(_) => panic!("not done after {:?}", PATIENCE * 3),
    }
}

/// Lets a task run beside the others of a test.
pub fn beside<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    #[allow(clippy::disallowed_methods, reason = "a task of a test, which ends with its runtime")]
    tokio::spawn(future)
}

/// Settings with which many streams may wait to be read: the library takes more small frames than fit
/// its connection's window in a way of its own for an attack, and ends the connection.
fn patient() -> client::Builder {
    let mut settings = client::Builder::new();
    settings.initial_connection_window_size(16 << 20);
    settings
}

/// What came back for a request.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
    /// The trailers.
    pub trailers: HeaderMap,
}

impl Reply {
    /// A field of the head as text; empty if it is not there.
    pub fn get(&self, name: &str) -> &str {
        text(&self.headers, name)
    }

    /// A trailer as text; empty if it is not there.
    pub fn trailer(&self, name: &str) -> &str {
        text(&self.trailers, name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn text<'a>(fields: &'a HeaderMap, name: &str) -> &'a str {
    fields.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
}

/// A connection of a client.
#[derive(Debug)]
pub struct Client {
    send: client::SendRequest<Bytes>,
    driver: JoinHandle<Result<(), h2::Error>>,
}

impl Client {
    /// Connects without TLS, by prior knowledge.
    pub async fn to(address: SocketAddr) -> Self {
        Self::with(address, &patient()).await
    }

    /// Connects so with settings of its own.
    pub async fn with(address: SocketAddr, settings: &client::Builder) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream, settings).await
    }

    /// Connects with TLS; panics if that does not agree on HTTP/2.
    pub async fn secure(address: SocketAddr, name: &str, tls: &Arc<ClientConfig>) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let stream = TlsConnector::from(tls.clone()).connect(name, stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]), "ALPN");
        Self::over(stream, &patient()).await
    }

    async fn over<S>(stream: S, settings: &client::Builder) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (send, connection) = settings.handshake(stream).await.unwrap();
        Self { send, driver: beside(connection) }
    }

    /// Begins a request; what its body is goes into the stream.
    pub async fn begin(
        &self,
        request: Request<()>,
    ) -> Result<(client::ResponseFuture, SendStream<Bytes>), h2::Error> {
        self.send.clone().ready().await?.send_request(request, false)
    }

    /// Sends a request without a body; dropping what this gives resets its stream.
    pub async fn open(&self, request: Request<()>) -> Result<client::ResponseFuture, h2::Error> {
        Ok(self.send.clone().ready().await?.send_request(request, true)?.0)
    }

    /// Sends a request with its body and reads the whole response.
    pub async fn ask(&self, request: Request<Vec<u8>>) -> Result<Reply, h2::Error> {
        let (head, body) = request.into_parts();
        let mut send = self.send.clone().ready().await?;
        let (response, mut stream) =
            send.send_request(Request::from_parts(head, ()), body.is_empty())?;
        let sent =
            if body.is_empty() { Ok(()) } else { send_all(&mut stream, body.into(), None).await };
        // A server may answer before it has read the body, and end the stream with it.
        match (reply(response).await, sent) {
            (Err(_), Err(unsent)) => Err(unsent),
            (reply, _) => reply,
        }
    }

    /// The response to a GET.
    pub async fn get(&self, path: &str) -> Result<Reply, h2::Error> {
        self.ask(request("GET", path).body(Vec::new()).unwrap()).await
    }

    /// Whether the server takes extended CONNECT (RFC 8441).
    pub fn may_connect(&self) -> bool {
        self.send.is_extended_connect_protocol_enabled()
    }

    /// Waits for the end of the connection.
    pub async fn ended(self) -> Result<(), h2::Error> {
        drop(self.send);
        self.driver.await.unwrap()
    }
}

/// A request to the host `test`.
pub fn request(method: &str, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(format!("http://test{path}"))
}

/// Reads a whole response.
pub async fn reply(response: client::ResponseFuture) -> Result<Reply, h2::Error> {
    let (head, body) = response.await?.into_parts();
    let (body, trailers) = gather(body).await?;
    Ok(Reply { status: head.status.as_u16(), headers: head.headers, body, trailers })
}

/// Reads a whole body with its trailers.
pub async fn gather(mut body: RecvStream) -> Result<(Vec<u8>, HeaderMap), h2::Error> {
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        all.extend_from_slice(&data);
    }
    Ok((all, body.trailers().await?.unwrap_or_default()))
}

/// Sends as much as the other side takes, until all is sent; the stream stays open.
pub async fn send(stream: &mut SendStream<Bytes>, mut data: Bytes) -> Result<(), h2::Error> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len().min(64 * 1024));
        let room = match poll_fn(|cx| stream.poll_capacity(cx)).await {
            Some(room) => room?,
            None => return Err(h2::Reason::STREAM_CLOSED.into()),
        };
        stream.send_data(data.split_to(room.min(data.len())), false)?;
    }
    Ok(())
}

/// Sends the rest of a body: data, then trailers if there are any.
pub async fn send_all(
    stream: &mut SendStream<Bytes>,
    data: Bytes,
    trailers: Option<HeaderMap>,
) -> Result<(), h2::Error> {
    send(stream, data).await?;
    match trailers {
        Some(trailers) => stream.send_trailers(trailers),
        None => stream.send_data(Bytes::new(), true),
    }
}

/// A service that speaks HTTP/2, on a thread of its own.
#[derive(Debug)]
pub struct Service {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    runtime: Option<Runtime>,
}

impl Service {
    /// A service without TLS; `answer` is given each request.
    pub fn new<R>(
        answer: impl Fn(Request<RecvStream>, server::SendResponse<Bytes>) -> R + Send + Sync + 'static,
    ) -> Self
    where
        R: Future<Output = Result<(), h2::Error>> + Send + 'static,
    {
        Self::with(None, answer)
    }

    /// A service, perhaps with TLS.
    pub fn with<R>(
        tls: Option<Arc<ServerConfig>>,
        answer: impl Fn(Request<RecvStream>, server::SendResponse<Bytes>) -> R + Send + Sync + 'static,
    ) -> Self
    where
        R: Future<Output = Result<(), h2::Error>> + Send + 'static,
    {
        let runtime = runtime();
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (counter, answer) = (connections.clone(), Arc::new(answer));
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::AcqRel);
                let (tls, answer) = (tls.clone(), answer.clone());
                beside(async move {
                    match tls {
                        None => serve(stream, &*answer).await,
                        Some(tls) => match TlsAcceptor::from(tls).accept(stream).await {
                            Ok(stream) => serve(stream, &*answer).await,
                            Err(_refused) => {}
                        },
                    }
                });
            }
        });
        Self { address, connections, runtime: Some(runtime) }
    }

    /// A service that sends back each body as it comes, and its trailers.
    pub fn echoing() -> Self {
        Self::new(echo)
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it has had.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Acquire)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn serve<S, R>(
    stream: S,
    answer: &impl Fn(Request<RecvStream>, server::SendResponse<Bytes>) -> R,
) where
    S: AsyncRead + AsyncWrite + Unpin,
    R: Future<Output = Result<(), h2::Error>> + Send + 'static,
{
    let mut settings = server::Builder::new();
    settings.enable_connect_protocol().initial_connection_window_size(16 << 20);
    let Ok(mut connection) = settings.handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        beside(answer(request, respond));
    }
}

/// Sends back a body as it comes, and its trailers.
pub async fn echo(
    request: Request<RecvStream>,
    mut respond: server::SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    let mut body = request.into_body();
    let mut out = respond.send_response(Response::new(()), false)?;
    while let Some(data) = body.data().await {
        let data = data?;
        let length = data.len();
        send(&mut out, data).await?;
        body.flow_control().release_capacity(length)?;
    }
    send_all(&mut out, Bytes::new(), body.trailers().await?).await
}
