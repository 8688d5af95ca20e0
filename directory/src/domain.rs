//! [`Settings`]: how a hosted domain is published.

use certdir_zones::{CertForm, DomainName, Name, smimecert_name};
use serde::{Deserialize, Serialize};

use crate::error::Error;

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
        }
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
            // Its address would have to stand in the zone, which has no host records.
            if host.name().is_at_or_below(&apex) {
                return Err(Error::Setting(format!(
                    "the name server {host} lies in the zone {apex} itself, which holds no addresses; give one elsewhere with --name-server"
                )));
            }
            *server = host.name().to_string();
        }
        Ok(self)
    }

    pub(crate) fn server_names(&self) -> Result<Vec<Name>, Error> {
        self.name_servers.iter().map(|text| Ok(Name::parse(text)?)).collect()
    }
}
