//! What the tests share: a clock that follows tokio's paused time, and services to pick from.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use weft_discovery::{
    Endpoint, EndpointOptions, Pick, Service, ServiceOptions, Services,
    health::{Checkup, Probe, ProbeFuture},
    resolve::{Answer, Failure, Lookup, LookupFuture, Query, Record},
};
use weft_kernel::{Clock, Name, Reason, Rng, Tick};

/// An hour after the origin, as in a process.
pub(crate) const START: Tick = Tick::from_nanos(3_600_000_000_000);

/// tokio's time, which stands still in tests and jumps to the next timer.
pub(crate) struct TokioClock(tokio::time::Instant);

impl TokioClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(tokio::time::Instant::now()))
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Tick {
        START.plus(self.0.elapsed())
    }

    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.now().since(Tick::ZERO)
    }
}

/// A name server of the test's making.
#[derive(Default)]
pub(crate) struct Names {
    answers: Mutex<HashMap<String, Result<Answer, Failure>>>,
    asked: Mutex<Vec<String>>,
}

impl Names {
    pub(crate) fn set(&self, name: &str, ttl: u64, addresses: &[&str]) {
        let records = addresses
            .iter()
            .map(|address| Record {
                address: address.parse().unwrap(),
                hostname: name.split(':').next().unwrap().into(),
                priority: 0,
                weight: 1,
            })
            .collect();
        let answer = Answer { records, ttl: Duration::from_secs(ttl) };
        self.answers.lock().unwrap().insert(name.into(), Ok(answer));
    }

    pub(crate) fn fail(&self, name: &str, failure: Failure) {
        self.answers.lock().unwrap().insert(name.into(), Err(failure));
    }

    pub(crate) fn asked(&self, name: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| *asked == name).count()
    }
}

impl Lookup for Names {
    fn lookup<'a>(&'a self, query: &'a Query) -> LookupFuture<'a> {
        let name = query.to_string();
        self.asked.lock().unwrap().push(name.clone());
        let answer = self.answers.lock().unwrap().get(&name).cloned();
        let answer = answer.unwrap_or_else(|| Err(Failure::Unanswered("no server".into())));
        Box::pin(async move { answer })
    }
}

/// Endpoints that answer checks as the test says; well unless told otherwise.
#[derive(Default)]
pub(crate) struct Wellness {
    sick: Mutex<HashMap<String, String>>,
    checked: Mutex<HashMap<String, usize>>,
    at_once: Mutex<(usize, usize)>,
}

impl Wellness {
    pub(crate) fn sicken(&self, address: &str) {
        self.sick.lock().unwrap().insert(address.into(), "status 500".into());
    }

    pub(crate) fn heal(&self, address: &str) {
        self.sick.lock().unwrap().remove(address);
    }

    pub(crate) fn checked(&self, address: &str) -> usize {
        self.checked.lock().unwrap().get(address).copied().unwrap_or(0)
    }

    pub(crate) fn most_at_once(&self) -> usize {
        self.at_once.lock().unwrap().1
    }
}

impl Probe for Wellness {
    fn probe(&self, checkup: Checkup) -> ProbeFuture<'_> {
        Box::pin(async move {
            {
                let mut at_once = self.at_once.lock().unwrap();
                at_once.0 += 1;
                at_once.1 = at_once.1.max(at_once.0);
            }
            let address = checkup.address.to_string();
            *self.checked.lock().unwrap().entry(address.clone()).or_default() += 1;
            tokio::time::sleep(Duration::from_millis(3)).await;
            self.at_once.lock().unwrap().0 -= 1;
            match self.sick.lock().unwrap().get(&address) {
                Some(detail) => Err(detail.clone()),
                None => Ok("status 200".into()),
            }
        })
    }
}

/// Services with a name server and wellness of the test's making.
pub(crate) struct Fleet {
    pub(crate) services: Arc<Services>,
    pub(crate) names: Arc<Names>,
    pub(crate) wellness: Arc<Wellness>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Fleet {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let names = Arc::new(Names::default());
        let wellness = Arc::new(Wellness::default());
        let services = Arc::new(Services::new(
            Arc::clone(&clock),
            Arc::clone(&names) as Arc<dyn Lookup>,
            Arc::clone(&wellness) as Arc<dyn Probe>,
            Rng::seeded(1),
        ));
        Self { services, names, wellness, clock }
    }

    /// In tokio's time, which must be paused.
    pub(crate) fn paused() -> Self {
        Self::new(TokioClock::new())
    }

    /// Runs the services while `test` runs.
    pub(crate) async fn during(&self, test: impl Future<Output = ()>) {
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let run = self.services.run(async {
            let _ = stopped.await;
        });
        let test = async {
            test.await;
            let _ = stop.send(());
        };
        tokio::join!(run, test);
    }
}

/// Waits until something is so; time is paused, so this takes none.
pub(crate) async fn until(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..100_000 {
        if so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never so: {what}");
}

/// Options of a service with these endpoints.
pub(crate) fn options(name: &str, endpoints: &[(&str, u32)]) -> ServiceOptions {
    let endpoints = endpoints
        .iter()
        .map(|(source, weight)| EndpointOptions {
            weight: *weight,
            ..EndpointOptions::new(source.parse().unwrap())
        })
        .collect();
    ServiceOptions { endpoints, ..ServiceOptions::new(Name::new(name).unwrap()) }
}

/// A service of its own.
pub(crate) fn service(options: ServiceOptions) -> Arc<Service> {
    let fleet = Fleet::new(Arc::new(weft_kernel::ManualClock::default()));
    let name = options.name.clone();
    fleet.services.apply(vec![options], START);
    fleet.services.get(name.as_str()).unwrap()
}

pub(crate) fn pick(
    service: &Service,
    hash: Option<u64>,
    now: Tick,
    rng: &mut Rng,
) -> Result<Arc<Endpoint>, Reason> {
    service.pick(&mut Pick { hash, tried: &[], zone: None, insist: false, now, rng })
}

/// `10.0.0.1:80`, …, each of weight 1.
pub(crate) fn addresses(count: usize) -> Vec<String> {
    (1..=count).map(|n| format!("10.0.{}.{}:80", n / 250, n % 250)).collect()
}
