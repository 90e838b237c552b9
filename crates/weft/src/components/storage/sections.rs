//! Where everything asynchronous is kept.

use weft_kernel::ByteSize;

use crate::config::{
    catalogue::KeyOf,
    leaf::{FilePath, Pairs, Secret, Switch},
    setting::{At, Field, settings},
};

/// The ledger.
pub const LEDGER: KeyOf<Ledger> =
    KeyOf::new("ledger", "Store of messages and of all else that is kept.");

/// All of them.
pub const ALL: &[Field] = &[LEDGER.field()];

settings! {
    /// Store of messages and of all else that is kept, on this machine's disk; not opened by a node that
    /// keeps nothing.
    pub struct Ledger = "ledger", short "path" {
        /// Folder of the files.
        path: At<FilePath> = "weft-data",
        /// Size of one file of the write-ahead log, 16KiB to 1GiB; a few of them are kept.
        wal_file: At<ByteSize> = "64MiB",
        /// Memory for the latest records, from which they are read without the disk.
        cache: ByteSize = "16MiB",
        /// Maximum of bytes that wait to be written before publishers are slowed down.
        pending_max: ByteSize = "64MiB",
        /// Encryption at rest.
        encryption: Switch<Encryption> = "off",
    }

    /// Encryption at rest: AES-256-GCM with a key of its own for each file, kept under this key.
    pub struct Encryption = "encryption", short "key" {
        /// Key, 32 bytes in base64; `file:PATH` reads it from a file.
        key: At<Secret>,
        /// Name of the key, which is stored in the files.
        id: String = "1",
        /// Former keys by name, for files that were written under them.
        former: Pairs<String, Secret>,
    }
}
