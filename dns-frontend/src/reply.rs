//! What is put into a response: the records asked for, a referral, or the proof that there is nothing.
//!
//! The steps of RFC 1034 section 4.3.2, without recursion: refuse what is not ours to answer; find the zone, then the name
//! in it; put the records of the type, or the denial; where the name is an alias, the alias, and again with its target.

use certdir_certificate::UnixTime;
use certdir_zones::denial::{self, Denial, HASH, Hash};
use certdir_zones::name::is_at_or_below;
use certdir_zones::{Error, Found, Node, Rdata, RecordType, SignedRrset, Zone};

use crate::proofs::{Denials, Proof, Unproven};
use crate::request::{HEADER, IN, MAX_NAME, Rcode, Request};
use crate::response::{Explanation, Owner, POINTER_RANGE, RECORD, Response, Section, pointer};
use crate::view::Zones;

/// How many aliases are followed for one question.
const MAX_ALIASES: usize = 8;
/// NSEC3 records of one response: three of a denial, and one for each alias expanded from a wildcard.
const MAX_PROOFS: usize = MAX_ALIASES + 3;

/// Puts into the response what the zones have for the question, or the proof that they have nothing.
pub(crate) fn resolve<Z: Zones>(
    zones: Option<&Z>,
    request: &Request<'_>,
    now: UnixTime,
    name: &mut [u8; MAX_NAME],
    denials: &mut Denials,
    response: &mut Response<'_>,
) -> Result<Rcode, Unproven> {
    if request.class != IN {
        return Ok(Rcode::REFUSED);
    }
    if let Some(rcode) = not_a_type(request.rtype) {
        if rcode == Rcode::REFUSED {
            response.explain(Explanation::Prohibited);
        }
        return Ok(rcode);
    }
    let Some(zones) = zones else {
        response.explain(Explanation::NotReady);
        return Ok(Rcode::SERVFAIL);
    };
    let Some(name) = name.get_mut(..request.name.len()) else {
        return Ok(Rcode::FORMERR);
    };
    name.copy_from_slice(request.name);
    // Length octets are at most 63, below every letter.
    name.make_ascii_lowercase();
    let asked = Asked { name, spelled: request.name, at: HEADER };
    let Some(zone) = zone_for(zones, asked.name, request.rtype) else {
        response.explain(Explanation::NotAuthoritative);
        return Ok(Rcode::REFUSED);
    };
    let mut reply = Reply {
        response,
        rtype: request.rtype,
        dnssec: request.edns.is_some_and(|edns| edns.dnssec_ok),
        denials,
        now,
        expansions: Vec::new(),
        proven: [(0, [0; HASH]); MAX_PROOFS],
        proofs: 0,
        dnames: Vec::new(),
        authoritative: None,
    };
    reply.follow(zones, zone, asked)
}

/// The answer to types that are no types of data.
fn not_a_type(rtype: RecordType) -> Option<Rcode> {
    /// Marks a name that does not exist in compact denial, and is never asked for (RFC 9824 section 3.5).
    const NXNAME: RecordType = RecordType(128);
    /// Key exchange (RFC 2930), mailbox records and mail agent records (RFC 1035 section 3.2.3).
    const UNSUPPORTED: [RecordType; 3] = [RecordType(249), RecordType(253), RecordType(254)];
    match rtype {
        // Zone transfers need permission, and nobody has it.
        RecordType::AXFR | RecordType::IXFR => Some(Rcode::REFUSED),
        RecordType::OPT | RecordType::TSIG | NXNAME => Some(Rcode::FORMERR),
        _ if UNSUPPORTED.contains(&rtype) => Some(Rcode::NOTIMP),
        _ => None,
    }
}

/// The zone that answers. DS records stand on the parent's side of a cut (RFC 4035 section 3.1.4.1): when the name is
/// an apex and its parent zone is served here too, that one answers; else the child says that it has none.
pub(crate) fn zone_for<'z, Z: Zones>(zones: &'z Z, name: &[u8], rtype: RecordType) -> Option<&'z Zone> {
    let zone = zones.zone_for(name)?;
    if rtype != RecordType::DS || zone.apex().as_wire() != name {
        return Some(zone);
    }
    let parent =
        name.first().and_then(|&length| name.get(usize::from(length) + 1..)).filter(|parent| !parent.is_empty());
    let above = parent.and_then(|parent| zones.zone_for(parent)).filter(|above| match above.find(name) {
        // The zone between the two is served elsewhere.
        Found::Delegation { cut, .. } => cut.len() == name.len(),
        _ => true,
    });
    Some(above.unwrap_or(zone))
}

/// A name to be answered for: the one in the question, or an alias's target.
#[derive(Clone, Copy)]
struct Asked<'n> {
    /// In lower case.
    name: &'n [u8],
    /// As it was written.
    spelled: &'n [u8],
    /// Where it stands in the message, uncompressed.
    at: usize,
}

impl Asked<'_> {
    /// The name itself as the owner of a record.
    fn owner(&self) -> Owner<'static> {
        Owner::Pointer(pointer(self.at))
    }

    /// Pointer to the last `length` octets of the name.
    fn tail(&self, length: usize) -> [u8; 2] {
        pointer(self.at + self.name.len().saturating_sub(length))
    }
}

/// What comes after one name was answered for.
enum Step {
    /// Nothing.
    Done(Rcode),
    /// The name is an alias; its target stands in the message at this offset.
    Alias(Rdata, usize),
}

/// Everything that decides about the records of one response.
struct Reply<'r, 'o, 'z> {
    response: &'r mut Response<'o>,
    rtype: RecordType,
    /// The client wants signatures and proofs (RFC 3225).
    dnssec: bool,
    denials: &'r mut Denials,
    now: UnixTime,
    /// Proofs that aliases, expanded from wildcards, call for: zone, pointer to its apex, denial. They have to wait until the
    /// answer section is complete.
    expansions: Vec<(&'z Zone, [u8; 2], Denial)>,
    /// The NSEC3 records that were put, by the octets of their zone's name and their hash.
    proven: [(usize, Hash); MAX_PROOFS],
    /// How many of them there are.
    proofs: usize,
    /// The DNAME RRsets that were put: a target below another one leads to it again.
    dnames: Vec<*const SignedRrset>,
    /// What AA will say, once the first name was looked up.
    authoritative: Option<bool>,
}

impl<'z> Reply<'_, '_, 'z> {
    /// Answers for the name and, while it is an alias, for its target in whatever zone has it (RFC 1034 section 4.3.2 step
    /// 3a). The response code is the last name's (RFC 6604 section 2.1), AA the first one's (RFC 1035 section 4.1.1). An error
    /// means that a proof was not made.
    fn follow<Z: Zones>(&mut self, zones: &'z Z, zone: &'z Zone, asked: Asked<'_>) -> Result<Rcode, Unproven> {
        let mut step = self.step(zone, asked)?;
        let mut followed: Vec<Vec<u8>> = Vec::new();
        loop {
            let (target, at) = match step {
                Step::Done(rcode) => {
                    self.prove_expansions()?;
                    if self.authoritative == Some(true) {
                        self.response.set_authoritative();
                    }
                    return Ok(rcode);
                }
                Step::Alias(target, at) => (target, at),
            };
            let name = target.to_ascii_lowercase();
            // Loops end where they close.
            let new = followed.len() < MAX_ALIASES && name != asked.name && !followed.contains(&name);
            let new = new && at < POINTER_RANGE;
            step = match zone_for(zones, &name, self.rtype).filter(|_| new) {
                Some(zone) => self.step(zone, Asked { name: &name, spelled: &target, at })?,
                None => Step::Done(Rcode::NOERROR),
            };
            followed.push(name);
        }
    }

    /// Puts what the zone has or has not for one name.
    fn step(&mut self, zone: &'z Zone, asked: Asked<'_>) -> Result<Step, Unproven> {
        let apex = asked.tail(zone.apex().as_wire().len());
        let found = zone.find(asked.name);
        if let Found::Delegation { cut, node } = found
            && (self.rtype != RecordType::DS || cut.len() != asked.name.len())
        {
            self.authoritative.get_or_insert(false);
            self.referral(zone, asked, cut, node)?;
            return Ok(Step::Done(Rcode::NOERROR));
        }
        self.authoritative.get_or_insert(true);
        match found {
            // RFC 4035 section 3.1.4.1: of what stands at a cut, DS alone is the parent's.
            Found::Exact(node) | Found::Delegation { node, .. } => {
                if let Some(step) = self.positive(asked, node) {
                    return Ok(step);
                }
                self.negative(zone, apex, |_| denial::nodata(asked.name, node))?;
                Ok(Step::Done(Rcode::NOERROR))
            }
            // RFC 4592 section 3.3.1: the wildcard's records under the name asked for, the RRSIG as it is.
            Found::Wildcard { node, closest_encloser, next_closer } => {
                match self.positive(asked, node) {
                    Some(alias @ Step::Alias(..)) => {
                        let [denial] = denial::wildcard_expansion(next_closer);
                        self.expansions.push((zone, apex, denial));
                        return Ok(alias);
                    }
                    Some(Step::Done(_)) => self.prove(zone, apex, |_| denial::wildcard_expansion(next_closer))?,
                    None => self.negative(zone, apex, |zone| {
                        denial::wildcard_nodata(zone, closest_encloser, next_closer, node)
                    })?,
                }
                Ok(Step::Done(Rcode::NOERROR))
            }
            Found::Missing { closest_encloser, next_closer } => {
                self.negative(zone, apex, |zone| denial::nxdomain(zone, closest_encloser, next_closer))?;
                Ok(Step::Done(Rcode::NXDOMAIN))
            }
            Found::Dname { owner, node } => Ok(self.substitute(asked, owner, node)),
            Found::Outside => Ok(Step::Done(Rcode::REFUSED)),
        }
    }

    /// Puts what the node has of the type into the answer section, or its alias; none where it has neither.
    fn positive(&mut self, asked: Asked<'_>, node: &Node) -> Option<Step> {
        let found = match self.rtype {
            // RFC 8482 section 4.1: one RRset is enough. The same for signatures, which say nothing without their records.
            RecordType::ANY => node.rrsets().first(),
            RecordType::RRSIG => node.rrsets().iter().find(|one| !one.rrsig.is_empty()),
            // RFC 1034 section 3.6.2: an alias stands for every other type.
            _ => node.rrset(self.rtype).or_else(|| node.rrset(RecordType::CNAME)),
        };
        let signed = found?;
        let ttl = self.ttl(signed);
        if self.rtype == RecordType::RRSIG {
            self.response.record(Section::Answer, asked.owner(), self.rtype, ttl, &signed.rrsig);
            return Some(Step::Done(Rcode::NOERROR));
        }
        let at = self.response.offset() + RECORD;
        if !self.dnames.contains(&std::ptr::from_ref(signed)) {
            self.rrset(Section::Answer, asked.owner(), signed, ttl);
        }
        let alias = signed.rrset.rtype == RecordType::CNAME && !self.wants_alias();
        Some(match signed.rrset.rdata().first().filter(|_| alias) {
            Some(target) => Step::Alias(target.clone(), at),
            None => Step::Done(Rcode::NOERROR),
        })
    }

    /// Puts the DNAME record, and the CNAME record that follows from it for this name (RFC 6672 sections 3.1 and 3.2). The
    /// latter is not signed: whoever validates makes it himself (section 5.3.1).
    fn substitute(&mut self, asked: Asked<'_>, owner: &[u8], node: &Node) -> Step {
        let Some(dname) = node.rrset(RecordType::DNAME) else {
            return Step::Done(Rcode::SERVFAIL);
        };
        let ttl = self.ttl(dname);
        if !self.dnames.contains(&std::ptr::from_ref(dname)) {
            self.rrset(Section::Answer, Owner::Pointer(asked.tail(owner.len())), dname, ttl);
            self.dnames.push(dname);
        }
        let prefix = asked.spelled.get(..asked.name.len().saturating_sub(owner.len())).unwrap_or_default();
        let target = [prefix, dname.rrset.rdata().first().map_or(&[], |target| target)].concat();
        if target.len() > MAX_NAME {
            return Step::Done(Rcode::YXDOMAIN);
        }
        let at = self.response.offset() + RECORD;
        self.response.record(Section::Answer, asked.owner(), RecordType::CNAME, ttl, &target);
        // Who asks for the alias has it.
        if self.wants_alias() { Step::Done(Rcode::NOERROR) } else { Step::Alias(target.into(), at) }
    }

    /// Puts the way to the servers of a delegated zone: its NS records, DS or the proof that there is none (RFC 4035 section
    /// 3.1.4, RFC 5155 section 7.2.7), and the addresses that only this zone has.
    fn referral(&mut self, zone: &'z Zone, asked: Asked<'_>, cut: &[u8], node: &Node) -> Result<(), Unproven> {
        let Some(ns) = node.rrset(RecordType::NS) else {
            return Ok(());
        };
        let owner = Owner::Pointer(asked.tail(cut.len()));
        let servers = self.response.offset();
        let ttl = self.ttl(ns);
        self.rrset(Section::Authority, owner, ns, ttl);
        match node.rrset(RecordType::DS).filter(|_| self.dnssec) {
            Some(ds) => {
                let ttl = self.ttl(ds);
                self.rrset(Section::Authority, owner, ds, ttl);
            }
            None => self.prove(zone, asked.tail(zone.apex().as_wire().len()), |_| denial::nodata(cut, node))?,
        }
        self.prove_expansions()?;
        // RFC 9471 section 3.1: the addresses of servers below the cut are needed, and without room for them the response is
        // truncated. Section 3.2: others are put as far as they fit.
        for needed in [true, false] {
            let mut at = servers;
            for server in ns.rrset.rdata() {
                let name = at + RECORD;
                at = name + server.len();
                let server = server.to_ascii_lowercase();
                let owner = if name < POINTER_RANGE { Owner::Pointer(pointer(name)) } else { Owner::Name(&server) };
                let Some(node) = zone.get(&server).filter(|_| is_at_or_below(&server, cut) == needed) else {
                    continue;
                };
                if !self.response.fits() {
                    return Ok(());
                }
                let mark = self.response.mark();
                for glue in [RecordType::A, RecordType::AAAA].iter().filter_map(|rtype| node.rrset(*rtype)) {
                    let ttl = self.ttl(glue);
                    self.rrset(Section::Additional, owner, glue, ttl);
                }
                if !needed && !self.response.fits() {
                    self.response.rewind(&mark);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Puts the SOA record, whose TTL says how long there will be nothing (RFC 2308 section 3, RFC 9077 section 3), and
    /// the proof.
    fn negative<const N: usize>(
        &mut self,
        zone: &'z Zone,
        apex: [u8; 2],
        denials: impl FnOnce(&Zone) -> [Denial; N],
    ) -> Result<(), Unproven> {
        let soa = zone.get(zone.apex().as_wire()).and_then(|apex| apex.rrset(RecordType::SOA));
        let soa = soa.ok_or_else(|| missing(zone, "SOA"))?;
        let ttl = zone.denial_ttl().min(time_left(soa, self.now));
        self.rrset(Section::Authority, Owner::Pointer(apex), soa, ttl);
        self.prove(zone, apex, denials)
    }

    /// Puts the proofs that waited for the answer section to be complete.
    fn prove_expansions(&mut self) -> Result<(), Unproven> {
        for (zone, apex, denial) in std::mem::take(&mut self.expansions) {
            self.prove(zone, apex, |_| [denial])?;
        }
        Ok(())
    }

    /// Puts the NSEC3 records of a proof, each once: from the zone's chain where it has one, else made for the question.
    fn prove<const N: usize>(
        &mut self,
        zone: &Zone,
        apex: [u8; 2],
        denials: impl FnOnce(&Zone) -> [Denial; N],
    ) -> Result<(), Unproven> {
        if !self.dnssec || !self.response.wants_proof() {
            return Ok(());
        }
        for denial in denials(zone) {
            let label;
            let (hash, label, signed) = if let Some(chain) = zone.chain() {
                let link = denial.link(chain).ok_or_else(|| missing(zone, "NSEC3"))?;
                label = denial::nsec3_label(&link.hash);
                (link.hash, &label[..], link.signed)
            } else {
                let Proof { label, signed } = self.denials.proof(zone, &denial, self.now)?;
                (denial.hash(), &**label, signed)
            };
            let record = (zone.apex().as_wire().len(), hash);
            if self.proven.iter().take(self.proofs).any(|earlier| *earlier == record) {
                continue;
            }
            if let Some(slot) = self.proven.get_mut(self.proofs) {
                *slot = record;
                self.proofs += 1;
            }
            let ttl = signed.rrset.ttl.min(time_left(signed, self.now));
            put_rrset(self.response, Section::Authority, Owner::Below(label, apex), signed, ttl, true);
        }
        Ok(())
    }

    /// Whether an alias is an answer by itself.
    fn wants_alias(&self) -> bool {
        [RecordType::CNAME, RecordType::ANY].contains(&self.rtype)
    }

    /// Seconds that an RRset may be kept.
    fn ttl(&self, signed: &SignedRrset) -> u32 {
        signed.rrset.ttl.min(time_left(signed, self.now))
    }

    fn rrset(&mut self, section: Section, owner: Owner<'_>, signed: &SignedRrset, ttl: u32) {
        put_rrset(self.response, section, owner, signed, ttl, self.dnssec);
    }
}

fn missing(zone: &Zone, missing: &'static str) -> Error {
    Error::IncompleteZone { apex: zone.apex().to_string(), missing }
}

/// Puts the records, and their signature with the same TTL (RFC 4034 section 3) when it is wanted and there is one.
fn put_rrset(
    response: &mut Response<'_>,
    section: Section,
    owner: Owner<'_>,
    signed: &SignedRrset,
    ttl: u32,
    dnssec: bool,
) {
    let position = response.position();
    for rdata in signed.rrset.rdata() {
        response.record(section, owner, signed.rrset.rtype, ttl, rdata);
    }
    if dnssec && !signed.rrsig.is_empty() {
        // An owner that was written in full a moment ago need not be written again.
        let owner = if let Owner::Below(..) = owner { position.unwrap_or(owner) } else { owner };
        response.record(section, owner, RecordType::RRSIG, ttl, &signed.rrsig);
    }
}

/// Seconds that the signature lasts from now on (serial number arithmetic, RFC 4034 section 3.1.5): no cache may keep
/// the records longer. What is not signed has no such limit.
fn time_left(signed: &SignedRrset, now: UnixTime) -> u32 {
    let left = signed.expiration().wrapping_sub(now as u32);
    if signed.rrsig.is_empty() {
        u32::MAX
    } else if left < 1 << 31 {
        left
    } else {
        0
    }
}
