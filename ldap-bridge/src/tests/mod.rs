//! The whole front end on a real store: sessions over in-memory streams, and real clients over loopback.

mod clients;
mod fixture;
mod protocol;
mod searches;
