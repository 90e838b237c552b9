//! Every task of the project: `cargo xtask` lists them.
//!
//! It imports nothing of ours, so that it compiles in seconds and works while the rest does not.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is a command-line program")]

mod build;
mod demo;
mod gate;
mod http;
mod need;
mod process;
mod shell;
mod soak;
mod suites;
mod tidy;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Result, bail};

/// One task: its name, its arguments, what it does.
struct Task {
    name: &'static str,
    arguments: &'static str,
    about: &'static str,
    run: fn(&[String]) -> Result<()>,
}

const TASKS: &[Task] = &[
    Task {
        name: "test",
        arguments: "[--quick]",
        about: "install what is missing, then run every gate; --quick leaves out what needs another server",
        run: gate::run,
    },
    Task {
        name: "tidy",
        arguments: "",
        about: "check what no compiler checks: arrows between crates, file sizes, words, pages",
        run: tidy::run,
    },
    Task {
        name: "gen",
        arguments: "[--check]",
        about: "write the generated code; --check only says whether it is up to date",
        run: generate,
    },
    Task {
        name: "demo",
        arguments: "[--once]",
        about: "start the shop with Weft in front and tour it; --once ends it afterwards and fails if a step did",
        run: demo::run,
    },
    Task {
        name: "suite",
        arguments: "NAME",
        about: "run one of the third-party suites alone; without a name it lists them",
        run: suites::run,
    },
    Task {
        name: "bench",
        arguments: "NAME [ARGS…]",
        about: "run a benchmark of bench/, side by side with its peers",
        run: bench,
    },
    Task {
        name: "soak",
        arguments: "[--minutes N] …",
        about: "do each kind of operation again and again; fails if one of them leaves something behind",
        run: soak::run,
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, rest)) = arguments.split_first() else {
        print!("{}", usage());
        return ExitCode::from(2);
    };
    let Some(task) = TASKS.iter().find(|task| task.name == name) else {
        eprint!("there is no task `{name}`\n\n{}", usage());
        return ExitCode::from(2);
    };
    match (task.run)(rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> String {
    let lines = TASKS.iter().map(|task| {
        format!("  cargo xtask {:<7}{:<18}{}\n", task.name, task.arguments, task.about)
    });
    lines.collect()
}

/// The folder that holds the workspace.
fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map(PathBuf::from).unwrap_or(here)
}

fn generate(arguments: &[String]) -> Result<()> {
    shell::cargo(["run", "--quiet", "--package", "xtask-gen", "--"]).args(arguments).run()
}

fn bench(arguments: &[String]) -> Result<()> {
    if arguments.is_empty() {
        bail!("name a benchmark: cargo xtask bench NAME [ARGS…]");
    }
    shell::cargo(["run", "--release", "--package", "weft-bench", "--"]).args(arguments).run()
}
