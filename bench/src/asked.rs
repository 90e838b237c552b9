//! What every comparison can be asked: which parts of it, how long, and with which Weft.

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, bail};
use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Asked {
    /// Only the main scenarios, with short runs.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Only these: scenarios, and what else is measured.
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    only: Vec<String>,
    /// Rounds, in each of which everybody has one run.
    #[arg(long)]
    rounds: Option<usize>,
    /// Seconds of one run.
    #[arg(long)]
    secs: Option<u64>,
    /// A Weft that is already built, instead of building it.
    #[arg(long)]
    weft: Option<PathBuf>,
}

/// A scenario, as far as it is chosen by it.
pub(crate) trait Choice {
    /// What `--only` calls it.
    fn name(&self) -> &'static str;
    /// Part of `--quick`.
    fn quick(&self) -> bool;
}

/// What is measured: scenarios, and names of what else there is.
#[derive(Debug)]
pub(crate) struct Chosen<S: 'static> {
    pub(crate) scenarios: Vec<&'static S>,
    others: Vec<&'static str>,
}

impl<S> Chosen<S> {
    /// Whether something besides the scenarios is measured.
    pub(crate) fn has(&self, other: &str) -> bool {
        self.others.contains(&other)
    }
}

impl Asked {
    /// What is asked for, of all scenarios and all others, each of which is part of `--quick` or not.
    pub(crate) fn choose<S: Choice>(
        &self,
        all: impl IntoIterator<Item = &'static S>,
        others: &[(&'static str, bool)],
    ) -> Result<Chosen<S>> {
        let all: Vec<&'static S> = all.into_iter().collect();
        if self.only.is_empty() {
            let scenarios = all.iter().copied().filter(|scenario| scenario.quick() || !self.quick);
            let others = others.iter().filter(|(_, quick)| *quick || !self.quick);
            return Ok(Chosen {
                scenarios: scenarios.collect(),
                others: others.map(|(name, _)| *name).collect(),
            });
        }
        let mut chosen = Chosen { scenarios: Vec::new(), others: Vec::new() };
        for asked in &self.only {
            let scenario = all.iter().copied().find(|scenario| scenario.name() == asked);
            let other = others.iter().find(|(name, _)| name == asked);
            match (scenario, other) {
                (Some(scenario), _) => chosen.scenarios.push(scenario),
                (None, Some((name, _))) => chosen.others.push(name),
                (None, None) => {
                    let names = all.iter().map(|scenario| scenario.name());
                    let names: Vec<&str> =
                        names.chain(others.iter().map(|(name, _)| *name)).collect();
                    bail!("{asked} is none of {}", names.join(", "));
                }
            }
        }
        Ok(chosen)
    }

    /// Rounds and the time of a run: what is asked for, or what is usual, in a quick run and in a whole one.
    pub(crate) fn extent(&self, quick: (usize, u64), whole: (usize, u64)) -> (usize, Duration) {
        let (rounds, secs) = if self.quick { quick } else { whole };
        let time = Duration::from_secs(self.secs.unwrap_or(secs).max(1));
        (self.rounds.unwrap_or(rounds).max(1), time)
    }

    /// The Weft that is given, wherever this program goes on.
    pub(crate) fn weft(&self) -> Result<Option<PathBuf>> {
        Ok(self.weft.as_deref().map(std::path::absolute).transpose()?)
    }

    /// Whether everything is measured.
    pub(crate) fn is_whole(&self) -> bool {
        self.only.is_empty() && !self.quick
    }
}
