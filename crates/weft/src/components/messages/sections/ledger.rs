//! Where everything asynchronous is kept.

use weft_kernel::ByteSize;

use crate::config::{
    leaf::{FilePath, Pairs, Secret, Switch},
    setting::{At, settings},
};

settings! {
    /// Store of messages, on this machine's disk; not opened by a node without messages.
    pub struct Ledger = "ledger", short "path" {
        /// Folder of the files.
        path: FilePath = "weft-data",
        /// Size of one file of the write-ahead log; a few of them are kept.
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
