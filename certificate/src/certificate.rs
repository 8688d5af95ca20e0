//! The certificate: its accessors, and the one walk through the DER that finds everything.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use sha2::{Digest, Sha256};

use crate::der::{self, Element, Header, Problem, Reader, tag};
use crate::distinguished_name::DistinguishedName;
use crate::error::Error;
use crate::key::{self, KeyInfo};
use crate::names::{MailName, Names};
use crate::pointers::AUTHORITY_INFORMATION_ACCESS;
use crate::purpose::{self, KeyUsage, Purposes};
use crate::time::{self, UnixTime};
use crate::{oid, pem};

/// Largest certificate, in octets of DER: what fits one DNS message, with what must surround it, is a little less.
/// SLH-DSA signatures, the largest there are, take up to 50 KB.
pub const MAX_CERTIFICATE: usize = 64 * 1024;

/// An X.509 certificate: the DER, and what it says. Nothing in it has been verified.
///
/// It cannot be changed, and copies share the DER and what was read from it.
#[derive(Clone)]
pub struct Certificate {
    der: Arc<[u8]>,
    sha256: [u8; 32],
    /// Empty in a [`Certificate::lean`] one that was not asked yet.
    facts: OnceLock<Arc<Facts>>,
}

/// What one walk through the DER finds. The places are those in the DER.
#[derive(Default)]
struct Facts {
    names: Names,
    subject: String,
    issuer: String,
    subject_place: Range<usize>,
    issuer_place: Range<usize>,
    serial_hex: String,
    not_before: UnixTime,
    not_after: UnixTime,
    purposes: Purposes,
    is_ca: bool,
    key: KeyInfo,
    signature_algorithm: Cow<'static, str>,
    subject_key_id: Option<Range<usize>>,
    authority_key_id: Option<Range<usize>>,
}

impl Certificate {
    /// Reads one certificate in DER form.
    ///
    /// # Errors
    /// Anything that is not exactly one certificate of at most [`MAX_CERTIFICATE`] octets; see [`Error`].
    pub fn from_der(der: &[u8]) -> Result<Certificate, Error> {
        let facts = Facts::read(der)?;
        let facts = OnceLock::from(Arc::new(facts));
        Ok(Certificate { der: Arc::from(der), sha256: Sha256::digest(der).into(), facts })
    }

    /// The same with nothing but the DER and its hash in memory, for those who keep many. What it says is read again when it
    /// is asked for, and then kept.
    #[must_use]
    pub fn lean(&self) -> Certificate {
        Certificate { der: Arc::clone(&self.der), sha256: self.sha256, facts: OnceLock::new() }
    }

    /// Reads one certificate in DER form, or any number of them in PEM form, in their order. Text between PEM blocks and
    /// blocks of other kinds are passed over, a private key is an error.
    ///
    /// # Errors
    /// The first thing that is wrong; nothing is taken from an input with an error. [`pem_blocks`](crate::pem_blocks) goes
    /// on behind one. At most [`MAX_INPUT`](crate::MAX_INPUT) octets of PEM.
    pub fn read_all(input: &[u8]) -> Result<Vec<Certificate>, Error> {
        pem::read_all(input)
    }

    /// The certificate in DER form, exactly as it was handed over.
    pub fn der(&self) -> &Arc<[u8]> {
        &self.der
    }

    /// SHA-256 of the DER, known as the fingerprint.
    pub fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    /// The mail addresses as they are written, those of the subject alternative name first, in the order of the
    /// certificate. The same address may be there twice.
    pub fn addresses(&self) -> &[MailName] {
        &self.facts().names.addresses
    }

    /// Whether it names any address or domain at all, also one that is no name for a mailbox or a host, such as a wildcard.
    pub fn names_somebody(&self) -> bool {
        self.facts().names.somebody
    }

    /// The domains that the certificate is for: each dNSName and each common name that looks like a domain, and the
    /// domains whose confidentiality authority it names (RFC 3183). In ASCII lower case, sorted, each one once.
    pub fn domains(&self) -> &[String] {
        &self.facts().names.domains
    }

    /// The subject's common name, the most specific one if there are several.
    pub fn common_name(&self) -> Option<&str> {
        self.facts().names.common_name.as_deref()
    }

    /// The subject as RFC 4514 text.
    pub fn subject(&self) -> &str {
        &self.facts().subject
    }

    /// The issuer as RFC 4514 text.
    pub fn issuer(&self) -> &str {
        &self.facts().issuer
    }

    /// The subject's `Name` in DER form.
    pub fn subject_der(&self) -> &[u8] {
        self.slice(&self.facts().subject_place)
    }

    /// The issuer's `Name` in DER form.
    pub fn issuer_der(&self) -> &[u8] {
        self.slice(&self.facts().issuer_place)
    }

    /// The serial number: its octets in lower-case hex, without the octet that only keeps it positive.
    pub fn serial_hex(&self) -> &str {
        &self.facts().serial_hex
    }

    /// The first second of its validity.
    pub fn not_before(&self) -> UnixTime {
        self.facts().not_before
    }

    /// The last second of its validity.
    pub fn not_after(&self) -> UnixTime {
        self.facts().not_after
    }

    /// Whether `now` lies in its validity; both ends belong to it (RFC 5280 section 4.1.2.5).
    pub fn valid_at(&self, now: UnixTime) -> bool {
        self.not_before() <= now && now <= self.not_after()
    }

    /// Whether mail may be encrypted to it: key usage (if any) has keyEncipherment or keyAgreement, extended key usage
    /// (if any) has emailProtection or any, and the key's algorithm is not one that only signs.
    pub fn can_encrypt(&self) -> bool {
        self.facts().purposes.encrypt
    }

    /// Whether its key may sign mail: key usage (if any) has digitalSignature or nonRepudiation, extended key usage (if
    /// any) has emailProtection or any, and the key's algorithm is not one that only encrypts.
    pub fn can_sign(&self) -> bool {
        self.facts().purposes.sign
    }

    /// Whether it belongs to a certification authority (basic constraints, RFC 5280 section 4.2.1.9).
    pub fn is_ca(&self) -> bool {
        self.facts().is_ca
    }

    /// Whether subject and issuer are the same name, octet for octet (RFC 5280 section 6.1).
    pub fn is_self_issued(&self) -> bool {
        self.subject_der() == self.issuer_der()
    }

    /// Algorithm and size of the public key.
    pub fn key(&self) -> &KeyInfo {
        &self.facts().key
    }

    /// The algorithm that the issuer signed with: its name, or the dotted object identifier of an unknown one.
    pub fn signature_algorithm(&self) -> &str {
        &self.facts().signature_algorithm
    }

    /// The subject key identifier. A hint for finding chains that decides nothing: `None` also if it is malformed.
    pub fn subject_key_id(&self) -> Option<&[u8]> {
        self.facts().subject_key_id.as_ref().map(|place| self.slice(place))
    }

    /// The key identifier of the issuer's key. A hint like [`subject_key_id`](Certificate::subject_key_id).
    pub fn authority_key_id(&self) -> Option<&[u8]> {
        self.facts().authority_key_id.as_ref().map(|place| self.slice(place))
    }

    /// The certificate in PEM form (RFC 7468).
    pub fn to_pem(&self) -> String {
        pem::pem_encode(&self.der)
    }

    fn facts(&self) -> &Facts {
        // It was read once already, so it can be read again.
        self.facts.get_or_init(|| Arc::new(Facts::read(&self.der).unwrap_or_default()))
    }

    fn slice(&self, place: &Range<usize>) -> &[u8] {
        self.der.get(place.clone()).unwrap_or_default()
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Certificate) -> bool {
        self.der == other.der
    }
}

impl Eq for Certificate {}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate")
            .field("subject", &self.subject())
            .field("serial", &self.serial_hex())
            .field("sha256", &data_encoding::HEXLOWER.encode(&self.sha256))
            .finish_non_exhaustive()
    }
}

impl Facts {
    /// `Certificate` and `TBSCertificate` (RFC 5280 section 4.1), top to bottom.
    fn read(der: &[u8]) -> Result<Facts, Error> {
        let (tbs, signature_algorithm) = open_envelope(der)?;

        let mut tbs = tbs.open();
        let version = tbs.optional(tag::context_constructed(0)).map_err(malformed("version"))?;
        let extensible = version.map_or(Ok(false), |version| read_version(&version)).map_err(malformed("version"))?;
        let serial = tbs.expect(tag::INTEGER).map_err(malformed("serial number"))?;
        let inner_algorithm = tbs.expect(tag::SEQUENCE).map_err(malformed("signature algorithm"))?;
        let issuer = tbs.expect(tag::SEQUENCE).map_err(malformed("issuer"))?;
        let validity = tbs.expect(tag::SEQUENCE).map_err(malformed("validity"))?;
        let subject = tbs.expect(tag::SEQUENCE).map_err(malformed("subject"))?;
        let key = tbs.expect(tag::SEQUENCE).map_err(malformed("public key"))?;
        // issuerUniqueID and subjectUniqueID: the oldest of relics, carried.
        tbs.optional(tag::context(1)).map_err(malformed("issuer's unique identifier"))?;
        tbs.optional(tag::context(2)).map_err(malformed("subject's unique identifier"))?;
        let extensions = tbs.optional(tag::context_constructed(3)).map_err(malformed("list of extensions"))?;
        tbs.finish().map_err(malformed("list of extensions"))?;

        // RFC 5280 section 4.1.1.2.
        if inner_algorithm.raw != signature_algorithm.raw {
            return Err(malformed("signature algorithm")("it is not the same inside and outside"));
        }
        // RFC 5280 section 4.1.2.9.
        if extensions.is_some() && !extensible {
            return Err(malformed("version")("it has extensions, which version 3 brought"));
        }
        let extensions = extensions.map_or(Ok(Extensions::default()), |list| Extensions::read(&list))?;

        let (key, ability) = key::read(&key).map_err(malformed("public key"))?;
        let key_usage =
            extensions.key_usage.map(|e| KeyUsage::read(e.value)).transpose().map_err(malformed("key usage"))?;
        let mail_allowed = extensions
            .extended_key_usage
            .map(|e| purpose::allows_mail(e.value))
            .transpose()
            .map_err(malformed("extended key usage"))?;
        let is_ca = extensions
            .basic_constraints
            .map_or(Ok(false), |e| purpose::is_ca(e.value))
            .map_err(malformed("basic constraints"))?;
        let (not_before, not_after) = read_validity(&validity).map_err(malformed("validity"))?;
        let subject_name = DistinguishedName::read(&subject).map_err(malformed("subject"))?;
        let issuer_name = DistinguishedName::read(&issuer).map_err(malformed("issuer"))?;

        Ok(Facts {
            names: Names::read(&subject_name, extensions.subject_alternative_name.map(|e| e.value))?,
            subject: subject_name.text(),
            issuer: issuer_name.text(),
            subject_place: subject.range(),
            issuer_place: issuer.range(),
            serial_hex: read_serial(&serial).map_err(malformed("serial number"))?,
            not_before,
            not_after,
            purposes: Purposes::new(key_usage, mail_allowed, ability),
            is_ca,
            key,
            signature_algorithm: read_algorithm_name(&signature_algorithm).map_err(malformed("signature algorithm"))?,
            subject_key_id: extensions.subject_key_id.and_then(|e| read_subject_key_id(&e).ok()),
            authority_key_id: extensions.authority_key_id.and_then(|e| read_authority_key_id(&e).ok().flatten()),
        })
    }
}

fn malformed(part: &'static str) -> impl Fn(Problem) -> Error {
    move |problem| Error::Malformed { part, problem }
}

/// The outermost SEQUENCE, taken apart: the part that is signed, and the algorithm of the signature. Says what the
/// input is if it is something else.
fn open_envelope(der: &[u8]) -> Result<(Element<'_>, Element<'_>), Error> {
    if der.is_empty() {
        return Err(Error::Empty);
    }
    if der.first() != Some(&tag::SEQUENCE) {
        return Err(Error::not_a_certificate(pem::describe(der)));
    }
    if der.len() > MAX_CERTIFICATE {
        return Err(Error::TooLarge { octets: der.len(), limit: MAX_CERTIFICATE });
    }
    let header = Header::read(der).map_err(|_| Error::not_a_certificate(pem::describe(der)))?;
    let announced = header.header.saturating_add(header.length);
    if announced > der.len() {
        return Err(Error::Truncated { present: der.len(), announced });
    }
    if announced < der.len() {
        return Err(Error::TrailingData { octets: der.len() - announced });
    }

    let whole = Reader::new(der).next().map_err(malformed("outer form"))?;
    if let Some(other) = recognise_other(&whole) {
        return Err(other);
    }
    let mut parts = whole.open();
    let tbs = parts.expect(tag::SEQUENCE).map_err(malformed("signed part"))?;
    let algorithm = parts.expect(tag::SEQUENCE).map_err(malformed("signature algorithm"))?;
    let signature = parts.expect(tag::BIT_STRING).map_err(malformed("signature"))?;
    parts.finish().map_err(malformed("signature"))?;
    der::bit_string(signature.value).map_err(malformed("signature"))?;
    Ok((tbs, algorithm))
}

/// What people hand over by mistake, so that they are told.
fn recognise_other(whole: &Element<'_>) -> Option<Error> {
    let mut parts = whole.open();
    let (first, second) = (parts.next().ok()?, parts.next().ok()?);
    match (first.tag, first.value, second.tag) {
        // The versions of PKCS#8 and PKCS#1 (0), of RFC 5915 and RFC 5958 (1), and of PKCS#12 (3).
        (tag::INTEGER, [0 | 1 | 3], _) => return Some(Error::PrivateKey),
        // EncryptedPrivateKeyInfo, RFC 5958 section 3.
        (tag::SEQUENCE, _, tag::OCTET_STRING) => return Some(Error::PrivateKey),
        (tag::OID, ..) => return Some(Error::not_a_certificate("a PKCS#7 or CMS message")),
        (tag::SEQUENCE, _, tag::BIT_STRING) => {
            return Some(Error::not_a_certificate("a public key"));
        }
        _ => {}
    }
    // A certificate begins with version, serial, algorithm, issuer and validity; the version is missing in old ones.
    let mut inside = first.open();
    let mut next = || inside.next().map_or(0, |element| element.tag);
    const ATTRIBUTES: u8 = tag::context_constructed(0);
    match [next(), next(), next(), next()] {
        [tag::INTEGER, tag::SEQUENCE, tag::SEQUENCE, ATTRIBUTES] => {
            Some(Error::not_a_certificate("a certificate request"))
        }
        [tag::INTEGER, tag::SEQUENCE, tag::SEQUENCE, tag::UTC_TIME | tag::GENERALIZED_TIME]
        | [tag::SEQUENCE, tag::SEQUENCE, tag::UTC_TIME | tag::GENERALIZED_TIME, _] => {
            Some(Error::not_a_certificate("a revocation list"))
        }
        _ => None,
    }
}

/// Whether the version allows extensions (RFC 5280 section 4.1.2.1).
fn read_version(element: &Element<'_>) -> Result<bool, Problem> {
    match der::only(element.value, tag::INTEGER)?.value {
        [0 | 1] => Ok(false),
        [2] => Ok(true),
        _ => Err("it is none of 1, 2 and 3"),
    }
}

/// RFC 5280 section 4.1.2.2. Longer ones than 20 octets, and negative ones, are carried as they are.
fn read_serial(element: &Element<'_>) -> Result<String, Problem> {
    let octets = match element.value {
        [] => return Err("it is empty"),
        [0, octets @ ..] if !octets.is_empty() => octets,
        octets => octets,
    };
    Ok(data_encoding::HEXLOWER.encode(octets))
}

fn read_validity(element: &Element<'_>) -> Result<(UnixTime, UnixTime), Problem> {
    let mut times = element.open();
    let (not_before, not_after) = (times.next()?, times.next()?);
    times.finish()?;
    Ok((time::read(&not_before)?, time::read(&not_after)?))
}

fn read_algorithm_name(element: &Element<'_>) -> Result<Cow<'static, str>, Problem> {
    let oid = element.open().expect(tag::OID)?.value;
    Ok(oid::algorithm(oid).map_or_else(|| Cow::Owned(oid::dotted(oid)), |known| Cow::Borrowed(known.name)))
}

/// The place of a `SubjectKeyIdentifier` (RFC 5280 section 4.2.1.2).
fn read_subject_key_id(extension: &Element<'_>) -> Result<Range<usize>, Problem> {
    let mut contents = extension.open();
    let id = contents.expect(tag::OCTET_STRING)?;
    contents.finish()?;
    Ok(id.value_range())
}

/// The place of the key identifier in an `AuthorityKeyIdentifier` (RFC 5280 section 4.2.1.1).
fn read_authority_key_id(extension: &Element<'_>) -> Result<Option<Range<usize>>, Problem> {
    let mut contents = extension.open();
    let mut identifier = contents.expect(tag::SEQUENCE)?.open();
    contents.finish()?;
    Ok(identifier.optional(tag::context(0))?.map(|id| id.value_range()))
}

/// The contents of the extensions that are read, still encoded. All others are passed over.
#[derive(Default)]
struct Extensions<'a> {
    subject_key_id: Option<Element<'a>>,
    key_usage: Option<Element<'a>>,
    subject_alternative_name: Option<Element<'a>>,
    basic_constraints: Option<Element<'a>>,
    authority_key_id: Option<Element<'a>>,
    extended_key_usage: Option<Element<'a>>,
    // Not read here; see `Parts::extension`.
    name_constraints: Option<Element<'a>>,
    crl_distribution_points: Option<Element<'a>>,
    policies: Option<Element<'a>>,
    policy_constraints: Option<Element<'a>>,
    authority_information_access: Option<Element<'a>>,
}

impl<'a> Extensions<'a> {
    fn read(list: &Element<'a>) -> Result<Extensions<'a>, Error> {
        Extensions::collect(list).map_err(malformed("list of extensions"))
    }

    fn collect(list: &Element<'a>) -> Result<Extensions<'a>, Problem> {
        let mut found = Extensions::default();
        let mut outer = list.open();
        let mut extensions = outer.expect(tag::SEQUENCE)?.open();
        outer.finish()?;
        while !extensions.is_empty() {
            let mut extension = extensions.expect(tag::SEQUENCE)?.open();
            let oid = extension.expect(tag::OID)?.value;
            // Whoever looks for the rest later stops at a flag that is no DER, and would see none of it.
            extension.optional(tag::BOOLEAN)?.map_or(Ok(false), |flag| der::boolean(flag.value))?;
            let contents = extension.expect(tag::OCTET_STRING)?;
            extension.finish()?;
            let place = match oid {
                [0x55, 0x1d, 14] => &mut found.subject_key_id,
                [0x55, 0x1d, 15] => &mut found.key_usage,
                [0x55, 0x1d, 17] => &mut found.subject_alternative_name,
                [0x55, 0x1d, 19] => &mut found.basic_constraints,
                [0x55, 0x1d, 35] => &mut found.authority_key_id,
                [0x55, 0x1d, 37] => &mut found.extended_key_usage,
                [0x55, 0x1d, 30] => &mut found.name_constraints,
                [0x55, 0x1d, 31] => &mut found.crl_distribution_points,
                [0x55, 0x1d, 32] => &mut found.policies,
                [0x55, 0x1d, 36] => &mut found.policy_constraints,
                AUTHORITY_INFORMATION_ACCESS => &mut found.authority_information_access,
                _ => continue,
            };
            // RFC 5280 section 4.2: no extension twice. Otherwise two readers could see two different ones.
            if place.replace(contents).is_some() {
                return Err("an extension is there twice");
            }
        }
        Ok(found)
    }
}
