//! The resolver against real name servers and lying networks, all on loopback.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, also in the functions that tests share"
)]

mod certificates;
mod directories;
mod folders;
mod judgement;
mod lies;
mod proxy;
mod servers;
mod stores;
mod trust;
mod truth;
mod unbound;
