//! The listeners of a node over reloads: sockets, certificates, and what stands before the protocol.

use std::{collections::HashMap, os::fd::OwnedFd, sync::Arc, time::Duration};

use weft_identity::server::ServerIdentity;
use weft_kernel::{Name, SystemClock};
use weft_net::{
    Address, Workers,
    listen::{self, Bound},
};
use weft_proxy::{Entry, Local, ProxyProtocol};

use crate::config::plan::{ProxyMode, Socket};

/// The listeners that are open.
#[derive(Default)]
pub(super) struct Listeners {
    /// How many workers share each.
    count: usize,
    open: HashMap<Name, Open>,
    /// Sockets of a former process that nobody has claimed yet, by listener and address.
    inherited: Vec<(String, OwnedFd)>,
}

/// One listener.
struct Open {
    addresses: Vec<Address>,
    server: Option<Arc<ServerIdentity>>,
    socket: Socket,
}

/// What a new configuration needs, opened before the old one is given up.
pub(super) struct Opened {
    fresh: Vec<(Socket, Vec<Bound>, Option<Arc<ServerIdentity>>)>,
}

impl Listeners {
    pub(super) fn new(count: usize, inherited: Vec<(String, OwnedFd)>) -> Self {
        Self { count, open: HashMap::new(), inherited }
    }

    /// Closes the sockets of a former process that this configuration does not have.
    pub(super) fn forget_unclaimed(&mut self) {
        self.inherited = Vec::new();
    }

    /// Opens sockets and reads certificates; nothing is changed if any of it fails. At a start there are
    /// no workers yet.
    pub(super) fn prepare(
        &mut self,
        sockets: &[Socket],
        workers: Option<&Workers<Local>>,
    ) -> Result<Opened, Vec<String>> {
        let (mut fresh, mut faults) = (Vec::new(), Vec::new());
        for socket in sockets {
            if self.open.get(&socket.listener).is_some_and(|open| same(&open.socket, socket)) {
                continue;
            }
            match self.open_one(socket, workers) {
                Ok((bound, server)) => fresh.push((socket.clone(), bound, server)),
                Err(error) => faults.push(format!("listener {}: {error:#}", socket.listener)),
            }
        }
        if faults.is_empty() { Ok(Opened { fresh }) } else { Err(faults) }
    }

    fn open_one(
        &mut self,
        socket: &Socket,
        workers: Option<&Workers<Local>>,
    ) -> anyhow::Result<(Vec<Bound>, Option<Arc<ServerIdentity>>)> {
        let server = match &socket.tls {
            None => None,
            Some(tls) => Some(Arc::new(ServerIdentity::new(tls.clone(), Arc::new(SystemClock))?)),
        };
        Ok((self.bind(socket, workers)?, server))
    }

    /// The sockets of a listener: those that are open already, by whichever listener, those of a former
    /// process, or new ones.
    fn bind(
        &mut self,
        socket: &Socket,
        workers: Option<&Workers<Local>>,
    ) -> anyhow::Result<Vec<Bound>> {
        if let Some(workers) = workers
            && let Some(open) = self.open.get(&socket.listener)
            && open.addresses == socket.addresses
            && let Some(bound) = workers.bound(&socket.listener)?
        {
            return Ok(bound);
        }
        let name = socket.listener.to_string();
        let mut mine: Vec<OwnedFd> = Vec::new();
        let mut rest = Vec::new();
        for (of, descriptor) in std::mem::take(&mut self.inherited) {
            if of == name {
                mine.push(descriptor);
            } else {
                rest.push((of, descriptor));
            }
        }
        self.inherited = rest;
        let mut bound = Vec::new();
        for address in &socket.addresses {
            if let Some(open) = self.open_at(address, workers)? {
                bound.extend(open);
                continue;
            }
            let options = listen::Options {
                beside_own: self.overlaps(address),
                ..listen::Options::new(address.clone())
            };
            let (here, elsewhere): (Vec<_>, Vec<_>) =
                mine.into_iter().partition(|descriptor| listens_at(descriptor, address));
            mine = elsewhere;
            bound.extend(if here.is_empty() {
                listen::bind(&options, self.count)?
            } else {
                listen::adopt(here, &options, self.count)?
            });
        }
        Ok(bound)
    }

    /// Further descriptors of the sockets at an address that some listener has open. Port 0 is the address of
    /// none: it has become another.
    fn open_at(
        &self,
        address: &Address,
        workers: Option<&Workers<Local>>,
    ) -> anyhow::Result<Option<Vec<Bound>>> {
        let Some(workers) = workers else { return Ok(None) };
        let Some((name, _)) = self.open.iter().find(|(_, open)| open.addresses.contains(address))
        else {
            return Ok(None);
        };
        let bound = workers.bound(name)?.unwrap_or_default();
        let here: Vec<Bound> =
            bound.into_iter().filter(|bound| bound.address() == address).collect();
        Ok((!here.is_empty()).then_some(here))
    }

    /// Whether a listener has sockets open for some of what an address is for, which it gives up when the
    /// new ones accept: one configuration has no two such addresses.
    fn overlaps(&self, address: &Address) -> bool {
        let Address::Tcp(wanted) = address else { return false };
        self.open.values().flat_map(|open| &open.addresses).any(|open| match open {
            Address::Tcp(open) => {
                open.port() == wanted.port()
                    && (open.ip().is_unspecified() || wanted.ip().is_unspecified())
            }
            Address::Unix(_) => false,
        })
    }

    /// Stops on listeners that a configuration no longer has, before it is in force: what came by them
    /// ends with the one that has them. Their addresses may live on in what was opened, and with them what
    /// waits in their queues.
    pub(super) async fn retire(
        &mut self,
        sockets: &[Socket],
        workers: &Workers<Local>,
        drain: Duration,
    ) {
        let deadline = SystemClock::tick().plus(drain);
        let gone: Vec<Name> = self
            .open
            .keys()
            .filter(|name| !sockets.iter().any(|socket| socket.listener == **name))
            .cloned()
            .collect();
        for name in gone {
            self.open.remove(&name);
            workers.unlisten(&name, deadline).await;
        }
    }

    /// Begins to accept on what was opened.
    pub(super) async fn commit(
        &mut self,
        opened: Opened,
        workers: &Workers<Local>,
        drain: Duration,
    ) -> anyhow::Result<()> {
        let deadline = SystemClock::tick().plus(drain);
        for (socket, bound, server) in opened.fresh {
            let name = socket.listener.clone();
            let entry = Arc::new(entry(&socket, server.as_ref()));
            if self.open.remove(&name).is_some() {
                // The sockets live on in `bound`, and with them what waits in their queues.
                workers.unlisten(&name, deadline).await;
            }
            workers
                .listen(&name, bound, move |local, connection| {
                    weft_proxy::serve(local, connection, entry.clone())
                })
                .await?;
            let addresses = socket.addresses.clone();
            self.open.insert(name, Open { addresses, server, socket });
        }
        Ok(())
    }

    /// Reads certificates anew; a listener keeps its old ones if there is anything wrong.
    pub(super) fn reload_certificates(&self) {
        for (name, open) in &self.open {
            let Some(server) = &open.server else { continue };
            if let Err(faults) = server.reload() {
                tracing::warn!(listener = %name, "certificates refused, the old ones stay: {faults}");
            }
        }
    }

    /// The certificates of each listener, for status.
    pub(super) fn certificates(&self) -> Vec<(Name, Vec<weft_identity::certificate::CertInfo>)> {
        self.open
            .iter()
            .filter_map(|(name, open)| Some((name.clone(), open.server.as_ref()?.certificates())))
            .collect()
    }
}

/// Whether the sockets and what stands before the protocol stay as they are.
fn same(a: &Socket, b: &Socket) -> bool {
    a.addresses == b.addresses
        && a.tls == b.tls
        && a.proxy_protocol == b.proxy_protocol
        && a.proxy_protocol_from == b.proxy_protocol_from
}

/// Whether an inherited socket listens at an address.
fn listens_at(descriptor: &OwnedFd, address: &Address) -> bool {
    match listen::address_of(descriptor) {
        Some(Address::Tcp(found)) => match address {
            Address::Tcp(wanted) => found == *wanted || wanted.port() == 0,
            Address::Unix(_) => false,
        },
        Some(found) => found == *address,
        None => false,
    }
}

fn entry(socket: &Socket, server: Option<&Arc<ServerIdentity>>) -> Entry {
    let from = socket.proxy_protocol_from.clone();
    Entry {
        listener: socket.listener.clone(),
        tls: server.cloned(),
        proxy_protocol: match socket.proxy_protocol {
            ProxyMode::Off => ProxyProtocol::Off,
            ProxyMode::Accept => ProxyProtocol::Accepted(from),
            ProxyMode::Require => ProxyProtocol::Required(from),
        },
    }
}
