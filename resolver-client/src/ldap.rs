//! LDAP directories as a source: configured ones ([`Directory`]), and those that mail domains announce by `_ldap._tcp` SRV
//! records ([`AnnouncedDirectories`]: the Direct Project).
//!
//! The client is our own ([`connection`], [`message`], [`filter`]): a server that a stranger's DNS names may send
//! anything, and what is read of it must be bounded in octets, depth and entries.

mod connection;
mod filter;
mod message;

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use certdir_certificate::UnixTime;
use tokio::time::{Instant, timeout};
use url::Url;

use crate::bundle;
use crate::error::Error;
use crate::outcome::{Candidate, Claim, Failure, Match, Outcome};
use crate::reach::{Ports, Reach};
use crate::resolver::FAILURE_LIFE;
use crate::source::{Answer, Asking, Level, Source, Subject};
use crate::srv::{Announced, Announcements};
use crate::tls::Tls;
use crate::trace::{Dnssec, Exchange, Question};

pub(crate) use connection::{Answered, Server, failure};
pub(crate) use message::{Scope, Search};

/// PKCS #7 bundles: the whole chain, and preferred (RFC 2798 section 2.8).
const BUNDLES: &str = "userSMIMECertificate";

/// Single certificates (RFC 4523 section 4.1).
const CERTIFICATES: &str = "userCertificate";

/// Entries of one answer. More for one mailbox is a mistake in the filter.
const MAX_ENTRIES: u32 = 32;

/// Certificates of one answer that are looked at.
const MAX_CANDIDATES: usize = crate::resolver::MAX_CANDIDATES + 1;

/// A server that failed is asked last for this long.
const SHUNNED: Duration = Duration::from_secs(30);

/// Naming contexts of an announced server that are searched.
const MAX_CONTEXTS: usize = 4;

/// Announced servers that are remembered.
const MAX_SERVERS: usize = 256;

/// Whether these octets are a message that a server may send. For the fuzzer; the source reads no other way.
#[doc(hidden)]
pub fn is_response(octets: &[u8]) -> bool {
    message::read(octets).is_ok()
}

/// How a connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encryption {
    /// Not at all.
    None,
    /// TLS from the first octet (`ldaps`).
    Tls,
    /// TLS after the StartTLS operation (RFC 4511 section 4.14); without it nothing is asked.
    StartTls,
}

/// One LDAP server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// A DNS name, or an address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// How the connection is protected.
    pub encryption: Encryption,
}

impl Endpoint {
    /// Reads `ldap://host[:port]`, `ldap+starttls://host[:port]` or `ldaps://host[:port]`.
    ///
    /// # Errors
    /// When it is nothing of the kind.
    pub fn parse(url: &str) -> Result<Endpoint, Error> {
        let bad = || Error::BadSource(format!("{url:?} is not ldap://HOST, ldap+starttls://HOST or ldaps://HOST"));
        let parsed = Url::parse(url).map_err(|_| bad())?;
        let (encryption, usual) = match parsed.scheme() {
            "ldap" => (Encryption::None, 389),
            "ldap+starttls" => (Encryption::StartTls, 389),
            "ldaps" => (Encryption::Tls, 636),
            _ => return Err(bad()),
        };
        let bare = parsed.username().is_empty() && parsed.query().is_none() && parsed.fragment().is_none();
        let host =
            parsed.host_str().filter(|host| !host.is_empty() && bare && parsed.path().len() <= 1).ok_or_else(bad)?;
        Ok(Endpoint { host: host.to_owned(), port: parsed.port().unwrap_or(usual), encryption })
    }

    fn is_loopback(&self) -> bool {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        bare.parse::<IpAddr>().map_or(bare == "localhost", |address| address.to_canonical().is_loopback())
    }

    fn transport(&self) -> &'static str {
        match self.encryption {
            Encryption::None => "ldap",
            Encryption::StartTls => "ldap+starttls",
            Encryption::Tls => "ldaps",
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.transport(), self.host, self.port)
    }
}

/// Name and password of a simple bind. The password is never shown.
#[derive(Clone)]
pub struct Bind {
    /// The distinguished name.
    pub dn: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bind").field("dn", &self.dn).finish_non_exhaustive()
    }
}

/// What a [`Directory`] is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Servers that have the same entries, asked in this order: the next when one fails.
    pub servers: Vec<Endpoint>,
    /// Where the search begins.
    pub base: String,
    /// The filter, with `{address}`, `{local}` and `{domain}` for the mailbox. `(mail={address})`.
    pub filter: String,
    /// Who asks; nobody: an anonymous look-up. A password goes over TLS or to a loopback address only.
    pub bind: Option<Bind>,
    /// Whom the servers must prove to be.
    pub tls: Tls,
    /// How long one look-up may take, all servers together (5 seconds).
    pub timeout: Duration,
    /// Believes a server that does not prove who it is when it says that there is no entry. Loopback is always believed.
    pub believe_absence: bool,
    /// Takes an answer for whole although it refers to other servers for a part of the tree, which are not asked. Active
    /// Directory does that whenever the base is a domain.
    pub ignore_references: bool,
    /// Seconds for which certificates are believed (15 minutes).
    pub found_life: UnixTime,
    /// Seconds for which an absence is believed (5 minutes).
    pub absent_life: UnixTime,
}

impl Settings {
    /// Servers and a base, with the usual filter, anonymous, by the public certification authorities.
    ///
    /// # Errors
    /// When a server is not an LDAP URL.
    pub fn new(servers: &[&str], base: &str) -> Result<Settings, Error> {
        Ok(Settings {
            servers: servers.iter().map(|server| Endpoint::parse(server)).collect::<Result<_, _>>()?,
            base: base.to_owned(),
            filter: "(mail={address})".to_owned(),
            bind: None,
            tls: Tls::public()?,
            timeout: Duration::from_secs(5),
            believe_absence: false,
            ignore_references: false,
            found_life: 900,
            absent_life: 300,
        })
    }
}

/// A configured LDAP directory.
pub struct Directory {
    label: String,
    settings: Settings,
    servers: Vec<Asked>,
}

/// A server and when it failed.
struct Asked {
    server: Server,
    failed: Mutex<Option<Instant>>,
}

impl Asked {
    fn shunned(&self) -> bool {
        let failed = *self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.is_some_and(|failed| failed.elapsed() < SHUNNED)
    }

    fn note(&self, works: bool) {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = (!works).then(Instant::now);
    }
}

/// What one look-up collects.
struct Inquiry {
    now: UnixTime,
    name: String,
    exchanges: Vec<Exchange>,
    dnssec: Option<Dnssec>,
}

impl Inquiry {
    fn new(name: String, now: UnixTime) -> Inquiry {
        Inquiry { now, name, exchanges: Vec::new(), dnssec: None }
    }

    fn answer(self, source: &str, outcome: Outcome, until: UnixTime) -> Answer {
        let message = match &outcome {
            Outcome::Found(candidates) => format!("{} certificates", candidates.len()),
            Outcome::ProvenNone { .. } => "none".to_owned(),
            Outcome::NotServed { reason } => reason.clone(),
            Outcome::Error(failure) => failure.message.clone(),
        };
        let question = Question {
            source: source.into(),
            name: self.name,
            kind: "search",
            dnssec: self.dnssec,
            message,
            asked_at: self.now,
            aliases: Vec::new(),
            exchanges: self.exchanges,
        };
        Answer { outcome, until, question: Arc::new(question) }
    }

    /// One search at one server, noted in the trace.
    async fn search(
        &mut self,
        server: &Server,
        search: &Search,
        shown: &str,
        patience: Duration,
    ) -> Result<Answered, Failure> {
        let endpoint = server.endpoint();
        let result = server.search(search, patience).await;
        let (address, said) = match &result {
            Ok((answered, address)) => {
                let values =
                    answered.entries.iter().flat_map(|entry| &entry.attributes).map(|(_, values)| values.len());
                let said = format!(
                    "{} ({}), {} entries with {} values, {} references",
                    message::code_name(answered.done.code),
                    answered.done.code,
                    answered.entries.len(),
                    values.sum::<usize>(),
                    answered.references,
                );
                (address.to_string(), said)
            }
            Err(failure) => (format!("{}:{}", endpoint.host, endpoint.port), failure.message.clone()),
        };
        self.exchanges.push(Exchange {
            question: format!("{shown} under {:?}", search.base),
            server: address,
            transport: endpoint.transport(),
            result: said,
            extended_errors: Vec::new(),
        });
        result.map(|(answered, _)| answered)
    }
}

fn search_for(base: &str, filter: &str, patience: Duration) -> Result<Search, String> {
    Ok(Search {
        base: base.to_owned(),
        scope: Scope::Subtree,
        filter: filter::encode(filter)?,
        // Without ;binary, as every server takes it: one that knows the option answers with it (RFC 4522 section 5).
        attributes: vec![BUNDLES.to_owned(), CERTIFICATES.to_owned()],
        size_limit: MAX_ENTRIES,
        time_limit: u32::try_from(patience.as_secs()).unwrap_or(u32::MAX).max(1),
    })
}

impl Directory {
    /// A directory. Connects when it is asked.
    ///
    /// # Errors
    /// When there is no server, the filter cannot be read, or there is a password that is empty or would go over a network
    /// as it is.
    pub fn new(settings: Settings) -> Result<Directory, Error> {
        let Some(first) = settings.servers.first() else {
            return Err(Error::BadSource("an LDAP directory without a server".to_owned()));
        };
        if let Some(bind) = &settings.bind {
            // RFC 4513 section 5.1.2: the server would take it for nobody, and hide what nobody may see.
            if bind.password.is_empty() {
                return Err(Error::BadSource(format!("{first}: a bind without a password asks as nobody")));
            }
            // RFC 4513 section 6.3.3
            let is_open = |endpoint: &&Endpoint| endpoint.encryption == Encryption::None && !endpoint.is_loopback();
            if let Some(open) = settings.servers.iter().find(is_open) {
                return Err(Error::BadSource(format!("{open}: a password needs ldaps:// or ldap+starttls://")));
            }
        }
        let example = certdir_zones::Address::parse("a@example.org").map_err(|e| Error::BadSource(e.to_string()))?;
        filter::encode(&filter::fill(&settings.filter, &example))
            .map_err(|why| Error::BadSource(format!("filter: {why}")))?;
        let server = |endpoint: &Endpoint| Asked {
            server: Server::new(
                endpoint.clone(),
                settings.bind.clone(),
                settings.tls.clone(),
                Reach::everywhere(),
                Ports::Directory,
            ),
            failed: Mutex::default(),
        };
        let servers = settings.servers.iter().map(server).collect();
        Ok(Directory { label: format!("{first}/{}", settings.base), servers, settings })
    }

    /// Server after server, those that failed lately last.
    async fn ask(&self, inquiry: &mut Inquiry, subject: &Subject) -> Result<Outcome, Failure> {
        let bad = |why| Failure::new("ldap-filter", why);
        let search = search_for(&self.settings.base, &inquiry.name, self.settings.timeout).map_err(bad)?;
        let shown = inquiry.name.clone();
        // A server that swallows packets leaves time for the next.
        let count = u32::try_from(self.servers.len()).unwrap_or(1).max(1);
        let share =
            if count == 1 { self.settings.timeout } else { self.settings.timeout.saturating_mul(2) / (count + 1) };
        let (failed, good): (Vec<&Asked>, Vec<&Asked>) = self.servers.iter().partition(|asked| asked.shunned());
        let mut last = Failure::new("network", "no server");
        for asked in good.into_iter().chain(failed) {
            let endpoint = asked.server.endpoint();
            match inquiry.search(&asked.server, &search, &shown, share).await {
                Ok(answered) => {
                    let believed = self.settings.believe_absence
                        || endpoint.encryption != Encryption::None
                        || endpoint.is_loopback();
                    match conclude(&answered, endpoint, subject.level, believed, self.settings.ignore_references) {
                        Err(failure) if failure.code == "ldap-unavailable" => last = failure,
                        result => {
                            asked.note(true);
                            return result;
                        }
                    }
                }
                Err(failure) => last = failure,
            }
            asked.note(false);
        }
        Err(last)
    }
}

impl Source for Directory {
    fn label(&self) -> &str {
        &self.label
    }

    fn find<'a>(&'a self, subject: &'a Subject, now: UnixTime) -> Asking<'a> {
        Box::pin(async move {
            let mut inquiry = Inquiry::new(filter::fill(&self.settings.filter, &subject.mailbox()), now);
            let result = timeout(self.settings.timeout, self.ask(&mut inquiry, subject)).await;
            let late = |_| Failure::new("timeout", format!("{} did not answer in time", self.label));
            let (outcome, life) = match result.map_err(late).and_then(|result| result) {
                Ok(found @ Outcome::Found(_)) => (found, self.settings.found_life),
                Ok(other) => (other, self.settings.absent_life),
                Err(failure) => (Outcome::Error(failure), FAILURE_LIFE),
            };
            inquiry.answer(&self.label, outcome, now.saturating_add(life))
        })
    }
}

/// What an answer means. Everything that could hide a certificate is an error.
fn conclude(
    answered: &Answered,
    endpoint: &Endpoint,
    level: Level,
    believed: bool,
    ignore_references: bool,
) -> Result<Outcome, Failure> {
    if answered.done.code != 0 {
        return Err(failure(endpoint, "search", &answered.done));
    }
    let candidates = candidates(answered, level);
    if !candidates.is_empty() {
        return Ok(Outcome::Found(candidates.into()));
    }
    if answered.references > 0 && !ignore_references {
        let message = format!("{endpoint}: other servers, which are not asked, have a part of the tree");
        return Err(Failure::new("ldap-referral", message));
    }
    if !believed {
        let message = format!("{endpoint} has no such entry, but does not prove that it is the server");
        return Err(Failure::new("not-authenticated", message));
    }
    Ok(Outcome::NotServed { reason: format!("{endpoint} has no certificate in such an entry") })
}

/// Everything that may be a certificate of the mailbox; those of certification authorities follow, for building paths.
fn candidates(answered: &Answered, level: Level) -> Vec<Candidate> {
    let matched = match level {
        Level::Recipient => Match::Recipient,
        Level::Domain => Match::Domain,
    };
    let mut found = Vec::new();
    let mut add = |der: &[u8]| {
        let known = |c: &Candidate| c.readable().is_some_and(|c| c.der()[..] == *der);
        if found.len() < MAX_CANDIDATES && !found.iter().any(known) {
            found.push(Candidate::from_der(der, Claim::Bare, matched));
        }
    };
    let mut complaints = Vec::new();
    for entry in &answered.entries {
        for value in entry.values(BUNDLES) {
            match bundle::certificates(value) {
                Ok(certificates) => certificates.into_iter().for_each(&mut add),
                Err(why) => complaints.push(format!("{BUNDLES}: {why}")),
            }
        }
        entry.values(CERTIFICATES).for_each(&mut add);
    }
    let unread = |complaint: String| {
        let certificate = Some(Err(Failure::new("malformed", complaint)));
        Candidate { claim: Claim::Bare, matched, certificate }
    };
    found.extend(complaints.into_iter().take(MAX_CANDIDATES).map(unread));
    // Self-made certificates of people often say that they are an authority, too.
    let is_authority = |c: &Candidate| c.readable().is_some_and(|c| c.is_ca() && !c.can_encrypt());
    let (authorities, mut own): (Vec<_>, Vec<_>) = found.into_iter().partition(is_authority);
    // Only authorities: the entry holds nothing for a mailbox.
    if !own.is_empty() {
        own.extend(authorities);
    }
    own
}

/// Directories that mail domains announce by `_ldap._tcp` SRV records, asked anonymously for `mail` (the Direct Project).
pub struct AnnouncedDirectories {
    announcements: Arc<dyn Announcements>,
    settings: AnnouncedSettings,
    servers: Mutex<HashMap<Endpoint, Arc<Server>>>,
}

/// How [`AnnouncedDirectories`] are asked.
#[derive(Clone, Debug)]
pub struct AnnouncedSettings {
    /// Where connections may go.
    pub reach: Reach,
    /// Whom a server on port 636 must prove to be.
    pub tls: Tls,
    /// How long one look-up may take, SRV records included (5 seconds).
    pub timeout: Duration,
    /// Believes a server that does not prove who it is, or whom nothing proves to be the domain's, when it says that there
    /// is no entry.
    pub believe_absence: bool,
    /// Seconds for which certificates are believed (15 minutes), and an absence (5 minutes).
    pub life: (UnixTime, UnixTime),
}

impl AnnouncedSettings {
    /// Public addresses only, and nothing believed that is not proven.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new() -> Result<AnnouncedSettings, Error> {
        Ok(AnnouncedSettings {
            reach: Reach::public(),
            tls: Tls::public()?,
            timeout: Duration::from_secs(5),
            believe_absence: false,
            life: (900, 300),
        })
    }
}

impl AnnouncedDirectories {
    /// Directories that these announcements name.
    pub fn new(announcements: Arc<dyn Announcements>, settings: AnnouncedSettings) -> AnnouncedDirectories {
        AnnouncedDirectories { announcements, settings, servers: Mutex::default() }
    }

    async fn ask(&self, inquiry: &mut Inquiry, subject: &Subject) -> Result<(Outcome, UnixTime), Failure> {
        let name = format!("_ldap._tcp.{}", subject.address.domain().as_str());
        let announced = self.announcements.announced(&name, inquiry.now).await?;
        inquiry.exchanges.extend(announced.exchanges.iter().cloned());
        inquiry.dnssec = Some(if announced.secure { Dnssec::Secure } else { Dnssec::Insecure });
        let targets = announced.in_order();
        if targets.is_empty() {
            return Ok((Outcome::NotServed { reason: format!("{name} announces no directory") }, announced.until));
        }
        let mut last = Failure::new("network", "no server");
        let (mut forbidden, count) = (0, targets.len());
        let share = self.settings.timeout.saturating_mul(2) / (u32::try_from(count).unwrap_or(1) + 1);
        for target in targets {
            let encryption = if target.port == 636 { Encryption::Tls } else { Encryption::None };
            let server = self.server(Endpoint { host: target.host, port: target.port, encryption });
            match self.ask_one(inquiry, &server, subject, &announced, share).await {
                Ok(outcome) => return Ok((outcome, announced.until)),
                Err(failure) => {
                    forbidden += usize::from(failure.code == "forbidden-address");
                    last = failure;
                }
            }
        }
        // Internal directories of a company, in public DNS by mistake. Where DNSSEC vouches for them, it is an error.
        if forbidden == count && !announced.secure {
            let reason = format!("{name} announces only servers that may not be connected to");
            return Ok((Outcome::NotServed { reason }, announced.until));
        }
        Err(last)
    }

    async fn ask_one(
        &self,
        inquiry: &mut Inquiry,
        server: &Server,
        subject: &Subject,
        announced: &Announced,
        patience: Duration,
    ) -> Result<Outcome, Failure> {
        let bad = |why| Failure::new("ldap-filter", why);
        // The root DSE says where its trees begin (RFC 4512 section 5.1).
        let contexts = Search {
            base: String::new(),
            scope: Scope::Base,
            filter: filter::encode("(objectClass=*)").map_err(bad)?,
            attributes: vec!["namingContexts".to_owned()],
            size_limit: 1,
            time_limit: 5,
        };
        let root = inquiry.search(server, &contexts, "namingContexts", patience).await?;
        if root.done.code != 0 {
            return Err(failure(server.endpoint(), "namingContexts", &root.done));
        }
        let named = root.entries.iter().flat_map(|entry| entry.values("namingContexts"));
        let mut bases: Vec<String> = named.map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        if bases.len() > MAX_CONTEXTS {
            let message = format!("{}: {} naming contexts", server.endpoint(), bases.len());
            return Err(Failure::new("too-much-work", message));
        }
        if bases.is_empty() {
            bases.push(String::new());
        }
        // Whom TLS proves is the domain's server only when DNSSEC proves that the domain named it.
        let proven = announced.secure && server.endpoint().encryption != Encryption::None;
        let believed = proven || self.settings.believe_absence;
        let shown = inquiry.name.clone();
        let mut none = None;
        let mut unsure = None;
        for base in bases {
            let search = search_for(&base, &shown, patience).map_err(bad)?;
            let answered = inquiry.search(server, &search, &shown, patience).await?;
            match conclude(&answered, server.endpoint(), subject.level, believed, false) {
                Ok(found @ Outcome::Found(_)) => return Ok(found),
                Ok(other) => none = Some(other),
                Err(failure) => unsure = Some(failure),
            }
        }
        match (unsure, none) {
            (None, Some(none)) => Ok(none),
            (Some(failure), _) => Err(failure),
            (None, None) => Err(Failure::new("ldap-error", "no naming context")),
        }
    }

    fn server(&self, endpoint: Endpoint) -> Arc<Server> {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        // Connections that nobody uses end by themselves; who uses one keeps its server.
        if servers.len() >= MAX_SERVERS && !servers.contains_key(&endpoint) {
            servers.clear();
        }
        let AnnouncedSettings { tls, reach, .. } = &self.settings;
        let new = || Arc::new(Server::new(endpoint.clone(), None, tls.clone(), reach.clone(), Ports::Announced));
        Arc::clone(servers.entry(endpoint.clone()).or_insert_with(new))
    }
}

impl Source for AnnouncedDirectories {
    fn label(&self) -> &str {
        "_ldap._tcp"
    }

    fn find<'a>(&'a self, subject: &'a Subject, now: UnixTime) -> Asking<'a> {
        Box::pin(async move {
            // Direct agents publish a domain's certificate under `mail=<domain>`.
            let template = match subject.level {
                Level::Recipient => "(mail={address})",
                Level::Domain => "(|(mail={address})(mail={domain}))",
            };
            let mut inquiry = Inquiry::new(filter::fill(template, &subject.mailbox()), now);
            let result = timeout(self.settings.timeout, self.ask(&mut inquiry, subject)).await;
            let late = |_| Failure::new("timeout", "the announced directory did not answer in time");
            let (found, absent) = self.settings.life;
            let (outcome, until) = match result.map_err(late).and_then(|result| result) {
                Ok((outcome @ Outcome::Found(_), until)) => (outcome, until.min(now.saturating_add(found))),
                Ok((outcome, until)) => (outcome, until.min(now.saturating_add(absent))),
                Err(failure) => (Outcome::Error(failure), now.saturating_add(FAILURE_LIFE)),
            };
            inquiry.answer(self.label(), outcome, until)
        })
    }
}
