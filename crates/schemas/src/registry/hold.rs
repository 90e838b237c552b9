//! Payloads that are held to the schemas of a subject, without waiting.
//!
//! Whoever asks must not wait for a disk. So subjects that payloads are held to are kept read, their latest versions at
//! least, and are read anew before a change of theirs is answered: who has registered a schema can use it at once.

use std::{collections::HashMap, sync::Arc};

use parking_lot::RwLock;

use super::Registry;
use crate::{
    error::Result,
    schema::{Format, PayloadFault, Schema},
};

/// The most versions of a subject that payloads can name by their ids: the latest ones.
pub const HELD_VERSIONS_MAX: usize = 64;
/// The most subjects that payloads are held to.
pub const HELD_SUBJECTS_MAX: usize = 1_000;

/// The subjects that payloads are held to; `None` for those that are to be read.
#[derive(Default)]
pub(super) struct Held(RwLock<HashMap<String, Option<Arc<Versions>>>>);

/// The latest versions of a subject, from old to new: ids and schemas.
struct Versions(Vec<(u32, Arc<Schema>)>);

/// What became of a payload that was held to a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PayloadVerdict {
    /// It fits.
    Fits,
    /// It does not.
    Differs(PayloadFault),
    /// The subject is not read yet: ask again soon.
    Unread,
}

impl Registry {
    /// Reads subjects that payloads are to be held to, those that are not read yet.
    ///
    /// # Errors
    /// What the store says; what is read by then stays.
    pub async fn hold_ready(&self, subjects: impl IntoIterator<Item = String>) -> Result<()> {
        for subject in subjects {
            let is_read = self.0.held.0.read().get(&subject).is_some_and(Option::is_some);
            if !is_read && self.want(&subject) {
                let _turn = self.0.changes.lock().await;
                self.read_held(&subject).await?;
            }
        }
        Ok(())
    }

    /// Reads again what was asked for and is not read.
    ///
    /// # Errors
    /// What the store says.
    pub async fn hold_wanted(&self) -> Result<()> {
        let wanted: Vec<String> = {
            let held = self.0.held.0.read();
            held.iter().filter(|(_, of)| of.is_none()).map(|(name, _)| name.clone()).collect()
        };
        self.hold_ready(wanted).await
    }

    /// Waits until something is asked for that is not read.
    pub async fn hold_asked(&self) {
        self.0.wanted.notified().await;
    }

    /// Holds a payload to a subject: to the version whose id it begins with, as Confluent's serializers write it,
    /// or to the latest.
    pub fn hold(&self, subject: &str, payload: &[u8]) -> PayloadVerdict {
        let versions = self.0.held.0.read().get(subject).cloned().flatten();
        let Some(versions) = versions else {
            self.want(subject);
            self.0.wanted.notify_one();
            return PayloadVerdict::Unread;
        };
        match versions.check(payload) {
            Ok(()) => PayloadVerdict::Fits,
            Err(fault) => PayloadVerdict::Differs(fault),
        }
    }

    /// Notes that a subject is wanted; `false` if there are too many.
    fn want(&self, subject: &str) -> bool {
        let mut held = self.0.held.0.write();
        if held.len() >= HELD_SUBJECTS_MAX && !held.contains_key(subject) {
            return false;
        }
        held.entry(subject.to_owned()).or_default();
        true
    }

    /// Reads a subject anew that payloads are held to; nothing for another. If it cannot be read, it counts as
    /// unread.
    pub(super) async fn read_held(&self, subject: &str) -> Result<()> {
        if !self.0.held.0.read().contains_key(subject) {
            return Ok(());
        }
        let read = self.versions_held(subject).await;
        let mut held = self.0.held.0.write();
        match read {
            Ok(versions) => {
                held.insert(subject.to_owned(), Some(Arc::new(versions)));
                Ok(())
            }
            Err(error) => {
                held.insert(subject.to_owned(), None);
                Err(error)
            }
        }
    }

    async fn versions_held(&self, subject: &str) -> Result<Versions> {
        let ids = self.ids(subject).await?;
        let mut all = Vec::new();
        for (_, id) in &ids[ids.len().saturating_sub(HELD_VERSIONS_MAX)..] {
            all.push((*id, self.read(*id).await?));
        }
        Ok(Versions(all))
    }
}

impl Versions {
    fn check(&self, payload: &[u8]) -> Result<(), PayloadFault> {
        let whole = |said: String| PayloadFault { path: String::new(), said };
        let Some((_, latest)) = self.0.last() else {
            return Err(whole("the subject has no schema".to_owned()));
        };
        let Some(([0, id @ ..], rest)) = payload.split_first_chunk::<5>() else {
            return latest.check(payload, false);
        };
        let id = u32::from_be_bytes(*id);
        if let Some((_, schema)) = self.0.iter().rev().find(|(of, _)| *of == id) {
            return schema.check(rest, true);
        }
        // What begins with nought may be a value too, but no text.
        if latest.format() != Format::Json && latest.check(payload, false).is_ok() {
            return Ok(());
        }
        Err(whole(format!(
            "it names the schema {id}, which is none of the {HELD_VERSIONS_MAX} latest of the subject"
        )))
    }
}
