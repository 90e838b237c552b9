//! The real binary, as a process.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{conn::Conn, message::HttpMessage, port::Port, wait::until};

/// Most lines of output that are kept.
const LINES_MAX: usize = 200_000;

/// A running node. It is killed when this is dropped.
///
/// In its configuration `@name` stands for an address of the loopback interface that is its own, the
/// same for each name over reloads, and `@@` for the folder of the test. The admin API listens at `@admin`
/// unless a configuration with listeners says where: at its usual port only one node of a machine can.
#[derive(Debug)]
pub struct Weft {
    child: Child,
    binary: String,
    arguments: Vec<String>,
    folder: Arc<TempDir>,
    ports: Arc<Mutex<BTreeMap<String, Port>>>,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Weft {
    /// Starts a node and waits until it is up.
    pub fn start(binary: &str, yaml: &str) -> Self {
        Self::with(binary, yaml, &[])
    }

    /// Starts a node with further arguments; `@@` is the folder of the test there too.
    pub fn with(binary: &str, yaml: &str, arguments: &[&str]) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        Self::within(binary, Some(yaml), arguments, folder, Arc::default())
    }

    /// Starts another node with the same configuration, ports, folder and arguments.
    pub fn successor(&self) -> Self {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        Self::within(&self.binary, None, &arguments, self.folder.clone(), self.ports.clone())
    }

    /// As [`successor`](Self::successor), with another configuration.
    pub fn again(&self, yaml: &str) -> Self {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        let (folder, ports) = (self.folder.clone(), self.ports.clone());
        Self::within(&self.binary, Some(yaml), &arguments, folder, ports)
    }

    fn within(
        binary: &str,
        yaml: Option<&str>,
        arguments: &[&str],
        folder: Arc<TempDir>,
        ports: Arc<Mutex<BTreeMap<String, Port>>>,
    ) -> Self {
        let path = folder.path().join("weft.yaml");
        if let Some(yaml) = yaml {
            fs::write(&path, complete(yaml, folder.path(), &ports)).unwrap();
        }
        let arguments: Vec<String> =
            arguments.iter().map(|text| fill(text, folder.path(), &ports)).collect();
        // Two workers, so that what is shared between them is, unless a test says otherwise.
        let told = arguments.iter().any(|argument| argument == "--workers");
        let workers: &[&str] = if told { &[] } else { &["--workers", "2"] };
        let mut child = Command::new(binary)
            .args(["up", "--config"])
            .arg(&path)
            .args(workers)
            .args(&arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        gather(child.stdout.take(), &lines);
        gather(child.stderr.take(), &lines);
        let mut weft = Self { child, binary: binary.to_owned(), arguments, folder, ports, lines };
        until("weft is up", || {
            if let Some(status) = weft.child.try_wait().unwrap() {
                panic!("weft ended with {status}:\n{}", weft.output());
            }
            weft.find("weft is up")
        });
        weft
    }

    /// The address that `@name` stands for.
    pub fn address(&self, name: &str) -> SocketAddr {
        address(name, &self.ports)
    }

    /// A connection to the address that `@name` stands for.
    pub fn connect(&self, name: &str) -> Conn {
        Conn::to(self.address(name))
    }

    /// The response to one request on a connection of its own, to `@web`.
    pub fn ask(&self, request: impl AsRef<[u8]>) -> HttpMessage {
        self.connect("web").ask(request)
    }

    /// The response to a GET with further field lines, each with its line end.
    pub fn get(&self, path: &str, fields: &str) -> HttpMessage {
        self.ask(format!("GET {path} HTTP/1.1\r\nhost: test\r\n{fields}\r\n"))
    }

    /// The folder of the test.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file into the folder, whole or not at all, and gives its path.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder().join(name);
        let fresh = self.folder().join(format!(".{name}.fresh"));
        fs::write(&fresh, text).unwrap();
        fs::rename(&fresh, &path).unwrap();
        path
    }

    /// Changes the configuration and waits for the verdict: why it was refused, if it was.
    pub fn reload(&self, yaml: &str) -> Result<(), String> {
        let text = complete(yaml, self.folder.path(), &self.ports);
        let before = self.lines.lock().unwrap_or_else(PoisonError::into_inner).len();
        self.write("weft.yaml", &text);
        until("the configuration is applied or refused", || {
            let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            lines[before.min(lines.len())..].iter().find_map(|line| {
                if line.contains("configuration applied") {
                    Some(Ok(()))
                } else {
                    line.contains("configuration refused").then(|| Err(line.clone()))
                }
            })
        })
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Asks it to drain and end.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        until("weft ends", || self.child.try_wait().unwrap())
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory, in bytes.
    pub fn memory(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/statm", self.child.id())).unwrap();
        let pages: u64 = text.split(' ').nth(1).unwrap().parse().unwrap();
        pages * rustix::param::page_size() as u64
    }

    /// The sum of a metric over all series that have these texts among their labels; asks the admin API
    /// at `@admin`.
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text =
            self.connect("admin").ask("GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").text();
        let value = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            let (found, having) = series.split_once('{').unwrap_or((series, ""));
            let fits = found == name && labels.iter().all(|label| having.contains(label));
            fits.then(|| value.parse::<f64>().ok()).flatten()
        };
        text.lines().filter_map(value).sum()
    }

    /// Waits until a metric has reached a value.
    pub fn wait_metric(&self, name: &str, labels: &[&str], least: f64) {
        until(&format!("{name} {labels:?} at least {least}"), || {
            (self.metric(name, labels) >= least).then_some(())
        });
    }

    /// All that it has written.
    pub fn output(&self) -> String {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }

    /// The last line that contains a text.
    pub fn find(&self, text: &str) -> Option<String> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().rev().find(|line| line.contains(text)).cloned()
    }

    /// Waits for a line that contains a text, such as one of the access log.
    pub fn wait_line(&self, text: &str) -> String {
        let limit = Duration::from_secs(10);
        let began = std::time::Instant::now();
        until(text, || {
            assert!(began.elapsed() < limit, "no line with `{text}` in:\n{}", self.output());
            self.find(text)
        })
    }
}

impl Drop for Weft {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let output = self.output();
            let from = output.len().saturating_sub(8000);
            let from = (from..output.len()).find(|at| output.is_char_boundary(*at));
            #[allow(clippy::print_stderr, reason = "the story of a failed test")]
            {
                eprintln!("--- weft said:\n{}", &output[from.unwrap_or(0)..]);
            }
        }
    }
}

fn gather(from: Option<impl Read + Send + 'static>, lines: &Arc<Mutex<Vec<String>>>) {
    let (Some(from), lines) = (from, lines.clone()) else { return };
    thread::spawn(move || {
        for line in BufReader::new(from).lines() {
            let Ok(line) = line else { return };
            let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
            if lines.len() < LINES_MAX {
                lines.push(line);
            }
        }
    });
}

fn address(name: &str, ports: &Mutex<BTreeMap<String, Port>>) -> SocketAddr {
    let mut ports = ports.lock().unwrap_or_else(PoisonError::into_inner);
    ports.entry(name.to_owned()).or_insert_with(Port::reserve).address()
}

/// A configuration as it is written to its file.
fn complete(yaml: &str, folder: &Path, ports: &Mutex<BTreeMap<String, Port>>) -> String {
    let lacks = yaml.contains("listeners:") && !yaml.contains("admin:");
    let admin = if lacks { "\nadmin: { listen: '@admin' }\n" } else { "" };
    fill(&format!("{yaml}{admin}"), folder, ports)
}

/// Puts addresses and the folder into a text.
fn fill(text: &str, folder: &Path, ports: &Mutex<BTreeMap<String, Port>>) -> String {
    let mut full = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('@') {
        full.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('@') {
            full.push_str(&folder.display().to_string());
            rest = after;
            continue;
        }
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        full.push_str(&address(&rest[..end], ports).to_string());
        rest = &rest[end..];
    }
    full + rest
}
