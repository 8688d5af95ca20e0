//! The engine over a resolver whose verdicts the test sets, with a push server and a directory that play their parts.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicUsize};
use std::time::Duration;

use certdir_zones::dso::{self, Writer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use super::*;
use crate::feed::Feed;
use crate::outcome::Failure;
use crate::push::tests::{Part, Stage};
use crate::reach::Reach;
use crate::tls::Tls;
use crate::trace::Trace;
use crate::verdict::Told;
use crate::watch::settings::PushServer;

const PATIENCE: Duration = Duration::from_secs(30);

/// The RDATA of a name's records.
type Data = Vec<Vec<u8>>;

/// What it says of an address.
type Said = Result<bool, &'static str>;

/// A resolver that says what it is told to.
#[derive(Default)]
struct Oracle {
    now: AtomicI64,
    /// Whether the absence of a certificate is proven, or a failure. Whoever is not here: proven.
    says: Mutex<HashMap<Address, Said>>,
    records: Mutex<HashMap<(Name, RecordType), Data>>,
    held: Mutex<Vec<Address>>,
    refreshes: AtomicUsize,
    forgotten: Mutex<Vec<DomainName>>,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
    slow: Option<Duration>,
}

/// How long its verdicts live, in seconds.
const LIFE: UnixTime = 300;

impl Oracle {
    fn say(&self, address: &str, what: Result<bool, &'static str>) {
        self.says.lock().unwrap().insert(address_of(address), what);
    }

    fn verdict(&self, address: &Address) -> Verdict {
        let now = self.now();
        let said = self.says.lock().unwrap().get(address).copied().unwrap_or(Ok(true));
        let trace = |verdict, life| {
            Told::whole(Trace {
                address: address.to_string(),
                asked_at: now,
                verdict,
                reason: verdict,
                questions: Vec::new(),
                candidates: Vec::new(),
                fetched: Vec::new(),
                look_again: now + life,
            })
        };
        match said {
            Ok(proven) => Verdict::None { proven, told: trace("none", LIFE) },
            Err(code) => Verdict::Unknown { failure: Failure::new(code, code), told: trace("unknown", 5) },
        }
    }

    fn record(&self, name: &str, record_type: RecordType, rdata: Vec<u8>) {
        let name = Name::parse(name).unwrap();
        self.records.lock().unwrap().entry((name, record_type)).or_default().push(rdata);
    }
}

impl Upstream for Oracle {
    fn now(&self) -> UnixTime {
        self.now.load(Ordering::SeqCst)
    }

    fn resolve<'a>(&'a self, address: &'a Address) -> Awaited<'a, Verdict> {
        Box::pin(async move { self.verdict(address) })
    }

    fn refresh<'a>(&'a self, address: &'a Address) -> Awaited<'a, Verdict> {
        Box::pin(async move {
            self.refreshes.fetch_add(1, Ordering::SeqCst);
            let at_once = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_at_once.fetch_max(at_once, Ordering::SeqCst);
            if let Some(slow) = self.slow {
                sleep(slow).await;
            }
            self.at_once.fetch_sub(1, Ordering::SeqCst);
            self.verdict(address)
        })
    }

    fn held(&self) -> Vec<Address> {
        self.held.lock().unwrap().clone()
    }

    fn forget_domain(&self, domain: &DomainName) {
        self.forgotten.lock().unwrap().push(domain.clone());
    }

    fn rdata<'a>(&'a self, name: &'a Name, record_type: RecordType) -> Awaited<'a, Option<Vec<Vec<u8>>>> {
        let records = self.records.lock().unwrap();
        let found = records.get(&(name.clone(), record_type)).cloned().unwrap_or_default();
        Box::pin(async move { Some(found) })
    }
}

fn address_of(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn watching() -> Watching {
    let mut watching = Watching::new().unwrap().without_discovery();
    watching.dialer.pace = crate::push::tests::quick();
    watching.feed_pace = crate::feed::tests::quick();
    watching
}

fn by_hand(stage: &Stage) -> Watching {
    watching().push_server(PushServer::new(stage.address, "push.example", stage.tls.clone()))
}

/// A watch over an oracle.
struct Bench {
    oracle: Arc<Oracle>,
    watch: Watch,
}

impl Bench {
    fn new(settings: Watching) -> Bench {
        Bench { oracle: Arc::default(), watch: Watch::new(settings) }
    }

    fn watch(&self, address: &str) -> Rollovers {
        self.try_watch(address).unwrap()
    }

    fn try_watch(&self, address: &str) -> Result<Rollovers, Error> {
        let oracle: Arc<dyn Upstream> = Arc::<Oracle>::clone(&self.oracle);
        self.watch.watch(&address_of(address), Arc::downgrade(&oracle))
    }

    /// Waits until the counters are as they should be.
    async fn until(&self, what: &str, right: impl Fn(&WatchCounters) -> bool) {
        let waiting = async {
            while !right(&self.watch.counters()) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        if timeout(PATIENCE, waiting).await.is_err() {
            panic!("{what}: {:?}", self.watch.counters());
        }
    }
}

#[track_caller]
fn next(rollovers: &mut Rollovers) -> impl Future<Output = (Option<Way>, &'static str, Option<bool>)> {
    let place = std::panic::Location::caller();
    let next = timeout(PATIENCE, rollovers.next());
    async move {
        let rollover = next.await.unwrap_or_else(|_| panic!("no rollover at {place}")).unwrap();
        let proven = match rollover.new {
            Verdict::None { proven, .. } => Some(proven),
            _ => None,
        };
        (rollover.via, rollover.new.code(), proven)
    }
}

#[tokio::test]
async fn without_anything_better_a_change_is_noticed_at_the_end_of_life_and_told_to_all() {
    let bench = Bench::new(watching());
    let (mut one, mut two) = (bench.watch("alice@example.org"), bench.watch("alice@example.org"));
    assert_eq!(next(&mut one).await, (None, "none", Some(true)));
    assert_eq!(next(&mut two).await, (None, "none", Some(true)));
    bench.oracle.say("alice@example.org", Ok(false));
    assert_eq!(bench.watch.counters().by_ttl, 1, "one address, however many watch it");
    bench.oracle.now.fetch_add(LIFE, Ordering::SeqCst);
    assert_eq!(next(&mut one).await, (Some(Way::Ttl), "none", Some(false)));
    assert_eq!(next(&mut two).await, (Some(Way::Ttl), "none", Some(false)));
    assert_eq!(bench.oracle.refreshes.load(Ordering::SeqCst), 1);
    drop(one);
    assert_eq!(bench.watch.counters().watched, 1);
    drop(two);
    assert_eq!(bench.watch.counters().watched, 0);
    drop(bench);
}

#[tokio::test]
async fn a_failure_says_nothing_against_a_verdict_that_may_still_be_used() {
    let bench = Bench::new(watching());
    let mut alice = bench.watch("alice@example.org");
    assert_eq!(next(&mut alice).await, (None, "none", Some(true)));
    bench.oracle.say("alice@example.org", Err("timeout"));
    // The end of its life: now there is nothing left to use.
    bench.oracle.now.fetch_add(LIFE, Ordering::SeqCst);
    assert_eq!(next(&mut alice).await, (Some(Way::Ttl), "unknown", None));
    bench.oracle.say("alice@example.org", Ok(true));
    bench.oracle.now.fetch_add(5, Ordering::SeqCst);
    assert_eq!(next(&mut alice).await, (Some(Way::Ttl), "none", Some(true)));
}

#[tokio::test]
async fn what_is_pushed_is_asked_for_and_told() {
    let again = Arc::new(Notify::new());
    let stage = Stage::set(vec![Part { again: Some(Arc::clone(&again)), ..Part::default() }]).await;
    let bench = Bench::new(by_hand(&stage));
    let mut alice = bench.watch("alice@example.org");
    assert_eq!(next(&mut alice).await, (None, "none", Some(true)));
    bench.until("three subscriptions", |c| c.by_push == 1 && c.push_signals >= 3).await;
    bench.oracle.say("alice@example.org", Ok(false));
    again.notify_one();
    assert_eq!(next(&mut alice).await, (Some(Way::Push), "none", Some(false)));
}

#[tokio::test]
async fn after_a_gap_the_domain_is_in_doubt_although_nothing_is_pushed() {
    let stage = Stage::set(vec![Part { no_records: true, ..Part::default() }]).await;
    let bench = Bench::new(by_hand(&stage));
    let _alice = bench.watch("alice@example.org");
    let domain = address_of("alice@example.org").domain().clone();
    let forgotten = || bench.oracle.forgotten.lock().unwrap().contains(&domain);
    bench.until("subscribed, and in doubt", |c| c.by_push == 1 && forgotten()).await;
    assert_eq!(bench.watch.counters().push_signals, 0);
}

#[tokio::test]
async fn the_push_server_is_found_in_dns_and_only_where_it_may_be() {
    let again = Arc::new(Notify::new());
    let stage = Stage::set(vec![Part { again: Some(Arc::clone(&again)), ..Part::default() }]).await;
    let port = stage.address.port().to_be_bytes();
    let srv = [&[0, 0, 0, 0], &port[..], Name::parse("push.example").unwrap().as_wire()].concat();
    let network = "127.0.0.0/8".parse().unwrap();
    for (reach, reached) in [(Reach::public().network(network), true), (Reach::public(), false)] {
        let mut settings = watching().tls(stage.tls.clone()).reach(reach);
        settings.discover = true;
        let bench = Bench::new(settings);
        bench.oracle.record("example.org", RecordType::SOA, vec![0]);
        bench.oracle.record("_dns-push-tls._tcp.example.org", RecordType::SRV, srv.clone());
        bench.oracle.record("push.example", RecordType::A, vec![127, 0, 0, 1]);
        let mut alice = bench.watch("alice@example.org");
        assert_eq!(next(&mut alice).await, (None, "none", Some(true)));
        if reached {
            bench.until("subscribed", |c| c.by_push == 1).await;
        } else {
            bench.until("refused by ourselves", |c| c.push_losses >= 3).await;
            assert_eq!(bench.watch.counters().by_push, 0);
        }
    }
}

#[tokio::test]
async fn a_lost_session_falls_back_and_a_change_in_between_is_not_missed() {
    // Keepalive, then three subscriptions with their first pushes; then the cut.
    let parts = vec![Part { octets: 330, ..Part::default() }, Part { refusal: Some((5, 50)), ..Part::default() }];
    let stage = Stage::set(parts).await;
    let bench = Bench::new(by_hand(&stage));
    let mut alice = bench.watch("alice@example.org");
    assert_eq!(next(&mut alice).await, (None, "none", Some(true)));
    bench.until("refused after the loss", |c| c.push_losses == 1 && c.refused >= 1 && c.by_ttl == 1).await;
    bench.oracle.say("alice@example.org", Ok(false));
    bench.oracle.now.fetch_add(LIFE, Ordering::SeqCst);
    assert_eq!(next(&mut alice).await, (Some(Way::Ttl), "none", Some(false)));

    let stage = Stage::set(vec![Part { octets: 330, ..Part::default() }, Part::default()]).await;
    let bench = Bench::new(by_hand(&stage));
    let mut alice = bench.watch("alice@example.org");
    assert_eq!(next(&mut alice).await, (None, "none", Some(true)));
    bench.oracle.say("alice@example.org", Ok(false));
    assert_eq!(next(&mut alice).await, (Some(Way::Push), "none", Some(false)), "asked for anew once subscribed");
    bench.until("back", |c| c.push_losses == 1 && c.by_push == 1).await;
}

#[tokio::test]
async fn a_change_of_the_domain_does_not_ask_for_all_at_once() {
    let again = Arc::new(Notify::new());
    let stage = Stage::set(vec![Part { again: Some(Arc::clone(&again)), ..Part::default() }]).await;
    let oracle = Oracle { slow: Some(Duration::from_millis(1)), ..Oracle::default() };
    let mut bench = Bench::new(by_hand(&stage).at_once(8).most(500));
    bench.oracle = Arc::new(oracle);
    let mut streams: Vec<Rollovers> = (0..500).map(|n| bench.watch(&format!("a{n}@example.org"))).collect();
    assert!(matches!(bench.try_watch("more@example.org"), Err(Error::TooManyWatched(500))));
    for stream in &mut streams {
        assert_eq!(next(stream).await.0, None);
    }
    bench.until("all subscribed", |c| c.by_push == 500).await;
    let refreshed = bench.oracle.refreshes.load(Ordering::SeqCst);
    again.notify_one();
    bench.until("all asked for", |c| c.refreshes >= 500).await;
    assert!(bench.oracle.most_at_once.load(Ordering::SeqCst) <= 8);
    assert!(refreshed <= 500 * 6, "{refreshed}");
    drop(streams);
    assert_eq!(bench.watch.counters().watched, 0);
}

#[tokio::test]
async fn what_the_cache_holds_is_watched_until_its_end() {
    let again = Arc::new(Notify::new());
    let stage = Stage::set(vec![Part { again: Some(Arc::clone(&again)), ..Part::default() }]).await;
    let bench = Bench::new(by_hand(&stage).cached());
    *bench.oracle.held.lock().unwrap() = vec![address_of("alice@example.org"), address_of("bob@example.org")];
    assert!(bench.watch.is_to_begin());
    let oracle: Arc<dyn Upstream> = Arc::<Oracle>::clone(&bench.oracle);
    bench.watch.begin(Arc::downgrade(&oracle)).unwrap();
    bench.until("both subscribed", |c| c.by_push == 2).await;
    let signals = bench.watch.counters().push_signals;
    again.notify_one();
    bench.until("pushed", |c| c.push_signals > signals).await;
    bench.oracle.held.lock().unwrap().clear();
    bench.oracle.now.fetch_add(LIFE + 1, Ordering::SeqCst);
    bench.until("gone with the cache", |c| c.watched == 0).await;
}

#[tokio::test]
async fn streams_end_with_the_resolver() {
    let bench = Bench::new(watching());
    let mut alice = bench.watch("alice@example.org");
    assert_eq!(next(&mut alice).await.0, None);
    let Bench { oracle, watch } = bench;
    drop(watch);
    assert!(timeout(PATIENCE, alice.next()).await.unwrap().is_none());
    // The engine lets go of the resolver.
    while Arc::strong_count(&oracle) > 1 {
        sleep(Duration::from_millis(1)).await;
    }
}

/// A directory whose feed tells, whenever it is notified, that everybody is to be asked for again.
async fn directory(told: Arc<Notify>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let told = Arc::clone(&told);
            tokio::spawn(async move {
                let mut octets = Vec::new();
                while !(octets.ends_with(b"]}") || octets.starts_with(b"GET") && octets.ends_with(b"\r\n\r\n")) {
                    stream.read_buf(&mut octets).await.unwrap();
                }
                let head =
                    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\nid: 1-a\nevent: begin\ndata: {}\n\n";
                stream.write_all(head.as_bytes()).await.unwrap();
                loop {
                    told.notified().await;
                    let event = "event: changed\ndata: {\"names\":[\"alice@example.org\"],\"domains\":[]}\n\n";
                    if stream.write_all(event.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    url
}

#[tokio::test]
async fn a_feed_is_followed_where_nothing_is_pushed_and_late_answers_are_followed_up() {
    let told = Arc::new(Notify::new());
    let url = directory(Arc::clone(&told)).await;
    let refusing = Stage::set(vec![Part { refusal: Some((5, 60_000)), ..Part::default() }]).await;
    let feed = Feed::new(&url, Tls::public().unwrap()).unwrap();
    let bench = Bench::new(by_hand(&refusing).feed(feed));
    let mut alice = bench.watch("alice@example.org");
    assert_eq!(next(&mut alice).await, (None, "none", Some(true)));
    bench.until("by feed", |c| c.by_feed == 1 && c.refused == 3 && c.refreshes >= 1).await;
    assert!(bench.oracle.forgotten.lock().unwrap().contains(address_of("alice@example.org").domain()));
    told.notify_one();
    bench.until("told", |c| c.feed_signals == 1).await;
    // The servers that are asked say it a little later than the directory.
    let seen = bench.watch.counters().refreshes;
    bench.until("followed up", |c| c.refreshes >= seen + 2).await;
    bench.oracle.say("alice@example.org", Ok(false));
    assert_eq!(next(&mut alice).await, (Some(Way::Feed), "none", Some(false)));
}

#[tokio::test]
async fn questions_go_to_the_push_server_of_their_zone_while_one_is_asked_for() {
    let stage = Stage::set(vec![Part::default()]).await;
    let bench = Bench::new(by_hand(&stage));
    let mut alice = bench.watch("alice@example.org");
    next(&mut alice).await;
    bench.until("subscribed", |c| c.by_push == 1).await;
    let over = bench.watch.shared.board().next_over(&address_of("alice@example.org"));
    let question = |name: &str| {
        let mut question = b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\0".to_vec();
        question.extend(Name::parse(name).unwrap().as_wire());
        question.extend(b"\0\x35\0\x01");
        question
    };
    let ask = async |name: &str| crate::push::ask_first(&question(name), PATIENCE).await.is_some();
    assert!(!ask("a._smimecert.example.org").await, "outside a look-up");
    let (answered, fresh) = crate::push::over(Arc::clone(&over), ask("a._smimecert.example.org")).await;
    assert!(answered && fresh);
    let (answered, fresh) = crate::push::over(over, ask("a._smimecert.example.net")).await;
    assert!(!answered && !fresh, "of another zone");
    // What is not a stateful message is not mistaken for one.
    assert!(
        dso::Header::read(&question("a.example")).is_none()
            && dso::Header::read(&Writer::request(1).finish()).is_some()
    );
}

#[tokio::test]
async fn who_is_watched_later_is_made_sure_of_where_a_feed_tells_of_all() {
    let url = directory(Arc::new(Notify::new())).await;
    let feed = Feed::new(&url, Tls::public().unwrap()).unwrap().token("token").unwrap();
    let bench = Bench::new(watching().feed(feed));
    let mut alice = bench.watch("alice@example.org");
    assert_eq!(next(&mut alice).await.0, None);
    bench.until("by feed", |c| c.by_feed == 1).await;
    bench.oracle.say("bob@example.org", Ok(false));
    let mut bob = bench.watch("bob@example.org");
    assert_eq!(next(&mut bob).await.0, None, "from the cache");
    bench.oracle.say("bob@example.org", Ok(true));
    assert_eq!(next(&mut bob).await, (Some(Way::Feed), "none", Some(true)));
    assert_eq!(bench.watch.counters().by_feed, 2);
}

fn board() -> Board {
    Board::new(&watching())
}

#[tokio::test]
async fn signals_without_end_do_not_keep_the_gateway_busy() {
    let mut board = board();
    let alice = address_of("alice@example.org");
    let _seen = board.add(&alice).unwrap();
    let oracle = Oracle::default();
    let since = tokio::time::Instant::now();
    let mut asked = 0;
    while since.elapsed() < Duration::from_secs(1) {
        board.fed(&alice);
        board.tick(0, tokio::time::Instant::now());
        while let Some(job) = board.next(true) {
            asked += 1;
            board.answered(&job, oracle.verdict(&alice), true, 0);
        }
        sleep(Duration::from_millis(1)).await;
    }
    // The least gap is 50 ms.
    assert!((2..=21).contains(&asked), "{asked}");
}

#[tokio::test]
async fn what_is_pushed_long_after_the_subscription_is_a_change() {
    let mut board = board();
    let alice = address_of("alice@example.org");
    let _seen = board.add(&alice).unwrap();
    let oracle = Oracle::default();
    let topic = crate::push::Topic { name: certdir_zones::smimea_owner(&alice), record_type: RecordType::SMIMEA };
    let job = board.next(true).unwrap();
    board.subscribed(&topic);
    board.answered(&job, oracle.verdict(&alice), true, 0);
    sleep(Duration::from_millis(2_001)).await;
    board.pushed(&topic);
    assert!(board.next(true).unwrap().signalled);
}

#[tokio::test]
async fn an_answer_for_an_address_that_was_left_is_not_its_successors() {
    let mut board = board();
    let alice = address_of("alice@example.org");
    let _seen = board.add(&alice).unwrap();
    let old = board.next(true).unwrap();
    board.leave(&alice);
    let seen = board.add(&alice).unwrap();
    let oracle = Oracle::default();
    board.answered(&old, oracle.verdict(&alice), false, 0);
    assert!(seen.borrow().is_none() && board.next(true).is_some());
}
