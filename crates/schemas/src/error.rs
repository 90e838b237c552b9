//! What the registry refuses, with the codes that Confluent's API gives each.

use thiserror::Error as Described;

/// Result of the registry.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A refusal.
#[derive(Debug, Described)]
pub enum Error {
    /// No subject of the name.
    #[error("Subject '{0}' not found.")]
    NoSubject(String),
    /// No such version of a subject.
    #[error("Version {0} not found.")]
    NoVersion(String),
    /// No schema with an id, or none like the one that was shown.
    #[error("Schema {0}not found")]
    NoSchema(String),
    /// The subject is deleted already, and not for good.
    #[error("Subject '{0}' was soft deleted. Set permanent=true to delete permanently")]
    SubjectDeleted(String),
    /// The subject is to be removed for good, and was not deleted before.
    #[error("Subject '{0}' was not deleted first before being permanently deleted")]
    SubjectNotDeleted(String),
    /// The version is deleted already, and not for good.
    #[error("Subject '{0}' Version {1} was soft deleted. Set permanent=true to delete permanently")]
    VersionDeleted(String, u32),
    /// The version is to be removed for good, and was not deleted before.
    #[error("Subject '{0}' Version {1} was not deleted first before being permanently deleted")]
    VersionNotDeleted(String, u32),
    /// The subject has no level of compatibility of its own.
    #[error("Subject '{0}' does not have subject-level compatibility configured")]
    NoConfig(String),
    /// The subject has no mode of its own.
    #[error("Subject '{0}' does not have subject-level mode configured")]
    NoMode(String),
    /// The schema is none of its format, or larger or deeper than may be.
    #[error("Invalid schema: {0}")]
    InvalidSchema(String),
    /// The version is no number from 1 on, and not `latest`.
    #[error(
        "The specified version '{0}' is not a valid version id. Allowed values are between [1, 2^31-1] and the string \"latest\""
    )]
    InvalidVersion(String),
    /// Unknown level of compatibility.
    #[error(
        "Invalid compatibility level. Valid values are none, backward, forward, full, backward_transitive, forward_transitive, and full_transitive"
    )]
    InvalidLevel,
    /// Unknown mode.
    #[error("Invalid mode. Valid values are READWRITE, READONLY, READONLY_OVERRIDE and IMPORT")]
    InvalidMode,
    /// The mode of the subject, or a bound, does not allow it.
    #[error("{0}")]
    NotPermitted(String),
    /// Others refer to the version.
    #[error("One or more references exist to the schema {{subject={0},version={1}}}.")]
    Referenced(String, u32),
    /// The name of the subject cannot be one.
    #[error("The specified subject '{0}' is not a valid subject.")]
    InvalidSubject(String),
    /// The schema does not fit earlier ones.
    #[error(
        "Schema being registered is incompatible with an earlier schema for subject \"{subject}\", details: [{}]",
        details.join(", ")
    )]
    Incompatible {
        /// The subject.
        subject: String,
        /// What does not fit, each with its path and cause.
        details: Vec<String>,
    },
    /// What stands for the id of a schema is none.
    #[error("'{0}' is no id of a schema: ids are numbers between 1 and 2^31-1")]
    NoId(String),
    /// The request is not understood.
    #[error("{0}")]
    Malformed(String),
    /// The store.
    #[error("Error in the backend data store: {0}")]
    Store(#[from] weft_kernel::Error),
}

impl Error {
    /// The code of Confluent's API. Its first three digits are the status of HTTP.
    pub fn code(&self) -> u32 {
        match self {
            Self::NoSubject(_) => 40401,
            Self::NoVersion(_) => 40402,
            Self::NoSchema(_) => 40403,
            Self::SubjectDeleted(_) => 40404,
            Self::SubjectNotDeleted(_) => 40405,
            Self::VersionDeleted(..) => 40406,
            Self::VersionNotDeleted(..) => 40407,
            Self::NoConfig(_) => 40408,
            Self::NoMode(_) => 40409,
            Self::InvalidSchema(_) => 42201,
            Self::InvalidVersion(_) => 42202,
            Self::InvalidLevel => 42203,
            Self::InvalidMode => 42204,
            Self::NotPermitted(_) => 42205,
            Self::Referenced(..) => 42206,
            Self::InvalidSubject(_) => 42208,
            Self::Incompatible { .. } => 409,
            Self::Malformed(_) => 400,
            Self::NoId(_) => 404,
            Self::Store(error) => u32::from(error.reason().http()) * 100 + 1,
        }
    }

    /// The status of HTTP.
    pub fn http(&self) -> u16 {
        let code = self.code();
        u16::try_from(if code > 999 { code / 100 } else { code }).unwrap_or(500)
    }

    /// That a schema is not valid.
    pub(crate) fn invalid(said: impl Into<String>) -> Self {
        Self::InvalidSchema(said.into())
    }
}

#[cfg(test)]
mod tests {
    use weft_kernel::Reason;

    use super::*;

    #[test]
    fn a_code_begins_with_its_status() {
        for (error, code, http) in [
            (Error::NoSubject("a".into()), 40401, 404),
            (Error::invalid("x"), 42201, 422),
            (Error::Incompatible { subject: "a".into(), details: Vec::new() }, 409, 409),
            (weft_kernel::Error::new(Reason::StorageBusy, "busy").into(), 50301, 503),
        ] {
            assert_eq!((error.code(), error.http()), (code, http), "{error}");
        }
    }
}
