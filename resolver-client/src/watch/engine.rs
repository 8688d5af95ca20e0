//! The task behind every watched address of a resolver: it asks again, a bounded number at once, for what the board has in
//! its queues, and tells the board what the push servers and the feeds say.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use certdir_zones::{DomainName, Name};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::board::Job;
use super::{Shared, Upstream};
use crate::feed;
use crate::push::discovery::{self, Found};
use crate::push::{self, Dialer, Server, Target};
use crate::reach::Reach;
use crate::verdict::Verdict;

/// Events of push servers and feeds that wait for the engine.
const MAX_EVENTS: usize = 1_024;

/// Push servers looked for at the same time.
const SEARCHES: usize = 8;

/// Push servers with a session at the same time: each takes a connection, and every zone may announce its own.
const MAX_SERVERS: usize = 1_024;

/// How often the clock is looked at, for verdicts whose life ends.
const TICK: Duration = Duration::from_secs(1);

/// How often the addresses in the cache are taken, where they are watched.
const CACHE_TICK: Duration = Duration::from_secs(2);

/// Sessions lost in a row after which the zone's server is looked for again: it may have moved.
const LOSSES: u32 = 5;

/// A zone without a push server is asked again after this long, one that could not be asked sooner.
const NOWHERE: Duration = Duration::from_secs(3_600);
const NOT_KNOWN: Duration = Duration::from_secs(60);

/// Runs until the resolver is gone.
pub(super) async fn run(shared: Arc<Shared>, upstream: Weak<dyn Upstream>) {
    let (push_events, pushes) = mpsc::channel(MAX_EVENTS);
    let (feed_events, feeds) = mpsc::channel(MAX_EVENTS);
    let mut engine = Engine {
        upstream,
        asking: JoinSet::new(),
        asked: HashMap::new(),
        searching: JoinSet::new(),
        companions: JoinSet::new(),
        servers: HashMap::new(),
        push_events,
        look_at_cache: Instant::now(),
        shared,
    };
    let clients = engine.shared.board().feeds.clone();
    for (index, client) in clients.into_iter().enumerate() {
        let pace = engine.shared.settings.feed_pace.clone();
        engine.companions.spawn(feed::run(client, index, pace, feed_events.clone()));
    }
    engine.turn(pushes, feeds).await;
}

struct Engine {
    shared: Arc<Shared>,
    upstream: Weak<dyn Upstream>,
    asking: JoinSet<(Job, Verdict, bool)>,
    /// What the tasks ask for, for the case that one of them ends without an answer.
    asked: HashMap<tokio::task::Id, Arc<certdir_zones::Address>>,
    searching: JoinSet<(Name, Found)>,
    /// The tasks of push servers and feeds.
    companions: JoinSet<()>,
    servers: HashMap<Vec<Target>, Running>,
    push_events: mpsc::Sender<(Arc<Server>, push::Event)>,
    /// When the addresses in the cache are taken next.
    look_at_cache: Instant,
}

/// A push server and its task.
struct Running {
    server: Arc<Server>,
    task: AbortHandle,
    /// Sessions lost since the last subscription.
    losses: u32,
}

impl Engine {
    async fn turn(
        &mut self,
        mut pushes: mpsc::Receiver<(Arc<Server>, push::Event)>,
        mut feeds: mpsc::Receiver<(usize, feed::Event)>,
    ) {
        loop {
            // The resolver is gone: so are all who could watch.
            let Some(next) = self.work() else {
                return;
            };
            tokio::select! {
                Some(done) = self.asking.join_next_with_id() => self.answered(done),
                Some(Ok((realm, found))) = self.searching.join_next() => self.found(realm, found),
                Some((server, event)) = pushes.recv() => self.pushed(&server, event),
                Some((index, event)) = feeds.recv() => self.fed(index, event),
                () = self.shared.wake.notified() => {}
                () = sleep_until(next) => {}
            }
        }
    }

    /// Begins whatever can be begun. When to look again at the latest; `None` when the resolver is gone.
    fn work(&mut self) -> Option<Instant> {
        let upstream = self.upstream.upgrade()?;
        let instant = Instant::now();
        let now = upstream.now();
        let at_once = self.shared.settings.at_once;
        let held = if self.shared.settings.cached && self.look_at_cache <= instant {
            self.look_at_cache = instant + CACHE_TICK;
            upstream.held()
        } else {
            Vec::new()
        };
        let mut board = self.shared.board();
        board.hold(held);
        let follow_up = board.tick(now, instant);
        // A quarter is left for signals.
        let calm = at_once - at_once / 4;
        while self.asking.len() < at_once
            && let Some(job) = board.next(self.asking.len() < calm)
        {
            let upstream = Arc::clone(&upstream);
            let key = Arc::clone(&job.key);
            let task = self.asking.spawn(ask(upstream, job));
            self.asked.insert(task.id(), key);
        }
        while self.searching.len() < SEARCHES
            && let Some((realm, domain)) = board.unsought()
        {
            drop(board);
            self.search(&upstream, realm, &domain);
            board = self.shared.board();
        }
        Some(follow_up.map_or(instant + TICK, |at| at.min(instant + TICK)))
    }

    fn answered(&mut self, done: Result<(tokio::task::Id, (Job, Verdict, bool)), tokio::task::JoinError>) {
        let Some(upstream) = self.upstream.upgrade() else {
            return;
        };
        match done {
            Ok((task, (job, verdict, fresh))) => {
                self.asked.remove(&task);
                if !job.first {
                    count(&self.shared.tally.refreshes);
                }
                if self.shared.board().answered(&job, verdict, fresh, upstream.now()) {
                    count(&self.shared.tally.rollovers);
                }
            }
            // A source of the gateway's own may panic; the address is asked for again like after any failure.
            Err(error) => {
                if let Some(key) = self.asked.remove(&error.id()) {
                    self.shared.board().unanswered(&key, upstream.now());
                }
            }
        }
    }

    /// Looks for the push server of a realm: given by hand, or announced in DNS.
    fn search(&mut self, upstream: &Arc<dyn Upstream>, realm: Name, domain: &DomainName) {
        let settings = &self.shared.settings;
        let given = settings.servers.iter().find(|server| server.domain.as_ref().is_none_or(|d| d == domain));
        if let Some(given) = given {
            let dialer =
                Dialer { tls: given.tls.clone(), reach: Reach::everywhere(), pace: settings.dialer.pace.clone() };
            let server = self.server(vec![given.target.clone()], dialer);
            self.shared.board().sought(&realm, Ok(server));
        } else if settings.discover {
            let upstream = Arc::clone(upstream);
            self.searching.spawn(async move {
                let found = discovery::find(&*upstream, &realm).await;
                (realm, found)
            });
        } else {
            self.shared.board().sought(&realm, Err(Instant::now() + NOWHERE));
        }
    }

    fn found(&mut self, realm: Name, found: Found) {
        let found = match found {
            // A zone beyond the bound has its changes noticed in another way.
            Found::At(targets) if self.servers.len() >= MAX_SERVERS && !self.servers.contains_key(&targets) => {
                Err(Instant::now() + NOT_KNOWN)
            }
            Found::At(targets) => {
                let dialer = self.shared.settings.dialer.clone();
                Ok(self.server(targets, dialer))
            }
            Found::Nowhere => Err(Instant::now() + NOWHERE),
            Found::Unknown => Err(Instant::now() + NOT_KNOWN),
        };
        let mut board = self.shared.board();
        board.sought(&realm, found);
        self.servers.retain(|_, running| {
            let used = board.is_used(&running.server);
            if !used {
                running.task.abort();
            }
            used
        });
        drop(board);
        // What has ended is let go of.
        while self.companions.try_join_next().is_some() {}
    }

    fn server(&mut self, targets: Vec<Target>, dialer: Dialer) -> Arc<Server> {
        let running = self.servers.entry(targets).or_insert_with_key(|targets| {
            let server = Arc::new(Server::new(targets.clone()));
            let task = self.companions.spawn(push::run(Arc::clone(&server), dialer, self.push_events.clone()));
            Running { server, task, losses: 0 }
        });
        Arc::clone(&running.server)
    }

    fn pushed(&mut self, server: &Arc<Server>, event: push::Event) {
        let tally = &self.shared.tally;
        let mut board = self.shared.board();
        let running = self.servers.values_mut().find(|running| Arc::ptr_eq(&running.server, server));
        match event {
            push::Event::Subscribed(topic) => {
                if let Some(running) = running {
                    running.losses = 0;
                }
                let domain = board.subscribed(&topic);
                drop(board);
                self.forget(domain.as_slice());
            }
            push::Event::Refused(_) => count(&tally.refused),
            push::Event::Changed(topic) => {
                count(&tally.push_signals);
                let domain = board.pushed(&topic);
                drop(board);
                self.forget(domain.as_slice());
            }
            push::Event::Lost => {
                count(&tally.push_losses);
                board.lost(server);
                if let Some(running) = running {
                    running.losses += 1;
                    if running.losses.is_multiple_of(LOSSES) {
                        board.seek_again(server);
                    }
                }
            }
        }
    }

    fn fed(&self, index: usize, event: feed::Event) {
        let tally = &self.shared.tally;
        let mut board = self.shared.board();
        let mut doubtful = Vec::new();
        match event {
            feed::Event::Following { new } => doubtful = board.following(index, new),
            feed::Event::NotHosted => board.feeds_changed(),
            feed::Event::Address(mailbox) => {
                count(&tally.feed_signals);
                // The domain's own certificate decides about others, too; the directory tells those itself.
                if mailbox.is_domain_authority() {
                    doubtful.push(mailbox.domain().clone());
                }
                board.fed(&mailbox);
            }
            feed::Event::Domain(domain) => {
                count(&tally.feed_signals);
                board.fed_domain(&domain);
                doubtful.push(domain);
            }
            feed::Event::Reset => doubtful = board.reset(index),
            feed::Event::Lost => {
                count(&tally.feed_losses);
                board.feeds_changed();
            }
        }
        drop(board);
        self.forget(&doubtful);
    }

    fn forget(&self, domains: &[DomainName]) {
        if let Some(upstream) = self.upstream.upgrade() {
            domains.iter().for_each(|domain| upstream.forget_domain(domain));
        }
    }
}

async fn ask(upstream: Arc<dyn Upstream>, job: Job) -> (Job, Verdict, bool) {
    if job.first {
        let verdict = upstream.resolve(&job.key).await;
        return (job, verdict, false);
    }
    let over = Arc::clone(&job.over);
    let (verdict, fresh) = push::over(over, upstream.refresh(&job.key)).await;
    (job, verdict, fresh)
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
