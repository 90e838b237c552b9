//! The head of an AMQP 0-9-1 message: exchange and routing key as short strings, then the property
//! flags and list exactly as they were published.

/// The head of an AMQP 0-9-1 message; reads in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amqp<'a> {
    /// The exchange that it was published to; empty for the default exchange.
    pub exchange: &'a str,
    /// The routing key.
    pub routing_key: &'a str,
    /// The property flags and list of its content header, as on the wire.
    pub properties: &'a [u8],
}

impl<'a> Amqp<'a> {
    pub(super) fn read(mut head: &'a [u8]) -> Option<Self> {
        let exchange = short(&mut head)?;
        let routing_key = short(&mut head)?;
        Some(Self { exchange, routing_key, properties: head })
    }
}

fn short<'a>(from: &mut &'a [u8]) -> Option<&'a str> {
    let (&length, rest) = from.split_first()?;
    let (text, rest) = rest.split_at_checked(usize::from(length))?;
    *from = rest;
    std::str::from_utf8(text).ok()
}
