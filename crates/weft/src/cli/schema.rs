//! `weft schema`: the configuration for editors, and the reference page.

use std::process::ExitCode;

use clap::Args;

use super::print;
use crate::{
    components::catalogue,
    config::{reference, schema},
};

/// Print the JSON Schema of the configuration, for editors.
#[derive(Debug, Args)]
pub struct Schema {
    /// Print the reference page (Markdown) instead.
    #[arg(long)]
    reference: bool,
}

impl Schema {
    /// Prints it.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        if self.reference {
            print(&reference::page(catalogue()))?;
        } else {
            print(&format!("{:#}\n", schema::schema(catalogue())))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
