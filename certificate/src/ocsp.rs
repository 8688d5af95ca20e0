//! OCSP (RFC 6960): the request for one certificate, and responses, read once.

use std::ops::Range;
use std::sync::Arc;

use ring::digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, SHA512};
use sha2::{Digest as _, Sha256};

use crate::certificate::Certificate;
use crate::crl::Reason;
use crate::der::{self, Element, Problem, Reader, tag};
use crate::distinguished_name::canonical_name;
use crate::error::Error;
use crate::parts::{Extensions, Parts, shortest, whole_octets};
use crate::time::{self, UnixTime};

/// Largest OCSP response, in octets.
pub const MAX_OCSP: usize = 128 * 1024;
/// Most certificates in a response that are looked at.
const MAX_CERTIFICATES: usize = 8;
/// Most single responses in one.
const MAX_SINGLE: usize = 1_000;

/// An OCSP response, read, not verified. Shared as `Arc<OcspResponse>`.
pub struct OcspResponse {
    der: Arc<[u8]>,
    sha256: [u8; 32],
    tbs: Range<usize>,
    algorithm: Range<usize>,
    signature: Range<usize>,
    pub(crate) responder: Responder,
    pub(crate) single: Vec<Single>,
    pub(crate) certificates: Vec<Certificate>,
}

/// Who says that he signed it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Responder {
    /// A canonical name.
    Name(Vec<u8>),
    /// SHA-1 of the public key's bits.
    Key(Vec<u8>),
}

/// What is said of one certificate.
#[derive(Debug)]
pub(crate) struct Single {
    hash: &'static digest::Algorithm,
    issuer_name: Vec<u8>,
    issuer_key: Vec<u8>,
    /// In its shortest form.
    pub(crate) serial: Vec<u8>,
    pub(crate) status: Status,
    pub(crate) this_update: UnixTime,
    pub(crate) next_update: Option<UnixTime>,
    /// A critical extension that is not known.
    pub(crate) unknown_extension: bool,
}

/// `CertStatus` (RFC 6960 section 4.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Good,
    Revoked { since: UnixTime, reason: Reason },
    Unknown,
}

const BASIC: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01];
const SHA1_OID: &[u8] = &[0x2b, 0x0e, 0x03, 0x02, 0x1a];

impl OcspResponse {
    /// Reads an `OCSPResponse` in DER form that is successful and of the basic type.
    ///
    /// # Errors
    /// It is malformed, an error message of the responder (`tryLater` and the like), or larger than [`MAX_OCSP`].
    pub fn read(octets: &[u8]) -> Result<OcspResponse, Error> {
        if octets.len() > MAX_OCSP {
            return Err(Error::TooLarge { octets: octets.len(), limit: MAX_OCSP });
        }
        if octets.is_empty() {
            return Err(Error::Empty);
        }
        OcspResponse::walk(octets).map_err(|problem| Error::Malformed { part: "OCSP response", problem })
    }

    /// `OCSPResponse` (RFC 6960 section 4.2.1), top to bottom.
    fn walk(octets: &[u8]) -> Result<OcspResponse, Problem> {
        let mut outer = der::only(octets, tag::SEQUENCE)?.open();
        if outer.expect(tag::ENUMERATED)?.value != [0] {
            return Err("the responder gave no answer but an error");
        }
        let wrapped = outer.expect(tag::context_constructed(0))?;
        outer.finish()?;
        let mut typed = der::only(wrapped.value, tag::SEQUENCE)?.open();
        if typed.expect(tag::OID)?.value != BASIC {
            return Err("it is not of the basic type");
        }
        let basic = typed.expect(tag::OCTET_STRING)?;
        typed.finish()?;
        // From here on places are those within the basic response, which is what is kept.
        let octets = basic.value;
        let mut parts = der::only(octets, tag::SEQUENCE)?.open();
        let signed = parts.expect(tag::SEQUENCE)?;
        let algorithm = parts.expect(tag::SEQUENCE)?;
        let signature = parts.expect(tag::BIT_STRING)?;
        whole_octets(signature.value)?;
        let mut certificates = Vec::new();
        if let Some(list) = parts.optional(tag::context_constructed(0))? {
            let mut list = der::only(list.value, tag::SEQUENCE)?.open();
            while !list.is_empty() && certificates.len() < MAX_CERTIFICATES {
                // One that cannot be read is not the responder's.
                certificates.extend(Certificate::from_der(list.next()?.raw));
            }
        }
        parts.finish()?;

        let mut tbs = signed.open();
        tbs.optional(tag::context_constructed(0))?;
        let responder = read_responder(&tbs.next()?)?;
        time::read(&tbs.expect(tag::GENERALIZED_TIME)?)?;
        let mut list = tbs.expect(tag::SEQUENCE)?.open();
        let mut single = Vec::new();
        while !list.is_empty() {
            if single.len() == MAX_SINGLE {
                return Err("it has too many answers");
            }
            if let Some(read) = Single::read(list.expect(tag::SEQUENCE)?.open())? {
                single.push(read);
            }
        }
        if let Some(extensions) = tbs.optional(tag::context_constructed(1))?
            && has_unknown_critical(&extensions)?
        {
            return Err("it has a critical extension that is not known");
        }
        tbs.finish()?;

        Ok(OcspResponse {
            der: Arc::from(octets),
            sha256: Sha256::digest(octets).into(),
            tbs: signed.range(),
            algorithm: algorithm.range(),
            signature: signature.value_range(),
            responder,
            single,
            certificates,
        })
    }

    /// SHA-256 of the signed response.
    pub fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    /// The earliest time at which one of its answers is replaced; `None` if there is newer information at any time.
    pub fn next_update(&self) -> Option<UnixTime> {
        self.single.iter().map(|single| single.next_update).min().flatten()
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
}

fn read_responder(element: &Element<'_>) -> Result<Responder, Problem> {
    if element.tag == tag::context_constructed(1) {
        canonical_name(&der::only(element.value, tag::SEQUENCE)?).map(Responder::Name)
    } else if element.tag == tag::context_constructed(2) {
        Ok(Responder::Key(der::only(element.value, tag::OCTET_STRING)?.value.to_vec()))
    } else {
        Err("the responder has no name")
    }
}

/// The element is the `[1]` around `Extensions`.
fn has_unknown_critical(wrapped: &Element<'_>) -> Result<bool, Problem> {
    let list = der::only(wrapped.value, tag::SEQUENCE)?;
    for extension in Extensions(list.open()) {
        if extension?.critical {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Single {
    /// `SingleResponse` (RFC 6960 section 4.2.1); `None` if the certificate is named with a hash that is not known.
    fn read(mut parts: Reader<'_>) -> Result<Option<Single>, Problem> {
        let mut id = parts.expect(tag::SEQUENCE)?.open();
        let hash = hash_algorithm(id.expect(tag::SEQUENCE)?.open().expect(tag::OID)?.value);
        let issuer_name = id.expect(tag::OCTET_STRING)?.value.to_vec();
        let issuer_key = id.expect(tag::OCTET_STRING)?.value.to_vec();
        let serial = shortest(id.expect(tag::INTEGER)?.value).to_vec();
        id.finish()?;
        let status = read_status(&parts.next()?)?;
        let this_update = time::read(&parts.expect(tag::GENERALIZED_TIME)?)?;
        let next_update = parts
            .optional(tag::context_constructed(0))?
            .map(|wrapped| time::read(&der::only(wrapped.value, tag::GENERALIZED_TIME)?))
            .transpose()?;
        let extensions = parts.optional(tag::context_constructed(1))?;
        let unknown_extension = extensions.map_or(Ok(false), |wrapped| has_unknown_critical(&wrapped))?;
        parts.finish()?;
        Ok(hash.map(|hash| Single {
            hash,
            issuer_name,
            issuer_key,
            serial,
            status,
            this_update,
            next_update,
            unknown_extension,
        }))
    }

    /// Whether it is about the certificate with this serial number, issued under this name (`Name`) with this key.
    pub(crate) fn is_about(&self, serial: &[u8], issuer_name: &[u8], issuer_key: &[u8]) -> bool {
        self.serial == serial
            && digest::digest(self.hash, issuer_name).as_ref() == self.issuer_name
            && key_bits(issuer_key).is_ok_and(|bits| digest::digest(self.hash, bits).as_ref() == self.issuer_key)
    }
}

fn read_status(element: &Element<'_>) -> Result<Status, Problem> {
    const GOOD: u8 = tag::context(0);
    const REVOKED: u8 = tag::context_constructed(1);
    const UNKNOWN: u8 = tag::context(2);
    match element.tag {
        GOOD => Ok(Status::Good),
        UNKNOWN => Ok(Status::Unknown),
        REVOKED => {
            let mut info = element.open();
            let since = time::read(&info.expect(tag::GENERALIZED_TIME)?)?;
            let reason = match info.optional(tag::context_constructed(0))? {
                Some(wrapped) => match der::only(wrapped.value, tag::ENUMERATED)?.value {
                    [code] => Reason::of(*code),
                    _ => return Err("a reason is malformed"),
                },
                None => Reason::Unspecified,
            };
            info.finish()?;
            Ok(Status::Revoked { since, reason })
        }
        _ => Err("a status is not defined"),
    }
}

fn hash_algorithm(oid: &[u8]) -> Option<&'static digest::Algorithm> {
    Some(match oid {
        SHA1_OID => &SHA1_FOR_LEGACY_USE_ONLY,
        [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 1] => &SHA256,
        [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 2] => &SHA384,
        [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 3] => &SHA512,
        _ => return None,
    })
}

/// The bits of the key in a `SubjectPublicKeyInfo`.
fn key_bits(spki: &[u8]) -> Result<&[u8], Problem> {
    let mut parts = der::only(spki, tag::SEQUENCE)?.open();
    parts.expect(tag::SEQUENCE)?;
    whole_octets(parts.expect(tag::BIT_STRING)?.value)
}

/// SHA-1 of the key's bits, by which a responder names itself.
pub(crate) fn key_id(spki: &[u8]) -> Option<Vec<u8>> {
    key_bits(spki).ok().map(|bits| digest::digest(&SHA1_FOR_LEGACY_USE_ONLY, bits).as_ref().to_vec())
}

/// The `OCSPRequest` for one certificate (RFC 6960 section 4.1.1), without a nonce and with SHA-1, so that everybody's is
/// the same and responders may answer it from a cache (RFC 5019 section 2.1.1). SHA-1 only names the issuer here.
pub(crate) fn request(certificate: &Parts<'_>, issuer_name: &[u8], issuer_key: &[u8]) -> Option<Vec<u8>> {
    let hash = |octets| digest::digest(&SHA1_FOR_LEGACY_USE_ONLY, octets);
    let name = der::write(tag::OCTET_STRING, &[hash(issuer_name).as_ref()]);
    let key = der::write(tag::OCTET_STRING, &[hash(key_bits(issuer_key).ok()?).as_ref()]);
    let serial = der::write(tag::INTEGER, &[certificate.serial]);
    let algorithm = der::write(tag::SEQUENCE, &[&der::write(tag::OID, &[SHA1_OID]), &[5, 0]]);
    let id = der::write(tag::SEQUENCE, &[&algorithm, &name, &key, &serial]);
    let one = der::write(tag::SEQUENCE, &[&id]);
    let list = der::write(tag::SEQUENCE, &[&one]);
    let tbs = der::write(tag::SEQUENCE, &[&list]);
    Some(der::write(tag::SEQUENCE, &[&tbs]))
}

impl std::fmt::Debug for OcspResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OcspResponse").field("answers", &self.single.len()).finish_non_exhaustive()
    }
}
