//! The state of a shared subscription, by hand and by chance.

use proptest::{prelude::*, strategy::Strategy as _};
use weft_broker::{MessageBuilder, message::Value};

use super::*;
use crate::{
    name::StreamName,
    shared::definition::{Source, Strategy},
};

fn event(place: u64) -> (u64, Recorded) {
    let message = MessageBuilder::event(0)
        .attribute("id", Value::Text(&place.to_string()))
        .attribute("source", Value::Text("/test"))
        .attribute("type", Value::Text("t"))
        .finish()
        .unwrap();
    let stream = StreamName::new(&format!("s-{}", place % 7)).unwrap();
    (place, Recorded { stream, version: 0, position: place, time_ms: 0, message })
}

fn definition(strategy: Strategy) -> Definition {
    Definition {
        source: Source::All,
        from: 0,
        strategy,
        lease_ms: 100,
        retries_max: 2,
        consumers_max: 0,
        ahead: 50,
        note: Vec::new(),
    }
}

fn core(strategy: Strategy, count: u64) -> Core {
    let mut core = Core::new(&definition(strategy), &Progress::from(0));
    core.read((0..count).map(event).collect(), count);
    core
}

fn taken(core: &mut Core, id: u64) -> Vec<u64> {
    std::iter::from_fn(|| core.take(id)).map(|handed| handed.place).collect()
}

fn stored(core: &mut Core) -> Progress {
    let row = postcard::to_allocvec(&core.progress()).unwrap();
    postcard::from_bytes(&row).unwrap()
}

#[test]
fn strategies() {
    for (strategy, one, two) in [
        (Strategy::RoundRobin, vec![0, 2, 4, 6], vec![1, 3, 5]),
        (Strategy::First, vec![0, 1, 2, 3], vec![4, 5, 6]),
    ] {
        let mut core = Core::new(&definition(strategy), &Progress::from(0));
        core.join(1, 4, 0);
        core.join(2, 3, 0);
        core.read((0..9).map(event).collect(), 9);
        core.step(0);
        assert_eq!((taken(&mut core, 1), taken(&mut core, 2)), (one, two), "{strategy:?}");
    }
    let mut core = Core::new(&definition(Strategy::Pinned), &Progress::from(0));
    core.join(1, 100, 0);
    core.join(2, 100, 0);
    core.read((0..50).map(event).collect(), 50);
    core.step(0);
    let (one, two) = (taken(&mut core, 1), taken(&mut core, 2));
    assert_eq!(one.len() + two.len(), 50);
    let streams = |places: &[u64]| places.iter().map(|at| at % 7).collect::<BTreeSet<_>>();
    assert!(streams(&one).is_disjoint(&streams(&two)), "{one:?} {two:?}");
}

#[test]
fn a_lease_ends_and_tries_are_counted_until_it_is_parked() {
    let mut core = core(Strategy::First, 1);
    core.join(1, 5, 0);
    for tries in 0..3 {
        let now_ms = tries * 100;
        core.step(now_ms);
        let handed = core.take(1).unwrap();
        assert_eq!(u64::from(handed.tries), tries);
        core.step(now_ms + 99);
        assert!(core.unread().is_empty());
        core.step(now_ms + 100);
        for place in core.unread() {
            core.read_again(place, Some(event(place).1));
        }
    }
    assert_eq!((core.parked, core.parking.len()), (1, 1));
    assert!(core.waiting.is_empty() && core.is_owing);
    // It is told again once it is replayed.
    core.replay = 1;
    core.unpark([0].into_iter());
    assert_eq!((core.parked, core.replay, core.unread()), (0, 0, vec![0]));
}

#[test]
fn who_goes_gives_back_at_once_and_what_it_never_had_is_not_tried() {
    let mut core = core(Strategy::First, 4);
    core.join(1, 4, 0);
    assert!(core.take(1).is_some() && core.take(1).is_some());
    core.join(2, 4, 0);
    core.leave(1, 5);
    assert_eq!(core.unread(), [0, 1]);
    for place in core.unread() {
        core.read_again(place, Some(event(place).1));
    }
    core.step(5);
    let tries: Vec<_> =
        std::iter::from_fn(|| core.take(2)).map(|one| (one.place, one.tries)).collect();
    assert_eq!(tries, [(2, 0), (3, 0), (0, 1), (1, 1)]);
}

#[test]
fn what_was_never_handed_out_is_stored_as_not_read() {
    let mut core = core(Strategy::First, 40);
    assert_eq!(stored(&mut core), Progress::from(0));
    core.join(1, 3, 0);
    let places = taken(&mut core, 1);
    assert_eq!(places, [0, 1, 2]);
    core.done(1);
    assert_eq!(
        stored(&mut core),
        Progress { next: 3, waiting: vec![(0, 0), (2, 0)], ..Progress::default() }
    );
    core.leave(1, 0);
    assert_eq!((core.next, core.bytes), (3, 0));
    assert_eq!(stored(&mut core).places().collect::<Vec<_>>(), [(0, 1), (2, 1)]);
}

#[test]
fn one_that_takes_much_is_bounded() {
    let mut core = core(Strategy::First, 0);
    core.join(1, 1_000_000, 0);
    assert_eq!(core.wants(), 50);
    let mut at = 0;
    while core.wants() > 0 {
        let upto = at + core.wants() as u64;
        core.read((at..upto).map(event).collect(), upto);
        at = upto;
        core.step(0);
        taken(&mut core, 1);
    }
    assert!(at <= (HELD_MAX + 100) as u64, "{at}");
}

#[derive(Clone, Debug)]
enum Input {
    Read(u64),
    ReadAgain,
    Take(u64),
    Done(usize),
    Retry(usize),
    Park(usize),
    Leave(u64),
    Join(u64),
    Pass(u64),
    Replay,
    Crash,
}

fn input() -> impl proptest::strategy::Strategy<Value = Input> {
    prop_oneof![
        (1_u64..20).prop_map(Input::Read),
        Just(Input::ReadAgain),
        (1_u64..4).prop_map(Input::Take),
        any::<usize>().prop_map(Input::Done),
        any::<usize>().prop_map(Input::Retry),
        any::<usize>().prop_map(Input::Park),
        (1_u64..4).prop_map(Input::Leave),
        (1_u64..4).prop_map(Input::Join),
        (1_u64..80).prop_map(Input::Pass),
        Just(Input::Replay),
        Just(Input::Crash),
    ]
}

proptest! {
    /// Whatever happens, each event is done, parked, waiting or not read; none is lost, and nobody has one that another has.
    #[test]
    fn every_event_is_somewhere(inputs in prop::collection::vec(input(), 0..200), which in 0_u8..3) {
        let strategy = [Strategy::RoundRobin, Strategy::First, Strategy::Pinned][which as usize];
        let of = definition(strategy);
        let (mut core, mut now_ms) = (Core::new(&of, &Progress::from(0)), 0);
        let (mut done, mut parked) = (BTreeSet::new(), BTreeSet::new());
        let mut held: BTreeMap<u64, u64> = BTreeMap::new();
        for input in inputs {
            let known: Vec<u64> = held.keys().copied().collect();
            let pick = |at: usize| (!known.is_empty()).then(|| known[at % known.len()]);
            match input {
                Input::Read(count) => {
                    let count = count.min(core.wants() as u64);
                    let from = core.next;
                    core.read((from..from + count).map(event).collect(), from + count);
                }
                Input::ReadAgain => {
                    for place in core.unread() {
                        core.read_again(place, Some(event(place).1));
                    }
                }
                Input::Take(id) => {
                    for place in taken(&mut core, id) {
                        prop_assert!(!done.contains(&place) && !parked.contains(&place));
                        prop_assert_eq!(held.insert(place, id), None);
                    }
                }
                Input::Done(at) => if let Some(place) = pick(at) {
                    core.done(place);
                    done.insert(place);
                },
                Input::Retry(at) => if let Some(place) = pick(at) { core.give_back(place, true, "x"); },
                Input::Park(at) => if let Some(place) = pick(at) { core.park(place, "x"); },
                Input::Leave(id) => core.leave(id, now_ms),
                Input::Join(id) => if !core.members.contains_key(&id) { core.join(id, 5, now_ms); },
                Input::Pass(ms) => now_ms += ms,
                Input::Replay => {
                    let again: Vec<u64> = parked.iter().copied().take(3).collect();
                    core.unpark(again.iter().copied());
                    parked.retain(|place| !again.contains(place));
                }
                Input::Crash => {
                    let row = stored(&mut core);
                    core = Core::new(&of, &row);
                }
            }
            core.step(now_ms);
            parked.extend(core.parking.drain(..).map(|(place, _)| place));
            let has = |(place, id): (&u64, &mut u64)| {
                let one = core.waiting.get(place);
                one.is_some_and(|one| one.event.is_none() && one.holder.is_some_and(|(holder, _)| holder == *id))
            };
            held.retain(|place, id| has((place, id)));
            prop_assert_eq!(core.parked, parked.len() as u64);
            for place in 0..core.next {
                let places = [done.contains(&place), parked.contains(&place), core.waits(place)];
                prop_assert_eq!(places.iter().filter(|is| **is).count(), 1, "{} {:?}", place, places);
            }
            for place in core.waiting.keys() {
                let one = &core.waiting[place];
                let places = [core.ready.contains(place), core.unread.contains(place), one.holder.is_some()];
                prop_assert_eq!(places.iter().filter(|is| **is).count(), 1, "{} {:?}", place, places);
            }
            for (id, member) in &core.members {
                let count = core.waiting.values().filter(|one| one.holder.is_some_and(|(holder, _)| holder == *id));
                prop_assert_eq!(count.count(), member.held);
                prop_assert!(member.held <= member.room);
            }
            let bytes: usize = core.waiting.values().filter_map(|one| one.event.as_ref()).map(|event| event.message.len()).sum();
            prop_assert_eq!(bytes, core.bytes);
        }
    }
}
