//! Where trust begins: keys and key digests that are believed without a signature above them.
//!
//! [`TrustAnchors`] is a set of DNSKEY and DS records read from master-file text. Before a zone's anchor is used, it is
//! *primed*: the zone's DNSKEY RRset is fetched and must be signed by an anchored key; all its keys are then given to
//! the validator. hickory's validator alone takes no DS anchors, and asks a private zone's parent for DS records as soon
//! as the zone has any key that is not an anchor itself (a signing key beside the anchored one).

use std::path::Path;

use certdir_certificate::UnixTime;
use hickory_resolver::proto::dnssec::rdata::{DNSKEY, DNSSECRData, DS, RRSIG};
use hickory_resolver::proto::dnssec::{Algorithm, DigestType, PublicKeyBuf, TrustAnchors as Keys, Verifier};
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{DNSClass, LowerName, Name, RData, Record, RecordType};

use super::signature::Validity;
use super::wire::{Wire, failure_of};
use crate::error::Error;
use crate::outcome::Failure;

/// The anchors of the root zone, KSK-2017 and KSK-2024, as IANA publishes them
/// (<https://data.iana.org/root-anchors/root-anchors.xml>).
const ROOT: &str = "\
. IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D
. IN DS 38696 8 2 683D2D0ACB8C9B712A1948B27F741219298D0A450D612C483AF444A4C0FB2B16
";

/// How long primed keys are used without asking again, in seconds; also bounded by their TTL and signature.
const PRIME_LIFE: UnixTime = 3_600;

/// Signatures tried while priming: a DNSKEY RRset with more than this many by anchored keys is made to cost time.
const MAX_PRIME_ATTEMPTS: usize = 8;

/// A set of trust anchors.
#[derive(Clone, Debug)]
pub(crate) struct TrustAnchors(Vec<(Name, Anchor)>);

#[derive(Clone, Debug)]
enum Anchor {
    Key(PublicKeyBuf),
    Digest(DS),
}

/// The keys of one zone, proven by its anchor.
pub(crate) struct Primed {
    pub(crate) keys: Keys,
    /// The same keys as they came.
    pub(crate) records: Vec<Record>,
    /// The keys may be used until this second, exclusive.
    pub(crate) until: UnixTime,
}

impl FromIterator<TrustAnchors> for TrustAnchors {
    fn from_iter<T: IntoIterator<Item = TrustAnchors>>(sets: T) -> Self {
        TrustAnchors(sets.into_iter().flat_map(|set| set.0).collect())
    }
}

impl TrustAnchors {
    /// The root zone's anchors.
    pub(crate) fn iana() -> Result<Self, Error> {
        Self::parse(ROOT, "the built-in root anchors")
    }

    /// Reads a file of DNSKEY and DS records in master-file form.
    pub(crate) fn from_file(path: &Path) -> Result<Self, Error> {
        let text =
            std::fs::read_to_string(path).map_err(|source| Error::Unreadable { path: path.to_owned(), source })?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Reads DNSKEY and DS records: `owner [ttl] [class] type rdata`, with comments and parentheses (RFC 1035 section
    /// 5.1). Every name is absolute, with or without the final dot. Other record types are errors: a file that is
    /// half an anchor file is a mistake.
    pub(crate) fn parse(text: &str, origin: &str) -> Result<Self, Error> {
        let bad = |line: usize, message: String| Error::BadAnchor { origin: origin.to_owned(), line, message };
        let mut anchors = Vec::new();
        let mut owner = None;
        for (line, entry) in entries(text).map_err(|(line, message)| bad(line, message))? {
            anchors.push(record(&entry, &mut owner).map_err(|message| bad(line, message))?);
        }
        if anchors.is_empty() {
            return Err(bad(1, "no DNSKEY or DS record; expected one a line".to_owned()));
        }
        Ok(TrustAnchors(anchors))
    }

    /// The zone of the closest anchor at or above `name`.
    pub(crate) fn zone_for(&self, name: &Name) -> Option<&Name> {
        self.0.iter().map(|(zone, _)| zone).filter(|zone| zone.zone_of(name)).max_by_key(|zone| zone.num_labels())
    }

    /// Fetches the keys of an anchored zone and proves them by its anchors (RFC 4035 section 5.2).
    pub(crate) async fn prime(&self, zone: &Name, wire: &Wire, now: UnixTime) -> Result<Primed, Failure> {
        let query = Query::query(zone.clone(), RecordType::DNSKEY);
        let message = wire.ask_servers(&query).await.map_err(|e| {
            // No key at all is no absence of certificates: the anchor says that there are keys.
            let failure = failure_of(&e);
            Failure::new(failure.code, format!("the keys of {zone} cannot be had: {}", failure.message))
        })?;
        let records: Vec<&Record> = message.answers.iter().filter(|r| r.name == *zone).collect();
        let mut keys: Vec<(&Record, &DNSKEY)> = records
            .iter()
            .filter_map(|r| match &r.data {
                RData::DNSSEC(DNSSECRData::DNSKEY(key)) => Some((*r, key)),
                _ => None,
            })
            .collect();
        let signatures = records.iter().filter_map(|r| match &r.data {
            RData::DNSSEC(DNSSECRData::RRSIG(s)) if s.input().type_covered == RecordType::DNSKEY => Some(s),
            _ => None,
        });
        let attempts = signatures.flat_map(|s| keys.iter().map(move |(_, key)| (s, *key)));
        let proof = attempts
            .filter(|(signature, key)| self.trusts(zone, key) && fits(signature, key, zone))
            .take(MAX_PRIME_ATTEMPTS)
            .find_map(|(signature, key)| {
                let validity = Validity::of(signature, now)?;
                let rrset = keys.iter().map(|(record, _)| *record);
                key.verify_rrsig(zone, DNSClass::IN, signature, rrset).ok()?;
                Some(validity)
            });
        let Some(validity) = proof else {
            let message = format!("no key of {zone} that signs its keys is a trust anchor; check the anchor file");
            return Err(Failure::new("bogus", message));
        };
        let mut trusted = Keys::empty();
        keys.retain(|(_, key)| key.zone_key() && !key.revoke());
        for (_, key) in &keys {
            trusted.insert_with_name(key.public_key(), LowerName::from(zone));
        }
        let ttl = keys.iter().map(|(record, _)| record.ttl).min().unwrap_or(0);
        let until = now.saturating_add(PRIME_LIFE.min(ttl.into())).min(validity.end);
        let records = keys.iter().map(|(record, _)| (*record).clone()).collect();
        Ok(Primed { keys: trusted, records, until })
    }

    fn trusts(&self, zone: &Name, key: &DNSKEY) -> bool {
        use hickory_resolver::proto::dnssec::PublicKey;
        let of_zone = self.0.iter().filter(|(name, _)| name == zone);
        // RFC 5011 section 2.1: a revoked key is no anchor any more.
        key.zone_key()
            && !key.revoke()
            && of_zone.into_iter().any(|(_, anchor)| match anchor {
                Anchor::Key(anchor) => {
                    anchor.public_bytes() == key.public_key().public_bytes()
                        && anchor.algorithm() == key.public_key().algorithm()
                }
                Anchor::Digest(ds) => {
                    ds.algorithm() == key.public_key().algorithm()
                        && key.calculate_key_tag().is_ok_and(|tag| tag == ds.key_tag())
                        && ds.covers(zone, key).unwrap_or(false)
                }
            })
    }
}

/// The signature claims to be this key's (RFC 4035 section 5.3.1).
fn fits(signature: &RRSIG, key: &DNSKEY, zone: &Name) -> bool {
    use hickory_resolver::proto::dnssec::PublicKey;
    let input = signature.input();
    input.signer_name == *zone
        && input.num_labels == zone.num_labels()
        && input.algorithm == key.public_key().algorithm()
        && key.calculate_key_tag().is_ok_and(|tag| tag == input.key_tag)
}

/// A logical line: its number, and its fields; the first one is empty when the line begins with a blank.
type Entry = (usize, Vec<String>);

/// Splits master-file text into entries: comments go, parentheses join lines.
fn entries(text: &str) -> Result<Vec<Entry>, (usize, String)> {
    let mut entries = Vec::new();
    let mut entry: Vec<String> = Vec::new();
    let mut start = 1;
    let mut depth = 0_u32;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split(';').next().unwrap_or_default();
        if depth == 0 {
            start = number;
            if line.starts_with([' ', '\t']) {
                entry.push(String::new());
            }
        }
        for field in line.replace('(', " ( ").replace(')', " ) ").split_whitespace() {
            match field {
                "(" => depth += 1,
                ")" => match depth.checked_sub(1) {
                    Some(outer) => depth = outer,
                    None => return Err((number, "a closing parenthesis without an opening one".to_owned())),
                },
                field => entry.push(field.to_owned()),
            }
        }
        if depth == 0 {
            let entry = std::mem::take(&mut entry);
            if entry.iter().any(|field| !field.is_empty()) {
                entries.push((start, entry));
            }
        }
    }
    if depth > 0 {
        return Err((start, "an opening parenthesis without a closing one".to_owned()));
    }
    Ok(entries)
}

fn record(fields: &[String], owner: &mut Option<Name>) -> Result<(Name, Anchor), String> {
    const FORM: &str = "expected `zone. IN DNSKEY 257 3 13 KEY` or `zone. IN DS TAG 13 2 DIGEST`";
    let mut fields = fields.iter().map(String::as_str);
    let name = match fields.next() {
        Some("") => owner.clone().ok_or("the first record has no owner name")?,
        Some(text) if text.starts_with('$') => return Err(format!("{text} is not understood; {FORM}")),
        Some(text) => absolute(text)?,
        None => return Err(FORM.to_owned()),
    };
    *owner = Some(name.clone());
    // TTL and class, in either order, are of no meaning here.
    let kind = fields.find(|f| !f.eq_ignore_ascii_case("IN") && f.parse::<u32>().is_err());
    let kind = kind.unwrap_or_default().to_ascii_uppercase();
    let mut number = |what: &str| -> Result<u16, String> {
        let field = fields.next().ok_or_else(|| format!("the {what} is missing; {FORM}"))?;
        field.parse().map_err(|_| format!("{field} is no {what}; {FORM}"))
    };
    let octet = |n: u16, what: &str| u8::try_from(n).map_err(|_| format!("{n} is no {what}"));
    match kind.as_str() {
        "DNSKEY" => {
            let (flags, protocol) = (number("flags field")?, number("protocol")?);
            let algorithm = Algorithm::from_u8(octet(number("algorithm")?, "algorithm")?);
            // RFC 4034 sections 2.1.1 and 2.1.2.
            if flags & 0x0100 == 0 || protocol != 3 {
                return Err("this DNSKEY is no zone key: flags 256 or 257 and protocol 3 are".to_owned());
            }
            if flags & 0x0080 != 0 {
                return Err("this DNSKEY is revoked (RFC 5011) and cannot be an anchor".to_owned());
            }
            let key = data_encoding::BASE64
                .decode(fields.collect::<String>().as_bytes())
                .map_err(|e| format!("the key is not base64: {e}"))?;
            supported(algorithm)?;
            Ok((name, Anchor::Key(PublicKeyBuf::new(key, algorithm))))
        }
        "DS" => {
            let tag = number("key tag")?;
            let algorithm = Algorithm::from_u8(octet(number("algorithm")?, "algorithm")?);
            let digest_type = DigestType::from(octet(number("digest type")?, "digest type")?);
            let digest = data_encoding::HEXUPPER_PERMISSIVE
                .decode(fields.collect::<String>().as_bytes())
                .map_err(|e| format!("the digest is not hexadecimal: {e}"))?;
            supported(algorithm)?;
            let length = match digest_type {
                // RFC 8624 section 3.3: SHA-1 must not be used for new DS records, and an anchor is one's own choice.
                DigestType::SHA256 => 32,
                DigestType::SHA384 => 48,
                other => return Err(format!("digest type {} is not supported; use 2 or 4", u8::from(other))),
            };
            if digest.len() != length {
                return Err(format!("the digest has {} octets, not {length}", digest.len()));
            }
            Ok((name, Anchor::Digest(DS::new(tag, algorithm, digest_type, digest))))
        }
        "" => Err(FORM.to_owned()),
        other => Err(format!("{other} is not understood; {FORM}")),
    }
}

fn supported(algorithm: Algorithm) -> Result<(), String> {
    if algorithm.is_supported() {
        Ok(())
    } else {
        Err(format!("algorithm {} is not supported; 8, 13, 14 and 15 are", u8::from(algorithm)))
    }
}

fn absolute(text: &str) -> Result<Name, String> {
    let mut name = Name::from_ascii(text).map_err(|e| format!("{text} is no domain name: {e}"))?;
    name.set_fqdn(true);
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_resolver::proto::dnssec::PublicKey;

    const KEY: &str = "oJMRESz5E4gYzS/q6XDrvU1qMPYIjCWzJaOau8XNEZeqCYKD5ar0IRd8KqXXFJkqmVfRvMGPmM1x8fGAa2XhSA==";

    #[test]
    fn the_built_in_anchors_are_the_roots_keys() {
        let anchors = TrustAnchors::iana().unwrap();
        let known = Keys::default();
        for i in 0..2 {
            let key = known.get(i).unwrap();
            let dnskey = DNSKEY::with_flags(257, PublicKeyBuf::new(key.public_bytes().to_vec(), key.algorithm()));
            assert!(anchors.trusts(&Name::root(), &dnskey));
            let revoked = DNSKEY::with_flags(257 | 0x80, dnskey.public_key().clone());
            assert!(!anchors.trusts(&Name::root(), &revoked));
        }
        let name = Name::from_ascii("www.example.org.").unwrap();
        assert!(anchors.zone_for(&name).unwrap().is_root());
    }

    #[test]
    fn master_file_forms_are_read() {
        let (front, back) = KEY.split_at(20);
        let digest = "E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D";
        let text = format!(
            "; made by a tool\nexample. 3600 IN DNSKEY 257 3 13 {KEY} ; a comment\n\
             Example.ORG IN 300 DNSKEY 256 3 13 ( {front} ; half\n  {back} )\n\n\
             \tIN DS 20326 8 2 e06d 44b80b8f1d39a95c0b0d7c65d08458e880409bbc683457104237c7f8ec8d\n\
             sub.example. DS 1 13 2 {digest}\n"
        );
        let anchors = TrustAnchors::parse(&text, "test").unwrap();
        let zones: Vec<String> = anchors.0.iter().map(|(zone, _)| zone.to_string().to_lowercase()).collect();
        assert_eq!(zones, ["example.", "example.org.", "example.org.", "sub.example."]);
        let zone = |name| anchors.zone_for(&Name::from_ascii(name).unwrap()).map(|z| z.to_string());
        assert_eq!(zone("a.sub.example."), Some("sub.example.".to_owned()));
        assert_eq!(zone("other.example."), Some("example.".to_owned()));
        assert_eq!(zone("example.com."), None);
    }

    #[test]
    fn what_is_no_anchor_is_named_with_its_line() {
        let table = [
            ("", 1, "no DNSKEY or DS record"),
            ("\n\nexample. IN A 192.0.2.1", 3, "A is not understood"),
            ("$ORIGIN example.", 1, "$ORIGIN is not understood"),
            (" IN DNSKEY 257 3 13 AAAA", 1, "no owner name"),
            ("example. DNSKEY 257 3", 1, "the algorithm is missing"),
            ("example. DNSKEY 0 3 13 AAAA", 1, "no zone key"),
            ("example. DNSKEY 385 3 13 AAAA", 1, "revoked"),
            ("example. DNSKEY 257 3 13 AAA", 1, "not base64"),
            ("example. DNSKEY 257 3 99 AAAA", 1, "algorithm 99 is not supported"),
            ("example. DS 1 13 1 AAAA", 1, "digest type 1 is not supported"),
            ("example. DS 1 13 2 AAAA", 1, "2 octets, not 32"),
            ("example. DS 1 13 2 XYZ", 1, "not hexadecimal"),
            ("example. DS 1 13 2 ( AAAA", 1, "without a closing one"),
            ("example. DS 1 13 2 AAAA )", 1, "without an opening one"),
            ("a..b DS 1 13 2 AAAA", 1, "no domain name"),
        ];
        for (text, line, message) in table {
            let error = TrustAnchors::parse(text, "anchors").unwrap_err();
            let told = error.to_string();
            assert!(told.starts_with(&format!("anchors, line {line}: ")) && told.contains(message), "{text}: {told}");
            assert_eq!(error.code(), "bad-trust-anchor");
        }
        let missing = TrustAnchors::from_file(Path::new("/no/such/file")).unwrap_err();
        assert_eq!(missing.code(), "unreadable-file");
    }
}
