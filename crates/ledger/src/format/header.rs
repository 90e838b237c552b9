//! The block that each file begins with: what it is, in which version, which one it is, and under which key.

use weft_kernel::{Error, Reason, Result};

use super::{VERSION, varint::Reader};

/// The bytes of the block.
pub(crate) const LEN: usize = 4096;
/// The header lies in a sector of its own, so that it is torn whole or not at all.
pub(crate) const SECTOR: usize = 512;
/// Where it is a second time, for without its key an encrypted file cannot be read.
pub(crate) const COPY_AT: usize = 2048;
/// Where the checksum of a sector lies.
pub(crate) const CRC_AT: usize = SECTOR - 4;

/// The header's sector.
pub(crate) fn sector(magic: &[u8; 8], number: u32, key: &[u8]) -> Vec<u8> {
    let mut sector = vec![0; SECTOR];
    sector[..8].copy_from_slice(magic);
    sector[8..12].copy_from_slice(&VERSION.to_le_bytes());
    sector[12..16].copy_from_slice(&number.to_le_bytes());
    sector[16..16 + key.len()].copy_from_slice(key);
    let crc = crc32c::crc32c(&sector[..CRC_AT]);
    sector[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    sector
}

/// The whole block.
pub(crate) fn block(magic: &[u8; 8], number: u32, key: &[u8]) -> Vec<u8> {
    let mut block = vec![0; LEN];
    let sector = sector(magic, number, key);
    block[..SECTOR].copy_from_slice(&sector);
    block[COPY_AT..COPY_AT + SECTOR].copy_from_slice(&sector);
    block
}

/// The key that the header or its copy names; `None` if neither is whole.
///
/// # Errors
/// `misconfigured` for a format version that is not understood.
pub(crate) fn key<'a>(block: &'a [u8], magic: &[u8; 8], number: u32) -> Result<Option<&'a [u8]>> {
    match check(block, magic, number)? {
        None => check(block.get(COPY_AT..).unwrap_or_default(), magic, number),
        found => Ok(found),
    }
}

/// Whether the header and its copy are both whole, and what was zero still is. The sector behind the header
/// is left to whose file it is.
pub(crate) fn intact(block: &[u8], magic: &[u8; 8], number: u32) -> bool {
    let whole = |at: usize| {
        let sector = block.get(at..).unwrap_or_default();
        matches!(check(sector, magic, number), Ok(Some(_)))
    };
    let zero = |bytes: &[u8]| bytes.iter().all(|&byte| byte == 0);
    block.len() == LEN
        && whole(0)
        && whole(COPY_AT)
        && zero(&block[2 * SECTOR..COPY_AT])
        && zero(&block[COPY_AT + SECTOR..])
}

fn check<'a>(header: &'a [u8], magic: &[u8; 8], number: u32) -> Result<Option<&'a [u8]>> {
    if header.len() < SECTOR || header[..8] != *magic {
        return Ok(None);
    }
    let mut reader = Reader::new(&header[8..]);
    let (Ok(version), Ok(found)) = (reader.u32(), reader.u32()) else { return Ok(None) };
    // The version is looked at first: another one may have its checksum elsewhere.
    if version != VERSION {
        let text = format!(
            "the file has format version {version}, this program reads version {VERSION}: \
             run the program that wrote it, or one that says it can read it"
        );
        return Err(Error::new(Reason::Misconfigured, text));
    }
    let whole = crc32c::crc32c(&header[..CRC_AT]).to_le_bytes() == header[CRC_AT..SECTOR];
    Ok((whole && found == number).then(|| &header[16..CRC_AT]))
}
