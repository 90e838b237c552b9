//! The proxies that are measured, each with an equivalent minimal configuration: two workers, no access
//! log, kept-alive connections to the upstream, X-Forwarded-For and a request id added, HTTP/1.1 and
//! gRPC routed by path.

mod envoy;
mod haproxy;
pub(crate) mod install;
mod nginx;
mod weft;

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::{child::Child, edge::Edge};

/// One of them; `Direct` is no proxy at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Peer {
    Direct,
    Weft,
    Nginx,
    Haproxy,
    Envoy,
}

impl Peer {
    pub(crate) const ALL: [Self; 5] =
        [Self::Direct, Self::Weft, Self::Nginx, Self::Haproxy, Self::Envoy];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Weft => "weft",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
        }
    }
}

/// The programs.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    pub(crate) weft: PathBuf,
    pub(crate) envoy: PathBuf,
}

/// What one proxy is told.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    /// Its own folder.
    pub(crate) folder: PathBuf,
    /// Where `server.pem`, `server.key` and `both.pem` are.
    pub(crate) certificates: PathBuf,
    pub(crate) http1: SocketAddr,
    pub(crate) http2: SocketAddr,
    pub(crate) tls: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) to_http1: SocketAddr,
    pub(crate) to_http2: SocketAddr,
    pub(crate) workers: usize,
    /// Connections that it must be able to hold.
    pub(crate) connections: u64,
    /// So many numbered routes on the first listener and none for the rest; without, one for all.
    pub(crate) routes: Option<usize>,
    /// What is asked of every request, before it is routed on; nothing without.
    pub(crate) edge: Option<Edge>,
}

impl Site {
    /// Paths that lead to the HTTP/1.1 upstream, and everything below them.
    fn prefixes(&self) -> Vec<String> {
        (0..self.routes.unwrap_or(0)).map(route).collect()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// The path of a numbered route.
pub(crate) fn route(number: usize) -> String {
    format!("/r/{number:05}")
}

/// Writes the configuration, whole or not at all, since some of them watch; returns the instant from
/// which it could be seen.
pub(crate) fn configure(peer: Peer, site: &Site) -> Result<Instant> {
    let files = match peer {
        Peer::Direct => Vec::new(),
        Peer::Weft => weft::files(site),
        Peer::Nginx => nginx::files(site),
        Peer::Haproxy => haproxy::files(site),
        Peer::Envoy => envoy::files(site)?,
    };
    let fresh = |name: &str| site.file(&format!("{name}.fresh"));
    for (name, text) in &files {
        fs::write(fresh(name), text).with_context(|| fresh(name).display().to_string())?;
    }
    let began = Instant::now();
    for (name, _) in &files {
        fs::rename(fresh(name), site.file(name))?;
    }
    Ok(began)
}

/// The command that runs it on its configuration; none for no proxy.
pub(crate) fn command(peer: Peer, programs: &Programs, site: &Site) -> Option<Command> {
    match peer {
        Peer::Direct => None,
        Peer::Weft => Some(weft::command(&programs.weft, site)),
        Peer::Nginx => Some(nginx::command(site)),
        Peer::Haproxy => Some(haproxy::command(site)),
        Peer::Envoy => Some(envoy::command(&programs.envoy, site)),
    }
}

/// Starts a command whose output goes to the site's log.
pub(crate) fn start(peer: Peer, command: &mut Command, site: &Site) -> Result<Child> {
    let log = File::create(site.file("log"))?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Child::start(peer.name(), command)
}

/// Tells it that its configuration has changed.
pub(crate) fn reload(peer: Peer, child: &Child) -> Result<()> {
    match peer {
        Peer::Weft | Peer::Nginx => child.signal(Signal::HUP),
        Peer::Haproxy => child.signal(Signal::USR2),
        // Sees it by itself.
        Peer::Envoy | Peer::Direct => Ok(()),
    }
}

/// What it says of its version.
pub(crate) fn version(peer: Peer, programs: &Programs) -> Result<String> {
    let mut command = match peer {
        Peer::Direct => return Ok("no proxy".into()),
        Peer::Weft => Command::new(&programs.weft),
        Peer::Nginx => Command::new("nginx"),
        Peer::Haproxy => Command::new("haproxy"),
        Peer::Envoy => Command::new(&programs.envoy),
    };
    command.arg(match peer {
        Peer::Nginx | Peer::Haproxy => "-v",
        _ => "--version",
    });
    let output = command.output().with_context(|| format!("the version of {}", peer.name()))?;
    // nginx tells it on standard error.
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("unknown");
    // Envoy begins with its path.
    let line = line.trim();
    let program = command.get_program().to_string_lossy();
    Ok(line.strip_prefix(program.as_ref()).unwrap_or(line).trim().to_owned())
}

/// The last lines of what it wrote.
pub(crate) fn log_tail(folder: &Path) -> String {
    let text = fs::read(folder.join("log")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}
