//! Child processes that do not outlive their owner, and ports for them.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

/// How long a child may take to end once it was asked.
const GRACE: Duration = Duration::from_secs(8);

/// A running child, its output in a file.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a command with all its output in a file.
    pub(crate) fn start(mut command: Command, log: &Path) -> Result<Self> {
        let file = File::create(log).with_context(|| format!("create {}", log.display()))?;
        // In a group of its own, so that a Ctrl-C in the terminal reaches the tour alone, which then
        // ends its children in order.
        command
            .process_group(0)
            .stdout(file.try_clone()?)
            .stderr(file)
            .stdin(std::process::Stdio::null());
        let child =
            command.spawn().with_context(|| format!("start {:?}", command.get_program()))?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status, if it ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// The last lines of its output.
    pub(crate) fn last_words(&self) -> String {
        let lines = File::open(&self.log)
            .and_then(|file| BufReader::new(file).lines().collect::<io::Result<Vec<_>>>())
            .unwrap_or_default();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// Ends it without a chance to say goodbye.
    pub(crate) fn kill(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end, waits, and kills it if it does not.
    pub(crate) fn end(&mut self) {
        if self.ended().is_some() {
            return;
        }
        let pid = self.child.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &pid]).status();
        let until = Instant::now() + GRACE;
        while asked.is_ok() && Instant::now() < until {
            if self.ended().is_some() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.kill();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// Loopback addresses whose ports are free now.
pub(crate) fn free_ports(count: usize) -> Result<Vec<SocketAddr>> {
    // All are held until all are known, so that none is given twice.
    let held: io::Result<Vec<TcpListener>> =
        (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect();
    Ok(held?.iter().map(TcpListener::local_addr).collect::<io::Result<_>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_differ() {
        let mut ports = free_ports(20).unwrap();
        ports.sort();
        ports.dedup();
        assert_eq!(ports.len(), 20);
    }

    fn shell(script: &str, log: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let log = std::env::temp_dir().join(format!("{log}-{}", std::process::id()));
        Process::start(command, &log).unwrap()
    }

    fn said(process: &Process, word: &str) {
        let until = Instant::now() + Duration::from_secs(5);
        while !process.last_words().contains(word) {
            assert!(Instant::now() < until, "never said {word}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn it_is_asked_before_it_is_killed() {
        let mut polite =
            shell("trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.01; done", "polite");
        said(&polite, "up");
        polite.end();
        assert_eq!(polite.ended().and_then(|status| status.code()), Some(3));
        said(&polite, "bye");
        std::fs::remove_file(&polite.log).unwrap();
    }

    #[test]
    fn killed_is_ended() {
        let mut process = shell("echo up; exec sleep 1000", "killed");
        said(&process, "up");
        assert!(process.ended().is_none());
        process.kill();
        assert_eq!(process.ended().and_then(|status| status.code()), None);
        assert!(process.ended().is_some());
        std::fs::remove_file(&process.log).unwrap();
    }
}
