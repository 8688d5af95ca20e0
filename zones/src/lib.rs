//! From an address to DNS records: owner names, RDATA, signing, denial, zone text.
//!
//! Everything here is a pure function or an immutable value: no I/O, no clock, no lock, no async. One record takes
//! this way: an [`Address`] is read ([`address`]) and becomes an owner [`Name`] ([`owner`], [`name`]); a certificate
//! becomes RDATA ([`rdata`]) of a [`RecordType`] ([`rtype`]); both become an [`Rrset`], which a [`ZoneKey`] signs
//! ([`rrset`], [`key`]); the [`SignedRrset`]s of one apex live in a [`Zone`], a persistent hash table ([`names`],
//! [`table`]) that says what it has and has not for a name ([`zone`]). What it has not is proven by NSEC3 records made for
//! the question ([`denial`]) or, in a zone that shows them all, stored ones ([`chain`]), and the whole zone can be written as
//! a signed master file ([`text`]). What a customer gives for a hosted mail domain is a piece of such a file ([`fragment`]).
//! What both ends of a DNS Push connection say to each other is in [`dso`].
//! [`error`] holds the one error type; [`few`] is a list for one element.

#![allow(
    rustdoc::private_intra_doc_links,
    reason = "the map above names the private modules, for whoever works on this room"
)]

pub mod address;
pub mod chain;
pub mod denial;
pub mod dso;
pub mod error;
mod few;
pub mod fragment;
pub mod key;
pub mod name;
mod names;
pub mod owner;
pub mod rdata;
pub mod rrset;
pub mod rtype;
pub mod table;
pub mod text;
pub mod zone;

pub use address::{Address, DomainName};
pub use chain::{Chain, Link};
pub use error::Error;
pub use fragment::{Fault, Fragment, Given, Standing};
pub use key::{ZoneKey, verify};
pub use name::Name;
pub use owner::{cert_owner, cert_owners, smimea_owner, smimea_wildcard, smimecert_name};
pub use rdata::{CertForm, Rdata, Soa, Usage};
pub use rrset::{Rrset, SignedRrset};
pub use rtype::RecordType;
pub use table::Table;
pub use text::{Validity, presentation, write_dnskey, write_ds, write_trust_anchors, write_zone};
pub use zone::{Found, Node, Zone};
