//! RFC 8765: DNS Push Notifications.

use certdir_dns::Options;

use super::Answer;
use super::query;
use super::stateful::{Client, Pushing, changes, request, subject, tlv};

const ZONE: &str = "\
$TTL 300
www A 192.0.2.1
www TXT \"www\"
alias CNAME www
*.wild A 192.0.2.2
cut NS ns.outside.test.
dname DNAME target
www.target A 192.0.2.4
big TXT \"small\"
";
const SUBSCRIBE: u16 = 0x40;
const PUSH: u16 = 0x41;
const UNSUBSCRIBE: u16 = 0x42;
const RECONFIRM: u16 = 0x43;
const MINUTES_5: u32 = 300_000;

fn with(more: &str) -> String {
    format!("{ZONE}{more}")
}

fn without(line: &str) -> String {
    ZONE.replace(&format!("{line}\n"), "")
}

/// A session with subscriptions, each with its own identification from 1 on; what is there already was told.
fn following(pushing: &Pushing, subjects: &[(&str, &str)]) -> Client {
    let mut client = pushing.session();
    for (id, (owner, rtype)) in (1..).zip(subjects) {
        client.send(&request(id, SUBSCRIBE, &subject(&format!("{owner}.example.test"), rtype, 1)));
    }
    let mut accepted = 0;
    while accepted < subjects.len() {
        let message = client.read();
        if message[2] & 0x80 == 0 {
            changes(&message);
            continue;
        }
        assert_eq!(message[3], 0);
        accepted += 1;
    }
    // Whatever was told at the beginning has come before this.
    client.send(&request(0x7778, 0xF801, b""));
    loop {
        let message = client.read();
        if message[..2] == [0x77, 0x78] {
            return client;
        }
        changes(&message);
    }
}

#[test]
fn section_6_2_1_what_is_there_is_told_first() {
    let pushing = Pushing::start(ZONE);
    let mut client = pushing.session();
    assert_eq!(client.subscribe(1, "www.example.test", "A"), (0, None));
    assert_eq!(client.pushed(), ["+ www A 300 192.0.2.1"]);
    // Nothing is there.
    assert_eq!(client.subscribe(2, "www.example.test", "MX"), (0, None));
    assert_eq!(client.subscribe(3, "nothing.example.test", "A"), (0, None));
    pushing.change(&with("nothing A 192.0.2.9\n"));
    assert_eq!(client.pushed(), ["+ nothing A 300 192.0.2.9"]);
    assert_eq!(pushing.counts().tls.subscriptions(), 3);
}

#[test]
fn section_6_2_1_a_session_needs_no_keepalive_to_begin() {
    let pushing = Pushing::start(ZONE);
    let mut client = pushing.tls();
    assert_eq!(client.subscribe(1, "www.example.test", "A"), (0, None));
    assert_eq!(client.pushed(), ["+ www A 300 192.0.2.1"]);
    assert_eq!(pushing.counts().tls.sessions(), 1);
}

#[test]
fn section_6_2_1_subscriptions_are_unique() {
    let pushing = Pushing::start(ZONE);
    for (id, owner, rtype) in [(2, "WWW.Example.TEST", "A"), (1, "www.example.test", "TXT")] {
        let mut client = following(&pushing, &[("www", "A")]);
        client.is_cut_off_after(&request(id, SUBSCRIBE, &subject(owner, rtype, 1)));
    }
    // Another class is another subscription.
    let mut client = following(&pushing, &[("www", "A")]);
    assert_eq!(client.ask(&request(2, SUBSCRIBE, &subject("www.example.test", "A", 255)))[3], 0);
    pushing.counted("the others ended", |counts| counts.tls.subscriptions() == 2);
}

#[test]
fn section_6_2_1_exactly_one_name_type_and_class() {
    let pushing = Pushing::start(ZONE);
    let mut client = pushing.session();
    let whole = subject("www.example.test", "A", 1);
    for data in [&[][..], &whole[..whole.len() - 1], &[&whole[..], b"x"].concat(), b"\xC0\x0C\0\x01\0\x01", &[b'x'; 99]]
    {
        assert_eq!(client.ask(&request(7, SUBSCRIBE, data))[..4], [0, 7, 0xB0, 1], "{data:?}");
    }
}

/// Neither does an asterisk ask for more than itself, nor an alias for what it stands for.
#[test]
fn section_6_2_1_names_are_taken_as_they_are() {
    let pushing = Pushing::start(ZONE);
    let mut client = pushing.session();
    for (id, owner) in [(1, "*.example.test"), (2, "alias.example.test"), (3, "www.dname.example.test")] {
        assert_eq!(client.subscribe(id, owner, "A"), (0, None));
    }
    assert_eq!(client.subscribe(4, "*.wild.example.test", "A"), (0, None));
    assert_eq!(client.pushed(), ["+ *.wild A 300 192.0.2.2"]);
    assert_eq!(client.subscribe(5, "alias.example.test", "CNAME"), (0, None));
    assert_eq!(client.pushed(), ["+ alias CNAME 300 www.example.test."]);
}

#[test]
fn section_6_2_1_any_is_all() {
    let pushing = Pushing::start(ZONE);
    let mut client = pushing.session();
    assert_eq!(client.subscribe(1, "www.example.test", "ANY"), (0, None));
    assert_eq!(client.pushed(), ["+ www A 300 192.0.2.1", "+ www TXT 300 www"]);
    assert_eq!(client.ask(&request(2, SUBSCRIBE, &subject("alias.example.test", "ANY", 255)))[3], 0);
    assert_eq!(client.pushed(), ["+ alias CNAME 300 www.example.test."]);
    pushing.change(&with("www MX 5 www\n"));
    assert_eq!(client.pushed(), ["+ www MX 300 5 www.example.test."]);
}

#[test]
fn section_6_2_2_what_is_refused_and_for_how_long() {
    let pushing = Pushing::start(ZONE);
    let mut client = pushing.session();
    for (owner, rtype, rcode) in [
        ("www.example.org", "A", 9),
        (".", "A", 9),
        ("cut.example.test", "A", 9),
        ("x.cut.example.test", "A", 9),
        ("www.example.test", "RRSIG", 5),
        ("www.example.test", "OPT", 5),
        ("www.example.test", "AXFR", 5),
    ] {
        assert_eq!(client.subscribe(1, owner, rtype), (rcode, Some(MINUTES_5)), "{owner} {rtype}");
    }
    let other_class = client.ask(&request(1, SUBSCRIBE, &subject("www.example.test", "A", 3)));
    assert_eq!(other_class[3], 9, "everything here is IN");
    // Never NXDOMAIN; and the delegation itself is the parent's to tell.
    assert_eq!(client.subscribe(1, "nothing.example.test", "A"), (0, None));
    assert_eq!(client.subscribe(2, "cut.example.test", "DS"), (0, None));
    // The session goes on.
    assert_eq!(client.subscribe(3, "www.example.test", "A"), (0, None));
    assert_eq!(client.pushed(), ["+ www A 300 192.0.2.1"]);
    assert_eq!(pushing.counts().tls.refused_subscriptions(), 8);
}

/// Section 7: cleartext is not permitted.
#[test]
fn section_7_only_over_tls() {
    let pushing = Pushing::start(ZONE);
    assert_eq!(pushing.tcp().subscribe(1, "www.example.test", "A"), (5, Some(MINUTES_5)));
}

#[test]
fn section_6_2_2_limits() {
    let options = Options { subscriptions_per_connection: 2, subscriptions: 6, ..Options::default() };
    let pushing = Pushing::start_with(ZONE, options);
    let mut first = following(&pushing, &[("www", "A"), ("www", "TXT")]);
    assert_eq!(first.subscribe(9, "alias.example.test", "A"), (5, Some(MINUTES_5)), "of a connection");
    let mut second = following(&pushing, &[("www", "A")]);
    assert_eq!(second.subscribe(9, "alias.example.test", "A"), (5, Some(MINUTES_5)), "of a source");
    // What there is stays, and what ends makes room.
    first.send(&request(0, UNSUBSCRIBE, &[0, 1]));
    pushing.counted("one ended", |counts| counts.tls.subscriptions() == 2);
    assert_eq!(second.subscribe(9, "nothing.example.test", "A"), (0, None));
    pushing.change(&with("www TXT \"more\"\n"));
    assert_eq!(first.pushed(), ["+ www TXT 300 more"]);
    drop((first, second));
    pushing.counted("all ended", |counts| counts.tls.subscriptions() == 0);
    following(&pushing, &[("www", "A"), ("www", "TXT")]);

    let none = Pushing::start_with(ZONE, Options { subscriptions: 0, ..Options::default() });
    assert_eq!(none.session().subscribe(1, "www.example.test", "A").0, 5);
}

#[test]
fn section_6_3_1_changes() {
    let pushing = Pushing::start(ZONE);
    let mut client = following(&pushing, &[("www", "A"), ("www", "TXT"), ("alias", "CNAME")]);
    for (zone, expected) in [
        (with("www A 192.0.2.7\n"), &["+ www A 300 192.0.2.7"][..]),
        // One record of several that are as long.
        (ZONE.to_owned(), &["- www A 192.0.2.7"]),
        // The TTL is a part of the record.
        (ZONE.replace("www A", "www 60 A"), &["+ www A 60 192.0.2.1"]),
        // All that there is: the type, not each record.
        (without("www A 192.0.2.1"), &["-- www A IN"]),
        (ZONE.to_owned(), &["+ www A 300 192.0.2.1"]),
        // Another one in its place: whole records that are gone need not be written.
        (ZONE.replace("192.0.2.1", "192.0.2.3"), &["-- www A IN", "+ www A 300 192.0.2.3"]),
        // Several in one message.
        (
            "$TTL 300\nwww A 192.0.2.5\nwww TXT \"www\"\n".to_owned(),
            &["-- www A IN", "+ www A 300 192.0.2.5", "-- alias CNAME IN"],
        ),
    ] {
        pushing.change(&zone);
        let mut told = Vec::new();
        while told.len() < expected.len() {
            told.extend(client.pushed());
        }
        told.sort();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(told, expected);
    }
}

#[test]
fn section_6_3_1_all_types_are_gone_together() {
    let pushing = Pushing::start(ZONE);
    let mut client = following(&pushing, &[("www", "ANY")]);
    pushing.change("alias CNAME www\n");
    assert_eq!(client.pushed(), ["-- www ANY IN"]);
}

/// A change that concerns two subscriptions is told once.
#[test]
fn section_6_3_1_told_once() {
    let pushing = Pushing::start(ZONE);
    let mut client = following(&pushing, &[("www", "A"), ("www", "ANY"), ("nothing", "A")]);
    pushing.change(&with("www A 192.0.2.7\nnothing A 192.0.2.9\n"));
    let mut told = client.pushed();
    if told.len() == 1 {
        told.extend(client.pushed());
    }
    told.sort();
    assert_eq!(told, ["+ nothing A 300 192.0.2.9", "+ www A 300 192.0.2.7"]);
    // And once more for one that comes later.
    assert_eq!(client.ask(&request(9, SUBSCRIBE, &subject("www.example.test", "A", 255)))[3], 0);
    assert_eq!(client.pushed(), ["+ www A 300 192.0.2.1", "+ www A 300 192.0.2.7"]);
}

/// Signatures are no part of what is followed: the zone signed anew, with another key, is the same.
#[test]
fn section_6_3_1_signing_anew_is_no_change() {
    let pushing = Pushing::start(ZONE);
    let mut client = following(&pushing, &[("www", "A"), ("nothing", "A")]);
    pushing.change(ZONE);
    pushing.change(&with("nothing A 192.0.2.9\n"));
    assert_eq!(client.pushed(), ["+ nothing A 300 192.0.2.9"]);
}

/// A wildcard speaks for the names that it covers, until they speak for themselves.
#[test]
fn section_6_3_1_wildcards() {
    let pushing = Pushing::start(ZONE);
    let mut client = following(&pushing, &[("x.wild", "A"), ("a.b.wild", "A")]);
    pushing.change(&ZONE.replace("192.0.2.2", "192.0.2.22"));
    let mut told = client.pushed();
    told.sort();
    let both = ["+ a.b.wild A 300 192.0.2.22", "+ x.wild A 300 192.0.2.22", "-- a.b.wild A IN", "-- x.wild A IN"];
    assert_eq!(told, both);
    let own = ZONE.replace("192.0.2.2", "192.0.2.22") + "x.wild A 192.0.2.5\n";
    pushing.change(&own);
    assert_eq!(client.pushed(), ["-- x.wild A IN", "+ x.wild A 300 192.0.2.5"]);
    // Another type of its own hides the wildcard, too.
    pushing.change(&own.replace("x.wild A 192.0.2.5", "x.wild TXT \"x\""));
    assert_eq!(client.pushed(), ["-- x.wild A IN"]);
    // And so does a name in between, which exists because of another (RFC 4592 section 2.2.2).
    pushing.change(&(own + "c.b.wild A 192.0.2.6\n"));
    let mut told = client.pushed();
    told.sort();
    assert_eq!(told, ["+ x.wild A 300 192.0.2.5", "-- a.b.wild A IN"]);
    pushing.change(ZONE);
    let mut told = client.pushed();
    told.sort();
    assert_eq!(told, ["+ a.b.wild A 300 192.0.2.2", "+ x.wild A 300 192.0.2.2", "-- x.wild A IN"]);
}

fn texts(count: usize, octets: usize, letter: char) -> String {
    let text = |number: usize| {
        let strings: Vec<String> =
            (0..octets / 200).map(|_| format!("\"{}\"", letter.to_string().repeat(199))).collect();
        format!("big TXT \"{number:03}\" {}\n", strings.join(" "))
    };
    (0..count).map(text).collect()
}

/// 30 records of 1,000 octets do not fit one message.
#[test]
fn section_6_3_1_messages_have_a_length() {
    let pushing = Pushing::start(ZONE);
    let mut client = following(&pushing, &[("big", "TXT")]);
    pushing.change(&(without("big TXT \"small\"") + &texts(30, 1_000, 'x')));
    let mut told = client.pushed();
    let first = told.len();
    while told.len() < 31 {
        told.extend(client.pushed());
    }
    assert!((10..31).contains(&first), "as many as fit: {first}");
    assert_eq!(told[0], "-- big TXT IN");
    assert!(told[1..].iter().all(|change| change.starts_with("+ big TXT 300")));
}

/// A record that fits no message cannot be told. That there is something new is: who asks gets it.
#[test]
fn section_6_3_1_a_record_that_fits_no_message() {
    let pushing = Pushing::start(ZONE);
    let mut client = following(&pushing, &[("big", "TXT")]);
    for (zone, expected) in [
        (with(&texts(1, 30_000, 'x')), &["-- big TXT IN", "+ big TXT 300 small"][..]),
        (with(&texts(1, 30_000, 'y')), &["-- big TXT IN", "+ big TXT 300 small"]),
        (without("big TXT \"small\"") + &texts(1, 30_000, 'y'), &["- big TXT small"]),
        (without("big TXT \"small\"") + &texts(1, 30_000, 'z'), &["-- big TXT IN"]),
        (ZONE.to_owned(), &["-- big TXT IN", "+ big TXT 300 small"]),
    ] {
        pushing.change(&zone);
        assert_eq!(client.pushed(), expected);
        client.send(&query("big.example.test", "TXT", Some(true)));
        let answer = Answer::read(&client.read());
        assert_eq!(answer.answers().len(), 1 + zone.matches("big TXT").count(), "and the signature");
    }
    // The same for what is there at the beginning.
    pushing.change(&(without("big TXT \"small\"") + &texts(1, 30_000, 'x')));
    let mut late = pushing.session();
    assert_eq!(late.subscribe(1, "big.example.test", "TXT"), (0, None));
    assert_eq!(late.pushed(), ["-- big TXT IN"]);
}

/// Who does not read is told what is there when he does, not what was in between.
#[test]
fn section_6_3_1_states_not_history() {
    let pushing = Pushing::start(ZONE);
    let mut client = following(&pushing, &[("big", "TXT")]);
    // More than the connection holds.
    for round in 0..100 {
        let letter = if round % 2 == 0 { 'a' } else { 'b' };
        pushing.change(&(without("big TXT \"small\"") + &texts(50, 1_000, letter)));
    }
    pushing.change(&with("www A 192.0.2.7\nbig TXT \"the end\"\n"));
    let mut told = Vec::new();
    while !told.iter().any(|change: &String| change.ends_with("the end")) {
        told.extend(client.pushed());
    }
    assert!(told.len() < 100 * 51, "{}", told.len());
    assert!(told[told.len() - 2..].iter().all(|change| !change.starts_with('-')), "{:?}", told.last());
}

#[test]
fn section_6_3_only_servers_push() {
    let pushing = Pushing::start(ZONE);
    let data = [subject("www.example.test", "A", 1), vec![0, 0, 0, 1, 0, 4, 192, 0, 2, 1]].concat();
    for id in [0, 7] {
        pushing.session().is_cut_off_after(&request(id, PUSH, &data));
    }
}

#[test]
fn section_6_4_1_a_subscription_ends() {
    let pushing = Pushing::start(ZONE);
    let mut client = following(&pushing, &[("www", "A"), ("www", "TXT")]);
    client.send(&request(0, UNSUBSCRIBE, &[0, 1]));
    // One that is not there is ignored: its request may have failed.
    client.send(&request(0, UNSUBSCRIBE, &[0x99, 0x99]));
    pushing.counted("one ended", |counts| counts.tls.subscriptions() == 1);
    pushing.change(&with("www A 192.0.2.7\nwww TXT \"more\"\n"));
    assert_eq!(client.pushed(), ["+ www TXT 300 more"]);
    // The identification, and the records, may be had again.
    assert_eq!(client.subscribe(1, "www.example.test", "A"), (0, None));
    assert!(client.pushed().contains(&"+ www A 300 192.0.2.7".to_owned()));
    client.is_cut_off_after(&request(0, UNSUBSCRIBE, &[0, 1, 2]));
}

/// Section 6.5: the data here are the server's own, so nothing follows; and nothing is answered.
#[test]
fn section_6_5_1_reconfirm() {
    let pushing = Pushing::start(ZONE);
    let mut client = pushing.session();
    let record = [subject("www.example.test", "A", 1), vec![192, 0, 2, 1]].concat();
    client.send(&request(0, RECONFIRM, &record));
    assert_eq!(client.subscribe(1, "nothing.example.test", "A"), (0, None), "the next that is said");
    client.is_cut_off_after(&request(0, RECONFIRM, &subject("www.example.test", "ANY", 1)));
    pushing.session().is_cut_off_after(&request(7, RECONFIRM, &record));
}

/// RFC 8490 section 7.3, for messages that no request asks for: a client that pads gets padding.
#[test]
fn section_6_3_1_padding() {
    let pushing = Pushing::start(ZONE);
    let mut client = pushing.tls();
    let padded = [request(1, SUBSCRIBE, &subject("www.example.test", "A", 1)), tlv(3, &[0; 100])].concat();
    assert_eq!(client.ask(&padded).len(), 468);
    let push = client.read();
    assert_eq!((push.len(), changes(&push)), (468, vec!["+ www A 300 192.0.2.1".to_owned()]));
}

/// An answer on the same connection is never older than what was told.
#[test]
fn section_6_3_1_an_answer_is_as_new_as_what_was_told() {
    let pushing = Pushing::start(ZONE);
    let mut client = following(&pushing, &[("www", "A")]);
    for last in 10..60 {
        pushing.change(&ZONE.replace("192.0.2.1", &format!("192.0.2.{last}")));
        let told = client.pushed();
        assert_eq!(told.last().unwrap(), &format!("+ www A 300 192.0.2.{last}"));
        client.send(&query("www.example.test", "A", Some(true)));
        let answer = Answer::read(&client.read()).answers();
        assert_eq!(answer[0], format!("www.example.test. A 192.0.2.{last}"));
    }
}
