//! `certdir serve`: the store, its follower, upkeep and every front end, until told to stop.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use certdir_directory::{Allowance, Clock, Follower, Store};
use certdir_dns::Frontend as Dns;
use certdir_http::Frontend as Http;
use certdir_ldap::Frontend as Ldap;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::arguments::{Everywhere, Listen, Listener};
use crate::clock::{clock, now};
use crate::error::{Error, Exit};
use crate::output::Output;
use crate::tls::Tls;

/// How often upkeep looks for certificates that begin or end and for signatures due.
const UPKEEP: Duration = Duration::from_secs(1);
/// The pause after upkeep failed; the store said why.
const UPKEEP_PAUSE: Duration = Duration::from_secs(10);

/// Open files that suffice for the connections of all front ends with their default limits.
const OPEN_FILES: u64 = 8_192;

/// Runs the directory.
pub(crate) async fn serve(everywhere: &Everywhere, listen: Listen) -> Result<Exit, Error> {
    allow_open_files();
    let store = Store::open(&everywhere.data).await?;
    let frontends = Frontends::bind(&listen, &everywhere.data)?;
    frontends.run(store, &listen, Output { json: everywhere.json }, |_| Ok(())).await
}

/// Raises the limit of open files as far as this user may: the usual 1,024 are fewer than the connections that the front
/// ends take together.
fn allow_open_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most).map(|()| most));
    match raised {
        Ok(most) if most >= OPEN_FILES => {}
        Ok(most) => tracing::warn!(
            "only {most} open files are allowed (ulimit -Hn); {OPEN_FILES} are enough for every connection"
        ),
        Err(error) => tracing::warn!("the limit of open files cannot be raised: {error}"),
    }
}

/// Every front end, its sockets bound.
pub(crate) struct Frontends {
    pub(crate) dns: Dns,
    pub(crate) ldap: Ldap,
    pub(crate) http: Http,
    /// What their TLS shows; without a listener that has TLS there is none.
    tls: Option<Tls>,
}

impl Frontends {
    /// Binds every address. The certificate for TLS is made in the data folder when none is given.
    pub(crate) fn bind(listen: &Listen, data: &Path) -> Result<Frontends, Error> {
        let policy = listen.dns_policy.read(data)?;
        let subscriptions = listen.dns_subscriptions;
        let mut options = certdir_dns::Options { policy, subscriptions, ..certdir_dns::Options::default() };
        if listen.dns_workers > 0 {
            options.workers = listen.dns_workers;
        }
        let [dot, doq, https] = [&listen.dot, &listen.doq, &listen.https].map(|list| Listener::addresses(list));
        let secure = [dot.as_slice(), &doq, &https].concat();
        let mut dns = Dns::bind(&Listener::addresses(&listen.dns), options)?;
        let mut http = Http::bind(&Listener::addresses(&listen.http), certdir_http::Options::default())?;
        let mut tls = None;
        if !secure.is_empty() {
            let (chain, key) = (listen.tls_cert.as_deref(), listen.tls_key.as_deref());
            let shown = Tls::open(data, chain, key, &secure, now())?;
            dns = dns.with_tls(&dot, shown.config(&["dot"])?)?.with_quic(&doq, shown.config(&["doq"])?)?;
            http = http.with_tls(&https, shown.config(&["h2", "http/1.1"])?)?;
            tls = Some(shown);
        }
        let ldap = Ldap::bind(&Listener::addresses(&listen.ldap), certdir_ldap::Options::default())?;
        Ok(Frontends { dns, ldap, http, tls })
    }

    /// Serves until SIGINT or SIGTERM. `ready` is called once everything answers.
    pub(crate) async fn run(
        self,
        store: Store,
        listen: &Listen,
        output: Output,
        ready: impl FnOnce(&Self) -> Result<(), Error>,
    ) -> Result<Exit, Error> {
        let clock = clock();
        // Certificates that ended while nothing ran leave before anybody can ask for them. Signatures are renewed once there
        // are answers: a large zone would keep everybody waiting.
        while store.begin_and_end(clock()).await? {}
        let (follower, reader) = Follower::start(&store, clock.clone()).await?;
        let (stop, stopped) = watch::channel(false);
        let mut stopping = [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?];
        let version = reader.published()?.version();
        let nothing_hosted = reader.published()?.domains().next().is_none();
        for address in self.dns.addresses() {
            output.line(format!("listening dns udp {address}"))?;
            output.line(format!("listening dns tcp {address}"))?;
        }
        for address in self.dns.tls_addresses() {
            output.line(format!("listening dot {address}"))?;
        }
        for address in self.dns.quic_addresses() {
            output.line(format!("listening doq {address}"))?;
        }
        for address in self.ldap.addresses() {
            output.line(format!("listening ldap {address}"))?;
        }
        for address in self.http.addresses() {
            output.line(format!("listening http {address}"))?;
        }
        for address in self.http.secure_addresses() {
            output.line(format!("listening https {address}"))?;
        }
        ready(&self)?;
        let allowance = Arc::new(Allowance::new(listen.lookups_per_second, listen.lookups_burst));
        let (counters, metrics) = (self.dns.counters(), self.ldap.metrics());
        let extra = Arc::new(move || {
            let mut text = metrics.prometheus();
            // Writing to a String cannot fail.
            let _ = counters.write_metrics(&mut text);
            text
        });
        let mut running = JoinSet::new();
        running.spawn(ending(follower.run(stopped.clone())));
        running.spawn(ending(keep_up(store.clone(), clock.clone(), stopped.clone())));
        // A view that is switched off has nothing to run; one that ends by itself has failed.
        let over_https = self.dns.over_https("/dns-query", &reader, clock.clone());
        let http = self.http.beside(over_https, certdir_dns::Source);
        if let Some(tls) = self.tls {
            running.spawn(ending(tls.watch(clock.clone(), stopped.clone())));
        }
        if self.dns.listens() {
            let (view, at, until) = (reader.clone(), clock.clone(), stopped.clone());
            running.spawn(async move { Ok(self.dns.run(view, at, until).await?) });
        }
        if !self.ldap.addresses().is_empty() {
            let (view, at, until, shared) = (reader.clone(), clock.clone(), stopped.clone(), allowance.clone());
            running.spawn(async move { Ok(self.ldap.run(view, shared, at, until).await?) });
        }
        if http.listens() {
            running.spawn(async move { Ok(http.run(reader, store, allowance, clock, extra, stopped).await?) });
        }
        output.line(format!("ready version {version}"))?;
        if nothing_hosted {
            tracing::warn!("no domain is hosted yet; add one with: certdir domain add DOMAIN --name-server HOST");
        }
        output.document(&serde_json::json!({ "ready": true, "version": version }))?;

        let [interrupt, terminate] = &mut stopping;
        let mut failed = None;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            // A part that ends by itself has failed: stop the rest and say so.
            Some(ended) = running.join_next() => failed = Some(ended),
        }
        stop.send_replace(true);
        while let Some(ended) = running.join_next().await {
            failed = failed.or(Some(ended).filter(|ended| !matches!(ended, Ok(Ok(())))));
        }
        match failed {
            Some(Ok(Err(error))) => Err(error),
            Some(Err(panicked)) => Err(Error::Output(std::io::Error::other(panicked))),
            Some(Ok(Ok(()))) | None => Ok(Exit::Done),
        }
    }
}

async fn ending(part: impl Future<Output = ()>) -> Result<(), Error> {
    part.await;
    Ok(())
}

/// Certificates begin and end, signatures are renewed. An error is logged and tried again.
async fn keep_up(store: Store, clock: Clock, mut stopped: watch::Receiver<bool>) {
    while !*stopped.borrow() {
        let pause = match store.keep_up(clock()).await {
            Ok(true) => continue,
            Ok(false) => UPKEEP,
            Err(error) => {
                tracing::error!(code = error.code(), "upkeep: {error}");
                UPKEEP_PAUSE
            }
        };
        tokio::select! {
            _ = stopped.changed() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}
