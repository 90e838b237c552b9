//! One request by itself, to see whether something answers.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result};

use super::{Asked, h1};

/// One request on a connection of its own: the status, the head and the body, as text.
pub(crate) fn get(to: SocketAddr, asked: Asked<'_>, longest: Duration) -> Result<(u16, String)> {
    let mut socket = TcpStream::connect_timeout(&to, longest)?;
    socket.set_read_timeout(Some(longest))?;
    socket.write_all(&h1::request(asked, 0, "Connection: close\r\n"))?;
    let mut bytes = Vec::new();
    // A response of ours is small; a server that goes on for ever is cut.
    socket.take(1024 * 1024).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.context("no status line")?, text))
}
