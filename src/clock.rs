//! The clock: the one place that reads it. Everything else takes the time as an argument.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use certdir_directory::{Clock, UnixTime};

use crate::error::Error;

/// Seconds since 1970 by the system's clock.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock for the rest")]
pub(crate) fn now() -> UnixTime {
    // A clock before 1970 is as good as 1970: nothing is valid then.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// The clock as a value, for those who look at it later.
pub(crate) fn clock() -> Clock {
    Arc::new(now)
}

/// The same as rcgen takes it.
pub(crate) fn date(at: UnixTime) -> Result<time::OffsetDateTime, Error> {
    time::OffsetDateTime::from_unix_timestamp(at)
        .map_err(|error| Error::Usage(format!("the system's clock is wrong: {error}")))
}
