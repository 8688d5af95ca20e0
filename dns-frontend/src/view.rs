//! What an answer is made from: the zones of one version, and how a worker comes by the newest ones.

use std::sync::Arc;

use certdir_certificate::UnixTime;
use certdir_zones::Zone;

/// Tells the time, in seconds since 1970.
pub type Clock = Arc<dyn Fn() -> UnixTime + Send + Sync>;

/// The hosted zones at one version.
pub trait Zones {
    /// The zone with the longest apex at or above `name` (wire form, lower case); `None` outside the hosted zones.
    fn zone_for(&self, name: &[u8]) -> Option<&Zone>;
}

impl<T: Zones> Zones for Arc<T> {
    fn zone_for(&self, name: &[u8]) -> Option<&Zone> {
        T::zone_for(self, name)
    }
}

/// From where every worker takes its own [`Latest`].
pub trait View: Clone + Send + Sync + 'static {
    /// A worker's way to the zones.
    type Latest: Latest;

    /// One for a new worker.
    fn latest(&self) -> Self::Latest;
}

/// A worker's way to the newest zones; cheap enough to ask for every batch of requests.
pub trait Latest: Send + 'static {
    /// The zones of one version.
    type Zones: Zones;

    /// The newest zones, pinned until the next call. `None` while there are none or they are too old to be true:
    /// requests are then answered with SERVFAIL, never as if nothing existed.
    fn load(&mut self) -> Option<&Self::Zones>;
}
