//! Random zones against a naive model: sets of names, and rules straight from the RFCs.

use crate::{EXPIRATION, INCEPTION, TTL, key, name};
use certdir_zones::denial::{self, Hash};
use certdir_zones::{Found, Name, Rdata, RecordType, Rrset, SignedRrset, Zone};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const APEX: &str = "z.example";

#[derive(Debug, Clone)]
enum Change {
    Set(Name, RecordType),
    Remove(Name, RecordType),
}

/// Names at and below the apex over three labels, so that they meet; one in eight is elsewhere.
fn any_name() -> impl Strategy<Value = Name> {
    let label = prop::sample::select(vec!["a", "b", "*"]);
    (prop::collection::vec(label, 0..5), 0..8).prop_map(|(labels, elsewhere)| {
        let suffix = name(if elsewhere == 0 { "y.example" } else { APEX });
        labels.iter().fold(suffix, |name, label| name.prepend(label.as_bytes()).unwrap())
    })
}

fn any_change() -> impl Strategy<Value = Change> {
    // NS at the apex would be no cut: the apex of a true zone has SOA, too.
    let rtype = prop::sample::select(vec![
        RecordType::SMIMEA,
        RecordType::CERT,
        RecordType::SMIMEA,
        RecordType::NS,
        RecordType::DNAME,
    ]);
    let record = (any_name(), rtype, 0..5);
    let record =
        record.prop_filter("NS at the apex", |(owner, rtype, _)| *rtype != RecordType::NS || *owner != name(APEX));
    record.prop_map(
        |(owner, rtype, kind)| if kind < 3 { Change::Set(owner, rtype) } else { Change::Remove(owner, rtype) },
    )
}

/// Not a true signature: nothing here looks at it.
fn unsigned(rtype: RecordType) -> SignedRrset {
    let rrset = Rrset::new(rtype, TTL, vec![Rdata::from([3, 0, 0, 1].as_slice())]).unwrap();
    SignedRrset { rrset, rrsig: Rdata::from([0; 20].as_slice()) }
}

/// The model: what was set, by name.
type Model = BTreeMap<Name, BTreeSet<RecordType>>;

fn apply(zone: &mut Zone, model: &mut Model, change: &Change) {
    match change {
        Change::Set(owner, rtype) => {
            let inside = owner.is_at_or_below(&name(APEX));
            let result = zone.set(owner, unsigned(*rtype));
            assert_eq!(result.is_ok(), inside, "{owner}");
            if inside {
                model.entry(owner.clone()).or_default().insert(*rtype);
            }
        }
        Change::Remove(owner, rtype) => {
            zone.remove(owner, *rtype);
            if let Some(types) = model.get_mut(owner) {
                types.remove(rtype);
            }
            model.retain(|_, types| !types.is_empty());
        }
    }
}

/// Every existing name: what was set, and everything between it and the apex (RFC 4592 section 2.2.2).
fn existing(model: &Model) -> BTreeSet<Name> {
    let mut all = BTreeSet::from([name(APEX)]);
    for owner in model.keys() {
        let mut ancestor = owner.clone();
        while ancestor != name(APEX) {
            all.insert(ancestor.clone());
            ancestor = ancestor.parent().unwrap();
        }
    }
    all
}

/// The first name on the way from the apex down to `qname` with NS (not the apex) or DNAME (not `qname` itself).
fn diversion(model: &Model, qname: &Name) -> Option<(Name, RecordType)> {
    let mut way: Vec<Name> = std::iter::successors(Some(qname.clone()), Name::parent).collect();
    way.retain(|one| one.is_at_or_below(&name(APEX)));
    way.into_iter().rev().find_map(|one| {
        let types = model.get(&one)?;
        if types.contains(&RecordType::NS) {
            return Some((one, RecordType::NS));
        }
        (types.contains(&RecordType::DNAME) && one != *qname).then_some((one, RecordType::DNAME))
    })
}

/// Whether a name belongs to the zone, as a cut or for itself, and so to its chain.
fn linked(model: &Model, owner: &Name) -> bool {
    diversion(model, owner).is_none_or(|(at, rtype)| rtype == RecordType::NS && at == *owner)
}

fn check_find(zone: &Zone, all: &BTreeSet<Name>, model: &Model, qname: &Name) {
    let types = |name: &Name| model.get(name).cloned().unwrap_or_default();
    let node_types =
        |node: &certdir_zones::Node| node.rrsets().iter().map(|one| one.rrset.rtype).collect::<BTreeSet<_>>();
    assert_eq!(zone.occludes(qname.as_wire()), !linked(model, qname), "{qname}");
    // RFC 1034 section 4.3.2 step 3b, RFC 6672 section 3.2.
    if let Some((at, rtype)) = diversion(model, qname) {
        return match zone.find(qname.as_wire()) {
            Found::Delegation { cut, node } => {
                assert_eq!((cut, node_types(node), rtype), (at.as_wire(), types(&at), RecordType::NS));
            }
            Found::Dname { owner, node } => {
                assert_eq!((owner, node_types(node), rtype), (at.as_wire(), types(&at), RecordType::DNAME));
            }
            _ => panic!("{qname} is at or below {at}"),
        };
    }
    // RFC 4592 section 3.3.1, word for word.
    let mut closest = qname.clone();
    let mut next = qname.clone();
    while !all.contains(&closest) {
        next = closest.clone();
        match closest.parent() {
            Some(parent) => closest = parent,
            None => return assert!(matches!(zone.find(qname.as_wire()), Found::Outside), "{qname}"),
        }
    }
    let source = closest.prepend(b"*").unwrap();
    match zone.find(qname.as_wire()) {
        Found::Exact(node) => {
            assert_eq!(&closest, qname);
            assert_eq!(node_types(node), types(qname));
        }
        Found::Wildcard { node, closest_encloser, next_closer } => {
            assert_ne!(&closest, qname);
            assert!(all.contains(&source), "{qname}");
            assert_eq!((closest_encloser, next_closer), (closest.as_wire(), next.as_wire()));
            assert_eq!(node_types(node), types(&source));
        }
        Found::Missing { closest_encloser, next_closer } => {
            assert_ne!(&closest, qname);
            assert!(!all.contains(&source), "{qname}");
            assert_eq!((closest_encloser, next_closer), (closest.as_wire(), next.as_wire()));
        }
        Found::Outside => panic!("{qname} is inside"),
        Found::Delegation { .. } | Found::Dname { .. } => panic!("nothing diverts {qname}"),
    }
}

/// Whether an NSEC3 record covers a hash (RFC 5155 section 1.3): strictly between, on a ring.
fn covers(owner: Hash, next: Hash, hash: Hash) -> bool {
    if owner < next { owner < hash && hash < next } else { hash > owner || hash < next }
}

/// Owner hash and next hash of an NSEC3 record.
fn ends(owner: &Name, rdata: &[u8]) -> (Hash, Hash) {
    let label = owner.labels().next().unwrap().to_ascii_uppercase();
    let hash = data_encoding::BASE32_DNSSEC.decode(&label.to_ascii_lowercase()).unwrap();
    (hash.try_into().unwrap(), rdata[6..26].try_into().unwrap())
}

proptest! {
    #[test]
    fn find_agrees_with_the_model(changes in prop::collection::vec(any_change(), 0..40), questions in prop::collection::vec(any_name(), 1..30)) {
        let mut zone = Zone::new(name(APEX), key());
        let mut model = Model::new();
        let middle = changes.len() / 2;
        let mut before = None;
        for (number, change) in changes.iter().enumerate() {
            if number == middle {
                before = Some((zone.clone(), model.clone()));
            }
            apply(&mut zone, &mut model, change);
        }
        // An earlier copy is untouched by what came later.
        for (zone, model) in before.iter().map(|(zone, model)| (zone, model)).chain([(&zone, &model)]) {
            let all = existing(model);
            prop_assert_eq!(zone.names().map(|(name, _)| name.clone()).collect::<BTreeSet<_>>(), all.clone());
            prop_assert_eq!(zone.len(), all.len());
            for (name, node) in zone.names() {
                let children = all.iter().filter(|one| one.parent().as_ref() == Some(name)).count();
                prop_assert_eq!(usize::try_from(node.children()).unwrap(), children);
            }
            for qname in questions.iter().chain(&all) {
                check_find(zone, &all, model, qname);
            }
        }
    }

    #[test]
    fn denials_say_what_is_true_and_nothing_else(changes in prop::collection::vec(any_change(), 0..25), qname in any_name()) {
        let mut zone = Zone::new(name(APEX), key());
        let mut model = Model::new();
        for change in &changes {
            apply(&mut zone, &mut model, change);
        }
        let hashes: BTreeSet<Hash> = existing(&model).iter().filter(|name| linked(&model, name)).map(|name| denial::nsec3_hash(name.as_wire())).collect();
        let wildcard = |encloser: &[u8]| Name::from_wire(encloser).unwrap().prepend(b"*").unwrap();
        let (denials, matched, covered): (Vec<denial::Denial>, Vec<Name>, Vec<Name>) = match zone.find(qname.as_wire()) {
            Found::Exact(node) => (denial::nodata(qname.as_wire(), node).into(), vec![qname.clone()], vec![]),
            Found::Missing { closest_encloser, next_closer } => (
                denial::nxdomain(&zone, closest_encloser, next_closer).into(),
                vec![Name::from_wire(closest_encloser).unwrap()],
                vec![Name::from_wire(next_closer).unwrap(), wildcard(closest_encloser)],
            ),
            Found::Wildcard { node, closest_encloser, next_closer } => (
                denial::wildcard_nodata(&zone, closest_encloser, next_closer, node).into_iter().chain(denial::wildcard_expansion(next_closer)).collect(),
                vec![Name::from_wire(closest_encloser).unwrap(), wildcard(closest_encloser)],
                vec![Name::from_wire(next_closer).unwrap(), Name::from_wire(next_closer).unwrap()],
            ),
            // A cut without DS (RFC 5155 section 7.2.7).
            Found::Delegation { cut, node } => (denial::nodata(cut, node).into(), vec![Name::from_wire(cut).unwrap()], vec![]),
            Found::Outside | Found::Dname { .. } => return Ok(()),
        };
        let mut left: Vec<&Name> = matched.iter().collect();
        let mut uncovered: Vec<&Name> = covered.iter().collect();
        for one in &denials {
            let (owner, rrset) = one.record(&zone).unwrap();
            let signed = zone.key().sign(zone.apex(), &owner, &rrset, INCEPTION, EXPIRATION).unwrap();
            prop_assert_eq!(certdir_zones::verify(&zone.key().dnskey(), &owner, &signed, INCEPTION), Ok(()));
            let rdata = &rrset.rdata()[0];
            let (from, next) = ends(&owner, rdata);
            // Never over a name that exists.
            prop_assert!(!hashes.iter().any(|hash| covers(from, next, *hash)));
            if let Some(at) = left.iter().position(|name| denial::nsec3_hash(name.as_wire()) == from) {
                let mut types = model.get(left[at]).cloned().unwrap_or_default();
                if types.contains(&RecordType::NS) {
                    types.retain(|rtype| *rtype == RecordType::NS || *rtype == RecordType::DS);
                }
                let rrsig = (!types.is_empty()).then_some(RecordType::RRSIG);
                prop_assert_eq!(&rdata[26..], denial::type_bitmap(types.into_iter().chain(rrsig)));
                left.remove(at);
            } else {
                let at = uncovered.iter().position(|name| covers(from, next, denial::nsec3_hash(name.as_wire())));
                prop_assert!(at.is_some(), "{} proves nothing that was asked for", owner);
                uncovered.remove(at.unwrap());
                prop_assert_eq!(&rdata[26..], &[0u8; 0]);
            }
        }
        prop_assert!(left.is_empty() && uncovered.is_empty(), "{left:?} {uncovered:?}");
    }
}
