//! What is wrong or suspicious in a configuration, with its place.

use std::path::{Path, PathBuf};

use super::source::Place;

/// Whether a configuration with it may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// It is refused.
    Error,
    /// It runs; somebody should look.
    Warning,
}

impl Severity {
    /// The word for output.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One thing that is wrong or suspicious.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Whether it is refused.
    pub severity: Severity,
    /// What is the matter, in one sentence without a full stop.
    pub message: String,
    /// Where; `None` when it concerns a whole file or what is not there.
    pub place: Option<Place>,
    /// The file, when there is no place in it.
    pub file: Option<PathBuf>,
    /// What to do about it.
    pub help: Option<String>,
    /// Other places that belong to it, each with a word on why.
    pub also: Vec<(Place, String)>,
}

impl Problem {
    /// Something wrong at a place.
    pub fn error(place: Place, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            message: message.into(),
            place: place.is_in_file().then_some(place),
            file: None,
            help: None,
            also: Vec::new(),
        }
    }

    /// Something suspicious at a place.
    pub fn warning(place: Place, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(place, message) }
    }

    /// Something wrong with a whole file.
    pub fn about_file(path: &Path, message: impl Into<String>) -> Self {
        Self { file: Some(path.to_owned()), ..Self::error(Place::BUILT_IN, message) }
    }

    /// Says what to do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Suggests the candidate that `wrong` was probably meant to be, if one is near, or lists them.
    #[must_use]
    pub fn near<'a>(self, wrong: &str, candidates: impl IntoIterator<Item = &'a str>) -> Self {
        let candidates: Vec<&str> = candidates.into_iter().collect();
        match nearest(wrong, &candidates) {
            Some(near) => self.help(format!("did you mean `{near}`?")),
            None if candidates.is_empty() || candidates.len() > 24 => self,
            None => self.help(format!("it may be one of: {}", candidates.join(", "))),
        }
    }

    /// Points at another place that belongs to it.
    #[must_use]
    pub fn and(mut self, place: Place, why: impl Into<String>) -> Self {
        if place.is_in_file() {
            self.also.push((place, why.into()));
        }
        self
    }
}

/// The candidate that is closest to a mistyped word, if any is close enough to be meant.
pub fn nearest<'a>(wrong: &str, candidates: &[&'a str]) -> Option<&'a str> {
    // A third of the letters may differ; a swap of two neighbours counts as one.
    let limit = (wrong.chars().count() / 3).max(1);
    let plain = |text: &str| text.to_lowercase().replace(['-', '.', ' '], "_");
    let wrong = plain(wrong);
    candidates
        .iter()
        // Words of very different lengths cannot be near; this keeps thousands of names cheap.
        .filter(|word| word.len().abs_diff(wrong.len()) <= limit + 4)
        .map(|word| {
            let other = plain(word);
            let distance = strsim::damerau_levenshtein(&wrong, &other);
            // A word cut short (`addr`) or lengthened (`timeouts`) is near as well.
            let begins = wrong.len() >= 3
                && other.len() >= 3
                && (other.starts_with(&wrong) || wrong.starts_with(&other));
            (if begins { distance.min(1) } else { distance }, *word)
        })
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_misses() {
        let words = ["address", "protocol", "timeout", "listeners", "services", "per_try"];
        for (wrong, near) in [
            ("adress", Some("address")),
            ("addr", Some("address")),
            ("timeouts", Some("timeout")),
            ("Timeout", Some("timeout")),
            ("per-try", Some("per_try")),
            ("sevrices", Some("services")),
            ("banana", None),
            ("x", None),
        ] {
            assert_eq!(nearest(wrong, &words), near, "{wrong}");
        }
    }
}
