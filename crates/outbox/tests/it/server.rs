//! A server that speaks as much of PostgreSQL's protocol as an outbox asks for, and has a log of a few transactions;
//! and a node whose outbox reads it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use weft_broker::{Broker, Key, QueueLimit, QueueOptions, TopicOptions};
use weft_kernel::{Name, Rng, SystemClock};
use weft_ledger::{Ledger, Limits, MapId, Store as _, options::MapOptions};
use weft_net::client::System;
use weft_outbox::{
    Database, Lsn, Options, Outbox, Template,
    options::{Columns, Table},
    state::State,
};

const RELATION: u32 = 7;

/// A transaction: its number, and the ids of its rows with what topic they name.
#[derive(Clone)]
pub(crate) struct Story(pub(crate) u32, pub(crate) Vec<(String, &'static str)>);

/// What a server does, as a test sets it.
pub(crate) struct Script {
    pub(crate) log: Vec<Story>,
    /// The microseconds that are added to each time of a commit: another history has others.
    pub(crate) epoch: i64,
    pub(crate) system: &'static str,
    pub(crate) slot: Option<Lsn>,
    /// After how many frames of a stream the connection is cut.
    pub(crate) frames: usize,
    /// What is sent in place of the first frame.
    pub(crate) lie: Option<Vec<u8>>,
}

pub(crate) struct Server {
    pub(crate) script: Arc<Mutex<Script>>,
    /// Up to where the outbox has told that everything was published.
    pub(crate) confirmed: Arc<AtomicU64>,
    pub(crate) port: u16,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Where the commit of a transaction stands.
fn commit(xid: u32) -> u64 {
    u64::from(xid) * 1_000
}

impl Server {
    pub(crate) async fn start(log: Vec<Story>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let script =
            Script { log, epoch: 0, system: "1", slot: None, frames: usize::MAX, lie: None };
        let script = Arc::new(Mutex::new(script));
        let confirmed = Arc::new(AtomicU64::new(0));
        let (shared, told) = (Arc::clone(&script), Arc::clone(&confirmed));
        let task = async move {
            loop {
                let (conn, _) = listener.accept().await.unwrap();
                let (script, told) = (Arc::clone(&shared), Arc::clone(&told));
                #[allow(clippy::disallowed_methods, reason = "a server of a test")]
                tokio::spawn(async move {
                    let _ = serve(conn, &script, &told).await;
                });
            }
        };
        #[allow(clippy::disallowed_methods, reason = "a server of a test")]
        let task = tokio::spawn(task);
        Self { script, confirmed, port, task }
    }
}

fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

fn row(values: &[Option<&str>]) -> Vec<u8> {
    let mut body = u16::try_from(values.len()).unwrap().to_be_bytes().to_vec();
    for value in values {
        match value {
            None => body.extend((-1i32).to_be_bytes()),
            Some(text) => {
                body.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
                body.extend(text.as_bytes());
            }
        }
    }
    frame(b'D', &body)
}

fn answer(rows: &[Vec<Option<&str>>]) -> Vec<u8> {
    let mut out: Vec<u8> = rows.iter().flat_map(|values| row(values)).collect();
    out.extend(frame(b'C', b"SELECT 1\0"));
    out.extend(frame(b'Z', b"I"));
    out
}

fn change(at: u64, message: &[u8]) -> Vec<u8> {
    let head = [&b"w"[..], &at.to_be_bytes(), &at.to_be_bytes(), &0u64.to_be_bytes()].concat();
    frame(b'd', &[&head, message].concat())
}

/// The frames of the log from a position on.
fn frames(script: &Script, from: u64) -> Vec<Vec<u8>> {
    let mut out = vec![change(0, &relation())];
    for Story(xid, rows) in script.log.iter().filter(|story| commit(story.0) >= from) {
        let at = commit(*xid);
        let time = script.epoch + i64::from(*xid);
        let begin =
            [&b"B"[..], &at.to_be_bytes(), &time.to_be_bytes(), &xid.to_be_bytes()].concat();
        out.push(change(at, &begin));
        for (index, (id, kind)) in rows.iter().enumerate() {
            // Two rows share a place, as those of a COPY do.
            let place = at - 500 + u64::try_from(index).unwrap() / 2;
            let mut insert =
                [&b"I"[..], &RELATION.to_be_bytes(), b"N", &5u16.to_be_bytes()].concat();
            for text in [id.as_str(), kind, "o-1", "placed", "{}"] {
                insert.push(b't');
                insert.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
                insert.extend(text.as_bytes());
            }
            out.push(change(place, &insert));
        }
        let end = [&b"C\0"[..], &at.to_be_bytes(), &(at + 10).to_be_bytes(), &time.to_be_bytes()];
        out.push(change(at, &end.concat()));
    }
    let end = script.log.last().map_or(0, |story| commit(story.0)) + 50;
    out.push(frame(b'd', &[&b"k"[..], &end.to_be_bytes(), &0u64.to_be_bytes(), b"\0"].concat()));
    out
}

fn relation() -> Vec<u8> {
    let mut out =
        [&b"R"[..], &RELATION.to_be_bytes(), b"public\0outbox\0d", &5u16.to_be_bytes()].concat();
    for name in ["id", "aggregatetype", "aggregateid", "type", "payload"] {
        out.extend([0]);
        out.extend(name.as_bytes());
        out.extend([0]);
        out.extend(25u32.to_be_bytes());
        out.extend((-1i32).to_be_bytes());
    }
    out
}

async fn serve(
    mut conn: TcpStream,
    script: &Mutex<Script>,
    told: &AtomicU64,
) -> std::io::Result<()> {
    let length = conn.read_u32().await?;
    let mut startup = vec![0; length as usize - 4];
    conn.read_exact(&mut startup).await?;
    conn.write_all(&[frame(b'R', &0u32.to_be_bytes()), frame(b'Z', b"I")].concat()).await?;
    loop {
        let tag = conn.read_u8().await?;
        let mut body = vec![0; conn.read_u32().await? as usize - 4];
        conn.read_exact(&mut body).await?;
        if tag != b'Q' {
            return Ok(());
        }
        let asked = String::from_utf8_lossy(&body).into_owned();
        if let Some(rest) = asked.split("LOGICAL ").nth(1).filter(|_| asked.starts_with("START")) {
            let from: Lsn = rest.split(' ').next().unwrap().parse().unwrap();
            return stream(conn, script, told, from.0).await;
        }
        let out = said(&asked, script, told);
        conn.write_all(&out).await?;
    }
}

/// The answer to what is asked in SQL, or in the words of replication.
fn said(asked: &str, script: &Mutex<Script>, told: &AtomicU64) -> Vec<u8> {
    let mut script = script.lock();
    let end = Lsn(script.log.last().map_or(10, |story| commit(story.0)) + 50).to_string();
    if asked.starts_with("IDENTIFY_SYSTEM") {
        return answer(&[vec![Some(script.system), Some("1"), Some(&end), Some("shop")]]);
    }
    if asked.contains("server_version_num") {
        return answer(&[vec![Some("170000"), Some("f"), Some("logical")]]);
    }
    if asked.contains("CREATE_REPLICATION_SLOT") {
        script.slot = Some(Lsn(10));
        told.store(10, SeqCst);
        return answer(&[vec![Some("weft_shop"), Some("0/A"), None, Some("pgoutput")]]);
    }
    if asked.contains("pg_current_wal_flush_lsn") {
        return answer(&[vec![Some(&end), Some("0/1"), Some("reserved")]]);
    }
    if asked.contains("pg_replication_slots") {
        let confirmed = script.slot.map(|slot| Lsn(slot.0.max(told.load(SeqCst))).to_string());
        let rows: Vec<_> = confirmed
            .iter()
            .map(|at| vec![Some("pgoutput"), Some("shop"), Some(&**at), Some("reserved")])
            .collect();
        return answer(&rows);
    }
    answer(&[vec![Some("t")]])
}

async fn stream(
    mut conn: TcpStream,
    script: &Mutex<Script>,
    told: &AtomicU64,
    from: u64,
) -> std::io::Result<()> {
    conn.write_all(&frame(b'W', &[0, 0, 0])).await?;
    let (frames, upto, lie) = {
        let script = script.lock();
        (frames(&script, from), script.frames, script.lie.clone())
    };
    if let Some(lie) = lie {
        conn.write_all(&lie).await?;
    } else {
        let cut = upto < frames.len();
        for frame in frames.into_iter().take(upto) {
            conn.write_all(&frame).await?;
        }
        if cut {
            return Ok(());
        }
    }
    // Statuses, until the outbox leaves: a server keeps the highest.
    loop {
        let tag = conn.read_u8().await?;
        let mut body = vec![0; conn.read_u32().await? as usize - 4];
        conn.read_exact(&mut body).await?;
        if tag == b'd' && body.first() == Some(&b'r') {
            told.fetch_max(u64::from_be_bytes(body[9..17].try_into().unwrap()), SeqCst);
        }
    }
}

/// A broker on a ledger of its own.
pub(crate) struct Node {
    pub(crate) broker: Broker,
    ledger: Ledger,
    map: MapId,
    folder: TempDir,
}

impl Node {
    pub(crate) async fn start() -> Self {
        Self::on(tempfile::tempdir().unwrap()).await
    }

    async fn on(folder: TempDir) -> Self {
        let (ledger, _) = Ledger::open_folder(
            folder.path(),
            weft_ledger::Options::default(),
            Arc::new(SystemClock),
        )
        .unwrap();
        let broker =
            Broker::open(Arc::new(ledger.clone()), Arc::new(SystemClock), Rng::seeded(1)).await;
        let broker = broker.unwrap();
        // Nothing but the outbox keeps doubles out.
        let options = TopicOptions { dedupe: None, ..TopicOptions::default() };
        for topic in ["orders", "users"] {
            broker.declare_topic(&Key::plain(topic).unwrap(), options.clone()).await.unwrap();
        }
        let limit = QueueLimit { messages: Some(1), ..QueueLimit::default() };
        let options = QueueOptions { limit, ..QueueOptions::default() };
        broker.declare_queue(&Key::plain("refused").unwrap(), options).await.unwrap();
        let map = ledger.create_map("positions", MapOptions::default()).await.unwrap();
        Self { broker, ledger, map, folder }
    }

    /// The process ends, and another one begins.
    pub(crate) async fn again(self) -> Self {
        let Self { broker, ledger, folder, .. } = self;
        broker.close();
        drop(broker);
        ledger.close().unwrap();
        drop(ledger);
        Self::on(folder).await
    }

    /// Forgets up to where anything was published, as if its outboxes had other names.
    pub(crate) async fn forget(&mut self, number: usize) {
        let name = format!("positions-{number}");
        self.map = self.ledger.create_map(&name, MapOptions::default()).await.unwrap();
    }

    /// An outbox that reads a server, once it runs.
    pub(crate) fn outbox(&self, server: &Server, refused_to: Option<&str>) -> Outbox {
        let url = format!("postgres://weft@127.0.0.1:{}/shop", server.port);
        let options = Options {
            name: Name::new("shop").unwrap(),
            database: Database::parse(&url).unwrap(),
            slot: "weft_shop".into(),
            publication: "weft_shop".into(),
            table: Some(Table {
                schema: "public".into(),
                name: "outbox".into(),
                columns: Columns::default(),
                to: Template::parse("{aggregatetype}").unwrap(),
                content_type: None,
            }),
            messages: None,
            source: "/shop".into(),
            refused_to: refused_to.map(|queue| Key::plain(queue).unwrap()),
            heartbeat: Duration::from_secs(60),
        };
        Outbox::new(options, self.broker.clone(), self.map, Arc::new(System), None)
    }

    /// The ids of what a topic has.
    pub(crate) async fn ids(&self, topic: &str) -> Vec<String> {
        let topic = self.broker.topic(&Key::plain(topic).unwrap()).unwrap();
        let limits = Limits { records: 10_000, bytes: 64 << 20 };
        let found = self.broker.browse(&topic, 0, limits).await.unwrap();
        let id = |message: weft_broker::Message| message.event().unwrap().id().to_owned();
        found.into_iter().filter_map(|one| one.message.map(id)).collect()
    }
}

/// Runs an outbox until a condition holds.
pub(crate) async fn until(outbox: &Outbox, what: &str, holds: impl AsyncFn() -> bool) {
    let reached = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let within = tokio::time::timeout(Duration::from_secs(30), async {
        tokio::select! {
            () = outbox.run() => panic!("it has ended"),
            () = reached => {}
        }
    });
    assert!(within.await.is_ok(), "{what}: {:?}", outbox.state());
}

/// Runs an outbox until it stands still, and gives why in a word.
pub(crate) async fn stopped(outbox: &Outbox) -> &'static str {
    until(outbox, "it stops", async || matches!(outbox.state(), State::Stopped(_))).await;
    match outbox.state() {
        State::Stopped(fault) => fault.word(),
        other => other.word(),
    }
}
