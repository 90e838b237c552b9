//! Tests of keys on a simulated disk: claims, outcomes, bounds, the loss of power.

use bytes::Bytes;
use weft_kernel::{ByteSize, Rng, SystemClock};
use weft_ledger::{Ledger, Options, disk::SimulatedDisk};
use weft_net::Stop;
use weft_wire::Fields;

use super::*;

pub(in crate::idempotency) struct Fixture {
    disk: SimulatedDisk,
    ledger: Ledger,
    keys: Arc<Keys>,
    pub(in crate::idempotency) tasks: Tasks,
}

impl Fixture {
    pub(in crate::idempotency) async fn on(disk: SimulatedDisk) -> Self {
        let options = Options { wal_file_bytes: ByteSize(4 << 20), ..Options::default() };
        let (ledger, _) =
            Ledger::open(Arc::new(disk.clone()), options, Arc::new(SystemClock)).unwrap();
        ledger.start().unwrap();
        let store = ledger.namespace("idempotency").unwrap();
        let keys = Arc::new(Keys::open(Arc::new(store)).await.unwrap());
        Self { disk, ledger, keys, tasks: Tasks::new(Stop::new()) }
    }

    async fn claim(&self, wanted: Wanted) -> Found {
        self.keys.claim(wanted, &self.tasks).await.unwrap()
    }

    pub(in crate::idempotency) async fn claimed(&self, key: &str) -> Claim {
        match self.claim(wanted(key, 1)).await {
            Found::Claimed(claim) => claim,
            other => panic!("{}", told(&other)),
        }
    }

    pub(in crate::idempotency) async fn told(&self, wanted: Wanted) -> String {
        told(&self.claim(wanted).await)
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let _ = self.ledger.close();
    }
}

fn told(found: &Found) -> String {
    match found {
        Found::Claimed(_) => "claimed".into(),
        Found::Busy(phase) => format!("{:?}", *phase.borrow()),
        Found::Answered(answer) => format!("{} {:?}", answer.status, answer.body),
        Found::Reused => "reused".into(),
        Found::NotKept(status) => format!("{status} not kept"),
        Found::Unknown => "unknown".into(),
    }
}

pub(in crate::idempotency) fn wanted(key: &str, fingerprint: u8) -> Wanted {
    Wanted {
        key: EntryKey::new("pay", "ada", key),
        fingerprint: Fingerprint([fingerprint; 32]),
        nonce: Rng::from_entropy().next_u64(),
        keep: Duration::from_secs(3600),
        run_again: false,
        most: Sum { entries: 3, bytes: 4000 },
    }
}

fn answer(body: &str) -> Option<Answer> {
    let body = Bytes::copy_from_slice(body.as_bytes());
    Some(Answer { status: 201, fields: Fields::new(), body, trailers: None })
}

pub(in crate::idempotency) fn on_worker(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(tokio::task::LocalSet::new().run_until(test));
}

#[test]
fn a_key_is_claimed_once_and_then_answered() {
    on_worker(async {
        let fixture = Fixture::on(SimulatedDisk::new()).await;
        let before = fixture.ledger.stats().transactions;
        let claim = fixture.claimed("k").await;
        assert_eq!(fixture.ledger.stats().transactions, before + 1, "one commit before it runs");
        assert_eq!(fixture.told(wanted("k", 1)).await, "Running");
        assert_eq!(fixture.told(wanted("k", 2)).await, "reused");
        assert_eq!(fixture.keys.counts().running, 1);
        claim.finish(201, answer("charge")).await;
        assert_eq!(fixture.told(wanted("k", 1)).await, "201 b\"charge\"");
        assert_eq!(fixture.told(wanted("k", 2)).await, "reused");
        let counts = fixture.keys.counts();
        assert_eq!((counts.running, counts.kept.entries), (0, 1));
        // It is all there when it is opened anew.
        let store = fixture.ledger.namespace("idempotency").unwrap();
        let keys = Keys::open(Arc::new(store)).await.unwrap();
        assert_eq!(keys.counts(), counts);
        let entry = keys.show(EntryKey::new("pay", "ada", "k")).await.unwrap();
        assert_eq!((entry.standing, entry.status), (Standing::Kept, 201));
    });
}

#[test]
fn what_is_freed_is_free_and_what_is_dropped_is_unknown() {
    on_worker(async {
        let fixture = Fixture::on(SimulatedDisk::new()).await;
        fixture.claimed("free").await.forget().await;
        drop(fixture.claimed("free").await);
        assert_eq!(fixture.told(wanted("free", 1)).await, "unknown");
        assert_eq!(fixture.told(wanted("free", 2)).await, "reused");
        let again = Wanted { run_again: true, ..wanted("free", 1) };
        let Found::Claimed(claim) = fixture.claim(again).await else { panic!("it may run again") };
        assert_eq!(fixture.keys.counts().kept.entries, 1, "it takes the place of the former");
        claim.finish(200, None).await;
        assert_eq!(fixture.told(wanted("free", 1)).await, "200 not kept");
        // Operators free what nobody runs.
        let running = fixture.claimed("runs").await;
        let deleted = fixture.keys.delete(EntryKey::new("pay", "ada", "runs")).await;
        assert_eq!(deleted.unwrap_err().reason(), Reason::Conflict);
        drop(running);
        fixture.keys.delete(EntryKey::new("pay", "ada", "runs")).await.unwrap();
        let deleted = fixture.keys.delete(EntryKey::new("pay", "ada", "runs")).await;
        assert_eq!(deleted.unwrap_err().reason(), Reason::NotFound);
        assert_eq!(fixture.keys.counts().kept.entries, 1);
    });
}

#[test]
fn a_claim_that_is_given_up_while_it_is_written_has_never_been() {
    on_worker(async {
        let fixture = Fixture::on(SimulatedDisk::new()).await;
        let mut given_up = 0;
        for round in 0..50 {
            let first = {
                let claim = std::pin::pin!(fixture.keys.claim(wanted("k", 1), &fixture.tasks));
                futures_util::poll!(claim)
            };
            match first {
                // The disk was as fast as the test.
                std::task::Poll::Ready(Ok(Found::Claimed(claim))) => claim.forget().await,
                std::task::Poll::Ready(_) => panic!("round {round}"),
                std::task::Poll::Pending => given_up += 1,
            }
            loop {
                match fixture.claim(wanted("k", 1)).await {
                    Found::Claimed(claim) => break claim.forget().await,
                    Found::Busy(mut phase) => drop(phase.changed().await),
                    other => panic!("round {round}: {}", told(&other)),
                }
            }
        }
        assert!(given_up > 0);
        assert_eq!(fixture.keys.counts(), Counts::default());
    });
}

#[test]
fn what_runs_is_known_for_longer_than_its_answer_is_kept() {
    on_worker(async {
        let fixture = Fixture::on(SimulatedDisk::new()).await;
        // As short as can be: an entry that was counted from the beginning would be gone at once.
        let short = || Wanted { keep: Duration::ZERO, ..wanted("k", 1) };
        let Found::Claimed(claim) = fixture.claim(short()).await else { panic!("it is new") };
        assert_eq!(fixture.told(wanted("k", 1)).await, "Running");
        drop(claim);
        assert_eq!(fixture.told(wanted("k", 1)).await, "unknown", "as after a crash");
        let again = Wanted { run_again: true, ..wanted("k", 1) };
        let Found::Claimed(claim) = fixture.claim(again).await else { panic!("it may run again") };
        // Whatever has become of the entry meanwhile, its end is kept.
        let gone = Transaction::new(Durability::Os).delete(
            fixture.keys.heads,
            wanted("k", 1).key.bytes().clone(),
            ExpectValue::Present,
        );
        fixture.keys.store.commit(gone).await.unwrap();
        claim.finish(201, answer("charge")).await;
        assert_eq!(fixture.told(wanted("k", 1)).await, "201 b\"charge\"");
        // What nobody knows any more is told so for as long as an answer is kept.
        let Found::Claimed(claim) = fixture.claim(wanted("u", 1)).await else { panic!("new") };
        claim.leave().await;
        assert_eq!(fixture.told(wanted("u", 1)).await, "unknown");
        let entry = fixture.keys.show(wanted("u", 1).key).await.unwrap();
        assert!(entry.expires_ms < entry.began_ms + millis(RUN_MAX));
        assert_eq!(fixture.keys.counts().kept.entries, 2);
    });
}

#[test]
fn of_many_new_keys_at_once_no_more_than_there_is_room_for_are_claimed() {
    on_worker(async {
        let fixture = Fixture::on(SimulatedDisk::new()).await;
        let all = (0..20).map(|number| {
            let wanted = wanted(&number.to_string(), 1);
            fixture.keys.claim(wanted, &fixture.tasks)
        });
        let all = futures_util::future::join_all(all).await;
        let claimed = all.iter().filter(|found| matches!(found, Ok(Found::Claimed(_)))).count();
        let is_full = |found: &&Result<Found>| matches!(found, Err(error) if error.reason() == Reason::IdempotencyFull);
        assert_eq!((claimed, all.iter().filter(is_full).count()), (3, 17));
        assert_eq!(fixture.keys.counts().kept.entries, 3);
    });
}

#[test]
fn an_operator_deletes_what_was_looked_at_and_nothing_newer() {
    on_worker(async {
        let fixture = Fixture::on(SimulatedDisk::new()).await;
        drop(fixture.claimed("k").await);
        let delete = fixture.keys.delete(wanted("k", 1).key);
        let again = fixture.claim(Wanted { run_again: true, ..wanted("k", 1) });
        let (deleted, found) = tokio::join!(delete, again);
        let is_claimed = matches!(&found, Found::Claimed(_));
        if let Found::Claimed(claim) = found {
            claim.finish(200, answer("done")).await;
            assert_eq!(fixture.told(wanted("k", 1)).await, "201 b\"done\"");
        }
        assert!(deleted.is_ok() || is_claimed, "one of both has had its way");
    });
}

#[test]
fn who_has_too_much_is_refused_what_is_new() {
    on_worker(async {
        let fixture = Fixture::on(SimulatedDisk::new()).await;
        for key in ["a", "b"] {
            fixture.claimed(key).await.finish(201, answer(key)).await;
        }
        // More than there is room for is not kept.
        fixture.claimed("c").await.finish(201, answer(&"x".repeat(4000))).await;
        assert_eq!(fixture.told(wanted("c", 1)).await, "201 not kept");
        let full = fixture.keys.claim(wanted("d", 1), &fixture.tasks).await;
        assert_eq!(full.err().map(|error| error.reason()), Some(Reason::IdempotencyFull));
        assert_eq!(fixture.told(wanted("a", 1)).await, "201 b\"a\"");
        let mut other = wanted("d", 1);
        other.key = EntryKey::new("pay", "bob", "d");
        assert_eq!(fixture.told(other).await, "claimed");
        fixture.keys.delete(EntryKey::new("pay", "ada", "a")).await.unwrap();
        assert_eq!(fixture.told(wanted("d", 1)).await, "claimed");
        let list = fixture.keys.list(None, 10).await.unwrap();
        let ids: Vec<String> = list.iter().map(|entry| entry.key.to_string()).collect();
        assert_eq!(ids, ["pay:ada:b", "pay:ada:c", "pay:ada:d", "pay:bob:d"]);
        let behind = fixture.keys.list(Some(list[1].key.clone()), 1).await.unwrap();
        assert_eq!(behind[0], list[2]);
    });
}

/// Power fails at any moment: what has begun is never new, and what was given again stays.
#[test]
fn a_claim_outlives_the_loss_of_power() {
    for seed in 0..12 {
        on_worker(async move {
            let mut rng = Rng::seeded(seed);
            let fixture = Fixture::on(SimulatedDisk::new()).await;
            let claim = fixture.claimed("k").await;
            let shown = rng.chance(0.5);
            claim.finish(201, answer("charge")).await;
            if shown {
                assert_eq!(fixture.told(wanted("k", 1)).await, "201 b\"charge\"");
            }
            let disk = fixture.disk.clone();
            disk.halt();
            drop(fixture);
            disk.restart(&mut rng);
            let after = Fixture::on(disk).await.told(wanted("k", 1)).await;
            let good = after == "201 b\"charge\"" || (!shown && after == "unknown");
            assert!(good, "seed {seed}, shown {shown}: {after}");
        });
    }
}

#[test]
fn a_store_that_takes_nothing_refuses_and_leaves_nothing_claimed() {
    on_worker(async {
        let fixture = Fixture::on(SimulatedDisk::new()).await;
        fixture.disk.halt();
        let refused = fixture.keys.claim(wanted("k", 1), &fixture.tasks).await;
        assert!(refused.is_err());
        while fixture.keys.counts().running > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(fixture.keys.counts().kept.entries, 0);
    });
}
