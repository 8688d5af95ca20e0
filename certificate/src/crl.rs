//! Certificate revocation lists (RFC 5280 section 5): read once, searched often.

use std::ops::Range;
use std::sync::Arc;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::der::{self, Element, Problem, Reader, tag};
use crate::distinguished_name::canonical_name;
use crate::error::Error;
use crate::parts::{Extensions, shortest, whole_octets};
use crate::pointers::{GeneralName, PointName, Reasons};
use crate::time::{self, UnixTime};

/// Largest revocation list, in octets of DER: about 1.5 million entries.
pub const MAX_CRL: usize = 64 * 1024 * 1024;

/// Why a certificate was revoked (RFC 5280 section 5.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Reason {
    /// No reason is given, or one that is not defined.
    Unspecified,
    /// The private key is known to others.
    KeyCompromise,
    /// The authority's private key is known to others.
    CaCompromise,
    /// The subject has another name or relation now.
    AffiliationChanged,
    /// There is a new certificate.
    Superseded,
    /// It is no longer needed.
    CessationOfOperation,
    /// It is suspended, and may come back.
    CertificateHold,
    /// A right that it gave was withdrawn.
    PrivilegeWithdrawn,
    /// The attribute authority's private key is known to others.
    AaCompromise,
}

impl Reason {
    pub(crate) fn of(code: u8) -> Reason {
        match code {
            1 => Reason::KeyCompromise,
            2 => Reason::CaCompromise,
            3 => Reason::AffiliationChanged,
            4 => Reason::Superseded,
            5 => Reason::CessationOfOperation,
            6 => Reason::CertificateHold,
            9 => Reason::PrivilegeWithdrawn,
            10 => Reason::AaCompromise,
            _ => Reason::Unspecified,
        }
    }
}

/// A revocation list, read and sorted, not verified. Shared as `Arc<Crl>` between any number of validations; a look-up of a
/// serial number takes a binary search.
pub struct Crl {
    der: Arc<[u8]>,
    sha256: [u8; 32],
    tbs: Range<usize>,
    algorithm: Range<usize>,
    signature: Range<usize>,
    /// Canonical.
    pub(crate) issuer: Vec<u8>,
    this_update: UnixTime,
    next_update: Option<UnixTime>,
    /// Sorted by serial number and issuer; each certificate is there once.
    entries: Vec<Entry>,
    /// Canonical names of the issuers of the certificates in an indirect list; the first one is the list's own.
    issuers: Vec<Vec<u8>>,
    pub(crate) scope: Scope,
    /// It or an entry has a critical extension that is not known: it may say that a certificate is revoked, and not that
    /// it is good (RFC 5280 section 5.2).
    pub(crate) partly_understood: bool,
}

struct Entry {
    serial: u32,
    serial_length: u16,
    issuer: u16,
    reason: u8,
    since: UnixTime,
}

/// Which certificates and reasons a list is for (issuing distribution point, RFC 5280 section 5.2.5).
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    pub(crate) name: Option<PointName>,
    pub(crate) users_only: bool,
    pub(crate) authorities_only: bool,
    pub(crate) attributes_only: bool,
    pub(crate) reasons: Reasons,
    pub(crate) indirect: bool,
    pub(crate) delta: bool,
}

/// What a list says of one certificate.
pub(crate) struct Listed {
    pub(crate) since: UnixTime,
    pub(crate) reason: Reason,
}

const ISSUING_DISTRIBUTION_POINT: &[u8] = &[0x55, 0x1d, 28];
const DELTA_CRL_INDICATOR: &[u8] = &[0x55, 0x1d, 27];
const CERTIFICATE_ISSUER: &[u8] = &[0x55, 0x1d, 29];
const REASON_CODE: &[u8] = &[0x55, 0x1d, 21];
/// removeFromCRL, in delta lists only.
const REMOVE: u8 = 8;

impl Crl {
    /// Reads a list in DER form, or the first block of PEM.
    ///
    /// # Errors
    /// It is malformed, or larger than [`MAX_CRL`].
    pub fn read(octets: &[u8]) -> Result<Crl, Error> {
        if octets.len() > MAX_CRL {
            return Err(Error::TooLarge { octets: octets.len(), limit: MAX_CRL });
        }
        if octets.trim_ascii_start().starts_with(b"-----BEGIN ") {
            let der = crate::pem::one_block(octets, "X509 CRL")?;
            return Crl::from_der(&der);
        }
        Crl::from_der(octets)
    }

    fn from_der(octets: &[u8]) -> Result<Crl, Error> {
        if octets.is_empty() {
            return Err(Error::Empty);
        }
        Crl::walk(octets).map_err(|problem| Error::Malformed { part: "revocation list", problem })
    }

    /// `CertificateList` (RFC 5280 section 5.1), top to bottom.
    fn walk(octets: &[u8]) -> Result<Crl, Problem> {
        let mut parts = der::only(octets, tag::SEQUENCE)?.open();
        let signed = parts.expect(tag::SEQUENCE)?;
        let algorithm = parts.expect(tag::SEQUENCE)?;
        let signature = parts.expect(tag::BIT_STRING)?;
        parts.finish()?;
        whole_octets(signature.value)?;

        let mut tbs = signed.open();
        tbs.optional(tag::INTEGER)?;
        let inner_algorithm = tbs.expect(tag::SEQUENCE)?;
        if inner_algorithm.raw != algorithm.raw {
            return Err("its signature algorithm is not the same inside and outside");
        }
        let issuer = canonical_name(&tbs.expect(tag::SEQUENCE)?)?;
        let this_update = time::read(&tbs.next()?)?;
        let mut following = if tbs.is_empty() { None } else { Some(tbs.next()?) };
        let mut advance = || if tbs.is_empty() { Ok(None) } else { tbs.next().map(Some) };
        let mut next_update = None;
        if let Some(element) = following
            && matches!(element.tag, tag::UTC_TIME | tag::GENERALIZED_TIME)
        {
            next_update = Some(time::read(&element)?);
            following = advance()?;
        }
        let mut entries = Entries { all: Vec::new(), issuers: vec![issuer.clone()], current: 0, unknown: false };
        if let Some(element) = following
            && element.tag == tag::SEQUENCE
        {
            entries.read(&element)?;
            following = advance()?;
        }
        let mut scope = Scope::whole();
        let mut unknown = false;
        if let Some(element) = following {
            if element.tag != tag::context_constructed(0) {
                return Err("an element has the wrong type");
            }
            following = advance()?;
            if following.is_some() {
                return Err("an element too many");
            }
            unknown = scope.read(der::only(element.value, tag::SEQUENCE)?.open())?;
        }
        if !scope.indirect && entries.issuers.len() > 1 {
            return Err("it names issuers of certificates and is not indirect");
        }

        let der: Arc<[u8]> = Arc::from(octets);
        let mut all = entries.all;
        let key = |entry: &Entry| (der.get(entry.serial_place()).unwrap_or_default(), entry.issuer);
        all.sort_by(|one, other| key(one).cmp(&key(other)));
        // Twice in one list should not be: the last word that revokes counts. removeFromCRL is for delta lists, which are
        // not used (RFC 5280 section 5.3.1).
        all.dedup_by(|later, kept| {
            let same = key(later) == key(kept);
            if same && later.reason != REMOVE {
                std::mem::swap(later, kept);
            }
            same
        });
        all.shrink_to_fit();
        Ok(Crl {
            sha256: Sha256::digest(&*der).into(),
            tbs: signed.range(),
            algorithm: algorithm.range(),
            signature: signature.value_range(),
            issuer,
            this_update,
            next_update,
            entries: all,
            issuers: entries.issuers,
            scope,
            partly_understood: unknown || entries.unknown,
            der,
        })
    }

    /// The list in DER form.
    pub fn der(&self) -> &Arc<[u8]> {
        &self.der
    }

    /// SHA-256 of the DER.
    pub fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    /// When it was made.
    pub fn this_update(&self) -> UnixTime {
        self.this_update
    }

    /// Until when there is another one. A list without is not used (RFC 5280 section 5.1.2.5 demands it).
    pub fn next_update(&self) -> Option<UnixTime> {
        self.next_update
    }

    /// How many certificates it lists.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it lists none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What the list takes in memory, in octets.
    pub fn memory(&self) -> usize {
        self.der.len() + self.entries.len() * size_of::<Entry>() + size_of::<Crl>()
    }

    pub(crate) fn tbs(&self) -> &[u8] {
        self.der.get(self.tbs.clone()).unwrap_or_default()
    }

    pub(crate) fn algorithm(&self) -> &[u8] {
        self.der.get(self.algorithm.clone()).unwrap_or_default()
    }

    pub(crate) fn signature(&self) -> &[u8] {
        let contents = self.der.get(self.signature.clone()).unwrap_or_default();
        contents.split_first().map(|(_, octets)| octets).unwrap_or_default()
    }

    /// What it says of the certificate with this serial number (in its shortest form) of this issuer (canonical).
    pub(crate) fn find(&self, issuer: &[u8], serial: &[u8]) -> Option<Listed> {
        let issuer = self.issuers.iter().position(|known| known == issuer)?;
        let wanted = (serial, u16::try_from(issuer).ok()?);
        let key = |entry: &Entry| (self.serial(entry), entry.issuer);
        let entry = self.entries.get(self.entries.partition_point(|entry| key(entry) < wanted))?;
        (key(entry) == wanted && entry.reason != REMOVE)
            .then(|| Listed { since: entry.since, reason: Reason::of(entry.reason) })
    }

    fn serial(&self, entry: &Entry) -> &[u8] {
        self.der.get(entry.serial_place()).unwrap_or_default()
    }
}

impl Entry {
    fn serial_place(&self) -> Range<usize> {
        let start = self.serial as usize;
        start..start + usize::from(self.serial_length)
    }
}

struct Entries {
    all: Vec<Entry>,
    issuers: Vec<Vec<u8>>,
    /// The issuer of the entries that name none (RFC 5280 section 5.3.3).
    current: u16,
    unknown: bool,
}

impl Entries {
    fn read(&mut self, list: &Element<'_>) -> Result<(), Problem> {
        let mut reader = list.open();
        // The smallest entry has some 20 octets.
        self.all.reserve(list.value.len() / 36);
        while !reader.is_empty() {
            let entry = reader.expect(tag::SEQUENCE)?;
            let mut parts = entry.open();
            let serial = parts.expect(tag::INTEGER)?;
            let since = time::read(&parts.next()?)?;
            let mut reason = 0;
            if let Some(extensions) = parts.optional(tag::SEQUENCE)? {
                reason = self.read_extensions(&extensions)?;
            }
            parts.finish()?;
            let digits = shortest(serial.value);
            let place = serial.value_range();
            self.all.push(Entry {
                serial: u32::try_from(place.end - digits.len()).map_err(|_| "it is too long")?,
                serial_length: u16::try_from(digits.len()).map_err(|_| "a serial number is too long")?,
                issuer: self.current,
                reason,
                since,
            });
        }
        Ok(())
    }

    /// Gives the reason, and notes the certificate's issuer.
    fn read_extensions(&mut self, list: &Element<'_>) -> Result<u8, Problem> {
        let mut reason = 0;
        for extension in Extensions(list.open()) {
            let extension = extension?;
            match extension.oid {
                REASON_CODE => {
                    reason = match der::only(extension.value, tag::ENUMERATED)?.value {
                        [code] => *code,
                        _ => return Err("a reason is malformed"),
                    };
                }
                CERTIFICATE_ISSUER => {
                    let names = GeneralName::read_all(&der::only(extension.value, tag::SEQUENCE)?)?;
                    let name = names.iter().find_map(GeneralName::as_directory).ok_or("an issuer has no name")?;
                    let place = self.issuers.iter().position(|known| known == name).unwrap_or(self.issuers.len());
                    if place == self.issuers.len() {
                        self.issuers.push(name.to_vec());
                    }
                    // So many issuers in one list would make the search above slow.
                    self.current = u16::try_from(place).ok().filter(|n| *n < 256).ok_or("it has too many issuers")?;
                }
                _ => self.unknown |= extension.critical,
            }
        }
        Ok(reason)
    }
}

impl Scope {
    fn whole() -> Scope {
        Scope {
            name: None,
            users_only: false,
            authorities_only: false,
            attributes_only: false,
            reasons: Reasons::ALL,
            indirect: false,
            delta: false,
        }
    }

    /// Reads the list's extensions; gives whether there is a critical one that is not known.
    fn read(&mut self, extensions: Reader<'_>) -> Result<bool, Problem> {
        let mut unknown = false;
        let mut seen = false;
        for extension in Extensions(extensions) {
            let extension = extension?;
            match extension.oid {
                ISSUING_DISTRIBUTION_POINT if seen => return Err("an extension is there twice"),
                ISSUING_DISTRIBUTION_POINT => {
                    seen = true;
                    self.read_point(der::only(extension.value, tag::SEQUENCE)?.open())?;
                }
                DELTA_CRL_INDICATOR => self.delta = true,
                _ => unknown |= extension.critical,
            }
        }
        Ok(unknown)
    }

    /// `IssuingDistributionPoint` (RFC 5280 section 5.2.5).
    fn read_point(&mut self, mut point: Reader<'_>) -> Result<(), Problem> {
        self.name = point.optional(tag::context_constructed(0))?.map(|e| PointName::read(&e)).transpose()?;
        let flag = |place: u8, point: &mut Reader<'_>| -> Result<bool, Problem> {
            point.optional(tag::context(place))?.map_or(Ok(false), |flag| der::boolean(flag.value))
        };
        self.users_only = flag(1, &mut point)?;
        self.authorities_only = flag(2, &mut point)?;
        if let Some(reasons) = point.optional(tag::context(3))? {
            self.reasons = Reasons::read(reasons.value)?;
        }
        self.indirect = flag(4, &mut point)?;
        self.attributes_only = flag(5, &mut point)?;
        point.finish()
    }
}

impl std::fmt::Debug for Crl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Crl")
            .field("this_update", &self.this_update)
            .field("next_update", &self.next_update)
            .field("entries", &self.entries.len())
            .finish_non_exhaustive()
    }
}
