//! What an answer is made from: the zones of one version, and how a worker comes by the newest ones.

use std::sync::Arc;

use certdir_directory::{Published, PublishedCache, Reader};
use certdir_zones::Zone;

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

impl Zones for Published {
    fn zone_for(&self, name: &[u8]) -> Option<&Zone> {
        Published::zone_for(self, name)
    }
}

impl View for Reader {
    type Latest = PublishedCache;

    fn latest(&self) -> PublishedCache {
        self.cache()
    }
}

impl Latest for PublishedCache {
    type Zones = Arc<Published>;

    fn load(&mut self) -> Option<&Arc<Published>> {
        // Not ready, or too old to be true: an error in the directory, SERVFAIL here.
        PublishedCache::load(self).ok()
    }
}
