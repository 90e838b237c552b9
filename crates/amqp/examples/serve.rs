//! An AMQP server on an embedded ledger and nothing else: to hold client libraries against, and to
//! measure. `cargo run -p weft-amqp --example serve -- FOLDER PORT`.

use std::{path::PathBuf, sync::Arc};

use weft_amqp::{ClientPeer, Options, Server};
use weft_broker::{Broker, engine::Engines};
use weft_kernel::{ByteSize, Rng, SystemClock};
use weft_ledger::Ledger;
use weft_net::{Stop, Tasks};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("name a folder")?);
    let port: u16 = arguments.next().ok_or("name a port")?.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async move {
        let clock = Arc::new(SystemClock);
        let seed = std::process::id().into();
        let (ledger, _recovered) = Ledger::open_folder(&folder, large(), clock.clone())?;
        let broker = Broker::open(Arc::new(ledger), clock, Rng::seeded(seed)).await?;
        let engines = Engines::open(broker.clone(), Vec::new()).await?;
        let server = Server::open(engines, Options::default(), "serve").await?;
        let tasks = Tasks::new(Stop::new());
        tasks.spawn_local(async move {
            let _ = broker.maintain().await;
        });
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
        loop {
            let (stream, address) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let (server, stop) = (server.clone(), tasks.stop().clone());
            let peer = ClientPeer {
                address: address.to_string(),
                loopback: address.ip().is_loopback(),
                certificate: None,
            };
            tasks.spawn_local(async move { server.serve(stream, peer, stop).await });
        }
    })
}

/// A ledger that takes the largest messages of AMQP's default.
fn large() -> weft_ledger::Options {
    weft_ledger::Options {
        record_bytes_max: ByteSize(17 << 20),
        transaction_bytes_max: ByteSize(24 << 20),
        pending_bytes_max: ByteSize(64 << 20),
        ..weft_ledger::Options::default()
    }
}
