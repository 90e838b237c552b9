//! The processes of the demo: the shop's instances and Weft.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};

use super::Stop;
use crate::{
    build,
    http::{Answer, Client},
    process::{Process, free_ports},
};

/// Who runs: service and name.
const INSTANCES: &[(&str, &str)] = &[
    ("users", "1"),
    ("users", "2"),
    ("orders", "1"),
    ("inventory", "1"),
    ("inventory", "2"),
    ("inventory", "3"),
    ("inventory", "canary"),
    ("payments", "1"),
    ("payments", "2"),
    ("shipping", "1"),
    ("notifications", "1"),
    ("invoices", "1"),
    ("accounts", "1"),
];
const START: Duration = Duration::from_secs(10);

/// One instance of the shop.
#[derive(Debug)]
struct Instance {
    service: &'static str,
    name: &'static str,
    address: SocketAddr,
    /// None while it is killed.
    process: Option<Process>,
}

impl Instance {
    fn full_name(&self) -> String {
        format!("{}-{}", self.service, self.name)
    }
}

/// Everything that runs.
#[derive(Debug)]
pub(super) struct Fleet {
    binaries: PathBuf,
    folder: PathBuf,
    web: SocketAddr,
    amqp: SocketAddr,
    admin: SocketAddr,
    stop: Stop,
    // Weft is the first to end, so that it never reports a fleet that is going away.
    weft: Option<Process>,
    instances: Vec<Instance>,
}

impl Fleet {
    /// Starts the instances, then Weft, of the binaries in a folder, and waits until a request passes.
    pub(super) fn start(binaries: PathBuf, stop: Stop) -> Result<Self> {
        let folder = build::target().join("tour");
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        // Each tour begins without the messages of the one before.
        match fs::remove_dir_all(folder.join("data")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let mut ports = free_ports(INSTANCES.len() + 3)?.into_iter();
        let mut next = || ports.next().context("a free port");
        let mut fleet = Self {
            binaries,
            folder,
            web: next()?,
            amqp: next()?,
            admin: next()?,
            stop,
            weft: None,
            instances: Vec::new(),
        };
        for (service, name) in INSTANCES {
            fleet.instances.push(Instance { service, name, address: next()?, process: None });
        }
        for at in 0..fleet.instances.len() {
            fleet.start_instance(at)?;
        }
        println!("started {} instances of the shop", fleet.instances.len());
        fleet.write_config(&fleet.shipped_config()?)?;
        fleet.start_weft()?;
        println!("Weft listens on http://{} and leads requests to them", fleet.web);
        Ok(fleet)
    }

    /// Starts, or starts again, one instance on its address.
    fn start_instance(&mut self, at: usize) -> Result<()> {
        let instance = &mut self.instances[at];
        let name = instance.full_name();
        let mut command = Command::new(self.binaries.join("weft-shop"));
        command
            .args([instance.service, "--name", instance.name, "--verbose"])
            .args(["--listen", &instance.address.to_string()])
            .args(["--weft", &format!("http://{}", self.web)])
            .args(["--amqp", &format!("amqp://guest:guest@{}/%2f", self.amqp)]);
        let mut process = Process::start(command, &self.folder.join(format!("{name}.log")))?;
        let address = instance.address;
        answers(&self.stop, &mut process, &name, || TcpStream::connect(address).is_ok())?;
        instance.process = Some(process);
        Ok(())
    }

    fn start_weft(&mut self) -> Result<()> {
        let mut command = self.weft_command(&["up", "--config"]);
        command.arg(self.config_file());
        let mut process = Process::start(command, &self.folder.join("weft.log"))?;
        let web = self.web;
        answers(&self.stop, &mut process, "weft", || {
            Client::new(web).get("/stock/tea").is_ok_and(|answer| answer.status == 200)
        })?;
        self.weft = Some(process);
        Ok(())
    }

    /// A command of Weft's own, with the variables of the configuration.
    fn weft_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.binaries.join("weft"));
        command.args(arguments);
        command.env("WEB_PORT", self.web.port().to_string());
        command.env("AMQP_PORT", self.amqp.port().to_string());
        command.env("ADMIN_PORT", self.admin.port().to_string());
        command.env("DATA", self.folder.join("data"));
        command.env("PARTNER_KEY", PARTNER_KEY);
        command.env("SESSION_KEY", SESSION_KEY);
        for instance in &self.instances {
            let name = instance.full_name().to_uppercase().replace('-', "_");
            command.env(format!("{name}_PORT"), instance.address.port().to_string());
        }
        command
    }

    /// Runs a command of Weft's and gives whether it succeeded and what it printed.
    pub(super) fn weft(&self, arguments: &[&str]) -> Result<(bool, String)> {
        let output = self.weft_command(arguments).output().context("run weft")?;
        let text = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
    }

    /// Makes gRPC calls through Weft; what came back, one message a line.
    pub(super) fn grpc(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new(self.binaries.join("weft-shop"))
            .arg("call")
            .args(arguments)
            .args(["--to", &format!("http://{}", self.web)])
            .output()
            .context("run weft-shop call")?;
        ensure!(
            output.status.success(),
            "{}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    pub(super) fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Where Weft takes requests.
    pub(super) fn web(&self) -> SocketAddr {
        self.web
    }

    /// Where Weft tells about itself.
    pub(super) fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// A caller of Weft's with a connection of its own.
    pub(super) fn client(&self) -> Client {
        Client::new(self.web)
    }

    fn find(&self, name: &str) -> Result<usize> {
        let found = self.instances.iter().position(|instance| instance.full_name() == name);
        found.with_context(|| format!("there is no instance {name}"))
    }

    /// Turns the knobs of one instance, past Weft.
    pub(super) fn turn(&self, name: &str, knobs: &str) -> Result<Answer> {
        let to = self.instances[self.find(name)?].address;
        let answer = Client::new(to).send("PUT", "/knobs", knobs)?;
        ensure!(answer.status == 200, "the knobs of {name}: {}", answer.body);
        Ok(answer)
    }

    /// How many requests an instance was asked so far, by its own count.
    pub(super) fn asked(&self, name: &str) -> Result<u64> {
        let to = self.instances[self.find(name)?].address;
        let report = Client::new(to).get("/knobs")?.body;
        let (_, count) = report.split_once("\"requests\":").context("no count of requests")?;
        let digits: String = count.chars().take_while(char::is_ascii_digit).collect();
        Ok(digits.parse()?)
    }

    /// Kills Weft as a crash would, and starts it again where it was.
    pub(super) fn crash_weft(&mut self) -> Result<()> {
        self.weft.take().context("Weft does not run")?.kill();
        self.start_weft()
    }

    /// Kills one instance as a crash would.
    pub(super) fn kill(&mut self, name: &str) -> Result<()> {
        let at = self.find(name)?;
        let mut process = self.instances[at].process.take().context("it does not run")?;
        process.kill();
        Ok(())
    }

    /// Starts it again where it was.
    pub(super) fn revive(&mut self, name: &str) -> Result<()> {
        let at = self.find(name)?;
        self.start_instance(at)
    }

    /// Starts what was killed, turns all knobs to nothing and puts the configuration back.
    pub(super) fn heal(&mut self) -> Result<()> {
        for at in 0..self.instances.len() {
            if self.instances[at].process.is_none() {
                self.start_instance(at)?;
            }
            let name = self.instances[at].full_name();
            self.turn(&name, CALM)?;
        }
        self.write_config(&self.shipped_config()?)
    }

    /// The configuration as it is committed.
    pub(super) fn shipped_config(&self) -> Result<String> {
        Ok(fs::read_to_string(crate::root().join("examples/shop/weft.yaml"))?)
    }

    /// The file that the running Weft reads.
    pub(super) fn config_file(&self) -> PathBuf {
        self.folder.join("weft.yaml")
    }

    /// Changes it at one stroke, as editors and deployment tools do.
    pub(super) fn write_config(&self, text: &str) -> Result<()> {
        let fresh = self.folder.join("weft.yaml.new");
        fs::write(&fresh, text)?;
        Ok(fs::rename(fresh, self.config_file())?)
    }

    /// What one can open next.
    pub(super) fn where_to_look(&self) -> String {
        let (web, admin) = (self.web, self.admin);
        let mut knobs = String::new();
        for name in ["inventory-1", "payments-1"] {
            if let Ok(at) = self.find(name) {
                let address = self.instances[at].address;
                knobs.push_str(&format!("\n  {name:<12} http://{address}/knobs"));
            }
        }
        format!(
            "the fleet stays up; look at\n  metrics      http://{admin}/metrics\n  \
             orders       http://{web}/orders\n  stock        http://{web}/stock\n  \
             config       {}{knobs}\n  logs         {}",
            self.config_file().display(),
            self.folder.display(),
        )
    }

    /// Ends Weft, then the instances.
    pub(super) fn end(&mut self) {
        self.weft = None;
        self.instances.clear();
    }
}

/// What the partner shows.
pub(super) const PARTNER_KEY: &str = "partner-zbW3kq7RQmD0x5fTnVhC2";

/// What sessions of browsers are sealed with.
const SESSION_KEY: &str = "session-8f2Kq0vXc5LmZt7Rj1NwYe4Hb";

/// All knobs at nothing.
pub(super) const CALM: &str = r#"{"latency_ms":0,"jitter_ms":0,"fail_ratio":0,"hang":false}"#;

/// Waits until a process that was just started answers.
fn answers(stop: &Stop, process: &mut Process, name: &str, ask: impl Fn() -> bool) -> Result<()> {
    let mut ended = None;
    stop.wait_until(START, || {
        ended = process.ended();
        ended.is_some() || ask()
    })
    .with_context(|| {
        format!("{name} does not answer; its last words:\n{}", process.last_words())
    })?;
    if let Some(status) = ended {
        bail!("{name} ended with {status}; its last words:\n{}", process.last_words());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_names_the_port_of_every_instance() {
        let config = include_str!("../../../examples/shop/weft.yaml");
        for (service, name) in INSTANCES {
            let variable = format!("${{{service}_{name}_PORT}}").to_uppercase();
            assert!(config.contains(&variable), "{variable}");
        }
        let variables = config.matches("_PORT}").count();
        assert_eq!(variables, INSTANCES.len() + 3, "a port is named that nobody sets");
    }
}
