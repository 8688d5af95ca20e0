//! A data folder, a follower and a CA that issues whatever a test asks for.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use certdir_directory::{
    Address, Authority, Clock, DomainName, Follower, PublishOptions, Published, Reader, Report, Settings, Store,
    Submission, UnixTime,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DistinguishedName, DnType, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};

pub(crate) const T0: UnixTime = 1_800_000_000;
pub(crate) const DAY: i64 = 86_400;

pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) store: Store,
    pub(crate) follower: Follower,
    pub(crate) reader: Reader,
    pub(crate) now: Arc<AtomicI64>,
    pub(crate) ca: CertifiedIssuer<'static, KeyPair>,
}

/// What a certificate of the test CA says.
#[derive(Clone)]
pub(crate) struct Wanted<'a> {
    pub(crate) addresses: &'a [&'a str],
    pub(crate) from: UnixTime,
    pub(crate) to: UnixTime,
    pub(crate) usages: &'a [KeyUsagePurpose],
    pub(crate) padding: usize,
}

impl Default for Wanted<'_> {
    fn default() -> Self {
        let usages = &[KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyAgreement];
        Wanted { addresses: &[], from: T0 - DAY, to: T0 + 365 * DAY, usages, padding: 0 }
    }
}

impl World {
    pub(crate) async fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let now = Arc::new(AtomicI64::new(T0));
        let store = Store::open(folder.path()).await.unwrap();
        let (follower, reader) = Follower::start(&store, clock(&now)).await.unwrap();
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.distinguished_name = name("Test CA");
        let ca = CertifiedIssuer::self_signed(ca, key()).unwrap();
        World { folder, store, follower, reader, now, ca }
    }

    pub(crate) async fn with_domain(domain: &str) -> World {
        let world = World::new().await;
        world.add_domain(domain).await;
        world
    }

    pub(crate) async fn add_domain(&self, domain: &str) {
        let domain = self::domain(domain);
        self.store.add_domain(&domain, Settings::for_domain(&domain), &Authority::Operator, self.now()).await.unwrap();
    }

    pub(crate) fn now(&self) -> UnixTime {
        self.now.load(Ordering::Relaxed)
    }

    pub(crate) fn set_now(&self, now: UnixTime) {
        self.now.store(now, Ordering::Relaxed);
    }

    pub(crate) fn issue(&self, wanted: Wanted<'_>) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = name(wanted.addresses.first().copied().unwrap_or("Gateway"));
        params.not_before = time(wanted.from);
        params.not_after = time(wanted.to);
        params.key_usages = wanted.usages.to_vec();
        params.subject_alt_names =
            wanted.addresses.iter().map(|address| SanType::Rfc822Name((*address).try_into().unwrap())).collect();
        if wanted.padding > 0 {
            let content = [
                &[0x04, 0x83, (wanted.padding >> 16) as u8, (wanted.padding >> 8) as u8, wanted.padding as u8][..],
                &vec![0; wanted.padding],
            ]
            .concat();
            params.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 55555, 1], content)];
        }
        params.signed_by(&key(), &self.ca).unwrap().der().to_vec()
    }

    pub(crate) fn person(&self, address: &str, from: UnixTime) -> Vec<u8> {
        self.issue(Wanted { addresses: &[address], from, to: from + 365 * DAY, ..Wanted::default() })
    }

    pub(crate) async fn publish(&self, der: Vec<u8>) -> Report {
        self.publish_with(der, PublishOptions::default(), &Authority::Operator).await
    }

    pub(crate) async fn publish_with(&self, der: Vec<u8>, options: PublishOptions, authority: &Authority) -> Report {
        let submission = Submission { der, origin: "test".into() };
        self.store.publish(vec![submission], options, authority, self.now()).await.unwrap()
    }

    pub(crate) async fn published(&mut self) -> Arc<Published> {
        self.follower.catch_up().await.unwrap();
        self.reader.published().unwrap()
    }

    /// The certificates that the world sees for an address, newest first.
    pub(crate) async fn visible(&mut self, address: &str) -> Vec<Vec<u8>> {
        let now = self.now();
        let published = self.published().await;
        let entry = published.entry(&self::address(address));
        entry.map(|entry| entry.visible(now).map(|c| c.der().to_vec()).collect()).unwrap_or_default()
    }
}

pub(crate) fn clock(now: &Arc<AtomicI64>) -> Clock {
    let now = now.clone();
    Arc::new(move || now.load(Ordering::Relaxed))
}

pub(crate) fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

pub(crate) fn domain(text: &str) -> DomainName {
    DomainName::parse(text).unwrap()
}

fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

fn time(at: UnixTime) -> ::time::OffsetDateTime {
    ::time::OffsetDateTime::from_unix_timestamp(at).unwrap()
}
