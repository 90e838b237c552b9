//! Sends a small trace to a collector and prints what was counted: `export_spans ENDPOINT grpc|http`.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use weft::components::Collector;
use weft_kernel::Rng;
use weft_net::client::System;
use weft_telemetry::{
    log,
    metrics::{Registry, Shards},
    otlp::{Exporter, Options, Protocol, wall_nanos},
    span::{self, Kind, SpanRecord, Status},
    trace::{Context, Sampler},
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    log::init(&log::Options::default())?;
    let mut arguments = std::env::args().skip(1);
    let endpoint = arguments.next().ok_or("name the endpoint, such as http://127.0.0.1:4317")?;
    let protocol = match arguments.next().as_deref() {
        Some("http") => Protocol::Http,
        _ => Protocol::Grpc,
    };
    let registry = Registry::new(Shards::new(1), env!("CARGO_PKG_VERSION"));
    let (sender, queue) = span::queue(span::QUEUE_DEFAULT, registry.spans());
    let options = Options { endpoint, protocol, ..Options::default() };
    let collector = Collector::new(&options, Arc::new(System))?;
    let exporter = Exporter::new(options, queue, Arc::new(collector))?;

    let mut rng = Rng::from_entropy();
    let server = Sampler::ratio(1.0).start(&Context::default(), &mut rng);
    let client = server.child(&mut rng);
    let end = SystemTime::now();
    let span = |context: &Context, parent_id, kind, name: &'static str| SpanRecord {
        trace_id: context.trace_id,
        span_id: context.span_id,
        parent_id,
        sampled: true,
        kind,
        name: name.into(),
        start_nanos: wall_nanos(end - Duration::from_millis(5)),
        end_nanos: wall_nanos(end),
        attributes: vec![
            ("http.request.method", "GET".into()),
            ("http.response.status_code", 504.into()),
            ("url.path", "/orders/7".to_owned().into()),
        ],
        status: Status::Error("try_timeout".into()),
        ..SpanRecord::default()
    };
    sender.send(span(&client, server.span_id, Kind::Client, "GET"));
    sender.send(span(&server, 0, Kind::Server, "GET orders"));
    drop(sender);

    exporter.run(std::future::pending()).await;
    std::io::Write::write_all(&mut std::io::stdout(), registry.encode().as_bytes())?;
    Ok(())
}
