//! The revocation lists and OCSP responses at hand.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use crate::crl::Crl;
use crate::ocsp::{OcspResponse, Single, Status};

/// Most revocation lists, and most OCSP responses, of one collection.
pub const MAX_EVIDENCE: usize = 10_000;
/// Most lists of one issuer that are kept: the newest.
pub const MAX_CRLS_OF_ISSUER: usize = 64;

/// Revocation lists and OCSP responses, to be looked at in validations. What is in it is not verified; each validation
/// verifies what it uses. Cheap to copy and to fill, since what it holds is shared.
#[derive(Debug, Default, Clone)]
pub struct Evidence {
    /// By the canonical name of the issuer, the newest first.
    crls: HashMap<Vec<u8>, Vec<Arc<Crl>>>,
    crl_count: usize,
    /// By serial number.
    responses: HashMap<Vec<u8>, Vec<Arc<OcspResponse>>>,
    response_count: usize,
}

impl Evidence {
    /// Nothing at hand.
    pub fn new() -> Evidence {
        Evidence::default()
    }

    /// Adds a revocation list. Of each issuer the [`MAX_CRLS_OF_ISSUER`] newest stay. Gives `false` if there is no room
    /// ([`MAX_EVIDENCE`]) or it is there already.
    pub fn add_crl(&mut self, crl: Arc<Crl>) -> bool {
        if self.crl_count >= MAX_EVIDENCE {
            return false;
        }
        let lists = self.crls.entry(crl.issuer.clone()).or_default();
        if lists.iter().any(|there| there.sha256() == crl.sha256()) {
            return false;
        }
        // The newest first: an older list that knows nothing must not beat a newer one that does.
        let place = lists.partition_point(|there| there.this_update() >= crl.this_update());
        lists.insert(place, crl);
        if lists.len() > MAX_CRLS_OF_ISSUER {
            lists.pop();
        } else {
            self.crl_count += 1;
        }
        true
    }

    /// Adds an OCSP response. Of those about one serial number the last [`MAX_CRLS_OF_ISSUER`] stay. Gives `false` if there is no room ([`MAX_EVIDENCE`]) or it is there already.
    pub fn add_ocsp(&mut self, response: Arc<OcspResponse>) -> bool {
        if self.response_count >= MAX_EVIDENCE {
            return false;
        }
        let mut added = false;
        for single in &response.single {
            let there = self.responses.entry(single.serial.clone()).or_default();
            if there.iter().any(|one| one.sha256() == response.sha256()) {
                continue;
            }
            if there.len() >= MAX_CRLS_OF_ISSUER {
                there.remove(0);
            }
            there.push(response.clone());
            added = true;
        }
        self.response_count += usize::from(added);
        added
    }

    /// The lists of an issuer, the newest first.
    pub(crate) fn crls(&self, issuer: &[u8]) -> &[Arc<Crl>] {
        self.crls.get(issuer).map(Vec::as_slice).unwrap_or_default()
    }

    /// What is said of certificates with this serial number, the newest first, and of the same age the worst first.
    pub(crate) fn answers(&self, serial: &[u8]) -> Vec<(&Arc<OcspResponse>, &Single)> {
        let responses = self.responses.get(serial).map(Vec::as_slice).unwrap_or_default();
        let mut answers: Vec<_> = responses
            .iter()
            .flat_map(|response| response.single.iter().map(move |single| (response, single)))
            .filter(|(_, single)| single.serial == serial)
            .collect();
        let badness = |status: &Status| match status {
            Status::Revoked { .. } => 2,
            Status::Unknown => 1,
            Status::Good => 0,
        };
        answers.sort_by_key(|(_, single)| Reverse((single.this_update, badness(&single.status))));
        answers
    }
}
