//! `kill -9` in the middle of work: nothing acknowledged is lost, nothing is half there.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::world::{Server, World, client, many, owner, run, sha256, signal};

const PEOPLE: usize = 1000;

/// The people as files, and for each its number by the first 16 digits of its SHA-256.
fn people(world: &World) -> (PathBuf, Vec<String>) {
    let mut prints = Vec::new();
    for (number, (pem, der)) in many(PEOPLE, "example.org").into_iter().enumerate() {
        world.write(&format!("people/{number:04}.pem"), pem);
        prints.push(sha256(&der));
    }
    (world.path("people"), prints)
}

/// Starts publishing, and reads the acknowledgements until there are `enough`; `stop` then kills, and the
/// acknowledgements that still come are counted: they were promised, too.
fn publish_until(mut command: Command, enough: usize, stop: impl FnOnce(u32)) -> BTreeSet<String> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut acknowledged = BTreeSet::new();
    let mut stop = Some(stop);
    let out = BufReader::new(child.stdout.take().unwrap());
    for line in out.lines().map_while(Result::ok) {
        if let Some(rest) = line.strip_prefix("published ") {
            acknowledged.insert(rest.split_whitespace().next().unwrap().to_owned());
        }
        if acknowledged.len() >= enough
            && let Some(stop) = stop.take()
        {
            stop(child.id());
        }
    }
    drop(child.wait());
    assert!(stop.is_none(), "it ended before it was killed: {} acknowledged", acknowledged.len());
    acknowledged
}

/// What holds in the data folder after a crash.
fn is_whole(world: &World, prints: &[String], acknowledged: &BTreeSet<String>) -> usize {
    // SQLite's own check.
    for file in fs::read_dir(&world.data).unwrap() {
        let path = file.unwrap().path();
        let is_database = fs::read(&path).is_ok_and(|bytes| bytes.starts_with(b"SQLite format 3"));
        if is_database {
            let said = run(client("sqlite3").arg(&path).arg("PRAGMA integrity_check")).ok();
            assert_eq!(said.text().trim(), "ok", "{}", path.display());
        }
    }
    let server = world.serve();
    let export = world.certdir(&["zone", "export", "example.org"]).ok().out;
    let zone = world.write("after.zone", &export);
    let anchor = world.anchor("example.org");
    let said = run(client("ldns-verify-zone").arg("-k").arg(anchor).arg(&zone));
    assert_eq!(said.code, 0, "{}", said.all());
    let export = String::from_utf8(export).unwrap();
    let present: Vec<usize> =
        (0..prints.len()).filter(|number| export.contains(&owner(&format!("person{number}"), "example.org"))).collect();

    for (number, print) in prints.iter().enumerate() {
        let promised = acknowledged.iter().any(|short| print.starts_with(short.as_str()));
        assert!(!promised || present.contains(&number), "person{number} was acknowledged and is lost");
    }
    let listed = world.certdir(&["list"]).ok().text();
    assert_eq!(listed.matches("@example.org").count(), present.len(), "list and zone differ");
    // All views show the same: a sample of those that are there and of those that are not.
    let step = (prints.len() / 20).max(1);
    for number in (0..prints.len()).step_by(step) {
        let address = format!("person{number}@example.org");
        let name = owner(&format!("person{number}"), "example.org");
        let expected: Vec<&String> = prints[number..=number].iter().filter(|_| present.contains(&number)).collect();
        let shown =
            |certificates: Vec<Vec<u8>>| -> Vec<String> { certificates.iter().map(|der| sha256(der)).collect() };
        assert_eq!(shown(server.smimea(&name)).iter().collect::<Vec<_>>(), expected, "DNS {address}");
        let ldap = shown(server.ldap_certificates(&address));
        assert_eq!(ldap.iter().collect::<Vec<_>>(), expected, "LDAP {address}");
        let http = shown(server.http_certificate(&address).into_iter().collect());
        assert_eq!(http.iter().collect::<Vec<_>>(), expected, "HTTP {address}");
    }
    present.len()
}

/// After the crash the same command finishes the work.
fn goes_on(world: &World, folder: &Path) {
    world.certdir(&["publish", folder.to_str().unwrap()]).ok();
    let listed = world.certdir(&["list"]).ok().text();
    assert_eq!(listed.matches("@example.org").count(), PEOPLE);
}

#[test]
fn a_killed_publisher_loses_nothing_it_acknowledged() {
    let world = World::hosting(&["example.org"]);
    let (folder, prints) = people(&world);
    let command = world.command(&["publish", folder.to_str().unwrap()]);
    let acknowledged = publish_until(command, 100, |writer| signal(writer, "KILL"));
    let present = is_whole(&world, &prints, &acknowledged);
    assert!(present < PEOPLE, "killed too late: everything was there");
    println!("{} acknowledged, {present} there", acknowledged.len());
    goes_on(&world, &folder);
}

#[test]
fn a_killed_server_loses_nothing_it_acknowledged() {
    let world = World::hosting(&["example.org"]);
    let (folder, prints) = people(&world);
    let token = crate::tokens::publisher(&world, "example.org");
    let mut server: Server = world.serve();
    let url = format!("http://{}", server.http);
    let remote = ["publish", "--url", &url, "--token", &token, folder.to_str().unwrap()];
    let command = world.command(&remote);
    let acknowledged = publish_until(command, 100, |_| server.kill());
    let present = is_whole(&world, &prints, &acknowledged);
    println!("{} acknowledged, {present} there", acknowledged.len());
    goes_on(&world, &folder);
}
