//! What the gates need on the machine, how to see whether it is there, and how to get it.

use std::io::{IsTerminal, Write};

use anyhow::{Context, Result, bail};

use crate::shell::{self, Shell};

/// One thing that must be on the machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Need {
    /// What it is called.
    pub(crate) name: &'static str,
    /// What it is for.
    pub(crate) why: &'static str,
    /// The command that succeeds when it is there.
    pub(crate) check: &'static [&'static str],
    /// Where it comes from.
    pub(crate) source: Source,
}

/// Where a need comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source {
    /// A component of the Rust toolchain.
    Rustup(&'static str),
    /// A crate, at a version.
    Crate(&'static str),
    /// Debian packages.
    Apt(&'static [&'static str]),
    /// Python packages, in a virtual environment within `target`.
    Python(&'static [&'static str]),
    /// npm packages, in a folder within `target`.
    Npm(&'static [&'static str]),
}

/// The interpreter of the virtual environment.
pub(crate) const PYTHON: &str = "target/venv/bin/python";

/// Where npm packages are, as `NODE_PATH` names it.
pub(crate) const NODE_MODULES: &str = "target/node/node_modules";

/// What the gates themselves need; a suite names its own.
pub(crate) const GATES: &[Need] = &[
    Need {
        name: "a C compiler",
        why: "aws-lc-rs is compiled from C",
        check: &["cc", "--version"],
        source: Source::Apt(&["gcc", "libc6-dev"]),
    },
    Need {
        name: "rustfmt",
        why: "the format gate",
        check: &["cargo", "fmt", "--version"],
        source: Source::Rustup("rustfmt"),
    },
    Need {
        name: "clippy",
        why: "the lint gate",
        check: &["cargo", "clippy", "--version"],
        source: Source::Rustup("clippy"),
    },
    Need {
        name: "cargo-nextest",
        why: "runs the tests",
        check: &["cargo", "nextest", "--version"],
        source: Source::Crate("cargo-nextest@0.9.143"),
    },
    Need {
        name: "cargo-deny",
        why: "the licence gate",
        check: &["cargo", "deny", "--version"],
        source: Source::Crate("cargo-deny@0.20.2"),
    },
    Need {
        name: "cargo-machete",
        why: "finds dependencies that are not used",
        check: &["cargo", "machete", "--version"],
        source: Source::Crate("cargo-machete@0.9.2"),
    },
];

impl Need {
    fn is_met(&self) -> bool {
        let Some((program, arguments)) = self.check.split_first() else { return true };
        let arguments = arguments.iter().copied();
        match *program {
            "cargo" => shell::cargo(arguments).succeeds(),
            program => shell::command(program, arguments).succeeds(),
        }
    }

    fn install(&self) -> Vec<Shell> {
        match self.source {
            Source::Rustup(component) => {
                vec![shell::command("rustup", ["component", "add", component])]
            }
            // A tool that runs for seconds is not worth minutes of optimisation.
            Source::Crate(name) => vec![
                shell::cargo(["install", "--locked", name])
                    .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
                    .env("CARGO_PROFILE_RELEASE_LTO", "off")
                    .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
                    .env("CARGO_PROFILE_RELEASE_DEBUG", "0"),
            ],
            Source::Apt(packages) => {
                let root = shell::command("sh", ["-c", "test $(id -u) = 0"]).succeeds();
                let apt = |arguments: &[&'static str]| {
                    let program = if root { "apt-get" } else { "sudo" };
                    shell::command(program, (!root).then_some("apt-get")).args(arguments)
                };
                let install = apt(&["install", "--yes", "--no-install-recommends"]).args(packages);
                vec![apt(&["update"]), install]
            }
            Source::Python(packages) => vec![
                shell::command("python3", ["-m", "venv", "target/venv"]),
                shell::command(PYTHON, ["-m", "pip", "install", "--quiet"]).args(packages),
            ],
            Source::Npm(packages) => {
                let npm =
                    ["install", "--no-audit", "--no-fund", "--silent", "--prefix", "target/node"];
                vec![shell::command("npm", npm).args(packages)]
            }
        }
    }
}

/// Installs what is missing. Asks first, but for `CI=true`; where nobody can be asked, it fails with
/// the commands that would have run.
pub(crate) fn meet(needs: &[Need]) -> Result<()> {
    let missing: Vec<&Need> = needs.iter().filter(|need| !need.is_met()).collect();
    if missing.is_empty() {
        println!("nothing is missing ({} checked)", needs.len());
        return Ok(());
    }
    let mut commands = String::new();
    for need in &missing {
        println!("{} is missing: {}", need.name, need.why);
        for command in need.install() {
            commands.push_str(&format!("  {}\n", command.shown()));
        }
    }
    if std::env::var("CI").as_deref() != Ok("true") {
        if !std::io::stdin().is_terminal() {
            bail!("missing tools; run with CI=true to install them, or:\n{commands}");
        }
        print!("{commands}run this now? [y/N] ");
        std::io::stdout().flush()?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            bail!("missing tools");
        }
    }
    for need in missing {
        for command in need.install() {
            command.run().with_context(|| format!("install {}", need.name))?;
        }
        if !need.is_met() {
            bail!("{} was installed, yet `{}` still fails", need.name, need.check.join(" "));
        }
    }
    Ok(())
}
