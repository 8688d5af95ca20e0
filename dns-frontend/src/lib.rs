//! Answers DNS from the published set.
//!
//! A message takes one way, whatever brings it: a worker reads it ([`udp`]; [`stream`] for TCP and TLS, with its places
//! in [`seats`], its responses on a [`page`]; [`quic`], [`doh`]), pins the newest zones ([`view`]), has the memory of a whole batch fetched
//! ([`warm`](mod@warm)) and calls [`answer()`]: the request is parsed ([`request`]), the name looked up ([`reply`]), records
//! written ([`response`]), and what is missing proven by NSEC3 records signed on the spot ([`proofs`]). [`answer()`] is
//! synchronous, takes no lock and reads no clock; a hit allocates nothing. What a source may get is said by the
//! [`policy`]: server cookies ([`cookie`]) tell real sources from forged ones, whose responses are limited ([`rate`]).
//! On TCP and TLS a client can open a stateful session ([`session`]), in which it is told when records change ([`push`]).
//! [`frontend`] binds the sockets, starts the workers and stops them; [`counters`] counts, [`query_log`] logs a sample.
//!
//! Transfers join here: they bring octets to the same [`answer()`].

#![allow(rustdoc::private_intra_doc_links, reason = "the map is for those who work on the crate")]

mod answer;
mod cookie;
mod counters;
mod doh;
mod frontend;
mod page;
mod policy;
mod proofs;
mod push;
mod query_log;
mod quic;
mod rate;
mod reply;
mod request;
mod response;
mod seats;
mod session;
mod stream;
mod udp;
mod view;
mod warm;

pub use answer::{Asker, Scratch, Transport, answer};
pub use cookie::{CookieSecret, CookieState};
pub use counters::{Counters, Snapshot, Sums};
pub use doh::Source;
pub use frontend::{Error, Frontend, Options};
pub use policy::{Policy, UdpCertificates};
pub use query_log::{QueryLog, Sample};
pub use request::Rcode;
pub use response::{Finished, Truncation};
pub use view::{Latest, View, Zones};
