//! RFC 8906: a common operational problem, failure to communicate. The probes of section 8 as dig sends them, by the command
//! lines of that section.

use super::{Form, Served, family};
use crate::world::{client, run};

struct Probe(Served);

impl Probe {
    fn new() -> Probe {
        Probe(Served::start(&family(Form::Minimal)))
    }

    /// What dig prints, on one space each.
    #[track_caller]
    fn dig(&self, arguments: &str) -> Said {
        let port = self.0.address.port().to_string();
        let mut dig = client("dig");
        dig.args(["@127.0.0.1", "-p", &port, "+tries=1", "+time=10"]).args(arguments.split(' '));
        Said(crate::world::spaced(&run(&mut dig).ok().text()))
    }
}

struct Said(String);

impl Said {
    #[track_caller]
    fn has(self, wanted: &[&str]) -> Said {
        for text in wanted {
            assert!(self.0.contains(text), "{text} in {}", self.0);
        }
        self
    }

    #[track_caller]
    fn lacks(self, unwanted: &[&str]) -> Said {
        for text in unwanted {
            assert!(!self.0.contains(text), "no {text} in {}", self.0);
        }
        self
    }

    /// NOERROR with the SOA record, AA, and none of the other flags.
    #[track_caller]
    fn answers_soa(self) -> Said {
        self.has(&["status: NOERROR", "flags: qr aa;", " IN SOA "]).lacks(&["MBZ", "WARNING"])
    }

    #[track_caller]
    fn answers_badvers(self) -> Said {
        self.has(&["status: BADVERS", "flags: qr;", "EDNS: version: 0,"]).lacks(&[" IN SOA ", "MBZ", "OPT=100"])
    }
}

#[test]
fn section_8_1_1_is_the_server_configured_for_the_zone() {
    Probe::new().dig("+noedns +noad +norec soa example.test").answers_soa().lacks(&["OPT PSEUDOSECTION"]);
}

#[test]
fn section_8_1_2_unknown_types() {
    let said = Probe::new().dig("+noedns +noad +norec type1000 example.test");
    said.has(&["status: NOERROR", "flags: qr aa;", "ANSWER: 0,"]).lacks(&["OPT PSEUDOSECTION"]);
}

#[test]
fn section_8_1_3_header_bits() {
    let probe = Probe::new();
    // 8.1.3.1 CD, 8.1.3.2 AD, 8.1.3.3 the last reserved bit, 8.1.3.4 RD
    probe.dig("+noedns +noad +norec +cd soa example.test").answers_soa();
    probe.dig("+noedns +norec +ad soa example.test").answers_soa();
    probe.dig("+noedns +noad +norec +zflag soa example.test").answers_soa();
    let said = probe.dig("+noedns +noad +rec soa example.test");
    said.has(&["status: NOERROR", "flags: qr aa rd;", " IN SOA "]);
}

#[test]
fn section_8_1_4_unknown_opcodes() {
    let probe = Probe::new();
    for opcode in [3, 6, 15] {
        let said = probe.dig(&format!("+noedns +noad +opcode={opcode} +norec +header-only"));
        said.has(&["status: NOTIMP", "flags: qr;", "QUERY: 0, ANSWER: 0, AUTHORITY: 0, ADDITIONAL: 0"]);
    }
}

#[test]
fn section_8_1_5_tcp() {
    Probe::new().dig("+noedns +noad +norec +tcp soa example.test").answers_soa();
}

#[test]
fn section_8_2_1_minimal_edns() {
    let said = Probe::new().dig("+nocookie +edns=0 +noad +norec soa example.test");
    said.answers_soa().has(&["EDNS: version: 0,"]);
}

#[test]
fn section_8_2_2_edns_version_negotiation() {
    Probe::new().dig("+nocookie +edns=1 +noednsneg +noad +norec soa example.test").answers_badvers();
}

#[test]
fn section_8_2_3_unknown_edns_options() {
    let said = Probe::new().dig("+nocookie +edns=0 +noad +norec +ednsopt=100 soa example.test");
    said.answers_soa().has(&["EDNS: version: 0,"]).lacks(&["OPT=100"]);
}

#[test]
fn section_8_2_4_unknown_edns_flags() {
    let said = Probe::new().dig("+nocookie +edns=0 +noad +norec +ednsflags=0x40 soa example.test");
    said.answers_soa().has(&["EDNS: version: 0, flags:;"]);
}

#[test]
fn section_8_2_5_version_negotiation_with_unknown_flags() {
    Probe::new().dig("+nocookie +edns=1 +noednsneg +noad +norec +ednsflags=0x40 soa example.test").answers_badvers();
}

#[test]
fn section_8_2_6_version_negotiation_with_unknown_options() {
    Probe::new().dig("+nocookie +edns=1 +noednsneg +noad +norec +ednsopt=100 soa example.test").answers_badvers();
}

#[test]
fn section_8_2_7_truncated_responses() {
    let probe = Probe::new();
    let said = probe.dig("+norec +dnssec +bufsize=512 +ignore dnskey example.test");
    said.has(&["status: NOERROR", "EDNS: version: 0, flags: do;"]);
    // Its answer has room in 512 octets; the proof that there is no such name has not, and still OPT is there.
    let said = probe.dig("+norec +nocookie +dnssec +bufsize=512 +ignore a a.b.nothing.example.test");
    said.has(&["flags: qr aa tc;", "EDNS: version: 0, flags: do;"]);
    let whole = probe.dig("+norec +nocookie +dnssec +bufsize=1232 +ignore a a.b.nothing.example.test");
    whole.has(&["status: NXDOMAIN", "flags: qr aa;", "EDNS: version: 0, flags: do;"]).lacks(&[" tc;"]);
}

#[test]
fn section_8_2_8_do() {
    let said = Probe::new().dig("+nocookie +edns=0 +noad +norec +dnssec soa example.test");
    said.answers_soa().has(&["EDNS: version: 0, flags: do;", " IN RRSIG SOA "]);
}

#[test]
fn section_8_2_9_version_negotiation_with_do() {
    let said = Probe::new().dig("+nocookie +edns=1 +noednsneg +noad +norec +dnssec soa example.test");
    said.answers_badvers().has(&["EDNS: version: 0, flags: do;"]);
}

#[test]
fn section_8_2_10_several_defined_options() {
    let said = Probe::new().dig("+edns=0 +noad +norec +cookie +nsid +expire +subnet=0.0.0.0/0 soa example.test");
    said.answers_soa().has(&["EDNS: version: 0,"]);
}
