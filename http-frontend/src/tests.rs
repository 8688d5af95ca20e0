//! The routes on a real store, without sockets (except in [`server`]). Golden files: `UPDATE_GOLDEN=1` rewrites them.

mod changes;
mod feed;
mod house;
mod look_ups;
mod pages;
mod search;
mod server;
