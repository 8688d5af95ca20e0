//! Times as LDAP writes them, from seconds since 1970.

use certdir_certificate::Calendar;
use certdir_directory::{UnixTime, Version};

/// GeneralizedTime (RFC 4517 section 3.3.13): `20261122073831Z`.
pub(crate) fn generalized(time: UnixTime) -> String {
    format!("{}Z", Calendar::of(time).digits())
}

/// A change sequence number in the form every LDAP server understands: time, count, server, modification. Count and
/// modification together hold the Version, so that numbers of one second keep their order and the Version can be read.
pub(crate) fn csn(time: UnixTime, version: Version) -> String {
    format!(
        "{}.000000Z#{:06x}#000#{:06x}",
        Calendar::of(time).digits(),
        (version >> 24) & 0xff_ffff,
        version & 0xff_ffff
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values from GNU date.
    #[test]
    fn times_are_those_of_the_calendar() {
        for (time, want) in [
            (0, "19700101000000Z"),
            (951_782_400, "20000229000000Z"),
            (1_709_164_799, "20240228235959Z"),
            (1_795_333_111, "20261122073831Z"),
            (4_107_542_400, "21000301000000Z"),
            (-1, "19691231235959Z"),
        ] {
            assert_eq!(generalized(time), want, "{time}");
        }
    }

    #[test]
    fn csns_order_as_versions_do() {
        assert_eq!(csn(1_795_333_111, 42), "20261122073831.000000Z#000000#000#00002a");
        assert_eq!(csn(0, 0x0123_4567_89ab), "19700101000000.000000Z#012345#000#6789ab");
        assert!(csn(7, 0xff_ffff) < csn(7, 0x100_0000));
    }
}
