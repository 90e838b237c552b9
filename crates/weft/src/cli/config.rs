//! `weft config`: the configuration in effect.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::{ConfigPath, check::tell, print};
use crate::config::{load, print as shown};

/// Print the configuration in effect: every value, and where it came from.
#[derive(Debug, Args)]
pub struct Config {
    #[command(flatten)]
    config: ConfigPath,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

/// Output format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// YAML, with a comment behind each value.
    #[default]
    Yaml,
    /// JSON, with an object of origins by JSON pointer.
    Json,
}

impl Config {
    /// Exits with 0 and prints it, or with 1 and tells what is wrong with it.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match load::load(&self.config.path) {
            Ok(loaded) => {
                let variables = |name: &str| std::env::var(name).ok();
                print(&match self.output {
                    Format::Yaml => shown::yaml(&loaded, &variables),
                    Format::Json => format!("{:#}\n", shown::json(&loaded, &variables)),
                })?;
                Ok(ExitCode::SUCCESS)
            }
            Err(refused) => {
                tell(&refused.problems, &refused.sources)?;
                Ok(ExitCode::from(1))
            }
        }
    }
}
