//! What a resolver is made of.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use certdir_certificate::{Anchors, Certificate, Pool};

use crate::appraise::{Appraiser, Trust};
use crate::cache::{Bounds, Cache};
use crate::cert::Cert;
use crate::chain::Chains;
use crate::counters::Counters;
use crate::dns::{Dns, NameServer, TrustAnchors};
use crate::error::Error;
use crate::fetch::{self, Fetch};
use crate::ldap::{AnnouncedDirectories, Directory};
use crate::policy::Policy;
use crate::reach::Reach;
use crate::resolver::{Clock, Inner, Listed, Resolver};
use crate::smimea::Smimea;
use crate::source::Source;
use crate::spec::{Kind, Spec};
use crate::store::{AnnouncedStores, Store};
use crate::tls::Tls;
use crate::watch::board::Types;
use crate::watch::settings::Watching;

/// How long one look-up may take from the address to the verdict, unless the builder says otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest that may be asked for (one day).
const MAX_TIMEOUT: Duration = Duration::from_secs(86_400);

/// Addresses in the cache, unless the builder says otherwise.
pub const DEFAULT_CACHE_ENTRIES: usize = 100_000;

/// Octets in the cache, unless the builder says otherwise (128 MiB).
pub const DEFAULT_CACHE_OCTETS: usize = 128 << 20;

/// Part of the cache, in entries and in octets, that is for what sources say about domains: one in so many.
const DOMAIN_SHARE: usize = 8;

/// Where a system names its name servers.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Port of DNS, for servers that the system's configuration names.
const DNS_PORT: u16 = 53;

/// What a [`Resolver`] is made of.
#[derive(Clone)]
#[must_use]
pub struct Builder {
    clock: Clock,
    servers: Vec<NameServer>,
    believing: bool,
    anchor_files: Vec<PathBuf>,
    anchor_text: Vec<String>,
    timeout: Duration,
    bounds: Bounds,
    policy: Policy,
    tiers: Vec<Vec<Spec>>,
    authorities: Anchors,
    intermediates: Pool,
    fetch: Option<Fetching>,
    watching: Option<Watching>,
}

/// What is fetched to appraise certificates.
#[derive(Clone)]
struct Fetching {
    reach: Reach,
    bounds: fetch::Bounds,
}

impl Builder {
    pub(crate) fn new(clock: Clock) -> Self {
        Builder {
            clock,
            servers: Vec::new(),
            believing: false,
            anchor_files: Vec::new(),
            anchor_text: Vec::new(),
            timeout: DEFAULT_TIMEOUT,
            bounds: Bounds { entries: DEFAULT_CACHE_ENTRIES, octets: DEFAULT_CACHE_OCTETS },
            policy: Policy::default(),
            tiers: Vec::new(),
            authorities: Anchors::new(),
            intermediates: Pool::new(),
            fetch: Some(Fetching { reach: Reach::public(), bounds: fetch::Bounds::default() }),
            watching: None,
        }
    }

    /// Adds a name server: a recursive one that hands out DNSSEC records, or an authoritative one for everything under
    /// the trust anchors. Servers are tried in the order given. Without any, those of `/etc/resolv.conf` are asked.
    pub fn server(self, address: SocketAddr) -> Self {
        self.name_server(NameServer::plain(address))
    }

    /// Adds a name server that may be asked over TLS.
    pub fn name_server(mut self, server: NameServer) -> Self {
        self.servers.push(server);
        self
    }

    /// Validates nothing here, and believes the AD bit of the name servers instead (RFC 4035 section 3.2.3). They must be
    /// validating resolvers, each on this machine or over TLS; the trust anchors are theirs.
    pub fn believe_servers(mut self) -> Self {
        self.believing = true;
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

    /// How long a look-up may take from the address to the verdict, keys, retries and fetched lists included.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.min(MAX_TIMEOUT);
        self
    }

    /// Bounds of the cache: addresses, and octets of what is kept for them. Zero addresses: no cache.
    pub fn cache(mut self, entries: usize, octets: usize) -> Self {
        self.bounds = Bounds { entries, octets };
        self
    }

    /// What to accept beyond the recipient's own certificate, and which to take of several.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Adds a tier of sources, behind those that were added before: sources of one tier are asked at once, and the next
    /// tier only when they give no usable certificate of the recipient's own. Harvested ones are asked last, wherever they
    /// are given. Without any, SMIMEA records in DNS are asked for.
    pub fn sources(mut self, tier: impl IntoIterator<Item = Spec>) -> Self {
        self.tiers.push(tier.into_iter().collect());
        self
    }

    /// Trusts a certification authority for chains: certificates in PEM or DER form. Without any, a certificate that needs
    /// a chain is refused.
    ///
    /// # Errors
    /// When there is none in it, or one cannot be an anchor.
    pub fn authorities(mut self, pem_or_der: &[u8]) -> Result<Self, Error> {
        for certificate in read_all(pem_or_der)? {
            self.authorities.add(&certificate).map_err(|e| Error::BadAuthority(e.to_string()))?;
        }
        Ok(self)
    }

    /// Offers certificates of issuers for the building of chains, in PEM or DER form. They are not trusted.
    ///
    /// # Errors
    /// When there is none in it, or they are too many.
    pub fn intermediates(mut self, pem_or_der: &[u8]) -> Result<Self, Error> {
        for certificate in read_all(pem_or_der)? {
            self.intermediates.add(&certificate).map_err(|e| Error::BadAuthority(e.to_string()))?;
        }
        Ok(self)
    }

    /// Where issuers, revocation lists and OCSP answers may be fetched from, by the URLs in certificates, and how much.
    /// Default: public addresses.
    pub fn fetching(mut self, reach: Reach, bounds: fetch::Bounds) -> Self {
        self.fetch = Some(Fetching { reach, bounds });
        self
    }

    /// Fetches nothing that certificates point at.
    pub fn no_fetching(mut self) -> Self {
        self.fetch = None;
        self
    }

    /// How [`Resolver::watch`] notices changes; without it as [`Watching::new`] says.
    pub fn watching(mut self, watching: Watching) -> Self {
        self.watching = Some(watching);
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
        let dns = Arc::new(match self.believing {
            true => Dns::believing(&servers, self.timeout)?,
            false => Dns::validating(&servers, anchors.into_iter().collect(), self.timeout),
        });
        let tiers = if self.tiers.is_empty() { vec![vec![Spec::smimea()]] } else { self.tiers };
        let (mut managed, mut harvested) = (Vec::new(), Vec::new());
        let mut watching = self.watching.map_or_else(Watching::new, Ok)?;
        watching.types = Types { smimea: false, cert: false };
        let mut number = 0;
        for tier in tiers {
            let mut together = Vec::new();
            for Spec { kind, trust, harvested: last, .. } in tier {
                number += 1;
                watching.types.smimea |= matches!(kind, Kind::Smimea);
                watching.types.cert |= matches!(kind, Kind::Cert);
                let unsigned_dns = trust != Trust::Vouched;
                let source: Arc<dyn Source> = match kind {
                    Kind::Smimea => Arc::new(Smimea::new(Arc::clone(&dns), unsigned_dns)),
                    Kind::Cert => Arc::new(Cert::new(Arc::clone(&dns), unsigned_dns)),
                    Kind::Ldap(settings) => Arc::new(Directory::new(settings)?),
                    Kind::Store(settings) => Arc::new(Store::new(settings)?),
                    Kind::AnnouncedDirectories(settings) => {
                        Arc::new(AnnouncedDirectories::new(Arc::<Dns>::clone(&dns), settings))
                    }
                    Kind::AnnouncedStores(settings) => {
                        Arc::new(AnnouncedStores::new(Arc::<Dns>::clone(&dns), settings))
                    }
                    Kind::Own(source) => source,
                };
                let listed = Listed { number, label: source.label().into(), source, trust };
                if last { harvested.push(listed) } else { together.push(listed) }
            }
            managed.push(together);
        }
        let fetch = self.fetch.map(|f| Ok::<_, Error>(Fetch::new(Tls::public()?, f.reach, f.bounds))).transpose()?;
        let policy = Arc::new(self.policy);
        let chains = Chains::new(self.authorities, self.intermediates, fetch);
        let domains = Bounds {
            entries: self.bounds.entries.div_ceil(DOMAIN_SHARE),
            octets: self.bounds.octets.div_ceil(DOMAIN_SHARE),
        };
        let inner = Inner {
            dns,
            managed,
            harvested,
            appraiser: Appraiser::new(chains, Arc::clone(&policy)),
            policy,
            clock: self.clock,
            deadline: self.timeout,
            verdicts: Cache::new(self.bounds),
            domains: Cache::new(domains),
            counters: Counters::default(),
            ahead: Mutex::default(),
        };
        Ok(Resolver::new(inner, watching))
    }
}

fn read_all(pem_or_der: &[u8]) -> Result<Vec<Certificate>, Error> {
    let certificates = Certificate::read_all(pem_or_der).map_err(|e| Error::BadAuthority(e.to_string()))?;
    if certificates.is_empty() {
        return Err(Error::BadAuthority("there is no certificate in it".to_owned()));
    }
    Ok(certificates)
}

fn system_servers() -> Result<Vec<NameServer>, Error> {
    let text = std::fs::read_to_string(RESOLV_CONF)
        .map_err(|source| Error::Unreadable { path: PathBuf::from(RESOLV_CONF), source })?;
    let servers = servers_of(&text);
    if servers.is_empty() {
        return Err(Error::NoServer);
    }
    Ok(servers.into_iter().map(NameServer::plain).collect())
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
}
