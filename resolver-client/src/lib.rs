//! From an address to a verdict that a mail gateway can act on.
//!
//! [`Resolver::resolve`] ([`resolver`], made by a [`builder`]) takes an address and gives a [`Verdict`] ([`verdict`]): *use*
//! this certificate, there is *none*, or it is *unknown* because something failed. In between, what was learned before is
//! taken from a cache ([`cache`]); what was not is asked of each [`source`], which gives an [`Outcome`] ([`outcome`]); what
//! was found is appraised ([`appraise`], [`chain`]); and a pure function ([`judge`]) turns it all into the verdict, as the gateway's
//! [`Policy`] ([`policy`]) says. Settings name sources as [`Spec`]s ([`spec`]). Every verdict carries its [`Trace`] ([`trace`]). [`error`] is for building only,
//! [`blocking`] for programs without an async runtime; [`counters`] tell what was done.
//!
//! The sources of DNS, [`smimea`] and [`cert`], ask through [`dns`], which validates or believes a resolver that does.
//! The other sources are LDAP directories ([`ldap`]), HTTP stores ([`store`]) and a [`folder`]; [`srv`] is how domains
//! announce servers, and [`fetch`] gets what certificates point at. HTTP is spoken by [`http`] over [`tls`], within the
//! bounds of [`reach`] where strangers name the server; [`ber`], [`bundle`] and [`multipart`] read what comes.
//!
//! [`Resolver::watch`] says when a verdict changes ([`watch`](mod@watch)): DNS Push ([`push`]), the change feed of a directory
//! ([`feed`]) or the end of a verdict's life tell when to ask again.
//!
//! No path leads from an error to "no certificate". The tables of outcomes, verdicts and codes are in
//! `docs/resolver.md`.
//!
//! ```no_run
//! use std::sync::Arc;
//! use std::time::{SystemTime, UNIX_EPOCH};
//!
//! use certdir_resolver::{Address, Resolver, Verdict};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let clock = || {
//!     let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
//!     i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
//! };
//! let resolver = Resolver::builder(Arc::new(clock))
//!     .server("127.0.0.1:53".parse()?)
//!     .build()?;
//!
//! let verdict = resolver.resolve(&Address::parse("alice@example.org")?).await;
//! match &verdict {
//!     Verdict::Use { certificates, .. } => println!("encrypt to {}", certificates[0].subject()),
//!     Verdict::None { .. } => println!("send as the policy says for people without a certificate"),
//!     Verdict::Unknown { failure, .. } => println!("hold until {}: {failure}", verdict.look_again()),
//! }
//! println!("{}", verdict.trace());
//! # Ok(())
//! # }
//! ```

#![allow(rustdoc::private_intra_doc_links, reason = "the map names every module, also to those who read the source")]

pub mod appraise;
mod ber;
pub mod blocking;
pub mod builder;
pub mod bundle;
mod cache;
mod cert;
mod chain;
pub mod counters;
mod dns;
pub mod error;
pub mod feed;
pub mod fetch;
pub mod folder;
mod http;
pub mod judge;
pub mod ldap;
pub mod multipart;
pub mod outcome;
pub mod policy;
mod push;
pub mod reach;
pub mod resolver;
mod smimea;
pub mod source;
pub mod spec;
pub mod srv;
pub mod store;
pub mod tls;
pub mod trace;
pub mod verdict;
pub mod watch;

pub use certdir_certificate::{Certificate, UnixTime};
pub use certdir_zones::Address;

pub use appraise::Trust;
pub use builder::Builder;
pub use counters::Counts;
pub use dns::{MAX_NEGATIVE_LIFE, MAX_POSITIVE_LIFE, NameServer};
pub use error::Error;
pub use feed::Feed;
pub use outcome::{Failure, Match, Outcome};
pub use policy::Policy;
pub use resolver::{Clock, FAILURE_LIFE, Resolver};
pub use source::{Answer, Level, Source, Subject};
pub use spec::Spec;
pub use trace::Trace;
pub use verdict::Verdict;
pub use watch::settings::{PushServer, Watching};
pub use watch::{Rollover, Rollovers, WatchCounters, Way};
