//! Whether a certificate is revoked: CRLs by RFC 5280 section 6.3, OCSP by RFC 6960 section 3.2.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;

use crate::anchors::{Anchors, Member, Pool};
use crate::certificate::Certificate;
use crate::crl::{Crl, Reason};
use crate::der::{self, tag};
use crate::evidence::Evidence;
use crate::ocsp::{self, OcspResponse, Responder, Status};
use crate::parts::{Extensions, Parts};
use crate::pointers::{GeneralName, Point, PointName, Reasons, distribution_points, information_access};
use crate::purpose;
use crate::refusal::{Refusal, Want, add_wants};
use crate::requirements::Requirements;
use crate::search::{Issuer, Search, out_of_work};
use crate::signature::Memory;
use crate::time::UnixTime;

/// How far the clock of somebody who signs CRLs and OCSP responses may be ahead, in seconds.
const SKEW: UnixTime = 300;
/// How long an OCSP response without nextUpdate is used, in seconds.
const OCSP_LIFE: UnixTime = 86_400;
/// Most lists that are tried for one distribution point, and most OCSP answers for one certificate.
const MAX_TRIED: usize = 64;
/// Most keys of one name that are tried as the issuer's where nothing is asked about trust.
pub const MAX_ISSUERS: usize = 8;
/// Most URIs of one kind that are handed on for one certificate.
const MAX_URIS: usize = 8;

/// What is known of a certificate's revocation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It was not revoked when a CRL or OCSP response was made that still holds.
    Good {
        /// Until when that holds.
        until: UnixTime,
    },
    /// It is revoked.
    Revoked {
        /// Since when, as its authority says.
        since: UnixTime,
        /// Why.
        reason: Reason,
    },
    /// Nothing at hand says it.
    Unknown {
        /// What could be fetched.
        wants: Vec<Want>,
    },
}

/// Whether `leaf` is revoked as far as its issuer says so, without asking whether the issuer is trusted: for a certificate
/// that DNSSEC vouches for (usage 3 of RFC 6698), whose issuer was fetched from where the certificate says and is in the
/// `pool`. The issuer's name and key must fit the certificate's signature; CRLs and OCSP responses must be signed by that key
/// (or OCSP by a responder that the issuer named). If several keys fit, each is asked, and one that says "revoked" is enough.
///
/// Where no certificate of the pool fits, the issuer is what could be fetched.
///
/// # Errors
/// Only [`Refusal::is_exhausted`]: there are more than [`MAX_ISSUERS`] keys of that name, or more to verify than for any
/// validation.
pub fn revocation_within(
    leaf: &Certificate,
    pool: &Pool,
    evidence: &Evidence,
    now: UnixTime,
    memory: &Memory,
) -> Result<Standing, Refusal> {
    let of_issuers = of_issuers(leaf, pool, evidence, now, memory)?;
    Ok(of_issuers.unwrap_or_else(|| Standing::Unknown { wants: issuer_wants(leaf) }))
}

/// The same of one issuer that is at hand. A certificate that it did not sign is [`Standing::Unknown`] without wants, and so
/// is one that takes too much work.
pub fn revocation_of(
    leaf: &Certificate,
    issuer: &Certificate,
    evidence: &Evidence,
    now: UnixTime,
    memory: &Memory,
) -> Standing {
    let mut pool = Pool::new();
    let of_issuer = pool.add(issuer).ok().and_then(|()| of_issuers(leaf, &pool, evidence, now, memory).ok().flatten());
    of_issuer.unwrap_or(Standing::Unknown { wants: Vec::new() })
}

/// `None` if none of the pool has signed it.
fn of_issuers(
    leaf: &Certificate,
    pool: &Pool,
    evidence: &Evidence,
    now: UnixTime,
    memory: &Memory,
) -> Result<Option<Standing>, Refusal> {
    let Ok(leaf) = Member::new(leaf) else {
        return Ok(None);
    };
    let (anchors, nobody, requirements) = (Anchors::new(), Pool::new(), Requirements::at(now));
    let search = Search::new(&anchors, &nobody, evidence, &requirements, memory);
    let mut keys: Vec<Issuer<'_>> = Vec::new();
    let mut places = HashMap::new();
    // Those with the key identifier first.
    let wanted = leaf.certificate.authority_key_id();
    let fits = |member: &&Arc<Member>| wanted.is_some() && member.certificate.subject_key_id() == wanted;
    let named = || pool.named(&leaf.issuer);
    for member in named().filter(fits).chain(named().filter(|member| !fits(member))) {
        let Some(issuer) = Issuer::member(member).filter(|issuer| *issuer.key != leaf.key) else {
            continue;
        };
        // Nobody has verified these certificates: one of them must not take from a key what another gives it.
        match places.entry(issuer.key).or_insert(keys.len()) {
            place if *place == keys.len() => keys.push(issuer),
            place => keys.get_mut(*place).into_iter().for_each(|there| there.may_sign_crls |= issuer.may_sign_crls),
        }
    }
    let mut found: Option<Standing> = None;
    let too_many = keys.len() > MAX_ISSUERS;
    for issuer in keys.iter().take(MAX_ISSUERS) {
        if search.verify_certificate(&leaf, issuer).is_err() {
            continue;
        }
        let one = standing(&search, &leaf, issuer, 0);
        found = Some(match found.take() {
            Some(before) => before.and(one),
            None => one,
        });
        if let Some(Standing::Revoked { .. }) = found {
            return Ok(found);
        }
    }
    if search.is_exhausted() || found.is_none() && too_many {
        return Err(out_of_work(&leaf));
    }
    Ok(found)
}

impl Standing {
    /// What two issuers say together, of whom it is not clear which one is meant.
    fn and(self, other: Standing) -> Standing {
        match (self, other) {
            (revoked @ Standing::Revoked { .. }, _) | (_, revoked @ Standing::Revoked { .. }) => revoked,
            (Standing::Good { until: one }, Standing::Good { until: other }) => {
                Standing::Good { until: one.min(other) }
            }
            (good @ Standing::Good { .. }, _) | (_, good @ Standing::Good { .. }) => good,
            (Standing::Unknown { mut wants }, Standing::Unknown { wants: more }) => {
                add_wants(&mut wants, more);
                Standing::Unknown { wants }
            }
        }
    }
}

/// What could be fetched to learn who issued a certificate: caIssuers (RFC 5280 section 4.2.2.1).
pub fn issuer_wants(certificate: &Certificate) -> Vec<Want> {
    let Ok(parts) = Parts::of(certificate) else {
        return Vec::new();
    };
    let uris = information_access(&parts).issuers;
    uris.into_iter().take(MAX_URIS).map(|uri| Want::Issuer { uri }).collect()
}

/// OCSP and CRLs are both looked at: if either says that it is revoked, it is.
pub(crate) fn standing(search: &Search<'_>, subject: &Member, issuer: &Issuer<'_>, depth: u32) -> Standing {
    let Ok(parts) = subject.parts() else {
        return Standing::Unknown { wants: Vec::new() };
    };
    let by_ocsp = by_ocsp(search, subject, &parts, issuer, depth);
    if let Some(revoked @ Standing::Revoked { .. }) = by_ocsp {
        return revoked;
    }
    match (by_ocsp, by_crl(search, subject, &parts, issuer, depth)) {
        (_, Some(revoked @ Standing::Revoked { .. })) => revoked,
        (Some(Standing::Good { until: one }), Some(Standing::Good { until: other })) => {
            Standing::Good { until: one.min(other) }
        }
        (Some(good), _) | (None, Some(good)) => good,
        (None, None) => Standing::Unknown { wants: wants(&parts, subject, issuer) },
    }
}

fn wants(parts: &Parts<'_>, subject: &Member, issuer: &Issuer<'_>) -> Vec<Want> {
    let mut wants = Vec::new();
    let responders = information_access(parts).ocsp.into_iter().take(MAX_URIS);
    if let Some(request) = ocsp::request(parts, subject.certificate.issuer_der(), issuer.spki) {
        add_wants(&mut wants, responders.map(|uri| Want::Ocsp { uri, request: request.clone() }));
    }
    let points = distribution_points(parts).unwrap_or_default();
    let lists = points.iter().map(|point| point.uris().into_iter().take(MAX_URIS).collect::<Vec<_>>());
    add_wants(&mut wants, lists.filter(|uris| !uris.is_empty()).take(MAX_URIS).map(|uris| Want::Crl { uris }));
    wants
}

/// RFC 5280 section 6.3.3. `None` if it cannot be determined.
fn by_crl(
    search: &Search<'_>,
    subject: &Member,
    parts: &Parts<'_>,
    issuer: &Issuer<'_>,
    depth: u32,
) -> Option<Standing> {
    let now = search.requirements.now;
    let mut points = distribution_points(parts).ok()?;
    points.push(Point::implied());
    let mut lists: Vec<(&Point, &Crl)> = Vec::new();
    for point in &points {
        let issuers = point.crl_issuers(issuer.name);
        let of_point = issuers.iter().flat_map(|name| search.evidence.crls(name)).take(MAX_TRIED);
        let current = of_point.filter(|crl| {
            crl.next_update().is_some_and(|next| next >= now)
                && crl.this_update() <= now.saturating_add(SKEW)
                && search.may_compare(point.names() * crl.scope.name.as_ref().map_or(0, PointName::len))
                && covers(crl, point, &issuers, issuer.name, subject.certificate.is_ca())
        });
        lists.extend(current.map(|crl| (point, &**crl)));
    }
    // The newest first, whichever point it belongs to: what is older must not take back what is newer, and of two of the
    // same second the one that revokes counts.
    lists.sort_by_key(|(_, crl)| Reverse(crl.this_update()));
    let mut covered = Reasons::NONE;
    let mut until = UnixTime::MAX;
    for same_age in lists.chunk_by(|(_, one), (_, other)| one.this_update() == other.this_update()) {
        let by_newer = covered;
        for (point, crl) in same_age {
            let reasons = crl.scope.reasons.and(point.reasons);
            if reasons.within(by_newer) || !search.crl_is_signed(crl, issuer, depth) {
                continue;
            }
            if let Some(listed) = crl.find(issuer.name, parts.serial) {
                return Some(Standing::Revoked { since: listed.since, reason: listed.reason });
            }
            if !crl.partly_understood {
                covered = covered.or(reasons);
                until = until.min(crl.next_update().unwrap_or(now));
            }
        }
        if Reasons::ALL.within(covered) {
            return Some(Standing::Good { until });
        }
    }
    None
}

/// Whether a list is one that this distribution point means (RFC 5280 section 6.3.3 (b)).
fn covers(crl: &Crl, point: &Point, issuers: &[&[u8]], issuer: &[u8], authority: bool) -> bool {
    let scope = &crl.scope;
    if scope.delta || scope.attributes_only {
        return false;
    }
    if scope.users_only && authority || scope.authorities_only && !authority {
        return false;
    }
    // (1): a point that names a CRL issuer means an indirect list; any other is by the certificate's issuer.
    if point.issuers.is_some() && !scope.indirect {
        return false;
    }
    // (2)(i): the names of the list's distribution point and of the certificate's must meet.
    let Some(name) = &scope.name else {
        return true;
    };
    let of_list = name.full(&[&crl.issuer]);
    let of_point = match (&point.name, &point.issuers) {
        (Some(name), _) => name.full(issuers),
        (None, Some(issuers)) => issuers.clone(),
        (None, None) => vec![GeneralName::directory(issuer.to_vec())],
    };
    of_list.iter().any(|name| of_point.contains(name))
}

/// `None` if no response says anything.
fn by_ocsp(
    search: &Search<'_>,
    subject: &Member,
    parts: &Parts<'_>,
    issuer: &Issuer<'_>,
    depth: u32,
) -> Option<Standing> {
    let now = search.requirements.now;
    let mut unknown = false;
    for (response, single) in search.evidence.answers(parts.serial).into_iter().take(MAX_TRIED) {
        let until = single.next_update.unwrap_or(single.this_update.saturating_add(OCSP_LIFE));
        if single.unknown_extension
            || until < now
            || single.this_update > now.saturating_add(SKEW)
            || !single.is_about(parts.serial, subject.certificate.issuer_der(), issuer.spki)
            || !is_signed(search, response, issuer, depth)
        {
            continue;
        }
        match single.status {
            // Whom the responder no longer knows is not good because he once was.
            Status::Good if unknown => {}
            Status::Good => return Some(Standing::Good { until }),
            Status::Revoked { since, reason } => return Some(Standing::Revoked { since, reason }),
            Status::Unknown => unknown = true,
        }
    }
    None
}

/// RFC 6960 section 4.2.2.2: the issuer signs itself, or it has issued the responder's certificate for this purpose.
fn is_signed(search: &Search<'_>, response: &OcspResponse, issuer: &Issuer<'_>, depth: u32) -> bool {
    let signed = |spki: &[u8], key: &[u8; 32]| {
        let (algorithm, tbs, signature) = (response.algorithm(), response.tbs(), response.signature());
        search.verify(response.sha256(), spki, key, algorithm, tbs, signature).is_ok()
    };
    let is_responder = |name: &[u8], spki: &[u8]| match &response.responder {
        Responder::Name(responder) => responder == name,
        Responder::Key(id) => ocsp::key_id(spki).is_some_and(|key| key == *id),
    };
    if is_responder(issuer.name, issuer.spki) && signed(issuer.spki, issuer.key) {
        return true;
    }
    response.certificates.iter().filter_map(|certificate| Member::new(certificate).ok()).any(|member| {
        member.parts().is_ok_and(|parts| {
            is_responder(&member.subject, parts.key)
                && member.issuer == issuer.name
                && member.certificate.valid_at(search.requirements.now)
                && may_respond(&parts)
                && search.verify_certificate(&member, issuer).is_ok()
                && signed(parts.key, &member.key)
                && is_trusted_responder(search, &member, &parts, issuer, depth)
        })
    })
}

/// Extended key usage OCSPSigning, in so many words; key usage digitalSignature; nothing critical that is not known.
fn may_respond(parts: &Parts<'_>) -> bool {
    const OCSP_SIGNING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x09];
    let purposes = parts.extension(purpose::EXTENDED_KEY_USAGE).and_then(|e| der::only(e, tag::SEQUENCE).ok());
    let signs = purposes.is_some_and(|list| {
        let mut list = list.open();
        std::iter::from_fn(|| list.expect(tag::OID).ok()).any(|purpose| purpose.value == OCSP_SIGNING)
    });
    let usage = parts.extension(purpose::KEY_USAGE).map(purpose::KeyUsage::read);
    let usage = usage.is_none_or(|usage| usage.is_ok_and(|usage| usage.allows_signing()));
    signs && usage && parts.critical_are_known(&[15, 17, 19, 31, 32, 37])
}

/// A responder whose certificate says id-pkix-ocsp-nocheck (RFC 6960 section 4.2.2.2.1) is trusted for its lifetime; any
/// other must be good by a CRL.
fn is_trusted_responder(
    search: &Search<'_>,
    member: &Member,
    parts: &Parts<'_>,
    issuer: &Issuer<'_>,
    depth: u32,
) -> bool {
    const NO_CHECK: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x05];
    parts.extension(NO_CHECK).is_some()
        || matches!(by_crl(search, member, parts, issuer, depth), Some(Standing::Good { .. }))
}

impl Parts<'_> {
    /// Whether every critical extension is one of `2.5.29.<arc>`.
    fn critical_are_known(&self, arcs: &[u8]) -> bool {
        let known = |oid: &[u8]| matches!(oid, [0x55, 0x1d, arc] if arcs.contains(arc));
        self.extension_list().is_none_or(|list| {
            Extensions(list).all(|read| read.is_ok_and(|extension| !extension.critical || known(extension.oid)))
        })
    }
}
