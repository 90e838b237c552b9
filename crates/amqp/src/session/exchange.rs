//! Exchanges: declaring, deleting, and binding them to each other.

use weft_wire::amqp::{Method, ReplyCode, Table};

use super::Session;
use crate::{
    arguments::shown_both,
    fault::Fault,
    name::{RESERVED, in_one_line},
    options::Resource,
    topology::{Binding, Definition, Destination, Kind, Matcher, WrongMatch},
    vhost::Vhost,
};

/// Refuses what cannot be done to the exchange without a name.
fn not_default(name: &str) -> Result<(), Fault> {
    if name.is_empty() {
        return Err(Fault::refused("operation not permitted on the default exchange"));
    }
    Ok(())
}

fn reserved(name: &str) -> Result<(), Fault> {
    if name.starts_with(RESERVED) {
        return Err(Fault::refused(format_args!(
            "exchange name '{name}' contains reserved prefix 'amq.*'"
        )));
    }
    Ok(())
}

impl Session {
    pub(super) async fn exchange_method(
        &mut self,
        number: u16,
        method: Method<'_>,
    ) -> Result<(), Fault> {
        match method {
            Method::ExchangeDeclare { exchange, passive: true, no_wait, .. } => {
                let vhost = self.vhost()?;
                let exchange = &*in_one_line(exchange);
                not_default(exchange)?;
                if vhost.exchange(exchange).is_none() {
                    return Err(Fault::no_exchange(exchange, &vhost.name));
                }
                self.answer(number, no_wait, &Method::ExchangeDeclareOk {});
            }
            Method::ExchangeDeclare {
                exchange,
                kind,
                durable,
                auto_delete,
                internal,
                no_wait,
                arguments,
                ..
            } => {
                let kind = Kind::of(kind).ok_or_else(|| {
                    Fault::new(
                        ReplyCode::CommandInvalid,
                        format_args!("unknown exchange type '{kind}'"),
                    )
                })?;
                let arguments = arguments.bytes().into();
                let definition = Definition { kind, durable, auto_delete, internal, arguments };
                self.declare_exchange(&in_one_line(exchange), definition).await?;
                self.answer(number, no_wait, &Method::ExchangeDeclareOk {});
            }
            Method::ExchangeDelete { exchange, if_unused, no_wait, .. } => {
                let vhost = self.vhost()?;
                let exchange = &*in_one_line(exchange);
                not_default(exchange)?;
                reserved(exchange)?;
                self.may_configure(Resource::Exchange(exchange))?;
                if !vhost.delete_exchange(exchange, if_unused).await? {
                    return Err(Fault::precondition(format_args!(
                        "exchange '{exchange}' in vhost '{}' in use",
                        vhost.name
                    )));
                }
                self.answer(number, no_wait, &Method::ExchangeDeleteOk {});
            }
            Method::ExchangeBind {
                destination, source, routing_key, no_wait, arguments, ..
            } => {
                let (to, from) = (in_one_line(destination), in_one_line(source));
                self.bind_exchange(&to, &from, routing_key, arguments).await?;
                self.answer(number, no_wait, &Method::ExchangeBindOk {});
            }
            Method::ExchangeUnbind {
                destination, source, routing_key, no_wait, arguments, ..
            } => {
                let vhost = self.vhost()?;
                let (destination, source) = (&*in_one_line(destination), &*in_one_line(source));
                not_default(destination)?;
                not_default(source)?;
                self.may_write(Resource::Exchange(destination))?;
                self.may_read(Resource::Exchange(source))?;
                let to = Destination::Exchange(destination.into());
                let binding = binding(to, routing_key, arguments);
                vhost.unbind(source, &binding).await?;
                self.answer(number, no_wait, &Method::ExchangeUnbindOk {});
            }
            _ => {}
        }
        Ok(())
    }

    /// Sends an answer, if one is wanted.
    pub(super) fn answer(&mut self, number: u16, no_wait: bool, method: &Method<'_>) {
        if !no_wait {
            method.write(number, &mut self.out);
        }
    }

    async fn declare_exchange(&mut self, name: &str, definition: Definition) -> Result<(), Fault> {
        let vhost = self.vhost()?;
        not_default(name)?;
        self.may_configure(Resource::Exchange(name))?;
        let there = match vhost.exchange(name) {
            Some(there) => there,
            None => {
                reserved(name)?;
                let arguments = Table::parse(&definition.arguments)?;
                if let Some(alternate) = arguments.get("alternate-exchange") {
                    let alternate = alternate.text().ok_or_else(|| {
                        Fault::precondition(format_args!(
                            "invalid arg 'alternate-exchange' for exchange '{name}' in vhost '{}'",
                            vhost.name
                        ))
                    })?;
                    self.may_read(Resource::Exchange(name))?;
                    self.may_write(Resource::Exchange(alternate))?;
                }
                vhost.declare_exchange(name, definition.clone()).await?
            }
        };
        same(&there, &definition, name, &vhost)
    }

    async fn bind_exchange(
        &mut self,
        destination: &str,
        source: &str,
        key: &str,
        arguments: Table<'_>,
    ) -> Result<(), Fault> {
        let vhost = self.vhost()?;
        not_default(destination)?;
        not_default(source)?;
        self.may_write(Resource::Exchange(destination))?;
        self.may_read(Resource::Exchange(source))?;
        for name in [source, destination] {
            if vhost.exchange(name).is_none() {
                return Err(Fault::no_exchange(name, &vhost.name));
            }
        }
        let to = Destination::Exchange(destination.into());
        self.bind(&vhost, source, binding(to, key, arguments)).await
    }

    /// Binds, checking what headers exchanges want to be checked.
    pub(super) async fn bind(
        &self,
        vhost: &Vhost,
        source: &str,
        binding: Binding,
    ) -> Result<(), Fault> {
        let kind = vhost.exchange(source).map(|definition| definition.kind);
        let matcher = match kind {
            Some(Kind::Headers) => {
                Some(Matcher::new(Table::parse(&binding.arguments)?).map_err(|wrong| {
                    Fault::precondition(match wrong {
                        WrongMatch::Value(word) => format!(
                            "Invalid x-match field value <<\"{word}\">>; expected all, any, \
                             all-with-x, or any-with-x"
                        ),
                        WrongMatch::Type => "Invalid x-match field type; expected longstr".into(),
                    })
                })?)
            }
            _ => None,
        };
        vhost.bind(source, binding, matcher).await
    }
}

/// A binding as it was asked for.
pub(super) fn binding(to: Destination, key: &str, arguments: Table<'_>) -> Binding {
    Binding { to, key: key.into(), arguments: arguments.bytes().into() }
}

/// Whether an exchange is there as it is declared; else the first difference, in RabbitMQ's words.
fn same(current: &Definition, asked: &Definition, name: &str, vhost: &Vhost) -> Result<(), Fault> {
    let differs = |arg: &str, received: &str, current: &str| {
        Err(Fault::precondition(format_args!(
            "inequivalent arg '{arg}' for exchange '{name}' in vhost '{}': received {received} but \
             current is {current}",
            vhost.name
        )))
    };
    if current.kind != asked.kind {
        let quoted = |kind: Kind| format!("'{}'", kind.word());
        return differs("type", &quoted(asked.kind), &quoted(current.kind));
    }
    for (arg, current, asked) in [
        ("durable", current.durable, asked.durable),
        ("auto_delete", current.auto_delete, asked.auto_delete),
        ("internal", current.internal, asked.internal),
    ] {
        if current != asked {
            return differs(arg, &format!("'{asked}'"), &format!("'{current}'"));
        }
    }
    let table = |arguments| Table::parse(arguments).unwrap_or_default().get("alternate-exchange");
    let (current, asked) = (table(&current.arguments), table(&asked.arguments));
    if current != asked {
        let (asked, current) = shown_both(asked, current);
        return differs("alternate-exchange", &asked, &current);
    }
    Ok(())
}
