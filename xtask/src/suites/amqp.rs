//! Clients of AMQP 0-9-1 that other people wrote, an application on them, and a server that is killed.
//!
//! The scripts know nothing of what they judge but an address. They were written against RabbitMQ, whose
//! applications must find here what they find there, and are held to it by a suite of its own.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::{NODE, front::accepts, script};
use crate::{
    build,
    need::{Need, PYTHON, Source},
    process::{Process, free_ports},
    shell,
};

const PYTHON_CLIENTS: Need = Need {
    name: "pika and aio-pika",
    why: "AMQP as Python speaks it",
    check: &[PYTHON, "-c", "import pika, aio_pika"],
    source: Source::Python(&["pika==1.4.4", "aio-pika==10.2.1"]),
};

const CELERY: Need = Need {
    name: "Celery",
    why: "an application on AMQP",
    check: &[PYTHON, "-c", "import celery"],
    source: Source::Python(&["celery==5.7.0"]),
};

const AMQPLIB: Need = Need {
    name: "amqplib",
    why: "AMQP as Node.js speaks it",
    check: &["node", "-e", "require('./target/node/node_modules/amqplib')"],
    source: Source::Npm(&["amqplib@2.3.1"]),
};

const TOOLS: Need = Need {
    name: "amqp-tools",
    why: "AMQP as rabbitmq-c speaks it",
    check: &["sh", "-c", "command -v amqp-consume"],
    source: Source::Apt(&["amqp-tools"]),
};

const RABBITMQ: Need = Need {
    name: "RabbitMQ",
    why: "the broker whose clients they are",
    check: &["test", "-x", SERVER],
    source: Source::Apt(&["rabbitmq-server"]),
};

const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

/// What the clients need.
pub(super) const CLIENTS: &[Need] = &[PYTHON_CLIENTS, CELERY, NODE, AMQPLIB, TOOLS];

/// The same, and the broker by which they are judged.
pub(super) const NEEDS: &[Need] = &[PYTHON_CLIENTS, CELERY, NODE, AMQPLIB, TOOLS, RABBITMQ];

/// Every script: who speaks, by what program, and the file.
const SCRIPTS: &[(&str, &str, &str)] = &[
    ("pika", PYTHON, "xtask/suites/amqp_pika.py"),
    ("frames", PYTHON, "xtask/suites/amqp_raw.py"),
    ("aio-pika", PYTHON, "xtask/suites/amqp_aio_pika.py"),
    ("amqplib", "node", "xtask/suites/amqp_lib.cjs"),
    ("amqp-tools", PYTHON, "xtask/suites/amqp_tools.py"),
    ("Celery", PYTHON, "xtask/suites/amqp_celery.py"),
];

/// All scripts against one server; all are asked before one fails, so that a run tells everything.
fn all(url: &str) -> Result<Vec<String>> {
    let outcomes: Vec<Result<String>> = SCRIPTS
        .iter()
        .map(|&(who, program, file)| {
            let ran = script_at(program, file, url);
            ran.map(|line| format!("{who}: {line}")).with_context(|| who.to_owned())
        })
        .collect();
    outcomes.into_iter().collect()
}

fn script_at(program: &str, file: &str, url: &str) -> Result<String> {
    super::passed(shell::command(program, [file]).env("AMQP_URL", url), file)
}

/// The scripts and the harness that kills, against RabbitMQ.
pub(super) fn rabbitmq() -> Result<String> {
    let broker = RabbitMq::start()?;
    let mut lines = all(&broker.url)?;
    drop(broker);
    lines.push(script(PYTHON, "xtask/suites/kill.py", &["--rabbitmq", "--rounds", "4"])?);
    Ok(lines.join("; "))
}

/// The scripts against Weft, and Weft killed again and again.
pub(super) fn weft() -> Result<String> {
    let binary = build::with_tests()?.join("weft");
    let folder = emptied("amqp")?;
    let [address, killed] = free_ports(2)?[..] else { bail!("two free ports") };
    let mut server =
        Process::start(weft_at(&binary, address, &folder, "clients")?, &folder.join("log"))?;
    accepts(&mut server, "weft", address)?;
    let mut lines = all(&url(address))?;
    server.end();

    let command = weft_at(&binary, killed, &folder, "killed")?;
    let url = url(killed);
    let mut arguments = vec!["--rounds", "10", "--url", &url, "--"];
    let program = command.get_program().to_string_lossy().into_owned();
    let rest: Vec<String> =
        command.get_args().map(|argument| argument.to_string_lossy().into_owned()).collect();
    arguments.push(&program);
    arguments.extend(rest.iter().map(String::as_str));
    lines.push(script(PYTHON, "xtask/suites/kill.py", &arguments)?);
    Ok(lines.join("; "))
}

/// A Weft that speaks AMQP and nothing else, with its data in a folder of that name.
fn weft_at(binary: &Path, address: SocketAddr, folder: &Path, name: &str) -> Result<Command> {
    let config = folder.join(format!("{name}.yaml"));
    let data = folder.join(name);
    let text = format!(
        "admin: off\nledger: {{ path: '{}' }}\n\
         listeners: {{ amqp: {{ address: '{address}', protocol: amqp }} }}\n",
        data.display()
    );
    fs::write(&config, text)?;
    let mut command = Command::new(binary);
    command.args(["up", "--config"]).arg(config);
    Ok(command)
}

fn url(address: SocketAddr) -> String {
    format!("amqp://guest:guest@{address}/%2F")
}

/// A folder for a suite, with nothing in it.
pub(super) fn emptied(name: &str) -> Result<PathBuf> {
    let folder = build::target().join("suites").join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("empty {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    Ok(folder)
}

/// A RabbitMQ that has nothing of the machine's own: not its ports, its names, its folders or its plugins.
struct RabbitMq {
    url: String,
    // It is the first to end.
    _server: Process,
    _names: Process,
}

impl RabbitMq {
    fn start() -> Result<Self> {
        let folder = emptied("rabbitmq")?;
        let [address, names, nodes] = free_ports(3)?[..] else { bail!("three free ports") };
        fs::write(folder.join("rabbitmq.conf"), format!("listeners.tcp.1 = {address}\n"))?;
        fs::write(folder.join("plugins"), "[].\n")?;

        let mut command = Command::new("epmd");
        command.args(["-address", "127.0.0.1", "-port", &names.port().to_string()]);
        let naming = Process::start(command, &folder.join("epmd.log"))?;

        let mut command = Command::new(SERVER);
        command
            .env("HOME", &folder)
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_EPMD_PORT", names.port().to_string())
            .env("RABBITMQ_NODENAME", format!("suite{}@localhost", address.port()))
            .env("RABBITMQ_DIST_PORT", nodes.port().to_string())
            .env("RABBITMQ_MNESIA_BASE", folder.join("data"))
            .env("RABBITMQ_LOG_BASE", folder.join("logs"))
            .env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", folder.join("plugins"))
            .env("RABBITMQ_PID_FILE", folder.join("pid"))
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            // Without a shell that stays in between, and outlives whom it started.
            .env("RUNNING_UNDER_SYSTEMD", "1")
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-kernel inet_dist_use_interface {127,0,0,1}",
            );
        let mut server = Process::start(command, &folder.join("server.log"))?;
        accepts(&mut server, "RabbitMQ", address)?;
        Ok(Self { url: url(address), _server: server, _names: naming })
    }
}
