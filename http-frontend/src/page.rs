//! The public page: one form, one answer. Hand-written HTML, no script; everything from outside goes through [`Text`].

use std::fmt::{self, Display};
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::json::Facts;
use crate::look_up::{Hit, Match, facts, find, parse_address};
use crate::problem::{Problem, add_refusal_headers};
use crate::query::Query;
use crate::site::{Peer, Site};

/// The style sheet of the page, inline; the policy below names its hash.
const STYLE: &str = include_str!("page.css");

/// Nothing is loaded, framed or run; the one style sheet is named by its SHA-256 (CSP Level 3 section 2.3.1).
pub(crate) const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'sha256-dLZHdlW2v7uNz22b30j+PuEPFGzv4NzOPuIgQfx1FWU='; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// `GET /`
pub(crate) async fn home() -> Response {
    let mut response = html(StatusCode::OK, "Find an encryption certificate", "", "");
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    response
}

/// `GET /lookup?address=`. Refusals are pages, too, with the status that programs get for the same address.
pub(crate) async fn look_up(
    State(site): State<Arc<Site>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    query: Result<Query, Problem>,
) -> Response {
    let now = site.now();
    let mut typed = String::new();
    let outcome = async {
        typed = query?.one("address")?.unwrap_or_default().trim().to_owned();
        site.permit_look_up(peer, &headers, now).await?;
        let asked = parse_address(&typed)?;
        let published = site.reader.published()?;
        let hit = find(&published, &asked, now)?;
        let shown = (facts(&hit.certificates)?, facts(&hit.authorities)?);
        Ok((hit, shown))
    }
    .await;
    match outcome {
        Ok((hit, (certificates, authorities))) => {
            let title = match hit.matched {
                Match::Recipient => format!("Certificate for {}", hit.asked),
                Match::Domain => format!("Certificate of the domain {}", hit.asked.domain()),
            };
            html(StatusCode::OK, &title, &typed, &found(&hit, &certificates, &authorities))
        }
        Err(problem) => refusal(&problem, &typed),
    }
}

fn found(hit: &Hit, certificates: &[Facts], authorities: &[Facts]) -> String {
    let mut main = String::new();
    let asked = hit.asked.to_string();
    let domain = hit.asked.domain().as_str();
    let heading = match (hit.matched, certificates.is_empty()) {
        (Match::Recipient, _) => format!("<h2>Certificate for {}</h2>\n", Text(&asked)),
        (Match::Domain, false) => format!(
            "<h2>Certificate of the domain {}</h2>\n<p class=\"note\"><strong>This is not a personal certificate.</strong> \
             It belongs to the mail gateway of the whole domain, for addresses that have no certificate of their own.</p>\n",
            Text(domain)
        ),
        (Match::Domain, true) => format!("<h2>The domain {}</h2>\n", Text(domain)),
    };
    if hit.matched == Match::Domain && !hit.asked.is_domain_authority() {
        main.push_str(&format!("<p>No certificate is published for {} itself.</p>\n", Text(&asked)));
    }
    main.push_str(&heading);
    if certificates.len() > 1 {
        main.push_str("<p>There are several; the newest comes first.</p>\n");
    }
    for facts in certificates {
        main.push_str(&card(facts));
    }
    if !authorities.is_empty() {
        main.push_str(
            "<h2>The domain’s own certification authority</h2>\n<p>Certificates for trust, not for encryption.</p>\n",
        );
        for facts in authorities {
            main.push_str(&card(facts));
        }
    }
    main
}

fn card(facts: &Facts) -> String {
    let asserted = if facts.asserted {
        "<p class=\"note\">The certificate does not name this address; its publisher says that it belongs to it.</p>\n"
    } else {
        ""
    };
    let fingerprint: Vec<&str> = (0..32).filter_map(|n| facts.sha256.get(2 * n..2 * n + 2)).collect();
    format!(
        "<section>\n{asserted}<dl>\n<dt>Subject</dt><dd>{}</dd>\n<dt>Issuer</dt><dd>{}</dd>\n\
         <dt>Valid</dt><dd>from <time>{}</time> to <time>{}</time></dd>\n<dt>Key</dt><dd>{}</dd>\n\
         <dt>SHA-256 fingerprint</dt><dd><code>{}</code></dd>\n</dl>\n\
         <p><a href=\"/v1/certificates/{sha256}?format=der\">Download (.cer)</a> \
         <a href=\"/v1/certificates/{sha256}?format=pem\">Download (.pem)</a></p>\n</section>\n",
        Text(&facts.subject),
        Text(&facts.issuer),
        Text(&facts.not_before),
        Text(&facts.not_after),
        Text(&facts.key),
        Text(&fingerprint.join(":")),
        sha256 = Text(&facts.sha256),
    )
}

fn refusal(problem: &Problem, typed: &str) -> Response {
    let title = match problem.code {
        "not-published" => "No certificate published",
        "domain-not-hosted" => "Not a hosted domain",
        "bad-address" => "Not a mail address",
        "too-many-look-ups" => "Too many look-ups",
        _ if problem.status.is_server_error() => "The directory cannot answer now",
        _ => "That did not work",
    };
    let main = format!("<h2>{}</h2>\n<p role=\"status\">{}.</p>\n", Text(title), Text(&problem.detail));
    let mut response = html(problem.status, title, typed, &main);
    add_refusal_headers(problem, response.headers_mut());
    response
}

/// The page around an answer. `main` is HTML; `title` and `typed` are text.
fn html(status: StatusCode, title: &str, typed: &str, main: &str) -> Response {
    let page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"robots\" content=\"noindex\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1><a href=\"/\">Certificate directory</a></h1>\n\
         <form action=\"/lookup\" method=\"get\">\n<label for=\"address\">Mail address of the person you want to write to</label>\n\
         <input id=\"address\" name=\"address\" type=\"text\" inputmode=\"email\" autocomplete=\"email\" autocapitalize=\"none\" \
         spellcheck=\"false\" required value=\"{}\">\n<button type=\"submit\">Find the certificate</button>\n</form>\n{main}</main>\n\
         </body>\n</html>\n",
        Text(typed),
        title = Text(title),
    );
    let mut response = (status, page).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY));
    response
}

/// Text in HTML, in an element or a quoted attribute. Controls that would reorder or hide what is shown are replaced.
struct Text<'a>(&'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                // A subject that turns its text around (UTR 36 section 2.6) shows what it does.
                '\u{200b}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{202a}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
                | '\u{feff}' => f.write_char('\u{fffd}')?,
                c if c.is_control() => f.write_char('\u{fffd}')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn the_policy_names_the_style_sheet() {
        let hash = data_encoding::BASE64.encode(&Sha256::digest(STYLE));
        assert!(CONTENT_SECURITY_POLICY.contains(&format!("'sha256-{hash}'")), "page.css changed: {hash}");
    }

    #[test]
    fn text_cannot_become_markup_or_turn_around() {
        assert_eq!(
            Text("<a href='x'>\"&\u{202e}\0\n\u{200b}é").to_string(),
            "&lt;a href=&#39;x&#39;&gt;&quot;&amp;\u{fffd}\u{fffd}\u{fffd}\u{fffd}é"
        );
    }
}
