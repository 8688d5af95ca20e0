//! `certdir resolve`: the gateway library by hand.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use certdir_resolver::policy::Revocation;
use certdir_resolver::reach::Reach;
use certdir_resolver::tls::Tls;
use certdir_resolver::{Address, Feed, Policy, PushServer, Resolver, Rollover, Verdict, Watching, Way};
use futures_util::StreamExt;
use futures_util::stream::select_all;
use serde_json::json;

use crate::arguments::{self, Everywhere, Following, Resolve};
use crate::clock::now;
use crate::error::{Error, Exit};
use crate::output::{Output, date};

/// Looks addresses up; the exit code is that of the worst verdict.
pub(crate) async fn resolve(everywhere: &Everywhere, arguments: Resolve) -> Result<Exit, Error> {
    let output = Output { json: everywhere.json };
    let mut policy = Policy::default();
    policy.encrypt_to_all = arguments.all;
    policy.revocation = match arguments.revocation {
        arguments::Revocation::Hard => Revocation::Hard,
        arguments::Revocation::Soft => Revocation::Soft,
        arguments::Revocation::Off => Revocation::Off,
    };
    let reach = arguments.reach.into_iter().fold(Reach::public(), Reach::network);
    let reach = arguments.reach_ports.into_iter().fold(reach, Reach::port);
    let tls = match &arguments.following.tls_authorities {
        Some(file) => Tls::authorities(&read(file)?)?,
        None => Tls::public()?,
    };
    let mut builder = Resolver::builder(Arc::new(now))
        .timeout(Duration::from_secs(arguments.timeout))
        .policy(policy)
        .fetching(reach.clone(), Default::default());
    for server in &arguments.servers {
        builder = builder.server(*server);
    }
    for file in &arguments.trust_anchors {
        builder = builder.trust_anchor_file(file);
    }
    for arguments::Sources(tier) in arguments.sources {
        builder = builder.sources(tier.into_iter().map(|spec| spec.reach(reach.clone()).tls(tls.clone())));
    }
    for file in &arguments.authorities {
        builder = builder.authorities(&read(file)?)?;
    }
    for file in &arguments.intermediates {
        builder = builder.intermediates(&read(file)?)?;
    }
    if arguments.follow {
        let watching = watching(&arguments.following, tls, reach)?;
        return follow(output, &builder.watching(watching).build()?, &arguments.addresses).await;
    }
    let resolver = builder.build()?;
    let mut worst = Exit::Done;
    for address in &arguments.addresses {
        let verdict = resolver.resolve(address).await;
        worst = match (&verdict, worst) {
            (Verdict::Unknown { .. }, _) | (_, Exit::Unknown) => Exit::Unknown,
            (Verdict::None { .. }, _) => Exit::None,
            (Verdict::Use { .. }, worst) => worst,
        };
        if arguments.pem {
            for certificate in verdict.certificates() {
                output.always(certificate.to_pem().trim_end())?;
            }
            if verdict.certificates().is_empty() {
                complain(&verdict);
            }
            continue;
        }
        output.document(&document(&verdict))?;
        output.line(line(&verdict))?;
        if arguments.explain {
            output.line(verdict.trace().to_string().trim_end())?;
        }
    }
    Ok(worst)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::File { path: path.display().to_string(), source })
}

/// Prints every change until the program is stopped.
async fn follow(output: Output, resolver: &Resolver, addresses: &[Address]) -> Result<Exit, Error> {
    let streams = addresses.iter().map(|address| resolver.watch(address)).collect::<Result<Vec<_>, _>>()?;
    let mut rollovers = select_all(streams);
    while let Some(Rollover { new, via, at, .. }) = rollovers.next().await {
        let way = via.map_or("first", Way::code);
        let mut document = document(&new);
        if let Some(fields) = document.as_object_mut() {
            fields.insert("via".to_owned(), json!(way));
            fields.insert("at".to_owned(), json!(at));
        }
        output.document(&document)?;
        output.line(format!("{}\t{way}\t{}", date(at), line(&new)))?;
    }
    Ok(Exit::Done)
}

/// How changes are to be noticed.
fn watching(following: &Following, tls: Tls, reach: Reach) -> Result<Watching, Error> {
    let mut watching = Watching::new()?.tls(tls.clone()).reach(reach);
    if let Some(url) = &following.feed {
        let mut feed = Feed::new(url, tls.clone())?;
        if let Some(token) = &following.token {
            feed = feed.token(token)?;
        }
        watching = watching.feed(feed);
    }
    if let Some(address) = following.push_server {
        let name = following.push_name.clone().unwrap_or_else(|| address.ip().to_string());
        watching = watching.push_server(PushServer::new(address, name, tls));
    }
    Ok(watching)
}

#[expect(clippy::print_stderr, reason = "with --pem, standard output carries certificates and nothing else")]
fn complain(verdict: &Verdict) {
    eprintln!("{}", line(verdict));
}

fn document(verdict: &Verdict) -> serde_json::Value {
    let certificates: Vec<serde_json::Value> = match verdict {
        Verdict::Use { certificates, .. } => certificates
            .iter()
            .map(|certificate| {
                json!({
                    "sha256": data_encoding::HEXLOWER.encode(certificate.sha256()),
                    "subject": certificate.subject(),
                    "not_after": certificate.not_after(),
                    "pem": certificate.to_pem(),
                })
            })
            .collect(),
        Verdict::None { .. } | Verdict::Unknown { .. } => Vec::new(),
    };
    json!({ "verdict": verdict.code(), "certificates": certificates, "trace": verdict.trace() })
}

fn line(verdict: &Verdict) -> String {
    let address = verdict.trace().address;
    match verdict {
        Verdict::Use { matched, .. } => {
            let certificate = verdict.certificate().map(|certificate| {
                let sha256 = data_encoding::HEXLOWER.encode(certificate.sha256());
                format!("{sha256} {} until {}", certificate.subject(), date(certificate.not_after()))
            });
            format!("use\t{address}\t{}\t{}", matched.code(), certificate.unwrap_or_default())
        }
        Verdict::None { .. } => {
            let why = match verdict.reason() {
                "proven-none" => "proven: there is no certificate",
                "not-served" => "not served: the domain publishes nothing that can be trusted",
                "blocked" => "blocked: the domain says that there is none for this address",
                _ => "unusable: what is published must not be encrypted to; --explain says why",
            };
            format!("none\t{address}\t{why}")
        }
        Verdict::Unknown { failure, .. } => {
            format!("unknown\t{address}\t{failure}; ask again after {}", date(verdict.look_again()))
        }
    }
}
