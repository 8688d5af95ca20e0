//! Gets what a batch of requests is going to read out of memory, for all of them at once.
//!
//! In a large zone a hit waits for memory several times, each time for an address that the one before has brought:
//! bucket, node, then name, signature and certificate. Here every step is made for the whole batch before the next, so that
//! the processor waits for many at a time instead of one after another. Nothing is decided: without this, all answers are the
//! same and a fifth slower.

use std::hint::black_box;

use certdir_zones::Zone;

use crate::request::{HEADER, MAX_NAME, name_length};
use crate::view::Zones;

/// Requests at a time: what they read has to fit into the processor's second-level cache.
pub(crate) const BATCH: usize = 32;
/// Octets that the memory delivers at once.
const LINE: usize = 64;

/// Touches what the answers to these requests are likely to read. A single request gains nothing.
pub(crate) fn warm<'m, Z: Zones>(zones: &Z, requests: impl Iterator<Item = &'m [u8]>) {
    let mut hashed = [None; BATCH];
    let mut zone = None;
    for (place, request) in hashed.iter_mut().zip(requests) {
        *place = hash(zones, request, &mut zone);
    }
    if hashed.iter().flatten().nth(1).is_none() {
        return;
    }
    let nodes = hashed.map(|hashed: Option<(&Zone, u64)>| hashed.and_then(|(zone, hash)| zone.likely(hash)));
    let octets = nodes.map(|found| match found {
        Some((name, node)) => match node.rrsets().first() {
            Some(signed) => [name.as_wire(), &signed.rrsig, signed.rrset.rdata().first().map_or(&[], |rdata| &**rdata)],
            None => [name.as_wire(), &[], &[]],
        },
        None => [&[][..]; 3],
    });
    let lines = octets.iter().flatten().flat_map(|octets| octets.chunks(LINE));
    black_box(lines.fold(0, |sum, line| sum ^ line.first().copied().unwrap_or_default()));
}

/// The zone and the hash of the name in a request. The zone is most often that of the request before.
fn hash<'z, Z: Zones>(zones: &'z Z, request: &[u8], zone: &mut Option<&'z Zone>) -> Option<(&'z Zone, u64)> {
    let octets = request.get(HEADER..)?;
    let mut buffer = [0; MAX_NAME];
    let name = buffer.get_mut(..name_length(octets)?)?;
    name.copy_from_slice(octets.get(..name.len())?);
    name.make_ascii_lowercase();
    if !zone.is_some_and(|zone| name.ends_with(zone.apex().as_wire())) {
        *zone = zones.zone_for(name);
    }
    zone.map(|zone| (zone, zone.hash(name)))
}
