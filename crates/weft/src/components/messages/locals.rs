//! What of messages routes and listeners can name. A snapshot is bound to it before what it stands on is
//! open, so that a configuration is refused without having opened anything.

use std::{
    rc::Rc,
    sync::{Arc, OnceLock},
};

use weft_amqp::Server;
use weft_broker_http::{Handle, Targets};
use weft_kernel::{Error, Name, Reason, Result};
use weft_net::{Address, Io, Stop, message::Peer};
use weft_proxy::{Acceptor, Handlers, Local, LocalFuture};

use crate::config::plan::AMQP;

/// The local handlers and acceptors of messages.
#[derive(Clone, Default)]
pub struct Locals {
    messages: Targets,
    amqp: Arc<OnceLock<Server>>,
}

impl Locals {
    /// Adds them to what routes and listeners can name.
    pub(super) fn register(&self, handlers: Handlers) -> Handlers {
        self.messages.register(handlers).with_acceptor(AMQP, Amqp(self.amqp.clone()))
    }

    /// Gives them what they stand on, once.
    pub(super) fn open(&self, handle: Handle, amqp: Server) {
        self.messages.open(handle);
        let _ = self.amqp.set(amqp);
    }
}

/// Connections of listeners that speak AMQP.
struct Amqp(Arc<OnceLock<Server>>);

impl Acceptor for Amqp {
    fn accept<'a>(
        &'a self,
        _local: &'a Rc<Local>,
        _listener: &'a Name,
        io: Io,
        peer: Peer,
        stop: Stop,
    ) -> LocalFuture<'a, Result<()>> {
        let shown = peer.tls.as_ref().and_then(|tls| tls.peer_certificates.first());
        let names = shown.and_then(weft_identity::peer::names);
        let peer = weft_amqp::ClientPeer {
            address: peer.address.to_string(),
            loopback: match &peer.address {
                Address::Tcp(address) => address.ip().to_canonical().is_loopback(),
                Address::Unix(_) => true,
            },
            certificate: names.map(|names| names.label().to_owned()),
        };
        Box::pin(async move {
            let nobody = || Error::new(Reason::Misconfigured, "AMQP is not open on this node");
            self.0.get().ok_or_else(nobody)?.serve(io, peer, stop).await;
            Ok(())
        })
    }
}
