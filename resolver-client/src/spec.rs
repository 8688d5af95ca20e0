//! A source in a resolver's order, as settings and the command line name it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use url::Url;

use crate::appraise::Trust;
use crate::error::Error;
use crate::folder::Folder;
use crate::ldap;
use crate::reach::Reach;
use crate::source::Source;
use crate::store::{self, Dialect};
use crate::tls::Tls;

/// One source and how far it is trusted. Made by its constructors or from text ([`Spec::parse`]).
#[derive(Clone)]
#[must_use]
pub struct Spec {
    pub(crate) kind: Kind,
    pub(crate) trust: Trust,
    /// Whether somebody said how far it is trusted.
    said: bool,
    pub(crate) harvested: bool,
}

#[derive(Clone)]
pub(crate) enum Kind {
    Smimea,
    Cert,
    Ldap(ldap::Settings),
    Store(store::Settings),
    AnnouncedDirectories(ldap::AnnouncedSettings),
    AnnouncedStores(store::AnnouncedSettings),
    Own(Arc<dyn Source>),
}

impl Spec {
    fn new(kind: Kind) -> Spec {
        Spec { kind, trust: Trust::Vouched, said: false, harvested: false }
    }

    /// SMIMEA records in DNS (RFC 8162).
    pub fn smimea() -> Spec {
        Spec::new(Kind::Smimea)
    }

    /// CERT records in the mail domain (RFC 4398), as the agents of the Direct Project ask for them.
    pub fn cert() -> Spec {
        Spec::new(Kind::Cert)
    }

    /// An LDAP directory.
    pub fn ldap(settings: ldap::Settings) -> Spec {
        Spec::new(Kind::Ldap(settings))
    }

    /// An HTTP server: a certificate store (RFC 4387), or a certdir.
    pub fn store(settings: store::Settings) -> Spec {
        Spec::new(Kind::Store(settings))
    }

    /// The LDAP directories that mail domains announce by `_ldap._tcp` SRV records, as the agents of the Direct Project ask
    /// them.
    pub fn announced_directories(settings: ldap::AnnouncedSettings) -> Spec {
        Spec::new(Kind::AnnouncedDirectories(settings))
    }

    /// The certificate stores that mail domains announce by `_certificates._tcp` SRV records (RFC 4387 section 3.2).
    pub fn announced_stores(settings: store::AnnouncedSettings) -> Spec {
        Spec::new(Kind::AnnouncedStores(settings))
    }

    /// A folder of certificates on this machine, which the operator vouches for.
    pub fn folder(path: impl Into<PathBuf>) -> Spec {
        Spec::own(Arc::new(Folder::new(path)))
    }

    /// A source of the gateway's own.
    pub fn own(source: Arc<dyn Source>) -> Spec {
        Spec::new(Kind::Own(source))
    }

    /// How far it is trusted; [`Trust::Vouched`] unless said otherwise, [`Trust::Chain`] of what was harvested.
    pub fn trust(self, trust: Trust) -> Spec {
        Spec { trust, said: true, ..self }
    }

    /// What it holds was harvested from mail, say: it is asked last, every other source beats it, and it needs a chain
    /// unless [`Spec::trust`] says otherwise, before or after: anybody can mail a certificate that names somebody else.
    pub fn harvested(self) -> Spec {
        let trust = if self.said { self.trust } else { Trust::Chain };
        Spec { harvested: true, trust, ..self }
    }

    /// Whom the servers of an LDAP directory or an HTTP server must prove to be.
    pub fn tls(mut self, tls: Tls) -> Spec {
        match &mut self.kind {
            Kind::Ldap(settings) => settings.tls = tls,
            Kind::Store(settings) => settings.tls = tls,
            Kind::AnnouncedDirectories(settings) => settings.tls = tls,
            Kind::AnnouncedStores(settings) => settings.tls = tls,
            Kind::Smimea | Kind::Cert | Kind::Own(_) => {}
        }
        self
    }

    /// Where announced servers may be, beside public addresses.
    pub fn reach(mut self, reach: Reach) -> Spec {
        match &mut self.kind {
            Kind::AnnouncedDirectories(settings) => settings.reach = reach,
            Kind::AnnouncedStores(settings) => settings.reach = reach,
            Kind::Smimea | Kind::Cert | Kind::Ldap(_) | Kind::Store(_) | Kind::Own(_) => {}
        }
        self
    }

    /// Reads the text form, see `docs/resolver.md`:
    ///
    /// * `smimea`, `cert`: records in DNS;
    /// * `ldap://host/base`, `ldap+starttls://host/base`, `ldaps://host/base`, with a filter as in RFC 4516: `ldap://host/base??sub?(mail={address})`;
    /// * `certdir:https://host`, `store:https://host/path` (RFC 4387);
    /// * `announced-ldap`, `announced-store`: servers that mail domains announce by SRV records;
    /// * `folder:/path`.
    ///
    /// The words `vouched:`, `or-chain:` and `chain:` ([`Trust`]) and `harvested:` may stand before it, in any order.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn parse(text: &str) -> Result<Spec, Error> {
        let unknown = || Error::BadSource(format!("{:?} is none; the forms are in docs/resolver.md", shortened(text)));
        match text.split_once(':') {
            Some(("vouched", rest)) => Ok(Spec::parse(rest)?.trust(Trust::Vouched)),
            Some(("chain", rest)) => Ok(Spec::parse(rest)?.trust(Trust::Chain)),
            Some(("or-chain", rest)) => Ok(Spec::parse(rest)?.trust(Trust::VouchedOrChain)),
            Some(("harvested", rest)) => Ok(Spec::parse(rest)?.harvested()),
            Some(("ldap" | "ldap+starttls" | "ldaps", _)) => Ok(Spec::ldap(directory(text)?)),
            Some(("certdir", url)) => Ok(Spec::store(store::Settings::new(Dialect::Certdir, url)?)),
            Some(("store", url)) => Ok(Spec::store(store::Settings::new(Dialect::Store, url)?)),
            Some(("folder", path)) if !path.is_empty() => Ok(Spec::folder(path)),
            None if text == "smimea" => Ok(Spec::smimea()),
            None if text == "cert" => Ok(Spec::cert()),
            None if text == "announced-ldap" => Ok(Spec::announced_directories(ldap::AnnouncedSettings::new()?)),
            None if text == "announced-store" => Ok(Spec::announced_stores(store::AnnouncedSettings::new()?)),
            _ => Err(unknown()),
        }
    }
}

/// An LDAP URL (RFC 4516 section 2): server, base and filter; the rest must be as it is by default.
fn directory(text: &str) -> Result<ldap::Settings, Error> {
    let bad = |what: &str| Error::BadSource(format!("{:?}: {what}", shortened(text)));
    let url = Url::parse(text).map_err(|error| bad(&error.to_string()))?;
    let decoded = |part: &str| {
        let octets = percent_decoded(part).ok_or_else(|| bad("a broken percent-encoding"))?;
        String::from_utf8(octets).map_err(|_| bad("it is not UTF-8"))
    };
    let host = url.host_str().ok_or_else(|| bad("there is no host in it"))?;
    let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
    let server = format!("{}://{host}{port}", url.scheme());
    let base = decoded(url.path().trim_start_matches('/'))?;
    let mut settings = ldap::Settings::new(&[&server], &base)?;
    // attributes ? scope ? filter ? extensions
    let parts: Vec<&str> = url.query().unwrap_or_default().split('?').collect();
    for (place, part) in parts.into_iter().enumerate() {
        match (place, part) {
            (_, "") | (1, "sub") => {}
            (2, filter) => settings.filter = decoded(filter)?,
            _ => return Err(bad("only the scope sub and a filter may be given")),
        }
    }
    Ok(settings)
}

fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        rest = more;
        if *first != b'%' {
            octets.push(*first);
            continue;
        }
        let (hex, more) = rest.split_at_checked(2)?;
        octets.push(u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?);
        rest = more;
    }
    Some(octets)
}

/// What is shown of text that somebody gave.
fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

impl fmt::Debug for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.kind {
            Kind::Smimea => "smimea",
            Kind::Cert => "cert",
            Kind::Ldap(_) => "ldap",
            Kind::AnnouncedDirectories(_) => "announced-ldap",
            Kind::AnnouncedStores(_) => "announced-store",
            Kind::Store(_) => "store",
            Kind::Own(source) => source.label(),
        };
        f.debug_struct("Spec")
            .field("source", &kind)
            .field("trust", &self.trust)
            .field("harvested", &self.harvested)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_forms_are_read() {
        for (text, expected) in [
            ("smimea", "smimea Vouched false"),
            ("cert", "cert Vouched false"),
            ("or-chain:smimea", "smimea VouchedOrChain false"),
            ("harvested:chain:folder:/var/mail", "folder:/var/mail Chain true"),
            // Whoever mails a certificate vouches for nothing.
            ("harvested:folder:/var/mail", "folder:/var/mail Chain true"),
            ("harvested:vouched:folder:/var/mail", "folder:/var/mail Vouched true"),
            ("vouched:harvested:folder:/var/mail", "folder:/var/mail Vouched true"),
            ("or-chain:harvested:cert", "cert VouchedOrChain true"),
            ("vouched:folder:/var/keys", "folder:/var/keys Vouched false"),
            ("ldaps://directory.example.org/dc=example,dc=org", "ldap Vouched false"),
            ("ldap+starttls://directory.example.org:1389/dc=example,dc=org", "ldap Vouched false"),
            ("announced-ldap", "announced-ldap Vouched false"),
            ("chain:announced-store", "announced-store Chain false"),
            ("certdir:https://directory.example.org", "store Vouched false"),
            ("store:http://certificates.example.org/search.cgi", "store Vouched false"),
        ] {
            let spec = Spec::parse(text).unwrap();
            let label = match &spec.kind {
                Kind::Own(source) => source.label().to_owned(),
                Kind::Smimea => "smimea".to_owned(),
                Kind::Cert => "cert".to_owned(),
                Kind::Ldap(_) => "ldap".to_owned(),
                Kind::Store(_) => "store".to_owned(),
                Kind::AnnouncedDirectories(_) => "announced-ldap".to_owned(),
                Kind::AnnouncedStores(_) => "announced-store".to_owned(),
            };
            assert_eq!(format!("{label} {:?} {}", spec.trust, spec.harvested), expected);
        }
        for bad in
            ["", "dns", "folder:", "chain:", "chain:dns", "ldap://", "ldap://h/b?cn", "ldap://h/b??base", "http://h"]
        {
            assert!(Spec::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ldap_urls_name_server_base_and_filter() {
        let url = "ldap://h.example:1389/ou=p%20e,dc=example??sub?(&(mail={address})(objectClass=person))";
        let settings = directory(url).unwrap();
        assert_eq!(settings.base, "ou=p e,dc=example");
        assert_eq!(settings.filter, "(&(mail={address})(objectClass=person))");
        assert_eq!((settings.servers[0].host.as_str(), settings.servers[0].port), ("h.example", 1389));
    }
}
