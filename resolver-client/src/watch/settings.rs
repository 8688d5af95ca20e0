//! How changes are to be noticed.

use std::net::SocketAddr;

use certdir_zones::DomainName;

use crate::error::Error;
use crate::feed::{self, Feed};
use crate::push::{self, Dialer, Target};
use crate::reach::Reach;
use crate::tls::Tls;
use crate::watch::board::Types;

/// Addresses that may be watched at once, unless said otherwise.
pub const DEFAULT_WATCHED: usize = 100_000;

/// Addresses that are asked for again at the same time, unless said otherwise.
pub const DEFAULT_AT_ONCE: usize = 64;

/// How changes are to be noticed, and how many.
#[derive(Clone, Debug)]
#[must_use]
pub struct Watching {
    pub(crate) discover: bool,
    pub(crate) servers: Vec<PushServer>,
    pub(crate) feeds: Vec<Feed>,
    pub(crate) dialer: Dialer,
    pub(crate) feed_pace: feed::Pace,
    pub(crate) most: usize,
    pub(crate) cached: bool,
    pub(crate) at_once: usize,
    /// Which records are looked for in DNS; the builder says so.
    pub(crate) types: Types,
}

impl Watching {
    /// By DNS Push where a zone announces it (`_dns-push-tls._tcp`), else at the end of a verdict's life. Announced servers
    /// must have a certificate of a public authority for their name, and a public address.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new() -> Result<Watching, Error> {
        Ok(Watching {
            discover: true,
            servers: Vec::new(),
            feeds: Vec::new(),
            dialer: Dialer { tls: Tls::public()?, reach: Reach::public(), pace: push::Pace::default() },
            feed_pace: feed::Pace::default(),
            most: DEFAULT_WATCHED,
            cached: false,
            at_once: DEFAULT_AT_ONCE,
            types: Types { smimea: true, cert: false },
        })
    }

    /// No push server is looked for in DNS; those that are given by hand are used all the same.
    pub fn without_discovery(mut self) -> Watching {
        self.discover = false;
        self
    }

    /// A push server given by hand.
    pub fn push_server(mut self, server: PushServer) -> Watching {
        self.servers.push(server);
        self
    }

    /// The change feed of a directory; several are followed each for itself.
    pub fn feed(mut self, feed: Feed) -> Watching {
        self.feeds.push(feed);
        self
    }

    /// Whom push servers that DNS announces must prove to be.
    pub fn tls(mut self, tls: Tls) -> Watching {
        self.dialer.tls = tls;
        self
    }

    /// Where push servers that DNS announces may be.
    pub fn reach(mut self, reach: Reach) -> Watching {
        self.dialer.reach = reach;
        self
    }

    /// Watches every address for as long as its verdict is in the cache, so that [`Resolver::resolve`](crate::Resolver::resolve)
    /// says at once what changed, also where nobody has a stream.
    pub fn cached(mut self) -> Watching {
        self.cached = true;
        self
    }

    /// How many addresses may be watched at once.
    pub fn most(mut self, addresses: usize) -> Watching {
        self.most = addresses;
        self
    }

    /// How many addresses are asked for again at the same time: what a change that concerns a whole domain may cost.
    pub fn at_once(mut self, addresses: usize) -> Watching {
        self.at_once = addresses.max(1);
        self
    }
}

/// A push server that the operator gives.
#[derive(Clone, Debug)]
pub struct PushServer {
    pub(crate) target: Target,
    pub(crate) domain: Option<DomainName>,
    pub(crate) tls: Tls,
}

impl PushServer {
    /// The server at an address, which must prove to be `name` as `tls` says. It is asked for every domain.
    pub fn new(address: SocketAddr, name: impl Into<String>, tls: Tls) -> PushServer {
        let target = Target { host: address.ip().to_string(), port: address.port(), tls_name: name.into() };
        PushServer { target, domain: None, tls }
    }

    /// Only for this domain.
    #[must_use]
    pub fn domain(mut self, domain: DomainName) -> PushServer {
        self.domain = Some(domain);
        self
    }
}
