//! The registry: what is kept of subjects, versions and schemas, and how it is read.
//!
//! Everything stands in maps of a namespace of the ledger, and nothing in memory but schemas that were read lately.
//! Changes come one after the other, each as one transaction; who reads waits for nobody. What takes long, the reading
//! and comparing of schemas, is done before a change has its turn, which then looks that nothing has changed since.

mod change;
mod check;
mod hold;
mod parsed;
mod remove;
mod settings;

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{Mutex, Notify, watch};
use weft_ledger::{MapId, MapOptions, Store, Value};

pub use self::hold::{HELD_SUBJECTS_MAX, HELD_VERSIONS_MAX, PayloadVerdict};
pub use self::settings::SubjectSettings;
use self::{hold::Held, parsed::Parsed};
use crate::{
    error::{Error, Result},
    row::{
        Reference, SchemaRow, SubjectRow, VersionRow, decode, number, subject_of_use, version_key,
        versions_of,
    },
    schema::{Format, Schema},
};

/// The longest name of a subject, in bytes.
pub const SUBJECT_BYTES_MAX: usize = 512;
/// The most versions of a subject.
pub const VERSIONS_MAX: u32 = 10_000;
/// The most schemas that one refers to, in turn.
pub const REFERENCES_MAX: usize = 100;
/// How many entries are read at once.
const PAGE: usize = 500;

/// A registry; a clone is a handle to the same.
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

struct Inner {
    store: Arc<dyn Store>,
    maps: Maps,
    parsed: Parsed,
    held: Held,
    /// Told when payloads are to be held to what is not read.
    wanted: Notify,
    /// Held while something is changed.
    changes: Mutex<()>,
    /// Held by the one of those who register whose subject kept changing meanwhile, and who tries again.
    crowded: Mutex<()>,
    /// How often anything was changed.
    changed: watch::Sender<u64>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}

struct Maps {
    /// Schemas by id.
    schemas: MapId,
    /// Their texts by id.
    texts: MapId,
    /// Ids by digest.
    digests: MapId,
    subjects: MapId,
    versions: MapId,
    /// Where each id is used.
    uses: MapId,
    /// Who refers to each version.
    referrers: MapId,
    settings: MapId,
    /// The next id.
    next: MapId,
}

/// A schema that is to be registered, looked up or checked.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// Its format.
    pub format: Format,
    /// Its text.
    pub text: String,
    /// What it refers to.
    pub references: Vec<Reference>,
    /// Whether differences that do not count are to be looked past; else the settings say so.
    pub normalize: bool,
    /// The id that it must get, in a subject that imports.
    pub id: Option<u32>,
    /// The version that it must get, in a subject that imports.
    pub version: Option<u32>,
}

/// A schema as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its id.
    pub id: u32,
    /// Its format.
    pub format: Format,
    /// Its text.
    pub text: String,
    /// What it refers to.
    pub references: Vec<Reference>,
}

/// A version of a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// The subject.
    pub subject: String,
    /// The version.
    pub version: u32,
    /// Whether it is deleted, and not for good.
    pub deleted: bool,
    /// Its schema.
    pub schema: Kept,
}

/// Which version is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The latest that is not deleted.
    Latest,
    /// This one.
    Number(u32),
}

impl Which {
    /// Reads a version of a path.
    ///
    /// # Errors
    /// [`Error::InvalidVersion`].
    pub fn read(text: &str) -> Result<Self> {
        match text {
            "latest" | "-1" => Ok(Self::Latest),
            text => {
                let number = text.parse::<u32>().ok();
                let number = number.filter(|number| (1..=i32::MAX as u32).contains(number));
                number.map(Self::Number).ok_or_else(|| Error::InvalidVersion(text.to_owned()))
            }
        }
    }
}

/// Which of what is deleted, and not for good, is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Deleted {
    /// None of it.
    #[default]
    Hidden,
    /// It too.
    Shown,
    /// It alone.
    Only,
}

impl Deleted {
    const fn shows(self, deleted: bool) -> bool {
        match self {
            Self::Hidden => !deleted,
            Self::Shown => true,
            Self::Only => deleted,
        }
    }
}

impl Registry {
    /// Opens what a namespace of a ledger has of schemas, or begins it.
    ///
    /// # Errors
    /// What the store says.
    pub async fn open(store: Arc<dyn Store>) -> Result<Self> {
        let plain = MapOptions::default;
        let maps = Maps {
            schemas: store.create_map("schemas", plain()).await?,
            texts: store.create_map("texts", plain()).await?,
            digests: store.create_map("digests", plain()).await?,
            subjects: store.create_map("subjects", plain()).await?,
            versions: store.create_map("versions", plain()).await?,
            uses: store.create_map("uses", plain()).await?,
            referrers: store.create_map("referrers", plain()).await?,
            settings: store.create_map("settings", plain()).await?,
            next: store.create_map("next", plain()).await?,
        };
        Ok(Self(Arc::new(Inner {
            store,
            maps,
            parsed: Parsed::default(),
            held: Held::default(),
            wanted: Notify::new(),
            changes: Mutex::new(()),
            crowded: Mutex::new(()),
            changed: watch::Sender::new(0),
        })))
    }

    /// Tells of every change, after it.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// Names of subjects that begin with a text.
    ///
    /// # Errors
    /// What the store says.
    pub async fn subjects(&self, prefix: &str, deleted: Deleted) -> Result<Vec<String>> {
        let mut all = Vec::new();
        for (key, value) in self.scan(self.0.maps.subjects, prefix.as_bytes()).await? {
            let row: SubjectRow = decode(&value.data)?;
            // A subject is deleted when all its versions are.
            if deleted.shows(row.live == 0) {
                all.push(String::from_utf8_lossy(&key).into_owned());
            }
        }
        Ok(all)
    }

    /// Versions of a subject.
    ///
    /// # Errors
    /// [`Error::NoSubject`] if there are none.
    pub async fn versions(&self, subject: &str, deleted: Deleted) -> Result<Vec<u32>> {
        let rows = self.rows(subject).await?;
        let shown = rows.iter().filter(|(_, row)| deleted.shows(row.deleted));
        let shown: Vec<u32> = shown.map(|(version, _)| *version).collect();
        match shown.is_empty() && deleted != Deleted::Only || rows.is_empty() {
            true => Err(Error::NoSubject(subject.to_owned())),
            false => Ok(shown),
        }
    }

    /// A version of a subject.
    ///
    /// # Errors
    /// [`Error::NoSubject`], [`Error::NoVersion`].
    pub async fn version(
        &self,
        subject: &str,
        which: Which,
        deleted: Deleted,
    ) -> Result<Registered> {
        let (version, row) = self.row(subject, which, deleted).await?;
        let schema = self.schema(row.id).await?;
        Ok(Registered { subject: subject.to_owned(), version, deleted: row.deleted, schema })
    }

    /// A schema by its id.
    ///
    /// # Errors
    /// [`Error::NoSchema`].
    pub async fn schema(&self, id: u32) -> Result<Kept> {
        let row = self.get(self.0.maps.schemas, &id.to_be_bytes()).await?;
        let text = self.get(self.0.maps.texts, &id.to_be_bytes()).await?;
        let (Some(row), Some(text)) = (row, text) else {
            return Err(Error::NoSchema(format!("{id} ")));
        };
        let row: SchemaRow = decode(&row.data)?;
        let text = String::from_utf8_lossy(&text.data).into_owned();
        Ok(Kept { id, format: row.format.parse()?, text, references: row.references })
    }

    /// A schema by its id, ready to be compared and held to.
    ///
    /// # Errors
    /// [`Error::NoSchema`]; what keeps it from being read.
    pub async fn read(&self, id: u32) -> Result<Arc<Schema>> {
        if let Some(schema) = self.0.parsed.get(id) {
            return Ok(schema);
        }
        let kept = self.schema(id).await?;
        let (references, _) = self.gather(&kept.references, Deleted::Shown).await?;
        let bytes = kept.text.len();
        let schema =
            parsed::apart(move || Schema::read(kept.format, &kept.text, &references)).await??;
        let schema = Arc::new(schema);
        self.0.parsed.put(id, Arc::clone(&schema), bytes);
        Ok(schema)
    }

    /// Where an id is used: subjects with their versions.
    ///
    /// # Errors
    /// [`Error::NoSchema`].
    pub async fn uses(&self, id: u32, deleted: Deleted) -> Result<Vec<(String, u32)>> {
        if self.get(self.0.maps.schemas, &id.to_be_bytes()).await?.is_none() {
            return Err(Error::NoSchema(format!("{id} ")));
        }
        let mut all = Vec::new();
        for (key, _) in self.scan(self.0.maps.uses, &id.to_be_bytes()).await? {
            let (subject, version) = (subject_of_use(&key), number(&key));
            match self.row(&subject, Which::Number(version), deleted).await {
                Ok(_) => all.push((subject, version)),
                Err(Error::NoSubject(_) | Error::NoVersion(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    /// The ids of the schemas that refer to a version.
    ///
    /// # Errors
    /// [`Error::NoSubject`], [`Error::NoVersion`].
    pub async fn referrers(&self, subject: &str, which: Which) -> Result<Vec<u32>> {
        let (version, _) = self.row(subject, which, Deleted::Shown).await?;
        let key = version_key(subject, version);
        let rows = self.scan(self.0.maps.referrers, &key).await?;
        Ok(rows.iter().map(|(key, _)| number(key)).collect())
    }

    /// The ids and versions of a subject that are not deleted, from old to new.
    ///
    /// # Errors
    /// What the store says.
    pub async fn ids(&self, subject: &str) -> Result<Vec<(u32, u32)>> {
        let rows = self.rows(subject).await?;
        Ok(rows.iter().filter(|(_, row)| !row.deleted).map(|(at, row)| (*at, row.id)).collect())
    }

    /// Versions of a subject as they are kept, from old to new.
    async fn rows(&self, subject: &str) -> Result<Vec<(u32, VersionRow)>> {
        let rows = self.scan(self.0.maps.versions, &versions_of(subject)).await?;
        rows.iter().map(|(key, value)| Ok((number(key), decode(&value.data)?))).collect()
    }

    async fn subject(&self, subject: &str) -> Result<Option<SubjectRow>> {
        let row = self.get(self.0.maps.subjects, subject.as_bytes()).await?;
        row.map(|row| decode(&row.data)).transpose()
    }

    async fn row(
        &self,
        subject: &str,
        which: Which,
        deleted: Deleted,
    ) -> Result<(u32, VersionRow)> {
        let nobody = || Error::NoSubject(subject.to_owned());
        let of = self.subject(subject).await?.ok_or_else(nobody)?;
        if of.live == 0 && deleted == Deleted::Hidden {
            return Err(nobody());
        }
        let mut number = match which {
            Which::Number(number) => number,
            Which::Latest => of.last,
        };
        loop {
            let value = self.get(self.0.maps.versions, &version_key(subject, number)).await?;
            let row = value.map(|value| decode::<VersionRow>(&value.data)).transpose()?;
            match (row, which) {
                (Some(row), _) if deleted.shows(row.deleted) => return Ok((number, row)),
                (_, Which::Latest) if number > 1 => number -= 1,
                _ => return Err(Error::NoVersion(number.to_string())),
            }
        }
    }

    async fn get(&self, map: MapId, key: &[u8]) -> Result<Option<Value>> {
        // What is longer than a key can be was never put.
        match key.len() > weft_ledger::transaction::MAP_KEY_BYTES_MAX {
            true => Ok(None),
            false => Ok(self.0.store.get(map, key).await?),
        }
    }

    /// All entries whose key begins with a prefix.
    async fn scan(&self, map: MapId, prefix: &[u8]) -> Result<Vec<(Bytes, Value)>> {
        let mut all: Vec<(Bytes, Value)> = Vec::new();
        loop {
            let after = all.last().map(|(key, _)| key.clone());
            let page = self.0.store.scan(map, prefix, after, PAGE).await?;
            let is_last = page.len() < PAGE;
            all.extend(page);
            if is_last {
                return Ok(all);
            }
        }
    }
}
