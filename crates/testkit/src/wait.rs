//! Waiting for a condition.

use std::time::{Duration, Instant};

/// How long a test waits for what must happen.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// How often it looks.
const STEP: Duration = Duration::from_millis(3);

/// Waits until `look` finds something; panics with `what` if it never does.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let limit = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < limit, "waited for {PATIENCE:?}, but never: {what}");
        std::thread::sleep(STEP);
    }
}
