//! Servers that are started, each in a folder of its own: a node, the store in this program, PostgreSQL.
//! Those that are processes are ended by their ids.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::Signal;
use tokio::{runtime::Runtime, task::JoinSet};
use weft_events::EventStore;
use weft_kernel::SystemClock;
use weft_ledger::{EmbeddedStore as _, Ledger, Options};

use super::{
    client::{self, Client, Reach},
    target::Target,
};
use crate::{
    child::{Child, own_cpu, own_memory_kib},
    peer::{install, log_tail},
    poll,
    record::durable::Target as _,
    testbed::free_ports,
};

/// How long a server may take until it answers.
const READY: Duration = Duration::from_secs(60);
/// How long PostgreSQL may take to end, with what it has yet to write.
const END: Duration = Duration::from_secs(60);
/// Where Debian has PostgreSQL's versions.
const VERSIONS: &str = "/usr/lib/postgresql";
/// The role of the database, and on the machine who runs it where this program is root, which it refuses.
const ROLE: &str = "bench";
const OWNER: &str = "postgres";
/// What is not PostgreSQL's default: room in memory and between checkpoints, both to its advantage.
const SETTINGS: &[&str] = &[
    "listen_addresses=",
    "max_connections=100",
    "fsync=on",
    "synchronous_commit=on",
    "shared_buffers=1GB",
    "max_wal_size=8GB",
];

/// The programs.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    weft: PathBuf,
    /// The folder of PostgreSQL's programs.
    postgres: PathBuf,
}

impl Programs {
    /// Finds those of these targets, and gets what is missing.
    pub(super) fn get(targets: &[Target], weft: Option<&Path>) -> Result<Self> {
        let weft = match weft {
            _ if !targets.contains(&Target::Weft) => PathBuf::new(),
            Some(path) => path.to_owned(),
            None => install::built()?,
        };
        let postgres = match newest() {
            Some(folder) => folder,
            None if targets.contains(&Target::Postgres) => {
                install::apt(&["postgresql"])?;
                newest().with_context(|| format!("no PostgreSQL below {VERSIONS}"))?
            }
            None => PathBuf::new(),
        };
        Ok(Self { weft, postgres })
    }

    /// What a target says of its version.
    pub(super) fn version(&self, target: Target) -> Result<String> {
        let program = match target {
            Target::Weft => &self.weft,
            Target::WeftStore => return Ok("of this program".to_owned()),
            Target::Postgres => &self.postgres.join("postgres"),
        };
        let output = Command::new(program).arg("--version").output();
        let output = output.with_context(|| target.name())?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

/// The programs of the newest version that is installed.
fn newest() -> Option<PathBuf> {
    let versions = fs::read_dir(VERSIONS).ok()?.flatten().filter_map(|entry| {
        let version: u32 = entry.file_name().to_str()?.parse().ok()?;
        let folder = entry.path().join("bin");
        folder.join("postgres").is_file().then_some((version, folder))
    });
    versions.max().map(|(_, folder)| folder)
}

/// A server that runs, until this is dropped.
pub(super) struct Running {
    pub(super) reach: Reach,
    held: Held,
}

enum Held {
    Child(Child),
    /// Stopped with the fast shutdown that PostgreSQL has for SIGINT: its processes and memory are gone then.
    Postgres(Child),
    Ledger(Ledger),
}

impl Running {
    /// Starts it, and waits until it answers.
    pub(super) fn start(
        programs: &Programs,
        target: Target,
        folder: &Path,
        runtime: &Runtime,
    ) -> Result<Self> {
        fs::create_dir_all(folder)?;
        match target {
            Target::Weft => node(&programs.weft, folder, runtime),
            Target::WeftStore => store(folder, runtime),
            Target::Postgres => postgres(&programs.postgres, folder, runtime),
        }
    }

    pub(super) fn cpu(&self) -> Duration {
        match &self.held {
            Held::Child(child) | Held::Postgres(child) => child.cpu(),
            Held::Ledger(_) => own_cpu(),
        }
    }

    pub(super) fn memory_kib(&self) -> u64 {
        match &self.held {
            Held::Child(child) | Held::Postgres(child) => child.memory_kib(),
            Held::Ledger(_) => own_memory_kib(),
        }
    }

    /// Waits until it has nothing left to do, or has had time enough.
    pub(super) fn quiet(&self) -> Result<()> {
        match &self.held {
            Held::Child(child) | Held::Postgres(child) => child.quiet(),
            Held::Ledger(_) => Ok(()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended by itself was told of elsewhere.
        match &mut self.held {
            Held::Child(child) => drop(child.kill()),
            Held::Postgres(child) => {
                let ended = child.signal(Signal::INT).and_then(|()| child.wait(END).map(drop));
                if ended.is_err() {
                    drop(child.kill());
                }
            }
            Held::Ledger(ledger) => drop(ledger.close()),
        }
    }
}

fn node(program: &Path, folder: &Path, runtime: &Runtime) -> Result<Running> {
    let [admin] = free_ports()?;
    let here = folder.display();
    let text = format!(
        "admin: {admin}\nledger: {{ path: {here}/data }}\nstreams: true\n\
         telemetry: {{ access_log: off, log: warn }}\n"
    );
    fs::write(folder.join("weft.yaml"), text)?;
    let mut command = Command::new(program);
    command.arg("up").arg("--config").arg(folder.join("weft.yaml"));
    let mut child = launch(Target::Weft, command, folder)?;
    let reach = Reach::Http(admin);
    ready(&mut child, &reach, folder, runtime)?;
    Ok(Running { reach, held: Held::Child(child) })
}

fn store(folder: &Path, runtime: &Runtime) -> Result<Running> {
    let said = |error: weft_kernel::Error| anyhow!("{}", error.detail());
    let (ledger, _) =
        Ledger::open_folder(folder, Options::default(), Arc::new(SystemClock)).map_err(said)?;
    ledger.start().map_err(said)?;
    let namespace = ledger.embedded_namespace("events").map_err(said)?;
    let store = runtime.block_on(EventStore::open(namespace)).map_err(said)?;
    Ok(Running { reach: Reach::Store(store), held: Held::Ledger(ledger) })
}

fn postgres(programs: &Path, folder: &Path, runtime: &Runtime) -> Result<Running> {
    let root = rustix::process::geteuid().is_root();
    if root {
        done(Command::new("chown").arg(format!("{OWNER}:")).arg(folder))?;
    }
    let data = folder.join("data");
    let run = |name: &str| {
        let program = programs.join(name);
        let mut command = if root {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", OWNER, "--regid", OWNER, "--clear-groups"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.arg("-D").arg(&data).current_dir(folder);
        command
    };
    let mut made = run("initdb");
    made.args(["--username", ROLE, "--auth", "trust", "--locale", "C", "--encoding", "UTF8"]);
    done(made.stdout(Stdio::null()))?;
    let mut command = run("postgres");
    command.arg("-k").arg(folder);
    for setting in SETTINGS {
        command.arg("-c").arg(setting);
    }
    let mut child = launch(Target::Postgres, command, folder)?;
    let made = poll::until("an answer", READY, || {
        child.check()?;
        Ok(runtime.block_on(client::create(folder, ROLE)).ok())
    });
    made.with_context(|| format!("postgres said:\n{}", log_tail(folder)))?;
    let reach = Reach::Postgres(folder.to_owned(), ROLE.to_owned());
    ready(&mut child, &reach, folder, runtime)?;
    Ok(Running { reach, held: Held::Postgres(child) })
}

fn done(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    let status = command.stdin(Stdio::null()).status().with_context(|| shown.clone())?;
    if !status.success() {
        bail!("{shown}: {status}");
    }
    Ok(())
}

fn launch(target: Target, mut command: Command, folder: &Path) -> Result<Child> {
    let log = File::options().create(true).append(true).open(folder.join("log"))?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Child::start(target.name(), &mut command)
}

/// Waits until it counts what it has.
fn ready(child: &mut Child, reach: &Reach, folder: &Path, runtime: &Runtime) -> Result<()> {
    let count = async || {
        let mut tasks = JoinSet::new();
        let mut client: Client = reach.connect(&mut tasks).await?;
        client.count().await
    };
    let answers = poll::until("an answer", READY, || {
        child.check()?;
        Ok(runtime.block_on(count()).ok())
    });
    answers.with_context(|| format!("it said:\n{}", log_tail(folder))).map(drop)
}
