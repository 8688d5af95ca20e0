//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use certdir_directory::{Address, Cursor, DomainName, Role, State};
use certdir_resolver::Spec;
use certdir_resolver::reach::IpNet;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::dns_policy::DnsPolicy;

/// A certificate directory: S/MIME certificates published over DNSSEC, LDAP and HTTP.
///
/// Exit codes: 0 done; 1 an error, or nothing was taken; `publish`: 4 something was refused and the rest taken;
/// `resolve`: 0 Use, 2 None, 3 Unknown.
#[derive(Debug, Parser)]
#[command(name = "certdir", version, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) everywhere: Everywhere,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
pub(crate) struct Everywhere {
    /// The data folder: the store and the zone keys.
    #[arg(long, global = true, value_name = "DIR", env = "CERTDIR_DATA", default_value = "certdir-data")]
    pub(crate) data: PathBuf,
    /// A TOML file; every key is also a flag or a CERTDIR_… variable, and both win over the file.
    #[arg(long, global = true, value_name = "FILE", env = "CERTDIR_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Whether the data folder was named by flag.
    #[arg(skip)]
    pub(crate) data_named: bool,
    /// JSON on standard output, a document a line; errors as JSON on standard error.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run sample domains and certificates on loopback, from nothing; prints what to try. Without --data in a temporary folder
    /// that is removed at the end.
    Demo(Listen),
    /// Run the directory.
    Serve(Listen),
    /// The hosted domains.
    #[command(subcommand)]
    Domain(DomainCommand),
    /// Publish certificates (PEM or DER).
    Publish(Publish),
    /// Take a certificate back.
    Withdraw(Withdraw),
    /// What each view serves for an address.
    Show {
        #[arg(value_parser = address)]
        address: Address,
    },
    /// Every certificate there ever was for an address.
    History {
        #[arg(value_parser = address)]
        address: Address,
    },
    /// The current and coming certificates.
    List(List),
    /// The numbered publication log: of the data folder, or of a running directory (--url) what the token may read.
    Changes {
        /// Only what came after this Version, or after a cursor of the feed (17-9f86d081884c7d65), which only this store has.
        #[arg(long, default_value_t = Cursor::BEGINNING, value_name = "VERSION")]
        since: Cursor,
        /// Go on as changes come; from a running directory also over its restarts.
        #[arg(long)]
        follow: bool,
        #[command(flatten)]
        remote: Remote,
    },
    /// The certificate to encrypt to, found as a gateway finds it: over validated DNS.
    Resolve(Resolve),
    /// A zone as master-file text.
    #[command(subcommand)]
    Zone(ZoneCommand),
    /// Tokens for those who publish over HTTP.
    #[command(subcommand)]
    Token(TokenCommand),
}

/// Where to listen and how much to allow.
#[derive(Debug, Args)]
pub(crate) struct Listen {
    /// DNS over UDP and TCP; repeatable, `none` to switch off.
    #[arg(
        long,
        value_name = "ADDR:PORT",
        env = "CERTDIR_DNS",
        value_delimiter = ',',
        default_value = "127.0.0.1:5300"
    )]
    pub(crate) dns: Vec<Listener>,
    /// LDAP; repeatable, `none` to switch off.
    #[arg(
        long,
        value_name = "ADDR:PORT",
        env = "CERTDIR_LDAP",
        value_delimiter = ',',
        default_value = "127.0.0.1:3890"
    )]
    pub(crate) ldap: Vec<Listener>,
    /// HTTP; repeatable, `none` to switch off.
    #[arg(
        long,
        value_name = "ADDR:PORT",
        env = "CERTDIR_HTTP",
        value_delimiter = ',',
        default_value = "127.0.0.1:8080"
    )]
    pub(crate) http: Vec<Listener>,
    /// DNS over TLS; repeatable, `none` to switch off.
    #[arg(
        long,
        value_name = "ADDR:PORT",
        env = "CERTDIR_DOT",
        value_delimiter = ',',
        default_value = "127.0.0.1:8530"
    )]
    pub(crate) dot: Vec<Listener>,
    /// DNS over QUIC; repeatable, `none` to switch off.
    #[arg(
        long,
        value_name = "ADDR:PORT",
        env = "CERTDIR_DOQ",
        value_delimiter = ',',
        default_value = "127.0.0.1:8531"
    )]
    pub(crate) doq: Vec<Listener>,
    /// HTTPS, and DNS over HTTPS at /dns-query; repeatable, `none` to switch off.
    #[arg(
        long,
        value_name = "ADDR:PORT",
        env = "CERTDIR_HTTPS",
        value_delimiter = ',',
        default_value = "127.0.0.1:8443"
    )]
    pub(crate) https: Vec<Listener>,
    /// The certificate chain of --dot, --doq and --https in PEM, read again when it changes. Without it they show a self-signed
    /// certificate, on loopback addresses only.
    #[arg(long, value_name = "FILE", env = "CERTDIR_TLS_CERT")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The private key of --tls-cert, in PEM; nobody but its owner may be able to read the file.
    #[arg(long, value_name = "FILE", env = "CERTDIR_TLS_KEY")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Threads that answer DNS; 0 means one for each core.
    #[arg(long, value_name = "N", env = "CERTDIR_DNS_WORKERS", default_value_t = 0)]
    pub(crate) dns_workers: usize,
    /// Subscriptions to DNS records (DNS Push Notifications, over DNS over TLS) of all clients together, half of them at most of
    /// one source; 0 for none.
    #[arg(long, value_name = "N", env = "CERTDIR_DNS_SUBSCRIPTIONS", default_value_t = 262_144)]
    pub(crate) dns_subscriptions: usize,
    #[command(flatten)]
    pub(crate) dns_policy: DnsPolicy,
    /// Look-ups a second allowed to one source (IPv4 address or IPv6 /56) on LDAP and HTTP together.
    #[arg(long, value_name = "N", env = "CERTDIR_LOOKUPS_PER_SECOND", default_value_t = 20)]
    pub(crate) lookups_per_second: u32,
    /// Look-ups such a source may make at once.
    #[arg(long, value_name = "N", env = "CERTDIR_LOOKUPS_BURST", default_value_t = 200)]
    pub(crate) lookups_burst: u32,
}

/// An address to listen on, or `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listener {
    At(SocketAddr),
    None,
}

impl FromStr for Listener {
    type Err = String;

    fn from_str(text: &str) -> Result<Listener, String> {
        if text == "none" {
            return Ok(Listener::None);
        }
        text.parse().map(Listener::At).map_err(|_| "give an address and a port such as 127.0.0.1:5300, or none".into())
    }
}

impl Listener {
    /// The addresses of a list.
    pub(crate) fn addresses(list: &[Listener]) -> Vec<SocketAddr> {
        list.iter()
            .filter_map(|listener| match listener {
                Listener::At(address) => Some(*address),
                Listener::None => None,
            })
            .collect()
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum DomainCommand {
    /// Host a domain.
    Add {
        #[arg(value_parser = domain)]
        domain: DomainName,
        /// What is delegated to this directory: `_smimecert.DOMAIN` only, or the mail domain itself (with CERT records; its other
        /// records, such as MX, are given with --records; needs --name-server). Cannot be changed later.
        #[arg(long, value_enum, default_value_t = HostingChoice::Smimecert)]
        hosting: HostingChoice,
        /// The form of CERT data: as RFC 4398 says, or bare DER, which Direct software reads.
        #[arg(long, value_enum, default_value_t = CertDataChoice::Rfc4398)]
        cert_data: CertDataChoice,
        /// TTL of certificate records, in seconds: how long a gateway may go on using a replaced certificate.
        #[arg(long, value_name = "SECONDS")]
        ttl: Option<u32>,
        /// A name server of the zone; repeatable. Without it ns1.DOMAIN.
        #[arg(long = "name-server", value_name = "HOST")]
        name_servers: Vec<String>,
        /// Publish addresses exactly as certificates write them, without the lower-case variant.
        #[arg(long)]
        exact_only: bool,
        /// How the zone proves what it has not: so that nobody can list it, or by the full NSEC3 chain, for zones that are
        /// transferred.
        #[arg(long, value_enum, default_value_t = DenialChoice::Minimal)]
        denial: DenialChoice,
        /// The LDAP server that `_ldap._tcp.DOMAIN` names, for --hosting mail.
        #[arg(long, value_name = "HOST[:PORT]")]
        ldap_server: Option<String>,
        /// The HTTP server that `_certificates._tcp.DOMAIN` names (RFC 4387; it answers at /search.cgi), for --hosting mail.
        #[arg(long, value_name = "HOST[:PORT]")]
        certificate_store_server: Option<String>,
        /// The server of DNS Push Notifications that `_dns-push-tls._tcp` names: this program's DNS over TLS, as the world
        /// reaches it.
        #[arg(long, value_name = "HOST[:PORT]")]
        push_server: Option<String>,
        /// A master file with the other records of a hosted mail domain (MX, A, TXT, sub-domains), - for standard input.
        #[arg(long, value_name = "FILE")]
        records: Option<PathBuf>,
        #[command(flatten)]
        remote: Remote,
    },
    /// Change how a domain is published: only what is named.
    Change {
        #[arg(value_parser = domain)]
        domain: DomainName,
        /// TTL of certificate records, in seconds.
        #[arg(long, value_name = "SECONDS")]
        ttl: Option<u32>,
        /// The name servers of the zone, all of them; repeatable.
        #[arg(long = "name-server", value_name = "HOST")]
        name_servers: Vec<String>,
        /// The form of CERT data.
        #[arg(long, value_enum)]
        cert_data: Option<CertDataChoice>,
        /// Publish addresses exactly as certificates write them (true), or in lower case, too (false).
        #[arg(long, value_name = "BOOL")]
        exact_only: Option<bool>,
        /// How the zone proves what it has not.
        #[arg(long, value_enum)]
        denial: Option<DenialChoice>,
        /// The LDAP server that `_ldap._tcp.DOMAIN` names; `none` takes the record away.
        #[arg(long, value_name = "HOST[:PORT]")]
        ldap_server: Option<String>,
        /// The HTTP server that `_certificates._tcp.DOMAIN` names; `none` takes the record away.
        #[arg(long, value_name = "HOST[:PORT]")]
        certificate_store_server: Option<String>,
        /// The server of DNS Push Notifications that `_dns-push-tls._tcp` names; `none` takes the record away.
        #[arg(long, value_name = "HOST[:PORT]")]
        push_server: Option<String>,
        #[command(flatten)]
        remote: Remote,
    },
    /// The other records of a hosted mail domain: print them, or replace them all.
    Records {
        #[arg(value_parser = domain)]
        domain: DomainName,
        /// A master file to take in their place, - for standard input. Without it the present text is printed.
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        /// Take all records away.
        #[arg(long, conflicts_with = "file")]
        none: bool,
        #[command(flatten)]
        remote: Remote,
    },
    /// Host a domain no longer: it leaves every view at once; its history stays.
    Remove {
        #[arg(value_parser = domain)]
        domain: DomainName,
        /// Really.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        remote: Remote,
    },
    /// The hosted domains.
    List,
    /// What the parent zone needs, and what is served.
    Show {
        #[arg(value_parser = domain)]
        domain: DomainName,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum HostingChoice {
    Smimecert,
    Mail,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum CertDataChoice {
    Rfc4398,
    Der,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum DenialChoice {
    Minimal,
    Chain,
}

/// A running directory instead of the data folder.
#[derive(Debug, Args, Clone)]
pub(crate) struct Remote {
    /// A running directory, such as http://127.0.0.1:8080, instead of the data folder. Commands without this flag look
    /// at the data folder.
    #[arg(long, value_name = "URL", env = "CERTDIR_URL")]
    pub(crate) url: Option<String>,
    /// The token for it; better given by the variable, where other users do not see it.
    #[arg(long, value_name = "TOKEN", env = "CERTDIR_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// Files of PEM or DER certificates, folders of such files, or - for standard input.
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// An alias that the certificate does not name; repeatable, for one certificate. Published as asserted by you.
    #[arg(long = "address", value_name = "A", value_parser = address)]
    pub(crate) addresses: Vec<Address>,
    /// A gateway's certificate, for the whole domain. It names the domain, or nobody at all.
    #[arg(long, value_name = "DOMAIN", value_parser = domain, conflicts_with_all = ["authority", "addresses"])]
    pub(crate) domain_certificate: Option<DomainName>,
    /// The certificate of a CA that issues for the domain's people, so that partners can trust them.
    #[arg(long, value_name = "DOMAIN", value_parser = domain, conflicts_with = "addresses")]
    pub(crate) authority: Option<DomainName>,
    /// Bring certificates back that were superseded or withdrawn.
    #[arg(long)]
    pub(crate) restore: bool,
    /// Only say what would happen.
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) remote: Remote,
}

#[derive(Debug, Args)]
pub(crate) struct Withdraw {
    /// An address (all its current certificates), or a certificate's SHA-256 in hexadecimal.
    #[arg(value_name = "ADDRESS|SHA256")]
    pub(crate) target: String,
    /// Why; kept in the history.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    #[command(flatten)]
    pub(crate) remote: Remote,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only this domain's.
    #[arg(long, value_name = "DOMAIN", value_parser = domain)]
    pub(crate) domain: Option<DomainName>,
    /// Only published ones that expire within this time: 30d, 12h.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) expiring: Option<i64>,
    /// Only those in this state: current, staged, superseded, expired or withdrawn.
    #[arg(long, value_name = "STATE", value_parser = state)]
    pub(crate) state: Option<State>,
}

#[derive(Debug, Args)]
pub(crate) struct Resolve {
    #[arg(required = true, value_name = "ADDRESS", value_parser = address)]
    pub(crate) addresses: Vec<Address>,
    /// Why the verdict is what it is: each question and each candidate.
    #[arg(long)]
    pub(crate) explain: bool,
    /// The certificate as PEM and nothing else.
    #[arg(long, conflicts_with_all = ["explain", "json"])]
    pub(crate) pem: bool,
    /// A name server to ask instead of the system's; repeatable.
    #[arg(long = "server", value_name = "IP:PORT", env = "CERTDIR_SERVER", value_delimiter = ',', value_parser = server)]
    pub(crate) servers: Vec<SocketAddr>,
    /// DNSKEY or DS records to trust instead of the root zone's; repeatable.
    #[arg(long = "trust-anchor", value_name = "FILE", env = "CERTDIR_TRUST_ANCHOR", value_delimiter = ',')]
    pub(crate) trust_anchors: Vec<PathBuf>,
    /// Where to look, in this order; repeatable. Several in one argument, with spaces between, are asked at once. The
    /// forms are in docs/resolver.md: smimea, cert, ldap://…, announced-ldap, store:…, announced-store, certdir:…,
    /// folder:…
    #[arg(long = "source", value_name = "SOURCES", env = "CERTDIR_SOURCE", value_delimiter = ';', value_parser = sources)]
    pub(crate) sources: Vec<Sources>,
    /// Certificates of the certification authorities that chains may end at, PEM or DER; repeatable.
    #[arg(long = "authority", value_name = "FILE", env = "CERTDIR_AUTHORITY", value_delimiter = ',')]
    pub(crate) authorities: Vec<PathBuf>,
    /// Certificates of issuers for the building of chains, PEM or DER; they are not trusted; repeatable.
    #[arg(long = "intermediate", value_name = "FILE", env = "CERTDIR_INTERMEDIATE", value_delimiter = ',')]
    pub(crate) intermediates: Vec<PathBuf>,
    /// A certificate whose revocation cannot be established: hard does not use it, soft does, off does not look.
    #[arg(long, value_name = "HOW", env = "CERTDIR_REVOCATION", value_enum, default_value_t = Revocation::Hard)]
    pub(crate) revocation: Revocation,
    /// A network beside the public ones for announced servers, and for issuers and revocation lists; repeatable.
    #[arg(long = "reach", value_name = "NETWORK", env = "CERTDIR_REACH", value_delimiter = ',')]
    pub(crate) reach: Vec<IpNet>,
    /// A port beside 80 and 443 for them; repeatable.
    #[arg(long = "reach-port", value_name = "PORT", env = "CERTDIR_REACH_PORT", value_delimiter = ',')]
    pub(crate) reach_ports: Vec<u16>,
    /// Every usable certificate, not only the one that is chosen.
    #[arg(long)]
    pub(crate) all: bool,
    /// Seconds that the look-up of one address may take.
    #[arg(long, value_name = "SECONDS", env = "CERTDIR_TIMEOUT", default_value_t = 10,
          value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) timeout: u64,
    /// Stay, and print a line for every change, noticed by DNS Push where the domain's zone announces it.
    #[arg(long, conflicts_with_all = ["explain", "pem"])]
    pub(crate) follow: bool,
    #[command(flatten)]
    pub(crate) following: Following,
}

/// How `certdir resolve --follow` notices changes, and whom servers must prove to be.
#[derive(Debug, Args)]
pub(crate) struct Following {
    /// A directory whose change feed is followed, where nothing is pushed; a token in CERTDIR_TOKEN is used.
    #[arg(long, value_name = "URL", requires = "follow")]
    pub(crate) feed: Option<String>,
    /// A token of that directory.
    #[arg(long, value_name = "TOKEN", env = "CERTDIR_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// A push server (DNS over TLS) instead of the announced ones.
    #[arg(long, value_name = "IP:PORT", value_parser = server, requires = "follow")]
    pub(crate) push_server: Option<SocketAddr>,
    /// The name that the push server's certificate must have; its address without it.
    #[arg(long, value_name = "NAME", requires = "push_server")]
    pub(crate) push_name: Option<String>,
    /// Certificates (PEM) of the authorities that LDAP and HTTP servers, feeds and push servers must be certified by, instead
    /// of the public ones.
    #[arg(long, value_name = "FILE", env = "CERTDIR_TLS_AUTHORITIES")]
    pub(crate) tls_authorities: Option<PathBuf>,
}

/// Sources that are asked at once.
#[derive(Clone, Debug)]
pub(crate) struct Sources(pub(crate) Vec<Spec>);

fn sources(text: &str) -> Result<Sources, String> {
    let tier: Result<Vec<_>, _> = text.split_whitespace().map(Spec::parse).collect();
    match tier {
        Ok(tier) if tier.is_empty() => Err("there is no source in it".to_owned()),
        Ok(tier) => Ok(Sources(tier)),
        Err(error) => Err(error.to_string()),
    }
}

/// What to do about a certificate whose revocation cannot be established.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Revocation {
    Hard,
    Soft,
    Off,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ZoneCommand {
    /// The signed zone, with a full NSEC3 chain.
    Export {
        #[arg(value_parser = domain)]
        domain: DomainName,
    },
    /// The DS record for the parent zone.
    Ds {
        #[arg(value_parser = domain)]
        domain: DomainName,
    },
    /// The DNSKEY record: a trust anchor file.
    Keys {
        #[arg(value_parser = domain)]
        domain: DomainName,
        /// As a `trust-anchors` statement, for delv -a and named.
        #[arg(long)]
        bind: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token. It is shown this once.
    Add {
        /// admin, publisher or reader.
        #[arg(long, value_parser = role, default_value = "publisher")]
        role: Role,
        /// A domain it is for; repeatable.
        #[arg(long = "domain", value_name = "DOMAIN", value_parser = domain)]
        domains: Vec<DomainName>,
        /// What it is made for.
        #[arg(long, default_value = "unnamed")]
        name: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// The tokens, without their secrets.
    List,
    /// Revoke a token by its public part.
    Revoke {
        id: String,
        #[command(flatten)]
        remote: Remote,
    },
}

fn address(text: &str) -> Result<Address, String> {
    Address::parse(text).map_err(|error| error.to_string())
}

fn domain(text: &str) -> Result<DomainName, String> {
    DomainName::parse(text).map_err(|error| error.to_string())
}

fn server(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "give an IP address and a port such as 127.0.0.1:53".into())
}

fn role(text: &str) -> Result<Role, String> {
    Role::parse(text).ok_or_else(|| "the roles are admin, publisher and reader".into())
}

fn state(text: &str) -> Result<State, String> {
    State::parse(text).ok_or_else(|| "the states are current, staged, superseded, expired and withdrawn".into())
}

fn duration(text: &str) -> Result<i64, String> {
    let wrong = || "give a time such as 30d, 12h or 45m".to_string();
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let seconds = match unit {
        "d" => 86_400,
        "h" => 3_600,
        "m" => 60,
        "s" => 1,
        _ => return Err(wrong()),
    };
    number.parse::<u32>().map(|number| i64::from(number) * seconds).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn durations() {
        assert_eq!(duration("30d"), Ok(2_592_000));
        assert_eq!(duration("12h"), Ok(43_200));
        for wrong in ["", "d", "30", "-1d", "1w", "é"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
