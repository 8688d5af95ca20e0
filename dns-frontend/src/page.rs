//! [`Page`]: the responses of a connection that leave in one write.

use certdir_certificate::UnixTime;

use crate::answer::{Asker, Scratch, answer};
use crate::counters::Tally;
use crate::response::Finished;
use crate::view::Zones;

/// Responses are written as soon as this many octets are waiting, or no complete request is left. With the longest
/// message on top it bounds what a slow reader costs.
pub(crate) const WAITING_RESPONSES: usize = 64 * 1024;
/// Octets of the length in front of every message (RFC 1035 section 4.2.2).
pub(crate) const LENGTH: usize = 2;

/// Responses that leave together.
pub(crate) struct Page<'d, Z> {
    pub(crate) zones: Option<&'d Z>,
    pub(crate) now: UnixTime,
    pub(crate) scratch: &'d mut Scratch,
    pub(crate) tally: &'d Tally,
    pub(crate) out: &'d mut [u8],
    pub(crate) written: usize,
    pub(crate) responses: usize,
}

impl<Z: Zones> Page<'_, Z> {
    /// Adds the response to one message, with its length in front. One that is to come later ([`Finished::later`]) is
    /// not added when there is a `place` to wait for it.
    pub(crate) fn put<P>(&mut self, asker: &Asker, request: &[u8], place: impl FnOnce() -> Option<P>) -> Put<P> {
        let room = self.out.get_mut(self.written..).and_then(<[u8]>::split_first_chunk_mut::<LENGTH>);
        let Some((length, room)) = room else {
            return Put::Nothing;
        };
        let finished = answer(self.zones, request, asker, self.now, self.scratch, room);
        if finished.is_some_and(|finished| finished.later)
            && let Some(place) = place()
        {
            return Put::Later(place);
        }
        let Some(finished) = finished else {
            self.tally.ignored();
            return Put::Nothing;
        };
        self.tally.request(finished);
        // At most MAX_MESSAGE.
        *length = (finished.length as u16).to_be_bytes();
        self.written += LENGTH + finished.length;
        self.responses += 1;
        Put::Added(finished)
    }

    /// Adds a message that is complete, with its length in front.
    pub(crate) fn put_message(&mut self, message: &[u8]) {
        let room = self.out.get_mut(self.written..self.written + LENGTH + message.len());
        let Some((length, room)) = room.and_then(<[u8]>::split_first_chunk_mut::<LENGTH>) else {
            return;
        };
        // At most dso::MAX_PUSH.
        *length = (message.len() as u16).to_be_bytes();
        room.copy_from_slice(message);
        self.written += LENGTH + message.len();
    }

    pub(crate) fn is_full(&self) -> bool {
        self.written >= WAITING_RESPONSES
    }
}

/// What became of a message.
pub(crate) enum Put<P> {
    /// Its response is on the page.
    Added(Finished),
    /// Its response has to wait, in this place.
    Later(P),
    /// It gets none.
    Nothing,
}
