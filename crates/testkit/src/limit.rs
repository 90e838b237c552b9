//! Limits of the process that a test needs otherwise.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Lets this process, and those it starts from now on, have so many descriptors open; panics if they may
/// not.
pub fn descriptors(count: u64) {
    let now = getrlimit(Resource::Nofile);
    if now.current.is_none_or(|current| current >= count) {
        return;
    }
    let wanted = Rlimit { current: Some(count), maximum: now.maximum };
    let raised = setrlimit(Resource::Nofile, wanted);
    assert!(raised.is_ok(), "{count} descriptors are needed (ulimit -Hn {count}), not {now:?}");
}

/// Lets this process have no more than so many descriptors open from now on.
pub fn descriptors_max(count: u64) {
    let wanted = Rlimit { current: Some(count), ..getrlimit(Resource::Nofile) };
    setrlimit(Resource::Nofile, wanted).expect("a limit can be lowered");
}
