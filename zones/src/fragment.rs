//! [`Fragment`]: the records that the owner of a hosted domain gives beside its certificates (addresses, MX, TXT, sub-domains),
//! as a piece of a master file (RFC 1035 section 5).
//!
//! Read strictly, and every fault is told with its line, so that one attempt shows all there is to mend. The syntax is
//! [`scan`]'s, [`data`]'s and, for types given as octets only, [`octets_only`]'s; this module says which records may stand together. SOA, DNSKEY, NS of the apex, signatures and
//! denials are made by the directory and refused here; so are certificates, and the names below `_smimecert`.

mod data;
mod octets_only;
mod scan;

use std::collections::{BTreeMap, BTreeSet};

use self::data::Words;
use self::scan::{Entry, Scanner};
use crate::{Error, Name, Rdata, RecordType, Rrset, SignedRrset};

/// The longest text, in octets.
pub const MAX_TEXT: usize = 2 << 20;
/// The most records.
pub const MAX_RECORDS: usize = 10_000;
/// The most names that exist only because records lie below them (RFC 4592 section 2.2.2): each takes a place in the zone, and
/// in its chain of denials, without a record that would count.
pub const MAX_EMPTY: usize = 20_000;
/// The most types at one name, so that the type bitmap of its NSEC3 record stays small.
pub const MAX_TYPES: usize = 32;
/// The longest TTL: signatures last for days, and no record may outlive its own in a cache.
pub const MAX_TTL: u32 = 86_400;
/// TTL of records in a text that states none.
const DEFAULT_TTL: u32 = 3_600;
/// The most faults that are told.
const MAX_FAULTS: usize = 50;
/// Types that are no data, or that the directory makes itself: RFC 6895 section 3.1 (meta and question types 128 to 255), NULL,
/// and obsolete signature types.
const REFUSED: [RecordType; 14] = [
    RecordType(0),
    RecordType(10),
    RecordType(24),
    RecordType(25),
    RecordType(30),
    RecordType::OPT,
    RecordType::RRSIG,
    RecordType::NSEC,
    RecordType::DNSKEY,
    RecordType::NSEC3,
    RecordType::NSEC3PARAM,
    RecordType::CDS,
    // CSYNC (RFC 7477) and ZONEMD (RFC 8976) speak of the zone's serial and of all its records.
    RecordType(62),
    RecordType(63),
];

/// What is wrong on a line of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

/// The records of a text, as RRsets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fragment {
    /// In canonical order of owner and type.
    pub given: Vec<Given>,
}

/// One RRset of a fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Its owner, at or below the apex.
    pub owner: Name,
    /// Its records.
    pub rrset: Rrset,
    /// What it is for the zone.
    pub standing: Standing,
    /// The line of its first record.
    pub line: usize,
}

/// What an RRset is for the zone that holds it (RFC 4035 section 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Data of the zone: signed.
    Data,
    /// The NS of a delegation: not signed, but named in the denial.
    Cut,
    /// An address at or below a delegation: neither.
    Glue,
}

/// One record, as it stands in the text.
struct Line {
    line: usize,
    owner: Name,
    ttl: u32,
    rtype: RecordType,
    rdata: Rdata,
}

impl Fragment {
    /// The octets that somebody sent to replace all records, as text for [`Fragment::parse`]. Errors: [`Error::Fragment`] with
    /// the line that is not UTF-8, or when there is no record at all: that comes from a producer that failed, and would take
    /// everything away.
    pub fn text(octets: Vec<u8>) -> Result<String, Error> {
        let fault = |line, reason: &str| Err(Error::Fragment(vec![Fault { line, reason: reason.into() }]));
        let lines = |octets: &[u8]| 1 + octets.iter().filter(|octet| **octet == b'\n').count();
        let text = match String::from_utf8(octets) {
            Ok(text) => text,
            Err(error) => {
                let good = error.utf8_error().valid_up_to();
                let line = lines(error.as_bytes().get(..good).unwrap_or_default());
                return fault(line, "the text is not UTF-8: write names in A-labels (xn--), other octets as \\DDD");
            }
        };
        if text.starts_with('\u{FEFF}') {
            return fault(1, "the text begins with a byte order mark: save it without one");
        }
        if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with(';')) {
            let reason = "the text has no record, and nothing was changed; to take all records away: certdir domain records \
                          DOMAIN --none, or DELETE over HTTP";
            return fault(lines(text.as_bytes()), reason);
        }
        Ok(text)
    }

    /// Reads a text; relative names continue with `apex` until `$ORIGIN` says otherwise. Errors: [`Error::Fragment`] with every
    /// fault.
    pub fn parse(text: &str, apex: &Name) -> Result<Fragment, Error> {
        let mut faults = Vec::new();
        let lines = read(text, apex, &mut faults);
        let given = stand(lines, apex, &mut faults);
        if faults.is_empty() {
            return Ok(Fragment { given });
        }
        faults.sort_by_key(|fault| fault.line);
        faults.truncate(MAX_FAULTS);
        faults.iter_mut().for_each(Fault::shorten);
        Err(Error::Fragment(faults))
    }

    /// The RRset of an owner and a type.
    #[must_use]
    pub fn rrset(&self, owner: &Name, rtype: RecordType) -> Option<&Given> {
        self.given.iter().find(|given| given.owner == *owner && given.rrset.rtype == rtype)
    }

    /// Whether a name has an address.
    #[must_use]
    pub fn has_address(&self, owner: &Name) -> bool {
        [RecordType::A, RecordType::AAAA].iter().any(|rtype| self.rrset(owner, *rtype).is_some())
    }

    /// The text of the records in canonical form, one a line; [`Fragment::parse`] reads it back.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for given in &self.given {
            for rdata in given.rrset.rdata() {
                let Rrset { rtype, ttl, .. } = given.rrset;
                text += &format!("{} {ttl} IN {rtype} {}\n", given.owner, crate::presentation(rtype, rdata));
            }
        }
        text
    }
}

impl Fault {
    /// A word of the text that stands in a reason may be of any length: what is in the middle is left out.
    fn shorten(&mut self) {
        const MOST: usize = 300;
        let length = self.reason.chars().count();
        if length > MOST {
            let [head, tail] = [0..MOST / 2, length - MOST / 2..length]
                .map(|part| self.reason.chars().skip(part.start).take(part.len()).collect::<String>());
            self.reason = format!("{head} … {tail}");
        }
    }
}

impl Given {
    /// The RRset without a signature, as a zone holds the NS of a cut and glue.
    #[must_use]
    pub fn unsigned(&self) -> SignedRrset {
        SignedRrset { rrset: self.rrset.clone(), rrsig: [].as_slice().into() }
    }
}

/// The message of an [`Error::Fragment`].
pub(crate) fn faults(faults: &[Fault]) -> String {
    let lines: Vec<String> = faults.iter().map(|fault| format!("line {}: {}", fault.line, fault.reason)).collect();
    let more = if faults.len() >= MAX_FAULTS { "\nthere may be more" } else { "" };
    format!("nothing of these records was taken:\n{}{more}", lines.join("\n"))
}

/// What the lines before say for those behind.
struct Context {
    origin: Name,
    owner: Option<Name>,
    /// By `$TTL` (RFC 2308 section 4).
    stated: Option<u32>,
    /// The last explicit one (RFC 1035 section 5.1).
    last: Option<u32>,
}

fn read(text: &str, apex: &Name, faults: &mut Vec<Fault>) -> Vec<Line> {
    if text.len() > MAX_TEXT {
        faults.push(Fault { line: 1, reason: format!("the text is longer than {MAX_TEXT} octets") });
        return Vec::new();
    }
    let mut context = Context { origin: apex.clone(), owner: None, stated: None, last: None };
    let mut scanner = Scanner::new(text);
    let mut lines = Vec::new();
    while let Some(entry) = scanner.entry() {
        match entry.and_then(|entry| context.entry(&entry)) {
            Ok(Some(line)) if lines.len() >= MAX_RECORDS => {
                faults.push(Fault { line: line.line, reason: format!("there are more than {MAX_RECORDS} records") });
                break;
            }
            Ok(line) => lines.extend(line),
            Err(fault) => faults.push(fault),
        }
        if faults.len() >= MAX_FAULTS {
            break;
        }
    }
    lines
}

impl Context {
    fn entry(&mut self, entry: &Entry<'_>) -> Result<Option<Line>, Fault> {
        let origin = self.origin.clone();
        let mut words = Words::new(entry.line, &entry.words, &origin);
        let first = words.peek();
        if let Some(directive) = first.filter(|word| !word.quoted && word.text.starts_with('$') && !entry.indented) {
            words.next("a directive")?;
            self.directive(directive.text, &mut words)?;
            words.end()?;
            return Ok(None);
        }
        if !entry.indented {
            let word = words.next("an owner")?;
            // A name that cannot be read is not inherited by the lines below: they tell of it, too.
            self.owner = None;
            self.owner = Some(data::name(word, &self.origin)?);
        }
        let Some(owner) = self.owner.clone() else {
            return Err(words.fault("there is no owner: the line begins with a space, and none was read above".into()));
        };
        let (mut ttl, mut class) = (None, false);
        // RFC 1035 section 5.1: TTL and class in either order, each at most once.
        let rtype = loop {
            let word = words.next("a type")?;
            if word.text.eq_ignore_ascii_case("IN") && !class {
                class = true;
            } else if word.text.starts_with(|c: char| c.is_ascii_digit()) && ttl.is_none() {
                ttl = Some(duration(word.text).map_err(|reason| words.fault(reason))?);
            } else if ["CH", "HS", "CS", "NONE"].iter().any(|other| word.text.eq_ignore_ascii_case(other))
                || word.text.get(..5).is_some_and(|prefix| prefix.eq_ignore_ascii_case("CLASS"))
            {
                return Err(words.fault(format!("class {}: only IN is served", word.text)));
            } else {
                break word.text.parse::<RecordType>().map_err(|error| words.fault(error.to_string()))?;
            }
        };
        let line = words.line();
        refused(rtype).map_or(Ok(()), |reason| Err(Fault { line, reason }))?;
        self.last = ttl.or(self.last);
        let ttl = ttl.or(self.stated).or(self.last).unwrap_or(DEFAULT_TTL);
        if ttl > MAX_TTL {
            let reason =
                format!("a TTL of {ttl} seconds: {MAX_TTL} is the most, because signatures last for days only");
            return Err(Fault { line, reason });
        }
        let rdata = words.rdata(rtype)?;
        Ok(Some(Line { line: entry.line, owner, ttl, rtype, rdata }))
    }

    fn directive(&mut self, name: &str, words: &mut Words<'_, '_>) -> Result<(), Fault> {
        match name.to_ascii_uppercase().as_str() {
            "$ORIGIN" => self.origin = data::name(words.next("a name")?, &self.origin)?,
            "$TTL" => {
                let text = words.next("a TTL")?.text;
                self.stated = Some(duration(text).map_err(|reason| words.fault(reason))?);
            }
            "$INCLUDE" => return Err(words.fault("$INCLUDE: give all records in one text".into())),
            _ => return Err(words.fault(format!("{name} is not a directive that is known here"))),
        }
        Ok(())
    }
}

/// Seconds: a number, or numbers with the units w, d, h, m, s, as name servers have long read them.
fn duration(text: &str) -> Result<u32, String> {
    let wrong = || format!("{text:?} is not a TTL: give seconds, or units such as 1h30m");
    let (mut total, mut number) = (0_u64, None);
    let mut units = false;
    for c in text.bytes() {
        if c.is_ascii_digit() {
            let so_far: u64 = number.unwrap_or(0);
            number = Some(so_far * 10 + u64::from(c - b'0')).filter(|number| *number <= u64::from(u32::MAX));
            number.ok_or_else(wrong)?;
            continue;
        }
        let seconds = match c.to_ascii_lowercase() {
            b'w' => 604_800,
            b'd' => 86_400,
            b'h' => 3_600,
            b'm' => 60,
            b's' => 1,
            _ => return Err(wrong()),
        };
        total = total.saturating_add(number.take().ok_or_else(wrong)? * seconds);
        units = true;
    }
    match number {
        Some(_) if units => Err(wrong()),
        Some(seconds) => u32::try_from(seconds).map_err(|_| wrong()),
        None if units => u32::try_from(total).map_err(|_| wrong()),
        None => Err(wrong()),
    }
}

/// Why a type may not stand in a fragment.
fn refused(rtype: RecordType) -> Option<String> {
    match rtype {
        RecordType::SOA => Some("SOA is made by the directory: leave it out".into()),
        RecordType::CERT | RecordType::SMIMEA => {
            Some(format!("{rtype} records come from published certificates: certdir publish"))
        }
        RecordType::CDNSKEY => Some("CDNSKEY is made by the directory: leave it out".into()),
        _ if REFUSED.contains(&rtype) => Some(format!("{rtype} is made by the directory, or is no data: leave it out")),
        RecordType(128..=255) => Some(format!("{rtype} is no data: it stands in questions only")),
        _ if !data::has_text(rtype) && octets_only::form(rtype).is_none() => Some(format!(
            "{rtype} is not served: its data cannot be checked here, and other servers refuse a zone for it"
        )),
        _ => None,
    }
}

/// Puts lines together to RRsets and says which may not stand together.
fn stand(lines: Vec<Line>, apex: &Name, faults: &mut Vec<Fault>) -> Vec<Given> {
    let mut sets: BTreeMap<(Name, RecordType), Vec<Line>> = BTreeMap::new();
    for line in lines {
        match misplaced(&line, apex) {
            Some(reason) => faults.push(Fault { line: line.line, reason }),
            None => sets.entry((line.owner.clone(), line.rtype)).or_default().push(line),
        }
    }
    let mut types: BTreeMap<Name, Vec<RecordType>> = BTreeMap::new();
    for (owner, rtype) in sets.keys() {
        types.entry(owner.clone()).or_default().push(*rtype);
    }
    if let Some(line) = too_deep(&sets, &types, apex) {
        let reason =
            format!("the records up to here make more than {MAX_EMPTY} names that have none: use fewer labels");
        faults.push(Fault { line, reason });
        return Vec::new();
    }
    let has = |name: &Name, rtype| types.get(name).is_some_and(|types| types.contains(&rtype));
    let any = |rtype| sets.keys().any(|(_, other)| *other == rtype);
    // Most texts have neither, and need no look at the names above each.
    let (any_cut, any_dname) = (any(RecordType::NS), any(RecordType::DNAME));
    let mut given = Vec::new();
    for ((owner, rtype), lines) in &sets {
        let Some(first) = lines.first() else { continue };
        let mut blame = |line: &Line, reason: String| faults.push(Fault { line: line.line, reason });
        let (owner_cut, above_cut) = if any_cut { cuts(owner, apex, &has) } else { (None, None) };
        let address = [RecordType::A, RecordType::AAAA].contains(rtype);
        let standing = match (&owner_cut, &above_cut) {
            (None, None) => Standing::Data,
            _ if address => Standing::Glue,
            (_, None) if *rtype == RecordType::NS => Standing::Cut,
            (_, None) if *rtype == RecordType::DS => Standing::Data,
            (_, above) => {
                let cut = above.as_ref().or(owner_cut.as_ref()).unwrap_or(apex);
                let reason =
                    format!("{owner} {rtype} lies at or below the delegation of {cut}: it belongs into that zone");
                blame(first, reason);
                continue;
            }
        };
        if *rtype == RecordType::DS && owner_cut.is_none() {
            blame(first, format!("{owner} has a DS but no NS: DS stands at delegations only"));
        }
        if any_dname && let Some(alias) = ancestors(owner, apex).find(|above| has(above, RecordType::DNAME)) {
            // RFC 6672 section 2.4
            blame(first, format!("{owner} lies below the DNAME at {alias}, which speaks for all names below it"));
        }
        let others = types.get(owner).map_or(0, Vec::len);
        if *rtype == RecordType::CNAME && others > 1 {
            // RFC 1034 section 3.6.2
            blame(first, format!("{owner} has a CNAME and other records: a CNAME stands alone"));
        }
        if others > MAX_TYPES {
            blame(first, format!("{owner} has more than {MAX_TYPES} types of records"));
        }
        for line in lines {
            if line.ttl != first.ttl {
                // RFC 2181 section 5.2
                blame(
                    line,
                    format!("its TTL differs from that of the {rtype} record of {owner} in line {}", first.line),
                );
            }
        }
        let mut seen: BTreeMap<&Rdata, usize> = BTreeMap::new();
        for line in lines {
            if let Some(before) = seen.insert(&line.rdata, line.line) {
                blame(line, format!("the same record stands in line {before}"));
            }
        }
        if let Some(second) = lines.get(1).filter(|_| [RecordType::CNAME, RecordType::DNAME].contains(rtype)) {
            blame(second, format!("{owner} has two {rtype} records: there can be one only"));
        }
        if standing == Standing::Cut {
            for line in lines {
                let server = Name::from_wire(&line.rdata).unwrap_or_else(|_| Name::root());
                let glued = has(&server, RecordType::A) || has(&server, RecordType::AAAA);
                if server.is_at_or_below(owner) && !glued {
                    blame(
                        line,
                        format!("the name server {server} lies in the zone delegated to it: give its address, too"),
                    );
                }
            }
        }
        match Rrset::new(*rtype, first.ttl, lines.iter().map(|line| line.rdata.clone()).collect()) {
            Ok(rrset) => given.push(Given { owner: owner.clone(), rrset, standing, line: first.line }),
            Err(error) => blame(first, error.to_string()),
        }
    }
    given
}

/// The line with which the names without records get more than [`MAX_EMPTY`].
fn too_deep(
    sets: &BTreeMap<(Name, RecordType), Vec<Line>>,
    types: &BTreeMap<Name, Vec<RecordType>>,
    apex: &Name,
) -> Option<usize> {
    let mut empty: BTreeSet<Name> = BTreeSet::new();
    for ((owner, _), lines) in sets {
        // Above a name that is there everything was counted with it.
        for above in ancestors(owner, apex).take_while(|above| above != apex && !types.contains_key(above)) {
            if !empty.insert(above) {
                break;
            }
        }
        if empty.len() > MAX_EMPTY {
            return lines.first().map(|line| line.line);
        }
    }
    None
}

/// Why a record may not stand where it does, by itself.
fn misplaced(line: &Line, apex: &Name) -> Option<String> {
    let Line { owner, rtype, .. } = line;
    if !owner.is_at_or_below(apex) {
        return Some(format!("{owner} is outside the zone {apex}"));
    }
    if apex.prepend(b"_smimecert").is_ok_and(|reserved| owner.is_at_or_below(&reserved)) {
        return Some(format!("{owner}: the names below _smimecert come from published certificates"));
    }
    let at_apex = owner == apex;
    match *rtype {
        RecordType::NS if at_apex => {
            Some("the name servers of the zone itself are a setting: certdir domain change --name-server".into())
        }
        RecordType::CNAME | RecordType::DNAME | RecordType::DS if at_apex => {
            Some(format!("{rtype} cannot stand at the zone's own name, which has other records"))
        }
        // RFC 4592 sections 4.2 and 4.4
        RecordType::NS | RecordType::DNAME | RecordType::DS if owner.is_wildcard() => {
            Some(format!("{rtype} at a wildcard has no sound meaning"))
        }
        _ => None,
    }
}

/// The cut at a name, and the nearest one above it.
fn cuts(owner: &Name, apex: &Name, has: &dyn Fn(&Name, RecordType) -> bool) -> (Option<Name>, Option<Name>) {
    let cut = |name: &Name| name != apex && has(name, RecordType::NS);
    (cut(owner).then(|| owner.clone()), ancestors(owner, apex).find(cut))
}

/// The names above one, up to the apex.
fn ancestors<'a>(owner: &Name, apex: &'a Name) -> impl Iterator<Item = Name> + use<'a> {
    std::iter::successors(owner.parent(), Name::parent).take_while(move |name| name.is_at_or_below(apex))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn apex() -> Name {
        Name::parse("example.org").unwrap()
    }

    fn read(text: &str) -> Vec<String> {
        match Fragment::parse(text, &apex()) {
            Ok(fragment) => fragment.to_text().lines().map(str::to_string).collect(),
            Err(error) => panic!("{error}"),
        }
    }

    fn faults(text: &str) -> Vec<(usize, String)> {
        match Fragment::parse(text, &apex()) {
            Err(Error::Fragment(faults)) => faults.into_iter().map(|fault| (fault.line, fault.reason)).collect(),
            other => panic!("{text:?}: {other:?}"),
        }
    }

    #[test]
    fn what_a_customer_writes() {
        let text = "\
; mail
$TTL 1h30m
@           IN MX 10 mail       ; relative
            IN MX 20 mail2.example.net.
            300 TXT \"v=spf1 mx -all\" ; the owner before
mail    600 IN A 192.0.2.1
        IN 600 AAAA 2001:db8::1
_dmarc  TXT ( \"v=DMARC1;\"
              \" p=none\" )
*       MX 10 mail
sub     NS ns.sub
ns.sub  A 192.0.2.2
sub     DS 1 13 2 00000000000000000000000000000000000000000000000000000000000000AA
$ORIGIN lower.example.org.
WWW     CNAME Host\\.Name
@       TYPE65280 \\# 3 01 02 03
@       CAA 0 issue \"ca.example; policy=ev\"
host    TYPE1 \\# 4 C0000207
host    HTTPS \\# 3 000100
host    NAPTR 1 2 \"u\" \"E2U+sip\" \"!^.*$!sip:x@example.org!\" .
host    SSHFP 4 2 00000000000000000000000000000000000000000000000000000000000000ff
host    SRV 0 0 5060 @
";
        let expected = "\
example.org. 5400 IN MX 10 mail.example.org.
example.org. 5400 IN MX 20 mail2.example.net.
example.org. 300 IN TXT \"v=spf1 mx -all\"
*.example.org. 5400 IN MX 10 mail.example.org.
_dmarc.example.org. 5400 IN TXT \"v=DMARC1;\" \" p=none\"
lower.example.org. 5400 IN CAA 0 issue \"ca.example; policy=ev\"
lower.example.org. 5400 IN TYPE65280 \\# 3 010203
host.lower.example.org. 5400 IN A 192.0.2.7
host.lower.example.org. 5400 IN SRV 0 0 5060 lower.example.org.
host.lower.example.org. 5400 IN NAPTR 1 2 \"u\" \"E2U+sip\" \"!^.*$!sip:x@example.org!\" .
host.lower.example.org. 5400 IN SSHFP 4 2 00000000000000000000000000000000000000000000000000000000000000FF
host.lower.example.org. 5400 IN HTTPS \\# 3 000100
www.lower.example.org. 5400 IN CNAME host\\.name.lower.example.org.
mail.example.org. 600 IN A 192.0.2.1
mail.example.org. 600 IN AAAA 2001:db8:0:0:0:0:0:1
sub.example.org. 5400 IN NS ns.sub.example.org.
sub.example.org. 5400 IN DS 1 13 2 00000000000000000000000000000000000000000000000000000000000000AA
ns.sub.example.org. 5400 IN A 192.0.2.2
";
        assert_eq!(read(text).join("\n") + "\n", expected);
        assert_eq!(read(expected).join("\n") + "\n", expected, "it reads back");
        let fragment = Fragment::parse(text, &apex()).unwrap();
        let standing = |name: &str, rtype| fragment.rrset(&Name::parse(name).unwrap(), rtype).unwrap().standing;
        assert_eq!(standing("sub.example.org", RecordType::NS), Standing::Cut);
        assert_eq!(standing("sub.example.org", RecordType::DS), Standing::Data);
        assert_eq!(standing("ns.sub.example.org", RecordType::A), Standing::Glue);
        assert!(fragment.has_address(&Name::parse("mail.example.org").unwrap()));
        assert_eq!(Fragment::parse(" \n; nothing\r\n\n", &apex()), Ok(Fragment::default()));
    }

    #[test]
    fn ttls() {
        for (text, seconds) in [("0", 0), ("86400", 86_400), ("1d", 86_400), ("1H30M5s", 5_405), ("1w", 604_800)] {
            assert_eq!(duration(text), Ok(seconds), "{text}");
        }
        for text in ["", "h", "1h5", "1x", "-1", "4294967296", "99999999999999999999", "1h-", "8000w"] {
            assert!(duration(text).is_err(), "{text}");
        }
        // RFC 2308 section 4, RFC 1035 section 5.1: what is stated, else the last explicit one.
        assert_eq!(
            read("a A 192.0.2.1\nb 60 A 192.0.2.1\nc A 192.0.2.1\n$TTL 5\nd A 192.0.2.1"),
            [
                "a.example.org. 3600 IN A 192.0.2.1",
                "b.example.org. 60 IN A 192.0.2.1",
                "c.example.org. 60 IN A 192.0.2.1",
                "d.example.org. 5 IN A 192.0.2.1",
            ]
        );
    }

    /// Each text has one fault; the line and a word of its reason.
    #[test]
    fn every_fault_has_its_line() {
        for (text, line, word) in [
            ("\n\na A 192.0.2.256", 3, "IPv4"),
            ("a A +1.2.3.4", 1, "IPv4"),
            ("a AAAA 1::2::3", 1, "IPv6"),
            ("a A", 1, "missing"),
            ("a A 192.0.2.1 192.0.2.2", 1, "too much"),
            ("a", 1, "type"),
            (" A 192.0.2.1", 1, "owner"),
            ("a CH A 192.0.2.1", 1, "class"),
            ("a CLASS1 A 192.0.2.1", 1, "class"),
            ("a FOO 1", 1, "record type"),
            ("a HTTPS 1 .", 1, "generic form"),
            ("a A \\# 3 010203", 1, "no A record"),
            ("a A \\# 4 010203", 1, "3 octets"),
            ("a TYPE65280 \\# 2 01x3", 1, "hexadecimal"),
            ("a TYPE65280 0102", 1, "generic form"),
            ("a 2d A 192.0.2.1", 1, "TTL"),
            ("$TTL x", 1, "TTL"),
            ("$INCLUDE other.zone", 1, "$INCLUDE"),
            ("$GENERATE 1-9 a$ A 192.0.2.$", 1, "directive"),
            ("a TXT (\n\"x\"\n", 1, "not closed"),
            ("a TXT \"x\ny A 192.0.2.1", 1, "quoted string"),
            ("a TXT \"x\"y", 1, "without a space"),
            ("a TXT x)", 1, "closed"),
            ("a TXT ((x))", 1, "within"),
            ("a TXT ä", 1, "ASCII"),
            ("a TXT x\\", 1, "backslash"),
            ("a TXT \\256", 1, "backslash"),
            ("a..b A 192.0.2.1", 1, "empty"),
            ("a.example.com. A 192.0.2.1", 1, "outside"),
            ("@ SOA a b 1 2 3 4 5", 1, "SOA"),
            ("@ NS a.example.net.", 1, "setting"),
            ("a DNSKEY 257 3 13 AAAA", 1, "made by the directory"),
            ("a NSEC3PARAM 1 0 0 -", 1, "made by the directory"),
            ("a CDS 0 0 0 00", 1, "made by the directory"),
            ("a CERT 1 0 0 AAAA", 1, "certdir publish"),
            ("a ANY \\# 0", 1, "questions only"),
            ("_smimecert A 192.0.2.1", 1, "_smimecert"),
            ("a CNAME b\na A 192.0.2.1", 1, "alone"),
            ("a CNAME b\na CNAME c", 2, "one only"),
            ("a DNAME b\nx.a A 192.0.2.1", 2, "below the DNAME"),
            ("a 60 A 192.0.2.1\na 61 A 192.0.2.2", 2, "TTL"),
            ("a A 192.0.2.1\nA.example.org. A 192.0.2.1", 2, "line 1"),
            ("s NS n.example.net.\nx.s MX 1 @", 2, "delegation"),
            ("s NS n.example.net.\ns TXT x", 2, "delegation"),
            ("s NS n.s", 1, "address"),
            ("s DS 1 13 1 0000000000000000000000000000000000000000", 1, "no NS"),
            ("s NS n.example.net.\ns DS 1 13 2 00AA", 2, "32 octets"),
            ("s NS n.example.net.\ns DS \\# 6 00010D0200AA", 2, "32 octets"),
            ("a SSHFP 4 1 00", 1, "20 octets"),
            ("a HTTPS \\# 1 00", 1, "no HTTPS record"),
            ("a TYPE18 \\# 1 00", 1, "no TYPE18 record"),
            ("a TYPE13 \\# 2 0161", 1, "no TYPE13 record"),
            ("a TYPE29 \\# 1 00", 1, "not served"),
            ("a TYPE14 \\# 2 0000", 1, "not served"),
            ("@ TYPE63 \\# 7 00000001010100", 1, "made by the directory"),
            ("@ TYPE62 \\# 6 000000010000", 1, "made by the directory"),
            ("a TYPE32769 \\# 5 00010D0200", 1, "not served"),
            ("@ CNAME a", 1, "own name"),
            ("* NS n.example.net.", 1, "wildcard"),
            ("a CAA 0 is-sue x", 1, "tag"),
        ] {
            let found = faults(text);
            assert_eq!(found.len(), 1, "{text:?}: {found:?}");
            assert_eq!(found[0].0, line, "{text:?}: {found:?}");
            assert!(found[0].1.contains(word), "{text:?}: {found:?}");
        }
    }

    #[test]
    fn a_fault_does_not_repeat_a_long_text() {
        for (text, word) in [
            ("a.".repeat(500_000) + " A 192.0.2.1", "\"a.a."),
            ("a ".to_owned() + &"4294967295w".repeat(100_000) + " A 192.0.2.1", "is not"),
            ("a ".to_owned() + &"X".repeat(100_000) + " x", "is not a record type"),
            ("a A 192.0.2.1 ".to_owned() + &"é".repeat(100_000), ""),
            ("a MX ".to_owned() + &"9".repeat(100_000) + " @", "is not"),
        ] {
            let found = faults(&text);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].1.len() < 700 && found[0].1.contains(word), "{found:?}");
        }
    }

    #[test]
    fn what_is_no_text_is_told_with_its_line() {
        for (octets, line, word) in [
            (&b"a A 192.0.2.1\nb TXT \"\xfc\"\n"[..], 2, "UTF-8"),
            (b"\xff\xfea\0 \0A\0", 1, "UTF-8"),
            (b"\xef\xbb\xbfa A 192.0.2.1\n", 1, "byte order mark"),
            (b"", 1, "no record"),
            (b"\n ; nothing\n", 3, "no record"),
        ] {
            let Err(Error::Fragment(found)) = Fragment::text(octets.to_vec()) else { panic!("{octets:?}") };
            assert!(found.len() == 1 && found[0].line == line && found[0].reason.contains(word), "{found:?}");
        }
        assert_eq!(Fragment::text(b";\na A 192.0.2.1".to_vec()).unwrap(), ";\na A 192.0.2.1");
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let found = faults("a A x\nb A 192.0.2.1\n$INCLUDE y\nc MX z\n@ SOA\n");
        assert_eq!(found.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 3, 4, 5]);
        let many = "a A x\n".repeat(1_000);
        assert_eq!(faults(&many).len(), MAX_FAULTS);
        let long: String = (0..MAX_RECORDS + 5).map(|number| format!("a{number} A 192.0.2.1\n")).collect();
        assert!(faults(&long).iter().any(|(_, reason)| reason.contains("more than")));
        assert_eq!(faults(&" ".repeat(MAX_TEXT + 1)).len(), 1);
    }

    /// RFC 4034 section 6.2: validators put the names of these types into lower case before they look at a signature.
    #[test]
    fn names_in_octets_are_in_lower_case() {
        assert_eq!(read("a TYPE17 \\# 6 014100014200"), ["a.example.org. 3600 IN TYPE17 \\# 6 016100016200"]);
        assert_eq!(read("a TYPE18 \\# 5 4142014100"), ["a.example.org. 3600 IN TYPE18 \\# 5 4142016100"]);
    }

    #[test]
    fn service_bindings() {
        for (data, good) in [
            ("0000 00", true),
            ("0000 00 0003 0002 01bb", false),
            ("0001", false),
            ("0001 c000", false),
            ("0001 00 0001 0003 026832 0003 0002 01bb", true),
            ("0001 00 0003 0002 01bb 0001 0003 026832", false),
            ("0001 00 0003 0001 bb", false),
            ("0001 00 0001 0001 00", false),
            ("0001 00 0002 0000", false),
            ("0001 00 0001 0003 026832 0002 0000", true),
            ("0001 00 0000 0002 0003", false),
            ("0001 00 0000 0002 0003 0003 0002 01bb", true),
            ("0001 00 0004 0004 c0000201", true),
            ("0001 00 0004 0003 c00002", false),
            ("0001 00 0006 0004 c0000201", false),
            ("0001 00 ffff 0000", false),
            ("0001 00 0007 0008 2f787b3f646e737d", true),
            ("0001 00 00", false),
        ] {
            let octets = data.replace(' ', "").len() / 2;
            let text = format!("a HTTPS \\# {octets} {data}");
            assert_eq!(Fragment::parse(&text, &apex()).is_ok(), good, "{data}");
        }
    }

    #[test]
    fn names_without_records_are_limited() {
        let deep = |records: usize| -> String {
            let labels = "a.".repeat(100);
            (0..records).map(|number| format!("{labels}b{number} A 192.0.2.1\n")).collect()
        };
        assert!(Fragment::parse(&deep(MAX_EMPTY / 100), &apex()).is_ok());
        let found = faults(&deep(MAX_EMPTY / 100 + 1));
        assert!(found.len() == 1 && found[0].1.contains("fewer labels"), "{found:?}");
    }

    proptest! {
        /// Nothing from outside makes the reader panic, and what is taken reads back from its own text.
        #[test]
        fn what_is_taken_reads_back(text in r#"([a-z@*$"\\;() .0-9\n]|\PC){0,60}"#) {
            if let Ok(fragment) = Fragment::parse(&text, &apex()) {
                let mut again = Fragment::parse(&fragment.to_text(), &apex()).unwrap();
                for (one, other) in again.given.iter_mut().zip(&fragment.given) { one.line = other.line; }
                prop_assert_eq!(again, fragment);
            }
        }

        /// Any octets as data of a type survive being written, in the type's own form or the generic one.
        #[test]
        fn any_data_can_be_written(rtype in prop::sample::select(vec![1u16, 5, 12, 15, 16, 28, 33, 35, 44, 52, 61, 64, 257, 65_280]),
                                   octets in prop::collection::vec(any::<u8>(), 0..40)) {
            let rtype = RecordType(rtype);
            let text = format!("a {rtype} {}", crate::presentation(rtype, &octets));
            if let Ok(fragment) = Fragment::parse(&text, &apex()) {
                let rdata = fragment.given[0].rrset.rdata()[0].clone();
                // Names get into lower case, nothing else changes.
                prop_assert!(rdata.eq_ignore_ascii_case(&octets), "{text}");
            } else {
                let generic = crate::presentation(rtype, &octets).starts_with("\\#");
                prop_assert!(generic, "{text}");
            }
        }
    }
}
