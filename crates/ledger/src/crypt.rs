//! Encryption at rest: AES-256-GCM under a key per file, which the header of the file holds wrapped by a master key.
//!
//! A file gets a new key each time it is put to use, so that an offset in it is a nonce that never
//! comes twice. A new master key serves new files, old ones go on being opened by the key that their
//! header names.

use std::{fmt, sync::Arc};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use weft_kernel::{Error, Reason, Result};

use crate::format::{Malformed, varint::Reader};

/// The bytes of a key.
pub const KEY_LEN: usize = 32;
/// The bytes of the tag that each encryption adds.
pub(crate) const TAG: usize = 16;
/// The bytes that a block with a nonce of its own is longer than what it holds.
pub(crate) const BLOCK_EXTRA: usize = NONCE_LEN + TAG;
/// The most bytes of the id of a master key.
pub const ID_BYTES_MAX: usize = 64;

/// The master keys: the one that new files are written under, and those that old files need.
#[derive(Clone, Default)]
pub struct Keys {
    keys: Vec<(String, Arc<[u8; KEY_LEN]>)>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|(id, _)| id)).finish()
    }
}

impl PartialEq for Keys {
    fn eq(&self, other: &Self) -> bool {
        self.keys == other.keys
    }
}

impl Eq for Keys {}

impl Keys {
    /// No keys: new files are written in the clear.
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds a key; the one added last encrypts new files, all open old ones.
    ///
    /// # Errors
    /// `misconfigured` for an id that is empty or longer than [`ID_BYTES_MAX`].
    pub fn with(mut self, id: impl Into<String>, key: [u8; KEY_LEN]) -> Result<Self> {
        let id = id.into();
        if id.is_empty() || id.len() > ID_BYTES_MAX {
            let text = format!("the id of a master key has 1 to {ID_BYTES_MAX} bytes");
            return Err(Error::new(Reason::Misconfigured, text));
        }
        self.keys.retain(|(other, _)| *other != id);
        self.keys.push((id, Arc::new(key)));
        Ok(self)
    }

    /// Whether new files are encrypted.
    pub fn encrypt(&self) -> bool {
        !self.keys.is_empty()
    }

    /// A key for a new file, and the bytes by which its header names it; `None` and no id without keys.
    pub(crate) fn fresh(&self, context: &[u8]) -> Result<(Option<Sealer>, Vec<u8>)> {
        let Some((id, master)) = self.keys.last() else { return Ok((None, vec![0])) };
        let mut key = [0; KEY_LEN];
        random(&mut key)?;
        let header = wrap(id, master, &key, context)?;
        Ok((Some(Sealer::new(&key)?), header))
    }

    /// The key that a header names; `None` for a file in the clear.
    pub(crate) fn open(&self, header: &[u8], context: &[u8]) -> Result<Option<Sealer>> {
        self.unwrap(header, context)?.map(|(_, key)| Sealer::new(&key)).transpose()
    }

    /// A header that names the newest master key instead; `None` if it does already.
    pub(crate) fn rewrap(&self, header: &[u8], context: &[u8]) -> Result<Option<Vec<u8>>> {
        let (Some((id, master)), Some((old, key))) =
            (self.keys.last(), self.unwrap(header, context)?)
        else {
            return Ok(None);
        };
        if *id == old { Ok(None) } else { wrap(id, master, &key, context).map(Some) }
    }

    fn unwrap(&self, header: &[u8], context: &[u8]) -> Result<Option<(String, [u8; KEY_LEN])>> {
        let Some((id, nonce, mut sealed)) = parse(header).map_err(|error| {
            Error::new(Reason::StorageCorrupt, "the key in a file's header is malformed")
                .because(error)
        })?
        else {
            return Ok(None);
        };
        let Some((_, master)) = self.keys.iter().find(|(other, _)| *other == id) else {
            let text =
                format!("the file is encrypted under master key `{id}`, which was not given");
            return Err(Error::new(Reason::Misconfigured, text));
        };
        let master = Sealer::new(master)?;
        let opened = master
            .0
            .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(context), &mut sealed)
            .map_err(|_error| {
                let text = format!("master key `{id}` is not the one that the file was made with");
                Error::new(Reason::Misconfigured, text)
            })?;
        let mut key = [0; KEY_LEN];
        key.copy_from_slice(&opened[..KEY_LEN]);
        Ok(Some((id, key)))
    }
}

/// The id of the master key that a header names.
pub(crate) fn key_id(header: &[u8]) -> Option<String> {
    parse(header).ok().flatten().map(|(id, _, _)| id)
}

type Wrapped = (String, [u8; NONCE_LEN], [u8; KEY_LEN + TAG]);

fn parse(header: &[u8]) -> Result<Option<Wrapped>, Malformed> {
    let mut reader = Reader::new(header);
    let len = usize::from(reader.byte()?);
    if len == 0 {
        return Ok(None);
    }
    let id = std::str::from_utf8(reader.bytes(len)?)
        .map_err(|_error| Malformed("the id of a master key"))?;
    Ok(Some((id.to_owned(), reader.array()?, reader.array()?)))
}

fn wrap(id: &str, master: &[u8; KEY_LEN], key: &[u8], context: &[u8]) -> Result<Vec<u8>> {
    let mut nonce = [0; NONCE_LEN];
    random(&mut nonce)?;
    let mut sealed = key.to_vec();
    let unique = Nonce::assume_unique_for_key(nonce);
    Sealer::new(master)?
        .0
        .seal_in_place_append_tag(unique, Aad::from(context), &mut sealed)
        .map_err(|_error| broken())?;
    let mut header = vec![id.len() as u8];
    header.extend_from_slice(id.as_bytes());
    header.extend_from_slice(&nonce);
    header.extend_from_slice(&sealed);
    Ok(header)
}

fn random(bytes: &mut [u8]) -> Result<()> {
    aws_lc_rs::rand::fill(bytes).map_err(|_error| broken())
}

fn broken() -> Error {
    Error::new(Reason::Internal, "the cryptography of this machine does not work")
}

/// The key of one file.
pub(crate) struct Sealer(LessSafeKey);

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer")
    }
}

fn nonce(number: u64) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

impl Sealer {
    fn new(key: &[u8; KEY_LEN]) -> Result<Self> {
        let key = UnboundKey::new(&AES_256_GCM, key).map_err(|_error| broken())?;
        Ok(Self(LessSafeKey::new(key)))
    }

    /// Encrypts `bytes` but for the last [`TAG`] of them, which become the tag; `number` must be new for this key.
    pub(crate) fn seal(&self, number: u64, bytes: &mut [u8]) -> Result<()> {
        let Some(len) = bytes.len().checked_sub(TAG) else { return Err(broken()) };
        let (plain, tag) = bytes.split_at_mut(len);
        let made = self
            .0
            .seal_in_place_separate_tag(nonce(number), Aad::empty(), plain)
            .map_err(|_error| broken())?;
        tag.copy_from_slice(made.as_ref());
        Ok(())
    }

    /// Decrypts in place and gives what was encrypted; `None` if the bytes are not what was written.
    pub(crate) fn open<'a>(&self, number: u64, bytes: &'a mut [u8]) -> Option<&'a mut [u8]> {
        self.0.open_in_place(nonce(number), Aad::empty(), bytes).ok()
    }

    /// Encrypts a block that is written again and again: nonce, ciphertext and tag go to `out`, which has [`BLOCK_EXTRA`] bytes more.
    pub(crate) fn seal_block(&self, number: u64, plain: &[u8], out: &mut [u8]) -> Result<()> {
        let (nonce, rest) = out.split_at_mut(NONCE_LEN);
        random(nonce)?;
        let mut unique = [0; NONCE_LEN];
        unique.copy_from_slice(nonce);
        let (cipher, tag) = rest.split_at_mut(plain.len());
        cipher.copy_from_slice(plain);
        let made = self
            .0
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(unique),
                Aad::from(number.to_le_bytes()),
                cipher,
            )
            .map_err(|_error| broken())?;
        tag.copy_from_slice(made.as_ref());
        Ok(())
    }

    /// What [`Sealer::seal_block`] encrypted; `None` if the bytes are not what was written.
    pub(crate) fn open_block<'a>(&self, number: u64, block: &'a mut [u8]) -> Option<&'a [u8]> {
        let (nonce, rest) = block.split_at_mut_checked(NONCE_LEN)?;
        let mut unique = [0; NONCE_LEN];
        unique.copy_from_slice(nonce);
        let unique = Nonce::assume_unique_for_key(unique);
        self.0
            .open_in_place(unique, Aad::from(number.to_le_bytes()), rest)
            .ok()
            .map(|plain| &*plain)
    }
}

#[cfg(test)]
mod tests;
