//! Services that do what a test says, also what no service should.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use rustls::ServerConfig;

use crate::{conn::Conn, message::HttpMessage, port::Port, wait::until};

#[derive(Debug, Default)]
struct State {
    stopped: AtomicBool,
    connections: AtomicUsize,
    seen: Mutex<Vec<HttpMessage>>,
}

type Script = dyn Fn(Conn, &State) + Send + Sync;

/// A service: a listening socket, and a thread per connection.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    state: Arc<State>,
}

impl Upstream {
    /// A service whose script is given each connection.
    pub fn raw(script: impl Fn(Conn) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        Self::at(listener, Arc::new(move |conn, _: &State| script(conn)))
    }

    /// A service that reads each request, and if it is whole sends what `answer` makes of it, byte for byte; it
    /// keeps the connection unless that is empty.
    pub fn answering<A>(answer: impl Fn(&HttpMessage) -> A + Send + Sync + 'static) -> Self
    where
        A: AsRef<[u8]>,
    {
        Self::opening(Some, answer)
    }

    /// Such a service behind TLS.
    pub fn secure<A>(
        tls: Arc<ServerConfig>,
        answer: impl Fn(&HttpMessage) -> A + Send + Sync + 'static,
    ) -> Self
    where
        A: AsRef<[u8]>,
    {
        Self::opening(move |conn| conn.accept(tls.clone()).ok(), answer)
    }

    /// Such a service, each connection of which `open` makes ready.
    pub fn opening<A>(
        open: impl Fn(Conn) -> Option<Conn> + Send + Sync + 'static,
        answer: impl Fn(&HttpMessage) -> A + Send + Sync + 'static,
    ) -> Self
    where
        A: AsRef<[u8]>,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let script = move |conn: Conn, state: &State| {
            let Some(mut conn) = open(conn) else { return };
            while let Some(request) = conn.request().filter(|request| request.complete) {
                let bytes = answer(&request);
                lock(&state.seen).push(request);
                if bytes.as_ref().is_empty() || !conn.send(bytes) {
                    return;
                }
            }
        };
        Self::at(listener, Arc::new(script))
    }

    /// A service that answers each request with 200 and a text.
    pub fn saying(text: &str) -> Self {
        let response = ok(text);
        Self::answering(move |_| response.clone())
    }

    fn at(listener: TcpListener, script: Arc<Script>) -> Self {
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let shared = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stopped.load(Ordering::Acquire) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                shared.connections.fetch_add(1, Ordering::AcqRel);
                let (script, state) = (script.clone(), shared.clone());
                thread::spawn(move || script(Conn::of(stream), &state));
            }
        });
        Self { address, state }
    }

    /// An address at which nothing listens, for as long as the port lives.
    pub fn nowhere() -> Port {
        Port::reserve()
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it has had.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::Acquire)
    }

    /// The requests that it has answered so far.
    pub fn seen(&self) -> Vec<HttpMessage> {
        lock(&self.state.seen).clone()
    }

    /// Waits for so many requests.
    pub fn wait_seen(&self, count: usize) -> Vec<HttpMessage> {
        until(&format!("{count} requests at the service"), || {
            Some(self.seen()).filter(|seen| seen.len() >= count)
        })
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::Release);
        // Wakes the accepting thread, so that it sees the end.
        let _ = std::net::TcpStream::connect(self.address);
    }
}

/// A 200 with a text.
pub fn ok(text: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len())
}

/// A response of a status without a body.
pub fn status(status: u16) -> String {
    format!("HTTP/1.1 {status} Said\r\ncontent-length: 0\r\n\r\n")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
