//! Rows of the maps of a store: their keys, and how they are stored.

use bytes::Bytes;
use weft_kernel::{Error, Reason, Result};

use crate::name::StreamName;

/// The key of a row of a stream about a version: a chunk that ends before it, or waste that begins with it.
pub(crate) fn row_key(name: &StreamName, end: u64) -> Bytes {
    let mut key = row_prefix(name);
    key.extend_from_slice(&end.to_be_bytes());
    key.into()
}

/// What the keys of such rows of a stream begin with. Names have no NUL.
pub(crate) fn row_prefix(name: &StreamName) -> Vec<u8> {
    let mut key = Vec::with_capacity(name.as_str().len() + 9);
    key.extend_from_slice(name.as_str().as_bytes());
    key.push(0);
    key
}

/// The stream and the version that the key of a row is about.
pub(crate) fn read_key(key: &[u8]) -> Option<(StreamName, u64)> {
    let (name, version) = key.split_at_checked(key.len().checked_sub(9)?)?;
    let name = StreamName::of_bytes(name)?;
    let version = version.strip_prefix(&[0])?.try_into().ok()?;
    Some((name, u64::from_be_bytes(version)))
}

/// A row as it is stored.
pub(crate) fn encode<T: serde::Serialize>(row: &T) -> Result<Bytes> {
    let bytes = postcard::to_allocvec(row).map_err(|error| {
        Error::new(Reason::Internal, "a row of a stream cannot be written").because(error)
    })?;
    Ok(bytes.into())
}

/// A row of what was stored.
///
/// # Errors
/// `storage_corrupt` for what is none.
pub(crate) fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    postcard::from_bytes(bytes).map_err(|error| {
        Error::new(Reason::StorageCorrupt, "a row of a stream cannot be read").because(error)
    })
}
