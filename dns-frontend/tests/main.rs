//! The DNS front end: answers by RFC section, what a source gets, proofs, random packets, sockets, real clients, and a
//! year of refreshes.

#[cfg(test)]
mod answers;
#[cfg(test)]
mod attacks;
#[cfg(test)]
mod clients;
#[cfg(test)]
mod directory;
#[cfg(test)]
mod message;
#[cfg(test)]
mod policy;
#[cfg(test)]
mod proofs;
#[cfg(test)]
mod random;
#[cfg(test)]
mod resolvers;
#[cfg(test)]
mod sockets;
#[cfg(test)]
mod transports;
#[cfg(test)]
mod world;
#[cfg(test)]
mod year;
