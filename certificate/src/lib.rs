//! What an S/MIME certificate says: facts, and no trust.
//!
//! A certificate comes in as DER or PEM and becomes a [`Certificate`], which is immutable and holds the DER beside the
//! facts that were read from it once. Nothing is verified here: who signed a certificate is not asked.
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
//! * [`error`]: what can be wrong, in words for a person.
//!
//! Two rules. An algorithm, an extension or a name form that is not known is carried, never refused: the directory must
//! not stand in the way of the next algorithm. A *malformed* subject alternative name, key usage, extended key usage or
//! basic constraints is an error, never the same as an absent one.

#![allow(
    rustdoc::private_intra_doc_links,
    reason = "the map above names the private modules, for whoever works on this room"
)]

mod certificate;
mod der;
mod distinguished_name;
mod error;
mod key;
mod names;
mod oid;
mod pem;
mod purpose;
mod time;

pub use certificate::{Certificate, MAX_CERTIFICATE};
pub use error::Error;
pub use key::KeyInfo;
pub use names::{MAX_NAMES, MailName, MailNameSource};
pub use pem::{MAX_INPUT, PemBlock, PemBlocks, pem_blocks, pem_encode};
pub use time::{Calendar, UnixTime};
