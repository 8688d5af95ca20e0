//! Rollover as a gateway sees it: `certdir resolve --follow` beside a running directory that publishes, dies and comes back.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use crate::world::{CERTDIR, Issued, PATIENCE, Request, Server, World};

/// A gateway that follows one address, and the rollovers it prints.
struct Gateway {
    child: Child,
    lines: Receiver<String>,
}

impl Gateway {
    fn start(world: &World, server: &Server, following: &[&str]) -> Gateway {
        let mut command = world.command(&["resolve", "--follow", "--json", "--server", &server.dns.to_string()]);
        command.arg("--trust-anchor").arg(world.anchor("example.org"));
        command.args(following).arg("alice@example.org");
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Gateway { child, lines }
    }

    /// The next rollover: how it was noticed, and the certificate's SHA-256.
    #[track_caller]
    fn next(&self) -> (String, String) {
        let line = self.lines.recv_timeout(PATIENCE).expect("a rollover in time");
        let rollover: serde_json::Value = serde_json::from_str(&line).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        (text(&rollover["via"]), text(&rollover["certificates"][0]["sha256"]))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn issue(world: &World, days: i64) -> Issued {
    let start = crate::world::now() - (30 - days) * crate::world::DAY;
    let request = Request::person("Alice", "email:alice@example.org");
    world.ca.issue(&request.valid(start, start + 300 * crate::world::DAY))
}

/// Certificates reach the gateway in one way only, well before the TTL of five minutes: while everything runs, while the
/// directory is down, and after it has come back.
#[track_caller]
fn reissues_reach_the_gateway(way: &str, following: impl Fn(&World, &Server) -> Vec<String>) {
    let world = World::hosting(&["example.org"]);
    let certificates: Vec<Issued> = (0..5).map(|days| issue(&world, days)).collect();
    world.publish(&certificates[0]);
    let mut server = world.serve();
    let following = following(&world, &server);
    let following: Vec<&str> = following.iter().map(String::as_str).collect();
    let gateway = Gateway::start(&world, &server, &following);
    assert_eq!(gateway.next(), ("first".to_owned(), certificates[0].sha256()));
    let noticed = |issued: &Issued| (way.to_owned(), issued.sha256());

    world.publish(&certificates[1]);
    assert_eq!(gateway.next(), noticed(&certificates[1]));

    let addresses = [server.dns, server.dot, server.http].map(|address| address.to_string());
    server.kill();
    world.publish(&certificates[2]);
    let [dns, dot, http] = &addresses;
    let mut again = Command::new(CERTDIR);
    let server = Server::start(&mut again, &world.data, &["--dns", dns, "--dot", dot, "--http", http]);
    assert_eq!(gateway.next(), noticed(&certificates[2]));

    world.publish(&certificates[3]);
    assert_eq!(gateway.next(), noticed(&certificates[3]));
    drop(server);
}

#[test]
fn dns_push_brings_reissues_through_a_crash() {
    reissues_reach_the_gateway("push", |world, server| {
        let authority = world.data.join("tls/self-signed.pem").display().to_string();
        let push = server.dot.to_string();
        ["--push-server", &push, "--tls-authorities", &authority].map(ToOwned::to_owned).to_vec()
    });
}

#[test]
fn the_change_feed_brings_reissues_through_a_crash() {
    reissues_reach_the_gateway("feed", |_, server| vec!["--feed".to_owned(), format!("http://{}", server.http)]);
}

#[test]
fn the_change_feed_with_a_token_brings_reissues_through_a_crash() {
    reissues_reach_the_gateway("feed", |world, server| {
        let arguments = ["token", "add", "--role", "reader", "--domain", "example.org", "--json"];
        let token = world.certdir(&arguments).ok().json()["token"].as_str().unwrap().to_owned();
        vec!["--feed".to_owned(), format!("http://{}", server.http), "--token".to_owned(), token]
    });
}
