//! `UTCTime` and `GeneralizedTime` in the forms RFC 5280 allows, and the calendar behind them.

use crate::der::{Element, Problem, tag};

/// Seconds since 1970-01-01T00:00:00Z, without leap seconds; negative before.
pub type UnixTime = i64;

/// A `Time` (RFC 5280 section 4.1.2.5): always Zulu, always with seconds, never with fractions.
pub(crate) fn read(element: &Element<'_>) -> Result<UnixTime, Problem> {
    const BAD: Problem = "a time is not written as YYMMDDHHMMSSZ or YYYYMMDDHHMMSSZ";
    let (year, rest) = match (element.tag, element.value) {
        // RFC 5280 section 4.1.2.5.1: 50 to 99 are 1950 to 1999, 00 to 49 are 2000 to 2049.
        (tag::UTC_TIME, [y1, y2, rest @ ..]) => {
            let year = two_digits(*y1, *y2).ok_or(BAD)?;
            (if year >= 50 { 1900 + year } else { 2000 + year }, rest)
        }
        // RFC 5280 section 4.1.2.5.2.
        (tag::GENERALIZED_TIME, [y1, y2, y3, y4, rest @ ..]) => {
            (100 * two_digits(*y1, *y2).ok_or(BAD)? + two_digits(*y3, *y4).ok_or(BAD)?, rest)
        }
        _ => return Err(BAD),
    };
    let [m1, m2, d1, d2, h1, h2, min1, min2, s1, s2, b'Z'] = rest else {
        return Err(BAD);
    };
    let pair = |a: &u8, b: &u8| two_digits(*a, *b).ok_or(BAD);
    let (month, day) = (pair(m1, m2)?, pair(d1, d2)?);
    let (hour, minute, second) = (pair(h1, h2)?, pair(min1, min2)?, pair(s1, s2)?);
    if !(1..=12).contains(&month)
        || day < 1
        || day > days_in_month(year, month)
        || hour > 23
        || minute > 59
        || second > 59
    {
        return Err("a time does not exist in the calendar");
    }
    Ok(((days_since_1970(year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
}

/// A moment in the proleptic Gregorian calendar, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Calendar {
    /// The year; 0 is 1 BC.
    pub year: i64,
    /// 1 to 12.
    pub month: i64,
    /// 1 to 31.
    pub day: i64,
    /// 0 to 23.
    pub hour: i64,
    /// 0 to 59.
    pub minute: i64,
    /// 0 to 59.
    pub second: i64,
}

impl Calendar {
    /// The date and time of a moment.
    pub fn of(time: UnixTime) -> Calendar {
        let (days, seconds) = (time.div_euclid(86_400), time.rem_euclid(86_400));
        // Counted from 1 March of year 0, so that the leap day is a year's last; 400 years have 146 097 days.
        let shifted = days.saturating_add(719_468);
        let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        Calendar {
            year: era * 400 + year_of_era + i64::from(month <= 2),
            month,
            day: day_of_year - (153 * month_from_march + 2) / 5 + 1,
            hour: seconds / 3_600,
            minute: seconds / 60 % 60,
            second: seconds % 60,
        }
    }

    /// `20261122080000`: the digits that DNS and LDAP write.
    pub fn digits(&self) -> String {
        let Calendar { year, month, day, hour, minute, second } = self;
        format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}")
    }
}

/// RFC 3339 in UTC: `2026-11-22T08:00:00Z`.
impl std::fmt::Display for Calendar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Calendar { year, month, day, hour, minute, second } = self;
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

fn two_digits(tens: u8, ones: u8) -> Option<i64> {
    (tens.is_ascii_digit() && ones.is_ascii_digit()).then(|| i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if (year % 4 == 0 && year % 100 != 0) || year % 400 == 0 => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days in the proleptic Gregorian calendar, counted in years that begin with March, so that the leap day is the last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // 719 468 days lie between 0000-03-01 and 1970-01-01.
    365 * year + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::{Calendar, UnixTime};
    use crate::der::{self, tag};

    fn utc(text: &str) -> Result<i64, &'static str> {
        with_tag(tag::UTC_TIME, text)
    }

    fn general(text: &str) -> Result<i64, &'static str> {
        with_tag(tag::GENERALIZED_TIME, text)
    }

    fn with_tag(tag: u8, text: &str) -> Result<i64, &'static str> {
        let mut input = vec![tag, u8::try_from(text.len()).unwrap()];
        input.extend(text.bytes());
        super::read(&der::only(&input, tag).unwrap())
    }

    #[test]
    fn the_calendar_is_that_of_the_date_command() {
        // `date -u -d @SECONDS +%FT%TZ`
        for (time, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (1_795_334_400, "2026-11-22T08:00:00Z"),
            (4_294_967_295, "2106-02-07T06:28:15Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(Calendar::of(time).to_string(), expected);
        }
        assert_eq!(Calendar::of(1_795_334_400).digits(), "20261122080000");
        let _ = (Calendar::of(UnixTime::MIN), Calendar::of(UnixTime::MAX));
    }

    /// Expected values by `date -u -d … +%s`.
    #[test]
    fn times_are_those_of_the_date_command() {
        assert_eq!(utc("700101000000Z"), Ok(0));
        assert_eq!(utc("500101120000Z"), Ok(-631_108_800));
        assert_eq!(utc("491231235959Z"), Ok(2_524_607_999));
        assert_eq!(utc("000229000000Z"), Ok(951_782_400));
        assert_eq!(utc("261122073100Z"), Ok(1_795_332_660));
        assert_eq!(general("20500101000000Z"), Ok(2_524_608_000));
        assert_eq!(general("99991231235959Z"), Ok(253_402_300_799));
        assert_eq!(general("00000101000000Z"), Ok(-62_167_219_200));
        assert_eq!(general("19000301000000Z"), Ok(-2_203_891_200));
    }

    #[test]
    fn other_forms_are_refused() {
        for text in ["2611220731Z", "261122073100+0000", "261122073100", "261122073100z", "2611220731 0Z", ""] {
            assert!(utc(text).is_err(), "{text}");
        }
        for text in ["261122073100Z", "20261122073100.0Z", "20261122073100"] {
            assert!(general(text).is_err(), "{text}");
        }
        for text in ["261322000000Z", "260022000000Z", "260229000000Z", "260431000000Z", "260100000000Z"] {
            assert!(utc(text).is_err(), "{text}");
        }
        for text in ["260101240000Z", "260101006000Z", "260101000060Z"] {
            assert!(utc(text).is_err(), "{text}");
        }
        assert!(general("19000229000000Z").is_err());
        assert!(general("20000229000000Z").is_ok());
    }
}
