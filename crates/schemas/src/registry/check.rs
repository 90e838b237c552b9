//! Whether a schema fits those that a subject has.

use super::{Deleted, Draft, Registry, SubjectSettings, Which, change::Readied, parsed};
use crate::{
    compatibility::Level,
    error::{Error, Result},
    row::VersionRow,
};

/// The most messages of an answer.
const DETAILS_MAX: usize = 100;

/// How a schema is held to versions.
#[derive(Clone, Copy)]
pub(super) struct Rule {
    level: Level,
    /// Whether it is held to all of them, and not to the latest alone.
    all: bool,
    lenient: bool,
    /// Whether it is only asked for, and nothing will be registered.
    is_asked: bool,
}

impl Rule {
    /// The one that a registration is held to.
    pub(super) fn of(settings: SubjectSettings) -> Self {
        let level = settings.level.unwrap_or_default();
        let lenient = settings.lenient.unwrap_or(false);
        Self { level, all: level.is_transitive(), lenient, is_asked: false }
    }
}

impl Registry {
    /// Holds a schema to a version of a subject, or to all that its level asks for. Gives what does not fit;
    /// nothing if it does, or if the subject has no version.
    ///
    /// # Errors
    /// [`Error::InvalidSchema`]; with the number of a version [`Error::NoSubject`], [`Error::NoVersion`].
    pub async fn check(
        &self,
        subject: &str,
        which: Option<Which>,
        draft: &Draft,
    ) -> Result<Vec<String>> {
        let settings = self.in_force(subject).await?;
        let mut rule = Rule::of(settings);
        let versions = match which {
            Some(which) => match self.row(subject, which, Deleted::Hidden).await {
                // As Confluent's registry has it: there is nothing that it could not fit.
                Err(Error::NoSubject(_)) if which == Which::Latest => Vec::new(),
                row => vec![row?],
            },
            None => self.rows(subject).await?,
        };
        rule.all |= which.is_some();
        rule.is_asked = true;
        let ready = self.ready(draft, settings.normalize.unwrap_or(false)).await?;
        self.fits(&ready, &versions, rule).await
    }

    /// What of a schema does not fit the versions of a subject.
    pub(super) async fn fits(
        &self,
        ready: &Readied,
        versions: &[(u32, VersionRow)],
        rule: Rule,
    ) -> Result<Vec<String>> {
        let Rule { level, lenient, .. } = rule;
        let mut details = Vec::new();
        if level == Level::None {
            return Ok(details);
        }
        let live = versions.iter().rev().filter(|(_, row)| !row.deleted);
        for (version, row) in live.take(if rule.all { usize::MAX } else { 1 }) {
            let old = match self.read(row.id).await {
                Ok(old) => old,
                Err(Error::InvalidSchema(said)) => {
                    let said = format!("{{errorType:'UNREADABLE', description:'{said}'}}");
                    details.push(format!("{said}, {{oldSchemaVersion: {version}}}"));
                    continue;
                }
                Err(error) => return Err(error),
            };
            let new = std::sync::Arc::clone(&ready.schema);
            let compare = move || level.issues(&new, &old, lenient);
            let found = match rule.is_asked {
                true => parsed::asked(compare).await?,
                false => parsed::apart(compare).await?,
            };
            if !found.is_empty() {
                details.extend(found.iter().map(ToString::to_string));
                details.push(format!("{{oldSchemaVersion: {version}}}"));
                details.push(format!("{{compatibility: '{level}'}}"));
            }
            if details.len() > DETAILS_MAX {
                break;
            }
        }
        Ok(details)
    }
}
