//! The admin API.

use std::sync::Arc;

use weft_net::Address;

use crate::{config::leaf::Secret, node::Node};

/// Opens the socket of the admin API.
pub async fn bind(_address: &Address) -> anyhow::Result<()> {
    Ok(())
}

/// Serves the admin API until `stop` is ready.
pub async fn serve(
    _node: Arc<Node>,
    _listener: (),
    _token: Option<Secret>,
    stop: impl Future<Output = ()>,
) {
    stop.await;
}
