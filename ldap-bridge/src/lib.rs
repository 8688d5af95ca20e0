//! Answers LDAP from the published set: an LDAPv3 server (RFC 4511) that anybody may search without a bind.
//!
//! A connection comes in by [`frontend`], which counts and limits; [`session`] reads its requests, answers them in
//! order and writes. [`message`] takes requests apart and puts answers together, on top of [`ber`]. A search is a
//! [`filter`] over the nodes of a [`tree`] below a [`dn`]; [`search`] decides which nodes are looked at and how many are
//! shown; [`schema`] knows the attributes and how their values compare; [`timestamp`] writes times as LDAP does. Why a
//! request is not answered, and with which result code, is said in [`refusal`] alone; [`error`] is for what is wrong
//! with the server or the octets; [`metrics`] counts.
//!
//! One search sees one published set. What cannot be answered is an error, never an empty success.

mod ber;
mod dn;
mod error;
mod filter;
mod frontend;
mod message;
mod metrics;
mod refusal;
mod schema;
mod search;
mod session;
#[cfg(test)]
mod tests;
mod timestamp;
mod tree;

pub use error::Error;
pub use frontend::{Frontend, Options};
pub use message::{Message, decode};
pub use metrics::Metrics;
