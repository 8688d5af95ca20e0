//! `certdir domain` and `certdir token`.

use std::io::Read;
use std::path::Path;

use certdir_directory::{Authority, CertData, Denial, DomainStatus, Fragment, Hosting, Settings, Store, TokenRow};
use serde_json::json;

use crate::arguments::{CertDataChoice, DenialChoice, DomainCommand, Everywhere, HostingChoice, TokenCommand};
use crate::clock::now;
use crate::error::{Error, Exit};
use crate::output::{Output, date};
use crate::publish::{Target, open_existing};
use crate::remote::Directory;

/// The longest master file that is read from standard input or a file; the directory itself takes less.
const MAX_FILE: u64 = 4 << 20;

/// `certdir domain …`
pub(crate) async fn domain(everywhere: &Everywhere, command: DomainCommand) -> Result<Exit, Error> {
    let output = Output { json: everywhere.json };
    match command {
        DomainCommand::Add {
            domain,
            hosting,
            cert_data,
            ttl,
            name_servers,
            exact_only,
            denial,
            ldap_server,
            certificate_store_server,
            push_server,
            records,
            remote,
        } => {
            let mut settings = Settings::for_domain(&domain);
            settings.hosting = match hosting {
                HostingChoice::Smimecert => Hosting::Smimecert,
                HostingChoice::Mail => Hosting::Mail,
            };
            settings.cert_form = cert_form(cert_data);
            settings.ttl = ttl.unwrap_or(settings.ttl);
            settings.lower_case = !exact_only;
            settings.denial = denial_of(denial);
            settings.ldap_server = ldap_server;
            settings.certificate_store_server = certificate_store_server;
            settings.push_server = push_server;
            if !name_servers.is_empty() {
                settings.name_servers = name_servers;
            }
            let records = records.map(|file| records_of(&file)).transpose()?.unwrap_or_default();
            let status = match &remote.url {
                Some(url) => {
                    let settings = serde_json::to_value(&settings).map_err(std::io::Error::other)?;
                    Directory::new(url, remote.token.as_deref())?.add_domain(domain.as_str(), &settings, &records)?
                }
                // The first domain makes the data folder.
                None => {
                    let store = Store::open(&everywhere.data).await?;
                    store.add_domain_with(&domain, settings, &records, &Authority::Operator, now()).await?
                }
            };
            print_domain(output, &status)?;
        }
        DomainCommand::Change {
            domain,
            ttl,
            name_servers,
            cert_data,
            exact_only,
            denial,
            ldap_server,
            certificate_store_server,
            push_server,
            remote,
        } => {
            let mut changes = serde_json::Map::new();
            let mut put = |name: &str, value: Option<serde_json::Value>| {
                value.map(|value| changes.insert(name.into(), value));
            };
            put("ttl", ttl.map(|ttl| json!(ttl)));
            put("name_servers", (!name_servers.is_empty()).then(|| json!(name_servers)));
            put("cert_form", cert_data.map(|data| json!(cert_form(data))));
            put("lower_case", exact_only.map(|exact_only| json!(!exact_only)));
            put("denial", denial.map(|denial| json!(denial_of(denial))));
            let server = |server: String| if server == "none" { json!(null) } else { json!(server) };
            put("ldap_server", ldap_server.map(server));
            put("certificate_store_server", certificate_store_server.map(server));
            put("push_server", push_server.map(server));
            if changes.is_empty() {
                return Err(Error::Usage("nothing to change; see: certdir domain change --help".into()));
            }
            let status = match Target::of(everywhere, &remote).await? {
                Target::Remote(directory) => directory.change_domain(domain.as_str(), &json!(changes))?,
                Target::Store(store) => store.change_domain(&domain, &changes, &Authority::Operator, now()).await?,
            };
            print_domain(output, &status)?;
        }
        DomainCommand::Records { domain, file, none, remote } if none || file.is_some() => {
            let text = file.map(|file| records_of(&file)).transpose()?.unwrap_or_default();
            let status = match Target::of(everywhere, &remote).await? {
                Target::Remote(directory) if none => directory.remove_records(domain.as_str())?,
                Target::Remote(directory) => directory.set_records(domain.as_str(), &text)?,
                Target::Store(store) => store.set_records(&domain, &text, &Authority::Operator, now()).await?,
            };
            output.document(&status)?;
            output.line(format!("{}: {} records given, serial {}", status.name, status.records, status.serial))?;
            for line in status.without_cert.iter().chain(&status.shared) {
                output.line(line)?;
            }
        }
        DomainCommand::Records { domain, remote, .. } => {
            let text = match Target::of(everywhere, &remote).await? {
                Target::Remote(directory) => directory.records(domain.as_str())?,
                Target::Store(store) => store.records(&domain).await?,
            };
            output.document(&json!({ "domain": domain.as_str(), "records": text }))?;
            output.line(text.trim_end())?;
        }
        DomainCommand::Remove { domain, yes, remote } => {
            if !yes {
                return Err(Error::Usage(format!(
                    "this takes {domain} and all its certificates out of every view; if that is meant, add --yes"
                )));
            }
            match Target::of(everywhere, &remote).await? {
                Target::Remote(directory) => directory.remove_domain(domain.as_str())?,
                Target::Store(store) => store.remove_domain(&domain, &Authority::Operator, now()).await?,
            }
            output.document(&json!({ "removed": domain.as_str() }))?;
            output.line(format!("removed {domain}; take its NS and DS records out of the parent zone"))?;
        }
        DomainCommand::List => {
            for status in open_existing(everywhere).await?.domains().await? {
                output.document(&status)?;
                output.line(format!(
                    "{}\tzone {}\tserial {}\t{}",
                    status.name,
                    status.apex,
                    status.serial,
                    counts(&status)
                ))?;
            }
        }
        DomainCommand::Show { domain } => {
            print_domain(output, &open_existing(everywhere).await?.domain(&domain).await?)?
        }
    }
    Ok(Exit::Done)
}

fn cert_form(choice: CertDataChoice) -> CertData {
    match choice {
        CertDataChoice::Rfc4398 => CertData::Rfc4398,
        CertDataChoice::Der => CertData::Der,
    }
}

fn denial_of(choice: DenialChoice) -> Denial {
    match choice {
        DenialChoice::Minimal => Denial::Minimal,
        DenialChoice::Chain => Denial::Chain,
    }
}

/// A master file with records, or standard input.
fn records_of(path: &Path) -> Result<String, Error> {
    let mut octets = Vec::new();
    let read = |from: &mut dyn Read, octets: &mut Vec<u8>| from.take(MAX_FILE).read_to_end(octets);
    let result = match path.to_str() {
        Some("-") => read(&mut std::io::stdin().lock(), &mut octets),
        _ => std::fs::File::open(path).and_then(|mut file| read(&mut file, &mut octets)),
    };
    result.map_err(|error| Error::Usage(format!("{}: {error}", path.display())))?;
    Ok(Fragment::text(octets)?)
}

fn print_domain(output: Output, status: &DomainStatus) -> Result<(), Error> {
    output.document(status)?;
    output.line(format!(
        "{}: zone {}, serial {}, since {}",
        status.name,
        status.apex,
        status.serial,
        date(status.added_at)
    ))?;
    output.line(format!("certificates: {}", counts(status)))?;
    let settings = &status.settings;
    output.line(format!(
        "TTL {} seconds; lower-case variants {}; denial {}; push server {}",
        settings.ttl,
        if settings.lower_case { "published" } else { "not published" },
        match settings.denial {
            Denial::Minimal => "minimal (nobody can list the zone)",
            Denial::Chain => "by the full NSEC3 chain",
        },
        settings.push_server.as_deref().unwrap_or("none")
    ))?;
    if settings.hosting == Hosting::Mail {
        output.line(format!(
            "CERT data: {}; LDAP server {}; certificate store {}; other records: {}",
            match settings.cert_form {
                CertData::Rfc4398 => "as RFC 4398 says",
                CertData::Der => "bare DER",
            },
            settings.ldap_server.as_deref().unwrap_or("none"),
            settings.certificate_store_server.as_deref().unwrap_or("none"),
            status.records
        ))?;
        if status.records == 0 {
            output.line(format!(
                "\nThe whole of {} is answered from here, and it has no other records yet (MX, A, TXT). Give them before it is \
                 delegated: certdir domain records {0} FILE",
                status.name
            ))?;
        }
        for line in status.without_cert.iter().chain(&status.shared) {
            output.line(line)?;
        }
    }
    output.line("\nThe parent zone needs:")?;
    for record in status.ns.iter().chain([&status.ds]) {
        output.line(format!("  {record}"))?;
    }
    output.line("\nThe trust anchor, for tests before the parent has the DS:")?;
    output.line(format!("  {}", status.dnskey))
}

fn counts(status: &DomainStatus) -> String {
    if status.certificates.is_empty() {
        return "none yet".into();
    }
    status
        .certificates
        .iter()
        .map(|(state, count)| format!("{count} {}", state.as_str()))
        .collect::<Vec<_>>()
        .join(", ")
}

/// `certdir token …`
pub(crate) async fn token(everywhere: &Everywhere, command: TokenCommand) -> Result<Exit, Error> {
    let output = Output { json: everywhere.json };
    match command {
        TokenCommand::Add { role, domains, name, remote } => {
            let (row, text) = match Target::of(everywhere, &remote).await? {
                Target::Store(store) => store.add_token(&name, role, &domains, &Authority::Operator, now()).await?,
                Target::Remote(directory) => {
                    let domains: Vec<String> = domains.iter().map(ToString::to_string).collect();
                    directory.add_token(&name, role.as_str(), &domains)?
                }
            };
            output.document(
                &json!({ "token": text, "id": row.id, "role": row.role, "domains": row.domains, "name": row.name }),
            )?;
            output.line(text)?;
        }
        TokenCommand::List => {
            for row in open_existing(everywhere).await?.tokens(&Authority::Operator).await? {
                output.document(&row)?;
                output.line(line(&row))?;
            }
        }
        TokenCommand::Revoke { id, remote } => {
            match Target::of(everywhere, &remote).await? {
                Target::Store(store) => store.revoke_token(&id, &Authority::Operator, now()).await?,
                Target::Remote(directory) => directory.revoke_token(&id)?,
            }
            output.document(&json!({ "revoked": id }))?;
            output.line(format!("revoked {id}"))?;
        }
    }
    Ok(Exit::Done)
}

fn line(row: &TokenRow) -> String {
    let domains = if row.domains.is_empty() { "every domain".into() } else { row.domains.join(" ") };
    let state = row.revoked_at.map_or("valid".into(), |at| format!("revoked {}", date(at)));
    format!("{}\t{}\t{domains}\t{}\tsince {}\t{state}", row.id, row.role.as_str(), row.name, date(row.added_at))
}
