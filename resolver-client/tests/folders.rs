//! Folders of certificates.

use std::fs;
use std::time::Duration;

use certdir_resolver::folder::Folder;
use certdir_resolver::outcome::Claim;
use certdir_resolver::{Answer, Level, Source};
use rcgen::{CertificateParams, DnType, KeyPair, SanType, string::Ia5String};

use crate::directories::{certdir_pem, ders, subject};

fn certificate(name: &str, san: SanType) -> Vec<u8> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names.push(san);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

fn mail(address: &str) -> Vec<u8> {
    certificate("somebody", SanType::Rfc822Name(Ia5String::try_from(address).unwrap()))
}

async fn find(folder: &Folder, address: &str, level: Level) -> Answer {
    folder.find(&subject(address, level), 1_000).await
}

/// Asks until the answer is as expected: the folder is looked at every few seconds.
async fn wait_for(folder: &Folder, address: &str, expected: &[Vec<u8>]) {
    for _ in 0..600 {
        if ders(&find(folder, address, Level::Recipient).await) == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{:?}", find(folder, address, Level::Recipient).await);
}

#[tokio::test]
async fn certificates_are_found_by_what_they_name() {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    let (alice, bob) = (mail("Alice@Example.ORG"), mail("bob@example.org"));
    let domain = certificate("a gateway", SanType::DnsName(Ia5String::try_from("example.org").unwrap()));
    let authority = mail("domain-confidentiality-authority@example.net");
    fs::write(path("both.PEM"), format!("Two people\n{}\n{}", certdir_pem(&alice), certdir_pem(&bob))).unwrap();
    fs::write(path("domain.der"), &domain).unwrap();
    fs::write(path("authority.cer"), certdir_pem(&authority)).unwrap();
    fs::write(path("again.crt"), &bob).unwrap();
    fs::write(path("junk.pem"), "nothing").unwrap();
    fs::write(path("README"), "nothing").unwrap();
    fs::write(path(".hidden.pem"), certdir_pem(&mail("hidden@example.org"))).unwrap();
    fs::create_dir(path("folder.pem")).unwrap();
    let folder = Folder::new(place.path());
    let answer = find(&folder, "alice@example.org", Level::Recipient).await;
    assert_eq!(ders(&answer), [alice]);
    assert_eq!(answer.outcome.candidates()[0].claim, Claim::Local);
    let complaints: Vec<_> = answer.question.exchanges.iter().map(|x| x.question.as_str()).collect();
    assert_eq!(complaints, ["junk.pem"]);
    assert_eq!(ders(&find(&folder, "BOB@EXAMPLE.org", Level::Recipient).await), [bob]);
    assert_eq!(ders(&find(&folder, "anybody@example.org", Level::Domain).await), [domain]);
    assert_eq!(ders(&find(&folder, "anybody@example.net", Level::Domain).await), [authority]);
    for address in ["hidden@example.org", "anybody@example.org", "x@sub.example.org"] {
        assert_eq!(find(&folder, address, Level::Recipient).await.outcome.code(), "not-served", "{address}");
    }
}

#[tokio::test]
async fn changes_of_the_folder_are_seen() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("alice.pem");
    let folder = Folder::new(place.path());
    let (first, second) = (mail("alice@example.org"), mail("alice@example.org"));
    wait_for(&folder, "alice@example.org", &[]).await;
    fs::write(&path, certdir_pem(&first)).unwrap();
    wait_for(&folder, "alice@example.org", std::slice::from_ref(&first)).await;
    fs::write(&path, certdir_pem(&second)).unwrap();
    wait_for(&folder, "alice@example.org", std::slice::from_ref(&second)).await;
    fs::remove_file(&path).unwrap();
    wait_for(&folder, "alice@example.org", &[]).await;
}

#[tokio::test]
async fn what_cannot_be_read_is_no_absence() {
    let place = tempfile::tempdir().unwrap();
    let gone = Folder::new(place.path().join("gone"));
    assert_eq!(find(&gone, "alice@example.org", Level::Recipient).await.outcome.code(), "folder");
    // A link that leads in a circle cannot be read by anybody, not even by root.
    let link = place.path().join("circle.pem");
    std::os::unix::fs::symlink(&link, &link).unwrap();
    let alice = mail("alice@example.org");
    fs::write(place.path().join("alice.der"), &alice).unwrap();
    let folder = Folder::new(place.path());
    assert_eq!(ders(&find(&folder, "alice@example.org", Level::Recipient).await), [alice]);
    let answer = find(&folder, "bob@example.org", Level::Recipient).await;
    assert_eq!(answer.outcome.code(), "folder", "{:?}", answer.outcome);
    assert!(answer.question.exchanges[0].question.contains("circle.pem"));
}
