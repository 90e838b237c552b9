//! From the section of the ledger to what is asked for.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use weft_kernel::ByteSize;
use weft_ledger::{
    Options, WAL_FILE_SIZES,
    crypt::{KEY_LEN, Keys},
};

use super::{
    plan,
    sections::{Encryption, LEDGER, Ledger},
};
use crate::config::{
    catalogue::Sections,
    leaf::{Secret, Switch},
    problem::Problem,
    setting::{At, Cx},
    source::Place,
};

/// What a record has beside the body of its message: the head, and the story of a dead letter.
const BESIDE_BYTES: u64 = 1 << 20;
/// What a transaction has beside its largest record.
const AROUND_BYTES: u64 = 7 << 20;

/// The ledger, if a component keeps something.
pub(super) fn build(said: &Sections<'_>, cx: &mut Cx) -> Option<plan::Ledger> {
    let section = said.read(&LEDGER, cx)?;
    Some(ledger(&section, said.kept()?, cx))
}

/// The folder and the options of the ledger, which takes messages of `message_max`.
fn ledger(section: &Ledger, message_max: At<ByteSize>, cx: &mut Cx) -> plan::Ledger {
    let record_max = ByteSize(message_max.value.0.saturating_add(BESIDE_BYTES));
    let transaction_max = ByteSize(record_max.0.saturating_add(AROUND_BYTES));
    let (wal_file, least) = (section.wal_file.value, ByteSize(transaction_max.0 + BESIDE_BYTES));
    if !WAL_FILE_SIZES.contains(&wal_file) {
        let (least, most) = WAL_FILE_SIZES.into_inner();
        cx.report(
            Problem::error(section.wal_file.place, format!("{wal_file} is not a size of a file"))
                .help(format!("a file of the write-ahead log has {least} to {most}")),
        );
    } else if wal_file < least && message_max.value.0 > 16 << 20 {
        let of_file = section.wal_file.place;
        cx.report(
            Problem::error(
                if of_file.is_in_file() { of_file } else { message_max.place },
                format!("a message of {} does not fit one file of {wal_file}", message_max.value),
            )
            .help(format!("set `wal_file` of the ledger to {least} or more")),
        );
    }
    let keys = match &section.encryption {
        Switch::On(encryption) => keys(encryption, cx),
        Switch::Off => Keys::none(),
    };
    plan::Ledger {
        path: cx.beside(&section.path),
        options: Options {
            wal_file_bytes: wal_file,
            recent_bytes: section.cache,
            pending_bytes_max: section.pending_max,
            record_bytes_max: record_max,
            transaction_bytes_max: transaction_max,
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
