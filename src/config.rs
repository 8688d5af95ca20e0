//! The configuration file: TOML whose keys are the long flags. A flag wins over its variable, a variable over the file.
//!
//! The file's values become the defaults of the flags before the command line is read, so that each setting is checked
//! in one place.

use std::ffi::OsString;
use std::path::Path;

use clap::builder::OsStr;
use clap::{ArgMatches, Command};

use crate::error::Error;

/// The keys a file may have: the settings that are the same every day. What one command does is said to that command.
const KEYS: [&str; 25] = [
    "data",
    "url",
    "token",
    "dns",
    "ldap",
    "http",
    "dot",
    "doq",
    "https",
    "tls-cert",
    "tls-key",
    "dns-workers",
    "udp-payload",
    "udp-certificates",
    "dns-rate",
    "dns-slip",
    "dns-signatures",
    "dns-cookie-secret",
    "query-log",
    "query-log-full",
    "lookups-per-second",
    "lookups-burst",
    "server",
    "trust-anchor",
    "timeout",
];
/// The largest file.
const MAX_FILE: u64 = 65_536;

/// Reads the command line, over the configuration file that it or `CERTDIR_CONFIG` names.
pub(crate) fn matches(command: Command, arguments: Vec<OsString>) -> Result<Result<ArgMatches, clap::Error>, Error> {
    let command = match file_named(&arguments) {
        Some(file) => with_file(command, Path::new(&file))?,
        None => command,
    };
    Ok(command.try_get_matches_from(arguments))
}

fn file_named(arguments: &[OsString]) -> Option<OsString> {
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let text = argument.to_string_lossy();
        if text == "--" {
            break;
        }
        if text == "--config" {
            return rest.next().cloned();
        }
        if let Some(file) = text.strip_prefix("--config=") {
            return Some(file.into());
        }
    }
    std::env::var_os("CERTDIR_CONFIG")
}

fn with_file(mut command: Command, path: &Path) -> Result<Command, Error> {
    let wrong = |what: String| Error::Usage(format!("{}: {what}", path.display()));
    let size = std::fs::metadata(path).map_err(|source| Error::file(path, source))?.len();
    if size > MAX_FILE {
        return Err(wrong("it is too large for a configuration file".into()));
    }
    let text = std::fs::read_to_string(path).map_err(|source| Error::file(path, source))?;
    let table: toml::Table = toml::from_str(&text).map_err(|error| wrong(one_line(error.message())))?;
    for (key, value) in table {
        if !KEYS.contains(&key.as_str()) {
            return Err(wrong(format!("there is no key {key:?}; did you mean {:?}?", nearest(&key))));
        }
        let values = match value {
            toml::Value::Array(values) => values.iter().map(scalar).collect(),
            other => scalar(&other).map(|one| vec![one]),
        };
        let values =
            values.ok_or_else(|| wrong(format!("{key} is a text, a number, true or false, or a list of texts")))?;
        command = defaults(command, &key, &values);
    }
    Ok(command)
}

/// Gives a flag its default, in every command that has it.
fn defaults(command: Command, key: &str, values: &[String]) -> Command {
    let id = command.get_arguments().find(|argument| argument.get_long() == Some(key)).map(|a| a.get_id().clone());
    let command = match id {
        Some(id) => command.mut_arg(id, |argument| {
            argument.default_values(values.iter().map(|value| OsStr::from(value.clone())).collect::<Vec<_>>())
        }),
        None => command,
    };
    command.mut_subcommands(|sub| defaults(sub, key, values))
}

fn scalar(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(yes) => Some(yes.to_string()),
        _ => None,
    }
}

fn nearest(key: &str) -> &'static str {
    KEYS.into_iter().min_by_key(|known| distance(key, known)).unwrap_or("data")
}

/// Letters to insert, delete or replace between two words (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().take(64).enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, b) in row.iter_mut().skip(1).zip(&other) {
            left = (left + 1).min(*cell + 1).min(diagonal + usize::from(a != *b));
            diagonal = std::mem::replace(cell, left);
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

fn one_line(text: &str) -> String {
    text.lines().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::{self, Arguments};
    use clap::{CommandFactory, FromArgMatches};

    fn parse(file: &str, arguments: &[&str]) -> Result<Arguments, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("certdir.toml");
        std::fs::write(&path, file).unwrap();
        let mut all: Vec<OsString> = vec!["certdir".into(), "--config".into(), path.into()];
        all.extend(arguments.iter().map(OsString::from));
        let matches = matches(Arguments::command(), all).map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
        Arguments::from_arg_matches(&matches).map_err(|e| e.to_string())
    }

    #[test]
    fn the_file_gives_defaults_and_flags_win() {
        let file = "data = \"/var/lib/certdir\"\ndns = [\"127.0.0.1:1\", \"127.0.0.1:2\"]\nldap = \"none\"\nlookups-burst = 7\nquery-log-full = true\n";
        let parsed = parse(file, &["serve", "--http", "127.0.0.1:3"]).unwrap();
        assert_eq!(parsed.everywhere.data, Path::new("/var/lib/certdir"));
        let arguments::Command::Serve(listen) = parsed.command else { panic!() };
        let ports = |list: &[arguments::Listener]| {
            arguments::Listener::addresses(list).iter().map(|a| a.port()).collect::<Vec<_>>()
        };
        assert_eq!((ports(&listen.dns), ports(&listen.ldap), ports(&listen.http)), (vec![1, 2], vec![], vec![3]));
        assert_eq!(listen.lookups_burst, 7);
        let flagged = parse(file, &["--data", "here", "list"]).unwrap();
        assert_eq!(flagged.everywhere.data, Path::new("here"));
    }

    #[test]
    fn unknown_keys_name_the_nearest_and_bad_values_the_flag() {
        assert!(parse("dtaa = 1\n", &["list"]).unwrap_err().contains("did you mean \"data\""));
        assert!(parse("lookups-per-secnd = 1\n", &["list"]).unwrap_err().contains("lookups-per-second"));
        assert!(parse("dns = \"nowhere\"\n", &["serve"]).unwrap_err().contains("--dns"));
        assert!(parse("dns = true\n", &["serve"]).unwrap_err().contains("dns"));
        assert!(parse("= 1\n", &["list"]).is_err());
    }

    #[test]
    fn every_key_is_a_flag() {
        fn has(command: &Command, key: &str) -> bool {
            command.get_arguments().any(|a| a.get_long() == Some(key)) || command.get_subcommands().any(|c| has(c, key))
        }
        for key in KEYS {
            assert!(has(&Arguments::command(), key), "{key}");
        }
    }
}
