//! Whom the node believes outside, in requests that go along no route.

use std::{path::PathBuf, sync::Arc};

use weft_identity::{
    Pem,
    client::{Authorities, ClientIdentity, ClientOptions},
};
use weft_kernel::SystemClock;
use weft_net::client::Tls;

/// The TLS of a client that believes the authority in a file, or those of the system; with what it stands on,
/// which can be read again.
///
/// # Errors
/// What is wrong with the authorities.
pub(super) fn trust(ca_file: Option<PathBuf>) -> anyhow::Result<(Arc<ClientIdentity>, Tls)> {
    let authorities = match ca_file {
        Some(path) => Authorities::Files(vec![Pem::File(path)]),
        None => Authorities::System,
    };
    let options = ClientOptions { authorities, ..ClientOptions::default() };
    let identity = Arc::new(ClientIdentity::new(options, Arc::new(SystemClock))?);
    let shown = Arc::clone(&identity);
    Ok((identity, Box::new(move || shown.config())))
}
