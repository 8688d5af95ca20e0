//! What is there: `certdir show`, `history`, `list`, `changes` and `zone`.

use std::io::Write;
use std::time::Duration;

use certdir_directory::{
    Address, Authority, Cursor, Follower, HistoryRow, INCEPTION_SKEW, ListFilter, Publication, Shown,
};
use certdir_zones::{Validity, write_trust_anchors, write_zone};
use serde_json::json;

use crate::arguments::{Everywhere, List, Remote, ZoneCommand};
use crate::clock::{clock, now};
use crate::error::{Error, Exit};
use crate::output::{Output, date, short};
use crate::publish::open_existing;
use crate::remote::Directory;

/// Rows read at once.
const PAGE: u32 = 1_000;
/// How often `changes --follow` looks.
const FOLLOW: Duration = Duration::from_millis(200);
/// How long `changes --follow` waits before it looks for a directory that was lost.
const RECONNECT: Duration = Duration::from_secs(1);
/// What a directory says, or what is said of it, while it is away for a moment.
const LOST: [&str; 5] = ["unreachable", "not-ready", "stale", "store", "time-limit"];
/// How long the signatures that only an export has are valid: the NSEC3 chain. As long as the stored ones at most.
const EXPORT_VALIDITY: i64 = certdir_directory::SIGNATURE_LIFETIME;

/// What each view serves for an address.
pub(crate) async fn show(everywhere: &Everywhere, address: &Address) -> Result<Exit, Error> {
    let output = Output { json: everywhere.json };
    let shown = open_existing(everywhere).await?.show(address).await?;
    output.document(&shown)?;
    if !output.json {
        output.always(show_text(&shown, address).trim_end())?;
    }
    Ok(Exit::Done)
}

fn show_text(shown: &Shown, address: &Address) -> String {
    let mut text = match shown.version {
        0 => format!("{}: never published\n", shown.address),
        version => format!("{}: last changed with version {version}\n", shown.address),
    };
    for row in &shown.certificates {
        text.push_str(&format!(
            "\ncertificate {}\n  subject {}\n  issuer  {}\n  serial  {}\n  key     {}\n  valid   {} to {}\n",
            row.sha256,
            row.subject,
            row.issuer,
            row.serial,
            row.key,
            date(row.not_before),
            date(row.not_after),
        ));
        if row.asserted {
            text.push_str("  asserted by the publisher; the certificate does not name this address\n");
        }
    }
    let records = if shown.records.is_empty() { &shown.domain_records } else { &shown.records };
    if shown.records.is_empty() {
        text.push_str(match shown.domain_records.is_empty() {
            true => "\nnothing is published for it\n",
            false => "\nit has no record of its own; the domain's certificate applies\n",
        });
    }
    if !records.is_empty() {
        text.push_str("\nDNS\n");
        for record in records {
            text.push_str(&format!(
                "  {} {} {} (signature ends {})\n",
                record.owner,
                record.ttl,
                record.rtype,
                date(record.expiration.into())
            ));
        }
    }
    let base: Vec<String> = address.domain().as_str().split('.').map(|label| format!("dc={label}")).collect();
    if !shown.certificates.is_empty() {
        text.push_str(&format!("LDAP\n  base {} filter (mail={})\n", base.join(","), shown.address));
        text.push_str(&format!("HTTP\n  /v1/addresses/{}\n", shown.address));
    }
    text
}

/// Every certificate there ever was for an address.
pub(crate) async fn history(everywhere: &Everywhere, address: &Address) -> Result<Exit, Error> {
    let output = Output { json: everywhere.json };
    let rows = open_existing(everywhere).await?.history(address, &Authority::Operator).await?;
    if rows.is_empty() {
        let what = format!("{address} was never published here; see: certdir list");
        return Err(certdir_directory::Error::NotFound(what).into());
    }
    for row in rows {
        output.document(&row)?;
        let ended = row.ended_at.map(|at| format!("\tended {}", date(at))).unwrap_or_default();
        let reason = row.reason.as_ref().map(|reason| format!("\t{reason}")).unwrap_or_default();
        output.line(format!(
            "{}\tadded {} (version {}){ended}{reason}",
            line(&row),
            date(row.added_at),
            row.added_version
        ))?;
    }
    Ok(Exit::Done)
}

/// The current and coming certificates.
pub(crate) async fn list(everywhere: &Everywhere, arguments: List) -> Result<Exit, Error> {
    let output = Output { json: everywhere.json };
    let store = open_existing(everywhere).await?;
    let mut filter = ListFilter {
        domain: arguments.domain,
        state: arguments.state,
        ends_before: arguments.expiring.map(|seconds| now().saturating_add(seconds)),
        after: None,
    };
    loop {
        let rows = store.list(&filter, PAGE).await?;
        let full = rows.len() >= usize::try_from(PAGE).unwrap_or(usize::MAX);
        // The last mailbox of a full page may have more rows: it begins the next page, unless it fills this one alone.
        let last = rows.last().map(|row| row.address.clone());
        let cut = full && rows.first().map(|row| &row.address) != last.as_ref();
        let mut after = None;
        for row in rows.iter().filter(|row| !cut || Some(&row.address) != last.as_ref()) {
            output.document(row)?;
            output.line(line(row))?;
            let domain = row.address.rsplit('@').next().unwrap_or_default();
            after = Some((domain.to_string(), row.address.clone()));
        }
        if !full {
            return Ok(Exit::Done);
        }
        filter.after = after;
    }
}

fn line(row: &HistoryRow) -> String {
    let seen = if row.visible { "" } else { " (not visible)" };
    format!(
        "{}\t{}\t{}{seen}\tto {}\t{}",
        row.address,
        short(&row.sha256),
        row.state.as_str(),
        date(row.not_after),
        row.key
    )
}

/// The publication log.
pub(crate) async fn changes(
    everywhere: &Everywhere,
    since: Cursor,
    follow: bool,
    remote: &Remote,
) -> Result<Exit, Error> {
    let output = Output { json: everywhere.json };
    if let Some(url) = &remote.url {
        return remote_changes(output, &Directory::new(url, remote.token.as_deref())?, since, follow);
    }
    let store = open_existing(everywhere).await?;
    let known = store.cursor(since.version).await?;
    if known.is_none_or(|known| since.mark.is_some() && since.mark != known.mark) {
        return Err(Error::Usage(format!("this store has no Version {since}; begin anew without --since")));
    }
    let mut since = since.version;
    loop {
        let rows = store.publications_since(since, PAGE).await?;
        for row in &rows {
            output.document(row)?;
            output.line(change(row))?;
            since = row.version;
        }
        if rows.is_empty() {
            if !follow {
                return Ok(Exit::Done);
            }
            tokio::select! {
                _ = tokio::signal::ctrl_c() => return Ok(Exit::Done),
                () = tokio::time::sleep(FOLLOW) => {}
            }
        }
    }
}

/// What a running directory tells of its log.
fn remote_changes(output: Output, directory: &Directory, since: Cursor, follow: bool) -> Result<Exit, Error> {
    let mut since = since.to_string();
    let mut begun = false;
    loop {
        let page = match directory.changes(&since, begun && follow) {
            Ok(page) => page,
            // Who follows goes on when the directory is there again: the cursor says from where.
            Err(Error::Remote { code, message }) if begun && LOST.contains(&code.as_str()) => {
                tracing::warn!(code, "{message}");
                std::thread::sleep(RECONNECT);
                continue;
            }
            Err(error) => return Err(error),
        };
        begun = true;
        for row in &page.changes {
            output.document(row)?;
            output.line(remote_change(row))?;
        }
        since = page.cursor;
        if !page.more && !follow {
            return Ok(Exit::Done);
        }
    }
}

fn remote_change(row: &serde_json::Value) -> String {
    let text = |name: &str| row.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
    let version = row.get("version").and_then(serde_json::Value::as_u64).unwrap_or_default();
    let what = match text("address") {
        "" => text("domain").to_owned(),
        address => format!("{address}\t{}", short(text("sha256"))),
    };
    format!("{version}\t{}\t{}\t{what}", text("time"), text("kind"))
}

fn change(row: &Publication) -> String {
    let what = match &row.detail {
        Some(detail) if detail.sha256.is_empty() => row.domain.clone(),
        Some(detail) => format!("{}\t{}\tby {}", detail.address, short(&detail.sha256), detail.actor),
        None => format!("{}\terased", row.domain),
    };
    format!("{}\t{}\t{}\t{what}", row.version, date(row.at), row.action.as_str())
}

/// `certdir zone …`
pub(crate) async fn zone(everywhere: &Everywhere, command: ZoneCommand) -> Result<Exit, Error> {
    let output = Output { json: everywhere.json };
    let store = open_existing(everywhere).await?;
    let (domain, bind) = match &command {
        ZoneCommand::Export { domain } | ZoneCommand::Ds { domain } => (domain, false),
        ZoneCommand::Keys { domain, bind } => (domain, *bind),
    };
    let status = store.domain(domain).await?;
    if let ZoneCommand::Ds { .. } = command {
        output.document(&json!({ "domain": status.name, "ds": status.ds }))?;
        output.line(status.ds)?;
        return Ok(Exit::Done);
    }
    if !bind && matches!(command, ZoneCommand::Keys { .. }) {
        output.document(&json!({ "domain": status.name, "dnskey": status.dnskey }))?;
        output.line(status.dnskey)?;
        return Ok(Exit::Done);
    }
    // Where no server runs, nobody else renews signatures.
    while store.keep_up(now()).await? {}
    let (_, reader) = Follower::start(&store, clock()).await?;
    let published = reader.published()?;
    let missing = || certdir_directory::Error::UnknownDomain(domain.clone());
    let hosted = published.domain(domain).ok_or_else(missing)?;
    let zone = published.zone(&hosted.apex).ok_or_else(missing)?;
    let mut text = Vec::new();
    if bind {
        write_trust_anchors(&hosted.apex, zone.key(), &mut text)?;
    } else {
        let second = |at: i64| u32::try_from(at.rem_euclid(1 << 32)).unwrap_or(0);
        let validity =
            Validity { inception: second(now() - INCEPTION_SKEW), expiration: second(now() + EXPORT_VALIDITY) };
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        if !output.json {
            write_zone(zone, validity, &mut out)?;
            out.flush()?;
            return Ok(Exit::Done);
        }
        write_zone(zone, validity, &mut text)?;
    }
    let text = String::from_utf8_lossy(&text);
    output.document(&json!({ "domain": status.name, "text": text }))?;
    output.line(text.trim_end())?;
    Ok(Exit::Done)
}
