//! The change feed followed by curl over restarts, and the certificate store as openssl and Python see it.

use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;

use crate::tokens::publisher;
use crate::validators::python;
use crate::world::{PATIENCE, Request, Server, World, client, collect, many, owner, run, until};

/// curl on a stream of events.
struct Following {
    curl: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

/// An event that came whole: its id, its name, its data.
type Event = (String, String, Value);

impl Following {
    fn start(arguments: &[&str], url: &str) -> Following {
        let mut curl = client("curl");
        curl.args(["-sS", "-N", "--noproxy", "*", "-H", "Accept: text/event-stream"]).args(arguments);
        let mut curl = curl.arg(url).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = collect(curl.stdout.take().unwrap());
        Following { curl, lines }
    }

    fn events(&self) -> Vec<Event> {
        let text = self.lines.lock().unwrap().join("\n") + "\n";
        let field = |event: &str, name: &str| event.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
        // What was cut off in the middle was not an event.
        let whole = text.rsplit_once("\n\n").map_or("", |(whole, _)| whole);
        let read = |event: &str| {
            let data = serde_json::from_str(&field(event, "data: ")?).unwrap();
            Some((field(event, "id: ")?, field(event, "event: ")?, data))
        };
        whole.split("\n\n").filter_map(read).collect()
    }

    /// The Versions of the log that it was told.
    fn versions(&self) -> Vec<u64> {
        let changes = self.events().into_iter().filter(|(_, name, _)| name == "change");
        changes.map(|(_, _, data)| data["version"].as_u64().unwrap()).collect()
    }

    #[track_caller]
    fn wait(&self, name: &str) -> Event {
        until(name, PATIENCE, || self.events().into_iter().find(|(_, event, _)| event == name))
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        drop(self.curl.kill());
        drop(self.curl.wait());
    }
}

fn version(world: &World) -> u64 {
    let log = world.certdir(&["changes", "--json"]).ok().text();
    let last: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    last["version"].as_u64().unwrap()
}

/// The server is killed in the middle of it: what was told before and after is the whole log, each Version once.
#[test]
fn a_follower_misses_nothing_when_the_server_is_killed() {
    let world = World::hosting(&["example.org"]);
    let token = publisher(&world, "example.org");
    let bearer = format!("Authorization: Bearer {token}");
    let mut server = world.serve();
    let first = Following::start(&["-H", &bearer], &server.url("/v1/changes?since=0"));
    assert_eq!(first.wait("begin").2["version"], 0);
    let people: Vec<String> = many(40, "example.org").into_iter().map(|(pem, _)| pem).collect();
    let files: Vec<String> = people
        .iter()
        .enumerate()
        .map(|(n, pem)| world.write(&format!("people/{n}.pem"), pem).display().to_string())
        .collect();
    thread::scope(|scope| {
        let publishing = scope.spawn(|| {
            for file in &files {
                world.certdir(&["publish", file]).ok();
            }
        });
        until("ten changes", PATIENCE, || (first.versions().len() >= 10).then_some(()));
        server.kill();
        publishing.join().unwrap();
    });
    let mut told = first.versions();
    let last = first.events().last().unwrap().0.clone();
    let server = world.serve();
    // As an event source comes back: the header field wins over what is still in the URL.
    let resume = format!("Last-Event-ID: {last}");
    let second = Following::start(&["-H", &bearer, "-H", &resume], &server.url("/v1/changes?since=0"));
    let end = version(&world);
    until("the end of the log", PATIENCE, || (second.versions().last() == Some(&end)).then_some(()));
    told.extend(second.versions());
    assert_eq!(told, (1..=end).collect::<Vec<_>>());
}

/// Where a store went on differently after it was restored from a backup, a follower is told, though the Versions are there.
#[test]
fn a_restored_store_does_not_pass_for_the_one_before() {
    let world = World::hosting(&["example.org"]);
    let token = publisher(&world, "example.org");
    let bearer = format!("Authorization: Bearer {token}");
    let ask = |server: &Server, since: &str| {
        let (code, body) = server.curl(&["-H", &bearer], &format!("/v1/changes?since={since}"));
        (code, serde_json::from_slice::<Value>(&body).unwrap())
    };
    let backup = world.path("backup");
    run(client("cp").arg("-a").arg(&world.data).arg(&backup)).ok();
    let person = |name: &str, address: &str| world.ca.issue(&Request::person(name, &format!("email:{address}")));
    world.publish(&person("Alice", "alice@example.org"));
    let mut server = world.serve();
    let (_, before) = ask(&server, "0");
    let cursor = before["cursor"].as_str().unwrap().to_owned();
    assert_eq!(ask(&server, &cursor).0, 200);
    server.kill();
    run(client("rm").arg("-r").arg(&world.data)).ok();
    run(client("cp").arg("-a").arg(&backup).arg(&world.data)).ok();
    let mut server = world.serve();
    let (code, reset) = ask(&server, &cursor);
    assert_eq!((code, &reset["code"]), (410, &"reset".into()), "it has not come so far");
    server.kill();
    world.publish(&person("Bob", "bob@example.org"));
    world.publish(&person("Carol", "carol@example.org"));
    let server = world.serve();
    let (code, reset) = ask(&server, &cursor);
    assert_eq!((code, &reset["code"]), (410, &"reset".into()), "it went on differently");
}

/// Strangers, over HTTP/2 and HTTP/1.1, as a stream and as a poll: the names they know, and no other.
#[test]
fn curl_follows_names_over_tls() {
    let world = World::hosting(&["example.org"]);
    let server = world.serve();
    let ca = world.data.join("tls/self-signed.pem").display().to_string();
    let name = owner("alice", "example.org");
    let body = serde_json::json!({ "names": [name, "bob@example.org"] }).to_string();
    let form = ["--cacert", &ca, "-H", "Content-Type: application/json", "-d", &body];
    let url = format!("https://{}/v1/changes", server.https);
    let streams: Vec<Following> = ["--http2", "--http1.1"]
        .iter()
        .map(|version| Following::start(&[&form[..], &[version]].concat(), &url))
        .collect();
    let cursor = streams[0].wait("begin").0;
    streams[1].wait("begin");
    let poll = format!("{url}?wait=50s&since={cursor}");
    thread::scope(|scope| {
        let polling = scope.spawn(|| {
            let mut curl = client("curl");
            curl.args(["-sS", "--noproxy", "*", "--max-time", "60"]).args(form);
            run(curl.arg(&poll)).ok().json()
        });
        world.publish(&world.ca.issue(&Request::person("Carol", "email:carol@example.org")));
        world.publish(&world.ca.issue(&Request::person("Alice", "email:alice@example.org")));
        for stream in &streams {
            let (_, _, data) = stream.wait("changed");
            assert_eq!((&data["names"], &data["domains"]), (&serde_json::json!([name]), &serde_json::json!([])));
        }
        let polled = polling.join().unwrap();
        assert_eq!(polled["names"], serde_json::json!([name]));
        assert!(!polled.to_string().contains("carol"), "{polled}");
    });
}

/// `certdir changes` on a running directory says what it says on the data folder.
#[test]
fn the_command_line_reads_the_feed() {
    let world = World::hosting(&["example.org"]);
    let token = publisher(&world, "example.org");
    for (n, (pem, _)) in many(3, "example.org").into_iter().enumerate() {
        let file = world.write(&format!("{n}.pem"), pem);
        world.certdir(&["publish", file.to_str().unwrap()]).ok();
    }
    let server = world.serve();
    let url = format!("http://{}", server.http);
    let versions = |arguments: &[&str]| {
        let said = world.certdir(&[&["changes", "--json"], arguments].concat()).ok().text();
        let version = |line: &str| serde_json::from_str::<Value>(line).unwrap()["version"].as_u64().unwrap();
        said.lines().map(version).collect::<Vec<_>>()
    };
    let remote = ["--url", &url, "--token", &token];
    assert_eq!(versions(&remote), versions(&[]));
    assert_eq!(versions(&[&remote[..], &["--since", "2"]].concat()), versions(&["--since", "2"]));
    assert!(world.certdir(&[&["changes"], &remote[..]].concat()).ok().text().contains("person0@example.org"));
    for arguments in
        [&["--since", "99"][..], &[&["--since", "99"], &remote[..]].concat(), &["--since", "1-0000000000000000"]]
    {
        world.certdir(&[&["changes"], arguments].concat()).exits(1);
    }
    let mut command = world.command(&[&["changes", "--follow", "--since", "3"], &remote[..]].concat());
    let mut follow = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let lines = collect(follow.stdout.take().unwrap());
    world.publish(&world.ca.issue(&Request::person("Alice", "email:alice@example.org")));
    until("the change is told", PATIENCE, || {
        lines.lock().unwrap().iter().any(|line| line.contains("alice@")).then_some(())
    });
    follow.kill().unwrap();
    follow.wait().unwrap();
}

/// Hashes are computed by Python's cryptography, the parts of an answer are taken apart by its mail parser.
const STORE: &str = r#"
import base64, email, email.policy, hashlib, sys, urllib.error, urllib.parse, urllib.request
from cryptography import x509

base, *files = sys.argv[1:]
urllib.request.install_opener(urllib.request.build_opener(urllib.request.ProxyHandler({})))
ders = [open(file, 'rb').read() for file in files]
sha1 = lambda octets: base64.b64encode(hashlib.sha1(octets).digest()).decode().rstrip('=')

def tlv(tag, content):
    size = len(content)
    length = bytes([size]) if size < 128 else (lambda o: bytes([128 | len(o)]) + o)(size.to_bytes((size.bit_length() + 7) // 8, 'big'))
    return bytes([tag]) + length + content

def get(**query):
    url = base + '/search.cgi?' + urllib.parse.urlencode(query)
    with urllib.request.urlopen(urllib.request.Request(url, headers={'Accept-Encoding': 'gzip'})) as answer:
        assert answer.headers['Content-Encoding'] is None and answer.headers['Transfer-Encoding'] is None
        body = answer.read()
        assert int(answer.headers['Content-Length']) == len(body)
        return answer.headers['Content-Type'], body

for der in ders:
    certificate = x509.load_der_x509_certificate(der)
    issuer = certificate.issuer.public_bytes()
    number = certificate.serial_number
    serial = tlv(2, number.to_bytes(number.bit_length() // 8 + 1, 'big'))
    key_id = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    address = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.RFC822Name)[0]
    name = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value
    for query in [
        {'certHash': sha1(der)}, {'sHash': sha1(certificate.subject.public_bytes())}, {'iAndSHash': sha1(tlv(48, issuer + serial))},
        {'sKIDHash': sha1(key_id)}, {'uri': address}, {'email': address, 'x-other': '1'}, {'name': name},
    ]:
        assert get(**query) == ('application/pkix-cert', der), query
    content_type, body = get(iHash=sha1(issuer))
    assert content_type.startswith('multipart/mixed'), content_type
    message = email.message_from_bytes(b'Content-Type: ' + content_type.encode() + b'\r\n\r\n' + body, policy=email.policy.HTTP)
    parts = message.get_payload()
    assert all(part.get_content_type() == 'application/pkix-cert' for part in parts)
    assert sorted(part.get_payload(decode=True) for part in parts) == sorted(ders)
for query, status in [({'certHash': 'A' * 27}, 404), ({'certHash': 'A' * 28}, 400), ({'certHash': 'A' * 26 + '-'}, 400), ({}, 400)]:
    try:
        get(**query)
        raise SystemExit(f'{query} was answered')
    except urllib.error.HTTPError as error:
        assert error.code == status and b'"code"' in error.read(), (query, error)
print('all as RFC 4387 says')
"#;

#[test]
fn the_certificate_store_as_openssl_and_python_see_it() {
    let world = World::hosting(&["example.org"]);
    let people: Vec<_> = ["Alice", "Bob", "Zoë Example"]
        .iter()
        .enumerate()
        .map(|(n, name)| world.ca.issue(&Request::person(name, &format!("email:person{n}@example.org"))))
        .collect();
    let server = world.serve();
    let mut files = Vec::new();
    for (n, person) in people.iter().enumerate() {
        world.publish(person);
        files.push(world.write(&format!("{n}.der"), &person.der).display().to_string());
    }
    let fingerprint =
        run(client("openssl").args(["x509", "-noout", "-fingerprint", "-sha1", "-in", people[0].path()])).ok();
    let digits = fingerprint.text().trim().rsplit('=').next().unwrap().replace(':', "");
    let hash = data_encoding::HEXUPPER.decode(digits.as_bytes()).unwrap();
    let hash = data_encoding::BASE64_NOPAD.encode(&hash);
    until("the store has it", PATIENCE, || {
        let (code, der) = server.curl(&["-G", "--data-urlencode", &format!("certHash={hash}")], "/search.cgi");
        (code == 200 && der == people[0].der).then_some(())
    });
    until("the store has the last", PATIENCE, || server.http_certificate("person2@example.org").map(drop));
    let said = run(python().arg("-c").arg(STORE).arg(format!("http://{}", server.http)).args(&files)).ok();
    assert_eq!(said.text().trim(), "all as RFC 4387 says");
}
