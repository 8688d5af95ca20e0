//! The page for people.

use super::house::{House, golden};

#[tokio::test]
async fn the_pages_are_these() {
    let house = House::furnished().await;
    for (name, target, status) in [
        ("home.html", "/", 200),
        ("found.html", "/lookup?address=alice%40example.org", 200),
        ("several.html", "/lookup?address=+bob@example.org+", 200),
        ("domain.html", "/lookup?address=zoe@example.org", 200),
        ("authorities.html", "/lookup?address=domain-confidentiality-authority@example.net", 200),
        ("not-published.html", "/lookup?address=zoe@example.net", 404),
        ("domain-not-hosted.html", "/lookup?address=alice@example.com", 404),
        ("bad-address.html", "/lookup?address=alice", 400),
        ("mallory.html", "/lookup?address=mallory@example.org", 200),
        ("injection.html", "/lookup?address=%22%3E%3Cscript%3Ealert(1)%3C/script%3E@example.org", 400),
    ] {
        let page = house.get(target).await;
        assert_eq!((page.status, page.header("content-type")), (status, "text/html; charset=utf-8"), "{target}");
        let text = page.text();
        assert!(!text.to_lowercase().contains("<script"), "{target}");
        assert!(text.contains("<html lang=\"en\">") && text.contains("<label for=\"address\">"), "{target}");
        golden(name, &text);
    }
}

#[tokio::test]
async fn a_quoted_local_part_is_text_wherever_it_is_shown() {
    let house = House::furnished().await;
    // A valid address (RFC 5321 section 4.1.2) of a domain without a certificate of its own.
    let page = house.get("/lookup?address=%22%3Cimg%20src=x%20onerror=alert(1)%3E%22@example.net").await;
    assert!(page.status == 404 || page.status == 400, "{}", page.status);
    assert!(!page.text().contains("<img"), "{}", page.text());
    let json = house.get("/v1/addresses/%22%3Cimg%3E%22@example.net").await;
    assert_eq!(json.header("content-type"), "application/problem+json");
    assert_eq!(json.header("x-content-type-options"), "nosniff");
}

#[tokio::test]
async fn the_download_links_work() {
    let house = House::furnished().await;
    let text = house.get("/lookup?address=alice@example.org").await.text();
    let links: Vec<&str> =
        text.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()).filter(|link| *link != "/").collect();
    assert_eq!(links.len(), 2);
    for (link, media_type, file) in [
        (links[0], "application/pkix-cert", "alice@example.org.cer"),
        (links[1], "application/x-pem-file", "alice@example.org.pem"),
    ] {
        let answer = house.get(link).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, media_type));
        assert_eq!(answer.header("content-disposition"), format!("attachment; filename=\"{file}\""));
    }
}
