//! Registering schemas, and looking them up by what they say.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use weft_kernel::Reason;
use weft_ledger::{Durability, ExpectValue, Transaction, transaction::MAP_VALUE_BYTES_MAX};

use super::{
    Deleted, Draft, Kept, REFERENCES_MAX, Registered, Registry, SUBJECT_BYTES_MAX, VERSIONS_MAX,
    Which, check::Rule, parsed,
};
use crate::{
    compatibility::Mode,
    error::{Error, Result},
    row::{
        Reference, SchemaRow, SubjectRow, VersionRow, decode, encode, number, referrer_key,
        use_key, version_key, versions_of,
    },
    schema::{Referred, Schema},
};

/// Key of the next id.
const NEXT: &[u8] = b"id";
/// How often a registration is tried, if others change the subject meanwhile.
const ROUNDS_MAX: usize = 32;
/// How many of these times it need not queue with others of whom that is so.
const ROUNDS_FREE: usize = 4;

/// A schema that was read, and what it will be kept as.
pub(super) struct Readied {
    pub(super) schema: Arc<Schema>,
    text: String,
    references: Vec<Reference>,
    digest: String,
}

/// Refuses a name that no subject can have.
pub(super) fn is_subject(name: &str) -> Result<()> {
    let is_good =
        (1..=SUBJECT_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control);
    match is_good && !matches!(name, "__GLOBAL" | "__EMPTY") {
        true => Ok(()),
        false => {
            Err(Error::InvalidSubject(name.chars().filter(|c| !c.is_control()).take(100).collect()))
        }
    }
}

impl Registry {
    /// Registers a schema under a subject. One that the subject has already is not registered again.
    ///
    /// # Errors
    /// [`Error::InvalidSchema`], [`Error::Incompatible`], [`Error::NotPermitted`] by the mode or at the most versions.
    pub async fn register(&self, subject: &str, draft: &Draft) -> Result<Registered> {
        is_subject(subject)?;
        let mut queue = None;
        for round in 0..ROUNDS_MAX {
            if round == ROUNDS_FREE {
                queue = Some(self.0.crowded.lock().await);
            }
            if let Some(done) = self.register_round(subject, draft).await? {
                return Ok(done);
            }
        }
        drop(queue);
        let said = format!("the subject {subject} changes all the time: try again");
        Err(weft_kernel::Error::new(Reason::StorageBusy, said).into())
    }

    /// Tries once to register a schema; `None` if the subject has changed meanwhile.
    async fn register_round(&self, subject: &str, draft: &Draft) -> Result<Option<Registered>> {
        let settings = self.in_force(subject).await?;
        let ready = self.ready(draft, settings.normalize.unwrap_or(false)).await?;
        let versions = self.rows(subject).await?;
        if let Some(found) = self.found(subject, &ready, draft.id).await? {
            return Ok(Some(found));
        }
        let mode = settings.mode.unwrap_or_default();
        self.may_register(subject, mode, draft).await?;
        // Compared before the turn: others need not wait for it.
        if mode != Mode::Import {
            let details = self.fits(&ready, &versions, Rule::of(settings)).await?;
            if !details.is_empty() {
                return Err(Error::Incompatible { subject: subject.to_owned(), details });
            }
        }
        let _turn = self.0.changes.lock().await;
        if self.rows(subject).await? != versions || self.in_force(subject).await? != settings {
            return Ok(None);
        }
        let row = self.subject(subject).await?.unwrap_or_default();
        if row.versions >= VERSIONS_MAX {
            let said =
                format!("the subject has {VERSIONS_MAX} versions: remove some for good first");
            return Err(Error::NotPermitted(said));
        }
        let version = draft.version.unwrap_or(row.last + 1);
        if versions.iter().any(|(there, _)| *there == version) {
            return Err(Error::NotPermitted(format!("Version {version} is there already")));
        }
        let row = SubjectRow {
            last: row.last.max(version),
            versions: row.versions + 1,
            live: row.live + 1,
        };
        let known = self.id_of(&ready.digest).await?;
        self.put(subject, version, row, &ready, draft.id, known).await.map(Some)
    }

    /// The version of a subject that has a schema already, with the id that is asked for.
    async fn found(
        &self,
        subject: &str,
        ready: &Readied,
        asked: Option<u32>,
    ) -> Result<Option<Registered>> {
        let Some(id) = self.id_of(&ready.digest).await? else { return Ok(None) };
        match self.live_use(id, subject).await? {
            Some(found) if asked.is_none_or(|asked| asked == id) => {
                self.version(subject, Which::Number(found), Deleted::Hidden).await.map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Refuses what the mode of a subject does not allow.
    async fn may_register(&self, subject: &str, mode: Mode, draft: &Draft) -> Result<()> {
        let is_given = draft.id.is_some() || draft.version.is_some();
        match mode {
            Mode::ReadOnly | Mode::ReadOnlyOverride => {
                Err(Error::NotPermitted(format!("Subject {subject} is in read-only mode")))
            }
            Mode::ReadWrite if is_given => {
                Err(Error::NotPermitted(format!("Subject {subject} is not in import mode")))
            }
            Mode::Import if draft.id.is_none() => Err(Error::NotPermitted(format!(
                "Subject {subject} is in import mode: the schema needs an id"
            ))),
            _ => Ok(()),
        }
    }

    async fn put(
        &self,
        subject: &str,
        version: u32,
        row: SubjectRow,
        ready: &Readied,
        asked: Option<u32>,
        known: Option<u32>,
    ) -> Result<Registered> {
        let maps = &self.0.maps;
        let mut change = Transaction::new(Durability::Fsync);
        let next = self.get(maps.next, NEXT).await?;
        let (first, expect) = match &next {
            Some(value) => (decode::<u32>(&value.data)?, ExpectValue::Version(value.version)),
            None => (1, ExpectValue::Absent),
        };
        let id = asked.or(known).unwrap_or(first);
        let is_there = self.get(maps.schemas, &id.to_be_bytes()).await?;
        if let Some(there) = &is_there {
            let there: SchemaRow = decode(&there.data)?;
            if there.digest != ready.digest {
                return Err(Error::NotPermitted(format!(
                    "Overwrite new schema with id {id} is not permitted."
                )));
            }
        } else {
            let kept = SchemaRow {
                format: ready.schema.format().word().to_owned(),
                references: ready.references.clone(),
                digest: ready.digest.clone(),
            };
            let key = id.to_be_bytes().to_vec();
            change = change
                .put(maps.schemas, key.clone(), encode(&kept)?, ExpectValue::Absent)
                .put(maps.texts, key.clone(), ready.text.clone().into_bytes(), ExpectValue::Absent);
            if known.is_none() {
                let digest = ready.digest.clone().into_bytes();
                change = change.put(maps.digests, digest, key, ExpectValue::Absent);
            }
            for to in &ready.references {
                let at = u32::try_from(to.version).unwrap_or_default();
                let key = referrer_key(&to.subject, at, id);
                change = change.put(maps.referrers, key, "", ExpectValue::Any);
            }
        }
        if id >= first {
            let after = id.checked_add(1).filter(|after| i32::try_from(*after).is_ok());
            let after = after.ok_or_else(|| {
                let said = match asked {
                    Some(_) => format!(
                        "Schema id {id} is not permitted: no id would be left for the next schema"
                    ),
                    None => "There are no more ids for schemas".to_owned(),
                };
                Error::NotPermitted(said)
            })?;
            change = change.put(maps.next, NEXT, encode(&after)?, expect);
        }
        let there = VersionRow { id, deleted: false };
        change = change
            .put(maps.versions, version_key(subject, version), encode(&there)?, ExpectValue::Absent)
            .put(maps.uses, use_key(id, subject, version), "", ExpectValue::Any)
            .put(maps.subjects, subject.to_owned(), encode(&row)?, ExpectValue::Any);
        self.commit(change).await?;
        self.read_held(subject).await?;
        let schema = Kept {
            id,
            format: ready.schema.format(),
            text: ready.text.clone(),
            references: ready.references.clone(),
        };
        Ok(Registered { subject: subject.to_owned(), version, deleted: false, schema })
    }

    /// The version of a subject that has a schema.
    ///
    /// # Errors
    /// [`Error::NoSubject`], [`Error::NoSchema`].
    pub async fn lookup(
        &self,
        subject: &str,
        draft: &Draft,
        deleted: Deleted,
    ) -> Result<Registered> {
        let row = self.subject(subject).await?;
        if !row.is_some_and(|row| row.live > 0 || deleted != Deleted::Hidden) {
            return Err(Error::NoSubject(subject.to_owned()));
        }
        let settings = self.in_force(subject).await?;
        let ready = self.ready(draft, settings.normalize.unwrap_or(false)).await?;
        let nothing = || Error::NoSchema(String::new());
        let id = self.id_of(&ready.digest).await?.ok_or_else(nothing)?;
        for version in self.uses_in(id, subject).await?.into_iter().rev() {
            match self.version(subject, Which::Number(version), deleted).await {
                Err(Error::NoVersion(_)) => {}
                found => return found,
            }
        }
        Err(nothing())
    }

    /// Reads a schema, with all that it refers to.
    pub(super) async fn ready(&self, draft: &Draft, normalize: bool) -> Result<Readied> {
        let (referred, references) = self.gather(&draft.references, Deleted::Hidden).await?;
        let normalize = normalize || draft.normalize;
        let (format, text) = (draft.format, draft.text.clone());
        parsed::apart(move || {
            let schema = Schema::read(format, &text, &referred)?;
            let text = schema.text(normalize);
            if text.len() > MAP_VALUE_BYTES_MAX {
                return Err(Error::invalid("it is too large once it is written out"));
            }
            let mut known = format!("{format}\n{}\n", schema.canonical(normalize));
            for to in &references {
                known.push_str(&format!("{:?} {:?} {}\n", to.name, to.subject, to.version));
            }
            let digest = digest(&SHA256, known.as_bytes());
            let digest = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            Ok(Readied { schema: Arc::new(schema), text, references, digest })
        })
        .await?
    }

    /// The texts of what is referred to, each after those that it refers to itself; and the references with the
    /// versions that are meant.
    pub(super) async fn gather(
        &self,
        references: &[Reference],
        deleted: Deleted,
    ) -> Result<(Vec<Referred>, Vec<Reference>)> {
        let mut texts: Vec<Referred> = Vec::new();
        let mut exact = Vec::with_capacity(references.len());
        let mut met = std::collections::HashSet::new();
        // What is still to be read, and what is to be put down once all below it is.
        let mut left: Vec<(Reference, Option<String>)> = Vec::new();
        for reference in references {
            let missing = || {
                let Reference { name, subject, version } = reference;
                Error::invalid(format!(
                    "No schema reference found for subject \"{subject}\" and version {version} ({name})"
                ))
            };
            let which = match u32::try_from(reference.version) {
                Ok(number) if number > 0 => Which::Number(number),
                _ => Which::Latest,
            };
            let row = self.row(&reference.subject, which, deleted).await;
            let (version, _) = match row {
                Err(Error::NoSubject(_) | Error::NoVersion(_)) => return Err(missing()),
                row => row?,
            };
            exact.push(Reference { version: i64::from(version), ..reference.clone() });
        }
        left.extend(exact.iter().rev().map(|reference| (reference.clone(), None)));
        while let Some((reference, text)) = left.pop() {
            if let Some(text) = text {
                texts.push(Referred { name: reference.name, text });
                continue;
            }
            if !met.insert((reference.name.clone(), reference.subject.clone(), reference.version)) {
                continue;
            }
            if met.len() > REFERENCES_MAX {
                let said = format!("it refers to more than {REFERENCES_MAX} schemas in turn");
                return Err(Error::invalid(said));
            }
            let number = u32::try_from(reference.version).unwrap_or_default();
            let found =
                self.version(&reference.subject, Which::Number(number), Deleted::Shown).await?;
            left.push((reference, Some(found.schema.text)));
            left.extend(found.schema.references.into_iter().rev().map(|below| (below, None)));
        }
        Ok((texts, exact))
    }

    async fn id_of(&self, digest: &str) -> Result<Option<u32>> {
        let value = self.get(self.0.maps.digests, digest.as_bytes()).await?;
        Ok(value.map(|value| number(&value.data)))
    }

    /// The versions of a subject with an id, from old to new.
    async fn uses_in(&self, id: u32, subject: &str) -> Result<Vec<u32>> {
        let mut prefix = id.to_be_bytes().to_vec();
        prefix.extend_from_slice(&versions_of(subject));
        let rows = self.scan(self.0.maps.uses, &prefix).await?;
        Ok(rows.iter().map(|(key, _)| number(key)).collect())
    }

    /// The latest version of a subject with an id that is not deleted.
    async fn live_use(&self, id: u32, subject: &str) -> Result<Option<u32>> {
        for version in self.uses_in(id, subject).await?.into_iter().rev() {
            match self.row(subject, Which::Number(version), Deleted::Hidden).await {
                Ok(_) => return Ok(Some(version)),
                Err(Error::NoVersion(_) | Error::NoSubject(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Makes a change, and tells of it.
    pub(super) async fn commit(&self, change: Transaction) -> Result<()> {
        self.0.store.commit(change).await.map_err(weft_kernel::Error::from)?;
        self.0.changed.send_modify(|count| *count += 1);
        Ok(())
    }
}

#[cfg(test)]
#[path = "change_tests.rs"]
mod tests;
