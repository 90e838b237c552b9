//! Clients of Confluent's Schema Registry, with their serializers, against the registry of a Weft.

use std::{fs, process::Command};

use anyhow::{Context, Result, bail};

use super::{NODE, amqp, front::accepts, script};
use crate::{
    build,
    need::{Need, PYTHON, Source},
    process::{Process, free_ports},
};

/// The clients.
pub(super) const CLIENTS: &[Need] = &[
    Need {
        name: "confluent-kafka",
        why: "Confluent's serializers for Avro, JSON Schema and Protobuf",
        check: &[
            PYTHON,
            "-c",
            "import confluent_kafka.schema_registry.avro, confluent_kafka.schema_registry.json_schema, \
             confluent_kafka.schema_registry.protobuf",
        ],
        source: Source::Python(&["confluent-kafka[avro,json,protobuf,schemaregistry]==2.16.1"]),
    },
    NODE,
    Need {
        name: "@kafkajs/confluent-schema-registry",
        why: "another client of schema registries",
        check: &[
            "node",
            "-e",
            "require('./target/node/node_modules/@kafkajs/confluent-schema-registry')",
        ],
        source: Source::Npm(&["@kafkajs/confluent-schema-registry@3.9.0"]),
    },
];

/// Every script: who speaks, by what program, and the file.
const SCRIPTS: &[(&str, &str, &str)] = &[
    ("confluent-kafka", PYTHON, "xtask/suites/schemas.py"),
    ("kafkajs", "node", "xtask/suites/schemas.cjs"),
];

/// The clients against a Weft that offers the registry on a route.
pub(super) fn weft() -> Result<String> {
    let binary = build::with_tests()?.join("weft");
    let folder = amqp::emptied("schemas")?;
    let [web] = free_ports(1)?[..] else { bail!("a free port") };
    let config = folder.join("weft.yaml");
    let text = format!(
        "admin: off
ledger: {{ path: '{}/data' }}
listeners: {{ web: {{ address: '{web}' }} }}
routes: [{{ name: schemas, match: '/schemas/*', schemas: /schemas }}]
",
        folder.display()
    );
    fs::write(&config, text)?;
    let mut command = Command::new(binary);
    command.args(["up", "--config"]).arg(&config);
    let mut server = Process::start(command, &folder.join("log"))?;
    accepts(&mut server, "weft", web)?;
    let base = format!("http://{web}/schemas");
    let outcomes = SCRIPTS.iter().map(|&(who, program, file)| {
        let ran = script(program, file, &[&base]);
        ran.map(|line| format!("{who}: {line}")).with_context(|| who.to_owned())
    });
    // All are asked before one fails, so that a run tells everything.
    let outcomes: Vec<Result<String>> = outcomes.collect();
    Ok(outcomes.into_iter().collect::<Result<Vec<_>>>()?.join("; "))
}
