//! Durable exchanges and bindings in a map of the ledger.
//!
//! ```text
//! key    'x' vhost exchange                          value  kind u8 | flags u8 | arguments
//! key    'b' vhost exchange 'q'|'x' destination key hash    value  arguments
//! ```
//!
//! Names are short strings (a length octet and bytes), so that no name can be taken for another; the
//! hash is XXH3's 128 bits of the arguments, because bindings that differ in them alone are two.

use bytes::Bytes;
use weft_kernel::{Error, Reason, Result};
use weft_ledger::{Durability, ExpectValue, MapId, Store, Transaction};
use weft_wire::amqp::Table;
use xxhash_rust::xxh3::xxh3_128;

use crate::topology::{Binding, Definition, Destination, Kind, Matcher, Removed, Topology};

const KINDS: [Kind; 4] = [Kind::Direct, Kind::Fanout, Kind::Topic, Kind::Headers];
const DURABLE: u8 = 1;
const AUTO_DELETE: u8 = 2;
const INTERNAL: u8 = 4;

fn short(out: &mut Vec<u8>, text: &str) {
    // Names come from short strings.
    out.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(text.as_bytes());
}

fn take_short<'a>(from: &mut &'a [u8]) -> Option<&'a str> {
    let (&length, rest) = from.split_first()?;
    let (text, rest) = rest.split_at_checked(usize::from(length))?;
    *from = rest;
    std::str::from_utf8(text).ok()
}

fn prefix(kind: u8, vhost: &str) -> Vec<u8> {
    let mut key = vec![kind];
    short(&mut key, vhost);
    key
}

fn exchange_key(vhost: &str, name: &str) -> Vec<u8> {
    let mut key = prefix(b'x', vhost);
    short(&mut key, name);
    key
}

fn binding_key(vhost: &str, source: &str, binding: &Binding) -> Vec<u8> {
    let mut key = prefix(b'b', vhost);
    short(&mut key, source);
    let (kind, name) = match &binding.to {
        Destination::Queue(name) => (b'q', name),
        Destination::Exchange(name) => (b'x', name),
    };
    key.push(kind);
    short(&mut key, name);
    short(&mut key, &binding.key);
    key.extend_from_slice(&xxh3_128(&binding.arguments).to_be_bytes());
    key
}

fn definition_value(definition: &Definition) -> Vec<u8> {
    let kind = KINDS.iter().position(|kind| *kind == definition.kind).unwrap_or_default();
    let flags = [
        (definition.durable, DURABLE),
        (definition.auto_delete, AUTO_DELETE),
        (definition.internal, INTERNAL),
    ];
    let flags = flags.iter().filter(|(set, _)| *set).fold(0, |flags, (_, flag)| flags | flag);
    let mut value = vec![kind as u8, flags];
    value.extend_from_slice(&definition.arguments);
    value
}

fn read_exchange(mut key: &[u8], value: &[u8]) -> Option<(String, Definition)> {
    let name = take_short(&mut key)?;
    let [kind, flags, arguments @ ..] = value else { return None };
    Table::parse(arguments).ok()?;
    let definition = Definition {
        kind: *KINDS.get(usize::from(*kind))?,
        durable: flags & DURABLE != 0,
        auto_delete: flags & AUTO_DELETE != 0,
        internal: flags & INTERNAL != 0,
        arguments: arguments.into(),
    };
    key.is_empty().then(|| (name.to_owned(), definition))
}

fn read_binding(mut key: &[u8], value: &[u8]) -> Option<(String, Binding)> {
    let source = take_short(&mut key)?;
    let (kind, mut key) = key.split_first().map(|(kind, key)| (*kind, key))?;
    let name = take_short(&mut key)?;
    let to = match kind {
        b'q' => Destination::Queue(name.into()),
        b'x' => Destination::Exchange(name.into()),
        _ => return None,
    };
    Table::parse(value).ok()?;
    let binding = Binding { to, key: take_short(&mut key)?.into(), arguments: value.into() };
    (key.len() == 16).then(|| (source.to_owned(), binding))
}

/// The exchanges of a virtual host as they were stored.
pub(super) async fn load(store: &dyn Store, map: MapId, vhost: &str) -> Result<Topology> {
    let mut topology = Topology::default();
    let corrupt = || {
        Error::new(Reason::StorageCorrupt, "a stored exchange or binding cannot be read")
            .at(format!("virtual host {vhost}"))
    };
    // Exchanges first: a binding needs both its ends.
    for kind in *b"xb" {
        let prefix = prefix(kind, vhost);
        let mut after: Option<Bytes> = None;
        loop {
            let page = store.scan(map, &prefix, after.take(), 256).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (key, value) in page {
                let key = key.get(prefix.len()..).unwrap_or_default();
                if kind == b'x' {
                    let (name, definition) = read_exchange(key, &value.data).ok_or_else(corrupt)?;
                    topology.declare(&name, definition);
                } else {
                    let (source, binding) = read_binding(key, &value.data).ok_or_else(corrupt)?;
                    let arguments = Table::parse(&binding.arguments).unwrap_or_default();
                    let matcher = Matcher::new(arguments).ok();
                    topology.bind(&source, binding, matcher);
                }
            }
        }
    }
    Ok(topology)
}

/// Stores an exchange.
pub(super) async fn put_exchange(
    store: &dyn Store,
    map: MapId,
    vhost: &str,
    name: &str,
    definition: &Definition,
) -> Result<()> {
    let (key, value) = (exchange_key(vhost, name), definition_value(definition));
    let put = Transaction::new(Durability::Fsync).put(map, key, value, ExpectValue::Any);
    store.commit(put).await?;
    Ok(())
}

/// Stores a binding.
pub(super) async fn put_binding(
    store: &dyn Store,
    map: MapId,
    vhost: &str,
    source: &str,
    binding: &Binding,
) -> Result<()> {
    let (key, value) = (binding_key(vhost, source, binding), binding.arguments.to_vec());
    let put = Transaction::new(Durability::Fsync).put(map, key, value, ExpectValue::Any);
    store.commit(put).await?;
    Ok(())
}

/// Erases what is gone, in one transaction. What was never stored is passed over.
pub(super) async fn erase(
    store: &dyn Store,
    map: MapId,
    vhost: &str,
    removed: &Removed,
) -> Result<()> {
    let keys = removed.exchanges.iter().map(|name| exchange_key(vhost, name)).chain(
        removed.bindings.iter().map(|(source, binding)| binding_key(vhost, source, binding)),
    );
    let mut transaction = Transaction::new(Durability::Fsync);
    for key in keys {
        if store.get(map, &key).await?.is_some() {
            transaction = transaction.delete(map, key, ExpectValue::Any);
        }
    }
    if !transaction.ops.is_empty() {
        store.commit(transaction).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exchanges_and_bindings_are_written_and_read() {
        let definition = Definition {
            arguments: b"\x01at\x01"[..].into(),
            internal: true,
            ..Definition::durable(Kind::Headers)
        };
        let key = exchange_key("v/\0", "x\0y");
        let rest = &key[prefix(b'x', "v/\0").len()..];
        let value = definition_value(&definition);
        assert_eq!(read_exchange(rest, &value), Some(("x\0y".into(), definition)));
        for cut in 0..rest.len() {
            assert_eq!(read_exchange(&rest[..cut], &value), None);
        }
        for to in [Destination::Queue("q".into()), Destination::Exchange("e".into())] {
            let binding = Binding { to, key: "a.#".into(), arguments: b"\x01at\x01"[..].into() };
            let key = binding_key("/", "src", &binding);
            let rest = &key[prefix(b'b', "/").len()..];
            assert_eq!(
                read_binding(rest, &binding.arguments),
                Some(("src".into(), binding.clone()))
            );
            for cut in 0..rest.len() {
                assert_eq!(read_binding(&rest[..cut], &binding.arguments), None);
            }
        }
    }
}
