//! What a gateway accepts and prefers.

use std::sync::Arc;

use certdir_certificate::Certificate;

use crate::judge::newest_first;

/// What a gateway accepts beyond the recipient's own certificate, and which it takes of several.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Policy {
    /// Use the domain-level certificate where the recipient's own name has no record. Default: true.
    pub domain_certificate: bool,
    /// Use it also where the recipient's own record is unusable (expired, say) or blocked. Default: false.
    pub domain_certificate_despite_own_record: bool,
    /// Use a harvested certificate also where a managed source failed, which may have a newer one. Default: false.
    pub harvested_despite_failure: bool,
    /// Encrypt to every usable certificate, not only to the one that is chosen. Default: false.
    pub encrypt_to_all: bool,
    /// Kinds of keys as [`KeyInfo::kind`](certdir_certificate::KeyInfo::kind) names them (`rsa`, `ec`, `x25519`), the preferred one
    /// first. Kinds that are not named come after them. Default: empty, no preference.
    pub key_preference: Vec<String>,
    /// Certificates whose revocation cannot be established, where a chain is needed. Default: [`Revocation::Hard`].
    pub revocation: Revocation,
}

/// What to do about a certificate whose revocation cannot be established. One that is known to be revoked is never used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// It is not used: the verdict is Unknown, unless there is another one.
    Hard,
    /// It is used.
    Soft,
    /// Nobody looks: nothing is fetched, and what is revoked is not known.
    Off,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            domain_certificate: true,
            domain_certificate_despite_own_record: false,
            harvested_despite_failure: false,
            encrypt_to_all: false,
            key_preference: Vec::new(),
            revocation: Revocation::Hard,
        }
    }
}

impl Policy {
    /// Puts usable certificates in the order of choice: of each kind of key the newest notBefore (then the latest
    /// notAfter, then the smallest SHA-256); these by the preference among kinds, or else by the same order; then, where all
    /// are encrypted to, the rest. Without [`Policy::encrypt_to_all`] only the first is left.
    pub fn choose(&self, mut certificates: Vec<Arc<Certificate>>) -> Vec<Arc<Certificate>> {
        newest_first(&mut certificates);
        let mut kinds: Vec<&str> = Vec::new();
        let ranks: Vec<(bool, usize)> = certificates
            .iter()
            .map(|certificate| {
                let kind = certificate.key().kind.as_str();
                let older = kinds.contains(&kind);
                kinds.push(kind);
                let preferred = self.key_preference.iter().position(|k| k == kind);
                (older, preferred.unwrap_or(usize::MAX))
            })
            .collect();
        let mut ranked: Vec<_> = ranks.into_iter().zip(certificates).collect();
        // Stable: what has the same rank stays newest first.
        ranked.sort_by_key(|(rank, _)| *rank);
        let mut certificates: Vec<_> = ranked.into_iter().map(|(_, certificate)| certificate).collect();
        if !self.encrypt_to_all {
            certificates.truncate(1);
        }
        certificates
    }
}
