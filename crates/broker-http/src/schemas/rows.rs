//! The rows of the table about schemas.

use serde_json::Value;
use weft_api::{Gives, Permission, Row, Verb, delete, get, post, put};
use weft_kernel::Reason;
use weft_schemas::Registry;

use super::{MEDIA, Refusal, SUBJECT, ids, settings, subjects, view};
use crate::{
    response::JSON,
    schema::{Parameter, Shape, text},
};

/// The largest body: a schema, with what escapes add to it.
const BODY_BYTES_MAX: usize = 4 << 20;

const fn may(name: &'static str, about: &'static str, shape: Shape) -> Parameter {
    Parameter { name, about, shape, required: false }
}

const YES_OR_NO: Shape = Shape::Words(&["true", "false"]);
const DELETED: Parameter =
    may("deleted", "Whether what is deleted, and not for good, is shown too.", YES_OR_NO);
const DELETED_ONLY: Parameter =
    may("deletedOnly", "Whether only what is deleted is shown.", YES_OR_NO);
const NORMALIZE: Parameter =
    may("normalize", "Whether differences that do not count are looked past.", YES_OR_NO);
const OFFSET: Parameter = may("offset", "How many to pass over.", Shape::Text(&text::ANY));
const LIMIT: Parameter =
    may("limit", "The most to show; less than nought for all.", Shape::Text(&text::ANY));
const FORM: Parameter = may(
    "format",
    "`serialized` for the descriptor of Protobuf in base64.",
    Shape::Text(&text::ANY),
);
const PERMANENT: Parameter = may("permanent", "Whether what is deleted goes for good.", YES_OR_NO);
const PREFIX: Parameter = may("subjectPrefix", "What names begin with.", Shape::Text(&text::ANY));
const TO_GLOBAL: Parameter =
    may("defaultToGlobal", "Whether what counts for all is shown where nothing is set.", YES_OR_NO);
const FORCE: Parameter = may("force", "Of no effect: taken for the sake of clients.", YES_OR_NO);
const VERBOSE: Parameter = may("verbose", "Whether to say what does not fit.", YES_OR_NO);
const OF_SUBJECT: Parameter =
    may("subject", "The subject alone that is meant.", Shape::Text(&text::ANY));
const FETCH_MAX: Parameter =
    may("fetchMaxId", "Of no effect: taken for the sake of clients.", YES_OR_NO);

/// Names that the registry itself looks at.
const NAMED: &[Parameter] = &[
    Parameter {
        name: "subject",
        about: "The subject.",
        shape: Shape::Text(&text::ANY),
        required: true,
    },
    Parameter {
        name: "version",
        about: "The version, or `latest`.",
        shape: Shape::Text(&text::ANY),
        required: true,
    },
    Parameter { name: "id", about: "The id.", shape: Shape::Text(&text::ANY), required: true },
];

/// What is taken, under each of the media types that clients name.
const TAKES: &[(&str, &Shape)] = &[
    (MEDIA, &Shape::Any),
    ("application/vnd.schemaregistry+json", &Shape::Any),
    (JSON, &Shape::Any),
];

const STORE: &[Reason] = &[
    Reason::StorageBusy,
    Reason::StorageFull,
    Reason::StorageUnavailable,
    Reason::StoragePoisoned,
    Reason::StorageStalled,
    Reason::StorageCorrupt,
    Reason::Draining,
];

/// An answer of a type, and the refusals.
macro_rules! shows {
    ($of:ty) => {
        &[
            Gives { media: Some(MEDIA), ..Gives::json::<$of>(200) },
            Gives { media: Some(MEDIA), ..Gives::json::<Refusal>(400) },
            Gives { media: Some(MEDIA), ..Gives::json::<Refusal>(404) },
            Gives { media: Some(MEDIA), ..Gives::json::<Refusal>(409) },
            Gives { media: Some(MEDIA), ..Gives::json::<Refusal>(422) },
        ]
    };
}

/// Makes a handler of an async function.
macro_rules! by {
    ($($handler:ident)::+) => {
        |ask| Box::pin($($handler)::+(ask))
    };
}

const READ: Permission = Permission::Read;
const MANAGE: Permission = Permission::Manage;

const fn row(row: Row<Registry>, gives: &'static [Gives]) -> Row<Registry> {
    row.places(NAMED).refuses(STORE).gives(gives).foreign()
}

/// What is offered of schemas.
pub static SCHEMA_OPERATIONS: &[Row<Registry>] = &[
    row(
        get("schemas_root", "/v1/schemas", "That there is a registry here.", READ, by!(ids::root)),
        shows!(Value),
    ),
    row(
        get(
            "schema_subjects",
            "/v1/schemas/subjects",
            "Names of subjects.",
            READ,
            by!(subjects::list),
        )
        .query(&[PREFIX, DELETED, DELETED_ONLY, OFFSET, LIMIT])
        .verb(&SUBJECT, Verb::List { help: "Every subject, by name", member: "", columns: &[] }),
        shows!(Vec<String>),
    ),
    row(
        get(
            "schema_subject",
            "/v1/schemas/subjects/{subject}",
            "A subject: versions, level, mode.",
            READ,
            by!(subjects::show),
        )
        .verb(
            &SUBJECT,
            Verb::Show { help: "One subject: its versions, level of compatibility and mode" },
        ),
        shows!(view::SubjectView),
    ),
    row(
        post(
            "look_schema_up",
            "/v1/schemas/subjects/{subject}",
            "The version of a subject that has a schema.",
            READ,
            by!(subjects::lookup),
        )
        .query(&[NORMALIZE, DELETED, FORM])
        .takes_media(TAKES, BODY_BYTES_MAX),
        shows!(view::SchemaView),
    ),
    row(
        delete(
            "delete_schema_subject",
            "/v1/schemas/subjects/{subject}",
            "Deletes all versions of a subject.",
            MANAGE,
            by!(subjects::delete),
        )
        .query(&[PERMANENT])
        .verb(
            &SUBJECT,
            Verb::Delete {
                help: "Delete a subject with all its versions; they can be registered again",
                confirm: true,
                done: "deleted",
            },
        ),
        shows!(Vec<u32>),
    ),
    row(
        get(
            "schema_versions",
            "/v1/schemas/subjects/{subject}/versions",
            "Versions of a subject.",
            READ,
            by!(subjects::versions),
        )
        .query(&[DELETED, DELETED_ONLY, OFFSET, LIMIT]),
        shows!(Vec<u32>),
    ),
    row(
        post(
            "register_schema",
            "/v1/schemas/subjects/{subject}/versions",
            "Registers a schema under a subject, if it fits the versions that there are.",
            Permission::Publish,
            by!(subjects::register),
        )
        .query(&[NORMALIZE, FORM])
        .takes_media(TAKES, BODY_BYTES_MAX),
        shows!(view::IdView),
    ),
    row(
        get(
            "schema_version",
            "/v1/schemas/subjects/{subject}/versions/{version}",
            "A version of a subject.",
            READ,
            by!(subjects::version),
        )
        .query(&[DELETED, FORM]),
        shows!(view::SchemaView),
    ),
    row(
        delete(
            "delete_schema_version",
            "/v1/schemas/subjects/{subject}/versions/{version}",
            "Deletes a version.",
            MANAGE,
            by!(subjects::delete_version),
        )
        .query(&[PERMANENT]),
        shows!(u32),
    ),
    row(
        get(
            "schema_version_text",
            "/v1/schemas/subjects/{subject}/versions/{version}/schema",
            "The schema of a version alone.",
            READ,
            by!(subjects::text),
        )
        .query(&[DELETED]),
        shows!(Value),
    ),
    row(
        get(
            "schema_referrers",
            "/v1/schemas/subjects/{subject}/versions/{version}/referencedby",
            "The ids of schemas that refer to a version.",
            READ,
            by!(subjects::referrers),
        )
        .query(&[OFFSET, LIMIT, DELETED]),
        shows!(Vec<u32>),
    ),
    row(
        get(
            "all_schemas",
            "/v1/schemas/schemas",
            "Versions of all subjects.",
            READ,
            by!(ids::list),
        )
        .query(&[
            PREFIX,
            DELETED,
            may("latestOnly", "Whether only the latest of each is shown.", YES_OR_NO),
            OFFSET,
            LIMIT,
        ]),
        shows!(Vec<view::SchemaView>),
    ),
    row(
        get(
            "schema_types",
            "/v1/schemas/schemas/types",
            "The formats that there are.",
            READ,
            by!(ids::types),
        ),
        shows!(Vec<String>),
    ),
    row(
        get(
            "schema_contexts",
            "/v1/schemas/contexts",
            "The contexts: the default one.",
            READ,
            by!(ids::contexts),
        )
        .query(&[OFFSET, LIMIT]),
        shows!(Vec<String>),
    ),
    row(
        get(
            "schema_by_id",
            "/v1/schemas/schemas/ids/{id}",
            "A schema by its id.",
            READ,
            by!(ids::show),
        )
        .query(&[FORM, OF_SUBJECT, FETCH_MAX]),
        shows!(view::SchemaView),
    ),
    row(
        get(
            "schema_text_by_id",
            "/v1/schemas/schemas/ids/{id}/schema",
            "The text of a schema alone.",
            READ,
            by!(ids::text),
        )
        .query(&[FORM, OF_SUBJECT]),
        shows!(Value),
    ),
    row(
        get(
            "subjects_of_schema",
            "/v1/schemas/schemas/ids/{id}/subjects",
            "The subjects of a schema.",
            READ,
            by!(ids::subjects),
        )
        .query(&[DELETED, OF_SUBJECT, OFFSET, LIMIT]),
        shows!(Vec<String>),
    ),
    row(
        get(
            "versions_of_schema",
            "/v1/schemas/schemas/ids/{id}/versions",
            "The subjects and versions of a schema.",
            READ,
            by!(ids::versions),
        )
        .query(&[DELETED, OF_SUBJECT, OFFSET, LIMIT]),
        shows!(Vec<view::UseView>),
    ),
    row(
        post(
            "check_schema",
            "/v1/schemas/compatibility/subjects/{subject}/versions",
            "Holds a schema to those versions that the level asks for.",
            READ,
            by!(subjects::check_all),
        )
        .query(&[NORMALIZE, VERBOSE])
        .takes_media(TAKES, BODY_BYTES_MAX),
        shows!(view::FitView),
    ),
    row(
        post(
            "check_schema_version",
            "/v1/schemas/compatibility/subjects/{subject}/versions/{version}",
            "Holds a schema to a version.",
            READ,
            by!(subjects::check),
        )
        .query(&[NORMALIZE, VERBOSE])
        .takes_media(TAKES, BODY_BYTES_MAX),
        shows!(view::FitView),
    ),
    row(
        get(
            "schema_config",
            "/v1/schemas/config",
            "The level of compatibility of all subjects.",
            READ,
            by!(settings::config),
        )
        .query(&[TO_GLOBAL]),
        shows!(Value),
    ),
    row(
        put(
            "set_schema_config",
            "/v1/schemas/config",
            "Sets the level of compatibility of all subjects.",
            MANAGE,
            by!(settings::set_config),
        )
        .takes_media(TAKES, BODY_BYTES_MAX),
        shows!(Value),
    ),
    row(
        delete(
            "unset_schema_config",
            "/v1/schemas/config",
            "Sets the level of all subjects back.",
            MANAGE,
            by!(settings::unset_config),
        ),
        shows!(Value),
    ),
    row(
        get(
            "schema_subject_config",
            "/v1/schemas/config/{subject}",
            "The level of compatibility of a subject.",
            READ,
            by!(settings::config),
        )
        .query(&[TO_GLOBAL]),
        shows!(Value),
    ),
    row(
        put(
            "set_schema_subject_config",
            "/v1/schemas/config/{subject}",
            "Sets the level of compatibility of a subject.",
            MANAGE,
            by!(settings::set_config),
        )
        .takes_media(TAKES, BODY_BYTES_MAX),
        shows!(Value),
    ),
    row(
        delete(
            "unset_schema_subject_config",
            "/v1/schemas/config/{subject}",
            "Takes the level off a subject.",
            MANAGE,
            by!(settings::unset_config),
        ),
        shows!(Value),
    ),
    row(
        get(
            "schema_mode",
            "/v1/schemas/mode",
            "The mode of all subjects.",
            READ,
            by!(settings::mode),
        )
        .query(&[TO_GLOBAL]),
        shows!(Value),
    ),
    row(
        put(
            "set_schema_mode",
            "/v1/schemas/mode",
            "Sets the mode of all subjects.",
            MANAGE,
            by!(settings::set_mode),
        )
        .query(&[FORCE])
        .takes_media(TAKES, BODY_BYTES_MAX),
        shows!(Value),
    ),
    row(
        get(
            "schema_subject_mode",
            "/v1/schemas/mode/{subject}",
            "The mode of a subject.",
            READ,
            by!(settings::mode),
        )
        .query(&[TO_GLOBAL]),
        shows!(Value),
    ),
    row(
        put(
            "set_schema_subject_mode",
            "/v1/schemas/mode/{subject}",
            "Sets the mode of a subject.",
            MANAGE,
            by!(settings::set_mode),
        )
        .query(&[FORCE])
        .takes_media(TAKES, BODY_BYTES_MAX),
        shows!(Value),
    ),
    row(
        delete(
            "unset_schema_subject_mode",
            "/v1/schemas/mode/{subject}",
            "Takes the mode off a subject.",
            MANAGE,
            by!(settings::unset_mode),
        ),
        shows!(Value),
    ),
];
