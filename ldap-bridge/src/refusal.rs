//! Why a request is not, or not wholly, answered, and the one place where that becomes an LDAP result code.

use certdir_directory::Error as DirectoryError;

/// Result codes of RFC 4511 section 4.1.9 that this server gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum ResultCode {
    Success = 0,
    ProtocolError = 2,
    SizeLimitExceeded = 4,
    CompareFalse = 5,
    CompareTrue = 6,
    AuthMethodNotSupported = 7,
    AdminLimitExceeded = 11,
    UnavailableCriticalExtension = 12,
    NoSuchAttribute = 16,
    UndefinedAttributeType = 17,
    NoSuchObject = 32,
    InvalidDnSyntax = 34,
    InvalidCredentials = 49,
    Busy = 51,
    Unavailable = 52,
    UnwillingToPerform = 53,
}

impl ResultCode {
    /// Every code, with its name for metrics.
    pub(crate) const ALL: [(ResultCode, &'static str); 16] = [
        (ResultCode::Success, "success"),
        (ResultCode::ProtocolError, "protocolError"),
        (ResultCode::SizeLimitExceeded, "sizeLimitExceeded"),
        (ResultCode::CompareFalse, "compareFalse"),
        (ResultCode::CompareTrue, "compareTrue"),
        (ResultCode::AuthMethodNotSupported, "authMethodNotSupported"),
        (ResultCode::AdminLimitExceeded, "adminLimitExceeded"),
        (ResultCode::UnavailableCriticalExtension, "unavailableCriticalExtension"),
        (ResultCode::NoSuchAttribute, "noSuchAttribute"),
        (ResultCode::UndefinedAttributeType, "undefinedAttributeType"),
        (ResultCode::NoSuchObject, "noSuchObject"),
        (ResultCode::InvalidDnSyntax, "invalidDNSyntax"),
        (ResultCode::InvalidCredentials, "invalidCredentials"),
        (ResultCode::Busy, "busy"),
        (ResultCode::Unavailable, "unavailable"),
        (ResultCode::UnwillingToPerform, "unwillingToPerform"),
    ];
}

/// Why a request is not answered, or the answer is not all of it. The text is the diagnosticMessage a person sees.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{0}")]
    Unreadable(#[from] crate::error::Error),
    #[error("{0}")]
    BadRequest(&'static str),
    #[error("only LDAP version 3 is spoken here")]
    Version,
    #[error("this extended operation is not known here")]
    UnknownExtended,
    #[error("the control {0} is not supported here, and the request insists on it")]
    CriticalControl(String),
    #[error("SASL and other mechanisms are not supported; everything here is public, search without a bind")]
    BindMethod,
    #[error(
        "a bind DN without a password (RFC 4513 section 5.1.2); leave the bind DN empty, everything here is public"
    )]
    UnauthenticatedBind,
    #[error("there are no accounts; leave bind DN and password empty, everything here is public")]
    Credentials,
    #[error("this directory is not changed over LDAP")]
    ReadOnly,
    #[error("this is not a distinguished name (RFC 4514)")]
    InvalidDn,
    #[error("there is no such entry")]
    NoSuchObject { matched: String },
    #[error("the attribute is not known here")]
    UnknownAttribute,
    #[error("the entry has no such attribute, or it cannot be compared")]
    NoSuchAttribute,
    #[error("a filter of more than {elements} elements or {depth} levels")]
    FilterTooLarge { elements: usize, depth: usize },
    #[error("there is more than the size limit lets through")]
    SizeLimit,
    #[error(
        "only {limit} entries for a search that names no mail, uid or cn; search for one, such as (mail=alice@example.org)"
    )]
    StrangerLimit { limit: usize },
    #[error(
        "the search would look at too many entries; search for a mail, uid or cn, such as (mail=alice@example.org)"
    )]
    TooMuchWork,
    #[error("too many look-ups from your network; wait a moment and ask more slowly")]
    TooManyLookups,
    #[error("too many connections; close some, or try again later")]
    TooManyConnections,
    #[error("{0}")]
    Unavailable(#[from] DirectoryError),
    #[error("the directory is shutting down; connect again in a moment")]
    ShuttingDown,
}

impl Refusal {
    /// The result code: every one but success and the outcomes of a comparison is chosen here.
    pub(crate) fn code(&self) -> ResultCode {
        match self {
            Refusal::Unreadable(_) | Refusal::BadRequest(_) | Refusal::Version | Refusal::UnknownExtended => {
                ResultCode::ProtocolError
            }
            Refusal::CriticalControl(_) => ResultCode::UnavailableCriticalExtension,
            Refusal::BindMethod => ResultCode::AuthMethodNotSupported,
            Refusal::Credentials => ResultCode::InvalidCredentials,
            Refusal::UnauthenticatedBind | Refusal::ReadOnly => ResultCode::UnwillingToPerform,
            Refusal::InvalidDn => ResultCode::InvalidDnSyntax,
            Refusal::NoSuchObject { .. } => ResultCode::NoSuchObject,
            Refusal::UnknownAttribute => ResultCode::UndefinedAttributeType,
            Refusal::NoSuchAttribute => ResultCode::NoSuchAttribute,
            Refusal::FilterTooLarge { .. } | Refusal::TooMuchWork => ResultCode::AdminLimitExceeded,
            Refusal::SizeLimit | Refusal::StrangerLimit { .. } => ResultCode::SizeLimitExceeded,
            Refusal::TooManyLookups | Refusal::TooManyConnections => ResultCode::Busy,
            // Never an empty success: "not now" and "there is none" are different answers.
            Refusal::Unavailable(_) | Refusal::ShuttingDown => ResultCode::Unavailable,
        }
    }

    /// The name of the nearest entry above one that is not there (RFC 4511 section 4.1.9).
    pub(crate) fn matched(&self) -> &str {
        match self {
            Refusal::NoSuchObject { matched } => matched,
            _ => "",
        }
    }
}
