//! The resolver: the cache, the questions and the judge in order.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use certdir_certificate::UnixTime;
use certdir_zones::{Address, smimea_owner, smimecert_name};

use crate::anchor::TrustAnchors;
use crate::cache::{Bounds, Cache};
use crate::dns::Dns;
use crate::error::Error;
use crate::judge::{Judgement, Policy, Ruling, domain_matters, judge};
use crate::outcome::{Finding, Level, Outcome};
use crate::trace::{Asked, Trace};
use crate::verdict::Verdict;
use crate::wire::Wire;

/// The time, in seconds since 1970. The crate reads no other clock.
pub type Clock = Arc<dyn Fn() -> UnixTime + Send + Sync>;

/// How long one look-up of one owner name may take, unless the builder says otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Owner names in the cache, unless the builder says otherwise.
pub const DEFAULT_CACHE_ENTRIES: usize = 100_000;

/// Octets in the cache, unless the builder says otherwise (128 MiB).
pub const DEFAULT_CACHE_OCTETS: usize = 128 << 20;

/// Where a system names its name servers.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Port of DNS, for servers that the system's configuration names.
const DNS_PORT: u16 = 53;

/// From an address to a verdict. `Send + Sync`; share it by reference or in an `Arc`. Needs a tokio runtime.
pub struct Resolver {
    dns: Dns,
    cache: Cache,
    policy: Policy,
    clock: Clock,
}

/// What a [`Resolver`] is made of.
#[derive(Clone)]
#[must_use]
pub struct Builder {
    clock: Clock,
    servers: Vec<SocketAddr>,
    anchor_files: Vec<PathBuf>,
    anchor_text: Vec<String>,
    timeout: Duration,
    bounds: Bounds,
    policy: Policy,
}

impl Resolver {
    /// Begins a resolver. `clock` tells the time: signatures, certificates and the cache are judged by it.
    pub fn builder(clock: Clock) -> Builder {
        Builder {
            clock,
            servers: Vec::new(),
            anchor_files: Vec::new(),
            anchor_text: Vec::new(),
            timeout: DEFAULT_TIMEOUT,
            bounds: Bounds { entries: DEFAULT_CACHE_ENTRIES, octets: DEFAULT_CACHE_OCTETS },
            policy: Policy::default(),
        }
    }

    /// What is known about encrypting to `address`: the recipient's own certificate, else the domain's.
    ///
    /// The address is looked up as it is written: a sender maps nothing (RFC 8162 section 4). It never fails: what goes
    /// wrong is part of the verdict. It takes at most the timeout for each of at most two owner names.
    ///
    /// Cancellation-safe: when the future is dropped nothing is lost, and others who wait for the same name go on.
    pub async fn resolve(&self, address: &Address) -> Verdict {
        let mut asked = vec![self.ask(address, Level::Recipient).await];
        if let Some((recipient, _)) = asked.first()
            && !address.is_domain_authority()
            && domain_matters(recipient, &self.policy, (self.clock)())
            && !cut_above_both(recipient, address)
        {
            let domain = Address::domain_authority(address.domain());
            asked.push(self.ask(&domain, Level::Domain).await);
        }
        self.conclude(address, asked)
    }

    async fn ask(&self, address: &Address, level: Level) -> (Finding, bool) {
        let owner = smimea_owner(address);
        let now = (self.clock)();
        let ask = || self.dns.smimea(&owner, level, now);
        let (finding, cached) = self.cache.get_or(&owner, now, ask).await;
        // The domain's certificate may have been asked for as a recipient's before.
        (Finding { level, ..finding }, cached)
    }

    fn conclude(&self, address: &Address, asked: Vec<(Finding, bool)>) -> Verdict {
        let now = (self.clock)();
        let questions = asked
            .iter()
            .map(|(finding, cached)| Asked {
                level: finding.level,
                cached: *cached,
                until: finding.until,
                outcome: finding.outcome.code(),
                question: Arc::clone(&finding.question),
            })
            .collect();
        let look_again = asked.iter().map(|(f, _)| f.until).min().unwrap_or(now);
        let findings: Vec<Finding> = asked.into_iter().map(|(finding, _)| finding).collect();
        let Judgement { ruling, reason, examined } = judge(&findings, &self.policy, now);
        let trace = |verdict| {
            Box::new(Trace {
                address: address.to_string(),
                asked_at: now,
                verdict,
                reason,
                questions,
                candidates: examined,
                look_again,
            })
        };
        match ruling {
            Ruling::Use { certificates, matched } => Verdict::Use { certificates, matched, trace: trace("use") },
            Ruling::None { proven } => Verdict::None { proven, trace: trace("none") },
            Ruling::Unknown { failure } => Verdict::Unknown { failure, trace: trace("unknown") },
        }
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl Builder {
    /// Adds a name server: a recursive one that hands out DNSSEC records, or an authoritative one for everything under
    /// the trust anchors. Servers are tried in the order given. Without any, those of `/etc/resolv.conf` are asked.
    pub fn server(mut self, address: SocketAddr) -> Self {
        self.servers.push(address);
        self
    }

    /// Trusts the DNSKEY and DS records in a file, in master-file form. With any anchor given, the root zone's
    /// built-in ones are not used.
    pub fn trust_anchor_file(mut self, path: impl AsRef<Path>) -> Self {
        self.anchor_files.push(path.as_ref().to_owned());
        self
    }

    /// Trusts DNSKEY and DS records given as master-file text.
    pub fn trust_anchor(mut self, text: impl Into<String>) -> Self {
        self.anchor_text.push(text.into());
        self
    }

    /// How long the look-up of one owner name may take in all, keys and retries included.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Bounds of the cache: owner names, and octets of what is kept for them. Zero entries: no cache.
    pub fn cache(mut self, entries: usize, octets: usize) -> Self {
        self.bounds = Bounds { entries, octets };
        self
    }

    /// What to accept beyond the recipient's own certificate.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// The resolver. Sends nothing yet.
    ///
    /// # Errors
    /// When an anchor cannot be read, or no name server is known.
    pub fn build(self) -> Result<Resolver, Error> {
        let mut anchors = Vec::new();
        for path in &self.anchor_files {
            anchors.push(TrustAnchors::from_file(path)?);
        }
        for text in &self.anchor_text {
            anchors.push(TrustAnchors::parse(text, "trust anchor")?);
        }
        if anchors.is_empty() {
            anchors.push(TrustAnchors::iana()?);
        }
        let servers = if self.servers.is_empty() { system_servers()? } else { self.servers };
        let wire = Wire::new(&servers, self.timeout).map_err(|e| Error::Setup(e.to_string()))?;
        Ok(Resolver {
            dns: Dns::new(wire, anchors.into_iter().collect(), self.timeout),
            cache: Cache::new(self.bounds),
            policy: self.policy,
            clock: self.clock,
        })
    }
}

/// A delegation proven unsigned above every `_smimecert` name of the domain answers for all of them.
fn cut_above_both(recipient: &Finding, address: &Address) -> bool {
    let Outcome::NotServed { cut } = &recipient.outcome else {
        return false;
    };
    certdir_zones::Name::parse(cut).is_ok_and(|cut| smimecert_name(address.domain()).is_at_or_below(&cut))
}

fn system_servers() -> Result<Vec<SocketAddr>, Error> {
    let text = std::fs::read_to_string(RESOLV_CONF)
        .map_err(|source| Error::Unreadable { path: PathBuf::from(RESOLV_CONF), source })?;
    let servers = servers_of(&text);
    if servers.is_empty() {
        return Err(Error::NoServer);
    }
    Ok(servers)
}

/// The `nameserver` lines of resolv.conf(5).
fn servers_of(text: &str) -> Vec<SocketAddr> {
    let fields = text.lines().map(|line| {
        let mut fields = line.split_whitespace();
        (fields.next(), fields.next())
    });
    fields
        .filter_map(|fields| match fields {
            (Some("nameserver"), Some(address)) => address.parse::<IpAddr>().ok(),
            _ => None,
        })
        .map(|address| SocketAddr::new(address, DNS_PORT))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_name_servers_are_read() {
        let text =
            "# a comment\nsearch example.org\nnameserver 192.0.2.1\n nameserver  2001:db8::1 \nnameserver nonsense\n";
        let expected = ["192.0.2.1:53", "[2001:db8::1]:53"].map(|a| a.parse::<SocketAddr>().unwrap());
        assert_eq!(servers_of(text), expected);
    }

    #[test]
    fn resolver_and_its_future_cross_threads() {
        fn crosses<T: Send + Sync>() {}
        fn sends<T: Send>(_: &T) {}
        crosses::<Resolver>();
        crosses::<Verdict>();
        let server = "127.0.0.1:9".parse().unwrap();
        let resolver = Resolver::builder(Arc::new(|| 0)).server(server).build().unwrap();
        let address = Address::parse("alice@example.org").unwrap();
        sends(&resolver.resolve(&address));
    }
}
