//! [`Life`]: how long a connection may live, and who may make it longer.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long a connection may live; then it ends after the request it is in. A reader that never reads ends with it.
const LIFE: Duration = Duration::from_secs(300);

/// How much longer it lives from each moment at which a subscriber takes what it is told.
const LONGER: Duration = Duration::from_secs(60);

/// How long it may become so.
const LONGEST: Duration = Duration::from_secs(2 * 3_600);

/// The life of one connection, known to its requests.
#[derive(Clone)]
pub(crate) struct Life {
    begun: Instant,
    ends: Arc<Mutex<Instant>>,
}

impl Life {
    pub(crate) fn begin() -> Life {
        let begun = Instant::now();
        Life { begun, ends: Arc::new(Mutex::new(begun + LIFE)) }
    }

    /// Called by a stream of events whenever the client has taken what there was: it reads.
    pub(crate) fn prolong(&self) {
        let until = (Instant::now() + LONGER).min(self.begun + LONGEST);
        let mut ends = self.lock();
        *ends = until.max(*ends);
    }

    /// When it ends, as things stand now.
    pub(crate) fn ends(&self) -> Instant {
        *self.lock()
    }

    /// Waits for its end.
    pub(crate) async fn ended(&self) {
        loop {
            let ends = self.ends();
            tokio::time::sleep_until(ends).await;
            if self.ends() <= ends {
                return;
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Instant> {
        // A poisoned lock only means that another thread died beside it; the time stays usable.
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_life_is_prolonged_but_not_for_ever() {
        let (start, life) = (Instant::now(), Life::begin());
        life.ended().await;
        assert_eq!(start.elapsed(), LIFE, "who takes nothing");
        let (start, life) = (Instant::now(), Life::begin());
        let reader = life.clone();
        let reading = tokio::spawn(async move {
            loop {
                reader.prolong();
                tokio::time::sleep(Duration::from_secs(15)).await;
            }
        });
        life.ended().await;
        reading.abort();
        assert_eq!(start.elapsed(), LONGEST, "who takes everything");
    }
}
