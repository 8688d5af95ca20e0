//! [`Authority`]: who acts, and what they may do. Tokens are 256 random bits, kept only as a hash.

use certdir_zones::DomainName;
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::error::Error;

/// Who acts.
#[derive(Debug, Clone)]
pub enum Authority {
    /// Whoever may write the data folder, or the directory's own upkeep.
    Operator,
    /// The bearer of a token.
    Token {
        /// The token's public part.
        id: String,
        /// What it may do.
        role: Role,
        /// Where; unused by an admin.
        domains: Vec<DomainName>,
    },
}

/// What a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything, in every domain.
    Admin,
    /// Publish and withdraw in its domains.
    Publisher,
    /// Read history and lists of its domains.
    Reader,
}

impl Role {
    /// The word for it, also in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Admin => "admin",
            Role::Publisher => "publisher",
            Role::Reader => "reader",
        }
    }

    /// The role a word means.
    pub fn parse(text: &str) -> Option<Role> {
        [Role::Admin, Role::Publisher, Role::Reader].into_iter().find(|role| role.as_str() == text)
    }
}

impl Authority {
    /// Whether they may publish and withdraw in a domain.
    pub fn may_publish(&self, domain: &DomainName) -> bool {
        match self {
            Authority::Operator | Authority::Token { role: Role::Admin, .. } => true,
            Authority::Token { role: Role::Publisher, domains, .. } => domains.contains(domain),
            Authority::Token { role: Role::Reader, .. } => false,
        }
    }

    /// Whether they may read what is not public of a domain.
    pub fn may_read(&self, domain: &DomainName) -> bool {
        self.may_publish(domain)
            || matches!(self, Authority::Token { role: Role::Reader, domains, .. } if domains.contains(domain))
    }

    /// Whether they may change domains and tokens.
    pub fn may_administer(&self) -> bool {
        matches!(self, Authority::Operator | Authority::Token { role: Role::Admin, .. })
    }

    /// The name that goes into the log.
    pub(crate) fn actor(&self) -> String {
        match self {
            Authority::Operator => "operator".into(),
            Authority::Token { id, .. } => format!("token {id}"),
        }
    }
}

/// A token as it is listed: never the secret.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TokenRow {
    /// Its public part.
    pub id: String,
    /// What it was made for.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Where.
    pub domains: Vec<String>,
    /// When it was made, Unix seconds.
    pub added_at: i64,
    /// When it was revoked, Unix seconds.
    pub revoked_at: Option<i64>,
}

/// What every token begins with, so that secret scanners recognise one.
const PREFIX: &str = "certdir_";
/// Octets of the public part.
const ID_OCTETS: usize = 6;
/// Octets of the secret part: guessing is hopeless, so a plain hash suffices.
const SECRET_OCTETS: usize = 32;

/// A new token: its public part, the whole text to hand out, and the hash to keep.
pub(crate) fn generate() -> Result<(String, String, [u8; 32]), Error> {
    let (mut id, mut secret) = ([0; ID_OCTETS], [0; SECRET_OCTETS]);
    let random = SystemRandom::new();
    random.fill(&mut id).and_then(|()| random.fill(&mut secret)).map_err(|_| Error::Random)?;
    let (id, secret) = (HEXLOWER.encode(&id), BASE64URL_NOPAD.encode(&secret));
    Ok((id.clone(), format!("{PREFIX}{id}_{secret}"), hash(&secret)))
}

/// The public part of a token and the hash of its secret part.
pub(crate) fn split(token: &str) -> Option<(&str, [u8; 32])> {
    let (id, secret) = token.strip_prefix(PREFIX)?.split_once('_')?;
    (id.len() == 2 * ID_OCTETS && secret.len() < 100).then(|| (id, hash(secret)))
}

/// Whether two hashes are the same, in constant time.
pub(crate) fn same(one: &[u8], other: &[u8]) -> bool {
    one.ct_eq(other).into()
}

fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_splits_into_what_was_kept() {
        let (id, token, kept) = generate().unwrap();
        let (found, hashed) = split(&token).unwrap();
        assert_eq!(found, id);
        assert!(same(&hashed, &kept));
        assert!(!same(&split(&format!("{token}x")).unwrap().1, &kept));
        for bad in ["", "certdir_", "certdir_00_11", "bearer", "certdir_0123456789ab"] {
            assert!(split(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_publisher_is_bound_to_its_domains() {
        let (here, there) = (DomainName::parse("example.org").unwrap(), DomainName::parse("example.net").unwrap());
        let token = |role| Authority::Token { id: "x".into(), role, domains: vec![here.clone()] };
        assert!(token(Role::Publisher).may_publish(&here) && !token(Role::Publisher).may_publish(&there));
        assert!(!token(Role::Reader).may_publish(&here) && token(Role::Reader).may_read(&here));
        assert!(token(Role::Admin).may_publish(&there) && token(Role::Admin).may_administer());
        assert!(!token(Role::Publisher).may_administer() && Authority::Operator.may_administer());
    }
}
