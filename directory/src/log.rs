//! The numbered publication log: what each row says, and the commitment it carries instead of personal data.
//!
//! A log row names no person: it commits, by SHA-256 over a random salt and the details, to what happened. The details
//! stand in a row of their own and can be erased (with the salt) on request; the commitments, and any chain made over
//! them, stay as they were, and prove nothing about the person any more.

use certdir_certificate::UnixTime;
use data_encoding::HEXLOWER;
use ring::rand::{SecureRandom, SystemRandom};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::published::Version;

/// One numbered row of the log.
#[derive(Debug, Clone, Serialize)]
pub struct Publication {
    /// Its number.
    pub version: Version,
    /// When, Unix seconds.
    pub at: UnixTime,
    /// The domain it belongs to.
    pub domain: String,
    /// What was done.
    pub action: Action,
    /// SHA-256 over the salt and the details, in hexadecimal.
    pub commitment: String,
    /// What the commitment commits to; none once erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<Detail>,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// A domain is hosted from now on.
    DomainAdded,
    /// Its settings changed, or its other records.
    DomainChanged,
    /// A domain is not hosted any more.
    DomainRemoved,
    /// A certificate became the current one.
    Published,
    /// A certificate was taken whose validity begins later.
    Staged,
    /// A certificate was taken that is older than another.
    Superseded,
    /// A certificate was taken that can only sign.
    Kept,
    /// A certificate was taken back.
    Withdrawn,
    /// A certificate's validity ended.
    Expired,
}

impl Action {
    const ALL: [Action; 9] = [
        Action::DomainAdded,
        Action::DomainChanged,
        Action::DomainRemoved,
        Action::Published,
        Action::Staged,
        Action::Superseded,
        Action::Kept,
        Action::Withdrawn,
        Action::Expired,
    ];

    /// The word for it, also in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::DomainAdded => "domain-added",
            Action::DomainChanged => "domain-changed",
            Action::DomainRemoved => "domain-removed",
            Action::Published => "published",
            Action::Staged => "staged",
            Action::Superseded => "superseded",
            Action::Kept => "kept",
            Action::Withdrawn => "withdrawn",
            Action::Expired => "expired",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Action> {
        Action::ALL.into_iter().find(|action| action.as_str() == text)
    }
}

/// The details of a row.
#[derive(Debug, Clone, Serialize)]
pub struct Detail {
    /// The mailbox.
    pub address: String,
    /// SHA-256 of the certificate, in hexadecimal.
    pub sha256: String,
    /// Who did it: `operator` or a token's public part.
    pub actor: String,
    /// Why, where somebody said.
    pub reason: Option<String>,
    /// Makes the commitment unguessable; in hexadecimal.
    pub salt: String,
}

impl Detail {
    pub(crate) fn new(address: String, sha256: &[u8], actor: String, reason: Option<String>) -> Result<Detail, Error> {
        let mut salt = [0; 16];
        SystemRandom::new().fill(&mut salt).map_err(|_| Error::Random)?;
        Ok(Detail { address, sha256: HEXLOWER.encode(sha256), actor, reason, salt: HEXLOWER.encode(&salt) })
    }

    /// What the log row carries. Each field is preceded by its length, so that no two details share an encoding.
    pub fn commitment(&self, version: Version, action: Action) -> [u8; 32] {
        let version = version.to_string();
        let mut hash = Sha256::new();
        let fields = [self.salt.as_str(), &version, action.as_str(), &self.address, &self.sha256, &self.actor];
        for field in fields.into_iter().chain(self.reason.as_deref()) {
            hash.update(u64::try_from(field.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(field.as_bytes());
        }
        hash.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commitment_hides_and_binds() {
        let detail = || Detail::new("alice@example.org".into(), &[7; 32], "operator".into(), None).unwrap();
        let (one, other) = (detail(), detail());
        assert_ne!(one.commitment(1, Action::Published), other.commitment(1, Action::Published), "salted");
        assert_eq!(one.commitment(1, Action::Published), one.clone().commitment(1, Action::Published));
        assert_ne!(one.commitment(1, Action::Published), one.commitment(2, Action::Published));
        assert_ne!(one.commitment(1, Action::Published), one.commitment(1, Action::Withdrawn));
        let shifted = Detail { address: "alice@example.or".into(), sha256: format!("g{}", one.sha256), ..one.clone() };
        assert_ne!(one.commitment(1, Action::Published), shifted.commitment(1, Action::Published));
    }
}
