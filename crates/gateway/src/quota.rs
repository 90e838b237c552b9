//! The policy that holds clients to quotas: so many units a day, week or month, over restarts and all routes.
//!
//! A [`Quota`] is defined once and named by any number of routes, which then share it. Its accounts, one for each
//! key, stand in a [`Book`] that all workers share; [`Books`] puts down in the ledger what they may use, before it is
//! used, so that a crash gives nothing (see [`account`]).
//!
//! A key that reaches a threshold is told of: in the log, and, if the quota names a topic, by an event that is
//! published once, or at worst again with the same id.
//!
//! What cannot be put down cannot be used: a quota whose ledger is away refuses, unless it says otherwise.

pub mod account;
pub mod book;
mod books;
pub(crate) mod key;
mod owed;
pub mod period;
mod telling;

use std::{
    borrow::Cow,
    cell::RefCell,
    fmt::{self, Write as _},
    sync::Arc,
    time::Duration,
};

use weft_kernel::{Error, Name, Reason, Result, Retry};
use weft_net::clock;
use weft_proxy::{
    DryRun, Fact, Flow, Foreseen, Policy, PolicyMaker, PolicyOutcome, RequestContext, RequestView,
    ResponseContext, Sides, Stage, plan::Binding,
};

use self::{
    account::Terms,
    book::Asked,
    owed::Owed,
    period::{Calendar, Period},
};
pub use self::{
    book::{Book, Said, Warning},
    books::{Books, Recalled},
    telling::{Publish, Publishing},
};
use crate::{
    cost::{Cost, Fault, Formula},
    rate_limit::Part,
};

/// The name under which the policy is made.
pub const QUOTAS: &str = "quotas";

/// How long a request waits for what has to be put down.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// A quota.
#[derive(Clone, Debug, PartialEq)]
pub struct Quota {
    /// Its name, which clients and log are told.
    pub name: Name,
    /// Units of a period.
    pub limit: u64,
    /// The periods.
    pub calendar: Calendar,
    /// What requests are told apart by; without any, all are counted together.
    pub by: Vec<Part>,
    /// What a request costs.
    pub cost: Cost,
    /// What it has cost in the end, in the place of that.
    pub charge: Option<Formula>,
    /// Whether it refuses nothing, and only tells what it would refuse.
    pub shadow: bool,
    /// Whether clients are told what is left.
    pub tells: bool,
    /// Percentages of the limit that are told when they are reached, in rising order; at most eight.
    pub thresholds: Vec<u8>,
    /// The topic to which they are published, if there is one.
    pub publish_to: Option<Name>,
    /// Keys that are counted each for itself; those beyond are counted together.
    pub keys_max: usize,
    /// Whether requests pass uncounted while they cannot be counted.
    pub opens: bool,
}

impl Quota {
    /// What its accounts are about: with another scope they mean something else.
    pub fn scope(&self) -> String {
        let zone = self.calendar.zone.iana_name().unwrap_or("UTC");
        let mut scope = format!("{} {zone}", self.calendar.every.word());
        for part in &self.by {
            // Writing to a string cannot fail.
            let _ = write!(scope, " {part}");
        }
        scope
    }

    /// What an account is told of it.
    pub fn terms(&self) -> Terms<'_> {
        let (calendar, thresholds) = (&self.calendar, &*self.thresholds);
        Terms { limit: self.limit, calendar, thresholds, publishes: self.publish_to.is_some() }
    }
}

/// Settings of the policy: the quotas that a route is held to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quotas(pub Vec<Name>);

impl fmt::Display for Quotas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, name) in self.0.iter().enumerate() {
            write!(f, "{}{name}", if at == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl PolicyMaker for Books {
    fn make(&self, binding: &Binding) -> Result<Arc<dyn Policy>, String> {
        let Quotas(names) = binding.settings()?;
        let books = names.iter().map(|name| self.book(name)).collect();
        Ok(Arc::new(Held { books, all: self.clone() }))
    }
}

/// The policy of a route.
struct Held {
    books: Box<[Arc<Book>]>,
    all: Books,
}

/// What a quota has said of a request.
struct Counted {
    quota: Arc<Quota>,
    /// Units that it was asked for.
    cost: u64,
    said: Said,
}

/// What the quotas have said of a request, for its response.
struct Told(Vec<Counted>);

impl Fact for Told {}

/// The quota that a request was refused by, or would have been.
struct Exceeded {
    quota: Name,
    shadow: bool,
}

impl Fact for Exceeded {
    fn told(&self) -> Option<(&'static str, Cow<'_, str>)> {
        let told = match self.shadow {
            true => Cow::Owned(format!("{} (shadow)", self.quota)),
            false => Cow::Borrowed(self.quota.as_str()),
        };
        Some(("quota_exceeded", told))
    }

    fn is_counted(&self) -> bool {
        true
    }
}

thread_local! {
    /// The key that was written last, so that none is allocated for a request.
    static KEY: RefCell<String> = const { RefCell::new(String::new()) };
}

/// The time of the wall clock, in milliseconds since 1970.
pub fn now_ms() -> u64 {
    let since = clock::wall().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// How far a request has come through the quotas of its route.
#[derive(Default)]
struct Progress {
    counted: Vec<Counted>,
    refused: bool,
    /// Why nobody can tell what the request costs.
    fault: Option<Fault>,
}

impl Held {
    /// Asks the quotas from where it is; `false` where one has to be waited for.
    fn ask(&self, cx: &RequestContext<'_>, progress: &mut Progress) -> Result<bool> {
        let now = now_ms();
        while let Some(book) = self.books.get(progress.counted.len()) {
            let Some(quota) = book.terms() else {
                return Err(Error::new(Reason::Misconfigured, "a quota of the route is not there"));
            };
            let worked_out = quota.cost.of(cx);
            let cost = *worked_out.as_ref().unwrap_or(&0);
            let asked = with_key(&quota.by, cx.view(), |key| book.take(key, &quota, cost, now));
            let mut said = match asked {
                Asked::Known { said, ahead } => {
                    if ahead {
                        self.all.wake();
                    }
                    said
                }
                Asked::Waits => {
                    self.all.wake();
                    return Ok(false);
                }
            };
            if let Err(fault) = worked_out {
                said.granted = false;
                progress.fault = Some(fault);
            }
            progress.counted.push(Counted { quota: quota.clone(), cost, said });
            if !said.granted && !quota.shadow {
                progress.refused = true;
                self.give_back(cx, &progress.counted);
                break;
            }
        }
        Ok(true)
    }

    /// Gives back what those before the one that refuses have counted.
    fn give_back(&self, cx: &RequestContext<'_>, counted: &[Counted]) {
        for (book, Counted { quota, cost, said }) in self.books.iter().zip(counted) {
            if said.granted {
                with_key(&quota.by, cx.view(), |key| {
                    book.give_back(said.counted_under(key), *cost, said.period);
                });
            }
        }
    }

    /// What becomes of a request that cannot be counted.
    fn uncounted(&self, cx: &RequestContext<'_>, progress: &mut Progress) -> Result<()> {
        let book = &self.books[progress.counted.len()];
        let quota = book.terms().filter(|quota| quota.opens || quota.shadow);
        let Some(quota) = quota else {
            self.give_back(cx, &progress.counted);
            let say = format!("what the quota `{}` has left cannot be put down", book.name());
            return Err(Error::new(Reason::StorageUnavailable, say));
        };
        let said = Said {
            granted: true,
            allowed: quota.limit,
            left: 0,
            period: Period::default(),
            with_others: false,
        };
        progress.counted.push(Counted { quota, cost: 0, said });
        Ok(())
    }

    fn end(&self, cx: &mut RequestContext<'_>, progress: Progress) -> Result<()> {
        let exceeded = progress.counted.iter().rfind(|counted| !counted.said.granted);
        let refusal = |exceeded| refusal(exceeded, progress.fault.as_ref());
        let refusal = progress.refused.then(|| exceeded.map(refusal)).flatten();
        if let Some(Counted { quota, .. }) = exceeded {
            let (quota, shadow) = (quota.name.clone(), refusal.is_none());
            cx.leave(Exceeded { quota, shadow });
        }
        if refusal.is_none()
            && let Some(owed) = Owed::new(self, &progress.counted, cx)
        {
            cx.leave(owed);
        }
        cx.leave(Told(progress.counted));
        refusal.map_or(Ok(()), Err)
    }
}

fn with_key<T>(by: &[Part], of: RequestView<'_>, what: impl FnOnce(&str) -> T) -> T {
    KEY.with_borrow_mut(|key| {
        key.clear();
        key::write(by, of, key);
        what(key)
    })
}

impl Policy for Held {
    fn stage(&self) -> Stage {
        Stage::RateLimit
    }

    fn sides(&self) -> Sides {
        Sides { request: true, response: true, ..Sides::default() }
    }

    fn name(&self) -> &'static str {
        QUOTAS
    }

    fn foresee(&self, cx: &mut DryRun<'_>) -> Foreseen {
        let (mut told, mut refused) = (String::new(), false);
        for book in &self.books {
            let Some(quota) = book.terms() else { continue };
            let account = with_key(&quota.by, cx.view(), |key| book.account(key));
            let left = account.map_or(quota.limit, |mut account| {
                account.turn(&quota.terms(), now_ms());
                account.left(&quota.terms())
            });
            let is_short = quota.cost.foresee(cx.view(), None).is_ok_and(|cost| left < cost);
            let shadow = if quota.shadow { " (shadow)" } else { "" };
            let _ = write!(
                told,
                "{}quota `{}`{shadow} has {left} left",
                if told.is_empty() { "" } else { "; " },
                quota.name
            );
            refused |= is_short && !quota.shadow;
            if refused {
                return Foreseen::of(PolicyOutcome::Refuses(Reason::QuotaExceeded), told);
            }
        }
        Foreseen::of(PolicyOutcome::Passes, told)
    }

    fn request<'a>(&'a self, cx: &'a mut RequestContext<'_>) -> Flow<'a> {
        // What begins inside was counted when it came from outside.
        if cx.is_internal() {
            return Flow::Next;
        }
        let mut progress = Progress::default();
        match self.ask(cx, &mut progress) {
            Err(error) => Flow::Refuse(error),
            Ok(true) => match self.end(cx, progress) {
                Ok(()) => Flow::Next,
                Err(error) => Flow::Refuse(error),
            },
            Ok(false) => Flow::wait(async move {
                let until = clock::now().plus(WAIT_MAX);
                loop {
                    let at = progress.counted.len();
                    let done = self.all.done();
                    tokio::pin!(done);
                    done.as_mut().enable();
                    if self.ask(cx, &mut progress)? {
                        break;
                    }
                    let left = until.since(clock::now());
                    let is_late =
                        self.books[at].is_away() || tokio::time::timeout(left, done).await.is_err();
                    if is_late {
                        self.uncounted(cx, &mut progress)?;
                    }
                }
                self.end(cx, progress).map(|()| None)
            }),
        }
    }

    fn response<'a>(&'a self, cx: &'a mut ResponseContext<'_>) -> Flow<'a> {
        if let Some(owed) = cx.fact::<Owed>() {
            owed.respond(cx.head());
        }
        let Some(Told(counted)) = cx.fact::<Told>() else { return Flow::Next };
        let (mut policy, mut left, now) = (String::new(), String::new(), now_ms());
        for Counted { quota, said, .. } in counted {
            let is_told = quota.tells && !quota.shadow && said.period != Period::default();
            if !is_told {
                continue;
            }
            let separator = if policy.is_empty() { "" } else { ", " };
            let seconds = |ms: u64| ms.div_ceil(1_000);
            let (name, allowed, window) =
                (&quota.name, bounded(said.allowed), seconds(said.period.end - said.period.start));
            // Writing to a string cannot fail.
            let _ = write!(policy, "{separator}\"{name}\";q={allowed};w={window}");
            let (rest, reset) = (bounded(said.left), seconds(said.period.end.saturating_sub(now)));
            let _ = write!(left, "{separator}\"{name}\";r={rest};t={reset}");
        }
        if !policy.is_empty() {
            let fields = &mut cx.head_mut().fields;
            fields.append("ratelimit-policy", policy.as_bytes());
            fields.append("ratelimit", left.as_bytes());
        }
        Flow::Next
    }
}

/// As much as an integer of a structured field holds.
fn bounded(number: u64) -> u64 {
    number.min(999_999_999_999_999)
}

#[cold]
fn refusal(Counted { quota, cost, said }: &Counted, fault: Option<&Fault>) -> Error {
    if let Some(fault) = fault {
        let say = format!("the quota `{}` cannot tell what the request costs", quota.name);
        let error = Error::new(Reason::QuotaExceeded, say).retry(Retry::No);
        return error.note(fault.to_string());
    }
    let say = match said.left {
        0 => {
            format!("the quota `{}` of the {} is used up", quota.name, quota.calendar.every.word())
        }
        left => format!(
            "the quota `{}` has {left} units left, and the request costs {cost}",
            quota.name
        ),
    };
    let wait = Duration::from_millis(said.period.end.saturating_sub(now_ms()));
    Error::new(Reason::QuotaExceeded, say).retry(Retry::After(wait))
}
