//! `weft check`: everything that is wrong or suspicious, at once.

use std::{io::IsTerminal, process::ExitCode};

use clap::Args;
use serde_json::json;

use super::{ConfigPath, Output, print, print_error};
use crate::config::{
    load,
    problem::{Problem, Severity},
    report,
    source::Sources,
};

/// Validate a configuration and report every error in it, without opening a port.
#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    config: ConfigPath,
    /// Format of the report.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    /// Treat warnings as errors.
    #[arg(long)]
    strict: bool,
}

impl Check {
    /// Exits with 0 if the configuration may run, with 1 if not.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let (problems, sources, summary) = match load::load(&self.config.path) {
            Ok(loaded) => {
                let plan = &loaded.plan.proxy;
                let summary = json!({
                    "listeners": plan.listeners.len(),
                    "routes": plan.routes.len(),
                    "services": plan.services.len(),
                    "files": loaded.sources.files().len(),
                });
                (loaded.warnings, loaded.sources, Some(summary))
            }
            Err(refused) => (refused.problems, refused.sources, None),
        };
        let good = summary.is_some() && (problems.is_empty() || !self.strict);
        match self.output {
            Output::Json => {
                let mut out = json!({ "ok": good, "problems": report::json(&problems, &sources) });
                if let Some(summary) = summary {
                    out["plan"] = summary;
                }
                print(&format!("{out:#}\n"))?;
            }
            Output::Text => {
                tell(&problems, &sources)?;
                if let Some(summary) = summary {
                    print(&format!(
                        "{}: {} routes over {} listeners to {} services, from {} files{}\n",
                        self.config.path.display(),
                        summary["routes"],
                        summary["listeners"],
                        summary["services"],
                        summary["files"],
                        if good { ": good" } else { "" },
                    ))?;
                }
            }
        }
        Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}

/// Writes problems to the standard error, and how many there are.
pub(crate) fn tell(problems: &[Problem], sources: &Sources) -> anyhow::Result<()> {
    if problems.is_empty() {
        return Ok(());
    }
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    let counted = |count: usize, what: &str| match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    };
    print_error(&format!(
        "{}{}, {}\n",
        report::text(problems, sources, colour),
        counted(errors, "error"),
        counted(problems.len() - errors, "warning"),
    ))
}
