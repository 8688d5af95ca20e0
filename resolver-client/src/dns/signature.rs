//! When a signature is valid, by the look-up's own time.

use certdir_certificate::UnixTime;
use hickory_resolver::proto::dnssec::rdata::RRSIG;

/// The part of a signature's validity that lies after now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    /// The first second after the signature's expiration.
    pub(crate) end: UnixTime,
}

impl Validity {
    /// `None` when the signature is not valid at `now`: RFC 4034 section 3.1.5, both ends inclusive, compared in
    /// serial-number arithmetic (RFC 1982).
    pub(crate) fn of(signature: &RRSIG, now: UnixTime) -> Option<Validity> {
        let input = signature.input();
        Self::between(input.sig_inception.get(), input.sig_expiration.get(), now)
    }

    fn between(inception: u32, expiration: u32, now: UnixTime) -> Option<Validity> {
        let (since, left) = (near(inception, now), near(expiration, now));
        (since <= 0 && left >= 0).then(|| Validity { end: now.saturating_add(left).saturating_add(1) })
    }
}

/// The distance from `now` to the moment that `time` names, which lies within 68 years of it.
fn near(time: u32, now: UnixTime) -> i64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "RFC 1982: only the low 32 bits count")]
    let low = now as u32;
    #[expect(clippy::cast_possible_wrap, reason = "RFC 1982: the difference is signed")]
    let distance = time.wrapping_sub(low) as i32;
    distance.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_are_inclusive() {
        assert_eq!(Validity::between(100, 200, 99), None);
        assert_eq!(Validity::between(100, 200, 100), Some(Validity { end: 201 }));
        assert_eq!(Validity::between(100, 200, 200), Some(Validity { end: 201 }));
        assert_eq!(Validity::between(100, 200, 201), None);
    }

    #[test]
    fn times_go_on_after_2106() {
        let wrap = 1_i64 << 32;
        let (inception, expiration) = (u32::MAX - 9, 10);
        assert_eq!(Validity::between(inception, expiration, wrap - 11), None);
        assert_eq!(Validity::between(inception, expiration, wrap - 10), Some(Validity { end: wrap + 11 }));
        assert_eq!(Validity::between(inception, expiration, wrap + 10), Some(Validity { end: wrap + 11 }));
        assert_eq!(Validity::between(inception, expiration, wrap + 11), None);
    }
}
