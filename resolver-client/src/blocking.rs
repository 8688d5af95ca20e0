//! The resolver for programs without an async runtime.

use std::fmt;
use std::sync::mpsc;

use certdir_zones::Address;
use tokio::runtime::Runtime;

use crate::builder::Builder;
use crate::counters::Counts;
use crate::error::Error;
use crate::verdict::Verdict;

/// Threads of the runtime inside.
const THREADS: usize = 2;

/// A [`Resolver`](crate::Resolver) with a runtime of its own. `Send + Sync`: share it between threads.
///
/// ```
/// use certdir_resolver::{Address, Resolver, Verdict, blocking};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let clock = std::sync::Arc::new(|| 1_797_000_000);
/// let builder = Resolver::builder(clock).server("127.0.0.1:9".parse()?);
/// let resolver = blocking::Resolver::new(builder)?;
/// let verdict = resolver.resolve(&Address::parse("alice@example.org")?);
/// assert!(matches!(verdict, Verdict::Unknown { .. }), "nobody answers there");
/// # Ok(())
/// # }
/// ```
pub struct Resolver {
    inner: crate::Resolver,
    /// There until it is dropped.
    runtime: Option<Runtime>,
}

impl Resolver {
    /// Builds the resolver and starts its runtime.
    ///
    /// # Errors
    /// What [`Builder::build`] says, and when threads cannot be started.
    pub fn new(builder: Builder) -> Result<Resolver, Error> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("certdir-resolver")
            .enable_all()
            .build()
            .map_err(|e| Error::Setup(format!("no thread can be started: {e}")))?;
        let inner = {
            let _entered = runtime.enter();
            builder.build()?
        };
        Ok(Resolver { inner, runtime: Some(runtime) })
    }

    /// Like [`Resolver::resolve`](crate::Resolver::resolve), and waits for it. It may be called from anywhere; from an async task
    /// it blocks the task's thread.
    pub fn resolve(&self, address: &Address) -> Verdict {
        if let Some(verdict) = self.inner.cached(address) {
            return verdict;
        }
        let Some(runtime) = &self.runtime else {
            return Verdict::not_run(address);
        };
        let (tell, told) = mpsc::sync_channel(1);
        let (resolver, asked) = (self.inner.clone(), address.clone());
        runtime.spawn(async move {
            // Nobody listens any more only when this thread has ended.
            let _ = tell.send(resolver.resolve(&asked).await);
        });
        told.recv().unwrap_or_else(|_| Verdict::not_run(address))
    }

    /// What the resolver has done so far.
    pub fn counts(&self) -> Counts {
        self.inner.counts()
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting would not be allowed in an async task.
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn it_works_from_threads_and_from_async_tasks() {
        fn crosses<T: Send + Sync>() {}
        crosses::<Resolver>();
        let server = "127.0.0.1:9".parse().unwrap();
        let builder = crate::Resolver::builder(Arc::new(|| 0)).server(server);
        let resolver = Arc::new(Resolver::new(builder).unwrap());
        let address = Address::parse("alice@example.org").unwrap();
        let ask = || assert_eq!(resolver.resolve(&address).code(), "unknown");
        std::thread::scope(|scope| {
            scope.spawn(ask);
            scope.spawn(ask);
        });
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (moved, address) = (Arc::clone(&resolver), address.clone());
        drop(resolver);
        runtime.block_on(async move {
            assert_eq!(moved.resolve(&address).code(), "unknown");
            assert!(moved.counts().look_ups >= 1);
            drop(moved);
        });
    }
}
