//! What every measurement stands on: a temporary folder, certificates, the upstream, free ports, and
//! proxies that are known to answer and to do equal work before anything is measured.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt,
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;

use crate::{
    certificates::{self, Trust},
    child::Child,
    edge,
    load::{self, Asked},
    peer,
    peer::{Peer, Programs, Site},
    poll,
    scenario::{Protocol, Scenario},
    upstream::{self, Ports},
};

/// How long a proxy may take to answer; Envoy takes seconds, and anything under valgrind more.
const READY: Duration = Duration::from_secs(60);
/// Connections that a proxy is told to be able to hold, where descriptors allow.
const CONNECTIONS: u64 = 8_000;

/// The stand. When it is dropped, the upstream ends and the folder is gone.
pub(crate) struct Testbed {
    pub(crate) programs: Programs,
    pub(crate) trust: Trust,
    pub(crate) upstream: Child,
    ports: Ports,
    connections: u64,
    /// Tokens that every load shows.
    pub(crate) tokens: Vec<String>,
    folder: TempDir,
}

/// A proxy that runs, or none.
pub(crate) struct Running {
    pub(crate) peer: Peer,
    pub(crate) site: Site,
    pub(crate) child: Option<Child>,
}

impl Testbed {
    pub(crate) fn new(programs: Programs) -> Result<Self> {
        let files = raise_descriptors()?;
        let folder = tempfile::Builder::new()
            .prefix("weft-bench-")
            // The workers of nginx run as nobody and walk through here.
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()?;
        let trust = certificates::write(folder.path())?;
        let (upstream, ports) = upstream::start(folder.path())?;
        // Two sides a connection, and some for the rest.
        let connections = CONNECTIONS.min(files / 2 - 100);
        Ok(Self { programs, trust, upstream, ports, connections, tokens: Vec::new(), folder })
    }

    /// A site with free ports and a folder of its own.
    pub(crate) fn site(&self, peer: Peer, name: &str, workers: usize) -> Result<Site> {
        let folder = self.folder.path().join(format!("{}-{name}", peer.name()));
        fs::create_dir_all(&folder)?;
        let [mut http1, mut http2, mut tls, admin] = free_ports()?;
        if peer == Peer::Direct {
            Ports { http1, http2, tls } = self.ports;
        }
        Ok(Site {
            folder,
            certificates: self.folder.path().to_owned(),
            http1,
            http2,
            tls,
            admin,
            to_http1: self.ports.http1,
            to_http2: self.ports.http2,
            workers,
            connections: self.connections,
            routes: None,
            edge: None,
        })
    }

    /// Starts a proxy on its site and waits until it answers.
    pub(crate) fn start(&self, peer: Peer, site: Site) -> Result<Running> {
        self.start_with(peer, site, |command| command)
    }

    /// The same, with the command changed first.
    pub(crate) fn start_with(
        &self,
        peer: Peer,
        site: Site,
        change: impl FnOnce(Command) -> Command,
    ) -> Result<Running> {
        peer::configure(peer, &site)?;
        let child = match peer::command(peer, &self.programs, &site) {
            Some(command) => Some(peer::start(peer, &mut change(command), &site)?),
            None => None,
        };
        let mut running = Running { peer, site, child };
        let folder = running.site.folder.clone();
        running.ready(&self.tokens).with_context(|| {
            format!(
                "{} does not answer as it should; it said:\n{}",
                peer.name(),
                peer::log_tail(&folder)
            )
        })?;
        Ok(running)
    }
}

impl Running {
    /// Waits for the first good answer, and sees in it that the proxy does what all of them must.
    fn ready(&mut self, tokens: &[String]) -> Result<()> {
        let path = match self.site.routes {
            None => "/headers".to_owned(),
            Some(_) => format!("{}/", peer::route(0)),
        };
        let to = self.site.http1;
        let child = &mut self.child;
        let text = poll::until("an answer", READY, || {
            if let Some(child) = child {
                child.check()?;
            }
            Ok(match load::get(to, Asked { path: &path, tokens }, Duration::from_secs(5)) {
                Ok((200, text)) => Some(text),
                Ok(_) | Err(_) => None,
            })
        })?;
        if self.peer != Peer::Direct && self.site.routes.is_none() {
            let consumer = self.site.edge.as_ref().map(|_| edge::CONSUMER);
            for field in ["x-forwarded-for", "x-request-id"].into_iter().chain(consumer) {
                if !text.lines().any(|line| line == field) {
                    bail!("no {field} reached the upstream: the work would not be equal");
                }
            }
        }
        Ok(())
    }

    /// What it is called: with what asks who calls, otherwise.
    pub(crate) fn name(&self) -> &'static str {
        match (self.peer, &self.site.edge) {
            (Peer::Weft, Some(_)) => "weft edge",
            (Peer::Envoy, Some(_)) => "envoy edge",
            (peer, _) => peer.name(),
        }
    }

    /// Where a scenario finds it.
    pub(crate) fn address(&self, scenario: &Scenario) -> SocketAddr {
        match scenario.protocol {
            _ if scenario.tls => self.site.tls,
            Protocol::Http1 => self.site.http1,
            Protocol::Http2 | Protocol::Grpc => self.site.http2,
        }
    }

    /// The processor time of its tree so far; nothing for no proxy.
    pub(crate) fn cpu(&self) -> Duration {
        self.child.as_ref().map_or(Duration::ZERO, Child::cpu)
    }

    /// The memory of its tree in KiB, once that no longer changes.
    pub(crate) fn settled_memory_kib(&self) -> Result<u64> {
        let Some(child) = &self.child else { return Ok(0) };
        // Buffers are given back by timers of a second or so.
        let mut last = Vec::new();
        poll::until("memory that settles", Duration::from_secs(20), || {
            std::thread::sleep(Duration::from_millis(500));
            let now = child.memory_kib();
            last.push(now);
            let recent = &last[last.len().saturating_sub(4)..];
            let steady =
                recent.len() == 4 && recent.iter().all(|then| then.abs_diff(now) <= now / 100);
            Ok(steady.then_some(now))
        })
    }
}

/// Ports that nobody listens on. They are all held until the last is found, so that they differ.
pub(crate) fn free_ports<const N: usize>() -> Result<[SocketAddr; N]> {
    let mut held = Vec::with_capacity(N);
    let mut ports = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); N];
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        *port = listener.local_addr()?;
        held.push(listener);
    }
    Ok(ports)
}

/// Raises the descriptors of this process, and so of its children, to what is allowed.
pub(crate) fn raise_descriptors() -> Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    let files = limit.maximum.unwrap_or(65_536).min(65_536).max(limit.current.unwrap_or(0));
    setrlimit(Resource::Nofile, Rlimit { current: Some(files), maximum: limit.maximum })?;
    if files < 4_096 {
        bail!("only {files} descriptors are allowed (ulimit -n); the benchmark needs 4096");
    }
    Ok(files.min(65_536))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_differ() {
        let ports = free_ports::<4>().expect("ports");
        for (index, port) in ports.iter().enumerate() {
            assert!(port.port() != 0 && !ports[..index].contains(port));
        }
    }
}
