//! From a message to a response: the one function behind every transport.
//!
//! Parse; see who asks; let [`crate::reply`] find the records; see that the response fits the transport and what its source
//! may have; finish with OPT and header. Everything is read from one pinned set of zones, so a response never mixes two
//! versions.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

use certdir_certificate::UnixTime;
use certdir_zones::Zone;

use crate::cookie::CookieState;
use crate::policy::{Policy, UdpCertificates};
use crate::proofs::{Denials, Unproven};
use crate::query_log::{self, QueryLog, Sampler};
use crate::rate::{Rates, Verdict};
use crate::reply::resolve;
use crate::request::{Edns, MAX_NAME, Rcode, parse};
use crate::response::{Explanation, Finished, Gate, MIN_RESPONSE, Opt, Response, Truncation};
use crate::view::Zones;

/// What a message came over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Datagrams. A response is as long as the client takes (512 octets without EDNS, RFC 6891 section 6.2.5), at most
    /// [`Policy::udp_payload`].
    Udp,
    /// TCP (RFC 7766).
    Tcp,
    /// TLS (RFC 7858).
    Tls,
    /// HTTPS (RFC 8484).
    Https,
    /// QUIC (RFC 9250).
    Quic,
}

impl Transport {
    /// Every transport.
    pub const ALL: [Transport; 5] = [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Https, Transport::Quic];

    /// Its name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "dot",
            Transport::Https => "doh",
            Transport::Quic => "doq",
        }
    }

    /// Whether the source is certain, and a response may have 65,535 octets.
    fn is_stream(self) -> bool {
        self != Transport::Udp
    }

    fn is_encrypted(self) -> bool {
        matches!(self, Transport::Tls | Transport::Https | Transport::Quic)
    }
}

/// Who asks, and over what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// What the message came over.
    pub transport: Transport,
    /// Where it came from.
    pub source: IpAddr,
    /// How long the connection may be idle, in units of 100 milliseconds: told to clients that ask (RFC 7828). `None` on
    /// transports without that option.
    pub keepalive: Option<u16>,
}

impl Asker {
    /// An asker who is told nothing about idle connections.
    pub fn new(transport: Transport, source: IpAddr) -> Asker {
        Asker { transport, source, keepalive: None }
    }
}

/// What a worker keeps from one request to the next: its limits, room for a name, and proofs signed earlier.
#[derive(Debug)]
pub struct Scratch {
    policy: Policy,
    name: [u8; MAX_NAME],
    denials: Denials,
    /// Made for the first UDP request.
    rates: Option<Rates>,
    /// Rate limiting dropped a response since somebody looked.
    dropped: bool,
    sampler: Sampler,
}

impl Scratch {
    /// For a worker with these limits.
    pub fn new(policy: Policy) -> Scratch {
        let denials = Denials::new(policy.signatures_per_second, policy.proofs);
        Scratch { policy, name: [0; MAX_NAME], denials, rates: None, dropped: false, sampler: Sampler::default() }
    }

    /// Whether a denial could be signed for this source now: a question that waits for that need not be answered before.
    pub(crate) fn may_sign(&mut self, source: IpAddr, now: UnixTime) -> bool {
        self.denials.may_sign(source, now)
    }

    /// Whether rate limiting dropped a response since this was asked last.
    pub(crate) fn take_dropped(&mut self) -> bool {
        std::mem::take(&mut self.dropped)
    }
}

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch::new(Policy::default())
    }
}

/// Answers one message: the response is the first [`Finished::length`] octets of `out`. `None` for what gets no answer:
/// runts, responses, and what rate limiting drops. Without zones (none are ready, or they are too old) the answer is
/// SERVFAIL. `now` decides how long signatures and cookies still last. `out` has room for the longest response of the
/// transport, at least 512 octets.
pub fn answer<Z: Zones>(
    zones: Option<&Z>,
    message: &[u8],
    asker: &Asker,
    now: UnixTime,
    scratch: &mut Scratch,
    out: &mut [u8],
) -> Option<Finished> {
    let request = parse(message)?;
    let Scratch { policy, name, denials, rates, dropped, sampler } = scratch;
    let &Asker { transport, source, .. } = asker;
    denials.asked_by(source);
    let (state, cookie) = match (&policy.cookies, request.edns.and_then(|edns| edns.cookie)) {
        (Some(secret), Some(option)) => {
            let (state, cookie) = secret.check(option, source, now);
            (state, Some(cookie))
        }
        _ => (CookieState::None, None),
    };
    let verified = transport.is_stream() || state == CookieState::Valid;
    let large = verified || policy.udp_certificates == UdpCertificates::Always;
    let rates = if verified || policy.responses_per_second == 0 {
        None
    } else {
        Some(rates.get_or_insert_with(|| {
            let seed = [RandomState::new().hash_one(0), RandomState::new().hash_one(1)];
            Rates::new(policy.responses_per_second, policy.slip, seed)
        }))
    };
    let opt = request.edns.map(|edns| Opt {
        payload: policy.udp_payload,
        dnssec_ok: edns.dnssec_ok,
        cookie,
        keepalive: asker.keepalive.filter(|_| edns.keepalive),
        // RFC 7830 section 6: only where nobody can see the length of the message behind the padding.
        padded: edns.padding && transport.is_encrypted(),
    });
    let room = room(transport, policy, request.edns).min(out.len());
    let gate = Gate::new(large, rates, source, now);
    let mut response = Response::new(out.get_mut(..room)?, &request, opt, gate);
    let mut later = false;
    let mut rcode = match request.fault {
        Some(fault) => fault,
        // RFC 7873 section 5.4: no question, only a cookie to be learned or checked.
        None if request.question.is_empty() => match state {
            CookieState::Invalid => Rcode::BADCOOKIE,
            CookieState::None => Rcode::FORMERR,
            CookieState::ClientOnly | CookieState::Valid => Rcode::NOERROR,
        },
        None => match resolve(zones, &request, now, name, denials, &mut response) {
            Ok(rcode) => rcode,
            Err(Unproven::Budget) if !transport.is_stream() => {
                response.cut(Truncation::Budget);
                Rcode::NOERROR
            }
            Err(Unproven::Budget) => {
                response.explain(Explanation::Other);
                later = true;
                Rcode::SERVFAIL
            }
            Err(Unproven::Failed) => Rcode::SERVFAIL,
        },
    };
    // A stream has no way out of a response that is too long: publication refuses RRsets that would need one.
    if rcode == Rcode::SERVFAIL || transport.is_stream() && !response.fits() {
        response.clear();
        rcode = Rcode::SERVFAIL;
    }
    match response.verdict(rcode) {
        Verdict::Pass => {}
        Verdict::Slip => rcode = Rcode::NOERROR,
        Verdict::Drop => {
            *dropped = true;
            return None;
        }
    }
    let (signed, reused) = denials.take_counts();
    let finished = Finished { cookie: state, later, signed, reused, ..response.finish(&request, rcode) };
    if let Some(QueryLog { sample, full }) = policy.query_log
        && !later
        && sampler.takes(sample, now)
    {
        let lower = name.get_mut(..request.name.len()).unwrap_or_default();
        lower.copy_from_slice(request.name);
        lower.make_ascii_lowercase();
        let apex = zones.and_then(|zones| zones.zone_for(lower)).map(Zone::apex);
        query_log::write(full, asker, request.name, apex, &finished);
    }
    Some(finished)
}

/// Octets that a response may have.
fn room(transport: Transport, policy: &Policy, edns: Option<Edns<'_>>) -> usize {
    match edns {
        _ if transport.is_stream() => usize::from(u16::MAX),
        None => MIN_RESPONSE,
        // RFC 6891 section 6.2.3: values below 512 count as 512.
        Some(edns) => usize::from(edns.payload.min(policy.udp_payload)).max(MIN_RESPONSE),
    }
}
