//! Many at once: writers and readers, and a second process on the same data folder.

use std::collections::HashMap;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::world::{PATIENCE, Server, World, owner, run, series, sha256, until};

/// What one view says about an address: the place in the series of the certificate it shows.
fn seen(server: &Server, view: usize, address: &str, place: &HashMap<String, usize>) -> usize {
    let (local, domain) = address.split_once('@').unwrap();
    let certificates = match view {
        0 => server.smimea(&owner(local, domain)),
        1 => server.ldap_certificates(address),
        _ => server.http_certificate(address).into_iter().collect(),
    };
    match certificates.as_slice() {
        [] => 0,
        [der] => place[&sha256(der)],
        many => panic!("view {view} shows {} certificates for {address}", many.len()),
    }
}

/// Two writers, three readers. Every certificate of a series is newer than the one before, so what a reader sees may
/// only grow, whichever view it looks into next: a view that lagged behind another would take it back in time.
#[test]
fn no_reader_sees_dns_ldap_and_http_at_different_versions() {
    const STEPS: usize = 80;
    const VIEWS: [[usize; 3]; 3] = [[0, 1, 2], [2, 1, 0], [1, 0, 2]];
    let world = World::hosting(&["example.org"]);
    let token = crate::tokens::publisher(&world, "example.org");
    let server = world.serve();
    let url = format!("http://{}", server.http);
    let addresses = ["alice@example.org", "bob@example.org"];
    let series = addresses.map(|address| series(STEPS, address));
    let place: HashMap<String, usize> =
        series.iter().flat_map(|steps| steps.iter().enumerate().map(|(at, (_, der))| (sha256(der), at + 1))).collect();

    let done = AtomicBool::new(false);
    let compared = AtomicUsize::new(0);
    thread::scope(|scope| {
        let readers: Vec<_> = VIEWS
            .iter()
            .enumerate()
            .map(|(reader, order)| {
                let (server, place, done, compared) = (&server, &place, &done, &compared);
                scope.spawn(move || {
                    let mut newest = [0; 2];
                    while !done.load(Ordering::Relaxed) {
                        for view in order {
                            for (which, address) in addresses.iter().enumerate() {
                                let now = seen(server, *view, address, place);
                                let before = newest[which];
                                assert!(
                                    now >= before,
                                    "reader {reader}, view {view}: {address} went from {before} back to {now}"
                                );
                                newest[which] = now;
                                compared.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    }
                })
            })
            .collect();
        let writers: Vec<_> = series
            .iter()
            .enumerate()
            .map(|(writer, steps)| {
                let (world, url, token) = (&world, &url, &token);
                scope.spawn(move || {
                    for (number, (pem, _)) in steps.iter().enumerate() {
                        let path = world.write(&format!("{writer}-{number}.pem"), pem);
                        let mut arguments = vec!["publish", path.to_str().unwrap()];
                        // One writes into the data folder, the other through the running server.
                        if writer == 1 {
                            arguments.extend(["--url", url, "--token", token]);
                        }
                        run(&mut world.command(&arguments)).ok();
                    }
                })
            })
            .collect();
        let failed = writers.into_iter().any(|writer| writer.join().is_err());
        thread::sleep(Duration::from_millis(200));
        done.store(true, Ordering::Relaxed);
        let failed = failed | readers.into_iter().any(|reader| reader.join().is_err());
        assert!(!failed, "a writer or a reader failed; its message is above");
    });
    for address in addresses {
        for view in 0..3 {
            let last = until("the last certificate", PATIENCE, || {
                let place = seen(&server, view, address, &place);
                (place == STEPS).then_some(place)
            });
            assert_eq!(last, STEPS, "view {view}");
        }
    }
    let compared = compared.load(Ordering::Relaxed);
    assert!(compared >= 100, "only {compared} looks: too few to mean anything");
    println!("{} publications, {compared} looks", 2 * STEPS);
}

/// `certdir publish` on the data folder of a running `certdir serve`.
#[test]
fn a_second_process_is_noticed_within_a_tenth_of_a_second() {
    let world = World::hosting(&["example.org"]);
    let server = world.serve();
    let address = "alice@example.org";
    let mut delays = Vec::new();
    for (number, (pem, der)) in series(7, address).into_iter().enumerate() {
        let path = world.write(&format!("{number}.pem"), pem);
        run(&mut world.command(&["publish", path.to_str().unwrap()])).ok();
        let acknowledged = Instant::now();
        until("HTTP shows it", PATIENCE, || (server.http_certificate(address)? == der).then_some(()));
        delays.push(acknowledged.elapsed());
    }
    delays.sort();
    println!("visible after {delays:?}");
    // What is measured holds the start of a curl, too, and the machine may be busy with other tests: the best one counts.
    assert!(delays[0] < Duration::from_millis(300), "{delays:?}");
}

/// Two processes that write at the same time: both succeed, and nothing is lost.
#[test]
fn two_writing_processes_wait_for_each_other() {
    let world = World::hosting(&["example.org"]);
    let people = crate::world::many(200, "example.org");
    for (number, (pem, _)) in people.iter().enumerate() {
        world.write(&format!("{}/{number}.pem", number % 2), pem);
    }
    thread::scope(|scope| {
        for half in ["0", "1"] {
            let world = &world;
            scope.spawn(move || {
                let folder = world.path(half);
                world.certdir(&["publish", folder.to_str().unwrap()]).ok();
            });
        }
    });
    let listed = world.certdir(&["list"]).ok().text();
    assert_eq!(listed.matches("@example.org").count(), 200, "{listed}");
    assert!(fs::metadata(&world.data).unwrap().is_dir());
}
