//! The whole program on loopback, driven by the clients people really have.
//!
//! One binary, a module per topic: [`house`] (the rules of the workspace), [`corpora`] (every fuzz corpus, replayed),
//! and the running program: [`dns`], [`ldap`], [`http`], [`story`] (publish, encrypt, reissue, withdraw), [`together`]
//! (many writers and readers, a second process), [`crash`] (`kill -9`), [`clock`] (signature lifetimes), [`rollover`] (what a gateway notices), [`refusals`]
//! (bad input), [`conformance`] (RFC by RFC), [`transports`] (TLS, HTTPS, QUIC), [`push`] (DNS Push Notifications), [`validators`] (dnsviz, nsec3dig, dnspython), [`feed`] (the change feed and the certificate store), [`tokens`], [`commands`] (JSON, signals,
//! restart) and [`demo`]. [`world`] is what they stand on: a test
//! CA by the `openssl` command, the built program in a folder of its own, and clients with captured output.
//!
//! A missing client fails its test: `./check.sh clients` installs them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::cloned_ref_to_slice_refs,
    reason = "tests: a panic is how they fail, they wait on real processes with real deadlines, and a list is compared with a list"
)]

mod clock;
mod commands;
mod conformance;
mod corpora;
mod crash;
mod demo;
mod dns;
mod feed;
mod house;
mod http;
mod ldap;
mod mail;
mod push;
mod refusals;
mod rollover;
mod sources;
mod story;
mod together;
mod tokens;
mod transports;
mod validators;
mod world;
