//! `weft up`: run a node until it is told to stop.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use weft_kernel::parse_duration;

use super::ConfigPath;

use crate::{
    admin,
    component::Component as _,
    components::{List as _, Telemetry},
    config::{self, Loader, report, watch},
    node::{self, Node, termination::Start},
};

/// How often it is looked for what no request needs any more.
const TIDY: Duration = Duration::from_secs(1);
/// Time for what is under way to be done with the ledger, before a successor gets it.
const LET_GO: Duration = Duration::from_millis(500);

/// Run a node.
///
/// SIGTERM and SIGINT drain it: no new connection is taken, and what is under way may finish. SIGHUP
/// reads the configuration and the certificates anew, as does any change of their files. SIGUSR1 opens
/// the access log anew.
#[derive(Debug, Args)]
pub struct Up {
    /// Location of the configuration.
    #[command(flatten)]
    pub config: ConfigPath,
    /// Number of worker threads of the request path; one per core by default.
    #[arg(long, env = "WEFT_WORKERS", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
    /// Unix socket at which the listening sockets of a running node are taken over, and offered to
    /// the next, so that no connection is refused in between.
    #[arg(long, env = "WEFT_HANDOVER", value_name = "PATH")]
    pub handover: Option<PathBuf>,
    /// Zone of this node; endpoints in the same zone are preferred.
    #[arg(long, env = "WEFT_ZONE")]
    pub zone: Option<String>,
    /// Drain timeout: time for requests under way to finish before they are cut.
    #[arg(long, env = "WEFT_DRAIN", default_value = "30s", value_parser = span)]
    pub drain: Duration,
}

fn span(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| error.to_string())
}

/// The signals that a node hears.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    reopen: Signal,
}

impl Signals {
    /// Hears them from now on; within a runtime.
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            reopen: signal(SignalKind::user_defined1())?,
        })
    }
}

impl Up {
    /// Runs the node; 0 once it has drained, 1 if it could not start.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        // Before anything else: whoever starts a node may end it, or say that its files have changed, while it
        // starts.
        let start = node::termination::bound(self.drain)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("the control runtime could not be started")?;
        let signals = {
            let _inside = runtime.enter();
            Signals::new()?
        };
        weft_identity::install_provider();
        let watcher = watch::Watcher::start(self.config.path.clone(), watch::Options::default())
            .context("the configuration cannot be watched")?;
        let mut loader = Loader::default();
        let variables = |name: &str| std::env::var(name).ok();
        let loaded = match loader.load(&self.config.path, &variables) {
            Ok(loaded) => loaded,
            Err(refused) => {
                super::print_error(&report::text(&refused.problems, &refused.sources, false))?;
                return Ok(ExitCode::FAILURE);
            }
        };
        if !loaded.warnings.is_empty() {
            super::print_error(&report::text(&loaded.warnings, &loaded.sources, false))?;
        }
        if let Some(telemetry) = Telemetry::plan(&loaded.plan) {
            weft_telemetry::log::init(&telemetry.log)?;
        }
        limit_of_descriptors(&loaded.plan);
        let options = node::Options {
            config: self.config.path,
            workers: self.workers.map(usize::from),
            handover: self.handover,
            zone: self.zone,
            drain: self.drain,
        };
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async {
            tokio::select! {
                ended = run(options, (start, signals), watcher, loader, loaded) => ended,
                never = weft_net::worker::watch_rest() => match never {},
            }
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Takes as many file descriptors as there may be, and says what holds if they are fewer than the
/// listeners may want.
fn limit_of_descriptors(plan: &config::Plan) {
    let share = weft_net::descriptors::claim();
    let wanted = plan.proxy.listeners.iter().map(|listener| listener.http.connections_max);
    let wanted = wanted.fold(0, usize::saturating_add);
    if wanted > share.clients {
        tracing::warn!(
            descriptors = share.all,
            clients_max = share.clients,
            connections_max = wanted,
            "the process may open too few files for its listeners: clients beyond `clients_max` are \
             closed at once; raise `ulimit -n` (LimitNOFILE), or lower `limits.connections_max`"
        );
    }
}

/// The control side of a node: signals, changes, admin, and the end.
async fn run(
    options: node::Options,
    (start, mut signals): (Start, Signals),
    watcher: watch::Watcher,
    loader: Loader,
    loaded: config::Loaded,
) -> anyhow::Result<()> {
    let admin = loaded.plan.admin.as_ref();
    let tokens = admin.map_or_else(Default::default, |admin| admin.tokens.clone());
    let (node, sockets) = Node::start(options, watcher, loader, loaded).await?;
    let stop = node.stop.clone();
    node.components.run();
    let mut background = tokio::task::JoinSet::new();
    // The admin API tells of a drain until its end, but not once a successor answers in its place.
    let admin_stop = stop.child();
    let mut admin_socket = None;
    if let Some(listener) = sockets.admin {
        admin_socket = Some(listener.descriptor()?);
        let (node, stop) = (node.clone(), admin_stop.clone());
        background.spawn(async move {
            admin::serve(node, listener, tokens, stop.closed()).await;
        });
    }
    if let Some(former) = sockets.former {
        former.ready().await?;
        tracing::info!("took over the listening sockets of the former process");
    }
    // Before anybody is told: who is told may end it at once.
    start.is_over();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        workers = node.workers.count(),
        "weft is up"
    );
    let mut is_replaced = false;
    let mut offer = std::pin::pin!(node.offer(admin_socket.as_ref()));
    let mut tidy = tokio::time::interval(TIDY);
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
            taken = &mut offer => {
                taken?;
                tracing::info!("a successor has taken over the listening sockets");
                admin_stop.close();
                is_replaced = true;
                break;
            }
            // A refusal is told by the node itself.
            _ = signals.hangup.recv() => { let _ = node.reload().await; }
            () = node.watcher.changed() => { let _ = node.reload().await; }
            () = node.commands.changed() => { let _ = node.reload().await; }
            _ = signals.reopen.recv() => node.reopen(),
            _ = tidy.tick() => node.tidy(),
        }
    }
    tracing::info!(within = ?node.options.drain, "draining");
    let mut drain = std::pin::pin!(node.drain());
    let mut drained = None;
    if is_replaced {
        // The successor waits for what is kept; what uses it here is nearly done.
        drained = tokio::time::timeout(LET_GO, &mut drain).await.ok();
        node.components.let_go();
    }
    let cut = match drained {
        Some(cut) => cut,
        None => drain.as_mut().await,
    };
    node.components.end().await;
    stop.close();
    if cut > 0 {
        tracing::warn!(cut, "connections were cut at the end of the drain");
    }
    while background.join_next().await.is_some() {}
    node.components.close();
    tracing::info!("weft is down");
    Ok(())
}
