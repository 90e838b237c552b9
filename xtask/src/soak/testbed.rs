//! The Weft that is soaked, with a service behind it and clients before it.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::{amqp::Connection, measure::Sample, service};
use crate::{
    build,
    http::Client,
    process::{Process, free_ports},
};

/// How long Weft may take until it accepts connections.
const START: Duration = Duration::from_secs(60);

/// Everything that runs, and what the operations share.
pub(super) struct Testbed {
    pub(super) web: SocketAddr,
    pub(super) tcp: SocketAddr,
    amqp: SocketAddr,
    admin_at: SocketAddr,
    weft: Process,
    /// To where requests go.
    pub(super) client: Client,
    /// To the admin API.
    pub(super) admin: Client,
    /// Opened when it is first needed.
    connection: Option<Connection>,
    count: u64,
    interrupted: Arc<AtomicBool>,
}

impl Testbed {
    /// Starts a binary with a ledger of its own and waits until it takes connections.
    pub(super) fn start(binary: &Path) -> Result<Self> {
        let folder = build::target().join("soak");
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("empty {}", folder.display()))?;
        }
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        let [web, tcp, amqp, admin, nobody] = free_ports(5)?[..] else { bail!("five free ports") };
        let config = folder.join("weft.yaml");
        let text = configuration(&folder, [web, tcp, amqp, admin], service::start()?, nobody);
        fs::write(&config, text)?;
        let mut command = Command::new(binary);
        command.args(["up", "--workers", "2", "--config"]).arg(&config);
        let weft = Process::start(command, &folder.join("weft.log"))?;
        let mut testbed = Self {
            web,
            tcp,
            amqp,
            admin_at: admin,
            weft,
            client: Client::new(web),
            admin: Client::new(admin),
            connection: None,
            count: 0,
            interrupted: Arc::default(),
        };
        // Weft is in a process group of its own: a Ctrl-C reaches this process alone, which ends it.
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&testbed.interrupted))?;
        }
        let until = Instant::now() + START;
        while TcpStream::connect(admin).is_err() || TcpStream::connect(web).is_err() {
            if testbed.weft.ended().is_some() || Instant::now() > until {
                bail!("weft did not start; its last words:\n{}", testbed.last_words());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(testbed)
    }

    /// Fails once somebody asks the soak to end.
    pub(super) fn goes_on(&self) -> Result<()> {
        ensure!(!self.interrupted.load(Ordering::Relaxed), "interrupted");
        Ok(())
    }

    /// A connection to a port of Weft.
    pub(super) fn stream(&self, to: SocketAddr) -> Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&to, START)?;
        stream.set_read_timeout(Some(START))?;
        Ok(stream)
    }

    /// A number that was not given before.
    pub(super) fn next(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    /// Sends a request on the one connection, and fails unless the answer has one of these statuses.
    pub(super) fn ask(
        &mut self,
        method: &str,
        path: &str,
        json: &str,
        expect: &[u16],
    ) -> Result<()> {
        let answer = self.client.send(method, path, json)?;
        ensure!(expect.contains(&answer.status), "{method} {path}: {answer:?}");
        Ok(())
    }

    /// A further AMQP connection.
    pub(super) fn connect(&self) -> Result<Connection> {
        Connection::open(self.amqp)
    }

    /// The one AMQP connection, with channel 1 open.
    pub(super) fn amqp(&mut self) -> Result<&mut Connection> {
        if self.connection.is_none() {
            let mut connection = self.connect()?;
            connection.open_channel(1)?;
            self.connection = Some(connection);
        }
        self.connection.as_mut().context("a connection")
    }

    /// Closes every connection that is kept.
    pub(super) fn disconnect(&mut self) {
        self.client = Client::new(self.web);
        self.admin = Client::new(self.admin_at);
        self.connection = None;
    }

    /// Has the ledger write a checkpoint.
    pub(super) fn checkpoint(&mut self) -> Result<()> {
        let answer = self.admin.send("POST", "/v1/ledger/checkpoint", "")?;
        ensure!(matches!(answer.status, 200 | 204), "{answer:?}");
        Ok(())
    }

    /// What Weft holds now.
    pub(super) fn sample(&mut self) -> Result<Sample> {
        let scrape = self.admin.get("/metrics")?;
        ensure!(scrape.status == 200, "{scrape:?}");
        Sample::of(self.weft.id(), &scrape.body)
    }

    pub(super) fn last_words(&self) -> String {
        self.weft.last_words()
    }

    /// Ends Weft.
    pub(super) fn end(mut self) {
        self.weft.end();
    }
}

fn configuration(
    folder: &Path,
    [web, tcp, amqp, admin]: [SocketAddr; 4],
    service: SocketAddr,
    nobody: SocketAddr,
) -> String {
    let folder = folder.display();
    format!(
        "admin: '{admin}'
telemetry: {{ access_log: none }}
# What stays in memory for readers fills up to its bound first: a small one, so that it is full soon.
ledger: {{ path: '{folder}/data', cache: 256KiB }}
listeners:
  web: {{ address: '{web}' }}
  tcp: {{ address: '{tcp}', protocol: tcp, to: it }}
  amqp: {{ address: '{amqp}', protocol: amqp }}
queues:
  memory: {{ durability: memory }}
  os: {{ durability: os }}
  fsync: {{}}
  # What is remembered for a while is gone before it is counted.
  named: {{ dedupe: 1s }}
  idle: {{}}
topics: {{ news: {{}}, pushed: {{ retention: 1s }} }}
subscriptions:
  pushed: {{ topic: pushed, push: {{ service: it, path: /pushed }} }}
services:
  # Connections that nobody needs go before they are counted.
  it: {{ endpoints: '{service}', pool: {{ idle_timeout: 1s }} }}
  flaky: {{ endpoints: '{service}', pool: {{ idle_timeout: 1s }}, retry_budget: {{ ratio: 100%, per_second: 1000, window: 10s }} }}
  nobody: {{ endpoints: '{nobody}' }}
routes:
  - {{ name: hello, match: /hello, respond: {{ status: 200, body: hello }} }}
  - {{ name: messages, match: /messages/*, messages: /messages }}
  - {{ name: service, match: /service, to: it }}
  - {{ name: mirrored, match: /mirrored, mirror: {{ to: it, share: 100% }}, to: it }}
  - {{ name: later, match: /later, respond_async: {{ keep: 1s }}, to: it }}
  - name: flaky
    match: /flaky
    retry: {{ retries: 2, on: [5xx], backoff: {{ base: 1ms, max: 2ms }} }}
    to: flaky
  - {{ name: nobody, match: /nobody, timeout: {{ connect: 20ms }}, retry: off, to: nobody }}
"
    )
}
