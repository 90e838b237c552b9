//! Deleting versions and subjects: first so that they can come back, then for good.

use std::collections::{HashMap, HashSet};

use weft_ledger::{Durability, ExpectValue, Transaction};

use super::{Deleted, Registry, Which};
use crate::{
    compatibility::Mode,
    error::{Error, Result},
    row::{SchemaRow, SubjectRow, VersionRow, decode, encode, referrer_key, use_key, version_key},
};

impl Registry {
    /// Deletes all versions of a subject, or, for good, those that are deleted already. Gives them.
    ///
    /// # Errors
    /// [`Error::NoSubject`], [`Error::SubjectDeleted`], [`Error::SubjectNotDeleted`], [`Error::Referenced`].
    pub async fn delete_subject(&self, subject: &str, for_good: bool) -> Result<Vec<u32>> {
        self.may_delete(subject).await?;
        let _turn = self.0.changes.lock().await;
        let rows = self.rows(subject).await?;
        if rows.is_empty() {
            return Err(Error::NoSubject(subject.to_owned()));
        }
        let live = rows.iter().filter(|(_, row)| !row.deleted).count();
        match for_good {
            true if live > 0 => return Err(Error::SubjectNotDeleted(subject.to_owned())),
            false if live == 0 => return Err(Error::SubjectDeleted(subject.to_owned())),
            _ => {}
        }
        let gone: Vec<(u32, VersionRow)> =
            rows.into_iter().filter(|(_, row)| for_good || !row.deleted).collect();
        self.remove(subject, &gone, for_good).await?;
        Ok(gone.into_iter().map(|(version, _)| version).collect())
    }

    /// Deletes a version, or, for good, one that is deleted already. Gives its number.
    ///
    /// # Errors
    /// [`Error::NoSubject`], [`Error::NoVersion`], [`Error::VersionDeleted`], [`Error::VersionNotDeleted`],
    /// [`Error::Referenced`].
    pub async fn delete_version(&self, subject: &str, which: Which, for_good: bool) -> Result<u32> {
        self.may_delete(subject).await?;
        let _turn = self.0.changes.lock().await;
        // The latest that is meant is the latest that can be deleted.
        let shown =
            if which == Which::Latest && !for_good { Deleted::Hidden } else { Deleted::Shown };
        let (version, row) = self.row(subject, which, shown).await?;
        match (for_good, row.deleted) {
            (true, false) => return Err(Error::VersionNotDeleted(subject.to_owned(), version)),
            (false, true) => return Err(Error::VersionDeleted(subject.to_owned(), version)),
            _ => {}
        }
        self.remove(subject, &[(version, row)], for_good).await?;
        Ok(version)
    }

    async fn may_delete(&self, subject: &str) -> Result<()> {
        match self.in_force(subject).await?.mode {
            Some(Mode::ReadOnly | Mode::ReadOnlyOverride) => {
                Err(Error::NotPermitted(format!("Subject {subject} is in read-only mode")))
            }
            _ => Ok(()),
        }
    }

    async fn remove(
        &self,
        subject: &str,
        gone: &[(u32, VersionRow)],
        for_good: bool,
    ) -> Result<()> {
        let maps = &self.0.maps;
        let mut change = Transaction::new(Durability::Fsync);
        let row = self.subject(subject).await?.unwrap_or_default();
        let count = u32::try_from(gone.len()).unwrap_or(u32::MAX);
        for (version, row) in gone {
            let key = version_key(subject, *version);
            if !self.0.store.scan(maps.referrers, &key, None, 1).await?.is_empty() {
                return Err(Error::Referenced(subject.to_owned(), *version));
            }
            change = match for_good {
                true => change.delete(maps.versions, key, ExpectValue::Present).delete(
                    maps.uses,
                    use_key(row.id, subject, *version),
                    ExpectValue::Any,
                ),
                false => {
                    let row = VersionRow { deleted: true, ..*row };
                    change.put(maps.versions, key, encode(&row)?, ExpectValue::Present)
                }
            };
        }
        let left = match for_good {
            true => SubjectRow { versions: row.versions.saturating_sub(count), ..row },
            false => SubjectRow { live: row.live.saturating_sub(count), ..row },
        };
        let key = subject.to_owned();
        change = match left.versions {
            0 => change.delete(maps.subjects, key, ExpectValue::Any),
            _ => change.put(maps.subjects, key, encode(&left)?, ExpectValue::Any),
        };
        let unused = if for_good { self.unused(gone).await? } else { HashSet::new() };
        for id in &unused {
            let key = id.to_be_bytes();
            let Some(value) = self.get(maps.schemas, &key).await? else { continue };
            let row: SchemaRow = decode(&value.data)?;
            for to in &row.references {
                let at = u32::try_from(to.version).unwrap_or_default();
                let key = referrer_key(&to.subject, at, *id);
                change = change.delete(maps.referrers, key, ExpectValue::Any);
            }
            let key = key.to_vec();
            change = change
                .delete(maps.schemas, key.clone(), ExpectValue::Any)
                .delete(maps.texts, key, ExpectValue::Any)
                .delete(maps.digests, row.digest.into_bytes(), ExpectValue::Any);
        }
        self.commit(change).await?;
        self.read_held(subject).await?;
        unused.into_iter().for_each(|id| self.0.parsed.remove(id));
        Ok(())
    }

    /// The ids that nobody uses any more once versions are gone.
    async fn unused(&self, gone: &[(u32, VersionRow)]) -> Result<HashSet<u32>> {
        let mut counts: HashMap<u32, usize> = HashMap::new();
        for (_, row) in gone {
            *counts.entry(row.id).or_default() += 1;
        }
        let mut unused = HashSet::new();
        for (id, count) in counts {
            let uses =
                self.0.store.scan(self.0.maps.uses, &id.to_be_bytes(), None, count + 1).await?;
            if uses.len() <= count {
                unused.insert(id);
            }
        }
        Ok(unused)
    }
}
