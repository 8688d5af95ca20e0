//! A clock that moves: signatures are renewed before they end, certificates leave when theirs does. The program runs
//! under `faketime`; unbound, which calls an expired signature bogus, is told the date (BIND's tools and `faketime` do
//! not go together).

use std::process::Command;

use crate::dns::{Unbound, is_secure};
use crate::world::{CERTDIR, DAY, Request, Server, World, client, now, owner, run};

/// The program as it would run that many days from now. `faketime` itself stays between as a parent that does not pass
/// signals on, so only what it would set is taken from it.
fn later(days: i64) -> Command {
    clear_semaphores();
    let mut faketime = client("faketime");
    let set = run(faketime.args(["-f", &format!("{days:+}d"), "env"])).ok().text();
    let mut command = Command::new(CERTDIR);
    for name in ["LD_PRELOAD", "FAKETIME"] {
        let value = set.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        command.env(name, value.unwrap_or_else(|| panic!("faketime sets no {name}: {set}")));
    }
    // The monotonic clock stays real: time-outs are about waiting, not about dates.
    command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    command
}

/// Removes what `faketime` left behind for processes that are gone: it names a semaphore by its own process id, and fails when
/// one of that name is there already.
fn clear_semaphores() {
    let Ok(folder) = std::fs::read_dir("/dev/shm") else {
        return;
    };
    for entry in folder.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix("sem.faketime_sem_").or_else(|| name.strip_prefix("faketime_shm_"));
        if process.is_some_and(|id| !std::path::Path::new("/proc").join(id).exists()) {
            // Another test may have been quicker.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// The ends of the signatures in an answer, `YYYYMMDDHHMMSS`.
fn expiration(server: &Server, name: &str) -> String {
    let answer = server.dig(&["+tcp", "+dnssec", "+short", name, "SMIMEA"]);
    let signature = answer.lines().find(|line| line.starts_with("SMIMEA 13 ")).unwrap();
    signature.split_whitespace().nth(4).unwrap().to_owned()
}

#[test]
fn answers_stay_secure_across_two_signature_lifetimes() {
    let world = World::hosting(&["example.org"]);
    let alice = world.ca.issue(&Request::person("Alice", "email:alice@example.org"));
    let gateway = world.ca.issue(&Request::person("Gateway", "DNS:example.org"));
    world.publish(&alice);
    world.certdir(&["publish", "--domain-certificate", "example.org", gateway.path()]).ok();
    let mut ends = Vec::new();
    for days in [0, 2, 4, 7, 11, 14, 21, 30] {
        let server = world.serve_with(&mut later(days), &[]);
        let unbound = Unbound::start(&world, &server, &["example.org"], now() + days * DAY);
        for (local, rtype) in [("alice", "SMIMEA"), ("anybody", "SMIMEA"), ("alice", "TXT"), ("anybody", "TXT")] {
            let answer = unbound.ask(&owner(local, "example.org"), rtype);
            assert!(answer.contains("status: NOERROR"), "day {days}, {local} {rtype}: {answer}");
            assert!(is_secure(&answer), "day {days}, {local} {rtype}: {answer}");
        }
        if days == 0 {
            // The oracle does look at the date: a week later the same answers are bogus.
            let late = Unbound::start(&world, &server, &["example.org"], now() + 7 * DAY);
            let answer = late.ask(&owner("alice", "example.org"), "SMIMEA");
            assert!(answer.contains("status: SERVFAIL"), "{answer}");
        }
        ends.push(expiration(&server, &owner("alice", "example.org")));
    }
    assert!(ends.is_sorted(), "{ends:?}");
    let mut lives = ends.clone();
    lives.dedup();
    assert!(lives.len() >= 3, "signatures were renewed: {ends:?}");
}

/// RFC 8162 section 9: expired certificates are not used, so they are not published either.
#[test]
fn an_expired_certificate_leaves_every_view_and_a_staged_one_arrives() {
    let world = World::hosting(&["example.org"]);
    let person = || Request::person("Alice", "email:alice@example.org");
    let old = world.ca.issue(&person().valid(now() - 300 * DAY, now() + 3 * DAY));
    let next = world.ca.issue(&person().valid(now() + 2 * DAY, now() + 6 * DAY));
    world.publish(&old);
    let staged = world.publish(&next);
    assert!(staged.text().contains("staged"), "{}", staged.all());
    let name = owner("alice", "example.org");
    for (days, expected) in [(0, Some(&old)), (1, Some(&old)), (4, Some(&next)), (8, None)] {
        let server = world.serve_with(&mut later(days), &[]);
        let expected: Vec<Vec<u8>> = expected.map(|issued| issued.der.clone()).into_iter().collect();
        let http: Vec<Vec<u8>> = server.http_certificate("alice@example.org").into_iter().collect();
        assert_eq!(http, expected, "HTTP, day {days}");
        assert_eq!(server.ldap_certificates("alice@example.org"), expected, "LDAP, day {days}");
        assert_eq!(server.smimea(&name), expected, "DNS, day {days}");
        if !expected.is_empty() {
            // A signature never outlives the certificate under it.
            let end = if days < 4 { 3 * DAY } else { 6 * DAY };
            let mut date = client("date");
            date.args(["-u", "-d", &format!("@{}", now() + end), "+%Y%m%d%H%M%S"]);
            let end = run(&mut date).ok().text();
            assert!(expiration(&server, &name).as_str() <= end.trim(), "day {days}");
        }
    }
}
