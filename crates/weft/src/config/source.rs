//! The files that a configuration was read from, and places in them.
//!
//! Every value keeps its [`Place`] as a file number and a byte range; line and column are worked out
//! only when somebody must be told. What cannot be a configuration (too large, binary, a device that
//! would never end) is refused before it is parsed.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::problem::Problem;

/// The largest file that is read.
pub const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// The most files of a folder.
pub const FILES_MAX: usize = 1_000;
/// How much of a file is read at once.
const PIECE: usize = 64 * 1024;

/// A range of bytes in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The number of the file among [`Sources`]; [`Place::BUILT_IN`] has none.
    pub file: u32,
    /// The first byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Place {
    /// The place of what stands in no file: a default.
    pub const BUILT_IN: Self = Self { file: u32::MAX, start: 0, end: 0 };

    /// The place so many bytes on or back.
    pub(super) fn shifted(self, by: i64) -> Self {
        let moved = |at: u32| u32::try_from(i64::from(at) + by).unwrap_or(u32::MAX);
        Self { start: moved(self.start), end: moved(self.end), ..self }
    }

    /// Whether it stands in a file.
    pub const fn is_in_file(self) -> bool {
        self.file != u32::MAX
    }
}

/// A file as it was read.
#[derive(Clone, Debug)]
pub struct File {
    /// Its path, as it was asked for.
    pub path: PathBuf,
    /// What stands in it.
    pub text: Arc<str>,
}

/// All files of a configuration, in the order in which they are merged.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    files: Vec<File>,
}

/// A place as people read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The path of the file.
    pub path: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.path.display(), self.line, self.column)
    }
}

impl Sources {
    /// Reads a file, or each `*.yaml`, `*.yml` and `*.json` of a folder in the order of their names.
    ///
    /// Hidden files and folders within the folder are passed over. What cannot be read is reported,
    /// and the rest is read nevertheless.
    pub fn read(path: &Path, problems: &mut Vec<Problem>) -> Self {
        let mut sources = Self::default();
        if !path.is_dir() {
            sources.read_file(path, problems);
            return sources;
        }
        let mut paths = match configuration_files(path) {
            Ok(paths) => paths,
            Err(error) => {
                problems
                    .push(Problem::about_file(path, format!("cannot read this folder: {error}")));
                return sources;
            }
        };
        if paths.is_empty() {
            problems.push(Problem::about_file(path, "no *.yaml file is in this folder"));
        }
        if paths.len() > FILES_MAX {
            problems.push(Problem::about_file(
                path,
                format!("{} files are in this folder; at most {FILES_MAX} are read", paths.len()),
            ));
            paths.truncate(FILES_MAX);
        }
        for path in paths {
            sources.read_file(&path, problems);
        }
        sources
    }

    /// Takes a text as if it had been read from `path`; its number is returned.
    pub fn add(&mut self, path: impl Into<PathBuf>, text: impl Into<Arc<str>>) -> u32 {
        self.files.push(File { path: path.into(), text: text.into() });
        u32::try_from(self.files.len() - 1).unwrap_or(u32::MAX - 1)
    }

    fn read_file(&mut self, path: &Path, problems: &mut Vec<Problem>) {
        match read_bounded(path, FILE_BYTES_MAX) {
            Err(what) => problems.push(Problem::about_file(path, what)),
            Ok(bytes) => match String::from_utf8(bytes) {
                Ok(text) => match text.bytes().position(|b| b == 0) {
                    Some(at) => problems.push(Problem::about_file(
                        path,
                        format!(
                            "this is a binary file: byte {at} is NUL; a configuration is YAML text"
                        ),
                    )),
                    None => {
                        self.add(path, text);
                    }
                },
                Err(error) => {
                    let at = error.utf8_error().valid_up_to();
                    let line = error.as_bytes()[..at].iter().filter(|b| **b == b'\n').count() + 1;
                    problems.push(Problem::about_file(
                        path,
                        format!("line {line} is not UTF-8 text (byte {at}); a configuration is YAML text"),
                    ));
                }
            },
        }
    }

    /// The same files with what stands at these places made unreadable; no position changes.
    #[must_use]
    pub fn redacted(&self, secrets: &[Place]) -> Self {
        let mut files = self.files.clone();
        for (number, file) in (0..).zip(&mut files) {
            let mut own = secrets.iter().filter(|place| place.file == number).peekable();
            if own.peek().is_none() {
                continue;
            }
            let mut bytes = file.text.as_bytes().to_vec();
            for place in own {
                if let Some(range) = bytes.get_mut(place.start as usize..place.end as usize) {
                    range.iter_mut().filter(|b| !b.is_ascii_whitespace()).for_each(|b| *b = b'*');
                }
            }
            // A place is whole values; were one to cut through a character, nothing of the file would be shown.
            file.text = String::from_utf8(bytes).unwrap_or_default().into();
        }
        Self { files }
    }

    /// The files, by number.
    pub fn files(&self) -> &[File] {
        &self.files
    }

    /// The file of a place.
    pub fn file(&self, place: Place) -> Option<&File> {
        self.files.get(place.file as usize)
    }

    /// What stands at a place.
    pub fn text(&self, place: Place) -> Option<&str> {
        self.file(place)?.text.get(place.start as usize..place.end as usize)
    }

    /// Line and column of a place.
    pub fn position(&self, place: Place) -> Option<Position> {
        let file = self.file(place)?;
        let upto = file.text.get(..place.start as usize)?;
        let line_start = upto.rfind('\n').map_or(0, |at| at + 1);
        Some(Position {
            path: file.path.clone(),
            line: upto.bytes().filter(|b| *b == b'\n').count() + 1,
            column: upto[line_start..].chars().count() + 1,
        })
    }
}

/// The configuration files of a folder, by name.
pub(super) fn configuration_files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path
            .file_name()
            .and_then(|name| name.to_str())
            .is_none_or(|name| name.starts_with('.'));
        let yaml = path
            .extension()
            .and_then(|extension| extension.to_str())
            .is_some_and(|extension| ["yaml", "yml", "json"].contains(&extension));
        // Hidden names are how Kubernetes keeps the versions of a mounted volume.
        if !hidden && yaml && !path.is_dir() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Reads a regular file of at most `bytes_max` bytes; the error is a sentence.
pub fn read_bounded(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    read_pieces(path, bytes_max, |piece, left| {
        bytes.reserve(piece.len() + left);
        bytes.extend_from_slice(piece);
    })?;
    Ok(bytes)
}

/// Hands out a regular file of at most `bytes_max` bytes piece by piece, each with how much is to come by the size
/// of the file; the error is a sentence.
pub(super) fn read_pieces(
    path: &Path,
    bytes_max: u64,
    mut take: impl FnMut(&[u8], usize),
) -> Result<(), String> {
    let cannot = |error| format!("cannot read this file: {error}");
    let meta = fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        _ => cannot(error),
    })?;
    if !meta.is_file() {
        return Err("this is no regular file".into());
    }
    let too_large = || format!("this file is larger than {}", weft_kernel::ByteSize(bytes_max));
    if meta.len() > bytes_max {
        return Err(too_large());
    }
    let mut file = BufReader::with_capacity(PIECE, fs::File::open(path).map_err(cannot)?);
    let mut done = 0;
    loop {
        let piece = file.fill_buf().map_err(cannot)?;
        let len = piece.len();
        done += len as u64;
        if done > bytes_max {
            return Err(too_large());
        }
        if len == 0 {
            return Ok(());
        }
        take(piece, usize::try_from(meta.len().saturating_sub(done)).unwrap_or(0));
        file.consume(len);
    }
}
