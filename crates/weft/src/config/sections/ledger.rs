//! Where everything asynchronous is kept.

use weft_kernel::ByteSize;

use crate::config::{
    leaf::{FilePath, Pairs, Secret, Switch},
    setting::{At, settings},
};

settings! {
    /// The store of messages, on this machine's disk. A node that keeps no messages does not open it.
    pub struct Ledger = "ledger", short "path" {
        /// The folder of its files.
        path: FilePath = "weft-data",
        /// The size of one file of the write-ahead log; a few of them are kept.
        wal_file: At<ByteSize> = "64MiB",
        /// How much of what was written last stays in memory to be read from there.
        cache: ByteSize = "16MiB",
        /// How much may wait to be written before publishers are slowed down.
        pending_max: ByteSize = "64MiB",
        /// Encryption at rest.
        encryption: Switch<Encryption> = "off",
    }

    /// Encryption at rest: AES-256-GCM with a key of its own for each file, kept under this key.
    pub struct Encryption = "encryption", short "key" {
        /// The key, 32 bytes in base64; `file:PATH`.
        key: At<Secret>,
        /// The name of the key, which files remember.
        id: String = "1",
        /// Former keys by their names, for files that were written under them.
        former: Pairs<String, Secret>,
    }
}
