//! `certdir publish` and `certdir withdraw`: batches to the store or to a running directory, a line for each certificate
//! once it is acknowledged.

use certdir_directory::{Address, Authority, Item, Outcome, PublishOptions, Report, Store, Submission, WithdrawTarget};
use data_encoding::HEXLOWER_PERMISSIVE;
use serde_json::json;

use crate::arguments::{Everywhere, Publish, Withdraw};
use crate::clock::now;
use crate::error::{Error, Exit};
use crate::output::{Output, plain, short};
use crate::reading::{Certificates, Found};
use crate::remote::Directory;

/// Certificates in one transaction: one commit (a few milliseconds) for each such batch.
const BATCH: usize = 500;
/// Octets of DER in a batch: as PEM it must fit the body that a running directory takes (4 MiB).
const BATCH_OCTETS: usize = 2 << 20;

/// Publishes what the paths hold.
pub(crate) async fn publish(everywhere: &Everywhere, arguments: Publish) -> Result<Exit, Error> {
    let output = Output { json: everywhere.json };
    let mut certificates = Certificates::of(&arguments.paths)?;
    let options = PublishOptions {
        addresses: arguments.addresses,
        domain_certificate: arguments.domain_certificate,
        authority_for: arguments.authority,
        restore: arguments.restore,
        dry_run: arguments.dry_run,
    };
    let target = Target::of(everywhere, &arguments.remote).await?;
    let (mut taken, mut refused) = (0, 0);
    loop {
        let mut batch: Vec<Submission> = Vec::new();
        let mut octets = 0;
        let mut more = false;
        for found in certificates.by_ref() {
            match found {
                Found::Certificate(submission) => {
                    octets += submission.der.len();
                    batch.push(submission);
                }
                Found::Bad { origin, code, message } => {
                    refused += 1;
                    print_refused(output, &origin, code, &message)?;
                }
            }
            if batch.len() == BATCH || octets >= BATCH_OCTETS {
                more = true;
                break;
            }
        }
        if !batch.is_empty() {
            let report = target.publish(batch, &options).await?;
            taken += report.items.len() - report.refused();
            refused += report.refused();
            print(output, &report, &options)?;
        }
        if !more {
            break;
        }
    }
    if taken + refused == 0 {
        return Err(Error::Usage("there is no certificate in what was given".into()));
    }
    Ok(match (taken, refused) {
        (0, _) => Exit::Nothing,
        (_, 0) => Exit::Done,
        _ => Exit::Partly,
    })
}

/// Takes certificates back.
pub(crate) async fn withdraw(everywhere: &Everywhere, arguments: Withdraw) -> Result<Exit, Error> {
    let output = Output { json: everywhere.json };
    let target = Target::of(everywhere, &arguments.remote).await?;
    let report = match target {
        Target::Store(store) => {
            let what = withdraw_target(&arguments.target)?;
            store.withdraw(what, arguments.reason, &Authority::Operator, now()).await?
        }
        Target::Remote(directory) => directory.withdraw(&withdraw_target(&arguments.target)?, arguments.reason)?,
    };
    print(output, &report, &PublishOptions::default())?;
    Ok(Exit::Done)
}

fn withdraw_target(text: &str) -> Result<WithdrawTarget, Error> {
    if text.contains('@') {
        return Ok(WithdrawTarget::Mailbox(Address::parse(text)?));
    }
    let octets = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).unwrap_or_default();
    octets.try_into().map(WithdrawTarget::Certificate).map_err(|_| {
        Error::Usage(format!(
            "{:?} is neither an address nor the 64 hexadecimal digits of a SHA-256; see: certdir list",
            text
        ))
    })
}

/// What a command changes.
#[expect(clippy::large_enum_variant, reason = "there is one for each run of a command")]
pub(crate) enum Target {
    /// The data folder.
    Store(Store),
    /// A running directory.
    Remote(Directory),
}

impl Target {
    pub(crate) async fn of(everywhere: &Everywhere, remote: &crate::arguments::Remote) -> Result<Target, Error> {
        Ok(match &remote.url {
            Some(url) => Target::Remote(Directory::new(url, remote.token.as_deref())?),
            None => Target::Store(open_existing(everywhere).await?),
        })
    }

    async fn publish(&self, batch: Vec<Submission>, options: &PublishOptions) -> Result<Report, Error> {
        match self {
            Target::Store(store) => Ok(store.publish(batch, options.clone(), &Authority::Operator, now()).await?),
            Target::Remote(directory) => directory.publish(batch, options),
        }
    }
}

/// The store of a data folder that has one.
pub(crate) async fn open_existing(everywhere: &Everywhere) -> Result<Store, Error> {
    if !Store::exists(&everywhere.data)? {
        return Err(Error::Usage(format!(
            "{} is no data folder of certdir; begin with: certdir domain add DOMAIN (or name the folder with --data)",
            everywhere.data.display()
        )));
    }
    Ok(Store::open(&everywhere.data).await?)
}

fn print(output: Output, report: &Report, options: &PublishOptions) -> Result<(), Error> {
    let mut text = String::new();
    for item in &report.items {
        if output.json {
            output.document(item)?;
            continue;
        }
        if item.outcome == Outcome::Refused {
            print_refused(output, &item.origin, item.code.as_deref().unwrap_or("refused"), &item.message)?;
            continue;
        }
        text.push_str(&line(item, options.dry_run));
    }
    if text.is_empty() { Ok(()) } else { output.always(text.trim_end()) }
}

/// `published 0123456789abcdef alice@example.org (version 7)`, then its warnings.
fn line(item: &Item, dry_run: bool) -> String {
    let sha256 = item.sha256.as_deref().map(short).unwrap_or("-");
    let would = if dry_run { "would be " } else { "" };
    let mut text = format!("{would}{} {sha256} {}", item.outcome.as_str(), item.addresses.join(" "));
    let message = (item.outcome != Outcome::Published).then(|| item.message.clone());
    let version = item.version.filter(|_| !dry_run).map(|version| format!("version {version}"));
    let notes: Vec<String> = message.into_iter().chain(version).collect();
    if !notes.is_empty() {
        text.push_str(&format!(" ({})", notes.join("; ")));
    }
    text.push('\n');
    for warning in &item.warnings {
        text.push_str(&format!("  warning: {warning}\n"));
    }
    text
}

#[expect(clippy::print_stderr, reason = "what was refused belongs to standard error")]
fn print_refused(output: Output, origin: &str, code: &str, message: &str) -> Result<(), Error> {
    if output.json {
        return output.document(&json!({ "origin": origin, "outcome": "refused", "code": code, "message": message }));
    }
    let text = format!("refused {origin}: {message} ({code})");
    eprintln!("{}", plain(&text).replace('\n', "\\u{a}"));
    Ok(())
}
