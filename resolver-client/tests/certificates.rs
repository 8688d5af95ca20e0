//! Certificates of people and domains.

use std::sync::Arc;

use certdir_resolver::{Certificate, UnixTime};
use rcgen::{CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};

/// A time in rcgen's form.
macro_rules! time {
    ($t:expr) => {
        rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(u64::try_from($t).unwrap())
    };
}
pub(crate) use time;

pub(crate) const DAY: UnixTime = 86_400;

/// The system's time: the name servers' signatures are made by it.
pub(crate) fn now() -> UnixTime {
    #[expect(clippy::disallowed_methods, reason = "real servers sign by the system's time")]
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs().try_into().unwrap()
}

/// What to make.
#[derive(Clone)]
pub(crate) struct Sample {
    pub(crate) name: &'static str,
    pub(crate) from: UnixTime,
    pub(crate) to: UnixTime,
    pub(crate) usages: Vec<KeyUsagePurpose>,
    /// Octets of an extension that makes it large.
    pub(crate) padding: usize,
}

impl Sample {
    pub(crate) fn valid(name: &'static str) -> Self {
        let (from, to) = (now() - DAY, now() + 30 * DAY);
        Sample { name, from, to, usages: vec![KeyUsagePurpose::KeyAgreement], padding: 0 }
    }

    pub(crate) fn make(&self) -> Arc<Certificate> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, self.name);
        params.key_usages = self.usages.clone();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::EmailProtection];
        params.not_before = time!(self.from);
        params.not_after = time!(self.to);
        if self.padding > 0 {
            let octets = vec![0x5a; self.padding];
            params.custom_extensions.push(CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 55555, 1], octets));
        }
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        Arc::new(Certificate::from_der(certificate.der()).unwrap())
    }
}

pub(crate) fn valid(name: &'static str) -> Arc<Certificate> {
    Sample::valid(name).make()
}
