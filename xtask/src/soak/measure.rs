//! What a process holds at one time, and what an operation adds to it.

use std::{fs, path::Path};

use anyhow::{Context, Result};

/// What is counted of a process, in the order of the columns.
const WHAT: [&str; 5] = ["memory", "descriptors", "threads", "tasks", "series"];
/// What two samples differ by although nothing stayed: allocators keep pages, pools keep a few
/// connections and threads. Growth within it is no leak; a longer soak makes it ever less per operation.
const SLACK: [f64; 5] = [1_048_576.0, 4.0, 4.0, 8.0, 4.0];

/// What a process holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sample([f64; 5]);

/// The most that one operation may leave behind, in the long run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    /// Resident memory in bytes.
    pub(super) memory_bytes_max: f64,
    /// Each of descriptors, threads, tasks and series.
    pub(super) things_max: f64,
}

/// What came of a kind of operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Growth {
    pub(super) operations: u64,
    pub(super) before: Sample,
    pub(super) after: Sample,
}

impl Sample {
    /// Reads what `/proc` tells of a process, beside a scrape of its metrics.
    pub(super) fn of(pid: u32, scrape: &str) -> Result<Self> {
        let proc = Path::new("/proc").join(pid.to_string());
        let status = fs::read_to_string(proc.join("status")).context("read /proc")?;
        let files = fs::read_dir(proc.join("fd")).context("read /proc")?.count();
        let (tasks, series) = scraped(scrape).context("the metrics have no weft_tasks")?;
        Ok(Self([
            number(&status, "VmRSS:").context("VmRSS")? * 1024.0,
            files as f64,
            number(&status, "Threads:").context("Threads")?,
            tasks,
            series,
        ]))
    }
}

impl Growth {
    /// The line above those of the kinds.
    pub(super) const HEAD: &str = "one operation of a kind leaves behind\n\
         kind                          operations      bytes descriptors  threads    tasks   series   resident";

    /// By how much each grows with one operation.
    fn slopes(&self) -> [f64; 5] {
        let grown = self.grown();
        grown.map(|by| by / self.operations.max(1) as f64)
    }

    fn grown(&self) -> [f64; 5] {
        std::array::from_fn(|at| self.after.0[at] - self.before.0[at])
    }

    /// Every slope that is above the bound, in words.
    pub(super) fn over(&self, bound: &Bound) -> Vec<String> {
        let (slopes, grown) = (self.slopes(), self.grown());
        (0..WHAT.len())
            .filter_map(|at| {
                let most = if at == 0 { bound.memory_bytes_max } else { bound.things_max };
                (grown[at] > SLACK[at] && slopes[at] > most).then(|| {
                    let (what, slope, by) = (WHAT[at], slopes[at], grown[at]);
                    format!("{slope:.4} of {what} an operation (+{by:.0}), the bound is {most}")
                })
            })
            .collect()
    }

    /// The row of a kind.
    pub(super) fn line(&self, kind: &str, over: &[String]) -> String {
        let [memory, files, threads, tasks, series] = self.slopes();
        let resident = self.after.0[0] / 1_048_576.0;
        let verdict = if over.is_empty() { "" } else { "  ABOVE" };
        format!(
            "{kind:<30}{:>10} {memory:>10.1} {files:>11.4} {threads:>8.4} {tasks:>8.4} \
             {series:>8.4} {resident:>6.1} MiB{verdict}",
            self.operations
        )
    }
}

/// The first number behind a word.
fn number(text: &str, word: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(word))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// How many tasks and how many series a scrape tells of.
fn scraped(text: &str) -> Option<(f64, f64)> {
    let series = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let tasks: Vec<f64> = series
        .clone()
        .filter(|line| line.starts_with("weft_tasks{"))
        .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
        .collect();
    (!tasks.is_empty()).then(|| (tasks.iter().sum(), series.count() as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Bound = Bound { memory_bytes_max: 16.0, things_max: 0.001 };
    const FIRST: [f64; 5] = [50_000_000.0, 40.0, 6.0, 20.0, 300.0];

    fn grown(operations: u64, by: [f64; 5]) -> Growth {
        let after = std::array::from_fn(|at| FIRST[at] + by[at]);
        Growth { operations, before: Sample(FIRST), after: Sample(after) }
    }

    #[test]
    fn a_slope_is_what_grew_by_the_operation() {
        let growth = grown(100_000, [8_000_000.0, 0.0, 1.0, -2.0, 100_000.0]);
        assert_eq!(growth.slopes(), [80.0, 0.0, 0.00001, -0.00002, 1.0]);
        let line = growth.line("queues", &growth.over(&BOUND));
        assert!(line.contains(" 80.0 ") && line.ends_with("55.3 MiB  ABOVE"), "{line}");
        assert_eq!(grown(0, [5.0; 5]).slopes(), [5.0; 5]);
    }

    #[test]
    fn each_of_the_five_can_be_above_its_bound() {
        for (at, what) in WHAT.iter().enumerate() {
            let mut by = [0.0; 5];
            by[at] = SLACK[at] * 2.0;
            let over = grown(1_000, by).over(&BOUND);
            assert!(over.len() == 1 && over[0].contains(what), "{what}: {over:?}");
            // The same growth over so many operations is none to speak of.
            assert_eq!(grown(10_000_000, by).over(&BOUND), Vec::<String>::new(), "{what}");
            // Neither is what two samples differ by.
            by[at] = SLACK[at];
            assert_eq!(grown(1, by).over(&BOUND), Vec::<String>::new(), "{what}");
            by[at] = -SLACK[at] * 2.0;
            assert_eq!(grown(1, by).over(&BOUND), Vec::<String>::new(), "{what}");
        }
    }

    #[test]
    fn tasks_and_series_are_read_from_a_scrape() {
        let text = "# TYPE weft_tasks gauge\nweft_tasks{thread=\"0\"} 3\nweft_tasks{thread=\"control\"} 4.0\n\
                    up 1\n# EOF\n";
        assert_eq!(scraped(text), Some((7.0, 3.0)));
        assert_eq!(scraped("up 1\n"), None);
    }

    #[test]
    fn a_process_that_runs_can_be_sampled() {
        let Sample([memory, files, threads, tasks, series]) =
            Sample::of(std::process::id(), "weft_tasks{thread=\"0\"} 3\n").unwrap();
        assert!(memory > 100_000.0 && files >= 3.0 && threads >= 1.0);
        assert_eq!((tasks, series), (3.0, 1.0));
    }
}
