//! The certificate store, its numbered log, and the published set that every view reads.
//!
//! *Writing.* A [`Store`] ([`store`]) takes certificates in one transaction for each acknowledged batch: [`intake`] says
//! what a certificate may be published for, [`batch`] works on the [`rows`] in memory, [`lifecycle`] decides which
//! certificate is current, [`records`] makes and signs what DNS shows, [`given`] is what a zone holds beside
//! that and [`chain`] what proves the rest absent, [`hosting`] adds and changes domains, [`collisions`] says where hosts and mailboxes meet, [`upkeep`] renews, [`log`] numbers what happened, [`sqlite`] writes
//! it all, and [`report`] tells the publisher; [`shown`] is what
//! people look up, [`changes`] what followers from outside are told, [`search`] finds certificates by their hashes. [`authority`] says who may; [`domain`] how a domain is published; [`keys`]
//! keeps the zone keys.
//!
//! *Reading.* A [`Follower`] ([`follow`]) pulls what changed and swaps in the next [`Published`] ([`published`]), which says whose records changed ([`recent`]); views
//! hold a [`Reader`] and, for their look-ups by strangers, an [`Allowance`] ([`allowance`]) and places for
//! connections ([`connections`]). [`error`] is what can go
//! wrong.
//!
//! *In the data folder:* `certdir.db` (with `-wal` and `-shm` beside it) is the store; `keys/<zone>.pem` are the zone
//! keys. Both are needed to restore a directory.

pub mod allowance;
pub mod authority;
mod batch;
mod chain;
pub mod changes;
mod collisions;
pub mod connections;
pub mod domain;
pub mod error;
pub mod follow;
mod given;
mod hosting;
pub mod intake;
mod keys;
mod lifecycle;
pub mod log;
pub mod published;
mod recent;
mod records;
pub mod report;
mod rows;
pub mod search;
pub mod shown;
mod sqlite;
pub mod store;
mod upkeep;

pub use allowance::Allowance;
pub use authority::{Authority, Role, TokenRow};
pub use certdir_certificate::UnixTime;
pub use certdir_zones::{Address, DomainName, Fragment, Name, Usage, Zone};
pub use changes::{Change, Cursor};
pub use connections::{Connections, Place, network};
pub use domain::{CertData, Denial, Hosting, Settings};
pub use error::Error;
pub use follow::{Clock, Follower, PublishedCache, Reader};
pub use intake::{PublishOptions, Submission};
pub use log::{Action, Detail, Publication};
pub use published::{Attribute, Domain, Entry, Published, Version, Visible};
pub use records::{INCEPTION_SKEW, SIGNATURE_LIFETIME};
pub use report::{Item, Outcome, Report};
pub use rows::State;
pub use search::Hashed;
pub use shown::{DomainStatus, HistoryRow, ListFilter, Shown, ShownRecord};
pub use store::{Store, WithdrawTarget};
