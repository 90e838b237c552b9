//! Levels of compatibility: which schemas must read what was written with which.

use std::{fmt, str::FromStr};

use crate::{
    error::{Error, Result},
    issue::Issue,
    schema::Schema,
};

/// Level of compatibility of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Level {
    /// Anything goes.
    None,
    /// The new schema reads what was written with the latest.
    #[default]
    Backward,
    /// The new schema reads what was written with any.
    BackwardTransitive,
    /// The latest schema reads what is written with the new one.
    Forward,
    /// All schemas read what is written with the new one.
    ForwardTransitive,
    /// Both ways with the latest.
    Full,
    /// Both ways with all.
    FullTransitive,
}

impl Level {
    const ALL: [Self; 7] = [
        Self::None,
        Self::Backward,
        Self::BackwardTransitive,
        Self::Forward,
        Self::ForwardTransitive,
        Self::Full,
        Self::FullTransitive,
    ];

    /// Its word in the API.
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Backward => "BACKWARD",
            Self::BackwardTransitive => "BACKWARD_TRANSITIVE",
            Self::Forward => "FORWARD",
            Self::ForwardTransitive => "FORWARD_TRANSITIVE",
            Self::Full => "FULL",
            Self::FullTransitive => "FULL_TRANSITIVE",
        }
    }

    /// Whether a new schema is held to all versions, and not to the latest alone.
    pub const fn is_transitive(self) -> bool {
        matches!(self, Self::BackwardTransitive | Self::ForwardTransitive | Self::FullTransitive)
    }

    const fn is_backward(self) -> bool {
        matches!(
            self,
            Self::Backward | Self::BackwardTransitive | Self::Full | Self::FullTransitive
        )
    }

    const fn is_forward(self) -> bool {
        matches!(self, Self::Forward | Self::ForwardTransitive | Self::Full | Self::FullTransitive)
    }

    /// What of a new schema does not fit an old one at this level. With `lenient`, a property that is added to an
    /// open content model is taken not to have been there before.
    pub fn issues(self, new: &Schema, old: &Schema, lenient: bool) -> Vec<Issue> {
        const OPEN: &[&str] =
            &["PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL", "ITEM_ADDED_TO_OPEN_CONTENT_MODEL"];
        let mut found = Vec::new();
        if self.is_backward() {
            found.extend(new.issues(old));
        }
        if self.is_forward() {
            found.extend(old.issues(new));
        }
        found.retain(|issue| !lenient || !OPEN.contains(&issue.kind));
        found
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Level {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|level| level.word().eq_ignore_ascii_case(word));
        found.ok_or(Error::InvalidLevel)
    }
}

/// What may be done with a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    /// Schemas are registered and deleted.
    #[default]
    ReadWrite,
    /// Nothing is.
    ReadOnly,
    /// Nothing is, whatever a subject says; as the mode of all subjects alone.
    ReadOnlyOverride,
    /// Schemas are registered with ids and versions that they had elsewhere.
    Import,
}

impl Mode {
    const ALL: [Self; 4] = [Self::ReadWrite, Self::ReadOnly, Self::ReadOnlyOverride, Self::Import];

    /// Its word in the API.
    pub const fn word(self) -> &'static str {
        match self {
            Self::ReadWrite => "READWRITE",
            Self::ReadOnly => "READONLY",
            Self::ReadOnlyOverride => "READONLY_OVERRIDE",
            Self::Import => "IMPORT",
        }
    }
}

impl FromStr for Mode {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|mode| mode.word().eq_ignore_ascii_case(word));
        found.ok_or(Error::InvalidMode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Format;

    #[test]
    fn each_level_looks_in_its_direction() {
        let read = |text: &str| Schema::read(Format::Avro, text, &[]).unwrap();
        let (narrow, wide) = (read("\"int\""), read("\"long\""));
        for (level, widened, narrowed) in [
            (Level::None, 0, 0),
            (Level::Backward, 0, 1),
            (Level::BackwardTransitive, 0, 1),
            (Level::Forward, 1, 0),
            (Level::ForwardTransitive, 1, 0),
            (Level::Full, 1, 1),
            (Level::FullTransitive, 1, 1),
        ] {
            assert_eq!(level.issues(&wide, &narrow, false).len(), widened, "{level}");
            assert_eq!(level.issues(&narrow, &wide, false).len(), narrowed, "{level}");
            assert_eq!(level.word().to_lowercase().parse::<Level>().unwrap(), level);
        }
        assert_eq!("sideways".parse::<Level>().unwrap_err().code(), 42203);
        assert_eq!("sideways".parse::<Mode>().unwrap_err().code(), 42204);
    }
}
