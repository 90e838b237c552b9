//! Servers that are started: each on ports that are free now, in a temporary folder, with nothing of the
//! machine's own configuration, and ended by their process ids.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::{
    client::Reach,
    target::{Protocol, Server, Target},
};
use crate::{
    child::Child,
    peer::{
        install::{self, NATS},
        log_tail,
    },
    poll,
    testbed::free_ports,
};

/// How long a server may take until it answers; a repair of gigabytes is in it.
const READY: Duration = Duration::from_secs(180);
const RABBITMQ: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

/// The programs.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    weft: PathBuf,
    nats: PathBuf,
}

impl Programs {
    /// Finds those of these servers, and gets what is missing.
    pub(super) fn get(servers: &[Server], weft: Option<&Path>) -> Result<Self> {
        let weft = match weft {
            _ if !servers.contains(&Server::Weft) => PathBuf::new(),
            Some(path) => path.to_owned(),
            None => install::built()?,
        };
        let rabbitmq = servers.contains(&Server::RabbitMq) && !Path::new(RABBITMQ).is_file();
        install::apt(if rabbitmq { &["rabbitmq-server"] } else { &[] })?;
        let nats = servers.contains(&Server::Nats) || servers.contains(&Server::NatsAlways);
        let nats = match NATS.found() {
            Some(path) => path,
            None if nats => NATS.get()?,
            None => PathBuf::new(),
        };
        Ok(Self { weft, nats })
    }

    /// What a server says of its version.
    pub(super) fn version(&self, server: Server) -> Result<String> {
        let mut command = match server {
            Server::Weft => Command::new(&self.weft),
            Server::Nats | Server::NatsAlways => Command::new(&self.nats),
            Server::RabbitMq => {
                let mut command = Command::new("dpkg-query");
                command.args(["--show", "--showformat", "rabbitmq ${Version}"]);
                command.arg("rabbitmq-server");
                command
            }
        };
        if server != Server::RabbitMq {
            command.arg("--version");
        }
        let output = command.output().with_context(|| server.name())?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

/// A server that runs. It is gone when this is dropped, without a goodbye; so is its folder when its owner
/// drops that.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) server: Server,
    folder: PathBuf,
    ports: [SocketAddr; 4],
    child: Child,
    /// Names Erlang's nodes to one another.
    names: Option<Child>,
}

impl Running {
    /// Starts it in a folder of its own, and waits until it answers.
    pub(super) fn start(programs: &Programs, server: Server, folder: PathBuf) -> Result<Self> {
        fs::create_dir_all(&folder)?;
        let ports = free_ports()?;
        configure(server, &folder, ports)?;
        let names = match server {
            Server::RabbitMq => {
                let mut command = Command::new("epmd");
                command.args(["-address", "127.0.0.1", "-port", &ports[1].port().to_string()]);
                Some(Child::start("epmd", command.stdin(Stdio::null()).stdout(Stdio::null()))?)
            }
            _ => None,
        };
        let child = launch(programs, server, &folder, ports)?;
        let mut running = Self { server, folder, ports, child, names };
        running.ready()?;
        Ok(running)
    }

    /// Kills it as a loss of power would, and starts it again on what it left; the time from the start until
    /// `answers` has something to say.
    pub(super) fn crash_and_restart<T>(
        &mut self,
        programs: &Programs,
        mut answers: impl FnMut(&Self) -> Result<T>,
    ) -> Result<(Duration, T)> {
        self.child.kill()?;
        let began = Instant::now();
        self.child = launch(programs, self.server, &self.folder, self.ports)?;
        let found = poll::until("an answer after the crash", READY, || {
            self.child.check()?;
            Ok(answers(self).ok())
        });
        let found = found.with_context(|| self.said())?;
        Ok((began.elapsed(), found))
    }

    /// How a target is reached.
    pub(super) fn reach(&self, target: Target) -> Reach {
        let protocol = target.protocol();
        let address = match protocol {
            Protocol::Http => self.ports[1],
            Protocol::Amqp(_) | Protocol::Nats => self.ports[0],
        };
        Reach { protocol, address }
    }

    fn ready(&mut self) -> Result<()> {
        let target = Target::ALL.into_iter().find(|target| target.server() == self.server);
        let reach = self.reach(target.context("a server without a target")?);
        let child = &mut self.child;
        let answers = poll::until("an answer", READY, || {
            child.check()?;
            Ok(reach.create_all(&[]).ok())
        });
        answers.with_context(|| self.said())
    }

    fn said(&self) -> String {
        format!("{} said:\n{}", self.server.name(), log_tail(&self.folder))
    }

    pub(super) fn cpu(&self) -> Duration {
        self.child.cpu()
    }

    pub(super) fn memory_kib(&self) -> u64 {
        self.child.memory_kib()
    }

    /// Waits until it has nothing left to do, or has had time enough.
    pub(super) fn quiet(&self) -> Result<()> {
        self.child.quiet()
    }

    /// Bytes in its folder.
    pub(super) fn on_disk(&self) -> u64 {
        size(&self.folder)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself, which was told elsewhere.
        let _ = self.child.kill();
        if let Some(mut names) = self.names.take() {
            let _ = names.kill();
        }
    }
}

fn size(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    let of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => size(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    };
    entries.flatten().map(of).sum()
}

/// Writes what it is told. Everything is a default but addresses, folders, and NATS's `sync_interval`
/// where that is the point.
fn configure(server: Server, folder: &Path, ports: [SocketAddr; 4]) -> Result<()> {
    let here = folder.display();
    let files = match server {
        Server::Weft => vec![(
            "weft.yaml",
            format!(
                "admin: {}\nledger: {{ path: {here}/data }}\n\
                 telemetry: {{ access_log: off, log: warn }}\n\
                 listeners: {{ amqp: {{ address: \"{}\", protocol: amqp }} }}\n",
                ports[1], ports[0]
            ),
        )],
        Server::RabbitMq => vec![
            ("rabbitmq.conf", format!("listeners.tcp.1 = {}\nlog.file.level = error\n", ports[0])),
            ("plugins", "[].\n".to_owned()),
        ],
        Server::Nats | Server::NatsAlways => {
            let sync = if server == Server::NatsAlways { ", sync_interval: always" } else { "" };
            vec![(
                "nats.conf",
                format!(
                    "listen: {}\njetstream {{ store_dir: {here}/data, max_file_store: 40GB{sync} }}\n",
                    ports[0]
                ),
            )]
        }
    };
    for (name, text) in files {
        fs::write(folder.join(name), text)?;
    }
    Ok(())
}

/// Starts it on what is configured.
fn launch(
    programs: &Programs,
    server: Server,
    folder: &Path,
    ports: [SocketAddr; 4],
) -> Result<Child> {
    let mut command = match server {
        Server::Weft => {
            let mut command = Command::new(&programs.weft);
            command.arg("up").arg("--config").arg(folder.join("weft.yaml"));
            command
        }
        Server::Nats | Server::NatsAlways => {
            let mut command = Command::new(&programs.nats);
            command.arg("--config").arg(folder.join("nats.conf"));
            command
        }
        Server::RabbitMq => {
            let mut command = Command::new(RABBITMQ);
            command
                .env("HOME", folder)
                .env("ERL_EPMD_ADDRESS", "127.0.0.1")
                .env("ERL_EPMD_PORT", ports[1].port().to_string())
                .env("RABBITMQ_NODENAME", format!("bench{}@localhost", ports[0].port()))
                .env("RABBITMQ_DIST_PORT", ports[2].port().to_string())
                .env("RABBITMQ_MNESIA_BASE", folder.join("data"))
                .env("RABBITMQ_LOG_BASE", folder.join("logs"))
                .env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq.conf"))
                .env("RABBITMQ_ENABLED_PLUGINS_FILE", folder.join("plugins"))
                // Without a shell that stays in between.
                .env("RUNNING_UNDER_SYSTEMD", "1")
                .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
                .env("RABBITMQ_PID_FILE", folder.join("pid"))
                .env(
                    "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                    "-kernel inet_dist_use_interface {127,0,0,1}",
                );
            command
        }
    };
    let log = File::options().create(true).append(true).open(folder.join("log"))?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Child::start(server.name(), &mut command)
}
