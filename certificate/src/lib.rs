//! What an S/MIME certificate says, and whether it is to be believed.
//!
//! A certificate comes in as DER or PEM and becomes a [`Certificate`], which is immutable and holds the DER beside the
//! facts that were read from it once. Reading verifies nothing: a [`Certificate`] is only what somebody handed over.
//! [`validate`] is the other half: it asks who signed it, all the way up to a trust anchor.
//!
//! The way in: `pem` finds the certificates in what was handed over, `certificate` walks through each one with the
//! strict reader of `der`, and gives its parts to the room's readers:
//!
//! * [`certificate`]: the type, its accessors and the walk through `TBSCertificate`;
//! * [`names`]: mail addresses and domains, from the subject alternative name and the subject;
//! * [`distinguished_name`]: a DN as RFC 4514 text, and its attributes;
//! * [`purpose`]: what the key may be used for (key usage, extended key usage, basic constraints);
//! * [`key`]: the public key's algorithm and size;
//! * [`oid`]: object identifiers as octets, as dotted text, and the names of known algorithms;
//! * [`time`]: `UTCTime` and `GeneralizedTime` to [`UnixTime`];
//! * [`der`]: the TLV reader under all of them: borrowed slices, no recursion, no allocation;
//! * [`pem`]: PEM in and out;
//! * [`error`]: what can be wrong, in words for a person;
//! * [`parts`]: the parts that are looked at less often, found in the DER when they are asked for;
//! * [`capabilities`]: the owner's algorithms (RFC 4262).
//!
//! Validation is pure as well: no network, no clock. What is missing comes back as a [`Want`], and whoever called fetches
//! it and validates again. In the order in which a validation uses them:
//!
//! * [`validation`]: [`validate`], and what is asked of the certificate itself;
//! * [`requirements`]: what is asked;
//! * [`mailbox`]: whether it names the address or domain;
//! * [`anchors`]: [`Anchors`] and the [`Pool`] of intermediate certificates;
//! * [`search`]: the search for a path, with bounded work;
//! * [`signature`]: verifying signatures, and the [`Memory`] of those that were good;
//! * [`rules`]: RFC 5280 section 6.1 by certval;
//! * [`mail_constraints`]: name constraints on mail addresses in every form;
//! * [`revocation`]: RFC 5280 section 6.3 and OCSP, from [`evidence`] at hand: [`crl`] and [`ocsp`];
//! * [`pointers`]: where issuers, lists and responders are to be found;
//! * [`refusal`]: why not, and what could be fetched to change it.
//!
//! Two rules. An algorithm, an extension or a name form that is not known is carried, never refused: the directory must
//! not stand in the way of the next algorithm. A *malformed* subject alternative name, key usage, extended key usage or
//! basic constraints is an error, never the same as an absent one.

#![allow(
    rustdoc::private_intra_doc_links,
    reason = "the map above names the private modules, for whoever works on this room"
)]

mod anchors;
mod capabilities;
mod certificate;
mod crl;
mod der;
mod distinguished_name;
mod error;
mod evidence;
mod key;
mod mail_constraints;
mod mailbox;
mod names;
mod ocsp;
mod oid;
mod parts;
mod pem;
mod pointers;
mod purpose;
mod refusal;
mod requirements;
mod revocation;
mod rules;
mod search;
mod signature;
mod time;
mod validation;

pub use anchors::{Anchors, MAX_ANCHORS, MAX_POOL, MAX_POOL_OCTETS, Pool, Unfit};
pub use capabilities::Capability;
pub use certificate::{Certificate, MAX_CERTIFICATE};
pub use crl::{Crl, MAX_CRL, Reason};
pub use error::Error;
pub use evidence::{Evidence, MAX_CRLS_OF_ISSUER, MAX_EVIDENCE};
pub use key::KeyInfo;
pub use mailbox::LocalPart;
pub use names::{MAX_NAMES, MailName, MailNameSource};
pub use ocsp::{MAX_OCSP, OcspResponse};
pub use pem::{MAX_INPUT, PemBlock, PemBlocks, pem_blocks, pem_encode};
pub use refusal::{CODES, MAX_URI, MAX_WANTS, Refusal, Want};
pub use requirements::{Association, Named, Policies, Purpose, Requirements, RevocationMode};
pub use revocation::{MAX_ISSUERS, Standing, issuer_wants, revocation_of, revocation_within};
pub use search::{MAX_COMPARISONS, MAX_PATH, MAX_PATHS, MAX_SIGNATURES, MAX_SIGNED_OCTETS, MAX_STEPS};
pub use signature::Memory;
pub use time::{Calendar, UnixTime};
pub use validation::{Path, RevocationStatus, TrustAnchor, fits, validate};
