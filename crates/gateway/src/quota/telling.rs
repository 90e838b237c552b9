//! Telling of thresholds that keys have reached: at once, and by events that are published until they are.

use std::{collections::VecDeque, pin::Pin, sync::Arc, time::Duration};

use weft_kernel::{Name, Result};

use super::{Book, Books, Warning};

/// The pause before events that could not be published are published again.
const PAUSE: Duration = Duration::from_secs(1);
/// Events that are published together.
const BATCH: usize = 100;

/// Publishing of events, which may be published twice: whoever publishes gives the same warning the same id.
pub trait Publish: Send + Sync {
    /// Publishes an event for each of these to a topic.
    fn publish<'a>(&'a self, topic: &'a Name, of: &'a [Warning]) -> Publishing<'a>;
}

/// What comes of publishing.
pub type Publishing<'a> = Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

/// Warnings of one quota that are to be published.
struct Waiting {
    book: Arc<Book>,
    warnings: VecDeque<Warning>,
}

impl Books {
    /// Tells each warning, and has those published whose quotas name a topic, for as long as it is polled.
    pub async fn tell(&self, mut tell: impl FnMut(&Warning) + Send, publish: &dyn Publish) {
        let mut waiting: Vec<Waiting> = Vec::new();
        let mut is_away = false;
        loop {
            if waiting.is_empty() {
                self.to_tell().await;
            } else {
                let _ = tokio::time::timeout(PAUSE, self.to_tell()).await;
            }
            for book in self.all() {
                let warnings = book.warnings();
                warnings.iter().for_each(&mut tell);
                match waiting.iter_mut().find(|of| Arc::ptr_eq(&of.book, &book)) {
                    Some(of) => of.warnings.extend(warnings),
                    None if warnings.is_empty() => {}
                    None => waiting.push(Waiting { book, warnings }),
                }
            }
            let mut refused = None;
            for of in &mut waiting {
                refused = self.publish(of, publish).await.err().or(refused);
            }
            waiting.retain(|of| !of.warnings.is_empty());
            if let (Some(error), false) = (&refused, is_away) {
                let say = error.detail();
                tracing::warn!("thresholds of quotas cannot be published, and wait: {say}");
            }
            is_away = refused.is_some();
        }
    }

    /// Publishes what waits of a quota, until something is refused.
    async fn publish(&self, of: &mut Waiting, publish: &dyn Publish) -> Result<()> {
        let Waiting { book, warnings } = of;
        while !warnings.is_empty() {
            let count = warnings.len().min(BATCH);
            let topic = book.terms().and_then(|quota| quota.publish_to.clone());
            if let Some(topic) = &topic {
                publish.publish(topic, &warnings.make_contiguous()[..count]).await?;
            }
            let mut is_new = false;
            for warning in warnings.drain(..count) {
                is_new |= book.told(&warning, topic.is_some());
            }
            if is_new {
                self.wake();
            }
        }
        Ok(())
    }
}
