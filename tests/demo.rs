//! `certdir demo`: from an empty folder, without a network, and every line it prints works when pasted.

use std::process::Command;

use crate::world::{CERTDIR, Server, client, free_port, run};

/// The lines that are commands to paste.
fn commands(lines: &[String]) -> Vec<String> {
    lines
        .iter()
        .map(|line| line.trim().trim_start_matches("$ ").to_owned())
        .filter(|line| {
            let first = line.split(' ').next().unwrap_or_default();
            matches!(first, "dig" | "kdig" | "delv" | "ldapsearch" | "curl") || first.ends_with("certdir")
        })
        .collect()
}

#[test]
fn every_printed_line_works_when_pasted() {
    let folder = tempfile::TempDir::new().unwrap();
    let mut demo = Command::new(CERTDIR);
    demo.arg("demo").arg("--data").arg(folder.path().join("demo"));
    for listener in ["--dns", "--dot", "--doq", "--ldap", "--http", "--https"] {
        demo.args([listener, &format!("127.0.0.1:{}", free_port())]);
    }
    let mut server = Server::watch(demo.current_dir(folder.path()));
    let lines = server.lines();
    let commands = commands(&lines);
    for program in ["dig", "kdig", "ldapsearch", "curl"] {
        let there = commands.iter().any(|line| line.starts_with(program));
        assert!(there, "no {program} line: {lines:#?}");
    }
    let resolve = format!("{CERTDIR} resolve");
    assert!(commands.iter().any(|line| line.starts_with(&resolve)), "{lines:#?}");
    for line in &commands {
        let said = run(client("sh").current_dir(folder.path()).args(["-c", line]));
        assert_eq!(said.code, 0, "{line}\n{}", said.all());
        assert!(!said.text().trim().is_empty(), "{line} said nothing: {}", said.err);
        let refused = ["REFUSED", "SERVFAIL", "connection refused"];
        assert!(!refused.iter().any(|word| said.text().contains(word)), "{line}\n{}", said.all());
    }
    let (code, _) = server.interrupt();
    assert_eq!(code, Some(0), "{}", server.said());
}
