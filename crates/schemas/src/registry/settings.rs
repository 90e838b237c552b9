//! SubjectSettings of a subject and of all: level of compatibility, mode, normal form.

use bytes::Bytes;
use weft_ledger::{Durability, ExpectValue, Transaction};

use super::{Registry, change::is_subject};
use crate::{
    compatibility::{Level, Mode},
    error::{Error, Result},
    row::{SettingsRow, decode, encode},
};

/// Key of what counts for all subjects: no subject is called so.
const ALL: &[u8] = &[0];
const LENIENT: &str = "LENIENT";

/// What is set, of a subject or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubjectSettings {
    /// Level of compatibility.
    pub level: Option<Level>,
    /// Mode.
    pub mode: Option<Mode>,
    /// Whether schemas are kept in their normal form.
    pub normalize: Option<bool>,
    /// Whether a property that is added to an open content model of JSON is let pass.
    pub lenient: Option<bool>,
}

impl SubjectSettings {
    fn of(row: &SettingsRow) -> Result<Self> {
        Ok(Self {
            level: row.level.as_deref().map(str::parse).transpose()?,
            mode: row.mode.as_deref().map(str::parse).transpose()?,
            normalize: row.normalize,
            lenient: row.policy.as_deref().map(|policy| policy == LENIENT),
        })
    }

    fn row(self) -> SettingsRow {
        let policy = self.lenient.map(|yes| if yes { LENIENT } else { "STRICT" }.to_owned());
        SettingsRow {
            level: self.level.map(|level| level.word().to_owned()),
            mode: self.mode.map(|mode| mode.word().to_owned()),
            normalize: self.normalize,
            policy,
        }
    }

    /// What it says, and what another says of the rest.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            level: self.level.or(other.level),
            mode: self.mode.or(other.mode),
            normalize: self.normalize.or(other.normalize),
            lenient: self.lenient.or(other.lenient),
        }
    }
}

impl Registry {
    /// What is set of a subject, or of all.
    ///
    /// # Errors
    /// What the store says.
    pub async fn settings(&self, subject: Option<&str>) -> Result<SubjectSettings> {
        let key = subject.map_or(ALL, str::as_bytes);
        match self.get(self.0.maps.settings, key).await? {
            Some(value) => SubjectSettings::of(&decode(&value.data)?),
            None => Ok(SubjectSettings::default()),
        }
    }

    /// What counts for a subject: what it says, what all say, and the defaults.
    ///
    /// # Errors
    /// What the store says.
    pub async fn in_force(&self, subject: &str) -> Result<SubjectSettings> {
        let (own, all) = (self.settings(Some(subject)).await?, self.settings(None).await?);
        let mut both = own.or(all);
        if all.mode == Some(Mode::ReadOnlyOverride) {
            both.mode = all.mode;
        }
        Ok(both)
    }

    /// Changes settings of a subject, or of all; what is `None` stays. Gives what there is then.
    ///
    /// # Errors
    /// [`Error::InvalidSubject`]; [`Error::InvalidMode`] for a subject that would be read-only for all.
    pub async fn set(
        &self,
        subject: Option<&str>,
        settings: SubjectSettings,
    ) -> Result<SubjectSettings> {
        if let Some(subject) = subject {
            is_subject(subject)?;
            if settings.mode == Some(Mode::ReadOnlyOverride) {
                return Err(Error::InvalidMode);
            }
        }
        let _turn = self.0.changes.lock().await;
        let together = settings.or(self.settings(subject).await?);
        self.keep(subject, together).await?;
        Ok(together)
    }

    /// Takes the level with what belongs to it off a subject, or off all. Gives what was.
    ///
    /// # Errors
    /// [`Error::NoConfig`].
    pub async fn unset_level(&self, subject: Option<&str>) -> Result<SubjectSettings> {
        let _turn = self.0.changes.lock().await;
        let was = self.settings(subject).await?;
        if let (Some(subject), None, None, None) = (subject, was.level, was.normalize, was.lenient)
        {
            return Err(Error::NoConfig(subject.to_owned()));
        }
        self.keep(subject, SubjectSettings { mode: was.mode, ..SubjectSettings::default() })
            .await?;
        Ok(was)
    }

    /// Takes the mode off a subject. Gives what it was.
    ///
    /// # Errors
    /// [`Error::NoMode`].
    pub async fn unset_mode(&self, subject: &str) -> Result<Mode> {
        let _turn = self.0.changes.lock().await;
        let was = self.settings(Some(subject)).await?;
        let mode = was.mode.ok_or_else(|| Error::NoMode(subject.to_owned()))?;
        self.keep(Some(subject), SubjectSettings { mode: None, ..was }).await?;
        Ok(mode)
    }

    async fn keep(&self, subject: Option<&str>, settings: SubjectSettings) -> Result<()> {
        let key = Bytes::copy_from_slice(subject.map_or(ALL, str::as_bytes));
        let maps = &self.0.maps;
        let change = Transaction::new(Durability::Fsync);
        let change = match settings == SubjectSettings::default() {
            true => change.delete(maps.settings, key, ExpectValue::Any),
            false => change.put(maps.settings, key, encode(&settings.row())?, ExpectValue::Any),
        };
        self.commit(change).await
    }
}
