//! The access log: one line per request, formatted and written on a thread of its own.
//!
//! A worker asks [`Log::wants`], then copies the fields of an [`Entry`] into a buffer of its own; that
//! is all a request pays. If the disk or the pipe cannot keep up, entries are dropped and counted, and
//! no request waits.

mod entry;
mod line;
mod queue;

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, sync_channel},
    },
    thread,
    time::Duration,
};

pub use entry::{Entry, FIELD_BYTES_MAX, push_fact};
use queue::{Buffer, Queue};
use weft_kernel::{Error, Reason, Rng};

use crate::metrics::{AccessMeter, Shards};

/// How much is formatted before it is written.
const WRITE_BYTES: usize = 64 * 1024;
/// How long [`Guard::close`] waits for a destination that blocks.
const CLOSE_MAX: Duration = Duration::from_secs(2);

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Format {
    /// One JSON object a line.
    #[default]
    Json,
    /// The combined log format and `name=value` behind it.
    Text,
}

/// Which requests are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Include {
    /// Those that failed, and of the others the sampled share.
    #[default]
    All,
    /// Those with a status of 400 or more, or with a reason.
    Errors,
    /// None.
    None,
}

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Destination {
    /// Standard output.
    #[default]
    Stdout,
    /// Standard error.
    Stderr,
    /// A file that is appended to, and made if need be.
    File(PathBuf),
}

/// What is logged, how, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// JSON or text.
    pub format: Format,
    /// Where to.
    pub destination: Destination,
    /// Which requests.
    pub include: Include,
    /// The share (0 to 1) of requests without error that is logged; errors always are.
    pub sample: f64,
    /// The most bytes that wait to be written, for each worker.
    pub queue_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            format: Format::Json,
            destination: Destination::Stdout,
            include: Include::Errors,
            sample: 1.0,
            queue_bytes: 1024 * 1024,
        }
    }
}

/// Takes entries; cheap to clone.
#[derive(Clone, Debug)]
pub struct Log(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: Queue,
    include: Include,
    sample: f64,
    reopen: AtomicBool,
    meter: AccessMeter,
}

/// Ends the log: when closed or dropped, what is queued is written.
#[derive(Debug)]
pub struct Guard {
    shared: Arc<Shared>,
    done: Receiver<()>,
}

impl Log {
    /// Opens the destination and starts the writer thread.
    pub fn open(
        options: Options,
        shards: Shards,
        meter: AccessMeter,
    ) -> Result<(Self, Guard), Error> {
        let sink = Sink::open(&options.destination).map_err(|error| {
            let say = match &options.destination {
                Destination::File(path) => format!("cannot open {}", path.display()),
                _ => "cannot open the standard stream".to_owned(),
            };
            Error::new(Reason::Misconfigured, say).because(error).at("access log")
        })?;
        let shared = Arc::new(Shared {
            queue: Queue::new(shards, options.queue_bytes),
            include: options.include,
            sample: options.sample,
            reopen: AtomicBool::new(false),
            meter,
        });
        let writer = Writer {
            shared: Arc::clone(&shared),
            destination: options.destination,
            format: options.format,
            sink,
            text: Vec::with_capacity(WRITE_BYTES),
            lines: 0,
            failing: false,
        };
        let (tell, done) = sync_channel(1);
        thread::Builder::new()
            .name("weft-access".into())
            .spawn(move || {
                writer.run();
                // Nobody listens if the guard has given up.
                let _ = tell.send(());
            })
            .map_err(|error| {
                Error::new(Reason::Internal, "cannot start the writer thread")
                    .because(error)
                    .at("access log")
            })?;
        Ok((Self(Arc::clone(&shared)), Guard { shared, done }))
    }

    /// Whether a request with this outcome is to be logged.
    #[inline]
    pub fn wants(&self, status: u16, reason: Option<Reason>, rng: &mut Rng) -> bool {
        let failed = status >= 400 || reason.is_some();
        match self.0.include {
            Include::All => failed || self.0.sample >= 1.0 || rng.chance(self.0.sample),
            Include::Errors => failed,
            Include::None => false,
        }
    }

    /// Queues an entry from `worker`, or drops and counts it. Never waits.
    #[inline]
    pub fn push(&self, worker: usize, entry: &Entry<'_>) {
        if !self.0.queue.push(worker, entry) {
            self.0.meter.full.add(1);
        }
    }

    /// Opens the file anew before the next line, for log rotation. If that fails, the old one is kept.
    pub fn reopen(&self) {
        self.0.reopen.store(true, Ordering::Release);
        self.0.queue.wake();
    }
}

impl Guard {
    /// Writes what is queued and ends the writer thread; gives up on a destination that blocks for 2 s.
    pub fn close(self) {
        drop(self);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.shared.queue.close();
        if self.done.recv_timeout(CLOSE_MAX).is_err() {
            tracing::warn!("the access log could not be written to its end");
        }
    }
}

#[derive(Debug)]
enum Sink {
    Stdout(io::Stdout),
    Stderr(io::Stderr),
    File(File),
}

impl Sink {
    fn open(destination: &Destination) -> io::Result<Self> {
        Ok(match destination {
            Destination::Stdout => Self::Stdout(io::stdout()),
            Destination::Stderr => Self::Stderr(io::stderr()),
            Destination::File(path) => {
                Self::File(OpenOptions::new().append(true).create(true).open(path)?)
            }
        })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout(to) => {
                let mut to = to.lock();
                to.write_all(bytes)?;
                to.flush()
            }
            Self::Stderr(to) => to.write_all(bytes),
            Self::File(to) => to.write_all(bytes),
        }
    }
}

/// The other side of the queue, on the writer thread.
struct Writer {
    shared: Arc<Shared>,
    destination: Destination,
    format: Format,
    sink: Sink,
    text: Vec<u8>,
    lines: u64,
    failing: bool,
}

impl Writer {
    fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let mut spare = Buffer::default();
        loop {
            let open = shared.queue.wait();
            if shared.reopen.swap(false, Ordering::AcqRel) {
                self.reopen();
            }
            shared.queue.drain(&mut spare, |buffer| self.format(buffer));
            self.flush();
            if !open {
                return;
            }
        }
    }

    fn reopen(&mut self) {
        match Sink::open(&self.destination) {
            Ok(sink) => {
                self.sink = sink;
                tracing::info!("access log opened anew");
            }
            Err(error) => {
                tracing::warn!(%error, "access log cannot be opened anew; the old file is kept");
            }
        }
    }

    fn format(&mut self, buffer: &Buffer) {
        let mut from = &buffer.bytes[..];
        while let Some(entry) = Entry::unpack(&mut from) {
            line::write(&entry, self.format, &mut self.text);
            self.lines += 1;
            if self.text.len() >= WRITE_BYTES {
                self.flush();
            }
        }
    }

    fn flush(&mut self) {
        if self.text.is_empty() {
            return;
        }
        match self.sink.write(&self.text) {
            Ok(()) => {
                self.shared.meter.lines.add(self.lines);
                if std::mem::take(&mut self.failing) {
                    tracing::info!("access log is written again");
                }
                self.text.clear();
            }
            Err(error) => {
                self.shared.meter.failed.add(self.lines);
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(%error, "access log cannot be written; lines are lost");
                }
                // Part of a line may have got out: end it, so that the next one stands alone.
                self.text.clear();
                self.text.push(b'\n');
            }
        }
        self.lines = 0;
    }
}
