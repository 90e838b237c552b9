//! Where messages are kept.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use weft_kernel::ByteSize;
use weft_ledger::{
    Options,
    crypt::{KEY_LEN, Keys},
};

use crate::config::{
    leaf::{Secret, Switch},
    plan,
    problem::Problem,
    sections::{Ledger, ledger::Encryption},
    setting::Cx,
    source::Place,
};

/// The largest message that any topic or queue can be told to take: what RabbitMQ takes, with its head.
const RECORD_BYTES_MAX: ByteSize = ByteSize(17 << 20);
/// The most of one transaction: one message of the largest, or a batch of as much.
const TRANSACTION_BYTES_MAX: ByteSize = ByteSize(24 << 20);

/// The folder and the options of the ledger.
pub(super) fn build(section: &Ledger, cx: &mut Cx) -> plan::Ledger {
    let keys = match &section.encryption {
        Switch::On(encryption) => keys(encryption, cx),
        Switch::Off => Keys::none(),
    };
    plan::Ledger {
        path: section.path.0.clone(),
        options: Options {
            wal_file_bytes: section.wal_file,
            recent_bytes: section.cache,
            pending_bytes_max: section.pending_max,
            record_bytes_max: RECORD_BYTES_MAX,
            transaction_bytes_max: TRANSACTION_BYTES_MAX,
            keys,
            ..Options::default()
        },
    }
}

/// All keys, the one for new files last.
fn keys(section: &Encryption, cx: &mut Cx) -> Keys {
    let mut keys = Keys::none();
    let former = section.former.0.iter().map(|(id, key)| (id, key, section.place));
    let now = std::iter::once((&section.id, &section.key.value, section.key.place));
    for (id, key, place) in former.chain(now) {
        let Some(bytes) = key_bytes(key, place, cx) else { continue };
        match keys.clone().with(id.clone(), bytes) {
            Ok(more) => keys = more,
            Err(error) => cx.report(Problem::error(place, error.said().to_owned())),
        }
    }
    keys
}

fn key_bytes(key: &Secret, place: Place, cx: &mut Cx) -> Option<[u8; KEY_LEN]> {
    let bytes = STANDARD.decode(key.reveal()).ok().and_then(|bytes| bytes.try_into().ok());
    if bytes.is_none() {
        cx.report(
            Problem::error(place, format!("a key has {KEY_LEN} bytes, written in base64"))
                .help("make one with `openssl rand -base64 32`"),
        );
    }
    bytes
}
