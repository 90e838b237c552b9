//! What tells a copy of a ledger that is whole from one that is not: the marker, and the manifest of a backup.
//!
//! A backup or restore first makes the *marker* safe in the folder that it writes to, and removes it
//! last; whatever stops it in between leaves a folder that says what it is. The last file of a backup
//! is its *manifest*: the path, length and checksum of every other file, and its own checksum. Both
//! are text. A folder with neither is a ledger.

use std::{collections::BTreeMap, fmt, fmt::Write as _};

use weft_kernel::{Error, Reason, Result};

use crate::{
    disk::{Disk, File, failed, failed_copy, read_up_to, unreadable},
    segment, wal,
};

/// The folders whose files make a ledger.
pub(crate) const FOLDERS: [&str; 4] = ["checkpoint", "quarantine", segment::FOLDER, wal::FOLDER];
/// The path of the marker.
pub(crate) const MARKER: &str = "unfinished";
/// The path of the manifest.
pub(crate) const MANIFEST: &str = "manifest";
/// The manifest while it is written.
pub(crate) const NEW: &str = "manifest.new";

const TITLE: &str = "weft ledger backup, manifest version 1";
const CHUNK: usize = 1 << 20;
/// How many findings an error names.
const NAMED_MAX: usize = 8;

/// What leaves a marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copying {
    /// Out of a ledger that runs.
    Backup,
    /// Back into the folder of a node.
    Restore,
    /// A ledger that is gone on with knowingly, without what is lost of it.
    Repair,
    /// One of them: the marker itself is damaged.
    Either,
}

impl fmt::Display for Copying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Backup => "backup",
            Self::Restore => "restore",
            Self::Repair => "repair",
            Self::Either => "backup, restore or repair",
        })
    }
}

impl Copying {
    /// What is in the folder, and what to do about it.
    pub(crate) fn refusal(self) -> String {
        let how = match self {
            Self::Backup => "remove the folder, and make the backup again",
            Self::Restore => {
                "remove what is in the folder, and run `weft ledger restore` again with the same backup"
            }
            Self::Repair => "run `weft ledger repair --accept-loss` again",
            Self::Either => {
                "run `weft ledger repair --accept-loss` if the ledger of a node is in it, otherwise remove \
                 what is in the folder, and copy again"
            }
        };
        format!("the folder holds an unfinished {self}: {how}")
    }
}

fn there(disk: &dyn Disk, name: &str) -> Result<bool> {
    let names = disk.list("").map_err(|error| unreadable("cannot list", "", error))?;
    Ok(names.iter().any(|there| there == name))
}

/// Writes the marker, safely.
///
/// # Errors
/// What the disk says.
pub(crate) fn mark(disk: &dyn Disk, copying: Copying) -> Result<()> {
    let text = format!("{copying}\nThis folder holds an unfinished {copying} of a Weft ledger.\n");
    let write = || {
        let file = disk.open(MARKER, true)?;
        file.write_at(0, text.as_bytes())?;
        file.sync_data()?;
        disk.sync_dir("")
    };
    write().map_err(|error| {
        // Nothing was done yet that it would speak of.
        let _ = disk.remove(MARKER);
        failed_copy(MARKER, error)
    })
}

/// Removes the marker, safely.
///
/// # Errors
/// What the disk says.
pub(crate) fn unmark(disk: &dyn Disk) -> Result<()> {
    let remove = || {
        disk.remove(MARKER)?;
        disk.sync_dir("")
    };
    remove().map_err(|error| failed_copy(MARKER, error))
}

/// What did not end in this folder, if the marker is there.
///
/// # Errors
/// What the disk says.
pub(crate) fn marked(disk: &dyn Disk) -> Result<Option<Copying>> {
    if !there(disk, MARKER)? {
        return Ok(None);
    }
    let cannot = |error| unreadable("cannot read the marker", MARKER, error);
    let file = disk.open(MARKER, false).map_err(cannot)?;
    let text = read_up_to(&*file, 0, 4096).map_err(cannot)?;
    Ok(Some(match text.split(|&byte| byte == b'\n').next() {
        Some(b"backup") => Copying::Backup,
        Some(b"restore") => Copying::Restore,
        Some(b"repair") => Copying::Repair,
        _ => Copying::Either,
    }))
}

/// The length and the checksum of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) len: u64,
    pub(crate) crc: u32,
}

/// Every file of a backup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) files: BTreeMap<String, Listed>,
}

fn corrupt(text: impl Into<String>) -> Error {
    Error::new(Reason::StorageCorrupt, text.into()).at(MANIFEST)
}

impl Manifest {
    fn text(&self) -> String {
        let mut text = format!("{TITLE}\n");
        for (path, Listed { len, crc }) in &self.files {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{crc:08x} {len} {path}");
        }
        let crc = crc32c::crc32c(text.as_bytes());
        let _ = writeln!(text, "{crc:08x} end");
        text
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let body = text.strip_suffix(" end\n")?;
        let (body, crc) = body.split_at_checked(body.len().checked_sub(8)?)?;
        let mut lines = body.strip_suffix('\n')?.split('\n');
        if u32::from_str_radix(crc, 16).ok()? != crc32c::crc32c(body.as_bytes())
            || lines.next()? != TITLE
        {
            return None;
        }
        let mut files = BTreeMap::new();
        for line in lines {
            let (crc, line) = line.split_once(' ')?;
            let (len, path) = line.split_once(' ')?;
            let listed = Listed { len: len.parse().ok()?, crc: u32::from_str_radix(crc, 16).ok()? };
            files.insert(path.to_owned(), listed);
        }
        Some(Self { files })
    }

    /// Writes the manifest, safely: it is there whole or not at all.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn store(&self, disk: &dyn Disk) -> Result<()> {
        let write = || {
            let file = disk.open(NEW, true)?;
            file.write_at(0, self.text().as_bytes())?;
            file.sync_data()?;
            disk.rename(NEW, MANIFEST)?;
            disk.sync_dir("")
        };
        write().map_err(|error| failed_copy(MANIFEST, error))
    }

    /// The manifest of a backup; `None` in the folder of a ledger.
    ///
    /// # Errors
    /// `storage_corrupt` if it is damaged, and what the disk says.
    pub(crate) fn load(disk: &dyn Disk) -> Result<Option<Self>> {
        if !there(disk, MANIFEST)? {
            return Ok(None);
        }
        let cannot = |error| unreadable("cannot read the manifest", MANIFEST, error);
        let file = disk.open(MANIFEST, false).map_err(cannot)?;
        let text = read_up_to(&*file, 0, usize::MAX).map_err(cannot)?;
        Self::parse(&text).map(Some).ok_or_else(|| corrupt("the manifest of the backup is damaged"))
    }

    /// Reads every file anew: they were changed on purpose.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn sum_again(&mut self, disk: &dyn Disk) -> Result<()> {
        for (path, listed) in &mut self.files {
            let cannot = |error| unreadable("cannot read a file", path, error);
            *listed = disk.open(path, false).and_then(|file| sum(&*file)).map_err(cannot)?;
        }
        Ok(())
    }

    /// The files that are missing, cut, longer, or not of the backup, a sentence each.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn lengths(&self, disk: &dyn Disk) -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        let mut found: BTreeMap<String, u64> = BTreeMap::new();
        for folder in FOLDERS {
            let names =
                disk.list(folder).map_err(|error| unreadable("cannot list", folder, error))?;
            for name in names {
                let path = format!("{folder}/{name}");
                let cannot = |error| unreadable("cannot open a file", &path, error);
                let len = disk.open(&path, false).and_then(|file| file.len()).map_err(cannot)?;
                found.insert(path, len);
            }
        }
        for (path, Listed { len, .. }) in &self.files {
            match found.remove(path) {
                None => wrong.push(format!("{path} is missing")),
                Some(there) if there < *len => {
                    wrong.push(format!("{path} was cut: {there} of {len} bytes are there"));
                }
                Some(there) if there > *len => {
                    wrong.push(format!("{path} has {there} bytes, {len} were written"));
                }
                Some(_) => {}
            }
        }
        wrong.extend(found.into_keys().map(|path| format!("{path} is no file of the backup")));
        Ok(wrong)
    }

    /// Every file that is not what was written, a sentence each. Reads all of them.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn differences(&self, disk: &dyn Disk) -> Result<Vec<String>> {
        let mut wrong = self.lengths(disk)?;
        for (path, listed) in &self.files {
            let Ok(file) = disk.open(path, false) else { continue };
            match sum(&*file) {
                Err(error) => wrong.push(format!("{path} cannot be read: {error}")),
                Ok(found) if found.len == listed.len && found.crc != listed.crc => {
                    wrong.push(changed(path));
                }
                Ok(_) => {}
            }
        }
        Ok(wrong)
    }
}

/// What is said of a file that does not fit its checksum in the manifest.
pub(crate) fn changed(path: &str) -> String {
    format!("{path} was changed since it was backed up: it does not fit its checksum")
}

/// An error that names what is wrong with a backup.
pub(crate) fn damaged(wrong: &[String]) -> Error {
    let mut text =
        format!("the backup is damaged: {}", wrong[..wrong.len().min(NAMED_MAX)].join("; "));
    if wrong.len() > NAMED_MAX {
        let _ = write!(text, "; and {} more", wrong.len() - NAMED_MAX);
    }
    Error::new(Reason::StorageCorrupt, text)
}

/// The length and the checksum of a file, by reading it.
pub(crate) fn sum(file: &dyn File) -> std::io::Result<Listed> {
    let mut buffer = vec![0; CHUNK];
    let mut listed = Listed { len: 0, crc: 0 };
    loop {
        let read = file.read_at(listed.len, &mut buffer)?;
        if read == 0 {
            return Ok(listed);
        }
        listed.crc = crc32c::crc32c_append(listed.crc, &buffer[..read]);
        listed.len += read as u64;
    }
}

/// Makes a folder that is about to be opened a ledger, if it was a backup; whether a repair of it that did
/// not end is gone on with.
///
/// # Errors
/// `storage_corrupt` for what a copy has left unfinished, and for a backup of which files are missing,
/// cut or too many.
pub(crate) fn adopt(disk: &dyn Disk, repair: bool) -> Result<bool> {
    match marked(disk)? {
        Some(Copying::Repair) if repair => return Ok(true),
        // It is written before anything else is done: what is there was there before.
        Some(Copying::Either) if repair && !folders_in_use(disk)?.is_empty() => return Ok(false),
        Some(copying) => return Err(Error::new(Reason::StorageCorrupt, copying.refusal())),
        None => {}
    }
    let Some(manifest) = Manifest::load(disk)? else { return Ok(false) };
    let wrong = manifest.lengths(disk)?;
    if !wrong.is_empty() {
        let text = "remove its file `manifest` to open what is left of it";
        return Err(damaged(&wrong).note(text));
    }
    // From here on it changes, and the manifest would not be true any more.
    remove(disk).map(|()| false)
}

/// Removes the marker of a repair that is done, if there is one.
///
/// # Errors
/// What the disk says.
pub(crate) fn unmark_repair(disk: &dyn Disk) -> Result<()> {
    if there(disk, MARKER)? { unmark(disk) } else { Ok(()) }
}

/// The folders of a ledger that have anything in them.
///
/// # Errors
/// What the disk says.
pub(crate) fn folders_in_use(disk: &dyn Disk) -> Result<Vec<&'static str>> {
    let mut used = Vec::new();
    for folder in FOLDERS {
        if !disk.list(folder).map_err(|error| unreadable("cannot list", folder, error))?.is_empty()
        {
            used.push(folder);
        }
    }
    Ok(used)
}

/// Makes a backup a ledger.
///
/// # Errors
/// What the disk says.
pub(crate) fn remove(disk: &dyn Disk) -> Result<()> {
    let remove = || {
        disk.remove(MANIFEST)?;
        disk.sync_dir("")
    };
    remove().map_err(|error| failed("cannot remove", MANIFEST, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_read_as_it_was_written_or_not_at_all() {
        let listed = |len, crc| Listed { len, crc };
        let mut manifest = Manifest::default();
        assert_eq!(Manifest::parse(manifest.text().as_bytes()), Some(manifest.clone()));
        manifest.files.insert("wal/0000000001.wal".into(), listed(65_536, 7));
        manifest.files.insert("a name".into(), listed(0, u32::MAX));
        let text = manifest.text().into_bytes();
        assert_eq!(Manifest::parse(&text), Some(manifest));
        for end in 0..text.len() {
            assert_eq!(Manifest::parse(&text[..end]), None, "{end}");
        }
        for bit in 0..text.len() * 8 {
            let mut flipped = text.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let found = Manifest::parse(&flipped);
            // The case of a hexadecimal digit says nothing.
            let same = flipped.eq_ignore_ascii_case(&text) && bit / 8 > text.len() - 14;
            assert!(found.is_none() || same, "{bit}: {}", String::from_utf8_lossy(&flipped));
        }
    }
}
