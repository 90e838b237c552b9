//! Endpoints that stand in a file, which is watched.
//!
//! Two formats, each as JSON or YAML, which [`mod@format`] tells apart: Prometheus' `file_sd` lists and
//! Envoy's `ClusterLoadAssignment`. The file is looked at every [`POLL`], by its metadata alone while these
//! stay the same: that sees a write, a rename over it and a swapped link alike, on any file system. A
//! file that is missing, too large, half-written or wrong is a failure, which keeps the last set.

pub mod format;
mod yaml;

use std::{
    fs,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use weft_kernel::ByteSize;

use super::{Feed, Instance, Running, Source};

/// How often a file is looked at.
pub const POLL: Duration = Duration::from_millis(500);
/// The largest file that is read.
pub const FILE_BYTES_MAX: u64 = 4 << 20;
/// How long a file that changes must stay the same before it is read.
const SETTLE: Duration = Duration::from_millis(20);
/// How long a file may keep changing before it is read nevertheless.
const SETTLE_MAX: Duration = Duration::from_secs(1);
/// A file that was changed this short a time before it was read may have been changed again without a
/// trace in its metadata, whose times are no finer than a tick of the kernel.
const GRANULARITY: Duration = Duration::from_secs(1);

/// What tells one content of a path from the next; `None` if nothing can be seen there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let meta = fs::metadata(path).ok()?;
        Some(Self {
            device: meta.dev(),
            inode: meta.ino(),
            length: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }

    /// Whether a change after `now` would show.
    fn is_old(&self, now: SystemTime) -> bool {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let changed = Duration::from_secs(self.changed.0.max(0).unsigned_abs());
        since > changed + GRANULARITY + GRANULARITY
    }
}

/// What was seen of a file last.
#[derive(Clone, Copy, Debug)]
struct Seen {
    stamp: Option<Stamp>,
    /// The same stamp means the same content.
    sure: bool,
}

/// What a look at a file found: nothing new, or what stands there now.
type Look = (Seen, Option<Result<Vec<Instance>, String>>);

fn look(path: &Path, before: Option<Seen>) -> Look {
    let mut stamp = Stamp::of(path);
    if let Some(before) = before {
        if before.stamp == stamp && before.sure {
            return (before, None);
        }
        let begun = Instant::now();
        while begun.elapsed() < SETTLE_MAX {
            thread::sleep(SETTLE);
            let now = Stamp::of(path);
            if now == stamp {
                break;
            }
            stamp = now;
        }
    }
    let sure = stamp.is_none_or(|stamp| stamp.is_old(SystemTime::now()));
    (Seen { stamp, sure }, Some(read(path)))
}

/// Reads the endpoints in a file.
///
/// # Errors
/// Why they cannot be used, for people.
pub fn read(path: &Path) -> Result<Vec<Instance>, String> {
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        _ => format!("the file cannot be read: {error}"),
    };
    let meta = fs::metadata(path).map_err(unreadable)?;
    if !meta.is_file() {
        return Err("this is no regular file".into());
    }
    let mut text = String::new();
    let length = fs::File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text))
        .map_err(unreadable)?;
    if length as u64 > FILE_BYTES_MAX {
        return Err(format!("the file is larger than {}", ByteSize(FILE_BYTES_MAX)));
    }
    format::parse(&text)
}

/// A file of endpoints.
#[derive(Debug)]
pub struct FileSource(Arc<Path>);

impl FileSource {
    /// A source of the endpoints in a file, which need not be there yet.
    pub fn new(path: Arc<Path>) -> Self {
        Self(path)
    }
}

impl Source for FileSource {
    fn start(self: Box<Self>, feed: Feed) -> Option<Running> {
        let path = self.0;
        let (mut seen, found) = look(&path, None);
        let tell = move |found: Result<Vec<Instance>, String>| match found {
            Ok(instances) => feed.push(instances),
            Err(why) => feed.fail(why),
        };
        found.map(&tell);
        Some(Box::pin(async move {
            let mut told_wrong = None;
            loop {
                tokio::time::sleep(POLL).await;
                let path = Arc::clone(&path);
                // A network file system may let one wait.
                let looked = tokio::task::spawn_blocking(move || look(&path, Some(seen)));
                let Ok((now, found)) = looked.await else { continue };
                let same = now.stamp == seen.stamp;
                seen = now;
                match found {
                    // Read again only to be sure: the same failure is told once.
                    Some(Err(why)) if same && told_wrong.as_ref() == Some(&why) => {}
                    Some(found) => {
                        told_wrong = found.as_ref().err().cloned();
                        tell(found);
                    }
                    None => {}
                }
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_change_a_file_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("endpoints.json");
        let text = |last: u8| format!(r#"[{{"targets": ["10.0.0.{last}:80"]}}]"#);
        let found = |look: &Look| -> Option<Result<String, String>> {
            let (_, found) = look;
            let first = |all: &Vec<Instance>| all[0].location.to_string();
            found.as_ref().map(|found| found.as_ref().map(first).map_err(Clone::clone))
        };
        let mut seen = look(&path, None);
        assert_eq!(found(&seen), Some(Err("there is no such file".into())));
        seen = look(&path, Some(seen.0));
        assert_eq!(found(&seen), None, "what is missing still is no news");

        fs::write(&path, text(1)).unwrap();
        seen = look(&path, Some(seen.0));
        assert_eq!(found(&seen), Some(Ok("10.0.0.1:80".into())));
        // The same length, perhaps within the same tick of the kernel's clock.
        fs::write(&path, text(2)).unwrap();
        seen = look(&path, Some(seen.0));
        assert_eq!(found(&seen), Some(Ok("10.0.0.2:80".into())));

        let next = folder.path().join("next");
        fs::write(&next, text(3)).unwrap();
        fs::rename(&next, &path).unwrap();
        seen = look(&path, Some(seen.0));
        assert_eq!(found(&seen), Some(Ok("10.0.0.3:80".into())));

        // As Kubernetes does: the file is a link through a folder that is a link.
        fs::remove_file(&path).unwrap();
        for (version, last) in [("v1", 4), ("v2", 5)] {
            fs::create_dir(folder.path().join(version)).unwrap();
            fs::write(folder.path().join(version).join("endpoints.json"), text(last)).unwrap();
            let data = folder.path().join("..data");
            std::os::unix::fs::symlink(version, folder.path().join("..tmp")).unwrap();
            fs::rename(folder.path().join("..tmp"), &data).unwrap();
            if !path.is_symlink() {
                std::os::unix::fs::symlink("..data/endpoints.json", &path).unwrap();
            }
            seen = look(&path, Some(seen.0));
            assert_eq!(found(&seen), Some(Ok(format!("10.0.0.{last}:80"))));
        }
    }

    #[test]
    fn what_is_too_large_or_no_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()).unwrap_err(), "this is no regular file");
        let path = folder.path().join("large");
        let file = fs::File::create(&path).unwrap();
        file.set_len(FILE_BYTES_MAX + 1).unwrap();
        assert_eq!(read(&path).unwrap_err(), "the file is larger than 4MiB");
    }
}
