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

/// Where the key lies; before it stand magic, version, number and size.
pub(crate) const KEY_AT: usize = 24;

/// The header's sector. `size` is the length that the file was made with, 0 where that is not fixed.
pub(crate) fn sector(magic: &[u8; 8], number: u32, size: u64, key: &[u8]) -> Vec<u8> {
    let mut sector = vec![0; SECTOR];
    sector[..8].copy_from_slice(magic);
    sector[8..12].copy_from_slice(&VERSION.to_le_bytes());
    sector[12..16].copy_from_slice(&number.to_le_bytes());
    sector[16..24].copy_from_slice(&size.to_le_bytes());
    sector[KEY_AT..KEY_AT + key.len()].copy_from_slice(key);
    let crc = crc32c::crc32c(&sector[..CRC_AT]);
    sector[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    sector
}

/// The whole block.
pub(crate) fn block(magic: &[u8; 8], number: u32, size: u64, key: &[u8]) -> Vec<u8> {
    let mut block = vec![0; LEN];
    let sector = sector(magic, number, size, key);
    block[..SECTOR].copy_from_slice(&sector);
    block[COPY_AT..COPY_AT + SECTOR].copy_from_slice(&sector);
    block
}

/// What a header says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header<'a> {
    /// The length that the file was made with; 0 where that is not fixed.
    pub(crate) size: u64,
    /// The key, as [`Keys::fresh`](crate::crypt::Keys::fresh) wrote it.
    pub(crate) key: &'a [u8],
}

/// What the header or its copy says; `None` if neither is whole.
///
/// # Errors
/// `misconfigured` for a format version that is not understood.
pub(crate) fn read<'a>(
    block: &'a [u8],
    magic: &[u8; 8],
    number: u32,
) -> Result<Option<Header<'a>>> {
    let copies = [block, block.get(COPY_AT..).unwrap_or_default()];
    let mut other = None;
    for copy in copies {
        match check(copy, magic, number) {
            Found::Whole(header) => return Ok(Some(header)),
            Found::Version(version) => other = Some(version),
            Found::Bad => {}
        }
    }
    // One copy alone may have been damaged in its version; of another version both say so.
    match other {
        None => Ok(None),
        Some(version) => {
            let text = format!(
                "the file has format version {version}, this program reads version {VERSION}: \
                 run the program that wrote it, or one that says it can read it"
            );
            Err(Error::new(Reason::Misconfigured, text))
        }
    }
}

/// The key that the header or its copy names; `None` if neither is whole.
///
/// # Errors
/// As [`read`].
pub(crate) fn key<'a>(block: &'a [u8], magic: &[u8; 8], number: u32) -> Result<Option<&'a [u8]>> {
    Ok(read(block, magic, number)?.map(|header| header.key))
}

/// Whether the header and its copy are both whole, and what was zero still is. The sector behind the header
/// is left to whose file it is.
pub(crate) fn intact(block: &[u8], magic: &[u8; 8], number: u32) -> bool {
    let whole = |at: usize| {
        let sector = block.get(at..).unwrap_or_default();
        matches!(check(sector, magic, number), Found::Whole(_))
    };
    let zero = |bytes: &[u8]| bytes.iter().all(|&byte| byte == 0);
    block.len() == LEN
        && whole(0)
        && whole(COPY_AT)
        && zero(&block[2 * SECTOR..COPY_AT])
        && zero(&block[COPY_AT + SECTOR..])
}

/// What a sector is.
enum Found<'a> {
    Whole(Header<'a>),
    /// Of another version, whose checksum may lie elsewhere.
    Version(u32),
    Bad,
}

fn check<'a>(header: &'a [u8], magic: &[u8; 8], number: u32) -> Found<'a> {
    if header.len() < SECTOR || header[..8] != *magic {
        return Found::Bad;
    }
    let mut reader = Reader::new(&header[8..]);
    let (Ok(version), Ok(found), Ok(size)) = (reader.u32(), reader.u32(), reader.u64()) else {
        return Found::Bad;
    };
    if version != VERSION {
        return Found::Version(version);
    }
    let whole = crc32c::crc32c(&header[..CRC_AT]).to_le_bytes() == header[CRC_AT..SECTOR];
    if !whole || found != number {
        return Found::Bad;
    }
    Found::Whole(Header { size, key: &header[KEY_AT..CRC_AT] })
}
