//! What keeps calls between services well when some of them are not.
//!
//! | part | what it does | shared by |
//! |---|---|---|
//! | [`timeout`] | how long a request, a try, a connection may take | — |
//! | [`retry`] | whether a failed try is made again, and when | — |
//! | [`budget`] | how many retries a service may be sent | service |
//! | [`breaker`] | stops calling a service that fails (opt-in) | service |
//! | [`ejection`] | takes one endpoint out of the balancer, and probes it back in | endpoint |
//! | `bulkhead` | so many calls at once, a bounded queue, no more | policy |
//! | [`adaptive`] | finds out from latency how many calls at once, sheds by criticality | service |
//! | [`hedge`] | a second request when the first takes longer than most | service |
//! | [`concurrency`] | how much a key may have under way at once | limit |
//! | [`rate`] | how much a key may have within a time | limit |
//!
//! Every part is a plain `Options` whose defaults may be left alone, and a state machine that takes
//! the time ([`weft_kernel::Tick`]) and chance ([`weft_kernel::Rng`]) as arguments. None does I/O and
//! none reads a clock, so each can be simulated from a seed. What is shared is `Sync`, keeps its
//! state in atomics, and takes no lock on the way of a request that goes well; [`rate`] and [`concurrency`]
//! alone, which keep a state for each key, hold one of sixteen for the time of a lookup.
//!
//! With the feature `tower` (on by default) come what must wait, the bulkhead, and `layers`: thin
//! tower layers over all of them, for any service, without the rest of Weft. Deliberately absent:
//! HTTP types (a caller says what a response means), configuration formats (they live above), and
//! everything about choosing an endpoint.
//!
//! # A call with everything
//!
//! ```
//! use std::time::Duration;
//! use weft_kernel::{Deadline, Rng, SystemClock};
//! use weft_resilience::{
//!     breaker::{self, Breaker},
//!     budget::Budget,
//!     retry::{self, Decision, Failure, Kind},
//!     timeout,
//! };
//!
//! // Shared by all calls to the service.
//! let (breaker, budget) = (Breaker::new(breaker::Options::default(), SystemClock::tick()), Budget::default());
//! let (times, retries, mut rng) = (timeout::Options::default(), retry::Options::default(), Rng::seeded(1));
//! // Stands for sending the request: the first connection fails, the second try is answered.
//! let mut answers = [Err(Failure::new(Kind::Connect)), Ok("42")].into_iter();
//!
//! let began = SystemClock::tick();
//! let deadline = times.deadline(began, Deadline::NONE);
//! budget.deposit(began);
//! let permit = breaker.admit(began)?;
//! let mut tries = 0;
//! let answer = loop {
//!     tries += 1;
//!     let failure = match answers.next() {
//!         Some(Ok(answer)) => break Some(answer),
//!         Some(Err(failure)) => failure,
//!         None => break None,
//!     };
//!     let now = SystemClock::tick();
//!     match retries.decide(tries, &failure, true, false, deadline, now, &mut rng, &budget) {
//!         Decision::Again { after } => std::thread::sleep(after),
//!         Decision::Stop(_) => break None,
//!     }
//! };
//! let (outcome, now) = match answer {
//!     Some(_) => (breaker::Outcome::Ok, SystemClock::tick()),
//!     None => (breaker::Outcome::Failed, SystemClock::tick()),
//! };
//! permit.finish(outcome, now.since(began), now);
//! assert_eq!((answer, tries), (Some("42"), 2));
//! # Ok::<(), breaker::Refused>(())
//! ```
//!
//! # Reading order
//!
//! [`timeout`], [`budget`], [`retry`], [`ejection`], [`breaker`] (its [`breaker::core`] first),
//! [`adaptive`], [`hedge`], [`concurrency`], [`rate`], `bulkhead`, `layers`. Underneath the counting ones is `ring`, a sliding
//! window in atomics.

pub mod adaptive;
pub mod breaker;
pub mod budget;
#[cfg(feature = "tower")]
pub mod bulkhead;
pub mod concurrency;
pub mod ejection;
pub mod hedge;
#[cfg(feature = "tower")]
pub mod layers;
pub mod rate;
pub mod retry;
mod ring;
pub mod timeout;
