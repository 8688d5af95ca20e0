//! Trust anchors, and the other certificates that a path may be built from.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use certval::{PDVCertificate, PDVTrustAnchorChoice};
use sha2::{Digest as _, Sha256};
use x509_cert::anchor::{CertPathControls, TrustAnchorChoice, TrustAnchorInfo};
use x509_cert::certificate::Raw;
use x509_cert::der::{Decode as _, asn1::OctetString};
use x509_cert::name::Name;
use x509_cert::spki::SubjectPublicKeyInfoOwned;

use crate::certificate::Certificate;
use crate::der::{self, Problem, tag};
use crate::distinguished_name::canonical_name;
use crate::error::Error;
use crate::parts::Parts;
use crate::pem;
use crate::purpose::{self, KeyUsage};
use crate::rules;

/// Most trust anchors of one set.
pub const MAX_ANCHORS: usize = 10_000;
/// Most certificates in one pool.
pub const MAX_POOL: usize = 10_000;
/// Most octets of DER in one pool.
pub const MAX_POOL_OCTETS: usize = 32 * 1024 * 1024;

/// Why something did not become an anchor, or did not get into the pool.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unfit {
    /// It cannot be read.
    #[error(transparent)]
    Unreadable(#[from] Error),
    /// It is a certificate of somebody who is not a certification authority.
    #[error("{subject} is no certification authority: give the certificate of one")]
    NotAnAuthority {
        /// Its subject.
        subject: String,
    },
    /// It is a certificate that path validation cannot take: an encoding that RFC 5280 does not allow, or no name.
    #[error("path validation cannot use {subject}: {problem}")]
    Malformed {
        /// Its subject, or what it is.
        subject: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// There are too many, or they are too large together.
    #[error("the limit of {limit} is reached")]
    Full {
        /// The limit.
        limit: usize,
    },
}

/// A certificate prepared for paths: its parts for the search, and certval's form of it for the rules.
pub(crate) struct Member {
    pub(crate) certificate: Certificate,
    /// The canonical form of the subject and the issuer.
    pub(crate) subject: Vec<u8>,
    pub(crate) issuer: Vec<u8>,
    /// SHA-256 of the public key.
    pub(crate) key: [u8; 32],
    pub(crate) parsed: PDVCertificate,
    pub(crate) key_usage: Option<KeyUsage>,
}

impl Member {
    pub(crate) fn new(certificate: &Certificate) -> Result<Member, Problem> {
        let parts = Parts::of(certificate)?;
        let name = |der| der::only(der, tag::SEQUENCE).and_then(|element| canonical_name(&element));
        Ok(Member {
            subject: name(certificate.subject_der())?,
            issuer: name(certificate.issuer_der())?,
            key: Sha256::digest(parts.key).into(),
            parsed: rules::parse(certificate)?,
            key_usage: parts.extension(purpose::KEY_USAGE).map(KeyUsage::read).transpose()?,
            certificate: certificate.clone(),
        })
    }

    pub(crate) fn parts(&self) -> Result<Parts<'_>, Problem> {
        Parts::of(&self.certificate)
    }

    pub(crate) fn may_sign_crls(&self) -> bool {
        self.key_usage.is_none_or(KeyUsage::allows_signing_crls)
    }
}

/// One trust anchor: a key, mostly with a name, and with the constraints of its certificate if it was given as one.
pub(crate) struct Anchor {
    /// Canonical; `None` for a bare key, which may go by any name.
    pub(crate) name: Option<Vec<u8>>,
    /// `SubjectPublicKeyInfo`, and its SHA-256.
    pub(crate) spki: Vec<u8>,
    pub(crate) key: [u8; 32],
    pub(crate) member: Option<Arc<Member>>,
    pub(crate) trust: Option<PDVTrustAnchorChoice>,
}

impl Anchor {
    /// For certval: the anchor under the name that the path expects.
    pub(crate) fn named(&self, name: &[u8]) -> Result<PDVTrustAnchorChoice, Problem> {
        const BAD: Problem = "a trust anchor's name or key is not encoded as it should be";
        if let Some(trust) = &self.trust {
            return Ok(trust.clone());
        }
        named_key(name, &self.spki, &self.key).ok_or(BAD)
    }
}

/// `TrustAnchorInfo` (RFC 5914 section 2) with a name.
fn named_key(name: &[u8], spki: &[u8], key: &[u8; 32]) -> Option<PDVTrustAnchorChoice> {
    let controls = CertPathControls::<Raw> {
        ta_name: Name::from_der(name).ok()?,
        certificate: None,
        policy_set: None,
        policy_flags: None,
        name_constr: None,
        path_len_constraint: None,
    };
    PDVTrustAnchorChoice::try_from(TrustAnchorChoice::TaInfo(TrustAnchorInfo {
        version: Default::default(),
        pub_key: SubjectPublicKeyInfoOwned::from_der(spki).ok()?,
        key_id: OctetString::new(key.as_slice()).ok()?,
        ta_title: None,
        cert_path: Some(controls),
        extensions: None,
        ta_title_lang_tag: None,
    }))
    .ok()
}

/// Trust anchors: certificates of authorities, names with a key, or keys alone. At most [`MAX_ANCHORS`].
///
/// A certificate that is an anchor counts with its dates, its name constraints, its path length and its policies
/// (RFC 5937), whether or not it is signed by itself.
///
/// Copies share what is in them until one of them is added to.
#[derive(Default, Clone)]
pub struct Anchors {
    held: Arc<Trusted>,
}

#[derive(Default, Clone)]
struct Trusted {
    all: Vec<Arc<Anchor>>,
    by_name: HashMap<Vec<u8>, Vec<usize>>,
    /// Keys that may go by any name.
    bare: Vec<usize>,
    keys: HashSet<[u8; 32]>,
}

impl Anchors {
    /// No anchors: nothing is trusted.
    pub fn new() -> Anchors {
        Anchors::default()
    }

    /// The authorities in a file: one certificate in DER form, or any number in PEM form.
    ///
    /// # Errors
    /// The first one that is unfit; then there are no anchors, because a file that is half read is half trusted.
    pub fn read(pem_or_der: &[u8]) -> Result<Anchors, Unfit> {
        let mut anchors = Anchors::new();
        for certificate in Certificate::read_all(pem_or_der)? {
            anchors.add(&certificate)?;
        }
        Ok(anchors)
    }

    /// Trusts an authority by its certificate (also usage 0 and 2 of RFC 6698 with selector 0).
    ///
    /// # Errors
    /// It is no authority's, cannot be used, or there are too many.
    pub fn add(&mut self, certificate: &Certificate) -> Result<(), Unfit> {
        let subject = || certificate.subject().to_owned();
        let malformed = |problem| Unfit::Malformed { subject: subject(), problem };
        let member = Member::new(certificate).map_err(malformed)?;
        let parts = member.parts().map_err(malformed)?;
        // An old root of version 1 has no extensions and so does not say whether it is an authority.
        if !certificate.is_ca() && parts.has_extensions() {
            return Err(Unfit::NotAnAuthority { subject: subject() });
        }
        let spki = parts.key.to_vec();
        let choice = TrustAnchorChoice::Certificate(member.parsed.decoded().clone());
        let trust = PDVTrustAnchorChoice::try_from(choice).map_err(|_| malformed("it is not plain DER"))?;
        let key = member.key;
        let name = member.subject.clone();
        if name.is_empty() {
            return Err(malformed("it has no subject"));
        }
        self.push(Anchor { name: Some(name), spki, key, member: Some(Arc::new(member)), trust: Some(trust) })
    }

    /// Trusts a key under one name: the `Name` and the `SubjectPublicKeyInfo` in DER form.
    ///
    /// # Errors
    /// One of them is malformed, or there are too many.
    pub fn add_named_key(&mut self, subject: &[u8], spki: &[u8]) -> Result<(), Unfit> {
        let malformed = |problem| Unfit::Malformed { subject: "a trust anchor".to_owned(), problem };
        let name = der::only(subject, tag::SEQUENCE).and_then(|e| canonical_name(&e)).map_err(malformed)?;
        if name.is_empty() {
            return Err(malformed("its name is empty"));
        }
        let key = Sha256::digest(spki).into();
        let trust = named_key(subject, spki, &key).ok_or(malformed("its name or key is malformed"))?;
        self.push(Anchor { name: Some(name), spki: spki.to_vec(), key, member: None, trust: Some(trust) })
    }

    /// Trusts a key whose owner's name is not known: a `SubjectPublicKeyInfo` in DER form (usage 2 of RFC 6698 with
    /// selector 1 and matching 0). Whatever it signed is below it.
    ///
    /// # Errors
    /// It is malformed, or there are too many.
    pub fn add_key(&mut self, spki: &[u8]) -> Result<(), Unfit> {
        let malformed = |problem| Unfit::Malformed { subject: "a trust anchor's key".to_owned(), problem };
        SubjectPublicKeyInfoOwned::from_der(spki).map_err(|_| malformed("it is no SubjectPublicKeyInfo"))?;
        let key = Sha256::digest(spki).into();
        self.push(Anchor { name: None, spki: spki.to_vec(), key, member: None, trust: None })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.held.all.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.held.all.is_empty()
    }

    fn push(&mut self, anchor: Anchor) -> Result<(), Unfit> {
        if self.len() >= MAX_ANCHORS {
            return Err(Unfit::Full { limit: MAX_ANCHORS });
        }
        let held = Arc::make_mut(&mut self.held);
        let place = held.all.len();
        match &anchor.name {
            Some(name) => held.by_name.entry(name.clone()).or_default().push(place),
            None => held.bare.push(place),
        }
        held.keys.insert(anchor.key);
        held.all.push(Arc::new(anchor));
        Ok(())
    }

    /// Those that go by this name, and those that go by any.
    pub(crate) fn named(&self, name: &[u8]) -> impl Iterator<Item = &Arc<Anchor>> {
        let places = self.held.by_name.get(name).map(Vec::as_slice).unwrap_or_default();
        places.iter().chain(&self.held.bare).filter_map(|place| self.held.all.get(*place))
    }

    pub(crate) fn has_key(&self, key: &[u8; 32]) -> bool {
        self.held.keys.contains(key)
    }
}

impl std::fmt::Debug for Anchors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Anchors({})", self.held.all.len())
    }
}

/// Certificates that are not trusted by themselves, for building paths: intermediate authorities, and signers of CRLs. At
/// most [`MAX_POOL`] with [`MAX_POOL_OCTETS`] of DER.
///
/// Copies share what is in them until one of them is added to, and even then no certificate is read again.
#[derive(Default, Clone)]
pub struct Pool {
    held: Arc<Held>,
}

#[derive(Default, Clone)]
struct Held {
    all: Vec<Arc<Member>>,
    by_subject: HashMap<Vec<u8>, Vec<usize>>,
    /// SHA-256 of each certificate.
    known: HashSet<[u8; 32]>,
    octets: usize,
}

impl Held {
    fn has(&self, certificate: &Certificate) -> bool {
        self.known.contains(certificate.sha256())
    }

    /// Whether there is room for one more.
    fn admit(&self, certificate: &Certificate) -> Result<(), Unfit> {
        if self.all.len() >= MAX_POOL {
            return Err(Unfit::Full { limit: MAX_POOL });
        }
        if self.octets.saturating_add(certificate.der().len()) > MAX_POOL_OCTETS {
            return Err(Unfit::Full { limit: MAX_POOL_OCTETS });
        }
        Ok(())
    }

    fn push(&mut self, member: Arc<Member>) {
        self.by_subject.entry(member.subject.clone()).or_default().push(self.all.len());
        self.known.insert(*member.certificate.sha256());
        self.octets = self.octets.saturating_add(member.certificate.der().len());
        self.all.push(member);
    }
}

impl Pool {
    /// An empty pool.
    pub fn new() -> Pool {
        Pool::default()
    }

    /// Adds a certificate; one that is there is not added again.
    ///
    /// # Errors
    /// It cannot be used, or the pool is full.
    pub fn add(&mut self, certificate: &Certificate) -> Result<(), Unfit> {
        if self.held.has(certificate) {
            return Ok(());
        }
        self.held.admit(certificate)?;
        let malformed = |problem| Unfit::Malformed { subject: certificate.subject().to_owned(), problem };
        let member = Member::new(certificate).map_err(malformed)?;
        Arc::make_mut(&mut self.held).push(Arc::new(member));
        Ok(())
    }

    /// Adds what is in another pool, as it was read there. Put the small one into a copy of the large one.
    ///
    /// # Errors
    /// The pool is full; what there was room for is in it.
    pub fn join(&mut self, other: &Pool) -> Result<(), Unfit> {
        if self.is_empty() {
            self.held = Arc::clone(&other.held);
            return Ok(());
        }
        for member in &other.held.all {
            if !self.held.has(&member.certificate) {
                self.held.admit(&member.certificate)?;
                Arc::make_mut(&mut self.held).push(Arc::clone(member));
            }
        }
        Ok(())
    }

    /// Adds what a caIssuers address gave (RFC 5280 section 4.2.2.1): one certificate in DER form, a certs-only CMS message
    /// (`.p7c`), or, as many servers have it, PEM. Certificates that cannot be used are passed over; gives how many were
    /// usable.
    ///
    /// # Errors
    /// It is none of these, or the pool is full.
    pub fn read(&mut self, octets: &[u8]) -> Result<usize, Unfit> {
        let certificates = match certs_only(octets) {
            Some(inside) => inside.into_iter().filter_map(|der| Certificate::from_der(der).ok()).collect(),
            None => Certificate::read_all(octets)?,
        };
        let mut usable = 0;
        for certificate in &certificates {
            match self.add(certificate) {
                Ok(()) => usable += 1,
                Err(full @ Unfit::Full { .. }) => return Err(full),
                Err(_) => {}
            }
        }
        Ok(usable)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.held.all.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.held.all.is_empty()
    }

    /// The certificates, in the order in which they came.
    pub fn certificates(&self) -> impl Iterator<Item = &Certificate> {
        self.held.all.iter().map(|member| &member.certificate)
    }

    pub(crate) fn named(&self, subject: &[u8]) -> impl Iterator<Item = &Arc<Member>> {
        let places = self.held.by_subject.get(subject).map(Vec::as_slice).unwrap_or_default();
        places.iter().filter_map(|place| self.held.all.get(*place))
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pool({})", self.held.all.len())
    }
}

/// The certificates of a CMS `SignedData` in DER form (RFC 5652 section 5.1), at most [`MAX_POOL`]; `None` if it is none.
fn certs_only(octets: &[u8]) -> Option<Vec<&[u8]>> {
    const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
    if octets.len() > pem::MAX_INPUT {
        return None;
    }
    let mut info = der::only(octets, tag::SEQUENCE).ok()?.open();
    if info.expect(tag::OID).ok()?.value != SIGNED_DATA {
        return None;
    }
    let content = info.expect(tag::context_constructed(0)).ok()?;
    let mut signed = der::only(content.value, tag::SEQUENCE).ok()?.open();
    signed.expect(tag::INTEGER).ok()?;
    signed.expect(tag::SET).ok()?;
    signed.expect(tag::SEQUENCE).ok()?;
    let mut set = signed.optional(tag::context_constructed(0)).ok()??.open();
    let mut certificates = Vec::new();
    while !set.is_empty() && certificates.len() < MAX_POOL {
        certificates.push(set.next().ok()?.raw);
    }
    Some(certificates)
}
