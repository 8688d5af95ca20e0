//! Authorities, certificates and revocation lists made for one test.

use std::sync::Arc;

use certdir_certificate::{Anchors, Certificate, Crl, Evidence, Pool, Requirements};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason, RevokedCertParams,
    SanType, SerialNumber,
};
use time::{Duration, OffsetDateTime};

use crate::NOW;

/// A moment this many days from [`NOW`].
pub(crate) fn day(days: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(NOW).unwrap() + Duration::days(days)
}

/// Somebody with a key, and the certificate that was made last for it.
pub(crate) struct Holder {
    pub(crate) key: KeyPair,
    pub(crate) params: CertificateParams,
    pub(crate) certificate: Certificate,
}

/// What a certificate with this common name begins as.
fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = day(-10);
    params.not_after = day(365);
    params.use_authority_key_identifier_extension = true;
    params
}

/// An authority's, unlimited.
pub(crate) fn authority_params(name: &str) -> CertificateParams {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// A person's, for encryption, with a serial number. keyEncipherment is there for openssl, which wants it of EC keys, too.
pub(crate) fn person_params(address: &str, serial: u64) -> CertificateParams {
    let mut params = params(address);
    params.key_usages =
        vec![KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::KeyAgreement, KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::EmailProtection];
    params.subject_alt_names = vec![SanType::Rfc822Name(address.try_into().unwrap())];
    params.serial_number = Some(SerialNumber::from(serial));
    params
}

impl Holder {
    /// An authority that signs itself.
    pub(crate) fn root(name: &str) -> Holder {
        Holder::root_with(authority_params(name))
    }

    pub(crate) fn root_with(params: CertificateParams) -> Holder {
        let key = KeyPair::generate().unwrap();
        let certificate = Certificate::from_der(params.self_signed(&key).unwrap().der()).unwrap();
        Holder { key, params, certificate }
    }

    /// Issues a certificate for a new key.
    pub(crate) fn issue(&self, params: CertificateParams) -> Holder {
        self.certify(KeyPair::generate().unwrap(), params)
    }

    /// Issues a certificate for a key.
    pub(crate) fn certify(&self, key: KeyPair, params: CertificateParams) -> Holder {
        let certificate = params.signed_by(&key, &self.issuer()).unwrap();
        let certificate = Certificate::from_der(certificate.der()).unwrap();
        Holder { key, params, certificate }
    }

    pub(crate) fn authority(&self, name: &str) -> Holder {
        self.issue(authority_params(name))
    }

    pub(crate) fn person(&self, address: &str, serial: u64) -> Holder {
        self.issue(person_params(address, serial))
    }

    pub(crate) fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }

    /// A list with these serial numbers, made some days from now and good for a week.
    pub(crate) fn crl(&self, made: i64, serials: &[u64]) -> Arc<Crl> {
        Arc::new(Crl::read(&self.crl_der(made, serials)).unwrap())
    }

    pub(crate) fn crl_der(&self, made: i64, serials: &[u64]) -> Vec<u8> {
        let list = list_params(made, serials).signed_by(&self.issuer()).unwrap();
        list.der().to_vec()
    }
}

pub(crate) fn list_params(made: i64, serials: &[u64]) -> CertificateRevocationListParams {
    let revoked = |serial: &u64| RevokedCertParams {
        serial_number: SerialNumber::from(*serial),
        revocation_time: day(made - 1),
        reason_code: Some(RevocationReason::KeyCompromise),
        invalidity_date: None,
    };
    CertificateRevocationListParams {
        this_update: day(made),
        next_update: day(made + 7),
        crl_number: SerialNumber::from(u64::try_from(1000 + made).unwrap()),
        issuing_distribution_point: None,
        revoked_certs: serials.iter().map(revoked).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    }
}

pub(crate) fn anchors(of: &[&Holder]) -> Anchors {
    let mut anchors = Anchors::new();
    of.iter().for_each(|holder| anchors.add(&holder.certificate).unwrap());
    anchors
}

pub(crate) fn pool(of: &[&Holder]) -> Pool {
    let mut pool = Pool::new();
    of.iter().for_each(|holder| pool.add(&holder.certificate).unwrap());
    pool
}

pub(crate) fn evidence(lists: &[Arc<Crl>]) -> Evidence {
    let mut evidence = Evidence::new();
    lists.iter().for_each(|list| assert!(evidence.add_crl(list.clone())));
    evidence
}

/// The defaults at [`NOW`], for this address.
pub(crate) fn wanted(address: &str) -> Requirements {
    Requirements { named: certdir_certificate::Named::Address(address.to_owned()), ..Requirements::at(NOW) }
}
