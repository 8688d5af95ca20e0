//! The store and its followers, driven as certdir drives them, on throw-away data folders and with a clock of the tests.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod hosting;
mod publishing;
mod upkeep;
mod world;
