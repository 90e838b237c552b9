//! The client that keeps connections, against servers that count them, close them, stall and lie.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinSet,
};
use weft_kernel::{Error, Reason};
use weft_net::{
    Alpn, Io, Rewound, Socket, accept,
    client::{Client, Options, Resolver, Resolving, System, Tls, Version},
};

use crate::stage::{LONG, soon, tls, until};

/// What a server does with the requests of one connection.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    /// Answers each.
    Keep,
    /// Answers so many, then closes without a word.
    Leave(usize),
    /// Answers so many, then closes as soon as it has read the next one.
    Slam(usize),
    /// Says that it closes, and does.
    Close,
    /// Answers nothing.
    Stall,
    /// Answers with a body without end.
    Flood,
}

struct Server {
    url: String,
    opened: AtomicUsize,
    open: AtomicUsize,
    most: AtomicUsize,
    requests: AtomicUsize,
    left: Notify,
}

impl Server {
    async fn start(manner: Manner) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Arc::new(Self {
            url: format!("http://{}/x", listener.local_addr().unwrap()),
            opened: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            left: Notify::new(),
        });
        let serves = Arc::clone(&server);
        tokio::task::spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let server = Arc::clone(&serves);
                server.opened.fetch_add(1, Relaxed);
                server.most.fetch_max(server.open.fetch_add(1, Relaxed) + 1, Relaxed);
                tokio::task::spawn_local(async move {
                    server.serve(stream, manner).await;
                    server.open.fetch_sub(1, Relaxed);
                    server.left.notify_one();
                });
            }
        });
        server
    }

    async fn serve(&self, mut stream: TcpStream, manner: Manner) {
        let mut answered = 0;
        while read_head(&mut stream).await {
            self.requests.fetch_add(1, Relaxed);
            match manner {
                Manner::Slam(count) if answered == count => return,
                Manner::Stall => {
                    let _ = stream.read(&mut [0]).await;
                    return;
                }
                Manner::Flood => {
                    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 999999999\r\n\r\n";
                    let mut going = stream.write_all(head).await;
                    while going.is_ok() {
                        going = stream.write_all(&[b'x'; 4096]).await;
                    }
                    return;
                }
                _ => {}
            }
            let more = if manner == Manner::Close { "connection: close\r\n" } else { "" };
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n{more}\r\nok");
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
            answered += 1;
            if manner == Manner::Close || manner == Manner::Leave(answered) {
                return;
            }
        }
    }

    fn counts(&self) -> (usize, usize) {
        (self.opened.load(Relaxed), self.requests.load(Relaxed))
    }
}

async fn read_head(stream: &mut TcpStream) -> bool {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_gone) => return false,
        }
    }
    true
}

fn client(options: Options) -> Client {
    let (_, of) = tls("orders.test", &[]);
    Client::new(options, Arc::new(System), Some(Box::new(move || Arc::clone(&of.config))))
}

fn request(method: Method, url: &str) -> Request<Bytes> {
    Request::builder().method(method).uri(url).body(Bytes::new()).unwrap()
}

async fn ask(client: &Client, method: Method, url: &str) -> Result<u16, Reason> {
    let asked = client.request(Version::Http1, request(method, url), 1024, LONG);
    soon(asked).await.map(|answer| answer.status.as_u16()).map_err(|error| error.reason())
}

/// Runs a test on one thread, with a server that needs not be `Send`.
async fn local<F: Future>(test: F) -> F::Output {
    tokio::task::LocalSet::new().run_until(test).await
}

#[tokio::test]
async fn connections_are_kept_and_closed_when_nobody_wants_them() {
    local(async {
        let server = Server::start(Manner::Keep).await;
        let options = Options { idle_timeout: Duration::from_millis(50), ..Options::default() };
        let client = client(options);
        for _ in 0..20 {
            assert_eq!(ask(&client, Method::POST, &server.url).await, Ok(200));
        }
        assert_eq!(server.counts(), (1, 20));
        until(|| server.open.load(Relaxed) == 0).await;
        assert_eq!(ask(&client, Method::POST, &server.url).await, Ok(200));
        assert_eq!(server.counts(), (2, 21));
        drop(client);
        until(|| server.open.load(Relaxed) == 0).await;

        let server = Server::start(Manner::Close).await;
        let client = self::client(Options::default());
        for count in 1..=3 {
            assert_eq!(ask(&client, Method::GET, &server.url).await, Ok(200));
            assert_eq!(server.counts(), (count, count));
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_that_closes_idle_connections_fails_no_request() {
    local(async {
        let client = client(Options::default());
        let server = Server::start(Manner::Leave(1)).await;
        for count in 1..=5 {
            assert_eq!(ask(&client, Method::POST, &server.url).await, Ok(200));
            soon(server.left.notified()).await;
            assert_eq!(server.counts(), (count, count));
        }
        // It closes when the next request has reached it: only what may be repeated is.
        let server = Server::start(Manner::Slam(1)).await;
        assert_eq!(ask(&client, Method::GET, &server.url).await, Ok(200));
        assert_eq!(ask(&client, Method::GET, &server.url).await, Ok(200));
        assert_eq!(server.counts(), (2, 3));
        assert_eq!(ask(&client, Method::POST, &server.url).await, Err(Reason::UpstreamClosed));
        assert_eq!(server.counts(), (2, 4));
        // One that never answers is not asked for ever.
        let server = Server::start(Manner::Slam(0)).await;
        assert_eq!(ask(&client, Method::GET, &server.url).await, Err(Reason::UpstreamClosed));
        assert_eq!(server.counts(), (1, 1));
    })
    .await;
}

#[tokio::test]
async fn a_thousand_at_once_share_few_connections() {
    local(async {
        let server = Server::start(Manner::Keep).await;
        let options = Options { connections_max: 8, idle_max: 4, ..Options::default() };
        let client = client(options);
        let mut tasks = JoinSet::new();
        for _ in 0..1000 {
            let (client, url) = (client.clone(), server.url.clone());
            tasks.spawn_local(async move { ask(&client, Method::POST, &url).await });
        }
        while let Some(answered) = tasks.join_next().await {
            assert_eq!(answered.unwrap(), Ok(200));
        }
        assert!(server.most.load(Relaxed) <= 8, "{}", server.most.load(Relaxed));
        assert_eq!(server.requests.load(Relaxed), 1000);
        until(|| server.open.load(Relaxed) <= 4).await;
    })
    .await;
}

#[tokio::test]
async fn what_stalls_or_floods_is_bounded_and_what_is_dropped_is_closed() {
    local(async {
        let client = client(Options { connections_max: 1, ..Options::default() });
        let stalls = Server::start(Manner::Stall).await;
        let time = Duration::from_millis(50);
        let get = || request(Method::GET, &stalls.url);
        let error = client.request(Version::Http1, get(), 1024, time).await.unwrap_err();
        assert_eq!(error.reason(), Reason::TryTimeout);
        until(|| stalls.open.load(Relaxed) == 0).await;

        let asked = client.clone();
        let (waiting, url) = (Arc::new(Notify::new()), stalls.url.clone());
        let begun = Arc::clone(&waiting);
        let task = tokio::task::spawn_local(async move {
            begun.notify_one();
            ask(&asked, Method::GET, &url).await
        });
        waiting.notified().await;
        until(|| stalls.open.load(Relaxed) == 1).await;
        // Whoever waits for the only connection waits no longer than its time.
        let error = client.request(Version::Http1, get(), 1024, time).await.unwrap_err();
        assert_eq!(error.reason(), Reason::TryTimeout);
        assert_eq!(stalls.opened.load(Relaxed), 2);
        task.abort();
        until(|| stalls.open.load(Relaxed) == 0).await;

        let floods = Server::start(Manner::Flood).await;
        assert_eq!(ask(&client, Method::GET, &floods.url).await, Err(Reason::UpstreamMalformed));
        until(|| floods.open.load(Relaxed) == 0).await;
        // For its status alone the body is cut, and the connection not used again.
        let asked = client.status(Version::Http1, request(Method::GET, &floods.url), 1024, LONG);
        assert_eq!(soon(asked).await.unwrap(), 200);
        until(|| floods.open.load(Relaxed) == 0).await;
    })
    .await;
}

#[tokio::test]
async fn tls_is_spoken_by_name_and_what_is_no_url_is_refused() {
    let (server, of) = tls("localhost", &[Alpn::H1.id()]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/x", listener.local_addr().unwrap().port());
    let serving = async {
        let (tcp, _) = listener.accept().await.unwrap();
        let socket = Rewound::new(Socket::Tcp(tcp));
        let mut io: Io = accept::tls(socket, LONG, |_| Some(Arc::clone(&server))).await.unwrap();
        for _ in 0..2 {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(io.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            assert!(head.starts_with("GET /x HTTP/1.1\r\n"), "{head}");
            assert!(head.to_lowercase().contains("host: localhost:"), "{head}");
            io.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        }
    };
    let config = Arc::clone(&of.config);
    let configured = Arc::new(AtomicUsize::new(0));
    let counts = configured.clone();
    let tls: Tls = Box::new(move || {
        counts.fetch_add(1, Relaxed);
        Arc::clone(&config)
    });
    let client = Client::new(Options::default(), Arc::new(System), Some(tls));
    let asking = async {
        for _ in 0..2 {
            assert_eq!(ask(&client, Method::GET, &url).await, Ok(204));
        }
    };
    soon(async { tokio::join!(serving, asking) }).await;
    assert_eq!(configured.load(Relaxed), 1, "a kept connection needs no settings");
    for url in ["/x", "ftp://localhost/", "https://a_.b*/"] {
        let Ok(uri) = url.parse::<http::Uri>() else { continue };
        let asked = request(Method::GET, "/");
        let (mut parts, body) = asked.into_parts();
        parts.uri = uri;
        let asked = client.request(Version::Http1, Request::from_parts(parts, body), 1024, LONG);
        assert_eq!(soon(asked).await.unwrap_err().reason(), Reason::MalformedRequest, "{url}");
    }
}

/// Knows the hosts of a list, in order, and counts who asks.
struct Known {
    hosts: Vec<(&'static str, Vec<IpAddr>)>,
    asked: AtomicUsize,
}

impl Resolver for Known {
    fn resolve<'a>(&'a self, host: &'a str) -> Resolving<'a> {
        self.asked.fetch_add(1, Relaxed);
        let known = self.hosts.iter().find(|(name, _)| *name == host);
        let answer = known.map(|(_, addresses)| addresses.clone());
        let unknown = || Error::new(Reason::DnsFailed, "no such host");
        Box::pin(std::future::ready(answer.ok_or_else(unknown)))
    }
}

#[tokio::test]
async fn hosts_are_found_by_the_resolver_that_was_given_and_addresses_need_none() {
    local(async {
        let server = Server::start(Manner::Keep).await;
        let port = server.url.parse::<http::Uri>().unwrap().port_u16().unwrap();
        // Nobody listens at the first address.
        let local = vec![IpAddr::from([127, 0, 0, 77]), IpAddr::from([127, 0, 0, 1])];
        let hosts = vec![("orders.test", local), ("empty.test", Vec::new())];
        let known = Arc::new(Known { hosts, asked: AtomicUsize::new(0) });
        let client = Client::new(Options::default(), known.clone(), None);
        let url = |host: &str| format!("http://{host}:{port}/x");
        for _ in 0..3 {
            assert_eq!(ask(&client, Method::GET, &url("Orders.Test")).await, Ok(200));
        }
        assert_eq!((server.counts(), known.asked.load(Relaxed)), ((1, 3), 1));
        assert_eq!(ask(&client, Method::GET, &server.url).await, Ok(200));
        assert_eq!(known.asked.load(Relaxed), 1, "an address is looked up nowhere");
        for host in ["empty.test", "other.test"] {
            assert_eq!(ask(&client, Method::GET, &url(host)).await, Err(Reason::DnsFailed));
        }
        let secure = url("orders.test").replace("http:", "https:");
        assert_eq!(ask(&client, Method::GET, &secure).await, Err(Reason::Misconfigured));
    })
    .await;
}
