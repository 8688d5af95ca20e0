//! Server-sent events, as far as the change feed uses them.

use super::MAX_ANSWER;
use crate::outcome::Failure;

/// One server-sent event.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Dispatched {
    pub(super) kind: String,
    pub(super) data: String,
    pub(super) id: Option<String>,
}

/// The lines of an event stream (HTML Living Standard, section 9.2.6), as far as this feed uses them.
#[derive(Default)]
pub(super) struct Parser {
    buffer: Vec<u8>,
    event: Dispatched,
}

impl Parser {
    /// The events that `piece` completes. An `id` without data is one, too: it moves the cursor.
    pub(super) fn feed(&mut self, piece: &[u8]) -> Result<Vec<Dispatched>, Failure> {
        let mut events = Vec::new();
        for &octet in piece {
            if octet != b'\n' {
                if self.buffer.len() + self.event.data.len() >= MAX_ANSWER {
                    return Err(Failure::new("too-large", "an event of the feed is too long"));
                }
                self.buffer.push(octet);
                continue;
            }
            let line = String::from_utf8_lossy(&self.buffer).into_owned();
            self.buffer.clear();
            self.line(line.trim_end_matches('\r'), &mut events);
        }
        Ok(events)
    }

    fn line(&mut self, line: &str, events: &mut Vec<Dispatched>) {
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            if event != Dispatched::default() {
                events.push(event);
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event.kind),
            "data" => {
                if !self.event.data.is_empty() {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            // A cursor with another form than any of ours is not sent back.
            "id" if value.len() <= 256 && value.bytes().all(|octet| octet.is_ascii_graphic()) => {
                self.event.id = Some(value.to_owned());
            }
            // A comment, `retry`, or nothing that is known here.
            _ => {}
        }
    }
}
