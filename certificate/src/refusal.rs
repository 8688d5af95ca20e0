//! Why a certificate is not accepted, and what could be fetched to change that.

use std::fmt;

use serde::Serialize;

/// Most octets of a URI that is handed on.
pub const MAX_URI: usize = 2048;
/// Most things that one refusal asks for.
pub const MAX_WANTS: usize = 32;

/// Something that was not at hand. Whoever called fetches it, adds it to the [`Pool`](crate::Pool) or the
/// [`Evidence`](crate::Evidence), and validates again. The URIs are those of certificates that are not trusted (yet): a
/// caller decides itself where it is ready to connect to. None is longer than [`MAX_URI`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Want {
    /// The certificate of an issuer (caIssuers, RFC 5280 section 4.2.2.1): what is there goes to
    /// [`Pool::read`](crate::Pool::read).
    Issuer {
        /// Where it is.
        uri: String,
    },
    /// A revocation list (RFC 5280 section 4.2.1.13).
    Crl {
        /// Where it is, the same list in each place.
        uris: Vec<String>,
    },
    /// An OCSP response (RFC 6960).
    Ocsp {
        /// Whom to ask.
        uri: String,
        /// The DER of the `OCSPRequest`, the same for everybody who asks about this certificate (RFC 5019).
        request: Vec<u8>,
    },
}

/// The certificate itself is revoked.
pub(crate) const REVOKED: &str = "revoked";
/// See [`Refusal::is_exhausted`].
pub(crate) const TOO_MUCH_WORK: &str = "too-much-work";

/// Every code of a [`Refusal`], with its meaning. Codes are stable.
pub const CODES: &[(&str, &str)] = &[
    ("anchor-key", "the certificate carries the key of a trust anchor: nobody's mail is encrypted to a root"),
    ("association", "no path leads through the authority that the record asks for (usage 0)"),
    ("bad-signature", "a signature on the way is wrong"),
    ("critical-extension", "a certificate has a critical extension that is not known here"),
    ("expired", "a certificate on the way is no longer valid"),
    ("issuer-revoked", "an authority on the way is revoked, and there is no other way"),
    ("key-usage", "an issuer's key usage does not allow to sign certificates"),
    ("malformed", "a certificate is encoded in a way that cannot be validated"),
    ("missing-extended-key-usage", "the certificate has no extended key usage, and the policy wants one"),
    ("missing-key-usage", "the certificate has no key usage, and the policy wants one"),
    ("name-chaining", "the issuer's name is not the name of the authority above"),
    ("name-constraints", "a name is outside of what an authority may certify"),
    ("no-clock", "the time of the validation is before 1970 or after 9999"),
    ("no-path", "no chain of certificates leads to a trust anchor"),
    ("not-a-ca", "an issuer on the way is no certification authority"),
    ("not-yet-valid", "a certificate on the way is not valid yet"),
    ("path-length", "more authorities stand in a row than one of them allows, or than are looked at"),
    ("policy", "the certificate policies do not fit"),
    ("revocation-unknown", "whether a certificate on the way is revoked could not be learned"),
    (REVOKED, "the certificate itself is revoked; never with something to fetch"),
    ("signing-only", "the key is not for encryption"),
    (TOO_MUCH_WORK, "to find out took more work than is allowed: what was not looked at could be good"),
    ("unsupported-algorithm", "a signature is made with an algorithm that is not verified here"),
    ("weak-key", "a key on the way is shorter than the policy allows"),
    ("wrong-address", "the certificate does not name the address or domain"),
    ("wrong-purpose", "a certificate on the way is not for mail"),
];

/// Why a certificate is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// A stable name for programs, in kebab case: one of [`CODES`].
    pub code: &'static str,
    /// What is wrong and with which certificate, for a person.
    pub sentence: String,
    pub(crate) wants: Vec<Want>,
}

impl Refusal {
    pub(crate) fn new(code: &'static str, sentence: impl Into<String>) -> Refusal {
        Refusal { code, sentence: sentence.into(), wants: Vec::new() }
    }

    /// What could be fetched so that another validation may end differently, at most [`MAX_WANTS`]; empty if nothing can.
    pub fn wants(&self) -> &[Want] {
        &self.wants
    }

    /// Whether not everything was looked at, because that was too much work (`too-much-work`): the certificate may be good.
    /// Whatever else is wrong, this is what is said then, except that the certificate itself is revoked.
    pub fn is_exhausted(&self) -> bool {
        self.code == TOO_MUCH_WORK
    }

    /// Whether no certificate, CRL or OCSP response from elsewhere can change it (time may).
    pub fn is_final(&self) -> bool {
        self.wants.is_empty()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.sentence)
    }
}

impl std::error::Error for Refusal {}

/// Adds what is not there yet, as long as there is room.
pub(crate) fn add_wants(to: &mut Vec<Want>, more: impl IntoIterator<Item = Want>) {
    for want in more {
        if to.len() < MAX_WANTS && !to.contains(&want) {
            to.push(want);
        }
    }
}
