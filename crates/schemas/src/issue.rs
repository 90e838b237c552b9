//! What keeps a reader with one schema from reading what was written with another: kinds, paths and causes.

use std::fmt;

/// The most issues that are told of one comparison.
pub const ISSUES_MAX: usize = 100;
/// The most work of one comparison: about the time of as many values that are hashed.
const WORK_MAX: usize = 4_800_000;
/// The work of comparing two schemas, apart from the lists that they have.
const STEP: usize = 16;
/// The longest text of an issue, in characters.
const SAID_MAX: usize = 1_000;
/// The deepest that two schemas are compared.
pub(crate) const DEPTH_MAX: usize = 128;

/// One thing that does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// Its kind, in Confluent's words where there is one.
    pub kind: &'static str,
    /// Where it is in the reader's schema, or in the writer's if it is missing there.
    pub path: String,
    /// What is wrong, in a sentence.
    pub said: String,
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{{errorType:'{}', description:'{}', path:'{}'}}",
            self.kind, self.said, self.path
        )
    }
}

/// Which of two schemas is the new one: messages call them by that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Newer {
    Reader,
    Writer,
}

/// The issues of a comparison that is under way, and what may still be spent on it.
#[derive(Debug)]
pub(crate) struct Findings {
    pub(crate) issues: Vec<Issue>,
    newer: Newer,
    work: usize,
    /// Whether a bound was met: the answer is then that it does not fit.
    exhausted: bool,
}

impl Findings {
    pub(crate) fn new(newer: Newer) -> Self {
        Self { newer, issues: Vec::new(), work: 0, exhausted: false }
    }

    /// What the reader's schema is called.
    pub(crate) fn reader(&self) -> &'static str {
        match self.newer {
            Newer::Reader => "new",
            Newer::Writer => "old",
        }
    }

    /// What the writer's schema is called.
    pub(crate) fn writer(&self) -> &'static str {
        match self.newer {
            Newer::Reader => "old",
            Newer::Writer => "new",
        }
    }

    /// That something is one thing in the reader's schema, and another in the writer's.
    pub(crate) fn change(&self, reads: impl fmt::Display, wrote: impl fmt::Display) -> String {
        match self.newer {
            Newer::Reader => format!("was {wrote} and is {reads}"),
            Newer::Writer => format!("was {reads} and is {wrote}"),
        }
    }

    /// Counts a step; `false` if there are to be no more.
    pub(crate) fn step(&mut self) -> bool {
        self.spend(STEP)
    }

    /// Counts work whose length the schemas decide; `false` if there is to be no more.
    pub(crate) fn spend(&mut self, work: usize) -> bool {
        self.work = self.work.saturating_add(work);
        self.work <= WORK_MAX || self.give_up()
    }

    /// Whether a bound was met: whatever is left need not be looked at.
    pub(crate) fn is_over(&self) -> bool {
        self.exhausted
    }

    /// Ends the comparison: the schemas are too large or too deep to be compared.
    pub(crate) fn give_up(&mut self) -> bool {
        if !std::mem::replace(&mut self.exhausted, true) {
            self.issues.push(Issue {
                kind: "TOO_COMPLEX",
                path: "/".to_owned(),
                said: "the schemas are too large or too deep to be compared".to_owned(),
            });
        }
        false
    }

    pub(crate) fn add(&mut self, kind: &'static str, path: &str, said: impl Into<String>) {
        if self.issues.len() < ISSUES_MAX {
            let path = if path.is_empty() { "/" } else { path };
            self.issues.push(Issue { kind, path: cut(path), said: cut(&said.into()) });
        }
    }

    /// How many there are, to which [`undo`](Self::undo) goes back.
    pub(crate) fn mark(&self) -> usize {
        self.issues.len()
    }

    /// Whether there are more than at a mark.
    pub(crate) fn since(&self, mark: usize) -> bool {
        self.exhausted || self.issues.len() > mark
    }

    /// Forgets what came after a mark, unless a bound was met.
    pub(crate) fn undo(&mut self, mark: usize) {
        if !self.exhausted {
            self.issues.truncate(mark);
        }
    }
}

/// A text, no longer than is worth reading.
fn cut(text: &str) -> String {
    match text.char_indices().nth(SAID_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
