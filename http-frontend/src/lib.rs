//! Answers HTTP: look-ups by people and programs, changes by those who hold a token, health and metrics.
//!
//! A connection is accepted and limited in [`frontend`]; its requests go through [`routes`], which surrounds every route
//! with a time limit, a count and security header fields. A look-up asks [`site`] whether its source may go on, pins one
//! `Published`, and everything it says comes from that: [`look_up`] for programs (in the form that [`negotiate`]
//! chooses, JSON written by [`json`]), [`search`] for RFC 4387, [`page`] for people. Who subscribes to [`changes`] says what is
//! [`wanted`], hears it from the one [`feed`], and may make the [`life`] of its connection longer. A change is authenticated in [`site`] (failures are counted
//! in [`attempts`]), its [`body`] is read, and [`admin`] hands it to the store. [`query`] reads what a request says in
//! its target, [`metrics`] tells how the front end does, and [`problem`] is every refusal.
//!
//! The API with examples is in `docs/http.md`.

mod admin;
mod attempts;
mod body;
mod changes;
mod feed;
mod frontend;
mod json;
mod life;
mod look_up;
mod metrics;
mod negotiate;
mod page;
mod problem;
mod query;
mod routes;
mod search;
mod site;
mod wanted;

pub use frontend::{Error, Frontend, Options};
pub use search::Search;
pub use site::ExtraMetrics;
pub use wanted::Names;

#[cfg(test)]
mod tests;
