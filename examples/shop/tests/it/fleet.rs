//! Instances as child processes, and a relay that stands in for Weft.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
};

const SHOP: &str = env!("CARGO_BIN_EXE_weft-shop");

/// One running instance, ended when it goes out of scope.
pub(crate) struct Instance {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Instance {
    pub(crate) fn start(service: &str, options: &[&str]) -> Self {
        let mut child =
            Command::new(SHOP).arg(service).args(options).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim_end().rsplit(' ').next().unwrap().parse().unwrap();
        Self { child, address }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Asks it to end, as an orchestrator would.
    pub(crate) fn terminate(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `weft-shop call`; what it printed, or what it complained about.
pub(crate) fn call(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(SHOP).arg("call").args(arguments).output().unwrap();
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap())
    } else {
        Err(String::from_utf8(output.stderr).unwrap())
    }
}

/// Sends `/internal/SERVICE/…` on to the service and notes the trace context that came along.
pub(crate) struct Relay {
    address: SocketAddr,
    traceparents: Arc<Mutex<Vec<String>>>,
}

impl Relay {
    pub(crate) fn start(services: &[(&'static str, SocketAddr)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let traceparents = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&traceparents);
        let services = services.to_vec();
        // The thread lives as long as the test process, which is as long as it may be needed.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                pass(stream.unwrap(), &services, &seen);
            }
        });
        Self { address, traceparents }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn traceparents(&self) -> Vec<String> {
        self.traceparents.lock().unwrap().clone()
    }
}

/// One request, one connection to the service, and the connection is closed after it.
fn pass(mut caller: TcpStream, services: &[(&str, SocketAddr)], seen: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(caller.try_clone().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let mut head = String::new();
    let mut length = 0;
    loop {
        let mut field = String::new();
        reader.read_line(&mut field).unwrap();
        if field.trim_end().is_empty() {
            break;
        }
        let (name, value) = field.split_once(':').unwrap();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap(),
            "traceparent" => seen.lock().unwrap().push(value.trim().to_owned()),
            _ => {}
        }
        head.push_str(&field);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();

    if line.contains("/internal/events/") {
        // Kept, as far as the caller can tell.
        caller.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}").unwrap();
        return;
    }
    let (service, address) = services
        .iter()
        .find(|(service, _)| line.contains(&format!("/internal/{service}/")))
        .unwrap();
    let line = line.replacen(&format!("/internal/{service}"), "", 1);
    let mut upstream = TcpStream::connect(address).unwrap();
    write!(upstream, "{line}connection: close\r\n{head}\r\n").unwrap();
    upstream.write_all(&body).unwrap();
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer).unwrap();
    caller.write_all(&answer).unwrap();
}
