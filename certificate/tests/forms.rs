//! DER and PEM, and what is neither.

use certdir_certificate::{Certificate, Error, MAX_CERTIFICATE, MAX_INPUT, pem_blocks, pem_encode};

use crate::{file, one};

fn refusal(input: &[u8]) -> Error {
    Certificate::read_all(input).expect_err("a certificate was found where there is none")
}

#[test]
fn der_and_pem_are_the_same_certificate() {
    let der = file("p256.der");
    let from_der = Certificate::from_der(&der).unwrap();
    assert_eq!(from_der, one("p256"));
    assert_eq!(&**from_der.der(), &der[..]);
    assert_eq!(Certificate::read_all(&der), Ok(vec![from_der.clone()]));
    assert_eq!(from_der.to_pem().as_bytes(), file("p256.pem"), "openssl writes the same text");
    assert_eq!(Certificate::read_all(from_der.to_pem().as_bytes()).unwrap(), [from_der]);
}

#[test]
fn pem_lines_are_64_characters_at_most_and_none_is_empty() {
    for length in 0..200 {
        let pem = pem_encode(&vec![7; length]);
        assert!(pem.lines().all(|line| (1..=64).contains(&line.len())), "{length}");
        let mut blocks = pem_blocks(pem.as_bytes());
        assert_eq!(blocks.next().unwrap().unwrap().der, vec![7; length]);
        assert_eq!(blocks.next(), None);
    }
}

#[test]
fn a_bundle_keeps_its_order_and_text_is_passed_over() {
    let all = Certificate::read_all(&file("bundle.pem")).unwrap();
    assert_eq!(all, [one("p256"), one("ca"), one("rsa")]);
    let spaced: String = one("p256").to_pem().lines().map(|line| format!("  {line}\t\r\n\r\n")).collect();
    assert_eq!(Certificate::read_all(spaced.as_bytes()).unwrap(), [one("p256")]);
    let chain = format!("0 s:CN = a chain as s_client shows it\n{}", one("p256").to_pem());
    assert_eq!(Certificate::read_all(chain.as_bytes()).unwrap(), [one("p256")]);
    let old_label = one("p256").to_pem().replace("CERTIFICATE", "X509 CERTIFICATE");
    assert_eq!(Certificate::read_all(old_label.as_bytes()).unwrap(), [one("p256")]);
    let no_line_end = one("p256").to_pem();
    assert_eq!(Certificate::read_all(no_line_end.trim_end().as_bytes()).unwrap(), [one("p256")]);
}

#[test]
fn other_things_are_called_by_their_names() {
    for (input, found) in [
        (file("request.der"), "a certificate request"),
        (file("request.pem"), "a PEM file with CERTIFICATE REQUEST"),
        (file("crl.der"), "a revocation list"),
        (file("certificates.p7b"), "a PKCS#7 or CMS message"),
        (b"Dear Sir, please find enclosed".to_vec(), "some text"),
        ("Bücher".as_bytes().to_vec(), "some text"),
        (b"-----BEGIN \x1b[2J-----\n".to_vec(), "a PEM file with \\u{1b}[2J"),
        (vec![0; 10_000_000], "other binary data"),
        (b"\x7fELF\x02\x01\x01\x00".to_vec(), "other binary data"),
    ] {
        let Error::NotACertificate { found: named } = refusal(&input) else { panic!("{found}: {}", refusal(&input)) };
        assert_eq!(named, found);
    }
    assert_eq!(
        Certificate::from_der(&file("public-key.der")),
        Err(Error::NotACertificate { found: "a public key".to_owned() })
    );
    assert_eq!(
        Certificate::from_der(&file("p256.pem")),
        Err(Error::NotACertificate { found: "PEM text where DER is wanted".to_owned() })
    );
    assert_eq!(refusal(b""), Error::Empty);
    assert_eq!(refusal(b" \r\n\t\n"), Error::Empty);
    assert_eq!(Certificate::from_der(b""), Err(Error::Empty));
}

#[test]
fn a_private_key_is_noticed_wherever_it_is() {
    let key = "-----BEGIN PRIVATE KEY-----\nMC4=\n-----END PRIVATE KEY-----\n";
    let certificate = one("p256").to_pem();
    for pem in [
        key.to_owned(),
        format!("{key}{certificate}"),
        format!("{certificate}{key}"),
        format!("{certificate}{}", key.replace("PRIVATE", "EC PRIVATE")),
        format!("{certificate}{}", key.replace("PRIVATE", "ENCRYPTED PRIVATE")),
    ] {
        assert_eq!(refusal(pem.as_bytes()), Error::PrivateKey, "{pem}");
    }
    // The outlines of PKCS#8, of an encrypted PKCS#8, of RFC 5915 and of PKCS#12.
    for der in [
        &[0x30, 10, 2, 1, 0, 0x30, 1, 5, 4, 2, 0, 0][..],
        &[0x30, 7, 0x30, 3, 6, 1, 0x2a, 4, 0],
        &[0x30, 6, 2, 1, 1, 4, 1, 7],
        &[0x30, 7, 2, 1, 3, 0x30, 2, 5, 0],
    ] {
        assert_eq!(Certificate::from_der(der), Err(Error::PrivateKey), "{der:02x?}");
    }
}

#[test]
fn sizes() {
    let der = file("p256.der");
    assert_eq!(
        Certificate::read_all(&file("truncated.der")),
        Err(Error::Truncated { present: 400, announced: der.len() })
    );
    let long = [&der[..], &[0, 0]].concat();
    assert_eq!(refusal(&long), Error::TrailingData { octets: 2 });
    assert_eq!(refusal(&[&der[..], &der[..]].concat()), Error::TrailingData { octets: der.len() });

    let mut large = vec![0x30, 0x83, 0xff, 0xff, 0xff];
    large.resize(10_000_000, 0);
    assert_eq!(refusal(&large), Error::TooLarge { octets: large.len(), limit: MAX_CERTIFICATE });
    let block = refusal(pem_encode(&vec![0x30; MAX_CERTIFICATE + 100]).as_bytes());
    assert_eq!((block.code(), matches!(block, Error::InBlock { line: 1, .. })), ("too-large", true));
    large.truncate(MAX_CERTIFICATE);
    let just = refusal(pem_encode(&large).as_bytes());
    assert_eq!(just.code(), "truncated", "the limit itself is not too much: {just}");
    assert_eq!(refusal(&vec![b'x'; MAX_INPUT + 1]), Error::TooLarge { octets: MAX_INPUT + 1, limit: MAX_INPUT });
}

#[test]
fn broken_pem_names_its_line() {
    let pem = one("p256").to_pem();
    let before = "one\ntwo\n";
    for (text, line) in [
        (format!("{before}{}", &pem[..200]), 3),
        (format!("{before}{}{pem}", &pem[..pem.find("-----END").unwrap()]), 3),
        (format!("{before}{}", pem.replace("END CERTIFICATE", "END X509 CERTIFICATE")), 3 + pem.lines().count() - 1),
        (format!("{before}{}", pem.replacen("MII", "M!I", 1)), 3),
        (format!("{before}{}", pem.replacen("MII", "MI", 1)), 3),
        (format!("{before}{}", pem.replacen("\n-----END", "A\n-----END", 1)), 3),
    ] {
        let error = refusal(text.as_bytes());
        assert!(matches!(error, Error::BadPem { line: named, .. } if named == line), "{error}");
    }
    let error = refusal(format!("{before}{}", pem_encode(&file("truncated.der"))).as_bytes());
    assert_eq!(error.code(), "truncated");
    assert!(
        error.to_string().starts_with("the certificate at line 3: the certificate is cut off after 400 of "),
        "{error}"
    );
}

#[test]
fn blocks_go_on_behind_an_error() {
    let pem = one("p256").to_pem();
    let cut = &pem[..pem.find("-----END").unwrap()];
    let key = "-----BEGIN RSA PRIVATE KEY-----\nMC4=\n-----END RSA PRIVATE KEY-----\n";
    let text = format!("{cut}{pem}{key}{}{pem}", pem.replacen("MII", "M!I", 1));
    let found: Vec<_> = pem_blocks(text.as_bytes()).map(|block| block.map(|b| b.der).map_err(|e| e.code())).collect();
    let good = || Ok(file("p256.der"));
    assert_eq!(found, [Err("bad-pem"), good(), Err("private-key"), Err("bad-pem"), good()]);
}
