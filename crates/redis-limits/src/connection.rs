//! One connection to a server: opened by the node's own sockets and TLS, spoken over by the `redis` crate.

use std::pin::Pin;

use redis::{
    AsyncConnectionConfig, ErrorKind, RedisConnectionInfo, RedisError, ServerErrorKind,
    aio::MultiplexedConnection,
};
use rustls_pki_types::ServerName;
use weft_net::{
    Address,
    client::addresses,
    connect::{ClientTls, ConnectTarget, connect},
};

use super::{CONNECT, RedisLimits, bounded::Bounded};

/// A connection on which the server has let the node in.
pub(super) struct Connection {
    /// What commands are given to.
    pub(super) asks: MultiplexedConnection,
    /// What carries them; it ends with the connection.
    pub(super) driver: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Connects, and says who the node is.
pub(super) async fn open(store: &RedisLimits) -> Result<Connection, String> {
    let opened = tokio::time::timeout(CONNECT, open_any(store)).await;
    opened.unwrap_or_else(|_elapsed| Err("it has not let the node in in time".into()))
}

async fn open_any(store: &RedisLimits) -> Result<Connection, String> {
    let options = &store.options;
    let found = addresses(&*store.resolver, &options.host, options.port).await;
    let mut wrong = Vec::new();
    for address in found.map_err(|error| error.detail())? {
        match open_at(store, Address::Tcp(address)).await {
            Ok(connection) => return Ok(connection),
            Err(why) => wrong.push(format!("{address}: {why}")),
        }
    }
    Err(wrong.join("; "))
}

async fn open_at(store: &RedisLimits, address: Address) -> Result<Connection, String> {
    let options = &store.options;
    let tls = match (&store.tls, options.tls) {
        (Some(tls), true) => {
            let name = ServerName::try_from(options.host.clone());
            let name =
                name.map_err(|_invalid| "its host cannot stand in a certificate".to_owned())?;
            Some(ClientTls { config: tls(), name })
        }
        _ => None,
    };
    let target = ConnectTarget { address, tls, proxy_header: None };
    let connected = connect(&target, CONNECT).await.map_err(|error| error.detail())?;
    let mut info = RedisConnectionInfo::default().set_db(options.database.into());
    if let Some(username) = &options.username {
        info = info.set_username(username);
    }
    if let Some(password) = &options.password {
        info = info.set_password(password);
    }
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    let opened =
        MultiplexedConnection::new_with_config(&info, Bounded::new(connected.io), config).await;
    let (asks, driver) = opened.map_err(|error| told(&error))?;
    Ok(Connection { asks, driver: Box::pin(driver) })
}

/// Whether an error is an answer to one question alone, so that the connection goes on with the others: not one of a
/// server that takes no questions at the moment, or is the wrong one.
pub(super) fn is_answer(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Extension => error.code() != Some("NOAUTH"),
        ErrorKind::Server(kind) => matches!(
            kind,
            ServerErrorKind::ResponseError | ServerErrorKind::ExecAbort | ServerErrorKind::NoScript
        ),
        _ => false,
    }
}

/// What went wrong, without anything that was sent.
pub(super) fn told(error: &RedisError) -> String {
    match error.kind() {
        ErrorKind::AuthenticationFailed => {
            "it does not let the node in: wrong user or password".into()
        }
        _ => match error.code() {
            Some(code @ ("MOVED" | "ASK" | "CROSSSLOT" | "CLUSTERDOWN")) => {
                format!("it is part of a cluster, whose redirections are not followed ({code})")
            }
            Some(code) => format!("it answers {code}"),
            None => error.category().to_owned(),
        },
    }
}
