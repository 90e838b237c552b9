//! Rows of the registry's maps, and their keys.

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use weft_kernel::{Error, Reason};

use crate::error::Result;

/// What a schema refers to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// The name by which it is referred to: of a type, a file or a document.
    pub name: String,
    /// The subject.
    pub subject: String,
    /// The version of the subject; nought or less for the latest.
    pub version: i64,
}

/// A schema as it is kept, by its id; its text stands by itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SchemaRow {
    pub(crate) format: String,
    pub(crate) references: Vec<Reference>,
    /// What it is known by, as the key of its digest.
    pub(crate) digest: String,
}

/// A version of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VersionRow {
    pub(crate) id: u32,
    pub(crate) deleted: bool,
}

/// A subject.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct SubjectRow {
    /// The last version that there was.
    pub(crate) last: u32,
    /// How many there are, those that are deleted counted.
    pub(crate) versions: u32,
    /// How many of them are not deleted.
    pub(crate) live: u32,
}

/// Settings of a subject, or of all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SettingsRow {
    pub(crate) level: Option<String>,
    pub(crate) mode: Option<String>,
    pub(crate) normalize: Option<bool>,
    pub(crate) policy: Option<String>,
}

pub(crate) fn encode(row: &impl Serialize) -> Result<Bytes> {
    let bytes = serde_json::to_vec(row).map_err(|error| {
        Error::new(Reason::Internal, "a row of schemas could not be written").because(error)
    })?;
    Ok(bytes.into())
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    Ok(serde_json::from_slice(bytes).map_err(|error| {
        Error::new(Reason::StorageCorrupt, "a row of schemas cannot be read").because(error)
    })?)
}

/// The key of a version: the subject, nought, and the number.
pub(crate) fn version_key(subject: &str, version: u32) -> Bytes {
    let mut key = versions_of(subject);
    key.extend_from_slice(&version.to_be_bytes());
    key.into()
}

/// With what the keys of a subject's versions begin.
pub(crate) fn versions_of(subject: &str) -> Vec<u8> {
    let mut key = subject.as_bytes().to_vec();
    key.push(0);
    key
}

/// The key of a use of an id: the id, the subject, nought, and the version.
pub(crate) fn use_key(id: u32, subject: &str, version: u32) -> Bytes {
    let mut key = id.to_be_bytes().to_vec();
    key.extend_from_slice(&version_key(subject, version));
    key.into()
}

/// The key of a reference: the version that is referred to, and the id that refers to it.
pub(crate) fn referrer_key(subject: &str, version: u32, id: u32) -> Bytes {
    let mut key = version_key(subject, version).to_vec();
    key.extend_from_slice(&id.to_be_bytes());
    key.into()
}

/// The number at the end of a key.
pub(crate) fn number(key: &[u8]) -> u32 {
    let last = key.last_chunk::<4>().copied().unwrap_or_default();
    u32::from_be_bytes(last)
}

/// The subject within a key of a use.
pub(crate) fn subject_of_use(key: &[u8]) -> String {
    let name = key.get(4..key.len().saturating_sub(5)).unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}
