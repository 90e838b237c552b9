//! The OpenAPI document of a node, and its answers, judged by validators that other people wrote.

use std::{fs, process::Command};

use anyhow::{Result, bail};

use super::{amqp, front::accepts, script};
use crate::{
    build,
    need::{Need, PYTHON, Source},
    process::{Process, free_ports},
};

/// What the validation needs.
pub(super) const NEEDS: &[Need] = &[Need {
    name: "openapi-spec-validator",
    why: "the OpenAPI document, and answers by its schemas",
    check: &[PYTHON, "-c", "import jsonschema, openapi_spec_validator"],
    source: Source::Python(&["openapi-spec-validator==0.9.0"]),
}];

/// A node that has something of everything, and its document.
pub(super) fn weft() -> Result<String> {
    let binary = build::with_tests()?.join("weft");
    let folder = amqp::emptied("openapi")?;
    let [web, admin] = free_ports(2)?[..] else { bail!("two free ports") };
    let config = folder.join("weft.yaml");
    let data = folder.join("data").display().to_string();
    let text = format!(
        "admin: {{ listen: '{admin}' }}
ledger: {{ path: '{data}' }}
listeners: {{ web: {{ address: '{web}' }} }}
services: {{ orders: {{ endpoints: '127.0.0.1:9', breaker: on, bulkhead: 5, concurrency: on }} }}
routes: [{{ name: web, to: orders }}]
"
    );
    fs::write(&config, text)?;
    let mut command = Command::new(binary);
    command.args(["up", "--config"]).arg(&config);
    let mut server = Process::start(command, &folder.join("log"))?;
    accepts(&mut server, "weft", web)?;
    script(PYTHON, "xtask/suites/openapi.py", &[&admin.to_string()])
}
