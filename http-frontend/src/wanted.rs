//! [`Wanted`]: what a subscriber wants to hear of, and what of a page of changes that is. [`Names`] is the list of a stranger.

use std::collections::BTreeSet;

use certdir_directory::changes::smimea_domain;
use certdir_directory::{Address, Authority, Change, Cursor, DomainName, Published, Version};
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::feed::Page;
use crate::json::time_text;

/// The most names of one subscription.
pub(crate) const MAX_NAMES: usize = 16_384;

/// The longest name: a mail address of RFC 5321 section 4.5.3.1, with room for quoting.
const MAX_NAME: usize = 512;

/// What a subscriber wants to hear of.
pub(crate) enum Wanted {
    /// The log of what a token may read.
    Log {
        authority: Authority,
        /// Of these domains, if any are given.
        domains: BTreeSet<DomainName>,
        /// Of these mailboxes in lower case, if any are given, and what concerns their domains.
        addresses: BTreeSet<String>,
    },
    /// Which of these names to ask for again.
    Names(Names),
}

/// Mail addresses and SMIMEA owner names that a subscriber follows.
#[derive(Debug)]
pub struct Names {
    /// Each in the form in which it is looked for, and as it was given if that differs; sorted.
    all: Vec<(Box<str>, Option<Box<str>>)>,
    domains: BTreeSet<DomainName>,
}

/// The body of a subscription.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    #[serde(borrow)]
    names: List<'a>,
}

/// A list that stops where it is too long, before it is kept.
struct List<'a>(Vec<std::borrow::Cow<'a, str>>);

impl<'de: 'a, 'a> Deserialize<'de> for List<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<List<'a>, D::Error> {
        struct Reading;
        impl<'de> Visitor<'de> for Reading {
            type Value = List<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "a list of mail addresses and SMIMEA owner names")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<List<'de>, A::Error> {
                let mut names = Vec::new();
                while let Some(Name(name)) = list.next_element()? {
                    if names.len() >= MAX_NAMES {
                        return Err(A::Error::custom(format!("more than {MAX_NAMES} names; subscribe twice")));
                    }
                    names.push(name);
                }
                Ok(List(names))
            }
        }
        deserializer.deserialize_seq(Reading)
    }
}

/// Text that is borrowed where JSON has it as it is.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] std::borrow::Cow<'a, str>);

impl Names {
    /// Reads the body of a subscription. Errors: a sentence that says what is wrong, for whoever wrote it.
    pub fn read(body: &[u8]) -> Result<Names, String> {
        let body: Body = serde_json::from_slice(body).map_err(|error| format!("the body cannot be read: {error}"))?;
        if body.names.0.is_empty() {
            return Err("the list has no name".into());
        }
        let mut all = Vec::with_capacity(body.names.0.len());
        let mut domains = BTreeSet::new();
        for (n, given) in body.names.0.iter().enumerate() {
            let (key, domain) = key(given)
                .ok_or_else(|| format!("name {} is neither a mail address nor an SMIMEA owner name", n + 1))?;
            domains.insert(domain);
            let given = (*key != **given).then(|| Box::from(&**given));
            all.push((key, given));
        }
        all.sort_unstable();
        all.dedup();
        Ok(Names { all, domains })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none; a list that was read has some.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Those of a key, as they were given.
    fn given<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        let first = self.all.partition_point(|(other, _)| **other < *key);
        let found = self.all.iter().skip(first).take_while(move |(other, _)| **other == *key);
        found.map(|(key, given)| given.as_deref().unwrap_or(key))
    }

    /// The domains among theirs that are not hosted here.
    fn not_hosted(&self, published: &Published) -> Vec<String> {
        self.domains.iter().filter(|name| published.domain(name).is_none()).map(ToString::to_string).collect()
    }
}

/// The form in which a name is looked for, and its domain.
fn key(given: &str) -> Option<(Box<str>, DomainName)> {
    if given.len() > MAX_NAME {
        return None;
    }
    if given.contains('@') {
        let address = Address::parse(given).ok()?.lower_case();
        return Some((address.to_string().into(), address.domain().clone()));
    }
    let name = given.strip_suffix('.').unwrap_or(given);
    let domain = smimea_domain(name)?;
    let hash = name.split('.').next()?.to_ascii_lowercase();
    Some((format!("{hash}._smimecert.{domain}").into(), domain))
}

/// A change, as whoever may read the log is told it.
#[derive(Serialize)]
pub(crate) struct Row<'a> {
    version: Version,
    kind: &'static str,
    scope: &'static str,
    public: bool,
    time: String,
    domain: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    names: &'a [String],
}

/// What of a page a subscriber is told.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum Told<'a> {
    /// Rows of the log.
    Rows { changes: Vec<Row<'a>> },
    /// Names to ask for again.
    Names { names: BTreeSet<&'a str>, domains: BTreeSet<&'a str> },
}

impl Told<'_> {
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Told::Rows { changes } => changes.is_empty(),
            Told::Names { names, domains } => names.is_empty() && domains.is_empty(),
        }
    }
}

#[derive(Serialize)]
struct Changed<'a> {
    version: Version,
    names: &'a BTreeSet<&'a str>,
    domains: &'a BTreeSet<&'a str>,
}

impl Wanted {
    /// What of a page is told.
    pub(crate) fn told<'a>(&'a self, page: &'a Page) -> Told<'a> {
        match self {
            Wanted::Log { authority, domains, addresses } => {
                let wanted = |change: &&Change| {
                    // A domain's name in the store is one that was read before.
                    let Ok(domain) = DomainName::parse(&change.domain) else { return false };
                    let listed = domains.is_empty() || domains.contains(&domain);
                    let addressed = addresses.is_empty()
                        || change.address.as_ref().is_some_and(|address| addresses.contains(address))
                        || (change.whole_domain && addresses.iter().any(|one| in_domain(one, &change.domain)));
                    listed && addressed && authority.may_read(&domain)
                };
                Told::Rows { changes: page.changes.iter().map(|change| &**change).filter(wanted).map(row).collect() }
            }
            Wanted::Names(list) => {
                let (mut names, mut domains) = (BTreeSet::new(), BTreeSet::new());
                for change in page.changes.iter().filter(|change| change.public) {
                    if !list.domains.contains(change.domain.as_str()) {
                        continue;
                    }
                    if change.whole_domain {
                        domains.insert(change.domain.as_str());
                    } else {
                        names.extend(change.address.iter().chain(&change.names).flat_map(|key| list.given(key)));
                    }
                }
                Told::Names { names, domains }
            }
        }
    }

    /// The events of a page, as text of the event stream format; nothing where nothing is told.
    pub(crate) fn events(&self, page: &Page, cursor: Cursor) -> String {
        let mut text = String::new();
        match self.told(page) {
            Told::Rows { changes } => {
                for row in changes {
                    let own = page.changes.iter().find(|change| change.cursor.version == row.version);
                    event(&mut text, "change", own.map_or(cursor, |change| change.cursor), &row);
                }
            }
            Told::Names { names, domains } if names.is_empty() && domains.is_empty() => {}
            Told::Names { names, domains } => {
                let changed = Changed { version: cursor.version, names: &names, domains: &domains };
                event(&mut text, "changed", cursor, &changed);
            }
        }
        text
    }

    /// For names, the domains that are not hosted here.
    pub(crate) fn not_hosted(&self, published: &Published) -> Option<Vec<String>> {
        match self {
            Wanted::Log { .. } => None,
            Wanted::Names(names) => Some(names.not_hosted(published)),
        }
    }
}

/// Appends an event. JSON on one line has no line end in it, so it is one `data` field.
pub(crate) fn event(text: &mut String, name: &str, cursor: Cursor, data: &impl Serialize) {
    use std::fmt::Write as _;
    let data = serde_json::to_string(data).unwrap_or_default();
    // Writing to a String cannot fail.
    let _ = write!(text, "id: {cursor}\nevent: {name}\ndata: {data}\n\n");
}

fn in_domain(address: &str, domain: &str) -> bool {
    address.rsplit_once('@').is_some_and(|(_, of)| of == domain)
}

fn row(change: &Change) -> Row<'_> {
    Row {
        version: change.cursor.version,
        kind: change.action.as_str(),
        scope: if change.whole_domain { "domain" } else { "address" },
        public: change.public,
        time: time_text(change.at),
        domain: &change.domain,
        address: change.address.as_deref(),
        sha256: change.sha256.as_deref(),
        names: &change.names,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "2bd806c97f0e00af1a1fc3328fa763a9269723c8db8fac4f93af71db";

    #[test]
    fn names_are_read_and_found_as_they_were_given() {
        let upper = HASH.to_uppercase();
        let body = format!(
            r#"{{"names": ["Alice@Example.ORG", "alice@example.org", "{upper}._smimecert.example.org.", "b\u00fccher@b\u00fccher.example"]}}"#
        );
        let names = Names::read(body.as_bytes()).unwrap();
        assert_eq!((names.len(), names.is_empty()), (4, false));
        let mut given: Vec<&str> = names.given("alice@example.org").collect();
        given.sort_unstable();
        assert_eq!(given, ["Alice@Example.ORG", "alice@example.org"]);
        let owner = format!("{HASH}._smimecert.example.org");
        assert_eq!(names.given(&owner).collect::<Vec<_>>(), [format!("{upper}._smimecert.example.org.")]);
        assert_eq!(names.given("bob@example.org").count(), 0);
        let domains: Vec<&str> = names.domains.iter().map(DomainName::as_str).collect();
        assert_eq!(domains, ["example.org", "xn--bcher-kva.example"]);
    }

    #[test]
    fn bodies_that_are_none() {
        let many = |n: usize| format!(r#"{{"names": [{}]}}"#, vec![r#""a@example.org""#; n].join(","));
        assert_eq!(Names::read(many(MAX_NAMES).as_bytes()).unwrap().len(), 1, "the same name once");
        let long = format!(r#"{{"names": ["{}@example.org"]}}"#, "a".repeat(600));
        for (body, says) in [
            (many(MAX_NAMES + 1).as_str(), "more than 16384"),
            (r#"{"names": []}"#, "no name"),
            (r#"{"names": ["example.org"]}"#, "name 1 is neither"),
            (r#"{"names": ["a@example.org", "a@"]}"#, "name 2 is neither"),
            (long.as_str(), "name 1 is neither"),
            (r#"{"names": [1]}"#, "cannot be read"),
            (r#"{"names": "a@example.org"}"#, "a list of"),
            (r#"{"name": []}"#, "cannot be read"),
            (r#"{"names": ["a@example.org"], "since": 1}"#, "cannot be read"),
            ("", "cannot be read"),
            ("\u{feff}{}", "cannot be read"),
        ] {
            let refusal = Names::read(body.as_bytes()).unwrap_err();
            assert!(refusal.contains(says), "{body}: {refusal}");
        }
    }
}
