//! Searches: bases, scopes, filters of real clients, attribute selections, limits.

use std::sync::atomic::Ordering;

use super::fixture::{NOW, World, search};
use crate::filter::tests::ber_of;
use crate::message::Scope;

const ALICE: &str = "mail=alice@example.org,dc=example,dc=org";
const BOB: &str = "mail=bob@example.org,dc=example,dc=org";
const CAROL: &str = "mail=carol@sub.example.org,dc=sub,dc=example,dc=org";
const GATEWAY: &str = "mail=domain-confidentiality-authority@example.org,dc=example,dc=org";

/// Compares with a golden file in `ldap-bridge/golden`; `UPDATE_GOLDEN=1` writes it anew.
fn golden(name: &str, text: &str) {
    let path = format!("{}/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), text, "{path}; UPDATE_GOLDEN=1 writes it");
}

/// RFC 4512 section 5.1.
#[tokio::test]
async fn root_dse_shows_operational_attributes_only_when_asked() {
    let mut client = World::new().await.connect().await;
    let plain = client.ask("", Scope::Base, 0, "(objectClass=*)", &[]).await;
    assert_eq!(plain.entries[0].names(), ["objectClass"]);
    let all = client.ask("", Scope::Base, 0, "(objectClass=*)", &["*", "+"]).await;
    golden("root-dse.ldif", &all.entries[0].ldif());
    let named = client.ask("", Scope::Base, 0, "(objectClass=top)", &["supportedldapversion", "nonsense"]).await;
    assert_eq!(named.entries[0].text("supportedLDAPVersion"), ["3"]);
    assert_eq!(named.entries[0].names(), ["supportedLDAPVersion"]);
    let other = client.ask("", Scope::Base, 0, "(mail=*)", &["+"]).await;
    assert_eq!((other.dns().len(), other.done.code), (0, 0));
    let below = client.subtree("", "(&(objectClass=*)(supportedLDAPVersion=*))", &["+"]).await;
    assert_eq!(below.dns(), [""; 0], "the root DSE is in no subtree search");
}

#[tokio::test]
async fn schema_is_what_the_golden_file_says() {
    let mut client = World::new().await.connect().await;
    let found = client.ask("CN = subschema", Scope::Base, 0, "(objectClass=subschema)", &["*", "+"]).await;
    golden("subschema.ldif", &found.entries[0].ldif());
    let plain = client.ask("cn=Subschema", Scope::Subtree, 0, "(objectClass=*)", &[]).await;
    assert_eq!(plain.entries[0].names(), ["objectClass", "cn"]);
    let below = client.ask("cn=Subschema", Scope::OneLevel, 0, "(objectClass=*)", &[]).await;
    assert_eq!((below.dns().len(), below.done.code), (0, 0));
}

#[tokio::test]
async fn entries_are_what_the_golden_file_says() {
    let world = World::new().await;
    let mut client = world.connect().await;
    let mut text = String::new();
    for base in [ALICE, CAROL, GATEWAY, "dc=example,dc=org", "dc=sub,dc=example,dc=org"] {
        let found = client.ask(base, Scope::Base, 0, "(objectClass=*)", &["*", "+"]).await;
        assert_eq!(found.dns(), [base]);
        text.push_str(&found.entries[0].ldif());
        text.push('\n');
    }
    golden("entries.ldif", &text);
    let alice = client.ask(ALICE, Scope::Base, 0, "(objectClass=*)", &[]).await;
    assert_eq!(alice.entries[0].values("userCertificate;binary"), std::slice::from_ref(&world.alice));
    let domain = client.ask("dc=example,dc=org", Scope::Base, 0, "(cACertificate=*)", &[]).await;
    assert_eq!(domain.entries[0].values("cACertificate;binary"), std::slice::from_ref(&world.authority));
}

#[tokio::test]
async fn bases_are_found_in_every_spelling_and_scopes_hold() {
    let mut client = World::new().await.connect().await;
    let filter = "(|(uid=alice)(uid=carol))";
    for (base, scope, want) in [
        ("", Scope::Subtree, &[ALICE, CAROL][..]),
        ("", Scope::OneLevel, &[]),
        ("dc=example,dc=org", Scope::Subtree, &[ALICE, CAROL]),
        ("DC=Example, DC=ORG", Scope::Subtree, &[ALICE, CAROL]),
        ("domainComponent=example ; 0.9.2342.19200300.100.1.25 = org", Scope::Subtree, &[ALICE, CAROL]),
        ("dc=example,dc=org", Scope::OneLevel, &[ALICE]),
        ("dc=example,dc=org", Scope::Base, &[]),
        ("dc=sub,dc=example,dc=org", Scope::Subtree, &[CAROL]),
        ("dc=many,dc=example", Scope::Subtree, &[]),
        (ALICE, Scope::Base, &[ALICE]),
        (ALICE, Scope::Subtree, &[ALICE]),
        (ALICE, Scope::OneLevel, &[]),
        ("MAIL=ALICE@EXAMPLE.ORG, dc=example, dc=org", Scope::Base, &[ALICE]),
        (BOB, Scope::Base, &[]),
    ] {
        let found = client.ask(base, scope, 0, filter, &["1.1"]).await;
        let mut dns = found.dns();
        dns.sort_unstable();
        assert_eq!((dns, found.done.code), (want.to_vec(), 0), "{base:?} {scope:?}");
    }
    let domains = client.ask("", Scope::OneLevel, 0, "(objectClass=dcObject)", &["1.1"]).await;
    assert_eq!(domains.dns().len(), 3);
    let below = client.ask("dc=example,dc=org", Scope::OneLevel, 0, "(dc=*)", &["1.1"]).await;
    assert_eq!(below.dns(), ["dc=sub,dc=example,dc=org"]);
}

/// RFC 4511 section 4.1.9: noSuchObject, with the nearest entry above.
#[tokio::test]
async fn a_base_that_is_not_there_is_no_empty_success() {
    let mut client = World::new().await.connect().await;
    for (base, code, matched) in [
        ("mail=nobody@example.org,dc=example,dc=org", 32, "dc=example,dc=org"),
        ("uid=alice,dc=example,dc=org", 32, "dc=example,dc=org"),
        ("mail=alice@example.org,dc=sub,dc=example,dc=org", 32, "dc=sub,dc=example,dc=org"),
        ("ou=people,dc=nothing,dc=example,dc=org", 32, "dc=example,dc=org"),
        ("cn=x,mail=alice@example.org,dc=example,dc=org", 32, "dc=example,dc=org"),
        ("dc=example.org", 32, ""),
        ("dc=org", 32, ""),
        ("o=example", 32, ""),
        ("cn=a,cn=Subschema", 32, ""),
        ("nonsense", 34, ""),
        ("dc=example,,dc=org", 34, ""),
    ] {
        for scope in [Scope::Base, Scope::OneLevel, Scope::Subtree] {
            let found = client.ask(base, scope, 0, "(uid=alice)", &[]).await;
            assert_eq!((found.done.code, found.done.matched.as_str()), (code, matched), "{base}");
            assert!(found.entries.is_empty());
        }
    }
}

/// What real clients send, literally.
#[tokio::test]
async fn queries_of_real_clients() {
    let world = World::new().await;
    let mut client = world.connect().await;
    for (who, base, filter, names, limit, want) in [
        ("gpgsm <a@b>", "", "(mail=alice@example.org)", &[][..], 0, &[ALICE][..]),
        ("gpgsm with a base from its file", "dc=example,dc=org\n", "(mail=alice@example.org)", &[], 0, &[ALICE]),
        ("gpgsm words", "", "(|(sn=*alice ex*)(|(cn=*alice ex*)(mail=*alice ex*)))", &[], 0, &[ALICE]),
        ("gpgsm DN", ALICE, "(objectClass=*)", &[], 0, &[ALICE]),
        ("Thunderbird, one", "dc=example,dc=org", "(mail=alice@example.org)", &["usercertificate;binary"], 2, &[ALICE]),
        (
            "Thunderbird, two",
            "",
            "(|(mail=Alice@example.org)(mail=bob@example.org))",
            &["usercertificate;binary"],
            4,
            &[ALICE, BOB],
        ),
        ("Thunderbird, typing", "", "(|(cn=*ali*-*)(mail=*ali*-*)(sn=*ali*-*))", &["cn", "mail"], 100, &[GATEWAY]),
        (
            "Outlook",
            "",
            "(&(mail=*)(|(mail=alice*)(|(cn=alice*)(|(sn=alice*)(givenName=alice*)))))",
            &["cn", "mail", "userSMIMECertificate", "userCertificate"],
            100,
            &[ALICE],
        ),
        (
            "SEPPmail",
            "",
            "(&(mail=alice@example.org)(userCertificate;binary=*))",
            &["userCertificate;binary"],
            0,
            &[ALICE],
        ),
        ("Kopano", "", "(|(mail=*bob@*)(givenName=*bob@*)(sn=*bob@*))", &["userCertificate;binary"], 0, &[BOB]),
        (
            "Zimbra",
            "",
            "(mail=bob@example.org)",
            &["userSMIMECertificate", "userCertificate;binary", "userCertificate"],
            0,
            &[BOB],
        ),
        ("DigiCert", "", "(|(objectClass=pkiUser)(objectClass=pkiUserData))", &["cn"], 5, &["5 of them"]),
        ("a binary value", "", "(&(mail=alice@example.org)(userCertificate;binary=\\30\\82\\ff))", &[], 0, &[]),
        ("a quoted address", "", "(mail=\"alice\"@example.org)", &[], 0, &[ALICE]),
        ("a name in another normal form", "", "(cn=carol mu\u{308}ller)", &[], 0, &[CAROL]),
    ] {
        let found = client.ask(base, Scope::Subtree, limit, filter, names).await;
        if want == ["5 of them"] {
            assert_eq!((found.entries.len(), found.done.code), (5, 4), "{who}");
            continue;
        }
        let mut dns = found.dns();
        dns.sort_unstable();
        assert_eq!((dns, found.done.code), (want.to_vec(), 0), "{who}: {filter}");
        let wants_certificate =
            names.is_empty() || names.iter().any(|name| name.to_ascii_lowercase().starts_with("usercert"));
        for entry in &found.entries {
            let certificates = entry.values("userCertificate;binary");
            assert_eq!(certificates.len(), usize::from(wants_certificate), "{who}: {:?}", entry.names());
        }
    }
}

/// RFC 4511 section 4.5.1.8, RFC 4522 section 5, RFC 3673.
#[tokio::test]
async fn attribute_selections() {
    let world = World::new().await;
    let mut client = world.connect().await;
    let user = ["objectClass", "cn", "sn", "uid", "mail", "userCertificate;binary"];
    let operational =
        ["entryDN", "entryUUID", "entryCSN", "modifyTimestamp", "structuralObjectClass", "subschemaSubentry"];
    let everything = [&user[..], &operational[..]].concat();
    for (names, want) in [
        (&[][..], &user[..]),
        (&["*"], &user),
        (&["+"], &operational),
        (&["*", "+"], &everything),
        (&["1.1"], &[]),
        (&["1.1", "mail"], &["mail"]),
        (&["nonsense"], &[]),
        (&["MAIL", "mail", "0.9.2342.19200300.100.1.3"], &["mail"]),
        (&["userCertificate"], &["userCertificate;binary"]),
        (&["usercertificate;binary", "userCertificate", "2.5.4.36"], &["userCertificate;binary"]),
        (&["userCertificate;lang-de"], &[]),
        (&["name"], &["cn", "sn"]),
        (&["cACertificate;binary"], &[]),
        (&["entryCSN"], &["entryCSN"]),
    ] {
        let found = client.subtree("", "(mail=alice@example.org)", names).await;
        assert_eq!(found.entries[0].names(), want, "{names:?}");
        if want.contains(&"userCertificate;binary") {
            assert_eq!(
                found.entries[0].values("userCertificate;binary"),
                std::slice::from_ref(&world.alice),
                "{names:?}"
            );
        }
    }
    let id = client.number();
    client.send(&search(id, "", Scope::Subtree, 0, true, &ber_of("(uid=alice)"), &[])).await;
    let types = client.answer(id).await;
    assert_eq!(types.entries[0].names(), user);
    assert!(types.entries[0].attributes.iter().all(|(_, values)| values.is_empty()), "typesOnly");
}

#[tokio::test]
async fn limits_on_what_comes_back() {
    let world = World::new().await;
    let mut client = world.connect().await;
    let two = "(|(uid=alice)(uid=bob))";
    let many = format!("(|{})", (0..200).map(|n| format!("(mail=person{n}@many.example)")).collect::<String>());
    let hard = format!("(&{})", "(mail=*@nowhere*)".repeat(120));
    for (filter, limit, entries, code, said) in [
        (two, 0, 2, 0, ""),
        (two, 2, 2, 0, ""),
        (two, 1, 1, 4, "size limit"),
        (&many, 0, 200, 0, ""),
        (&many, 150, 150, 4, "size limit"),
        // Everybody by a common name: pinned, but not without end.
        ("(cn=shared mailbox)", 0, 500, 4, "size limit"),
        ("(objectClass=*)", 0, 5, 4, "only 5 entries"),
        ("(mail=*)", 1000, 5, 4, "only 5 entries"),
        ("(mail=*)", 5, 5, 4, "size limit"),
        ("(mail=*)", 3, 3, 4, "size limit"),
        ("(&)", 0, 5, 4, "only 5 entries"),
        ("(!(mail=x@example.org))", 0, 5, 4, "only 5 entries"),
        ("(|(mail=alice@example.org)(mail=*))", 0, 5, 4, "only 5 entries"),
        ("(&(mail=alice@example.org)(mail=*))", 0, 1, 0, ""),
        ("(|)", 0, 0, 0, ""),
        ("(foo=bar)", 0, 0, 0, ""),
        ("(mail=carol@*)", 0, 1, 0, ""),
        // Some 240 elements for each of a thousand entries is more than a search may cost.
        (&hard, 0, 0, 11, "mail, uid or cn"),
    ] {
        let found = client.ask("", Scope::Subtree, limit, filter, &["mail"]).await;
        let name = filter.get(..60).unwrap_or(filter);
        assert_eq!((found.entries.len(), found.done.code), (entries, code), "{name} {limit}");
        assert!(found.done.diagnostic.contains(said), "{name}: {}", found.done.diagnostic);
    }
    let deep = format!("{}(uid=a){}", "(!".repeat(100), ")".repeat(100));
    assert_eq!(client.subtree("", &deep, &[]).await.done.code, 11);
}

#[tokio::test]
async fn expired_certificates_and_their_entries_are_gone() {
    let world = World::new().await;
    let mut client = world.connect().await;
    assert_eq!(client.subtree("", "(uid=alice)", &[]).await.entries.len(), 1);
    // The clock passes notAfter; the store still is as it was, and just seen to be so.
    world.now.store(NOW + 3 * 365 * 86_400, Ordering::Relaxed);
    let mut client = world.connect().await;
    let found = client.subtree("", "(uid=alice)", &[]).await;
    assert_eq!((found.entries.len(), found.done.code), (0, 0));
    let base = client.ask(ALICE, Scope::Base, 0, "(objectClass=*)", &[]).await;
    assert_eq!((base.done.code, base.done.matched.as_str()), (32, "dc=example,dc=org"));
}
