//! What an answer is made from: the zones of one version, and how a worker comes by the newest ones.

use std::sync::Arc;

use certdir_directory::{Published, PublishedCache, Reader, Version};
use certdir_zones::{Name, Zone};
use tokio::sync::watch;

/// The hosted zones at one version.
pub trait Zones {
    /// The zone with the longest apex at or above `name` (wire form, lower case); `None` outside the hosted zones.
    fn zone_for(&self, name: &[u8]) -> Option<&Zone>;

    /// Another number for every other state of the zones. Zones that never change need none.
    fn revision(&self) -> u64 {
        0
    }

    /// Owners of records that may have changed since a revision, and names that came or went with them, some several
    /// times. `None`: any may have.
    fn changed_since(&self, _revision: u64) -> Option<Vec<&Name>> {
        None
    }
}

impl<T: Zones> Zones for Arc<T> {
    fn zone_for(&self, name: &[u8]) -> Option<&Zone> {
        T::zone_for(self, name)
    }

    fn revision(&self) -> u64 {
        T::revision(self)
    }

    fn changed_since(&self, revision: u64) -> Option<Vec<&Name>> {
        T::changed_since(self, revision)
    }
}

/// From where every worker takes its own [`Latest`].
pub trait View: Clone + Send + Sync + 'static {
    /// A worker's way to the zones.
    type Latest: Latest;

    /// One for a new worker.
    fn latest(&self) -> Self::Latest;

    /// Tells whenever there are other zones, for those who want to know of it (RFC 8765). Nobody ever does of zones that
    /// never change.
    fn changed(&self) -> watch::Receiver<Version> {
        watch::channel(0).1
    }
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

    fn revision(&self) -> u64 {
        Published::revision(self)
    }

    fn changed_since(&self, revision: u64) -> Option<Vec<&Name>> {
        Published::changed_since(self, revision)
    }
}

impl View for Reader {
    type Latest = PublishedCache;

    fn latest(&self) -> PublishedCache {
        self.cache()
    }

    fn changed(&self) -> watch::Receiver<Version> {
        Reader::changed(self)
    }
}

impl Latest for PublishedCache {
    type Zones = Arc<Published>;

    fn load(&mut self) -> Option<&Arc<Published>> {
        // Not ready, or too old to be true: an error in the directory, SERVFAIL here.
        PublishedCache::load(self).ok()
    }
}
