//! A front-end on a broker on a ledger on a disk in memory, asked through the neutral request.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use weft_api::{Content, Request, Response};
use weft_broker::{
    Broker,
    conformance::remote::{Remote, Switch},
    engine::{Capabilities, Capability, Engine, Engines, Support},
};
use weft_broker_http::{Handle, Hooks, Surface};
use weft_kernel::{ByteSize, Rng, SystemClock};
use weft_ledger::{Ledger, Options, disk::SimulatedDisk};
use weft_net::{Stop, Tasks};
use weft_wire::{Fields, Method};

pub(crate) struct Node {
    pub(crate) handle: Handle,
    pub(crate) broker: Broker,
    pub(crate) stop: Stop,
    ledger: Ledger,
    /// The node of the second engine, and whether it can be reached.
    far: Option<(Box<Node>, Switch)>,
}

/// A whole answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) fields: Fields,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) async fn of(response: Response) -> Self {
        let (status, fields) = (response.status, response.fields.clone());
        let body = match response.content {
            Content::Socket(_) => Bytes::new(),
            _ => response.collect().await.unwrap(),
        };
        Self { status, fields, body }
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    /// The JSON of an answer of a status.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{:?}", self.body);
        if self.body.is_empty() { Value::Null } else { self.json() }
    }

    /// The reason of a problem.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, reason: &str) -> String {
        let problem = self.expect(status);
        assert_eq!(problem["type"], format!("urn:weft:problem:{reason}"), "{problem}");
        problem["detail"].as_str().unwrap_or_default().to_owned()
    }
}

impl Node {
    pub(crate) async fn new() -> Self {
        Self::with(Vec::new(), None).await
    }

    /// A node with a second engine, `far`, that has everything but what is named.
    pub(crate) async fn with_far(missing: &[Capability]) -> Self {
        let of = |one| if missing.contains(&one) { Support::Missing } else { Support::Native };
        let behind = Box::pin(Self::new()).await;
        let engine: Arc<dyn Engine> = Arc::new(behind.broker.clone());
        let (remote, server, switch) = Remote::new("far", Capabilities::new(of), engine);
        let broker = behind.broker.clone();
        Tasks::new(behind.stop.clone()).spawn(async move {
            tokio::select! {
                () = server.serve() => {}
                ended = broker.maintain() => panic!("maintenance ended: {ended:?}"),
            }
        });
        Self::with(vec![Arc::new(remote)], Some((Box::new(behind), switch))).await
    }

    /// Whether the second engine can be reached.
    pub(crate) fn far(&self) -> &Switch {
        &self.far.as_ref().expect("it has a second engine").1
    }

    async fn with(others: Vec<Arc<dyn Engine>>, far: Option<(Box<Self>, Switch)>) -> Self {
        let options = Options {
            wal_file_bytes: ByteSize(4 << 20),
            transaction_bytes_max: ByteSize(2 << 20),
            recent_bytes: ByteSize(1 << 20),
            ..Options::default()
        };
        let clock = Arc::new(SystemClock);
        let (ledger, _) =
            Ledger::open(Arc::new(SimulatedDisk::new()), options, Arc::clone(&clock) as _).unwrap();
        ledger.start().unwrap();
        let broker = Broker::open(Arc::new(ledger.clone()), clock, Rng::seeded(1)).await.unwrap();
        let stop = Stop::new();
        let engines = Engines::open(broker.clone(), others).await.unwrap();
        let handle = Handle::open(engines, 1, Hooks::default(), stop.clone()).await.unwrap();
        Self { handle, broker, stop, ledger, far }
    }

    /// Asks what a request asks, while the broker's maintenance runs.
    pub(crate) async fn send(&self, request: Request) -> Response {
        tokio::select! {
            response = self.handle.answer(Surface::Admin, request) => response,
            ended = self.broker.maintain() => panic!("maintenance ended: {ended:?}"),
        }
    }

    pub(crate) async fn ask(&self, method: &str, target: &str, body: impl Into<Bytes>) -> Answer {
        let request = Request::new(Method::of(method), target).with_body(body);
        Answer::of(self.send(request).await).await
    }

    pub(crate) async fn get(&self, target: &str) -> Answer {
        self.ask("GET", target, "").await
    }

    pub(crate) async fn put(&self, target: &str, body: &str) -> Answer {
        self.ask("PUT", target, body.to_owned()).await
    }

    pub(crate) async fn post(&self, target: &str, body: &str) -> Answer {
        self.ask("POST", target, body.to_owned()).await
    }

    pub(crate) async fn delete(&self, target: &str) -> Answer {
        self.ask("DELETE", target, "").await
    }

    /// Publishes events of a type with these numbers as data.
    pub(crate) async fn publish(&self, path: &str, numbers: std::ops::Range<u64>) -> Value {
        let events: Vec<Value> = numbers
            .map(|number| {
                serde_json::json!({
                    "specversion": "1.0", "id": number.to_string(), "source": "/test",
                    "type": "number", "data": number,
                })
            })
            .collect();
        let request = Request::new(Method::Post, &format!("{path}/messages"))
            .with_field("content-type", "application/cloudevents-batch+json")
            .with_body(serde_json::to_vec(&events).unwrap());
        Answer::of(self.send(request).await).await.expect(200)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // A poisoned ledger cannot be closed well; the test has said what matters.
        let _ = self.ledger.close();
    }
}

/// The data of the deliveries or messages of an answer.
pub(crate) fn data(list: &Value) -> Vec<u64> {
    list.as_array().unwrap().iter().map(|one| one["event"]["data"].as_u64().unwrap()).collect()
}
