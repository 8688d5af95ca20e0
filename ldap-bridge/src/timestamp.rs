//! Times as LDAP writes them, from seconds since 1970. Pure arithmetic on the proleptic Gregorian calendar.

use certdir_directory::{UnixTime, Version};

/// GeneralizedTime (RFC 4517 section 3.3.13): `20261122073831Z`.
pub(crate) fn generalized(time: UnixTime) -> String {
    format!("{}Z", digits(time))
}

/// A change sequence number in the form every LDAP server understands: time, count, server, modification. Count and
/// modification together hold the Version, so that numbers of one second keep their order and the Version can be read.
pub(crate) fn csn(time: UnixTime, version: Version) -> String {
    format!("{}.000000Z#{:06x}#000#{:06x}", digits(time), (version >> 24) & 0xff_ffff, version & 0xff_ffff)
}

fn digits(time: UnixTime) -> String {
    let (days, second) = (time.div_euclid(86_400), time.rem_euclid(86_400));
    // Days are counted from 1 March of year 0, so that a leap day ends its year; 400 years have 146,097 of them.
    let shifted = days + 719_468;
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    format!("{year:04}{month:02}{day_of_month:02}{hour:02}{minute:02}{:02}", second % 60)
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
