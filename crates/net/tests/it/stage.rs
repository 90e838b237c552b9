//! What several tests stand on: certificates, listeners on free ports, and waits that end.

use std::{future::Future, sync::Arc, time::Duration};

use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{PrivatePkcs8KeyDer, ServerName};
use weft_kernel::{SystemClock, Tick};
use weft_net::{
    Address, ClientTls, ConnectTarget, Listener,
    listen::{self, Bound, Options},
};

/// Longer than anything here takes on a busy machine; reaching it is a failure.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// The tick in which everything should long be over.
pub(crate) fn far() -> Tick {
    SystemClock::tick().plus(LONG)
}

/// Fails the test when the work never ends.
pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, work).await.expect("it should have ended by now")
}

/// Waits until a condition holds.
pub(crate) async fn until(mut condition: impl FnMut() -> bool) {
    soon(async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

pub(crate) fn local() -> Address {
    "127.0.0.1:0".parse().unwrap()
}

pub(crate) fn bound(count: usize) -> Vec<Bound> {
    listen::bind(&Options::new(local()), count).unwrap()
}

pub(crate) fn listener() -> Listener {
    bound(1).remove(0).into_listener().unwrap()
}

/// A server's configuration for a name, and how a client reaches it.
pub(crate) fn tls(name: &str, alpn: &[&[u8]]) -> (Arc<ServerConfig>, ClientTls) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key.into())
        .unwrap();
    server.alpn_protocols = alpn.iter().map(|id| id.to_vec()).collect();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = server.alpn_protocols.clone();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    (Arc::new(server), ClientTls { config: Arc::new(client), name })
}

pub(crate) fn over_tls(address: &Address, tls: &ClientTls) -> ConnectTarget {
    ConnectTarget { tls: Some(tls.clone()), ..ConnectTarget::plain(address.clone()) }
}
