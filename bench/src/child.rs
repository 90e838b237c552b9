//! Child processes that end with their guard, and what the kernel says of their whole tree: processor
//! time and memory.
//!
//! nginx and HAProxy work in children of a master, so every figure is that of a tree.

use std::{
    fs,
    process::{Command, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::stop;

/// How long a process may take to end when it is asked to.
const END: Duration = Duration::from_secs(3);

/// A process that is ended, with its descendants, when this is dropped.
#[derive(Debug)]
pub(crate) struct Child {
    name: &'static str,
    inner: std::process::Child,
}

impl Child {
    /// Starts it.
    pub(crate) fn start(name: &'static str, command: &mut Command) -> Result<Self> {
        let inner = command
            .spawn()
            .with_context(|| format!("start {name}: {}", command.get_program().display()))?;
        Ok(Self { name, inner })
    }

    /// What it wrote to, if that is a pipe.
    pub(crate) fn stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.inner.stdout.take()
    }

    /// Fails if it has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        if let Some(status) = self.inner.try_wait()? {
            bail!("{} ended: {status}", self.name);
        }
        Ok(())
    }

    /// Sends a signal to the process that was started.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.inner.id()).ok().and_then(Pid::from_raw);
        let pid = pid.context("a process id out of range")?;
        kill_process(pid, signal).with_context(|| format!("signal {}", self.name))
    }

    /// Waits until it ends.
    pub(crate) fn wait(&mut self, longest: Duration) -> Result<ExitStatus> {
        let until = Instant::now() + longest;
        loop {
            if let Some(status) = self.inner.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > until {
                bail!("{} did not end within {longest:?}", self.name);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// The processor time of the tree so far.
    pub(crate) fn cpu(&self) -> Duration {
        let ticks: u64 = tree(self.inner.id()).into_iter().filter_map(ticks).sum();
        let per_second = rustix::param::clock_ticks_per_second().max(1);
        Duration::from_nanos(ticks.saturating_mul(1_000_000_000 / per_second))
    }

    /// Ends the tree as a loss of power would, without a word, and waits for what was started.
    pub(crate) fn kill(&mut self) -> Result<()> {
        // From the root on: a shell that sees its child end could still say goodbye in its name.
        tree(self.inner.id()).into_iter().for_each(end);
        self.wait(END).map(drop)
    }

    /// Waits until it has nothing left to do, or has had time enough.
    pub(crate) fn quiet(&self) -> Result<()> {
        let step = Duration::from_millis(100);
        let mut before = self.cpu();
        for _ in 0..30 {
            stop::check()?;
            thread::sleep(step);
            let now = self.cpu();
            // A tick of the kernel's clock is 10 ms.
            if now.saturating_sub(before) <= step / 10 {
                return Ok(());
            }
            before = now;
        }
        Ok(())
    }

    /// The memory of the tree in KiB, shared pages divided among those that share them.
    pub(crate) fn memory_kib(&self) -> u64 {
        tree(self.inner.id()).into_iter().filter_map(proportional_kib).sum()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !matches!(self.inner.try_wait(), Ok(None)) {
            return;
        }
        // Taken before the master ends: afterwards its workers are nobody's children.
        let descendants = tree(self.inner.id());
        // A spinner or an upstream ends with its input.
        drop(self.inner.stdin.take());
        let _ = self.signal(Signal::TERM);
        if self.wait(END).is_err() {
            descendants.into_iter().rev().for_each(end);
            let _ = self.inner.wait();
        }
    }
}

/// The processor time of this program so far.
pub(crate) fn own_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The memory of this program in KiB.
pub(crate) fn own_memory_kib() -> u64 {
    proportional_kib(std::process::id()).unwrap_or(0)
}

/// Kills a process, if it is still there.
fn end(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// A process and its descendants.
fn tree(root: u32) -> Vec<u32> {
    let mut all = vec![root];
    let mut next = 0;
    while let Some(&pid) = all.get(next) {
        next += 1;
        let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        for task in tasks.flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
    }
    all
}

fn ticks(pid: u32) -> Option<u64> {
    ticks_of(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// utime + stime of a line of `/proc/PID/stat`; the name before them may hold anything, even brackets.
fn ticks_of(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

fn proportional_kib(pid: u32) -> Option<u64> {
    proportional_of(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?)
}

fn proportional_of(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    #[test]
    fn reads_what_the_kernel_writes() {
        let stat = "7 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 120 34 0 0 20";
        assert_eq!(ticks_of(stat), Some(154));
        assert_eq!(ticks_of("7 (x"), None);
        let rollup =
            "5500-7ff r [rollup]\nRss:  900 kB\nPss:                 812 kB\nPss_Dirty: 1 kB\n";
        assert_eq!(proportional_of(rollup), Some(812));
        assert_eq!(proportional_of(""), None);
    }

    #[test]
    fn ends_a_tree() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 600 & echo $!; wait"]).stdout(Stdio::piped());
        let mut child = Child::start("sh", &mut command).expect("sh");
        let mut line = String::new();
        let mut out = std::io::BufReader::new(child.stdout().expect("piped"));
        std::io::BufRead::read_line(&mut out, &mut line).expect("a line");
        let sleeper: u32 = line.trim().parse().expect("a process id");
        assert!(tree(child.inner.id()).contains(&sleeper));
        assert!(child.memory_kib() > 0);
        child.check().expect("it runs");
        let root = child.inner.id();
        drop(child);
        assert!(ticks(root).is_none(), "reaped");
        let mut other = Child::start("sh", Command::new("sh").args(["-c", "sleep 600; true"]));
        let other = other.as_mut().expect("sh");
        let pids = tree(other.inner.id());
        other.kill().expect("killed");
        assert!(ticks(pids[0]).is_none(), "reaped");
        // `sh` ends on TERM and leaves its child to the guard only if it hangs; end it here.
        let _ = Pid::from_raw(i32::try_from(sleeper).expect("small"))
            .map(|pid| kill_process(pid, Signal::KILL));
    }
}
