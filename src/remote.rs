//! [`Directory`]: a running directory, changed over HTTP with a token.

use std::collections::HashMap;
use std::time::Duration;

use certdir_certificate::{Certificate, pem_encode};
use certdir_directory::{Address, DomainStatus, Item, PublishOptions, Report, Submission, TokenRow, WithdrawTarget};
use data_encoding::HEXLOWER;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::Response;

use crate::error::Error;

/// How long a whole request may take; the largest batch needs well below a second.
const TIMEOUT: Duration = Duration::from_secs(120);
/// The largest answer: the report of the largest batch.
const MAX_ANSWER: u64 = 16 << 20;

/// A running directory.
pub(crate) struct Directory {
    agent: Agent,
    base: String,
    token: String,
}

/// What a running directory says when it refuses (RFC 9457).
#[derive(Deserialize)]
struct Problem {
    code: String,
    detail: String,
}

/// A page of its log.
#[derive(Deserialize)]
pub(crate) struct Changes {
    /// What to give as `since` next.
    pub(crate) cursor: String,
    pub(crate) more: bool,
    pub(crate) changes: Vec<Value>,
}

impl Directory {
    pub(crate) fn new(url: &str, token: Option<&str>) -> Result<Directory, Error> {
        let base = url.trim_end_matches('/').to_string();
        if !(base.starts_with("http://") || base.starts_with("https://")) {
            return Err(Error::Usage(format!(
                "{url:?} is not the address of a directory, such as http://127.0.0.1:8080"
            )));
        }
        let token = token.ok_or_else(|| Error::Usage("--url needs a token: --token, or CERTDIR_TOKEN".into()))?;
        if !token.bytes().all(|octet| octet.is_ascii_graphic()) {
            return Err(Error::Usage("the token has a character that no token has; copy it again".into()));
        }
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(TIMEOUT))
            // A token goes to the directory it was given for and nowhere else.
            .max_redirects(0)
            .build()
            .into();
        Ok(Directory { agent, base, token: token.to_string() })
    }

    /// Publishes a batch; what is no certificate is refused here, before anything is sent.
    pub(crate) fn publish(&self, batch: Vec<Submission>, options: &PublishOptions) -> Result<Report, Error> {
        let mut refused = Vec::new();
        let (mut pem, mut origins) = (String::new(), HashMap::new());
        for submission in batch {
            match Certificate::from_der(&submission.der) {
                Ok(certificate) => {
                    pem.push_str(&pem_encode(certificate.der()));
                    origins.insert(HEXLOWER.encode(certificate.sha256()), submission.origin);
                }
                Err(error) => refused.push(Item::refused(submission.origin, error.code(), error.to_string())),
            }
        }
        let mut report = Report { version: 0, dry_run: options.dry_run, items: Vec::new() };
        if !pem.is_empty() {
            report = self.post_certificates(&pem, options)?;
            for item in &mut report.items {
                if let Some(origin) = item.sha256.as_ref().and_then(|sha256| origins.get(sha256)) {
                    item.origin.clone_from(origin);
                }
            }
        }
        report.items.extend(refused);
        Ok(report)
    }

    fn post_certificates(&self, pem: &str, options: &PublishOptions) -> Result<Report, Error> {
        let mut request = self
            .agent
            .post(format!("{}/v1/certificates", self.base))
            .header("Authorization", format!("Bearer {}", self.token))
            .header("Content-Type", "application/x-pem-file");
        for address in &options.addresses {
            request = request.query("address", address.to_string());
        }
        for (name, domain) in
            [("domain_certificate", &options.domain_certificate), ("authority_for", &options.authority_for)]
        {
            if let Some(domain) = domain {
                request = request.query(name, domain.as_str());
            }
        }
        for (name, set) in [("restore", options.restore), ("dry_run", options.dry_run)] {
            if set {
                request = request.query(name, "true");
            }
        }
        self.read(request.send(pem.as_bytes()))
    }

    /// Takes certificates back.
    pub(crate) fn withdraw(&self, target: &WithdrawTarget, reason: Option<String>) -> Result<Report, Error> {
        let path = match target {
            WithdrawTarget::Mailbox(address) => format!("/v1/addresses/{}", encoded(address)),
            WithdrawTarget::Certificate(sha256) => format!("/v1/certificates/{}", HEXLOWER.encode(sha256)),
        };
        let mut request = self.delete(&path);
        if let Some(reason) = reason {
            request = request.query("reason", reason);
        }
        self.read(request.call())
    }

    /// What its log says after a cursor; waits for something new if there is nothing yet.
    pub(crate) fn changes(&self, since: &str, wait: bool) -> Result<Changes, Error> {
        let request = self.agent.get(format!("{}/v1/changes", self.base)).query("since", since).query("limit", "1000");
        let request = if wait { request.query("wait", "30s") } else { request };
        self.read(request.header("Authorization", format!("Bearer {}", self.token)).call())
    }

    /// Hosts a domain.
    pub(crate) fn add_domain(&self, domain: &str, settings: &Value, records: &str) -> Result<DomainStatus, Error> {
        let body = json!({ "domain": domain, "settings": settings, "records": records });
        self.read(self.post_json("/v1/domains", &body))
    }

    /// Changes how a domain is published.
    pub(crate) fn change_domain(&self, domain: &str, changes: &Value) -> Result<DomainStatus, Error> {
        let request = self.agent.patch(format!("{}/v1/domains/{domain}", self.base));
        let request = request.header("Authorization", format!("Bearer {}", self.token));
        self.read(request.header("Content-Type", "application/json").send(changes.to_string()))
    }

    /// Replaces a domain's other records.
    pub(crate) fn set_records(&self, domain: &str, text: &str) -> Result<DomainStatus, Error> {
        let request = self.agent.put(format!("{}/v1/domains/{domain}/records", self.base));
        let request = request.header("Authorization", format!("Bearer {}", self.token));
        self.read(request.header("Content-Type", "text/dns").send(text))
    }

    /// Takes them all away.
    pub(crate) fn remove_records(&self, domain: &str) -> Result<DomainStatus, Error> {
        self.read(self.delete(&format!("/v1/domains/{domain}/records")).call())
    }

    /// A domain's other records.
    pub(crate) fn records(&self, domain: &str) -> Result<String, Error> {
        let request = self.agent.get(format!("{}/v1/domains/{domain}/records", self.base));
        self.text(request.header("Authorization", format!("Bearer {}", self.token)).call())
    }

    /// Hosts a domain no longer.
    pub(crate) fn remove_domain(&self, domain: &str) -> Result<(), Error> {
        self.text(self.delete(&format!("/v1/domains/{domain}")).call()).map(drop)
    }

    /// Makes a token.
    pub(crate) fn add_token(&self, name: &str, role: &str, domains: &[String]) -> Result<(TokenRow, String), Error> {
        #[derive(Deserialize)]
        struct Made {
            token: String,
            row: TokenRow,
        }
        let made: Made =
            self.read(self.post_json("/v1/tokens", &json!({ "name": name, "role": role, "domains": domains })))?;
        Ok((made.row, made.token))
    }

    /// Revokes a token.
    pub(crate) fn revoke_token(&self, id: &str) -> Result<(), Error> {
        if !id.bytes().all(|octet| octet.is_ascii_alphanumeric()) {
            return Err(Error::Usage(format!("{id:?} is not the public part of a token; see: certdir token list")));
        }
        self.text(self.delete(&format!("/v1/tokens/{id}")).call()).map(drop)
    }

    fn delete(&self, path: &str) -> ureq::RequestBuilder<ureq::typestate::WithoutBody> {
        self.agent.delete(format!("{}{path}", self.base)).header("Authorization", format!("Bearer {}", self.token))
    }

    fn post_json(&self, path: &str, body: &Value) -> Result<Response<ureq::Body>, ureq::Error> {
        self.agent
            .post(format!("{}{path}", self.base))
            .header("Authorization", format!("Bearer {}", self.token))
            .header("Content-Type", "application/json")
            .send(body.to_string())
    }

    fn read<T: DeserializeOwned>(&self, answered: Result<Response<ureq::Body>, ureq::Error>) -> Result<T, Error> {
        let text = self.text(answered)?;
        serde_json::from_str(&text).map_err(|_| self.strange())
    }

    /// The body of an answer that is a success, or the report of a batch of which nothing was taken.
    fn text(&self, answered: Result<Response<ureq::Body>, ureq::Error>) -> Result<String, Error> {
        let mut response = answered.map_err(|error| Error::Remote {
            code: "unreachable".into(),
            message: format!("{} cannot be reached: {error}", self.base),
        })?;
        let body = response.body_mut().with_config().limit(MAX_ANSWER).read_to_string().map_err(|_| self.strange())?;
        if response.status().is_success() || serde_json::from_str::<Report>(&body).is_ok() {
            return Ok(body);
        }
        match serde_json::from_str::<Problem>(&body) {
            Ok(problem) => Err(Error::Remote { code: problem.code, message: problem.detail }),
            Err(_) => Err(self.strange()),
        }
    }

    fn strange(&self) -> Error {
        Error::Remote {
            code: "strange".into(),
            message: format!("{} does not answer as a directory does; check --url", self.base),
        }
    }
}

/// An address as a segment of a path: everything but RFC 3986's unreserved characters percent-encoded.
fn encoded(address: &Address) -> String {
    let plain = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_' | b'~');
    address
        .to_string()
        .bytes()
        .map(|octet| if plain(octet) { char::from(octet).to_string() } else { format!("%{octet:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_needed_and_the_url_must_be_one() {
        assert!(Directory::new("127.0.0.1:8080", Some("x")).is_err());
        assert!(Directory::new("http://127.0.0.1:8080/", None).is_err());
        assert!(Directory::new("http://127.0.0.1:8080/", Some("x\r\ny")).is_err());
        assert_eq!(Directory::new("http://127.0.0.1:8080/", Some("x")).unwrap().base, "http://127.0.0.1:8080");
    }

    #[test]
    fn addresses_become_one_segment() {
        assert_eq!(encoded(&Address::parse("a/b?c@example.org").unwrap()), "a%2Fb%3Fc%40example.org");
    }
}
