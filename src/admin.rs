//! `certdir domain` and `certdir token`.

use certdir_directory::{Authority, CertData, DomainStatus, Hosting, Settings, Store, TokenRow};
use serde_json::json;

use crate::arguments::{CertDataChoice, DomainCommand, Everywhere, HostingChoice, TokenCommand};
use crate::clock::now;
use crate::error::{Error, Exit};
use crate::output::{Output, date};
use crate::publish::{Target, open_existing};
use crate::remote::Directory;

/// `certdir domain …`
pub(crate) async fn domain(everywhere: &Everywhere, command: DomainCommand) -> Result<Exit, Error> {
    let output = Output { json: everywhere.json };
    match command {
        DomainCommand::Add { domain, hosting, cert_data, ttl, name_servers, exact_only, remote } => {
            let mut settings = Settings::for_domain(&domain);
            settings.hosting = match hosting {
                HostingChoice::Smimecert => Hosting::Smimecert,
                HostingChoice::Mail => Hosting::Mail,
            };
            settings.cert_form = match cert_data {
                CertDataChoice::Rfc4398 => CertData::Rfc4398,
                CertDataChoice::Der => CertData::Der,
            };
            settings.ttl = ttl.unwrap_or(settings.ttl);
            settings.lower_case = !exact_only;
            if !name_servers.is_empty() {
                settings.name_servers = name_servers;
            }
            let status = match &remote.url {
                Some(url) => {
                    let settings = serde_json::to_value(&settings).map_err(std::io::Error::other)?;
                    Directory::new(url, remote.token.as_deref())?.add_domain(domain.as_str(), &settings)?
                }
                // The first domain makes the data folder.
                None => {
                    Store::open(&everywhere.data)
                        .await?
                        .add_domain(&domain, settings, &Authority::Operator, now())
                        .await?
                }
            };
            print_domain(output, &status)?;
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
    output.line(format!(
        "TTL {} seconds; lower-case variants {}",
        status.settings.ttl,
        if status.settings.lower_case { "published" } else { "not published" }
    ))?;
    if status.settings.hosting == Hosting::Mail {
        output.line(format!(
            "\nThe whole of {} is answered from here. It has no other records yet (MX, A, TXT): delegate a name of its own, \
             such as direct.{0}, not the domain that people's mail arrives at.",
            status.name
        ))?;
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
