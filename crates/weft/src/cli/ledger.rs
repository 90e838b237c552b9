//! `weft ledger`: the store of a node. Looking at it, verifying it, copying it out and back.

use std::{
    io::IsTerminal as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};
use weft_kernel::{ByteSize, Error};
use weft_ledger::{admin as files, crypt::Keys};

use super::{
    ConfigPath, Output,
    admin::Admin,
    columns::{columns, members},
    print, print_error,
};
use crate::{
    component::Component as _,
    components::Storage,
    config::{Loader, report},
};

/// Inspect, verify, back up and restore the ledger, the store of a node.
///
/// `inspect`, `verify`, `restore`, `repair` and `rewrap` work on files that no node has open; `show`, `backup` and
/// `checkpoint` ask a running node.
#[derive(Debug, Args)]
pub struct Ledger {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    admin: Admin,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show the ledger of a running node.
    Show,
    /// Back up the ledger of a running node into a folder, while it runs.
    Backup {
        /// Folder on the node's machine; it must be empty or not exist.
        to: PathBuf,
    },
    /// Write a checkpoint of a running node, so that a recovery has less to replay.
    Checkpoint,
    /// Show what the files hold; writes nothing, and exits with 1 if a part cannot be read.
    Inspect {
        #[command(flatten)]
        of: Files,
    },
    /// Check every byte against its checksum, and report what a start would find; writes nothing, and
    /// exits with 1 if anything is damaged.
    Verify {
        #[command(flatten)]
        of: Files,
    },
    /// Restore a backup into the folder of a node, and verify it. No node starts on it before that is
    /// done.
    Restore {
        /// Folder of the backup.
        from: PathBuf,
        #[command(flatten)]
        of: Files,
    },
    /// Give up what is missing or damaged, so that a node starts again.
    ///
    /// A node refuses to start where files of its ledger are missing or its checkpoint is damaged. Put them
    /// back if you can, or restore a backup. This goes on with what is left, and tells what is lost.
    Repair {
        /// Confirm that what is missing is lost for good.
        #[arg(long, required = true)]
        accept_loss: bool,
        #[command(flatten)]
        of: Files,
    },
    /// Re-encrypt the keys of files that are under former keys with the present key.
    Rewrap {
        #[command(flatten)]
        of: Files,
    },
}

/// The files that are meant.
#[derive(Debug, Args)]
struct Files {
    /// Folder; the one of the configuration otherwise.
    #[arg(long = "path", value_name = "FOLDER")]
    folder: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigPath,
}

impl Files {
    /// The folder, and the keys that the configuration has for it; `None` if that has been refused.
    fn find(&self) -> anyhow::Result<Option<(PathBuf, Keys)>> {
        if let (Some(path), false) = (&self.folder, self.config.path.exists()) {
            return Ok(Some((path.clone(), Keys::none())));
        }
        let loaded =
            match Loader::default().load(&self.config.path, &|name| std::env::var(name).ok()) {
                Ok(loaded) => loaded,
                Err(refused) => {
                    print_error(&report::text(&refused.problems, &refused.sources, false))?;
                    return Ok(None);
                }
            };
        let ledger = Storage::plan(&loaded.plan);
        let path = self.folder.clone().or_else(|| ledger.map(|ledger| ledger.path.clone()));
        let path =
            path.context("the configuration asks for no ledger: name the folder by --path")?;
        let keys = ledger.map_or_else(Keys::none, |ledger| ledger.options.keys.clone());
        Ok(Some((path, keys)))
    }
}

impl Ledger {
    /// Exits with 0 if it was done and is well, with 1 if not, with 2 if a node could not be asked.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let Self { action, admin } = self;
        match action {
            Action::Show => admin.ask(&Method::GET, "/v1/ledger", None, members),
            Action::Backup { to } => {
                let to = std::path::absolute(to)?;
                let body = json!({ "to": to });
                admin.ask(&Method::POST, "/v1/ledger/backup", Some(&body), |_: &Value| {
                    format!("backed up to {}\n", to.display())
                })
            }
            Action::Checkpoint => {
                let done = |_: &Value| "stored\n".to_owned();
                admin.ask(&Method::POST, "/v1/ledger/checkpoint", None, done)
            }
            Action::Inspect { of } => on(&of, |path, keys| {
                let found = files::inspect(path, keys).map_err(described)?;
                let whole = found.damage.is_empty();
                show(admin.output, &json!(found), |found| {
                    let shown = [
                        ("file", "path"),
                        ("kind", "kind"),
                        ("bytes", "bytes"),
                        ("entries", "entries"),
                        ("key", "key"),
                    ];
                    let mut head = found.clone();
                    if let Some(head) = head.as_object_mut() {
                        head.remove("files");
                        head.remove("damage");
                    }
                    let files = columns(&found["files"], &shown);
                    format!("{}\n{files}{}", members(&head), damaged(found))
                })?;
                Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
            }),
            Action::Verify { of } => on(&of, |path, keys| {
                let found = files::verify(path, keys, &mut progress()).map_err(described)?;
                let whole = found.damage.is_empty();
                show(admin.output, &json!(found), verified)?;
                Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
            }),
            Action::Restore { from, of } => on(&of, |path, keys| {
                let found =
                    files::restore(&from, path, keys, &mut progress()).map_err(described)?;
                show(admin.output, &json!(found), verified)?;
                Ok(ExitCode::SUCCESS)
            }),
            Action::Repair { accept_loss: _, of } => on(&of, |path, keys| {
                let lost = files::repair(path, keys).map_err(described)?;
                show(admin.output, &json!({ "lost": lost }), |found| {
                    let line =
                        |what: &Value| format!("lost: {}\n", what.as_str().unwrap_or_default());
                    let lost: String = list(found, "lost").iter().map(line).collect();
                    if lost.is_empty() { "nothing is missing\n".to_owned() } else { lost }
                })?;
                Ok(ExitCode::SUCCESS)
            }),
            Action::Rewrap { of } => on(&of, |path, keys| {
                let count = files::rewrap(path, keys).map_err(described)?;
                show(admin.output, &json!({ "files": count }), members)?;
                Ok(ExitCode::SUCCESS)
            }),
        }
    }
}

/// Does something to the files that are meant.
fn on(
    of: &Files,
    act: impl FnOnce(&Path, &Keys) -> anyhow::Result<ExitCode>,
) -> anyhow::Result<ExitCode> {
    match of.find()? {
        Some((path, keys)) => act(&path, &keys),
        None => Ok(ExitCode::FAILURE),
    }
}

fn show(output: Output, found: &Value, tell: impl FnOnce(&Value) -> String) -> anyhow::Result<()> {
    match output {
        Output::Json => print(&format!("{found:#}\n")),
        Output::Text => print(&super::admin::printable(&tell(found))),
    }
}

fn verified(found: &Value) -> String {
    let mut text = format!(
        "{} transactions and {} records are whole ({} read)\n",
        found["transactions"],
        found["records"],
        ByteSize(found["bytes"].as_u64().unwrap_or_default()),
    );
    if let Some(torn) = found["torn_bytes"].as_u64().filter(|torn| *torn > 0) {
        text.push_str(&format!(
            "{torn} bytes at the end are no whole transaction: it was being written when the node \
             ended, and not acknowledged, or it is damaged\n"
        ));
    }
    for aside in list(found, "quarantine") {
        text.push_str(&format!(
            "set aside before: {} ({})\n",
            aside["path"].as_str().unwrap_or_default(),
            ByteSize(aside["bytes"].as_u64().unwrap_or_default()),
        ));
    }
    text + &damaged(found)
}

fn list<'a>(found: &'a Value, name: &str) -> &'a [Value] {
    found[name].as_array().map_or(&[][..], Vec::as_slice)
}

/// A line for each damage.
fn damaged(found: &Value) -> String {
    let line = |what: &Value| format!("damaged: {}\n", what.as_str().unwrap_or_default());
    list(found, "damage").iter().map(line).collect()
}

/// Tells people how far it is, in one line.
fn progress() -> impl FnMut(u64, u64) {
    let is_seen = std::io::stderr().is_terminal();
    let mut told = 0;
    move |done, of| {
        let percent = done.saturating_mul(100).checked_div(of).unwrap_or(100);
        if is_seen && percent != told {
            told = percent;
            // What cannot be told is no reason to stop.
            let _ = print_error(&format!("\r{percent:3} %{}", if done >= of { "\n" } else { "" }));
        }
    }
}

fn described(error: Error) -> anyhow::Error {
    anyhow::anyhow!(error.detail())
}
