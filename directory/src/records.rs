//! The records an entry and a domain own: which, at which owner names, and their signatures. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use certdir_certificate::UnixTime;
use certdir_zones::rdata::{cert, ns, soa};
use certdir_zones::{
    Address, CertForm, DomainName, Name, Rdata, RecordType, Rrset, SignedRrset, Soa, Usage, ZoneKey, cert_owners,
    smimea_owner, smimea_wildcard,
};

use crate::domain::{Hosting, Settings};
use crate::error::Error;
use crate::published::Visible;
use crate::rows::SignedRecord;

/// Signatures are valid for three days, so that a withdrawn certificate cannot be replayed for weeks.
pub const SIGNATURE_LIFETIME: i64 = 3 * 86_400;
/// Inception lies one hour back, for clients whose clocks are behind.
pub const INCEPTION_SKEW: i64 = 3_600;
/// TTL of SOA, NS and DNSKEY, and of other records that the directory makes for a zone.
pub(crate) const APEX_TTL: u32 = 3_600;
/// SOA timers for secondaries. One that is cut off stops answering before the signatures it has can end: they are renewed at
/// half of their life.
const SOA_REFRESH: u32 = 3_600;
const SOA_RETRY: u32 = 600;
const SOA_EXPIRE: u32 = 86_400;

/// Every owner name and type that an entry's RRsets may have, whatever settings they were made with.
pub(crate) fn possible_owners(hosting: Hosting, mailbox: &Address, spellings: &[Address]) -> Vec<(Name, RecordType)> {
    owners(hosting, true, mailbox, spellings)
}

/// The owner names and types of an entry's RRsets.
pub(crate) fn owners(
    hosting: Hosting,
    lower_case: bool,
    mailbox: &Address,
    spellings: &[Address],
) -> Vec<(Name, RecordType)> {
    let own = std::slice::from_ref(mailbox);
    let spellings = if spellings.is_empty() { own } else { spellings };
    let variants = if lower_case { own } else { &[] };
    let mut all = BTreeSet::new();
    for address in spellings.iter().chain(variants) {
        all.insert((smimea_owner(address), RecordType::SMIMEA));
        if hosting == Hosting::Mail {
            all.extend(cert_owners(address).into_iter().map(|owner| (owner, RecordType::CERT)));
        }
    }
    if mailbox.is_domain_authority() {
        all.insert((smimea_wildcard(mailbox.domain()), RecordType::SMIMEA));
        if hosting == Hosting::Mail {
            all.insert((mailbox.domain().name().clone(), RecordType::CERT));
        }
    }
    all.into_iter().collect()
}

/// An entry's RRsets, unsigned. `ttl` is the domain's, less where a certificate ends sooner.
pub(crate) fn rrsets(
    settings: &Settings,
    owners: Vec<(Name, RecordType)>,
    visible: &[Visible],
    now: UnixTime,
) -> Result<Vec<(Name, Rrset)>, Error> {
    let left = visible.iter().map(|c| c.not_after.saturating_sub(now)).min().unwrap_or(0);
    let ttl = settings.ttl.min(u32::try_from(left.max(1)).unwrap_or(u32::MAX));
    let mut data = Data { form: settings.cert_form(), visible, cert: None };
    let mut all = Vec::new();
    for (owner, rtype) in owners {
        all.extend(data.rrset(rtype, ttl)?.map(|rrset| (owner, rrset)));
    }
    Ok(all)
}

/// Puts stored signatures to the RRsets that follow from the visible certificates.
pub(crate) fn attach(
    form: CertForm,
    visible: &[Visible],
    records: Vec<SignedRecord>,
) -> Result<Vec<(Name, SignedRrset)>, Error> {
    let mut data = Data { form, visible, cert: None };
    let mut signed = Vec::with_capacity(records.len());
    for SignedRecord { owner, rtype, ttl, rrsig } in records {
        signed.extend(data.rrset(rtype, ttl)?.map(|rrset| (owner, SignedRrset { rrset, rrsig })));
    }
    Ok(signed)
}

/// The RDATA that follow from the visible certificates.
struct Data<'a> {
    form: CertForm,
    visible: &'a [Visible],
    /// Made when first asked for, then shared by all owners.
    cert: Option<Vec<Rdata>>,
}

impl Data<'_> {
    /// The RRset of a type; none where no certificate is for it.
    fn rrset(&mut self, rtype: RecordType, ttl: u32) -> Result<Option<Rrset>, Error> {
        let rdata: Vec<Rdata> = if rtype == RecordType::CERT {
            let form = self.form;
            let people = self.visible.iter().filter(|c| c.usage != Usage::DaneTa);
            self.cert.get_or_insert_with(|| people.map(|c| cert(form, c.der())).collect()).clone()
        } else {
            self.visible.iter().map(|c| c.rdata.clone()).collect()
        };
        if rdata.is_empty() { Ok(None) } else { Ok(Some(Rrset::new(rtype, ttl, rdata)?)) }
    }
}

/// When signatures made now begin, end and are due for renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Term {
    pub(crate) inception: u32,
    pub(crate) expiration: u32,
    /// Inception, not wrapped: where it lies in the future the clock was set back since.
    pub(crate) begins_at: UnixTime,
    /// None when they last as long as the certificate does: nothing to renew.
    pub(crate) refresh_at: Option<UnixTime>,
}

impl Term {
    /// A signature's term: never past `not_after`; renewed from half of its life, a little earlier by `spread` (any
    /// number, such as a row's), so that what was signed together is not renewed all at once.
    pub(crate) fn new(now: UnixTime, not_after: Option<UnixTime>, spread: i64) -> Term {
        let full = now.saturating_add(SIGNATURE_LIFETIME);
        let end = not_after.map_or(full, |not_after| not_after.min(full));
        let early = spread.wrapping_mul(7_919).rem_euclid(SIGNATURE_LIFETIME / 8);
        let refresh = now.saturating_add(SIGNATURE_LIFETIME / 2 - early);
        Term {
            inception: serial_time(now - INCEPTION_SKEW),
            begins_at: now - INCEPTION_SKEW,
            expiration: serial_time(end),
            refresh_at: (end == full).then_some(refresh),
        }
    }
}

/// Whether a signature has to be made anew: it is due, or begins in the future, because the clock was set back.
pub(crate) fn is_due(now: UnixTime, refresh_at: Option<UnixTime>, inception: Option<UnixTime>) -> bool {
    refresh_at.is_some_and(|at| at <= now) || inception.is_some_and(|at| at > now)
}

/// The serial of a zone that changes: one more (RFC 1982 section 3.1), or the time where that is ahead. A zone that was
/// restored from an older copy so passes what secondaries have seen of its former life. 0 is left out: some take it for
/// "none".
pub(crate) fn next_serial(serial: u32, now: UnixTime) -> u32 {
    let time = serial_time(now);
    // RFC 1982 section 3.2: greater by less than 2^31.
    let ahead = (1..1 << 31).contains(&time.wrapping_sub(serial));
    let next = if ahead { time } else { serial.wrapping_add(1) };
    next.max(1)
}

/// Seconds modulo 2^32, as RRSIG carries them (RFC 4034 section 3.1.5).
pub(crate) fn serial_time(at: UnixTime) -> u32 {
    u32::try_from(at.rem_euclid(1 << 32)).unwrap_or(0)
}

/// Signs an entry's RRsets for the store.
pub(crate) fn sign(
    key: &ZoneKey,
    apex: &Name,
    rrsets: Vec<(Name, Rrset)>,
    term: Term,
) -> Result<Vec<SignedRecord>, Error> {
    rrsets
        .into_iter()
        .map(|(owner, rrset)| {
            let signed = key.sign(apex, &owner, &rrset, term.inception, term.expiration)?;
            Ok(SignedRecord { owner, rtype: rrset.rtype, ttl: rrset.ttl, rrsig: signed.rrsig })
        })
        .collect()
}

/// SOA, NS and DNSKEY of a zone, signed.
pub(crate) fn apex(
    domain: &DomainName,
    settings: &Settings,
    serial: u32,
    key: &ZoneKey,
    term: Term,
) -> Result<Vec<SignedRrset>, Error> {
    let apex = settings.apex(domain);
    let servers = settings.server_names()?;
    let dnskey = Rrset::new(RecordType::DNSKEY, APEX_TTL, vec![key.dnskey()])?;
    let ns = Rrset::new(RecordType::NS, APEX_TTL, servers.iter().map(ns).collect())?;
    [soa_rrset(domain, settings, serial)?, ns, dnskey]
        .into_iter()
        .map(|rrset| Ok(key.sign(&apex, &apex, &rrset, term.inception, term.expiration)?))
        .collect()
}

/// Puts a new serial into a zone's apex and signs the SOA.
pub(crate) fn bump(
    domain: &DomainName,
    settings: &Settings,
    serial: u32,
    key: &ZoneKey,
    term: Term,
    apex_rrsets: &mut Vec<SignedRrset>,
) -> Result<(), Error> {
    let apex = settings.apex(domain);
    let soa = key.sign(&apex, &apex, &soa_rrset(domain, settings, serial)?, term.inception, term.expiration)?;
    apex_rrsets.retain(|signed| signed.rrset.rtype != RecordType::SOA);
    apex_rrsets.insert(0, soa);
    Ok(())
}

fn soa_rrset(domain: &DomainName, settings: &Settings, serial: u32) -> Result<Rrset, Error> {
    let servers = settings.server_names()?;
    let mname = servers.first().cloned().ok_or_else(|| Error::Setting("a zone needs a name server".into()))?;
    let rname = domain.name().prepend(b"hostmaster")?;
    let data = Soa {
        mname,
        rname,
        serial,
        refresh: SOA_REFRESH,
        retry: SOA_RETRY,
        expire: SOA_EXPIRE,
        // RFC 2308 section 4: how long a denial is believed, so how long a first certificate stays unseen.
        minimum: settings.ttl,
    };
    Ok(Rrset::new(RecordType::SOA, APEX_TTL, vec![soa(&data)])?)
}

/// The layout of the two encodings below; signatures over CERT records are over data as RFC 4398 says.
const FORMAT: u8 = 1;
/// The same layout; signatures over CERT records are over bare DER.
const FORMAT_BARE_DER: u8 = 2;

/// Writes signed records for the store: the format's number, which also tells the form of CERT data, then for each owner,
/// type, TTL and RRSIG RDATA.
pub(crate) fn encode(form: CertForm, records: &[SignedRecord]) -> Vec<u8> {
    let mut out = vec![match form {
        CertForm::Rfc4398 => FORMAT,
        CertForm::BareDer => FORMAT_BARE_DER,
    }];
    for record in records {
        put(&mut out, record.owner.as_wire());
        out.extend_from_slice(&record.rtype.0.to_be_bytes());
        out.extend_from_slice(&record.ttl.to_be_bytes());
        put(&mut out, &record.rrsig);
    }
    out
}

/// Reads what [`encode`] wrote.
pub(crate) fn decode(blob: &[u8]) -> Result<(CertForm, Vec<SignedRecord>), Error> {
    let (form, mut input) = match blob.split_first() {
        Some((&FORMAT_BARE_DER, rest)) => (CertForm::BareDer, rest),
        _ => (CertForm::Rfc4398, open(blob)?),
    };
    let mut records = Vec::new();
    while !input.is_empty() {
        let owner = Name::from_wire(take(&mut input)?)?;
        let (rtype, ttl) = (RecordType(number(&mut input)?), u32::from_be_bytes(array(&mut input)?));
        records.push(SignedRecord { owner, rtype, ttl, rrsig: Arc::from(take(&mut input)?) });
    }
    Ok((form, records))
}

/// Writes whole signed RRsets for the store: those of an apex.
pub(crate) fn encode_rrsets(rrsets: &[SignedRrset]) -> Vec<u8> {
    let mut out = vec![FORMAT];
    for signed in rrsets {
        out.extend_from_slice(&signed.rrset.rtype.0.to_be_bytes());
        out.extend_from_slice(&signed.rrset.ttl.to_be_bytes());
        let rdata = signed.rrset.rdata();
        out.extend_from_slice(&u16::try_from(rdata.len()).unwrap_or(u16::MAX).to_be_bytes());
        for one in rdata {
            put(&mut out, one);
        }
        put(&mut out, &signed.rrsig);
    }
    out
}

/// Reads what [`encode_rrsets`] wrote.
pub(crate) fn decode_rrsets(blob: &[u8]) -> Result<Vec<SignedRrset>, Error> {
    let mut input = open(blob)?;
    let mut rrsets = Vec::new();
    while !input.is_empty() {
        let (rtype, ttl) = (RecordType(number(&mut input)?), u32::from_be_bytes(array(&mut input)?));
        let count = number(&mut input)?;
        let rdata = (0..count).map(|_| Ok(Arc::from(take(&mut input)?))).collect::<Result<Vec<Rdata>, Error>>()?;
        rrsets.push(SignedRrset { rrset: Rrset::new(rtype, ttl, rdata)?, rrsig: Arc::from(take(&mut input)?) });
    }
    Ok(rrsets)
}

fn put(out: &mut Vec<u8>, octets: &[u8]) {
    // RDATA and names never exceed 65535 octets (RFC 1035 section 3.2.1); both types enforce it.
    out.extend_from_slice(&u16::try_from(octets.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(octets);
}

fn open(blob: &[u8]) -> Result<&[u8], Error> {
    match blob.split_first() {
        None => Ok(blob),
        Some((&FORMAT, rest)) => Ok(rest),
        Some((format, _)) => Err(Error::Corrupt(format!("signatures in format {format}"))),
    }
}

fn take<'a>(input: &mut &'a [u8]) -> Result<&'a [u8], Error> {
    let length = usize::from(number(input)?);
    let (octets, rest) = input.split_at_checked(length).ok_or_else(cut)?;
    *input = rest;
    Ok(octets)
}

fn number(input: &mut &[u8]) -> Result<u16, Error> {
    Ok(u16::from_be_bytes(array(input)?))
}

fn array<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], Error> {
    let (octets, rest) = input.split_first_chunk::<N>().ok_or_else(cut)?;
    *input = rest;
    Ok(*octets)
}

fn cut() -> Error {
    Error::Corrupt("signatures end in the middle".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_never_outlives_the_certificate_and_is_renewed_from_half_of_its_life() {
        let now = 1_800_000_000;
        for spread in 0..1_000 {
            let term = Term::new(now, Some(now + 90 * 86_400), spread);
            assert_eq!(term.expiration, (now + SIGNATURE_LIFETIME) as u32);
            assert_eq!(term.inception, (now - 3_600) as u32);
            let refresh = term.refresh_at.unwrap();
            assert!(refresh <= now + SIGNATURE_LIFETIME / 2 && refresh >= now + SIGNATURE_LIFETIME * 3 / 8);
        }
        let last = Term::new(now, Some(now + 86_400), 0);
        assert_eq!((last.expiration, last.refresh_at), ((now + 86_400) as u32, None));
    }

    /// 1,000,000 names signed in one minute are not renewed at once, neither the first time nor the tenth.
    #[test]
    fn a_bulk_publication_makes_no_storm() {
        const MINUTE: i64 = 60;
        let names = 1_000_000;
        let mut due: Vec<i64> = (0..names).map(|id| 1_800_000_000 + id % MINUTE).collect();
        for round in 1..=3 {
            let mut minutes = std::collections::BTreeMap::<i64, u32>::new();
            for (id, at) in (0..names).zip(&mut due) {
                *at = Term::new(*at, None, id).refresh_at.unwrap();
                *minutes.entry(*at / MINUTE).or_default() += 1;
            }
            let most = minutes.values().max().unwrap();
            // Nine hours of width: 1,852 a minute on average, where a core signs 70,000 a second.
            assert!(minutes.len() >= 540 && *most < 2_500, "round {round}: {most} in a minute of {}", minutes.len());
        }
    }

    #[test]
    fn times_wrap_at_2_to_the_32() {
        assert_eq!(serial_time((1 << 32) + 5), 5);
        let term = Term::new((1 << 32) - 10, None, 0);
        assert_eq!(term.expiration, (SIGNATURE_LIFETIME - 10) as u32);
    }

    /// RFC 1982: never backwards, also across 2^32, and never 0.
    #[test]
    fn serials_only_grow() {
        let greater = |one: u32, other: u32| (1..1 << 31).contains(&one.wrapping_sub(other));
        // 2106-02-07, a moment before the clock itself wraps; the serial is ahead of it.
        let now = (1 << 32) - 100;
        let mut serial = 4_294_967_290;
        let mut seen = vec![serial];
        for _ in 0..20 {
            let next = next_serial(serial, now);
            assert!(greater(next, serial), "{serial} to {next}");
            serial = next;
            seen.push(serial);
        }
        assert_eq!(seen[5..8], [u32::MAX, 1, 2]);
        // What was restored passes its former life.
        assert_eq!(next_serial(1_700_000_005, 1_800_000_000), 1_800_000_000);
        assert_eq!(next_serial(1_800_000_000, 1_800_000_000), 1_800_000_001);
        assert_eq!(next_serial(5, 1 << 32), 6, "a time of 0 is not ahead");
        assert_eq!(next_serial(u32::MAX, 1 << 32), 1);
    }

    #[test]
    fn owner_names_of_people_and_of_the_domain() {
        let text = |list: Vec<(Name, RecordType)>| -> Vec<String> {
            list.into_iter().map(|(name, rtype)| format!("{name} {rtype}")).collect()
        };
        let alice = Address::parse("alice@example.org").unwrap();
        let spelled = [Address::parse("Alice@example.org").unwrap()];
        assert_eq!(owners(Hosting::Smimecert, true, &alice, &[]).len(), 1);
        assert_eq!(owners(Hosting::Smimecert, true, &alice, &spelled).len(), 2, "exact and lower case");
        assert_eq!(
            owners(Hosting::Smimecert, false, &alice, &spelled),
            [(smimea_owner(&spelled[0]), RecordType::SMIMEA)]
        );
        let mail = text(owners(Hosting::Mail, true, &alice, &spelled));
        assert!(mail.contains(&"alice.example.org. CERT".to_string()), "{mail:?}");
        let authority = Address::domain_authority(&DomainName::parse("example.org").unwrap());
        let domain = text(owners(Hosting::Mail, true, &authority, &[]));
        assert!(domain.contains(&"*._smimecert.example.org. SMIMEA".to_string()), "{domain:?}");
        assert!(domain.contains(&"example.org. CERT".to_string()), "{domain:?}");
    }

    #[test]
    fn records_round_trip_and_cut_ones_are_errors() {
        let owner = smimea_owner(&Address::parse("hugh@example.com").unwrap());
        let records = [SignedRecord { owner, rtype: RecordType::SMIMEA, ttl: 300, rrsig: Arc::from([1u8; 107]) }];
        let blob = encode(CertForm::BareDer, &records);
        let (form, back) = decode(&blob).unwrap();
        assert_eq!(form, CertForm::BareDer);
        assert_eq!(decode(&encode(CertForm::Rfc4398, &records)).unwrap().0, CertForm::Rfc4398);
        assert_eq!(
            (back[0].owner.clone(), back[0].ttl, &back[0].rrsig),
            (records[0].owner.clone(), 300, &records[0].rrsig)
        );
        for end in 2..blob.len() {
            assert!(decode(&blob[..end]).is_err(), "cut at {end}");
        }
        assert!(decode(&[9]).is_err());
        assert!(decode(&[]).unwrap().1.is_empty());
    }
}
