//! What a command prints: lines for people, or a JSON document a line.

use std::io::{self, Write};

use certdir_certificate::Calendar;
use certdir_directory::UnixTime;
use serde::Serialize;

use crate::error::Error;

/// Standard output. A closed pipe ends a command quietly, never with a panic.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    pub(crate) json: bool,
}

impl Output {
    /// A line for people; nothing where JSON was asked for.
    pub(crate) fn line(self, text: impl AsRef<str>) -> Result<(), Error> {
        if !self.json {
            self.always(text)?;
        }
        Ok(())
    }

    /// A line whatever was asked for.
    pub(crate) fn always(self, text: impl AsRef<str>) -> Result<(), Error> {
        let mut out = io::stdout().lock();
        writeln!(out, "{}", text.as_ref())?;
        Ok(out.flush()?)
    }

    /// A JSON document where JSON was asked for.
    pub(crate) fn document(self, document: &impl Serialize) -> Result<(), Error> {
        if self.json {
            self.always(serde_json::to_string(document).map_err(io::Error::other)?)?;
        }
        Ok(())
    }
}

/// A moment for people, in UTC.
pub(crate) fn date(at: UnixTime) -> String {
    Calendar::of(at).to_string()
}

/// The first half of a digest's hexadecimal: enough to tell certificates apart.
pub(crate) fn short(sha256: &str) -> &str {
    sha256.get(..16).unwrap_or(sha256)
}
