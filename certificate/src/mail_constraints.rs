//! Name constraints on mail addresses (RFC 5280 section 4.2.1.10), in every form an address has in a certificate.
//!
//! certval applies them to rfc822Name and to an IA5String in the subject. RFC 9598 section 6 applies them to
//! SmtpUTF8Mailbox, too, and an authority that may certify `@example.org` only must not get around that by writing the
//! address as a UTF8String.

use std::borrow::Cow;

use crate::anchors::Member;
use crate::certificate::Certificate;
use crate::der::{self, Problem, Reader, tag};
use crate::mailbox::{domain_in_ascii, split};
use crate::parts::Parts;

const NAME_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 30];
const SUBJECT_ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 17];
const RFC822_NAME: u8 = tag::context(1);
/// Subtrees of mail addresses.
#[derive(Default)]
struct Subtrees {
    /// One list for each authority that has any: an address must be in each list.
    permitted: Vec<Vec<Base>>,
    excluded: Vec<Base>,
}

/// One constraint, taken apart.
struct Base {
    /// The local part, where it is one mailbox.
    local: Option<String>,
    /// In A-labels and lower case; `None` if it cannot be read.
    domain: Option<String>,
}

/// About how many comparisons the names of a path take, of any kind and with the constraints of all authorities above: those
/// of names with constraints, and of constraints with those above them. Its parts are those of [`check`].
pub(crate) fn comparisons(chain: &[&Certificate], anchor: Option<&Member>) -> usize {
    let mut above = anchor.and_then(|anchor| anchor.parts().ok()).map_or(0, |parts| count_subtrees(&parts));
    let mut comparisons: usize = 0;
    for certificate in chain.iter().rev() {
        let Ok(parts) = Parts::of(certificate) else {
            continue;
        };
        let own = count_subtrees(&parts);
        let alternative = parts.extension(SUBJECT_ALTERNATIVE_NAME).and_then(|e| der::only(e, tag::SEQUENCE).ok());
        let names = alternative.map_or(0, |names| count(names.open())) + certificate.addresses().len() + 1;
        comparisons = comparisons.saturating_add(above.saturating_mul(names + own));
        above += own;
    }
    comparisons
}

/// The subtrees of all kinds of names.
fn count_subtrees(parts: &Parts<'_>) -> usize {
    let constraints = parts.extension(NAME_CONSTRAINTS).and_then(|e| der::only(e, tag::SEQUENCE).ok());
    let mut lists = constraints.map_or(Reader::new(&[]), |constraints| constraints.open());
    std::iter::from_fn(|| lists.next().ok()).map(|list| count(list.open())).sum()
}

fn count(mut elements: Reader<'_>) -> usize {
    std::iter::from_fn(|| elements.next().ok()).count()
}

/// Checks the mail addresses of every certificate of a path against the constraints of all authorities above it.
/// `chain` has the leaf first; `anchor` is the certificate of the trust anchor, if it has one.
pub(crate) fn check(chain: &[&Certificate], anchor: Option<&Member>) -> Result<(), Problem> {
    let mut subtrees = Subtrees::default();
    if let Some(anchor) = anchor {
        subtrees.add(&anchor.parts()?)?;
    }
    for (place, certificate) in chain.iter().enumerate().rev() {
        // RFC 5280 section 6.1.3 (b): self-issued certificates are exempt, except the last one.
        if place == 0 || !certificate.is_self_issued() {
            subtrees.check(certificate)?;
        }
        if place > 0 {
            subtrees.add(&Parts::of(certificate)?)?;
        }
    }
    Ok(())
}

impl Subtrees {
    /// The constraints of one authority. Malformed ones are an error.
    fn add(&mut self, parts: &Parts<'_>) -> Result<(), Problem> {
        let Some(extension) = parts.extension(NAME_CONSTRAINTS) else {
            return Ok(());
        };
        let mut reader = der::only(extension, tag::SEQUENCE)?.open();
        let permitted = reader.optional(tag::context_constructed(0))?;
        let excluded = reader.optional(tag::context_constructed(1))?;
        reader.finish()?;
        if let Some(permitted) = permitted {
            let mut list = Vec::new();
            read_subtrees(permitted.open(), &mut list)?;
            if !list.is_empty() {
                self.permitted.push(list);
            }
        }
        excluded.map_or(Ok(()), |excluded| read_subtrees(excluded.open(), &mut self.excluded))
    }

    fn check(&self, certificate: &Certificate) -> Result<(), Problem> {
        if self.permitted.is_empty() && self.excluded.is_empty() {
            return Ok(());
        }
        for name in certificate.addresses() {
            let (local, domain) = split(&name.text).ok_or("an address is none, under name constraints")?;
            let domain = domain_in_ascii(domain).ok_or("an address has no domain, under name constraints")?;
            if !self.permitted.iter().all(|list| list.iter().any(|base| base.covers(local, &domain, false))) {
                return Err("a mail address is outside of what an authority may certify");
            }
            if self.excluded.iter().any(|base| base.covers(local, &domain, true)) {
                return Err("a mail address is one that an authority must not certify");
            }
        }
        Ok(())
    }
}

/// `GeneralSubtrees`: those on mail addresses.
fn read_subtrees(mut reader: Reader<'_>, to: &mut Vec<Base>) -> Result<(), Problem> {
    while !reader.is_empty() {
        let base = reader.expect(tag::SEQUENCE)?.open().next()?;
        if base.tag == RFC822_NAME {
            let text = std::str::from_utf8(base.value).map_err(|_| "a constraint is not ASCII")?;
            to.push(Base::read(text));
        }
    }
    Ok(())
}

impl Base {
    fn read(text: &str) -> Base {
        let (local, domain) = text.rsplit_once('@').map_or((None, text), |(local, domain)| (Some(local), domain));
        Base { local: local.map(str::to_owned), domain: domain_in_ascii(domain).map(Cow::into_owned) }
    }

    /// RFC 5280 section 4.2.1.10: a constraint is one mailbox, all of a host, or (with a dot in front) all of the hosts below
    /// a domain. The local part is compared as it is; where it is about exclusion, whatever its case.
    fn covers(&self, local: &str, domain: &str, any_case: bool) -> bool {
        let Some(base) = self.domain.as_deref() else {
            // What cannot be read excludes everything and permits nothing.
            return any_case;
        };
        match &self.local {
            // An empty local part is not defined; some mean the host by it.
            Some(mailbox) => {
                base == domain
                    && (mailbox.is_empty()
                        || mailbox == local
                        || any_case && mailbox.to_lowercase() == local.to_lowercase())
            }
            None if base.starts_with('.') => domain.len() > base.len() && domain.ends_with(base),
            // An empty constraint stands for every mailbox.
            None => base.is_empty() || base == domain,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Base;

    #[test]
    fn a_constraint_is_a_mailbox_a_host_or_the_hosts_below_a_domain() {
        for (base, local, domain, permitted, excluded) in [
            ("alice@example.org", "alice", "example.org", true, true),
            ("alice@example.org", "Alice", "example.org", false, true),
            ("alice@example.org", "bob", "example.org", false, false),
            ("alice@EXAMPLE.org", "alice", "example.org", true, true),
            ("example.org", "alice", "example.org", true, true),
            ("Example.ORG", "alice", "example.org", true, true),
            ("example.org", "alice", "sub.example.org", false, false),
            (".example.org", "alice", "sub.example.org", true, true),
            (".example.org", "alice", "example.org", false, false),
            (".example.org", "alice", "badexample.org", false, false),
            ("bücher.example", "alice", "xn--bcher-kva.example", true, true),
            ("", "alice", "example.org", true, true),
        ] {
            assert_eq!(Base::read(base).covers(local, domain, false), permitted, "{base} {local}@{domain} permitted");
            assert_eq!(Base::read(base).covers(local, domain, true), excluded, "{base} {local}@{domain} excluded");
        }
    }
}
