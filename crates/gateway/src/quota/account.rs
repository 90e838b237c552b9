//! The account of one key: what it has used of its quota, and how much of that is on the disk.
//!
//! What may be used is put down before it is used: a slice at a time, in the ledger, as if all of it had been
//! used already. So most requests wait for no disk, and a crash never gives more than the quota; it costs a key
//! what was left of the slice that it had.
//!
//! A clock that jumps gives nothing anew either: the period before is remembered, and an account goes back to it
//! with the clock.
//!
//! An account is pure: it is given the time, and says what is to be done.

use serde::{Deserialize, Serialize};

use super::period::{Calendar, Period};

/// Parts of a limit that a slice is.
const SLICES: u64 = 100;
/// The most units of a slice.
const SLICE_MAX: u64 = 1_000;

/// How long an account is remembered after its period, so that a clock that is set back finds it still: three days.
const REMEMBERED_MS: u64 = 3 * 86_400_000;

/// The account of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// The period that it is about.
    pub period: Period,
    /// Units that were used in it.
    pub used: u64,
    /// Units that the disk has as used.
    pub reserved: u64,
    /// Units that it was given beyond its limit, in this period.
    pub extra: u64,
    /// A limit of its own.
    pub limit: Option<u64>,
    /// Units that are asked for and wait for a slice.
    wanted: u64,
    /// Thresholds that were told, each a bit.
    told: u8,
    /// Those of them of which nobody has to be told again, after a crash either.
    settled: u8,
    /// Whether the disk has yet to learn of those.
    unsaved: bool,
    /// The period that it was about before this one.
    former: Option<Spent>,
}

/// What was used in a period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Spent {
    /// The first millisecond of the period.
    start: u64,
    /// The first millisecond after it.
    end: u64,
    /// Units that may have been used.
    used: u64,
    extra: u64,
    told: u8,
}

/// What is kept of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    #[serde(flatten)]
    spent: Spent,
    limit: Option<u64>,
    #[serde(default)]
    former: Option<Spent>,
}

/// What an account says of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It was counted; whether a further slice should be put down.
    Granted {
        /// Whether the slice is nearly used up.
        ahead: bool,
    },
    /// There is not enough left.
    Refused,
    /// A slice has to be put down first.
    Waits,
}

/// Rules of a quota, as an account is told them.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// Units of a period.
    pub limit: u64,
    /// The periods.
    pub calendar: &'a Calendar,
    /// Percentages of the limit that are told when they are reached, in rising order; at most eight.
    pub thresholds: &'a [u8],
    /// Whether they are published, and count as told only once they are.
    pub publishes: bool,
}

impl Account {
    /// What is known of a key of which this was kept.
    pub const fn of(kept: &Kept) -> Self {
        let Kept { spent: Spent { start, end, used, extra, told }, limit, former } = *kept;
        let period = Period { start, end };
        let (wanted, settled, unsaved) = (0, told, false);
        Self { period, used, reserved: used, extra, limit, wanted, told, settled, unsaved, former }
    }

    /// Units that may be used in the period.
    pub fn allowed(&self, terms: &Terms<'_>) -> u64 {
        self.limit.unwrap_or(terms.limit).saturating_add(self.extra)
    }

    /// Units that are left.
    pub fn left(&self, terms: &Terms<'_>) -> u64 {
        self.allowed(terms).saturating_sub(self.used)
    }

    /// Whether it says nothing about now.
    pub const fn is_over(&self, now_ms: u64) -> bool {
        self.wanted == 0 && self.kept().is_over(now_ms)
    }

    /// Whether it is over for so long that no clock will ask for it again.
    pub const fn is_forgotten(&self, now_ms: u64) -> bool {
        self.is_over(now_ms.saturating_sub(REMEMBERED_MS))
    }

    /// Goes to the period of now: to a new one if this one is over, or back to the one before with a clock that was
    /// set back. A period that has not begun is stayed in if nothing is known of now.
    pub fn turn(&mut self, terms: &Terms<'_>, now_ms: u64) {
        if self.period.contains(now_ms) {
            return;
        }
        let spent = Spent { used: self.used.max(self.reserved), ..self.kept().spent };
        match self.former {
            Some(former) if former.period().contains(now_ms) => {
                let kept = Kept { spent: former, limit: self.limit, former: Some(spent) };
                *self = Self { wanted: self.wanted, ..Self::of(&kept) };
            }
            _ if self.period.is_over(now_ms) => {
                let (limit, wanted, period) =
                    (self.limit, self.wanted, terms.calendar.period(now_ms));
                let former = (spent.used > 0 || spent.extra > 0).then_some(spent);
                *self = Self { period, limit, wanted, former, ..Self::default() };
            }
            _ => {}
        }
    }

    /// Asks for so many units.
    pub fn take(&mut self, cost: u64, terms: &Terms<'_>, now_ms: u64) -> Taken {
        self.turn(terms, now_ms);
        if self.left(terms) < cost {
            return Taken::Refused;
        }
        if self.reserved.saturating_sub(self.used) < cost {
            self.wanted = self.wanted.saturating_add(cost);
            return Taken::Waits;
        }
        self.used += cost;
        let rest = self.reserved - self.used;
        let ahead =
            self.wanted == 0 && rest < self.slice(terms) / 2 && self.reserved < self.allowed(terms);
        if ahead {
            self.wanted = 1;
        }
        Taken::Granted { ahead }
    }

    /// Gives back what was granted in a period to a request that was refused for another cause.
    pub fn give_back(&mut self, cost: u64, period: Period) {
        if self.period == period {
            self.used = self.used.saturating_sub(cost);
        }
    }

    /// Counts what a request has cost in the end, in the place of what was granted for it in a period. What it has
    /// cost beyond that counts in the period that is now, also beyond the limit. Gives whether that is to be put down.
    pub fn settle(
        &mut self,
        granted: u64,
        cost: u64,
        period: Period,
        terms: &Terms<'_>,
        now_ms: u64,
    ) -> bool {
        if cost <= granted {
            self.give_back(granted - cost, period);
            return false;
        }
        self.turn(terms, now_ms);
        self.used = self.used.saturating_add(cost - granted);
        let ahead = self.wanted == 0 && self.used > self.reserved;
        if ahead {
            self.wanted = 1;
        }
        ahead
    }

    /// The threshold that has been reached and not been told yet, if there is one: the highest.
    pub fn threshold(&mut self, terms: &Terms<'_>) -> Option<u8> {
        let (used, allowed) = (u128::from(self.used) * 100, u128::from(self.allowed(terms)));
        let reached = |percent: u8| used >= allowed * u128::from(percent);
        let at = terms.thresholds.iter().rposition(|percent| reached(*percent))?;
        // All below it count as told.
        let bits = u8::try_from((1_u32 << (at + 1)) - 1).unwrap_or(u8::MAX);
        let is_new = self.told & bits != bits && self.told & (1 << at) == 0;
        self.told |= bits;
        if !terms.publishes {
            self.settled = self.told;
        }
        is_new.then_some(terms.thresholds[at])
    }

    /// A threshold could not be told now, and is to be told later.
    pub const fn untell(&mut self) {
        self.told = self.settled;
    }

    /// A threshold of a period is published. Gives whether that is to be put down.
    pub fn published(&mut self, percent: u8, period: Period, terms: &Terms<'_>) -> bool {
        let at = terms.thresholds.iter().position(|of| *of == percent);
        let (Some(at), true) = (at, self.period == period) else { return false };
        let bits = u8::try_from((1_u32 << (at + 1)) - 1).unwrap_or(u8::MAX);
        self.settled |= bits & self.told;
        self.unsaved = true;
        true
    }

    /// What is to be kept so that the next slice may be used; `None` if nobody waits for one.
    pub fn reserve(&mut self, terms: &Terms<'_>, now_ms: u64) -> Option<Kept> {
        let wanted = std::mem::take(&mut self.wanted);
        self.turn(terms, now_ms);
        let slice = self.slice(terms).max(wanted);
        // What was charged afterwards may be beyond the limit.
        let most = self.allowed(terms).max(self.used);
        let used = self.used.saturating_add(slice).min(most).max(self.reserved);
        let unsaved = std::mem::take(&mut self.unsaved);
        (unsaved || wanted > 0 && used > self.reserved).then(|| self.kept_as(used))
    }

    /// What is kept has been put down.
    pub fn reserved(&mut self, kept: &Kept) {
        // A period that began meanwhile has nothing of it.
        if self.period == kept.spent.period() {
            self.reserved = self.reserved.max(kept.spent.used);
        }
    }

    /// It as it stands.
    pub const fn kept(&self) -> Kept {
        self.kept_as(self.used)
    }

    /// It with so many units more that may be used meanwhile.
    pub const fn kept_with(&self, slice: u64) -> Kept {
        self.kept_as(self.used.saturating_add(slice))
    }

    const fn kept_as(&self, used: u64) -> Kept {
        let Period { start, end } = self.period;
        let Self { extra, limit, settled: told, former, .. } = *self;
        Kept { spent: Spent { start, end, used, extra, told }, limit, former }
    }

    /// Has the thresholds told again that are not reached any more.
    pub fn warn_anew(&mut self, terms: &Terms<'_>) {
        (self.told, self.settled) = (0, 0);
        let _ = self.threshold(terms);
        self.settled = self.told;
    }

    /// Whether the disk has other than this.
    pub const fn is_unsaved(&self) -> bool {
        self.unsaved || self.reserved != self.used
    }

    fn slice(&self, terms: &Terms<'_>) -> u64 {
        (self.allowed(terms) / SLICES).clamp(1, SLICE_MAX)
    }
}

impl Spent {
    const fn period(&self) -> Period {
        Period { start: self.start, end: self.end }
    }
}

impl Kept {
    /// Units that may have been used.
    pub const fn used(&self) -> u64 {
        self.spent.used
    }

    /// Whether it says nothing about now.
    pub const fn is_over(&self, now_ms: u64) -> bool {
        self.end() <= now_ms && self.limit.is_none()
    }

    /// The end of the last period that it says something about.
    const fn end(&self) -> u64 {
        match self.former {
            // The clock was set back.
            Some(former) if former.end > self.spent.end => former.end,
            _ => self.spent.end,
        }
    }

    /// When it may be forgotten, in milliseconds since 1970; nought for never.
    pub const fn expires_ms(&self) -> u64 {
        if self.limit.is_some() { 0 } else { self.end().saturating_add(REMEMBERED_MS) }
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use proptest::prelude::*;

    use super::{super::period::Every, *};

    const DAY: u64 = 86_400_000;
    const NOW: u64 = 20_000 * DAY + 5_000;

    fn calendar() -> Calendar {
        Calendar { every: Every::Day, zone: TimeZone::UTC }
    }

    fn terms(calendar: &Calendar, limit: u64) -> Terms<'_> {
        Terms { limit, calendar, thresholds: &[80, 100], publishes: false }
    }

    /// Puts a slice down, as the disk does.
    fn put_down(account: &mut Account, terms: &Terms<'_>, now: u64) -> Option<Kept> {
        let kept = account.reserve(terms, now)?;
        account.reserved(&kept);
        Some(kept)
    }

    #[test]
    fn a_slice_is_put_down_before_it_is_used_and_the_next_ahead() {
        let (calendar, mut account) = (calendar(), Account::default());
        let terms = terms(&calendar, 1_000);
        assert_eq!(account.take(1, &terms, NOW), Taken::Waits);
        assert_eq!(put_down(&mut account, &terms, NOW).unwrap().used(), 10);
        for _ in 0..5 {
            assert_eq!(account.take(1, &terms, NOW), Taken::Granted { ahead: false });
        }
        assert_eq!(account.take(1, &terms, NOW), Taken::Granted { ahead: true });
        assert_eq!(account.take(1, &terms, NOW), Taken::Granted { ahead: false }, "asked once");
        assert_eq!(put_down(&mut account, &terms, NOW).unwrap().used(), 17);
        assert_eq!(account.reserve(&terms, NOW), None);
        // Many that wait at once get a slice that is enough for all of them.
        let mut account = Account::default();
        for _ in 0..500 {
            assert_eq!(account.take(1, &terms, NOW), Taken::Waits);
        }
        assert_eq!(put_down(&mut account, &terms, NOW).unwrap().used(), 500);
    }

    #[test]
    fn a_period_begins_anew_and_a_clock_that_is_set_back_gives_nothing() {
        let (calendar, mut account) = (calendar(), Account::default());
        let terms = terms(&calendar, 1);
        let take = |account: &mut Account, now: u64| {
            if account.take(1, &terms, now) == Taken::Waits {
                put_down(account, &terms, now);
            } else {
                return false;
            }
            account.take(1, &terms, now) != Taken::Refused
        };
        assert!(take(&mut account, NOW) && !take(&mut account, NOW));
        assert!(!take(&mut account, NOW + DAY - 5_001));
        assert!(take(&mut account, NOW + DAY) && !take(&mut account, NOW + DAY));
        assert!(!take(&mut account, NOW));
        assert!(!account.is_over(NOW + DAY) && account.is_over(NOW + 2 * DAY));
        // A limit of its own outlives the period, what was added does not.
        (account.limit, account.extra) = (Some(3), 5);
        assert_eq!(account.left(&terms), 7);
        account.turn(&terms, NOW + 2 * DAY);
        assert_eq!((account.left(&terms), account.kept().expires_ms()), (3, 0));
    }

    #[test]
    fn a_clock_that_jumps_ahead_and_back_finds_what_was_used() {
        let (calendar, mut account) = (calendar(), Account::default());
        let terms = terms(&calendar, 100);
        let take = |account: &mut Account, cost: u64, now: u64| {
            if account.take(cost, &terms, now) == Taken::Waits {
                put_down(account, &terms, now);
            }
            account.take(cost, &terms, now) != Taken::Refused
        };
        assert!(take(&mut account, 100, NOW));
        assert!(take(&mut account, 70, NOW + 2 * DAY), "two days ahead is another day");
        for mut account in [account.clone(), Account::of(&account.kept())] {
            assert!(!take(&mut account, 1, NOW), "this day is used up");
            assert!(!account.is_over(NOW));
            // What was used of a day before it came counts when it comes.
            account.turn(&terms, NOW + 2 * DAY);
            assert_eq!(account.left(&terms), 30);
        }
        // With a clock that goes ahead slowly, the periods between begin anew.
        assert!(take(&mut account, 100, NOW + 3 * DAY));
        assert!(!account.is_forgotten(NOW + 6 * DAY) && account.is_forgotten(NOW + 7 * DAY));
    }

    #[test]
    fn what_was_kept_before_is_read() {
        let text = r#"{"start":0,"end":86400000,"used":5,"extra":1,"limit":null,"told":0}"#;
        let kept: Kept = serde_json::from_str(text).unwrap();
        assert_eq!((kept.used(), kept.is_over(86_400_000), kept.former), (5, true, None));
        let account = Account { former: Some(kept.spent), ..Account::of(&kept) };
        let text = serde_json::to_string(&account.kept()).unwrap();
        assert_eq!(Account::of(&serde_json::from_str(&text).unwrap()), account, "{text}");
    }

    #[test]
    fn a_slice_that_comes_after_the_period_counts_for_nothing() {
        let (calendar, mut account) = (calendar(), Account::default());
        let terms = terms(&calendar, 100);
        assert_eq!(account.take(1, &terms, NOW), Taken::Waits);
        let late = account.reserve(&terms, NOW).unwrap();
        assert_eq!(account.take(1, &terms, NOW + DAY), Taken::Waits);
        account.reserved(&late);
        assert_eq!(account.take(1, &terms, NOW + DAY), Taken::Waits);
    }

    #[test]
    fn what_is_charged_afterwards_is_put_down_also_beyond_the_limit() {
        let (calendar, mut account) = (calendar(), Account::default());
        let terms = terms(&calendar, 1_000);
        assert_eq!(account.take(1, &terms, NOW), Taken::Waits);
        put_down(&mut account, &terms, NOW).unwrap();
        assert_eq!(account.take(1, &terms, NOW), Taken::Granted { ahead: false });
        let period = account.period;
        // Within the slice nothing is to be done, and what was not used is given back.
        assert!(!account.settle(1, 5, period, &terms, NOW) && account.used == 5);
        assert!(!account.settle(5, 2, period, &terms, NOW) && account.used == 2);
        assert!(account.settle(1, 500, period, &terms, NOW));
        assert!(!account.settle(1, 2, period, &terms, NOW), "it is asked for already");
        assert_eq!(put_down(&mut account, &terms, NOW).unwrap().used(), 512);
        assert!(account.settle(1, 3_001, period, &terms, NOW));
        assert_eq!(put_down(&mut account, &terms, NOW).unwrap().used(), 3_502);
        assert_eq!(account.left(&terms), 0);
        assert_eq!(account.take(1, &terms, NOW), Taken::Refused);
        // Of a request from the period before, what it cost more counts, and nothing is given back.
        assert!(account.settle(1, 11, period, &terms, NOW + DAY) && account.used == 10);
        assert!(!account.settle(9, 0, period, &terms, NOW + DAY) && account.used == 10);
    }

    #[test]
    fn thresholds_are_told_once() {
        let (calendar, mut account) = (calendar(), Account::default());
        let terms = terms(&calendar, 10);
        let mut told = Vec::new();
        for used in 0..=10 {
            account.used = used;
            told.extend(account.threshold(&terms).map(|percent| (used, percent)));
        }
        assert_eq!(told, [(8, 80), (10, 100)]);
        assert_eq!(Account::of(&account.kept()).threshold(&terms), None, "also over a restart");
        account.used = 8;
        assert_eq!(account.threshold(&terms), None);
        let mut at_once = Account { used: 10, ..Account::default() };
        assert_eq!(at_once.threshold(&terms), Some(100));
        at_once.used = 8;
        assert_eq!(at_once.threshold(&terms), None, "what is below counts as told");
    }

    #[test]
    fn what_is_not_published_yet_is_told_again_after_a_crash() {
        let (calendar, mut account) = (calendar(), Account::default());
        let terms = Terms { publishes: true, ..terms(&calendar, 10) };
        account.take(8, &terms, NOW);
        put_down(&mut account, &terms, NOW).unwrap();
        account.take(8, &terms, NOW);
        assert_eq!(account.threshold(&terms), Some(80));
        assert_eq!(account.threshold(&terms), None);
        assert_eq!(Account::of(&account.kept()).threshold(&terms), Some(80));
        account.untell();
        assert_eq!(account.threshold(&terms), Some(80), "there was no room to tell it");
        // Another period has nothing of it.
        let period = account.period;
        assert!(!account.published(80, Period { start: 1, ..period }, &terms));
        assert!(!account.published(70, period, &terms));
        assert!(account.published(80, period, &terms) && account.is_unsaved());
        // It is put down although no slice is needed.
        let kept = account.reserve(&terms, NOW).unwrap();
        assert_eq!(account.reserve(&terms, NOW), None);
        let mut after = Account::of(&kept);
        assert_eq!(after.threshold(&terms), None);
        after.used = 10;
        assert_eq!(after.threshold(&terms), Some(100));
    }

    proptest! {
        /// Whenever a crash comes, all that was granted is on the disk, which never has more than the limit; and
        /// what a crash costs is two slices at most.
        #[test]
        fn crashes_give_nothing_and_cost_little(
            limit in 1_u64..3_000, steps in prop::collection::vec(0_u8..40, 1..2_000)
        ) {
            let (calendar, mut account) = (calendar(), Account::default());
            let terms = terms(&calendar, limit);
            let (mut disk, mut granted, mut crashes) = (account.kept(), 0, 0);
            for step in steps {
                if step == 0 {
                    account = Account::of(&disk);
                    crashes += 1;
                }
                let taken = account.take(1, &terms, NOW);
                granted += u64::from(matches!(taken, Taken::Granted { .. }));
                // What waits is put down soon, or not before the crash.
                if step > 10 && let Some(kept) = account.reserve(&terms, NOW) {
                    disk = kept;
                    account.reserved(&kept);
                }
                prop_assert!(granted <= disk.used() && disk.used() <= limit, "{granted} {disk:?}");
            }
            let slice = account.slice(&terms).max(40);
            prop_assert!(account.used - granted <= crashes * 2 * slice, "{account:?} {granted}");
        }
    }
}
