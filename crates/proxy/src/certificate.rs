//! The client's certificate: read once a connection, and only if somebody asks.

use std::{cell::OnceCell, rc::Rc};

use weft_identity::peer::{self, Names};
use weft_net::message::Peer;

/// What the certificate of a connection's client says, shared by its requests.
#[derive(Clone, Default)]
pub(crate) struct Certificate(Rc<OnceCell<Option<Names>>>);

impl Certificate {
    /// Whether a client has shown one, which the handshake has verified.
    pub(crate) fn is_shown(peer: &Peer) -> bool {
        peer.tls.as_ref().is_some_and(|tls| !tls.peer_certificates.is_empty())
    }

    /// The names in it.
    pub(crate) fn names(&self, peer: &Peer) -> Option<&Names> {
        let shown = peer.tls.as_ref()?.peer_certificates.first()?;
        self.0.get_or_init(|| peer::names(shown)).as_ref()
    }
}
