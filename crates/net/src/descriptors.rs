//! The file descriptors of the process: as many as the system lets it have, and shared so that clients
//! cannot take those that are needed to serve them.
//!
//! A descriptor is a connection, and nearly nothing else. When clients may take all of them, none is left
//! to reach a service with, and everybody is refused instead of those who came last. So clients have half
//! of what is there, and who comes when that is used up is closed at once.

use std::{
    io,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use rustix::{
    io::Errno,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

/// Descriptors that are neither a client's connection nor a service's: sockets that listen, files, timers,
/// and the connections of the admin API, which are few and must be there when clients have theirs used up.
const OTHERS: usize = 192;

static CLIENTS: AtomicUsize = AtomicUsize::new(0);
static CLIENTS_MAX: AtomicUsize = AtomicUsize::new(usize::MAX);
static ADMIN_MAX: AtomicUsize = AtomicUsize::new(usize::MAX);

/// What the process may have open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Altogether.
    pub all: usize,
    /// Connections of clients.
    pub clients: usize,
}

impl Share {
    /// The share of clients among this many descriptors.
    pub const fn of(all: usize) -> Self {
        let half = all.saturating_sub(OTHERS) / 2;
        // However few there are, somebody is served.
        let least = all / 4;
        let clients = if all == usize::MAX {
            all
        } else if half > least {
            half
        } else {
            least
        };
        Self { all, clients }
    }

    /// The connections of the admin API: few, where there are few.
    pub const fn admin(self) -> usize {
        let few = self.all / 8;
        if few > 1 { few } else { 1 }
    }
}

/// Raises the limit of the process as far as it may be raised, and holds clients to their share from now
/// on. To be called once, at the start.
pub fn claim() -> Share {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    // Without a number there is no limit.
    let share =
        Share::of(current.map_or(usize::MAX, |all| usize::try_from(all).unwrap_or(usize::MAX)));
    CLIENTS_MAX.store(share.clients, Relaxed);
    ADMIN_MAX.store(share.admin(), Relaxed);
    share
}

/// How many connections of the admin API there may be at most, for what the process may have open.
pub fn admin_max() -> usize {
    ADMIN_MAX.load(Relaxed)
}

/// The place of one client's connection, given back when it is dropped.
#[derive(Debug)]
pub struct Place(());

impl Place {
    /// A place, if one is left.
    pub fn take() -> Option<Self> {
        if CLIENTS.fetch_add(1, Relaxed) < CLIENTS_MAX.load(Relaxed) {
            return Some(Self(()));
        }
        CLIENTS.fetch_sub(1, Relaxed);
        None
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        CLIENTS.fetch_sub(1, Relaxed);
    }
}

/// Whether something could not be opened for want of a descriptor, of the process or of the system.
pub fn lack(error: &io::Error) -> bool {
    let number = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(number, Some(Errno::MFILE | Errno::NFILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_leave_half_for_services() {
        for (all, clients) in
            [(64, 16), (1024, 416), (1_048_576, 524_192), (usize::MAX, usize::MAX)]
        {
            assert_eq!(Share::of(all), Share { all, clients });
            assert!(Share::of(all).admin() <= all / 8);
        }
    }
}
