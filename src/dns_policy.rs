//! The flags that say what one DNS source may get, and the secret of the server cookies.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use certdir_dns::{CookieSecret, Policy, QueryLog, Sample, UdpCertificates};
use clap::{Args, ValueEnum};
use data_encoding::HEXLOWER_PERMISSIVE;
use ring::rand::{SecureRandom, SystemRandom};

use crate::error::Error;
use crate::secret_file::only_its_owner;

/// What one DNS source may get.
#[derive(Debug, Args)]
pub(crate) struct DnsPolicy {
    /// The longest DNS answer over UDP, in octets.
    #[arg(long, value_name = "OCTETS", env = "CERTDIR_UDP_PAYLOAD", default_value_t = 1232,
          value_parser = clap::value_parser!(u16).range(512..=4096))]
    pub(crate) udp_payload: u16,
    /// Who gets certificates and other long answers over UDP: sources that a server cookie has verified (others are told to come over TCP), or
    /// always, which helps whoever forges sources.
    #[arg(long, value_enum, env = "CERTDIR_UDP_CERTIFICATES", default_value_t = UdpCertificatesChoice::Verified)]
    udp_certificates: UdpCertificatesChoice,
    /// UDP answers of one kind (records, denials, errors, withheld answers) that a network without a cookie (IPv4 /24, IPv6 /56) gets in a
    /// second; 0 for no limit.
    #[arg(long, value_name = "N", env = "CERTDIR_DNS_RATE", default_value_t = 200)]
    dns_rate: u32,
    /// Above that rate every so many-th query is told to come over TCP, the others get no answer: 1 answers all, 0 none.
    #[arg(long, value_name = "N", env = "CERTDIR_DNS_SLIP", default_value_t = 1)]
    dns_slip: u32,
    /// Denials that each DNS thread signs in a second, half of them at most for one network; above that UDP queries are told to come over TCP, where they wait.
    /// 0 for no limit.
    #[arg(long, value_name = "N", env = "CERTDIR_DNS_SIGNATURES", default_value_t = 10_000)]
    dns_signatures: u32,
    /// The secret of server cookies, 32 hexadecimal digits; made when it is missing. Servers with one address share it.
    /// Without this flag `dns-cookie-secret` in the data folder.
    #[arg(long, value_name = "FILE", env = "CERTDIR_DNS_COOKIE_SECRET")]
    dns_cookie_secret: Option<PathBuf>,
    /// Log some queries: 1/1000 for one in a thousand, 10/s for ten a second, of each DNS thread.
    #[arg(long, value_name = "SAMPLE", env = "CERTDIR_QUERY_LOG")]
    query_log: Option<SampleChoice>,
    /// Log whole names and addresses. Without this flag only the zone, and the network (IPv4 /24, IPv6 /56).
    #[arg(long, env = "CERTDIR_QUERY_LOG_FULL")]
    query_log_full: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum UdpCertificatesChoice {
    Verified,
    Always,
}

/// Which queries are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SampleChoice(Sample);

impl FromStr for SampleChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<SampleChoice, String> {
        let count = |text: &str| text.parse().ok().filter(|&count: &u32| count > 0);
        let sample = match text.split_once('/') {
            Some(("1", every)) => count(every).map(Sample::OneIn),
            Some((most, "s")) => count(most).map(Sample::PerSecond),
            _ => None,
        };
        sample.map(SampleChoice).ok_or_else(|| "give a sample such as 1/1000 or 10/s".into())
    }
}

impl DnsPolicy {
    /// The policy, with the secret from its file.
    pub(crate) fn read(&self, data: &Path) -> Result<Policy, Error> {
        let secret = match &self.dns_cookie_secret {
            Some(path) => load_or_create(path)?,
            None => load_or_create(&data.join("dns-cookie-secret"))?,
        };
        Ok(Policy {
            udp_payload: self.udp_payload,
            udp_certificates: match self.udp_certificates {
                UdpCertificatesChoice::Verified => UdpCertificates::Verified,
                UdpCertificatesChoice::Always => UdpCertificates::Always,
            },
            responses_per_second: self.dns_rate,
            slip: self.dns_slip,
            signatures_per_second: self.dns_signatures,
            cookies: Some(CookieSecret::new(secret)),
            query_log: self.query_log.map(|choice| QueryLog { sample: choice.0, full: self.query_log_full }),
            ..Policy::default()
        })
    }
}

fn load_or_create(path: &Path) -> Result<[u8; 16], Error> {
    match load(path) {
        Err(Error::File { source, .. }) if source.kind() == ErrorKind::NotFound => create(path),
        other => other,
    }
}

fn load(path: &Path) -> Result<[u8; 16], Error> {
    let at = |source| Error::file(path, source);
    let file = File::open(path).map_err(at)?;
    only_its_owner(path, &file.metadata().map_err(at)?)?;
    let mut text = Vec::new();
    file.take(64).read_to_end(&mut text).map_err(at)?;
    let octets = HEXLOWER_PERMISSIVE.decode(text.trim_ascii()).ok().and_then(|octets| octets.try_into().ok());
    octets.ok_or_else(|| {
        Error::Usage(format!(
            "{}: it is not a secret of 32 hexadecimal digits; remove it to get a new one",
            path.display()
        ))
    })
}

/// Makes a secret: written aside and linked into place, so that two processes agree on one.
fn create(path: &Path) -> Result<[u8; 16], Error> {
    let at = |source| Error::file(path, source);
    let mut secret = [0; 16];
    SystemRandom::new()
        .fill(&mut secret)
        .map_err(|_| at(std::io::Error::other("the system gives no random octets")))?;
    let aside = path.with_extension(format!("{}.new", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside).map_err(at)?;
    let text = format!("{}\n", HEXLOWER_PERMISSIVE.encode(&secret));
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(at)?;
    let linked = std::fs::hard_link(&aside, path);
    std::fs::remove_file(&aside).map_err(at)?;
    match linked {
        Ok(()) => Ok(secret),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => load(path),
        Err(error) => Err(at(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_is_made_once_and_only_its_owner_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dns-cookie-secret");
        let made = load_or_create(&path).unwrap();
        assert_ne!(made, [0; 16]);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(load_or_create(&path).unwrap(), made);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(load_or_create(&path).unwrap_err().to_string().contains("chmod 600"));
    }

    #[test]
    fn a_damaged_secret_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        for text in ["", "0011", "e5e973e5a6b2a43f48e7dc849e37bfcfff\n", "e5e973e5a6b2a43f48e7dc849e37bfcg"] {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            assert!(load_or_create(&path).unwrap_err().to_string().contains("32 hexadecimal"), "{text:?}");
        }
        std::fs::write(&path, "E5e973e5a6b2a43f48e7dc849e37bfcf\n").unwrap();
        assert_eq!(load_or_create(&path).unwrap()[..2], [0xe5, 0xe9]);
    }

    #[test]
    fn samples() {
        assert_eq!("1/1000".parse(), Ok(SampleChoice(Sample::OneIn(1000))));
        assert_eq!("10/s".parse(), Ok(SampleChoice(Sample::PerSecond(10))));
        for wrong in ["", "1", "1/0", "0/s", "2/3", "1/s/s", "-1/s", "s"] {
            assert!(wrong.parse::<SampleChoice>().is_err() || wrong == "1/s", "{wrong}");
        }
    }
}
