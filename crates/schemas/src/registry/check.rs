//! Whether a schema fits those that a subject has.

use super::{Deleted, Draft, Registry, Which, change::Readied, parsed};
use crate::{
    compatibility::Level,
    error::{Error, Result},
    row::VersionRow,
};

/// The most messages of an answer.
const DETAILS_MAX: usize = 100;

impl Registry {
    /// Holds a schema to a version of a subject, or to all that its level asks for. Gives what does not fit;
    /// nothing if it does.
    ///
    /// # Errors
    /// [`Error::InvalidSchema`]; with a version [`Error::NoSubject`], [`Error::NoVersion`].
    pub async fn check(
        &self,
        subject: &str,
        which: Option<Which>,
        draft: &Draft,
    ) -> Result<Vec<String>> {
        let settings = self.in_force(subject).await?;
        let level = settings.level.unwrap_or_default();
        let lenient = settings.lenient.unwrap_or(false);
        let versions = match which {
            Some(which) => vec![self.row(subject, which, Deleted::Hidden).await?],
            None => self.rows(subject).await?,
        };
        let ready = self.ready(draft, settings.normalize.unwrap_or(false)).await?;
        match which {
            Some(_) => self.fits(&ready, &versions, level, true, lenient).await,
            None => self.fits(&ready, &versions, level, level.is_transitive(), lenient).await,
        }
    }

    /// What of a schema does not fit the versions of a subject: all of them, or the latest.
    pub(super) async fn fits(
        &self,
        ready: &Readied,
        versions: &[(u32, VersionRow)],
        level: Level,
        all: bool,
        lenient: bool,
    ) -> Result<Vec<String>> {
        let mut details = Vec::new();
        if level == Level::None {
            return Ok(details);
        }
        let live = versions.iter().rev().filter(|(_, row)| !row.deleted);
        for (version, row) in live.take(if all { usize::MAX } else { 1 }) {
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
            let found = parsed::apart(move || level.issues(&new, &old, lenient)).await?;
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
