//! The resolver against real name servers and lying networks, all on loopback.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, also in the functions that tests share"
)]

mod attacks;
mod burdens;
mod certificates;
mod differential;
mod directories;
mod folders;
mod judgement;
mod lab;
mod lies;
mod proxy;
mod revocation;
mod servers;
mod stores;
mod trust;
mod truth;
mod unbound;
mod verdicts;
