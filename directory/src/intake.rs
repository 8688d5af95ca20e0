//! What a submitted certificate may be published for. Pure: the store's rows come later.
//!
//! [`Candidate::read`] looks only at the certificate; [`Candidate::claims`] at the hosted domains and at who asks.

use std::collections::{BTreeMap, BTreeSet};

use certdir_certificate::{Certificate, UnixTime};
use certdir_zones::{Address, DomainName, Usage};

use crate::authority::Authority;
use crate::lifecycle::{END_MARGIN, Purposes};
use crate::report::Refusal;

/// The most mailboxes one certificate is published for. Real ones name fewer than ten.
const MAX_MAILBOXES: usize = 100;

/// A certificate to publish.
#[derive(Debug, Clone)]
pub struct Submission {
    /// The DER of one certificate.
    pub der: Vec<u8>,
    /// Where it came from: a file's name, or `request`. For the report only.
    pub origin: String,
}

/// What the publisher says beside the certificates.
#[derive(Debug, Clone, Default)]
pub struct PublishOptions {
    /// Aliases that the certificate does not name: published as asserted.
    pub addresses: Vec<Address>,
    /// The certificate is this domain's own (a gateway's).
    pub domain_certificate: Option<DomainName>,
    /// The certificate is that of a CA which issues for this domain's people.
    pub authority_for: Option<DomainName>,
    /// Bring the certificate back although it was superseded or withdrawn.
    pub restore: bool,
    /// Write nothing; only say what would happen.
    pub dry_run: bool,
}

/// A readable certificate and the mailboxes it might be for.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) certificate: Certificate,
    /// Mailboxes in the certificate that are addresses.
    named: Vec<Address>,
    /// Only the subject names the mailbox.
    legacy: bool,
    warnings: Vec<String>,
}

/// All that a certificate is to be published for.
#[derive(Debug)]
pub(crate) struct Claims {
    /// By mailbox, in lower case.
    pub(crate) mailboxes: BTreeMap<Address, Spelled>,
    pub(crate) usage: Usage,
    pub(crate) purposes: Purposes,
    pub(crate) slot: String,
    pub(crate) warnings: Vec<String>,
}

/// How a mailbox is written.
#[derive(Debug, Default)]
pub(crate) struct Spelled {
    pub(crate) spellings: BTreeSet<Address>,
    /// The publisher says so, not the certificate.
    pub(crate) asserted: bool,
}

impl Candidate {
    pub(crate) fn read(der: &[u8]) -> Result<Candidate, Refusal> {
        let certificate = Certificate::from_der(der).map_err(|error| Refusal::new(error.code(), error.to_string()))?;
        let mut candidate = Candidate { certificate, named: Vec::new(), legacy: false, warnings: Vec::new() };
        let in_san = candidate.certificate.addresses().iter().any(|name| !name.legacy());
        candidate.legacy = !in_san;
        for name in candidate.certificate.addresses() {
            match Address::parse(&name.text) {
                // RFC 8550 section 3: both places must be recognised; the SAN is where an address belongs.
                Ok(address) => candidate.named.push(address),
                Err(error) => candidate.warnings.push(format!("left out: {error}")),
            }
        }
        Ok(candidate)
    }

    /// The domains whose settings must be known before [`Candidate::claims`].
    pub(crate) fn domains<'a>(&'a self, options: &'a PublishOptions) -> impl Iterator<Item = &'a DomainName> {
        let named = self.named.iter().chain(&options.addresses).map(Address::domain);
        named.chain(&options.domain_certificate).chain(&options.authority_for)
    }

    /// What the certificate is to be published for, or why it is not taken.
    pub(crate) fn claims(
        &self,
        options: &PublishOptions,
        hosted: &dyn Fn(&DomainName) -> bool,
        authority: &Authority,
        now: UnixTime,
    ) -> Result<Claims, Refusal> {
        let certificate = &self.certificate;
        if certificate.not_after() <= now.saturating_add(END_MARGIN) {
            return Err(Refusal::new("expired", "it has expired; publish the certificate that replaced it"));
        }
        let mut claims = match &options.authority_for {
            Some(domain) => self.authority_claims(domain)?,
            None => self.person_claims(options)?,
        };
        let mut refused = None;
        let mut warnings = Vec::new();
        claims.mailboxes.retain(|mailbox, _| {
            let domain = mailbox.domain();
            if !hosted(domain) {
                warnings.push(format!("not published for {mailbox}: {domain} is not hosted here"));
                return false;
            }
            if !authority.may_publish(domain) {
                warnings.push(format!("not published for {mailbox}: the token is not for {domain}"));
                refused = Some(Refusal::new("forbidden", format!("this token may not publish for {domain}")));
                return false;
            }
            true
        });
        if claims.mailboxes.is_empty() {
            return Err(refused.unwrap_or_else(|| self.no_hosted(&warnings)));
        }
        claims.warnings.splice(0..0, self.warnings.iter().cloned());
        claims.warnings.extend(warnings);
        Ok(claims)
    }

    /// A CA's certificate, for the entry of a domain (SMIMEA usage 2, LDAP cACertificate).
    fn authority_claims(&self, domain: &DomainName) -> Result<Claims, Refusal> {
        let certificate = &self.certificate;
        if !certificate.is_ca() {
            return Err(Refusal::new("not-a-ca", "it is not a CA's certificate; leave out --authority"));
        }
        // Several CAs may serve a domain at once; only a renewed certificate of the same CA and key supersedes.
        let key = certificate.subject_key_id().unwrap_or(certificate.sha256());
        let key = data_encoding::HEXLOWER.encode(key);
        Ok(Claims {
            mailboxes: BTreeMap::from([(Address::domain_authority(domain), Spelled::default())]),
            usage: Usage::DaneTa,
            purposes: Purposes::ISSUE,
            slot: format!("ca {key} {}", certificate.subject()),
            warnings: Vec::new(),
        })
    }

    fn person_claims(&self, options: &PublishOptions) -> Result<Claims, Refusal> {
        let certificate = &self.certificate;
        if certificate.is_ca() {
            return Err(Refusal::new(
                "ca-certificate",
                "it is a CA's certificate, not a person's; to let partners trust the CA, use --authority DOMAIN",
            ));
        }
        let mut purposes = Purposes::default();
        if certificate.can_encrypt() {
            purposes = purposes.with(Purposes::ENCRYPT);
        }
        if certificate.can_sign() {
            purposes = purposes.with(Purposes::SIGN);
        }
        if purposes == Purposes::default() {
            return Err(Refusal::new("not-for-mail", "its key usage and extended key usage do not allow e-mail"));
        }
        let mut warnings = Vec::new();
        let mut mailboxes: BTreeMap<Address, Spelled> = BTreeMap::new();
        if let Some(domain) = &options.domain_certificate {
            self.names_domain_or_nothing(domain)?;
            mailboxes.insert(Address::domain_authority(domain), Spelled::default());
        } else {
            for address in &self.named {
                mailboxes.entry(address.lower_case()).or_default().spellings.insert(address.clone());
            }
            if self.legacy && !mailboxes.is_empty() {
                warnings.push("only its subject names the address (legacy); ask the CA to put it into the subject alternative name".into());
            }
        }
        for alias in &options.addresses {
            let spelled =
                mailboxes.entry(alias.lower_case()).or_insert_with(|| Spelled { asserted: true, ..Spelled::default() });
            spelled.spellings.insert(alias.clone());
            if spelled.asserted {
                warnings
                    .push(format!("{alias} is not named by the certificate: published as asserted by the publisher"));
            }
        }
        if mailboxes.is_empty() {
            return Err(self.no_address());
        }
        if mailboxes.len() > MAX_MAILBOXES {
            return Err(Refusal::new("too-many", format!("it names more than {MAX_MAILBOXES} mailboxes")));
        }
        Ok(Claims { mailboxes, usage: Usage::DaneEe, purposes, slot: certificate.key().kind.clone(), warnings })
    }

    /// A gateway's certificate names its domain, a domain above it (RFC 3183 section 3.1.1), or nobody at all.
    fn names_domain_or_nothing(&self, domain: &DomainName) -> Result<(), Refusal> {
        let domains: Vec<DomainName> =
            self.certificate.domains().iter().filter_map(|text| DomainName::parse(text).ok()).collect();
        let above = |named: &DomainName| domain.name().is_at_or_below(named.name());
        let by_address = |address: &Address| address.is_domain_authority() && above(address.domain());
        if domains.iter().any(above) || self.named.iter().any(by_address) {
            return Ok(());
        }
        if !self.certificate.names_somebody() {
            return Ok(());
        }
        let domains = domains.iter().map(ToString::to_string);
        let mut names: Vec<String> = domains.chain(self.named.iter().map(ToString::to_string)).collect();
        if names.is_empty() {
            names.push("something that is neither an address nor a host".into());
        }
        Err(Refusal::new(
            "names-other",
            format!(
                "it is not {domain}'s: it names {}; a domain's certificate names the domain, or nobody",
                names.join(", ")
            ),
        ))
    }

    fn no_address(&self) -> Refusal {
        let certificate = &self.certificate;
        match certificate.domains().first() {
            Some(domain) => Refusal::new(
                "no-address",
                format!(
                    "it names no mailbox, only {domain}; to publish it for the whole domain, use --domain-certificate {domain}"
                ),
            ),
            None => Refusal::new(
                "no-address",
                "it names no mailbox; say whose it is with --address, or use --domain-certificate DOMAIN",
            ),
        }
    }

    fn no_hosted(&self, warnings: &[String]) -> Refusal {
        let domains: BTreeSet<&DomainName> = self.named.iter().map(Address::domain).collect();
        let first = domains.first().map(ToString::to_string).unwrap_or_else(|| "DOMAIN".into());
        let detail = if warnings.is_empty() { String::new() } else { format!(" ({})", warnings.join("; ")) };
        Refusal::new(
            "not-hosted",
            format!(
                "none of its addresses is in a domain hosted here{detail}; add one with: certdir domain add {first} --name-server HOST"
            ),
        )
    }
}
