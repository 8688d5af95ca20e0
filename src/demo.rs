//! `certdir demo`: sample domains, people and certificates from nothing, on loopback, and the lines that show them.

use std::net::SocketAddr;
use std::path::PathBuf;

use certdir_directory::{Authority, DomainName, PublishOptions, Settings, Store, Submission, UnixTime};
use certdir_zones::smimea_owner;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};

use crate::arguments::{Everywhere, Listen};
use crate::clock::{date, now};
use crate::error::{Error, Exit};
use crate::output::Output;
use crate::serve::Frontends;

/// People of the sample: `example.org` also has a certificate of its own, `example.net` has none.
const PEOPLE: [&str; 4] = ["Alice@example.org", "bob@example.org", "hugh@example.net", "zoë@example.net"];
const WITH_DOMAIN_CERTIFICATE: &str = "example.org";
const DOMAINS: [&str; 2] = [WITH_DOMAIN_CERTIFICATE, "example.net"];
const DAY: i64 = 86_400;

/// Makes the sample and serves it.
pub(crate) async fn demo(everywhere: &Everywhere, listen: Listen) -> Result<Exit, Error> {
    let output = Output { json: everywhere.json };
    // Never the folder of a real directory by accident, be it named by a variable or the configuration: without --data a
    // folder that is removed at the end.
    let temporary = (!everywhere.data_named).then(tempfile::tempdir).transpose()?;
    let data = temporary.as_ref().map_or(everywhere.data.clone(), |folder| folder.path().join("demo"));
    let store = Store::open(&data).await?;
    let frontends = Frontends::bind(&listen, &data)?;
    let mut anchors = Vec::new();
    for domain in DOMAINS {
        let domain = DomainName::parse(domain)?;
        let settings = Settings { ttl: 60, ..Settings::for_domain(&domain) };
        match store.add_domain(&domain, settings, &Authority::Operator, now()).await {
            Err(certdir_directory::Error::DomainExists(_)) => {}
            other => drop(other?),
        }
        let path = data.join(format!("{domain}.anchor"));
        let text = format!("{}\n", store.domain(&domain).await?.dnskey);
        std::fs::write(&path, text).map_err(|source| Error::file(&path, source))?;
        anchors.push(path);
    }
    publish(&store).await?;
    let exit = frontends.run(store, &listen, output, |frontends| print(output, frontends, &anchors)).await;
    if let Some(folder) = temporary {
        folder.close()?;
    }
    exit
}

async fn publish(store: &Store) -> Result<(), Error> {
    let sample = Sample::new(now())?;
    let people = PEOPLE.iter().map(|address| sample.person(address)).collect::<Result<Vec<_>, _>>()?;
    let submission = |der: Vec<u8>| Submission { der, origin: "sample".into() };
    let submissions = people.into_iter().map(submission).collect();
    store.publish(submissions, PublishOptions::default(), &Authority::Operator, now()).await?;
    let domain = DomainName::parse(WITH_DOMAIN_CERTIFICATE)?;
    let gateway = PublishOptions { domain_certificate: Some(domain), ..PublishOptions::default() };
    store.publish(vec![submission(sample.gateway()?)], gateway, &Authority::Operator, now()).await?;
    Ok(())
}

/// A CA that lives as long as it takes to issue the sample. Nobody keeps its key, nor those of the people.
struct Sample {
    ca: CertifiedIssuer<'static, KeyPair>,
    now: UnixTime,
}

impl Sample {
    fn new(now: UnixTime) -> Result<Sample, Error> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "certdir demo CA");
        Ok(Sample { ca: CertifiedIssuer::self_signed(params, KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?)?, now })
    }

    fn person(&self, address: &str) -> Result<Vec<u8>, Error> {
        let name = address.split('@').next().unwrap_or(address);
        let san = match address.is_ascii() {
            true => SanType::Rfc822Name(address.try_into()?),
            // RFC 9598 section 3: a local part beyond ASCII is an SmtpUTF8Mailbox.
            false => SanType::OtherName((vec![1, 3, 6, 1, 5, 5, 7, 8, 9], address.into())),
        };
        self.issue(name, san)
    }

    fn gateway(&self) -> Result<Vec<u8>, Error> {
        self.issue("Mail gateway of example.org", SanType::DnsName(WITH_DOMAIN_CERTIFICATE.try_into()?))
    }

    fn issue(&self, name: &str, san: SanType) -> Result<Vec<u8>, Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = vec![san];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyAgreement];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::EmailProtection];
        params.not_before = date(self.now - DAY)?;
        params.not_after = date(self.now + 365 * DAY)?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        Ok(params.signed_by(&key, &self.ca)?.der().to_vec())
    }
}

fn print(output: Output, frontends: &Frontends, anchors: &[PathBuf]) -> Result<(), Error> {
    let program = std::env::args().next().unwrap_or_else(|| "certdir".into());
    let program = quoted(&program);
    let (alice, zoe) = ("Alice@example.org", "zoë@example.net");
    let owner = smimea_owner(&certdir_directory::Address::parse(alice)?);
    output.line(format!(
        "\nPublished: {}, and a certificate of all of {WITH_DOMAIN_CERTIFICATE}. Try:",
        PEOPLE.join(", ")
    ))?;
    if let (Some(dns), [org, net]) = (frontends.dns.addresses().first(), anchors) {
        let (ip, port) = (dns.ip(), dns.port());
        let resolve = |anchor: &PathBuf, rest: &str| {
            format!("{program} resolve --server {dns} --trust-anchor {} {rest}", quoted(&anchor.to_string_lossy()))
        };
        output.line(format!("  dig @{ip} -p {port} +dnssec +tcp {owner} SMIMEA"))?;
        output.line(format!("  {}", resolve(org, &quoted(alice))))?;
        output.line(format!("  {}", resolve(org, "--explain nobody@example.org")))?;
        output.line(format!("  {}", resolve(net, &format!("--pem {}", quoted(zoe)))))?;
    }
    let kdig = |address: SocketAddr, over: &str| {
        format!("  kdig @{} -p {} {over} +dnssec {owner} SMIMEA", address.ip(), address.port())
    };
    if let Some(dot) = frontends.dns.tls_addresses().first() {
        output.line(kdig(*dot, "+tls"))?;
    }
    if let Some(doq) = frontends.dns.quic_addresses().first() {
        output.line(kdig(*doq, "+quic"))?;
    }
    if let Some(https) = frontends.http.secure_addresses().first() {
        output.line(kdig(*https, "+https"))?;
    }
    if let Some(ldap) = frontends.ldap.addresses().first() {
        output.line(format!("  ldapsearch -x -LLL -H ldap://{ldap} -b dc=example,dc=org '(mail={alice})'"))?;
    }
    if let Some(http) = frontends.http.addresses().first() {
        output.line(format!("  curl http://{http}/v1/addresses/{alice}"))?;
        output.line(format!("  curl 'http://{http}/v1/addresses/{alice}?format=pem'"))?;
        output.line(format!("or open http://{http}/ in a browser. Ctrl-C ends it.\n"))?;
    }
    Ok(())
}

/// A word for a shell: in single quotes where it has any character that might mean something.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-@:,+=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_string()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}
