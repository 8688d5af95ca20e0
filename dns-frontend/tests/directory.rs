//! The front end on a real directory: what is published is answered, and nothing is answered from a set too old.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use certdir_directory::{Authority, Clock, DomainName, Follower, Settings, Store};
use certdir_dns::{Frontend, Options};
use certdir_zones::RecordType;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::message::Message;
use crate::world::{NOW, opt, question};

async fn ask(server: SocketAddr, owner: &str) -> Message {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    socket.send_to(&question(owner, RecordType::SOA, Some(opt(1232, true))), server).await.unwrap();
    let mut buffer = [0; 4096];
    let length = timeout(Duration::from_secs(20), socket.recv(&mut buffer)).await.unwrap().unwrap();
    Message::read(&buffer[..length])
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_follow_the_directory() {
    let data = tempfile::tempdir().unwrap();
    let store = Store::open(data.path()).await.unwrap();
    let time = Arc::new(AtomicI64::new(NOW));
    let clock: Clock = {
        let time = time.clone();
        Arc::new(move || time.load(Ordering::Relaxed))
    };
    let (mut follower, reader) = Follower::start(&store, clock.clone()).await.unwrap();
    let frontend = Frontend::bind(&[(Ipv4Addr::LOCALHOST, 0).into()], Options::default()).unwrap();
    let server = frontend.addresses()[0];
    let (shutdown, stop) = watch::channel(false);
    let running = tokio::spawn(frontend.run(reader, clock, stop));

    let owner = "_smimecert.example.org";
    assert_eq!(ask(server, owner).await.rcode(), 5, "REFUSED");
    let domain = DomainName::parse("example.org").unwrap();
    store.add_domain(&domain, Settings::for_domain(&domain), &Authority::Operator, NOW).await.unwrap();
    follower.catch_up().await.unwrap();
    let message = ask(server, owner).await;
    assert_eq!((message.rcode(), message.types().0), (0, vec![RecordType::SOA, RecordType::RRSIG]));
    // Nobody has looked at the store for a day: what it says now is not known.
    time.store(NOW + 86_400, Ordering::Relaxed);
    let message = ask(server, owner).await;
    assert_eq!((message.rcode(), message.answers.len()), (2, 0), "SERVFAIL");

    shutdown.send_replace(true);
    timeout(Duration::from_secs(10), running).await.unwrap().unwrap().unwrap();
}
