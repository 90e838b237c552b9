//! Commands that are shown before they run, as one would type them.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Read, Write},
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context, Result, bail};

/// A command in the workspace's folder.
pub(crate) struct Shell {
    command: Command,
    shown: String,
}

/// A cargo command.
pub(crate) fn cargo<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Shell {
    // The cargo that started xtask, so that both are of one toolchain.
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut shell = Shell { command: Command::new(program), shown: "cargo".into() };
    shell.command.current_dir(crate::root());
    // Of xtask, by the cargo that runs it; cargo-machete takes it for its own.
    shell.command.env_remove("CARGO_PKG_NAME");
    shell.args(arguments)
}

/// Any other command.
pub(crate) fn command<'a>(program: &str, arguments: impl IntoIterator<Item = &'a str>) -> Shell {
    let mut shell = Shell { command: Command::new(program), shown: program.into() };
    shell.command.current_dir(crate::root());
    shell.args(arguments)
}

impl Shell {
    pub(crate) fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        for argument in arguments {
            let argument = argument.as_ref();
            self.shown.push(' ');
            self.shown.push_str(&argument.to_string_lossy());
            self.command.arg(argument);
        }
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.shown = format!("{name}='{value}' {}", self.shown);
        self.command.env(name, value);
        self
    }

    /// The command as one would type it.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    /// Shows it, runs it, and fails if it does.
    pub(crate) fn run(mut self) -> Result<()> {
        println!("$ {}", self.shown);
        let status = self.command.status().with_context(|| format!("start {}", self.shown))?;
        if !status.success() {
            bail!("`{}` ended with {status}", self.shown);
        }
        Ok(())
    }

    /// Whether it succeeds; what it prints is dropped.
    pub(crate) fn succeeds(mut self) -> bool {
        let quiet = self.command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        quiet.status().is_ok_and(|status| status.success())
    }

    /// As [`Shell::run`], and gives back those lines of its output that `keep` picks.
    pub(crate) fn run_keeping(mut self, keep: fn(&str) -> bool) -> Result<Vec<String>> {
        println!("$ {}", self.shown);
        let mut child = self
            .command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", self.shown))?;
        let out = child.stdout.take().context("standard output")?;
        let err = child.stderr.take().context("standard error")?;
        let kept = thread::scope(|scope| {
            let out = scope.spawn(move || pass(out, std::io::stdout(), keep));
            let mut kept = pass(err, std::io::stderr(), keep);
            kept.extend(out.join().unwrap_or_default());
            kept
        });
        let status = child.wait()?;
        if !status.success() {
            // The closing line tells more than the exit code.
            let last = kept.last().map(|line| format!(": {}", line.trim())).unwrap_or_default();
            bail!("`{}` ended with {status}{last}", self.shown);
        }
        Ok(kept)
    }
}

/// Copies lines as they come and gives back those that are picked.
fn pass(from: impl Read, mut to: impl Write, keep: fn(&str) -> bool) -> Vec<String> {
    let mut kept = Vec::new();
    let mut reader = BufReader::new(from);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        // A terminal that went away is no reason to stop the tests.
        let _ = to.write_all(&line);
        let text = String::from_utf8_lossy(&line);
        if keep(&text) {
            kept.push(text.trim_end().to_owned());
        }
        line.clear();
    }
    kept
}
