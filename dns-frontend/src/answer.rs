//! From a message to a response: the one function behind every transport.
//!
//! Parse; let [`crate::reply`] find the records; see that the response fits the transport; finish with OPT and header.
//! Everything is read from one pinned set of zones, so a response never mixes two versions.

use certdir_certificate::UnixTime;

use crate::proofs::Denials;
use crate::reply::resolve;
use crate::request::{Edns, MAX_NAME, Rcode, parse};
use crate::response::{Finished, MIN_RESPONSE, Response};
use crate::view::Zones;

/// What the transport says about the size of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// One datagram: as long as the client takes (512 octets without EDNS, RFC 6891 section 6.2.5), at most `payload`.
    Udp {
        /// Longest response in octets, also announced in OPT.
        payload: u16,
    },
    /// A stream: up to 65,535 octets.
    Stream {
        /// What is announced in OPT: the longest response over UDP.
        payload: u16,
    },
}

impl Transport {
    fn payload(self) -> u16 {
        match self {
            Transport::Udp { payload } | Transport::Stream { payload } => payload,
        }
    }

    /// Octets that a response may have.
    fn room(self, edns: Option<Edns>) -> usize {
        match (self, edns) {
            (Transport::Stream { .. }, _) => usize::from(u16::MAX),
            (Transport::Udp { .. }, None) => MIN_RESPONSE,
            // RFC 6891 section 6.2.3: values below 512 count as 512.
            (Transport::Udp { payload }, Some(edns)) => usize::from(edns.payload.min(payload)).max(MIN_RESPONSE),
        }
    }
}

/// What a worker keeps from one request to the next: room for a name, and proofs signed earlier.
#[derive(Debug)]
pub struct Scratch {
    pub(crate) name: [u8; MAX_NAME],
    pub(crate) denials: Denials,
}

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch { name: [0; MAX_NAME], denials: Denials::default() }
    }
}

/// Answers one message: the response is the first [`Finished::length`] octets of `out`. `None` for what gets no answer:
/// runts and responses. Without zones (none are ready, or they are too old) the answer is SERVFAIL. `now` decides how
/// long signatures still last. `out` has room for the longest response of the transport, at least 512 octets.
pub fn answer<Z: Zones>(
    zones: Option<&Z>,
    message: &[u8],
    transport: Transport,
    now: UnixTime,
    scratch: &mut Scratch,
    out: &mut [u8],
) -> Option<Finished> {
    let request = parse(message)?;
    let room = transport.room(request.edns).min(out.len());
    let mut response = Response::new(out.get_mut(..room)?, &request);
    let mut rcode = match request.fault {
        Some(fault) => fault,
        None => resolve(zones, &request, now, scratch, &mut response),
    };
    // A stream has no way out of a response that is too long: publication refuses RRsets that would need one.
    if rcode == Rcode::SERVFAIL || matches!(transport, Transport::Stream { .. }) && !response.fits(request.edns) {
        response.clear();
        rcode = Rcode::SERVFAIL;
    }
    Some(response.finish(&request, rcode, transport.payload()))
}
