//! A service written for a suite, and a Weft in front of it.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{
    build,
    process::{Process, free_ports},
};

/// How long a process may take until it accepts connections.
const START: Duration = Duration::from_secs(60);

/// Both processes; they end with this.
#[derive(Debug)]
pub(super) struct Front {
    web: SocketAddr,
    service: SocketAddr,
    // Weft is the first to end.
    _weft: Process,
    _service: Process,
}

impl Front {
    /// Starts a script that is told its port, then a Weft with one route to it.
    pub(super) fn start(name: &str, program: &str, script: &str) -> Result<Self> {
        let binaries = build::with_tests()?;
        let folder = build::target().join("suites").join(name);
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        let [web, service] = free_ports(2)?[..] else { bail!("two free ports") };

        let mut command = Command::new(program);
        command.current_dir(crate::root()).arg(script).arg(service.port().to_string());
        let mut serving = Process::start(command, &folder.join("service.log"))?;
        accepts(&mut serving, script, service)?;

        let config = folder.join("weft.yaml");
        fs::write(&config, configuration(web, service))?;
        let mut command = Command::new(binaries.join("weft"));
        command.args(["up", "--config"]).arg(&config);
        let mut weft = Process::start(command, &folder.join("weft.log"))?;
        accepts(&mut weft, "weft", web)?;
        Ok(Self { web, service, _weft: weft, _service: serving })
    }

    /// Where Weft takes requests.
    pub(super) fn web(&self) -> SocketAddr {
        self.web
    }

    /// Where the service takes them without Weft.
    pub(super) fn service(&self) -> SocketAddr {
        self.service
    }
}

/// Nothing but a route: a suite judges the defaults.
fn configuration(web: SocketAddr, service: SocketAddr) -> String {
    format!(
        "admin: off\nlisteners: {{ web: {{ address: '{web}' }} }}\n\
         services: {{ it: {{ endpoints: '{service}' }} }}\nroutes: [{{ name: all, to: it }}]\n"
    )
}

/// Waits until a process that was just started accepts connections.
pub(super) fn accepts(process: &mut Process, name: &str, address: SocketAddr) -> Result<()> {
    let until = Instant::now() + START;
    while TcpStream::connect(address).is_err() {
        if let Some(status) = process.ended() {
            bail!("{name} ended with {status}; its last words:\n{}", process.last_words());
        }
        if Instant::now() > until {
            bail!("{name} accepts nothing; its last words:\n{}", process.last_words());
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
