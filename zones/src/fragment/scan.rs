//! A master file as entries of words (RFC 1035 section 5.1): quotes, escapes, comments, parentheses. What the words mean
//! is nobody's business here; escapes stay as they are written.

use super::Fault;

/// A word, or a quoted string without its quotes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Word<'a> {
    pub(super) text: &'a str,
    pub(super) line: usize,
    pub(super) quoted: bool,
}

/// One record or directive: what stands on a line, or between parentheses on several.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) line: usize,
    /// The line begins with white space: the owner is that of the record before.
    pub(super) indented: bool,
    pub(super) words: Vec<Word<'a>>,
}

pub(super) struct Scanner<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Scanner<'a> {
        Scanner { rest: text, line: 1 }
    }

    /// The next entry that has a word; none at the end. After a fault the scanner stands on the next line.
    pub(super) fn entry(&mut self) -> Option<Result<Entry<'a>, Fault>> {
        loop {
            if self.rest.is_empty() {
                return None;
            }
            let indented = self.rest.starts_with([' ', '\t']);
            let mut entry = Entry { line: self.line, indented, words: Vec::new() };
            match self.words(&mut entry.words) {
                Err(fault) => {
                    self.skip_line();
                    return Some(Err(fault));
                }
                Ok(()) if entry.words.is_empty() => {}
                Ok(()) => {
                    // Parentheses may open before the first word.
                    entry.line = entry.words.first().map_or(entry.line, |word| word.line);
                    return Some(Ok(entry));
                }
            }
        }
    }

    /// Reads up to the end of the line on which no parenthesis is open.
    fn words(&mut self, words: &mut Vec<Word<'a>>) -> Result<(), Fault> {
        let mut open = None;
        while let Some(c) = self.rest.chars().next() {
            match c {
                '\n' => {
                    self.advance(1);
                    self.line += 1;
                    if open.is_none() {
                        return Ok(());
                    }
                }
                ' ' | '\t' => self.advance(1),
                '\r' if self.rest.starts_with("\r\n") => self.advance(1),
                ';' => self.advance(self.rest.find('\n').unwrap_or(self.rest.len())),
                '(' if open.is_some() => return Err(self.fault("a parenthesis within parentheses")),
                '(' => {
                    open = Some(self.line);
                    self.advance(1);
                }
                ')' if open.is_none() => return Err(self.fault("a parenthesis is closed that was not opened")),
                ')' => {
                    open = None;
                    self.advance(1);
                }
                '"' => words.push(self.quoted()?),
                _ => words.push(self.word()?),
            }
        }
        match open {
            Some(line) => Err(Fault { line, reason: "the parenthesis is not closed".into() }),
            None => Ok(()),
        }
    }

    fn quoted(&mut self) -> Result<Word<'a>, Fault> {
        self.advance(1);
        let length = self.length(|c| c == '"')?;
        let text = self.rest.get(..length).unwrap_or_default();
        if !self.rest.get(length..).is_some_and(|rest| rest.starts_with('"')) {
            return Err(self.fault("a quoted string is not closed on its line"));
        }
        self.advance(length + 1);
        if self.rest.starts_with(|c: char| !is_separator(c)) {
            return Err(self.fault("a quoted string is followed by something without a space between"));
        }
        Ok(Word { text, line: self.line, quoted: true })
    }

    fn word(&mut self) -> Result<Word<'a>, Fault> {
        let length = self.length(|c| is_separator(c) || c == '"')?;
        let text = self.rest.get(..length).unwrap_or_default();
        self.advance(length);
        Ok(Word { text, line: self.line, quoted: false })
    }

    /// Octets up to a character that ends the text, or the end of the line; a backslash takes the character behind it along.
    fn length(&self, ends: impl Fn(char) -> bool) -> Result<usize, Fault> {
        let mut escaped = false;
        for (at, c) in self.rest.char_indices() {
            if c == '\n' || self.rest.get(at..).is_some_and(|rest| rest.starts_with("\r\n")) {
                return if escaped { Err(self.fault("a backslash stands at the end of a line")) } else { Ok(at) };
            }
            if !(c == '\t' || c == ' ' || c.is_ascii_graphic()) {
                let reason =
                    "a character that is not printable ASCII: write its octets as \\DDD, host names as A-labels";
                return Err(self.fault(reason));
            }
            if escaped {
                escaped = false;
            } else if c == '\\' {
                escaped = true;
            } else if ends(c) {
                return Ok(at);
            }
        }
        if escaped { Err(self.fault("a backslash stands at the end of a line")) } else { Ok(self.rest.len()) }
    }

    fn advance(&mut self, octets: usize) {
        self.rest = self.rest.get(octets..).unwrap_or_default();
    }

    fn skip_line(&mut self) {
        match self.rest.find('\n') {
            Some(end) => {
                self.advance(end + 1);
                self.line += 1;
            }
            None => self.rest = "",
        }
    }

    fn fault(&self, reason: &str) -> Fault {
        Fault { line: self.line, reason: reason.into() }
    }
}

fn is_separator(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | ';' | '(' | ')')
}
