//! A folder of the machine.

use std::{
    any::Any,
    fs, io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use super::{Disk, File};

const ZEROS: usize = 1 << 20;
const LOCK: &str = "lock";
/// Descriptors that are held back for when connections have taken all others: enough for the files of one
/// round of maintenance, and some that another thread takes in between.
const KEPT: usize = 8;

/// A folder of the machine.
#[derive(Debug)]
pub struct RealDisk {
    root: PathBuf,
    read_only: bool,
    /// The folders that were made at the opening, the innermost first.
    made: Vec<PathBuf>,
    /// Descriptors of the folder, each to be given up for one that is missing; none before it is locked.
    kept: Mutex<Vec<fs::File>>,
    keeps: AtomicBool,
}

impl RealDisk {
    /// Opens the folder `root`, and makes it if it is missing.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn open(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        let made: Vec<PathBuf> = std::path::absolute(&root)?
            .ancestors()
            .filter(|folder| !folder.exists())
            .map(Path::to_owned)
            .collect();
        fs::create_dir_all(&root)?;
        // What is safe in a folder is lost with the name of the folder.
        for above in made.iter().filter_map(|folder| folder.parent()) {
            fs::File::open(above)?.sync_all()?;
        }
        Ok(Self { read_only: false, made, ..Self::read_only(root) })
    }

    /// The folder `root`, to be read: its files may be read-only, and nothing in it is changed.
    pub fn read_only(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            read_only: true,
            made: Vec::new(),
            kept: Mutex::default(),
            keeps: AtomicBool::new(false),
        }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

impl RealDisk {
    /// Opens something; where no descriptor is left, with one of those that are held back.
    fn opening<T>(&self, open: impl Fn() -> io::Result<T>) -> io::Result<T> {
        let mut gave = false;
        loop {
            let opened = open();
            if opened.as_ref().is_err_and(out_of_descriptors)
                && let Some(one) = self.kept.lock().pop()
            {
                drop(one);
                gave = true;
                continue;
            }
            if !gave && self.keeps.load(Ordering::Relaxed) {
                self.keep();
            }
            return opened;
        }
    }

    /// Holds descriptors back, as far as there are any.
    fn keep(&self) {
        let mut kept = self.kept.lock();
        while kept.len() < KEPT {
            match fs::File::open(&self.root) {
                Ok(one) => kept.push(one),
                Err(_) => return,
            }
        }
    }

    fn writable(&self) -> io::Result<()> {
        if self.read_only { Err(io::ErrorKind::ReadOnlyFilesystem.into()) } else { Ok(()) }
    }

    /// Locks the folder itself, so that nothing of what is in it can be lost with the lock; `None` where
    /// a file system locks no folders.
    fn lock_folder(&self, how: FlockOperation) -> io::Result<Option<fs::File>> {
        let folder = fs::File::open(&self.root)?;
        match flock(&folder, how).map_err(io::Error::from) {
            Ok(()) => Ok(Some(folder)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            Err(_) => Ok(None),
        }
    }
}

/// Whether the process, or the machine, has no descriptor left.
fn out_of_descriptors(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE))
}

/// When a process began, as the machine counts it; `None` if there is no such process, or no telling.
fn begun(pid: u32) -> Option<String> {
    let told = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program stands in brackets, and may have anything in it.
    told.rsplit_once(')')?.1.split_ascii_whitespace().nth(19).map(str::to_owned)
}

/// The folder as long as it is held.
#[derive(Debug)]
struct Held {
    file: fs::File,
    #[expect(dead_code, reason = "it is held, not read")]
    folder: Option<fs::File>,
}

impl Drop for Held {
    fn drop(&mut self) {
        // Nobody is named who does not have it any more.
        let _ = self.file.set_len(0);
    }
}

impl Disk for RealDisk {
    fn open(&self, path: &str, create: bool) -> io::Result<Arc<dyn File>> {
        let path = self.root.join(path);
        if self.read_only {
            return Ok(Arc::new(RealFile(fs::File::open(path)?)));
        }
        let open = || {
            self.opening(|| {
                let mut options = fs::File::options();
                options.read(true).write(true).create(create).truncate(false).open(&path)
            })
        };
        let file = match open() {
            Err(error) if create && error.kind() == io::ErrorKind::NotFound => {
                let Some(folder) = path.parent() else { return Err(error) };
                fs::create_dir_all(folder)?;
                // The folder's own name has to survive as well.
                if let Some(above) = folder.parent() {
                    self.opening(|| fs::File::open(above))?.sync_all()?;
                }
                open()?
            }
            opened => opened?,
        };
        Ok(Arc::new(RealFile(file)))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let path = self.root.join(dir);
        let entries = match self.opening(|| fs::read_dir(&path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_file()
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.writable()?;
        fs::remove_file(self.root.join(path))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.writable()?;
        fs::rename(self.root.join(from), self.root.join(to))
    }

    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        self.writable()?;
        match fs::remove_dir(self.root.join(dir)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    fn unmake(&self) {
        if self.writable().is_err() {
            return;
        }
        // Who has the folder locked has this file; who has not, leaves it.
        let _ = fs::remove_file(self.root.join(LOCK));
        for folder in &self.made {
            if fs::remove_dir(folder).is_err() {
                return;
            }
        }
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.writable()?;
        let path = self.root.join(dir);
        match self.opening(|| fs::File::open(&path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            folder => folder?.sync_all(),
        }
    }

    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        self.writable()?;
        let folder = self.lock_folder(FlockOperation::NonBlockingLockExclusive)?;
        self.keeps.store(true, Ordering::Relaxed);
        self.keep();
        let path = self.root.join(LOCK);
        let open = || -> io::Result<fs::File> {
            let file = fs::File::options().create(true).truncate(false).write(true).open(path)?;
            flock(&file, FlockOperation::NonBlockingLockExclusive)?;
            // Whom others wait for; that it cannot be written is no reason not to go on.
            let _ = file.set_len(0);
            let me = std::process::id();
            let told = format!("{me} {}\n", begun(me).unwrap_or_default());
            let _ = file.write_all_at(told.as_bytes(), 0);
            Ok(file)
        };
        match (open(), folder) {
            (Ok(file), folder) => Ok(Box::new(Held { file, folder })),
            // The folder is what counts: its file only tells who has it.
            (Err(error), Some(folder)) if error.kind() != io::ErrorKind::WouldBlock => {
                Ok(Box::new(folder))
            }
            (Err(error), _) => Err(error),
        }
    }

    fn lock_shared(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        let folder = self.lock_folder(FlockOperation::NonBlockingLockShared)?;
        let Ok(file) = fs::File::open(self.root.join(LOCK)) else { return Ok(Box::new(folder)) };
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Err(error) if io::Error::from(error).kind() == io::ErrorKind::WouldBlock => {
                Err(error.into())
            }
            _ => Ok(Box::new((file, folder))),
        }
    }

    fn holder(&self) -> Option<u32> {
        let told = fs::read_to_string(self.root.join(LOCK)).ok()?;
        let (pid, time) = told.trim_end_matches('\n').split_once(' ')?;
        let pid = pid.parse().ok()?;
        // Another process may have the number of one that is gone, or of one in another container.
        (begun(pid).unwrap_or_default() == time).then_some(pid)
    }

    fn folder(&self) -> Option<&Path> {
        Some(&self.root)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let found = rustix::fs::statvfs(&self.root)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }
}

#[derive(Debug)]
struct RealFile(fs::File);

impl File for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < bytes.len() {
            match self.0.read_at(&mut bytes[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn allocate_zeroed(&self, len: u64) -> io::Result<()> {
        let zeros = vec![0; ZEROS.min(usize::try_from(len).unwrap_or(ZEROS))];
        let mut at = 0;
        while at < len {
            let count = zeros.len().min(usize::try_from(len - at).unwrap_or(ZEROS));
            self.0.write_all_at(&zeros[..count], at)?;
            at += count as u64;
        }
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}
