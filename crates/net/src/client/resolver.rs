//! Addresses of the hosts that a [`Client`](super::Client) connects to.

use std::{
    future::Future,
    net::{IpAddr, SocketAddr},
    pin::Pin,
};

use weft_kernel::{Error, Reason, Result};

/// The future of one look-up.
pub type Resolving<'a> = Pin<Box<dyn Future<Output = Result<Vec<IpAddr>>> + Send + 'a>>;

/// A source of the addresses of hosts, which a client may be given in place of the system's.
pub trait Resolver: Send + Sync {
    /// The addresses of a host, the one to be tried first in front. The host is no address itself.
    ///
    /// # Errors
    /// Why there are none, or why nobody can tell.
    fn resolve<'a>(&'a self, host: &'a str) -> Resolving<'a>;
}

/// The resolver of the operating system, on a thread of the runtime that may block.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Resolver for System {
    fn resolve<'a>(&'a self, host: &'a str) -> Resolving<'a> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, 0)).await;
            let found = found.map_err(|error| unknown(host).because(error))?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// The addresses of a server, of which there is at least one.
///
/// # Errors
/// Why there is none, or why nobody can tell.
pub async fn addresses(resolver: &dyn Resolver, host: &str, port: u16) -> Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![(ip, port).into()]);
    }
    let found = resolver.resolve(host).await?;
    if found.is_empty() {
        return Err(unknown(host));
    }
    Ok(found.into_iter().map(|ip| (ip, port).into()).collect())
}

fn unknown(host: &str) -> Error {
    Error::new(Reason::DnsFailed, format!("{host} has no address"))
}
