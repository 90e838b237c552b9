//! From the first bytes to an open connection: who it is, which limits hold, which virtual host.

use std::sync::Arc;

use weft_wire::amqp::{
    FRAME_BYTES_MIN, Greeting, Method, PROTOCOL_HEADER, ReplyCode, Table, TableWriter, Value,
    parse_greeting,
};

use super::{Abilities, Phase, Session, Tuned};
use crate::{
    fault::Fault,
    options::Grant,
    sasl::{self, Login, Whence},
};

impl Session {
    /// Reads what a client says first; answers how many bytes that took, `None` while it is not whole.
    pub(crate) fn greeting(&mut self, bytes: &[u8]) -> Option<usize> {
        match parse_greeting(bytes) {
            Greeting::Incomplete => None,
            Greeting::Other => {
                self.out.extend_from_slice(PROTOCOL_HEADER);
                self.phase = Phase::Over;
                Some(bytes.len())
            }
            Greeting::Amqp091 => {
                self.start();
                self.phase = Phase::Starting;
                Some(PROTOCOL_HEADER.len())
            }
        }
    }

    fn start(&mut self) {
        let mut properties = Vec::with_capacity(512);
        TableWriter::new(&mut properties)
            .table("capabilities", |table| {
                for name in [
                    "publisher_confirms",
                    "exchange_exchange_bindings",
                    "basic.nack",
                    "consumer_cancel_notify",
                    "connection.blocked",
                    "consumer_priorities",
                    "authentication_failure_close",
                    "per_consumer_qos",
                    "direct_reply_to",
                ] {
                    table.entry(name, Value::Bool(true));
                }
            })
            .text("cluster_name", &self.server.node_name)
            .text("product", "Weft")
            .text("version", env!("CARGO_PKG_VERSION"))
            .text("platform", "Rust")
            .text("information", "speaks AMQP 0-9-1 as RabbitMQ does");
        Method::ConnectionStart {
            version_major: 0,
            version_minor: 9,
            server_properties: Table::parse(&properties[4..]).unwrap_or_default(),
            mechanisms: sasl::mechanisms(self.peer.certificate.is_some()),
            locales: b"en_US",
        }
        .write(0, &mut self.out);
    }

    /// Follows a method of the connection.
    pub(super) async fn connection_method(&mut self, payload: &[u8]) -> Result<(), Fault> {
        let method = Method::parse(payload).map_err(|error| Fault::of_method(error, payload))?;
        match (self.phase, method) {
            (
                Phase::Starting,
                Method::ConnectionStartOk { client_properties, mechanism, response, .. },
            ) => self.log_in(client_properties, mechanism, response),
            (Phase::Tuning, Method::ConnectionTuneOk { channel_max, frame_max, heartbeat }) => {
                self.tune(channel_max, frame_max, heartbeat)
            }
            (Phase::Opening, Method::ConnectionOpen { virtual_host, .. }) => {
                self.open(virtual_host)
            }
            (_, Method::ConnectionClose { .. }) => {
                self.flush().await;
                self.land().await;
                self.release().await;
                Method::ConnectionCloseOk {}.write(0, &mut self.out);
                self.phase = Phase::Over;
                self.left = true;
                Ok(())
            }
            // Passwords and certificates do not expire while a connection lasts, so that a new secret
            // changes nothing of what was allowed; clients whose tokens expire elsewhere go on.
            (Phase::Running, Method::ConnectionUpdateSecret { .. }) => {
                Method::ConnectionUpdateSecretOk {}.write(0, &mut self.out);
                Ok(())
            }
            (phase, _) => Err(Fault::new(
                ReplyCode::ChannelError,
                format_args!("unexpected method in connection state {}", phase.word()),
            )),
        }
    }

    fn log_in(
        &mut self,
        properties: Table<'_>,
        mechanism: &str,
        response: &[u8],
    ) -> Result<(), Fault> {
        if let Some(Value::Table(table)) = properties.get("capabilities") {
            let can = |name| table.get(name) == Some(Value::Bool(true));
            self.abilities = Abilities {
                cancel_notify: can("consumer_cancel_notify"),
                blocked: can("connection.blocked"),
                failure_close: can("authentication_failure_close"),
            };
        }
        let whence =
            Whence { loopback: self.peer.loopback, certificate: self.peer.certificate.as_deref() };
        let refused = |why: &str| {
            Fault::refused(format_args!(
                "Login was refused using authentication mechanism {mechanism}{why}"
            ))
            .of_connection()
        };
        match sasl::login(&self.server.users, mechanism, response, whence) {
            Login::User(index) => self.user = index,
            Login::Refused => {
                tracing::info!(peer = self.peer.address, mechanism, "login refused");
                return Err(refused(". For details see the broker logfile."));
            }
            Login::LoopbackOnly(name) => {
                tracing::info!(
                    peer = self.peer.address,
                    user = name,
                    "login from elsewhere refused"
                );
                return Err(refused(&format!(": user '{name}' can only connect via localhost")));
            }
            Login::NoMechanism => {
                return Err(Fault::new(
                    ReplyCode::CommandInvalid,
                    format_args!("unknown authentication mechanism '{mechanism}'"),
                ));
            }
        }
        let options = &self.server.options;
        Method::ConnectionTune {
            channel_max: options.channels_max,
            frame_max: options.frame_bytes_max,
            heartbeat: options.heartbeat_seconds,
        }
        .write(0, &mut self.out);
        self.phase = Phase::Tuning;
        Ok(())
    }

    fn tune(&mut self, channels: u16, frame: u32, heartbeat: u16) -> Result<(), Fault> {
        let (channels_max, frame_max) =
            (self.server.options.channels_max, self.server.options.frame_bytes_max);
        let wrong = |what: &str, asked: u32, max: u32| {
            let none = if asked == 0 { " (no limit)" } else { "" };
            Fault::new(
                ReplyCode::NotAllowed,
                format_args!(
                    "negotiated {what} = {asked}{none} is higher than the maximum allowed value \
                     ({max})"
                ),
            )
        };
        if channels_max != 0 && (channels == 0 || channels > channels_max) {
            return Err(wrong("channel_max", channels.into(), channels_max.into()));
        }
        if frame != 0 && frame < FRAME_BYTES_MIN {
            return Err(Fault::new(
                ReplyCode::NotAllowed,
                format_args!(
                    "negotiated frame_max = {frame} is lower than the minimum allowed value ({FRAME_BYTES_MIN})"
                ),
            ));
        }
        if frame_max != 0 && (frame == 0 || frame > frame_max) {
            return Err(wrong("frame_max", frame, frame_max));
        }
        self.tuned = Tuned { channels_max: channels, frame_bytes_max: frame, heartbeat };
        self.phase = Phase::Opening;
        Ok(())
    }

    fn open(&mut self, name: &str) -> Result<(), Fault> {
        let Some(vhost) = self.server.vhosts.get(name) else {
            return Err(Fault::new(ReplyCode::NotAllowed, format_args!("vhost {name} not found")));
        };
        let grants = self.server.users.get(self.user).map_or(&[][..], |user| &user.grants);
        self.grant = match grants.iter().find(|grant| grant.vhost == name) {
            Some(grant) => grant.clone(),
            None if grants.is_empty() => Grant::all(name),
            None => {
                return Err(Fault::new(
                    ReplyCode::NotAllowed,
                    format_args!(
                        "access to vhost '{name}' refused for user '{}'",
                        self.user_name()
                    ),
                ));
            }
        };
        self.vhost = Some(Arc::clone(vhost));
        Method::ConnectionOpenOk { known_hosts: "" }.write(0, &mut self.out);
        self.phase = Phase::Running;
        Ok(())
    }
}
