//! Which of a connection's consumers may have something to fetch, without asking each of them.
//!
//! Each consumer waits with a waker of its own, which notes its number and wakes the connection's task.

use std::{
    mem,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
};

use parking_lot::Mutex;

#[derive(Debug, Default)]
struct Woken {
    numbers: Vec<usize>,
    task: Option<Waker>,
}

/// The consumers that were woken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ready(Arc<Mutex<Woken>>);

/// The waker of one consumer.
#[derive(Debug)]
struct One {
    number: usize,
    ready: Ready,
}

impl Wake for One {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let task = {
            let mut woken = self.ready.0.lock();
            if !woken.numbers.contains(&self.number) {
                woken.numbers.push(self.number);
            }
            woken.task.take()
        };
        if let Some(task) = task {
            task.wake();
        }
    }
}

impl Ready {
    /// The waker of the consumer of a number.
    pub(crate) fn waker(&self, number: usize) -> Waker {
        Arc::new(One { number, ready: self.clone() }).into()
    }

    /// Ready once a consumer was woken.
    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut woken = self.0.lock();
        if woken.numbers.is_empty() {
            woken.task = Some(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// The consumers that were woken since.
    pub(crate) fn take(&self) -> Vec<usize> {
        mem::take(&mut self.0.lock().numbers)
    }
}
