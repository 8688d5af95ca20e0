//! Answers HTTP: look-ups by people and programs, changes by those who hold a token, health and metrics.
//!
//! A connection is accepted and limited in [`frontend`]; its requests go through [`routes`], which surrounds every route
//! with a time limit, a count and security header fields. A look-up asks [`site`] whether its source may go on, pins one
//! `Published`, and everything it says comes from that: [`look_up`] for programs (in the form that [`negotiate`]
//! chooses, JSON written by [`json`]), [`page`] for people. A change is authenticated in [`site`] (failures are counted
//! in [`attempts`]), its [`body`] is read, and [`admin`] hands it to the store. [`query`] reads what a request says in
//! its target, [`metrics`] tells how the front end does, and [`problem`] is every refusal.
//!
//! The API with examples is in `docs/http.md`.

mod admin;
mod attempts;
mod body;
mod frontend;
mod json;
mod look_up;
mod metrics;
mod negotiate;
mod page;
mod problem;
mod query;
mod routes;
mod site;

pub use frontend::{Error, Frontend, Options};
pub use site::ExtraMetrics;

#[cfg(test)]
mod tests;
