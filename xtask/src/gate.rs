//! `cargo xtask test`: every gate, each named and timed, none skipped because another failed.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::{
    need::{self, Need},
    shell::cargo,
    suites::SUITES,
    tidy,
};

/// What became of one gate.
struct Done {
    name: String,
    took: Duration,
    /// The lines for the summary, or why it failed.
    outcome: Result<Vec<String>>,
}

/// The gates so far.
#[derive(Default)]
struct Gates(Vec<Done>);

impl Gates {
    fn pass(&mut self, name: &str, gate: impl FnOnce() -> Result<Vec<String>>) {
        println!("\n── {name}");
        let began = Instant::now();
        let outcome = gate();
        let took = began.elapsed();
        match &outcome {
            Ok(_) => println!("── {name}: ok in {:.1} s", took.as_secs_f64()),
            Err(error) => println!("── {name}: FAILED in {:.1} s: {error:#}", took.as_secs_f64()),
        }
        self.0.push(Done { name: name.to_owned(), took, outcome });
    }

    /// Prints the summary; fails if any gate did.
    fn finish(self) -> Result<()> {
        println!("\n── summary");
        let mut failed = Vec::new();
        for Done { name, took, outcome } in &self.0 {
            let word = if outcome.is_ok() { "ok" } else { "FAILED" };
            println!("{word:<7} {:>7.1} s  {name}", took.as_secs_f64());
            match outcome {
                Ok(lines) => lines.iter().for_each(|line| println!("{:20}{}", "", line.trim())),
                Err(error) => {
                    println!("{:20}{error:#}", "");
                    failed.push(name.as_str());
                }
            }
        }
        // Last, so that whoever reads the end of the log sees how many tests ran.
        for line in self.0.iter().filter_map(|done| done.outcome.as_ref().ok()).flatten() {
            if is_summary(line) {
                println!("{line}");
            }
        }
        if !failed.is_empty() {
            bail!("{} of {} gates failed: {}", failed.len(), self.0.len(), failed.join(", "));
        }
        println!("all {} gates passed", self.0.len());
        Ok(())
    }
}

/// Runs every gate.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let quick = match arguments {
        [] => false,
        [flag] if flag == "--quick" => true,
        other => bail!("unknown arguments {}: there is only --quick", other.join(" ")),
    };
    let suites = if quick { &[] } else { SUITES };
    let mut needs: Vec<Need> = need::GATES.to_vec();
    needs.extend(suites.iter().flat_map(|suite| suite.needs));

    let mut gates = Gates::default();
    gates.pass("needs", || need::meet(&needs).map(|()| Vec::new()));
    let silent = |shell: crate::shell::Shell| shell.run().map(|()| Vec::new());
    gates.pass("format", || silent(cargo(["fmt", "--all", "--check"])));
    gates.pass("tidy", || tidy::check().map(|()| Vec::new()));
    gates.pass("clippy", || {
        let clippy = ["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"];
        silent(cargo(clippy))
    });
    gates.pass("doc", || {
        let doc = cargo(["doc", "--locked", "--workspace", "--no-deps"]);
        silent(doc.env("RUSTDOCFLAGS", "-D warnings"))
    });
    gates.pass("deny", || silent(cargo(["deny", "check", "licenses", "bans", "sources"])));
    gates.pass("machete", || silent(cargo(["machete"])));
    gates.pass("generated", || {
        silent(cargo(["run", "--locked", "--quiet", "--package", "xtask-gen", "--", "--check"]))
    });
    gates.pass("doctests", || {
        let lines = cargo(["test", "--locked", "--doc", "--workspace"])
            .run_keeping(|line| line.starts_with("test result:"))?;
        Ok(vec![doctests(&lines)])
    });
    gates.pass("tests", || {
        cargo(["nextest", "run", "--locked", "--workspace", "--no-fail-fast"])
            .run_keeping(is_summary)
    });
    for suite in suites {
        gates.pass(&format!("suite {}", suite.name), || (suite.run)().map(|line| vec![line]));
    }
    gates.finish()
}

/// nextest's closing line: `Summary [   0.730s] 13 tests run: 13 passed, 0 skipped`.
fn is_summary(line: &str) -> bool {
    line.trim_start().starts_with("Summary [")
}

/// One line for all crates' documentation tests.
fn doctests(results: &[String]) -> String {
    let passed: u32 = results
        .iter()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let at = words.iter().position(|word| word.starts_with("passed"))?;
            words.get(at.checked_sub(1)?)?.parse::<u32>().ok()
        })
        .sum();
    format!("{passed} documentation tests passed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_recognised_and_added_up() {
        assert!(is_summary("     Summary [   0.730s] 13 tests run: 13 passed, 0 skipped\n"));
        assert!(!is_summary("        PASS [   0.006s] Summary of tests"));
        let results = [
            "test result: ok. 3 passed; 0 failed; 0 ignored",
            "test result: ok. 4 passed; 0 failed; 1 ignored",
        ];
        assert_eq!(doctests(&results.map(str::to_owned)), "7 documentation tests passed");
    }

    #[test]
    fn one_failure_fails_the_whole_and_is_named() {
        let mut gates = Gates::default();
        gates.pass("first", || Ok(Vec::new()));
        gates.pass("second", || bail!("broken"));
        gates.pass("third", || Ok(vec!["fine".to_owned()]));
        let error = gates.finish().unwrap_err().to_string();
        assert_eq!(error, "1 of 3 gates failed: second");
    }
}
