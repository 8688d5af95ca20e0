//! How much one source may get: response rate limiting for UDP, whose sources may be forged.
//!
//! Answers are counted for every clock second by the source's network and the kind of answer. Which name was asked for does
//! not count: a victim gets no more because its attacker knows many names. The table is fixed: networks whose hashes meet
//! share a count, which costs a real client a round trip at most. The hash is keyed by chance.

use std::hash::Hasher;
use std::net::IpAddr;

use certdir_certificate::UnixTime;
use siphasher::sip::SipHasher13;

/// Counts in the table: half a MiB for each worker.
const COUNTS: usize = 65_536;

/// What a response is made of, as far as forged requests go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Records that were asked for.
    Positive,
    /// A denial, with its proof.
    Denial,
    /// A response code and nothing else.
    Error,
    /// An empty response with TC set instead of certificates.
    Withheld,
}

/// What becomes of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is sent.
    Pass,
    /// An empty response with TC set is sent: a real client comes again over TCP.
    Slip,
    /// Nothing is sent.
    Drop,
}

/// The counts of one worker.
#[derive(Debug)]
pub(crate) struct Rates {
    counts: Box<[Count]>,
    seed: SipHasher13,
    per_second: u32,
    slip: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    /// The second that is counted, modulo 2^32.
    second: u32,
    responses: u32,
}

impl Rates {
    /// At most `per_second` responses of each kind to each network; of those above, every `slip`-th goes out as an empty
    /// one with TC set (0: none of them). `seed` is not to be guessed: who knows it can make networks share a count.
    pub(crate) fn new(per_second: u32, slip: u32, seed: [u64; 2]) -> Rates {
        let [seed0, seed1] = seed;
        let seed = SipHasher13::new_with_keys(seed0, seed1);
        Rates { counts: vec![Count::default(); COUNTS].into(), seed, per_second, slip }
    }

    /// Counts a response.
    pub(crate) fn take(&mut self, source: IpAddr, kind: Kind, now: UnixTime) -> Verdict {
        let mut hasher = self.seed;
        hasher.write_u64(network(source));
        hasher.write_u8(kind as u8);
        let Some(count) = self.counts.get_mut(hasher.finish() as usize % COUNTS) else {
            return Verdict::Pass;
        };
        let second = now as u32;
        if count.second != second {
            *count = Count { second, responses: 0 };
        }
        count.responses = count.responses.saturating_add(1);
        match count.responses.checked_sub(self.per_second) {
            None | Some(0) => Verdict::Pass,
            Some(above) if self.slip > 0 && above % self.slip == 0 => Verdict::Slip,
            Some(_) => Verdict::Drop,
        }
    }
}

/// The network that is held responsible: an IPv4 /24, because whole networks forge and suffer, or an IPv6
/// [source](certdir_directory::network), a /56.
pub(crate) fn network(source: IpAddr) -> u64 {
    match certdir_directory::network(source) {
        IpAddr::V4(ip) => u64::from(ip.to_bits() >> 8) | 1 << 63,
        IpAddr::V6(ip) => (ip.to_bits() >> 72) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = 1_700_000_000;
    const SEED: [u64; 2] = [1, 2];

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn take(rates: &mut Rates, count: usize, source: &str, now: UnixTime) -> [usize; 3] {
        let mut verdicts = [0; 3];
        for _ in 0..count {
            verdicts[rates.take(ip(source), Kind::Denial, now) as usize] += 1;
        }
        verdicts
    }

    #[test]
    fn a_network_gets_its_rate_every_second() {
        let mut rates = Rates::new(5, 1, SEED);
        assert_eq!(take(&mut rates, 8, "192.0.2.1", NOW), [5, 3, 0]);
        assert_eq!(take(&mut rates, 8, "192.0.2.255", NOW), [0, 8, 0], "one network");
        assert_eq!(rates.take(ip("192.0.2.1"), Kind::Positive, NOW), Verdict::Pass, "another kind");
        assert_eq!(take(&mut rates, 8, "192.0.3.1", NOW), [5, 3, 0], "another network");
        assert_eq!(take(&mut rates, 8, "2001:db8:0:1::1", NOW), [5, 3, 0]);
        assert_eq!(take(&mut rates, 8, "2001:db8:0:ff::1", NOW), [0, 8, 0], "one /56");
        assert_eq!(take(&mut rates, 8, "2001:db8:0:100::1", NOW), [5, 3, 0], "another /56");
        assert_eq!(take(&mut rates, 8, "192.0.2.1", NOW + 1), [5, 3, 0]);
        // A clock that was set back is no reason to stop.
        assert_eq!(take(&mut rates, 8, "192.0.2.1", NOW - 100), [5, 3, 0]);
    }

    #[test]
    fn slip_says_how_many_are_dropped() {
        assert_eq!(take(&mut Rates::new(5, 2, SEED), 15, "192.0.2.1", NOW), [5, 5, 5]);
        assert_eq!(take(&mut Rates::new(5, 5, SEED), 15, "192.0.2.1", NOW), [5, 2, 8]);
        assert_eq!(take(&mut Rates::new(5, 0, SEED), 15, "192.0.2.1", NOW), [5, 0, 10]);
    }

    #[test]
    fn a_flood_of_forged_sources_takes_no_memory() {
        let mut rates = Rates::new(5, 1, SEED);
        for source in 0..300_000u32 {
            rates.take(IpAddr::V4((source << 8).into()), Kind::Denial, NOW);
        }
        assert_eq!(rates.counts.len(), COUNTS);
    }
}
