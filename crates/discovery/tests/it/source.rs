//! Sources: one that the test scripts, and a file.

use std::{
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use weft_discovery::{
    EndpointOptions, Feed, Instance, Location, Service, ServiceOptions, Source,
    source::{ENDPOINTS_MAX, Running, State},
};
use weft_kernel::{Name, Reason, Rng};

use crate::fleet::{Fleet, START, pick, until};

/// A source whose feed the test holds.
#[derive(Default)]
struct Script {
    feed: Mutex<Option<Feed>>,
    opened: AtomicUsize,
    running: AtomicBool,
}

struct Scripted(Arc<Script>);

/// Notes that the work of the source was dropped.
struct Ends(Arc<Script>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.running.store(false, Relaxed);
    }
}

impl Source for Scripted {
    fn start(self: Box<Self>, feed: Feed) -> Option<Running> {
        self.0.opened.fetch_add(1, Relaxed);
        *self.0.feed.lock().unwrap() = Some(feed);
        let ends = Ends(self.0);
        Some(Box::pin(async move {
            ends.0.running.store(true, Relaxed);
            std::future::pending::<()>().await;
        }))
    }
}

impl Script {
    fn fleet() -> (Fleet, Arc<Self>) {
        let fleet = Fleet::paused();
        let script = Arc::new(Self::default());
        let opens = Arc::clone(&script);
        fleet.services.add_kind("script", Arc::new(move |_| Box::new(Scripted(opens.clone()))));
        (fleet, script)
    }

    fn feed(&self) -> Feed {
        self.feed.lock().unwrap().clone().unwrap()
    }
}

fn instance(location: &str) -> Instance {
    Instance::new(location.parse().unwrap())
}

fn told(name: &str, kind: &str) -> ServiceOptions {
    let location = Location::Other { kind: kind.into(), name: "fleet".into() };
    let endpoint = EndpointOptions {
        weight: 2,
        priority: 1,
        zone: Some("here".into()),
        ..EndpointOptions::new(location)
    };
    ServiceOptions { endpoints: vec![endpoint], ..ServiceOptions::new(Name::new(name).unwrap()) }
}

fn labels(service: &Service) -> Vec<String> {
    service.set().members().iter().map(|member| member.endpoint.label().to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn services_follow_what_is_pushed_and_keep_it_when_the_source_fails() {
    let (fleet, script) = Script::fleet();
    fleet.services.apply(vec![told("orders", "script"), told("users", "script")], START);
    let service = fleet.services.get("orders").unwrap();
    let status = || fleet.services.status_of("orders").unwrap().sources[0].clone();
    assert_eq!(script.opened.load(Relaxed), 1, "one source for both services");
    assert_eq!((status().state, fleet.services.pending()), (State::Pending, 1));
    let refused = pick(&service, None, START, &mut Rng::seeded(1)).unwrap_err();
    assert_eq!(refused, Reason::NoEndpoint, "only names say that they were not resolved");
    fleet
        .during(async {
            until("it runs", || script.running.load(Relaxed)).await;
            let feed = script.feed();
            let mut first = Instance { weight: 3, priority: 1, ..instance("10.0.0.1:80") };
            first.hostname = Some("one.internal".into());
            first.metadata = Arc::new([("rack".to_owned(), "r1".to_owned())].into());
            let second = Instance { zone: Some("there".into()), ..instance("10.0.0.2:80") };
            feed.push(vec![first.clone(), second.clone()]);
            until("both", || labels(&service) == ["10.0.0.2:80", "10.0.0.1:80"]).await;
            assert_eq!(labels(&fleet.services.get("users").unwrap()).len(), 2);
            let set = service.set();
            let (two, one) = (&set.members()[0], &set.members()[1]);
            assert_eq!((one.weight, one.priority), (6, 2));
            assert_eq!((two.weight, two.priority), (2, 1));
            assert_eq!(one.endpoint.hostname().map(|host| &**host), Some("one.internal"));
            assert_eq!(one.endpoint.zone().map(|zone| &**zone), Some("here"));
            assert_eq!(two.endpoint.zone().map(|zone| &**zone), Some("there"));
            assert_eq!(one.metadata["rack"], "r1");

            // The same endpoint with another weight is the same endpoint.
            let kept = Arc::clone(&one.endpoint);
            fleet.services.drain(kept.id(), true);
            feed.push(vec![Instance { weight: 9, ..first.clone() }, instance("10.0.0.3:80")]);
            until("the next set", || labels(&service).contains(&"10.0.0.3:80".into())).await;
            let set = service.set();
            let one = set.members().iter().find(|one| &**one.endpoint.label() == "10.0.0.1:80");
            assert!(Arc::ptr_eq(&one.unwrap().endpoint, &kept) && kept.is_drained());
            assert_eq!((labels(&service).len(), one.unwrap().weight), (2, 18));

            feed.fail("the watch broke off");
            feed.fail("the watch broke off again");
            let now = fleet.clock.now();
            feed.next_try(Some(now.plus(std::time::Duration::from_secs(7))));
            assert_eq!((status().state, status().failures), (State::Stale, 2));
            assert_eq!(status().error.as_deref(), Some("the watch broke off again"));
            assert_eq!(status().next, Some(std::time::Duration::from_secs(7)));
            assert_eq!(status().failing, Some(std::time::Duration::ZERO));
            assert_eq!(
                (status().kind.as_str(), status().name.as_str()),
                ("script", "script:fleet")
            );
            assert_eq!(labels(&service).len(), 2);

            feed.push(vec![instance("10.0.0.1:80"); ENDPOINTS_MAX + 1]);
            assert!(status().error.unwrap().contains("more than 10000"));
            feed.push(vec![instance("10.0.0.4:80")]);
            until("it works again", || labels(&service) == ["10.0.0.4:80"]).await;
            assert_eq!((status().state, status().error), (State::Fresh, None));
            feed.withdraw("the service was deleted");
            until("nothing", || labels(&service).is_empty()).await;
            assert_eq!(status().state, State::Failed);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_source_ends_with_the_last_service_that_names_it() {
    let (fleet, script) = Script::fleet();
    fleet.services.apply(vec![told("orders", "script"), told("users", "script")], START);
    fleet
        .during(async {
            until("it runs", || script.running.load(Relaxed)).await;
            fleet.services.apply(vec![told("users", "script")], fleet.clock.now());
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            assert!(script.running.load(Relaxed), "one service is left");
            let feed = script.feed();
            fleet.services.apply(Vec::new(), fleet.clock.now());
            until("it ends", || !script.running.load(Relaxed)).await;
            feed.push(vec![instance("10.0.0.1:80")]);
            assert!(fleet.services.sources().is_empty());

            fleet.services.apply(vec![told("orders", "script")], fleet.clock.now());
            until("it is opened anew", || script.running.load(Relaxed)).await;
            assert_eq!(script.opened.load(Relaxed), 2);
            assert_eq!(labels(&fleet.services.get("orders").unwrap()), Vec::<String>::new());
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_source_that_breaks_off_or_is_unknown_says_so() {
    struct Broken;
    impl Source for Broken {
        fn start(self: Box<Self>, feed: Feed) -> Option<Running> {
            feed.push(vec![instance("10.0.0.1:80")]);
            Some(Box::pin(async { panic!("a mistake in a source") }))
        }
    }
    let fleet = Fleet::paused();
    fleet.services.add_kind("broken", Arc::new(|_| Box::new(Broken)));
    fleet.services.apply(vec![told("orders", "broken"), told("users", "nothing")], START);
    let status = |name| fleet.services.status_of(name).unwrap().sources[0].clone();
    assert_eq!(status("users").state, State::Failed);
    assert!(status("users").error.unwrap().contains("no source of the kind `nothing`"));
    fleet
        .during(async {
            until("it is told", || status("orders").state == State::Stale).await;
            assert_eq!(labels(&fleet.services.get("orders").unwrap()), ["10.0.0.1:80"]);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn names_that_a_source_tells_are_resolved_further() {
    let (fleet, script) = Script::fleet();
    fleet.names.set("a.internal:80", 10, &["10.0.1.1:80", "10.0.1.2:80"]);
    fleet.services.apply(vec![told("orders", "script")], START);
    let service = fleet.services.get("orders").unwrap();
    fleet
        .during(async {
            until("it runs", || script.running.load(Relaxed)).await;
            let host =
                Instance { weight: 5, zone: Some("far".into()), ..instance("a.internal:80") };
            script.feed().push(vec![host, instance("10.0.0.1:80")]);
            let all = ["10.0.0.1:80", "10.0.1.1:80", "10.0.1.2:80"];
            until("all three", || labels(&service) == all).await;
            let set = service.set();
            let of = &set.members()[1];
            assert_eq!((of.weight, of.priority), (10, 1));
            assert_eq!(of.endpoint.zone().map(|zone| &**zone), Some("far"));
            assert_eq!(of.endpoint.hostname().map(|host| &**host), Some("a.internal"));
            assert_eq!(fleet.services.sources().len(), 2);

            script.feed().push(vec![instance("10.0.0.1:80")]);
            until("the name is gone", || labels(&service) == ["10.0.0.1:80"]).await;
            assert_eq!(fleet.services.sources().len(), 1, "and is asked for no more");
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_file_is_followed_and_a_bad_one_keeps_the_last() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.yaml");
    fs::write(&path, "- targets: ['10.0.0.1:80']\n").unwrap();
    let fleet = Fleet::paused();
    let endpoint = EndpointOptions::new(Location::File(path.as_path().into()));
    let options = |name: &str| ServiceOptions {
        endpoints: vec![endpoint.clone()],
        ..ServiceOptions::new(Name::new(name).unwrap())
    };
    fleet.services.apply(vec![options("orders"), options("users")], START);
    let service = fleet.services.get("orders").unwrap();
    assert_eq!(labels(&service), ["10.0.0.1:80"], "there before anything runs");
    let status = || fleet.services.status_of("orders").unwrap().sources[0].clone();
    fleet
        .during(async {
            let kept = Arc::clone(&service.set().members()[0].endpoint);
            let begun = fleet.clock.now();
            fs::write(&path, "- targets: ['10.0.0.1:80', '10.0.0.2:80']\n").unwrap();
            until("the next", || labels(&service).len() == 2).await;
            assert!(fleet.clock.now().since(begun) < std::time::Duration::from_secs(2));
            assert!(Arc::ptr_eq(&service.set().members()[0].endpoint, &kept));
            for (text, what) in [("- targets: [", "line 1"), ("", "the file is empty")] {
                fs::write(&path, text).unwrap();
                until(what, || status().error.is_some_and(|error| error.contains(what))).await;
                assert_eq!((status().state, labels(&service).len()), (State::Stale, 2));
            }
            fs::remove_file(&path).unwrap();
            until("it is missed", || status().error.as_deref() == Some("there is no such file"))
                .await;
            assert_eq!(status().failures, 3, "each is told once");
            fs::write(&path, "[]").unwrap();
            until("nobody", || labels(&service).is_empty()).await;
            assert_eq!(status().state, State::Fresh, "a file may say that there are none");
        })
        .await;
}
