//! [`Settings`]: how a hosted domain is published.

use certdir_zones::{CertForm, DomainName, Name, smimecert_name};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::records::APEX_TTL;

/// How a hosted domain is published. Kept in the store as JSON; a field added later needs a default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What was delegated to this directory.
    pub hosting: Hosting,
    /// The form of CERT data.
    pub cert_form: CertData,
    /// Whether the lower-case variant of a local part is published beside the exact one (RFC 8162 section 4).
    pub lower_case: bool,
    /// TTL of certificate records and of denials, in seconds. Also how long a gateway may go on using the certificate before a reissue.
    pub ttl: u32,
    /// Host names of the zone's name servers; the first is the primary.
    pub name_servers: Vec<String>,
    /// How the zone proves what it has not.
    #[serde(default)]
    pub denial: Denial,
    /// The LDAP server that `_ldap._tcp.<domain>` names, as `host:port`; for a hosted mail domain only.
    #[serde(default)]
    pub ldap_server: Option<String>,
    /// The HTTP certificate store (RFC 4387) that `_certificates._tcp.<domain>` names, as `host:port`; for a hosted mail domain
    /// only.
    #[serde(default)]
    pub certificate_store_server: Option<String>,
    /// The server of DNS Push Notifications that `_dns-push-tls._tcp.<apex>` names, as `host:port` (RFC 8765 section 6.1): this
    /// program's DNS over TLS, as the world reaches it.
    #[serde(default)]
    pub push_server: Option<String>,
}

/// A server that the zone announces by an SRV record (RFC 2782).
pub(crate) struct Announced {
    /// Where the record stands.
    pub(crate) owner: Name,
    pub(crate) host: Name,
    pub(crate) port: u16,
    /// What it is called.
    pub(crate) what: &'static str,
    /// The flag that sets it.
    pub(crate) flag: &'static str,
}

/// How a zone proves what it has not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Denial {
    /// By NSEC3 records made for the question, which cover as little as they can: nobody can list the zone.
    #[default]
    Minimal,
    /// By the full NSEC3 chain, kept like other records: for zones that are transferred.
    Chain,
}

/// What was delegated to this directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hosting {
    /// Only `_smimecert.<domain>`: the customer changes nothing else.
    Smimecert,
    /// The mail domain itself; CERT records (RFC 4398) are published, too.
    Mail,
}

/// The form of CERT data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CertData {
    /// RFC 4398 section 2.1: the userCertificate OID, then the DER.
    Rfc4398,
    /// Bare DER, which is what Direct software writes and reads.
    Der,
}

/// The longest TTL a domain may choose: one day.
const MAX_TTL: u32 = 86_400;
/// The shortest: below it every look-up of a busy gateway goes to the network.
const MIN_TTL: u32 = 10;
/// The port of LDAP (RFC 4511 section 5.2.1).
const LDAP_PORT: u16 = 389;
/// The port of HTTP.
const HTTP_PORT: u16 = 80;
/// The port of DNS over TLS (RFC 7858 section 3.1).
const PUSH_PORT: u16 = 853;
/// What a push server is called.
const PUSH_SERVER: &str = "server of push notifications";
/// The most name servers a zone may have.
const MAX_NAME_SERVERS: usize = 13;

impl Settings {
    /// The default settings of a domain: `_smimecert` hosted, TTL 300, name server `ns1.<domain>`.
    pub fn for_domain(domain: &DomainName) -> Settings {
        Settings {
            hosting: Hosting::Smimecert,
            cert_form: CertData::Rfc4398,
            lower_case: true,
            ttl: 300,
            name_servers: vec![format!("ns1.{domain}.")],
            denial: Denial::Minimal,
            ldap_server: None,
            certificate_store_server: None,
            push_server: None,
        }
    }

    /// These settings with others put over them by name. Errors: a name or a value that is none.
    pub fn with(&self, changes: &serde_json::Map<String, serde_json::Value>) -> Result<Settings, Error> {
        let refuse = |error: serde_json::Error| Error::Setting(error.to_string());
        let mut all = serde_json::to_value(self).map_err(refuse)?;
        if let Some(all) = all.as_object_mut() {
            all.extend(changes.clone());
        }
        serde_json::from_value(all).map_err(refuse)
    }

    /// The apex of the domain's zone.
    pub fn apex(&self, domain: &DomainName) -> Name {
        match self.hosting {
            Hosting::Smimecert => smimecert_name(domain),
            Hosting::Mail => domain.name().clone(),
        }
    }

    pub(crate) fn cert_form(&self) -> CertForm {
        match self.cert_form {
            CertData::Rfc4398 => CertForm::Rfc4398,
            CertData::Der => CertForm::BareDer,
        }
    }

    /// Checks them and writes the name servers in their canonical form.
    pub(crate) fn checked(mut self, domain: &DomainName) -> Result<Settings, Error> {
        let apex = self.apex(domain);
        if !(MIN_TTL..=MAX_TTL).contains(&self.ttl) {
            return Err(Error::Setting(format!("a TTL lies between {MIN_TTL} and {MAX_TTL} seconds")));
        }
        if self.name_servers.is_empty() || self.name_servers.len() > MAX_NAME_SERVERS {
            return Err(Error::Setting(format!("a zone has 1 to {MAX_NAME_SERVERS} name servers (--name-server)")));
        }
        for server in &mut self.name_servers {
            let host = DomainName::parse(server).map_err(|_| {
                Error::Setting(format!("{server:?} is not a host name; give one such as ns1.example.net"))
            })?;
            // Its address would have to stand in the zone, which has no host records; a mail domain's records may hold it.
            if self.hosting == Hosting::Smimecert && host.name().is_at_or_below(&apex) {
                return Err(Error::Setting(format!(
                    "the name server {host} lies in the zone {apex} itself, which holds no addresses; give one elsewhere with --name-server"
                )));
            }
            *server = host.name().to_string();
        }
        for (server, what, service, default) in [
            (&mut self.ldap_server, "LDAP server", "_ldap", LDAP_PORT),
            (&mut self.certificate_store_server, "certificate store", "_certificates", HTTP_PORT),
        ] {
            let Some(text) = server else { continue };
            if self.hosting != Hosting::Mail {
                return Err(Error::Setting(format!(
                    "{service}._tcp.{domain} lies outside the zone {apex}: the {what} is announced by whoever hosts {domain}"
                )));
            }
            let (host, port) = host_and_port(text, what, default)?;
            *server = Some(format!("{host}:{port}"));
        }
        if let Some(server) = &mut self.push_server {
            let (host, port) = host_and_port(server, PUSH_SERVER, PUSH_PORT)?;
            *server = format!("{host}:{port}");
        }
        Ok(self)
    }

    /// The servers that the zone of a domain announces.
    pub(crate) fn announced(&self, domain: &DomainName) -> Result<Vec<Announced>, Error> {
        let mut all = Vec::new();
        let (mail, apex) = (domain.name(), &self.apex(domain));
        for (server, what, label, at, default, flag) in [
            (&self.ldap_server, "LDAP server", &b"_ldap"[..], mail, LDAP_PORT, "--ldap-server"),
            // RFC 4387 section 3.2
            (
                &self.certificate_store_server,
                "certificate store",
                b"_certificates",
                mail,
                HTTP_PORT,
                "--certificate-store-server",
            ),
            // RFC 8765 section 6.1: at the apex that the SOA record names, whatever was delegated.
            (&self.push_server, PUSH_SERVER, b"_dns-push-tls", apex, PUSH_PORT, "--push-server"),
        ] {
            let Some(text) = server else { continue };
            let (host, port) = host_and_port(text, what, default)?;
            let owner = at.prepend(b"_tcp")?.prepend(label)?;
            all.push(Announced { owner, host: host.name().clone(), port, what, flag });
        }
        Ok(all)
    }

    /// The TTL of denials: the smaller one of the SOA's TTL and its minimum field (RFC 9077 section 3).
    pub(crate) fn denial_ttl(&self) -> u32 {
        self.ttl.min(APEX_TTL)
    }

    pub(crate) fn server_names(&self) -> Result<Vec<Name>, Error> {
        self.name_servers.iter().map(|text| Ok(Name::parse(text)?)).collect()
    }
}

/// `host` or `host:port`.
fn host_and_port(text: &str, what: &str, default: u16) -> Result<(DomainName, u16), Error> {
    let refuse = || Error::Setting(format!("{text:?} is no {what}; give one such as host.example.org:{default}"));
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().map_err(|_| refuse())?),
        None => (text, default),
    };
    Ok((DomainName::parse(host).map_err(|_| refuse())?, port))
}
