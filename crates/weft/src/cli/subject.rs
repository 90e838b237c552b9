//! `weft subject`: subjects of the schema registry of a running node, and whether a schema fits one.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use http::Method;
use serde_json::{Value, json};
use weft_api::Noun;
use weft_broker_http::SUBJECT;

use super::{
    admin::{self, Admin, Said},
    verbs::{Named, Verbs},
};

/// The noun of subjects.
#[derive(Clone, Debug)]
pub struct Subjects;

impl Named for Subjects {
    const NOUN: &'static Noun = &SUBJECT;

    fn list(answer: Value) -> anyhow::Result<String> {
        let names: Vec<String> = admin::read(answer)?;
        Ok(admin::table(&["subject"], names.into_iter().map(|name| [name])))
    }
}

/// Subjects of a running node.
#[derive(Debug, Args)]
pub struct Subject {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    admin: Admin,
}

#[derive(Debug, Subcommand)]
enum Verb {
    #[command(flatten)]
    Table(Verbs<Subjects>),
    /// Hold the schema of a file to the versions of a subject, and register nothing.
    Check {
        /// The subject
        name: String,
        /// The file: `.avsc` is Avro, `.json` JSON Schema, `.proto` Protobuf
        file: PathBuf,
        /// The format, where the name of the file does not say it.
        #[arg(long, value_name = "FORMAT")]
        format: Option<Format>,
        /// A version that is referred to, as `NAME=SUBJECT:VERSION`; may be given again.
        #[arg(long = "reference", value_parser = reference)]
        references: Vec<Value>,
    },
}

/// The format of a schema.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Avro,
    Json,
    Protobuf,
}

impl Format {
    const fn word(self) -> &'static str {
        match self {
            Self::Avro => "AVRO",
            Self::Json => "JSON",
            Self::Protobuf => "PROTOBUF",
        }
    }

    fn of(file: &std::path::Path) -> anyhow::Result<Self> {
        match file.extension().and_then(|end| end.to_str()) {
            Some("avsc") => Ok(Self::Avro),
            Some("json") => Ok(Self::Json),
            Some("proto") => Ok(Self::Protobuf),
            _ => anyhow::bail!(
                "{} does not say its format by its name: add --format avro, json or protobuf",
                file.display()
            ),
        }
    }
}

fn reference(text: &str) -> Result<Value, String> {
    let said = || "a reference is NAME=SUBJECT:VERSION".to_owned();
    let (name, rest) = text.split_once('=').ok_or_else(said)?;
    let (subject, version) = rest.rsplit_once(':').ok_or_else(said)?;
    let version: i64 = version.parse().map_err(|error| format!("{}: {error}", said()))?;
    Ok(json!({ "name": name, "subject": subject, "version": version }))
}

/// Whether a subject has no version that a schema was held to.
fn is_absent(admin: &Admin, name: &str) -> anyhow::Result<bool> {
    let path = format!("/v1/schemas/subjects/{}/versions", admin::segment(name));
    Ok(matches!(admin.send(&Method::GET, &path, None)?, Said::No(_)))
}

impl Subject {
    /// Exits with 0 if it is there, fits or was done, with 1 if not, with 2 if the node could not be asked.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.verb {
            Verb::Table(verb) => verb.run(&self.admin),
            Verb::Check { name, file, format, references } => {
                let format = format.map_or_else(|| Format::of(&file), Ok)?;
                let schema = fs::read_to_string(&file)
                    .with_context(|| format!("cannot read {}", file.display()))?;
                let body = json!({
                    "schema": schema, "schemaType": format.word(), "references": references,
                });
                let path = format!(
                    "/v1/schemas/compatibility/subjects/{}/versions?verbose=true",
                    admin::segment(&name)
                );
                let mut fits = true;
                let asked =
                    self.admin.show(&Method::POST, &path, Some(admin::json(&body)), |answer| {
                        fits = answer["is_compatible"] == true;
                        let messages = answer["messages"].as_array().cloned().unwrap_or_default();
                        let lines = messages.iter().filter_map(Value::as_str);
                        let mut told: String =
                            lines.map(|line| format!("{}\n", admin::printable(line))).collect();
                        told += if !fits {
                            "it does not fit\n"
                        } else if is_absent(&self.admin, &name)? {
                            "it fits: the subject is not there yet\n"
                        } else {
                            "it fits\n"
                        };
                        Ok(told)
                    })?;
                Ok(if fits { asked } else { ExitCode::from(1) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_read_as_people_write_it() {
        let expect = json!({ "name": "a.proto", "subject": "a:b", "version": 3 });
        assert_eq!(reference("a.proto=a:b:3").unwrap(), expect);
        for text in ["a", "a=b", "a=b:c"] {
            assert!(reference(text).is_err(), "{text}");
        }
    }
}
