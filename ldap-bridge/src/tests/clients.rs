//! Real clients against bound sockets: OpenLDAP's `ldapsearch`, and the `ldap3` crate.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;

use certdir_directory::Allowance;
use ldap3::{LdapConnAsync, Scope, SearchEntry};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::fixture::World;
use crate::{Error, Frontend, Metrics, Options};

struct Running {
    address: SocketAddr,
    metrics: Metrics,
    stop: watch::Sender<bool>,
    ended: JoinHandle<Result<(), Error>>,
}

async fn start(world: &World, options: Options) -> Running {
    let frontend = Frontend::bind(&[SocketAddr::from(([127, 0, 0, 1], 0))], options).unwrap();
    let (address, metrics) = (frontend.addresses()[0], frontend.metrics());
    let (stop, stopped) = watch::channel(false);
    let allowance = Arc::new(Allowance::new(10_000, 10_000));
    let ended = tokio::spawn(frontend.run(world.reader().await, allowance, world.clock(), stopped));
    Running { address, metrics, stop, ended }
}

/// Exit code and standard output of ldapsearch, which must be installed.
async fn ldapsearch(server: &Running, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new("ldapsearch");
    command.args(["-x", "-LLL", "-o", "ldif-wrap=no", "-H", &format!("ldap://{}", server.address)]).args(arguments);
    command.env("LDAPNOINIT", "1");
    let output = tokio::task::spawn_blocking(move || command.output().expect("ldapsearch (apt install ldap-utils)"))
        .await
        .unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ldapsearch_finds_and_is_told() {
    let world = World::new().await;
    let server = start(&world, Options::default()).await;
    for (arguments, code, lines) in [
        (
            &["-b", "", "(mail=Alice@example.org)"][..],
            0,
            &["dn: mail=alice@example.org,dc=example,dc=org", "userCertificate;binary:: MII", "cn: Alice Example"][..],
        ),
        (&["-b", "dc=example,dc=org", "(uid=alice)", "userCertificate"], 0, &["userCertificate;binary:: MII"]),
        (&["-b", "", "(mail=nobody@example.org)"], 0, &[]),
        (
            &["-b", "", "-s", "base", "(objectClass=*)", "+"],
            0,
            &["namingContexts: dc=example,dc=org", "supportedLDAPVersion: 3"],
        ),
        (
            &["-b", "cn=Subschema", "-s", "base", "(objectClass=*)", "attributeTypes"],
            0,
            &["attributeTypes: ( 2.5.4.36 NAME 'userCertificate'"],
        ),
        (&["-b", "dc=nowhere", "(uid=alice)"], 32, &[]),
        (&["-b", "", "(mail=*)", "mail"], 4, &["mail: "]),
        (&["-b", "", "-z", "2", "(mail=*)", "mail"], 4, &["mail: "]),
        (&["-b", "", "-A", "(uid=alice)", "mail"], 0, &["mail:"]),
        (&["-b", "", "-D", "cn=admin", "-w", "secret", "(uid=alice)"], 49, &[]),
        (&["-b", "", "-e", "!1.2.3", "(uid=alice)"], 12, &[]),
        (&["-b", "", "-e", "1.2.3", "(uid=alice)", "uid"], 0, &["uid: alice"]),
        (&["-b", "", "-E", "pr=10/noprompt", "(uid=alice)", "uid"], 0, &["uid: alice"]),
        (&["-b", "", "-ZZ", "(uid=alice)", "uid"], 2, &[]),
    ] {
        let (exit, said) = ldapsearch(&server, arguments).await;
        // A failed StartTLS is reported as its own exit code, 1 or the result's.
        assert!(exit == code || (arguments.contains(&"-ZZ") && exit != 0), "{arguments:?}: {exit}\n{said}");
        assert_eq!(said.contains("dn:"), !lines.is_empty(), "{arguments:?}\n{said}");
        for line in lines {
            assert!(said.lines().any(|found| found.starts_with(line)), "{arguments:?}: {line}\n{said}");
        }
    }
    server.stop.send_replace(true);
    server.ended.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ldap3_crate_agrees() {
    let world = World::new().await;
    let server = start(&world, Options::default()).await;
    let (connection, mut ldap) = LdapConnAsync::new(&format!("ldap://{}", server.address)).await.unwrap();
    let driver = tokio::spawn(async move { connection.drive().await });
    ldap.simple_bind("", "").await.unwrap().success().unwrap();
    let (entries, _) = ldap
        .search(
            "DC=Example,DC=Org",
            Scope::Subtree,
            "(&(mail=alice@example.org)(objectClass=inetOrgPerson))",
            vec!["userCertificate", "cn"],
        )
        .await
        .unwrap()
        .success()
        .unwrap();
    let entry = SearchEntry::construct(entries.into_iter().next().unwrap());
    assert_eq!(entry.dn, "mail=alice@example.org,dc=example,dc=org");
    assert_eq!(entry.attrs["cn"], ["Alice Example"]);
    assert_eq!(entry.bin_attrs["userCertificate;binary"], std::slice::from_ref(&world.alice));
    assert!(ldap.compare(&entry.dn, "uid", "ALICE").await.unwrap().equal().unwrap());
    assert!(!ldap.compare(&entry.dn, "uid", "bob").await.unwrap().equal().unwrap());
    let (who, _) = ldap.extended(ldap3::exop::WhoAmI).await.unwrap().success().map(|e| (e.0, e.1)).unwrap();
    assert_eq!(who.parse::<ldap3::exop::WhoAmIResp>().authzid, "");
    assert_eq!(ldap.delete("dc=example,dc=org").await.unwrap().rc, 53);
    assert_eq!(ldap.simple_bind("cn=admin", "").await.unwrap().rc, 53);
    // Concurrent searches on one connection.
    let searches = (0..50).map(|n| {
        let mut ldap = ldap.clone();
        tokio::spawn(async move {
            let filter = format!("(mail=person{n}@many.example)");
            ldap.search("", Scope::Subtree, &filter, vec!["mail"]).await.unwrap().success().unwrap().0.len()
        })
    });
    for search in searches.collect::<Vec<_>>() {
        assert_eq!(search.await.unwrap(), 1);
    }
    ldap.unbind().await.unwrap();
    driver.await.unwrap().unwrap();
    server.stop.send_replace(true);
    server.ended.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_over_the_limit_are_told_and_closed() {
    let world = World::new().await;
    let server = start(&world, Options { connections_per_source: 1, ..Options::default() }).await;
    let answered = |address| async move {
        let (connection, mut ldap) = LdapConnAsync::new(&format!("ldap://{address}")).await?;
        let driver = tokio::spawn(async move { connection.drive().await });
        ldap.simple_bind("", "").await?;
        Ok::<_, ldap3::LdapError>((ldap, driver))
    };
    let (mut first, driver) = answered(server.address).await.unwrap();
    let address = server.address;
    let second = tokio::task::spawn_blocking(move || {
        let mut said = Vec::new();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.read_to_end(&mut said).unwrap();
        String::from_utf8_lossy(&said).into_owned()
    });
    let said = second.await.unwrap();
    assert!(said.contains("too many connections") && said.contains("1.3.6.1.4.1.1466.20036"), "{said}");
    let text = server.metrics.prometheus();
    assert!(text.contains("\ncertdir_ldap_connections_refused_total 1\n"), "{text}");
    assert!(text.contains("\ncertdir_ldap_connections 1\n"), "{text}");
    first.unbind().await.unwrap();
    driver.await.unwrap().unwrap();
    server.stop.send_replace(true);
    server.ended.await.unwrap().unwrap();
}
