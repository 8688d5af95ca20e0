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
        if self.json {
            writeln!(out, "{}", text.as_ref())?;
        } else {
            writeln!(out, "{}", plain(text.as_ref()))?;
        }
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

/// Text for a terminal: what would steer it, or hide or reorder what is shown, is written as an escape. File names, subjects
/// and addresses come from others.
pub(crate) fn plain(text: &str) -> String {
    let hides = |c: char| {
        (c.is_control() && c != '\n' && c != '\t')
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    text.chars().map(|c| if hides(c) { c.escape_unicode().to_string() } else { c.to_string() }).collect()
}

/// A moment for people, in UTC.
pub(crate) fn date(at: UnixTime) -> String {
    Calendar::of(at).to_string()
}

/// The first half of a digest's hexadecimal: enough to tell certificates apart.
pub(crate) fn short(sha256: &str) -> &str {
    sha256.get(..16).unwrap_or(sha256)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_escaped() {
        assert_eq!(plain("a\tzoë\n"), "a\tzoë\n");
        assert_eq!(plain("a\u{1b}[31mb\r\u{202e}"), "a\\u{1b}[31mb\\u{d}\\u{202e}");
    }
}
