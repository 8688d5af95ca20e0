//! The rules of the house that a machine can read: edges, licences, what must stay absent, the maps in `lib.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::world::run;

/// Folder, package, and the packages of the house it may use in what it ships (DESIGN.md, "Folders, duties, edges").
const ROOMS: &[(&str, &str, &[&str])] = &[
    ("certificate", "certdir-certificate", &[]),
    ("zones", "certdir-zones", &["certdir-certificate"]),
    ("directory", "certdir-directory", &["certdir-certificate", "certdir-zones"]),
    ("dns-frontend", "certdir-dns", &["certdir-certificate", "certdir-zones", "certdir-directory"]),
    ("ldap-bridge", "certdir-ldap", &["certdir-certificate", "certdir-directory"]),
    ("http-frontend", "certdir-http", &["certdir-certificate", "certdir-directory"]),
    ("resolver-client", "certdir-resolver", &["certdir-certificate", "certdir-zones"]),
    (
        "",
        "certdir",
        &[
            "certdir-certificate",
            "certdir-zones",
            "certdir-directory",
            "certdir-dns",
            "certdir-ldap",
            "certdir-http",
            "certdir-resolver",
        ],
    ),
];

/// Edges of the house that only tests have; each is a decision, so a new one is added here.
const TEST_EDGES: &[(&str, &str)] = &[];

/// Crates from outside that belong to one room each.
const OWNED: &[(&str, &str)] =
    &[("sqlx", "certdir-directory"), ("hickory-server", "certdir-dns"), ("hickory-resolver", "certdir-resolver")];

const FEW_LINES: usize = 600;
const MOST_LINES: usize = 1000;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn metadata(more: &[&str]) -> Value {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root());
    cargo.args(["metadata", "--format-version", "1", "--locked", "--offline"]);
    run(cargo.args(more)).ok().json()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// What each package of the workspace depends on: package -> (kind, dependency).
fn dependencies(metadata: &Value) -> BTreeMap<String, BTreeSet<(String, String)>> {
    list(&metadata["packages"])
        .iter()
        .map(|package| {
            let edges = list(&package["dependencies"]).iter().map(|edge| {
                let kind = edge["kind"].as_str().unwrap_or("normal");
                (kind.to_owned(), text(&edge["name"]).to_owned())
            });
            (text(&package["name"]).to_owned(), edges.collect())
        })
        .collect()
}

/// Edges that DESIGN.md does not allow, as sentences.
fn forbidden(dependencies: &BTreeMap<String, BTreeSet<(String, String)>>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (package, edges) in dependencies {
        let room = ROOMS.iter().find(|(_, name, _)| name == package);
        let Some((_, _, allowed)) = room else {
            wrong.push(format!("{package} is a package that DESIGN.md does not know"));
            continue;
        };
        for (kind, dependency) in edges {
            let inside = ROOMS.iter().any(|(_, name, _)| name == dependency);
            let tested = TEST_EDGES.contains(&(package, dependency)) && kind == "dev";
            if inside && !tested && !allowed.contains(&dependency.as_str()) {
                wrong.push(format!("{package} must not use {dependency} ({kind})"));
            }
            for (owned, owner) in OWNED {
                if dependency == owned && package != owner {
                    wrong.push(format!("{dependency} belongs to {owner}, not to {package}"));
                }
            }
        }
    }
    wrong
}

#[test]
fn dependency_edges_are_the_ones_of_the_design() {
    let found = dependencies(&metadata(&["--no-deps"]));
    assert_eq!(found.len(), ROOMS.len(), "{:?}", found.keys());
    let wrong = forbidden(&found);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_forbidden_edge_would_be_seen() {
    let edge = |kind: &str, name: &str| BTreeSet::from([(kind.to_owned(), name.to_owned())]);
    for (package, kind, dependency) in [
        ("certdir-resolver", "normal", "certdir-directory"),
        ("certdir-dns", "normal", "certdir-ldap"),
        ("certdir-zones", "build", "certdir-directory"),
        ("certdir-http", "dev", "certdir-dns"),
        ("certdir", "normal", "sqlx"),
        ("certdir-http", "normal", "sqlx"),
        ("certdir-ldap", "normal", "hickory-server"),
        ("certdir-more", "normal", "serde"),
    ] {
        let found = BTreeMap::from([(package.to_owned(), edge(kind, dependency))]);
        assert_eq!(forbidden(&found).len(), 1, "{package} -> {dependency}");
    }
}

#[test]
fn the_resolver_links_no_sql() {
    let mut tree = Command::new(env!("CARGO"));
    tree.current_dir(root());
    tree.args(["tree", "--locked", "--offline", "-e", "normal", "--prefix", "none"]);
    let tree = run(tree.args(["-p", "certdir-resolver"])).ok().text();
    for line in tree.lines() {
        let name = line.split(' ').next().unwrap_or_default();
        assert!(!name.starts_with("sqlx"), "{line}");
        assert!(!name.contains("sqlite"), "{line}");
    }
    assert!(tree.contains("hickory-resolver"), "{tree}");
}

#[test]
fn default_members_are_all_members() {
    let metadata = metadata(&["--no-deps"]);
    let ids = |key: &str| -> BTreeSet<&str> { list(&metadata[key]).iter().map(text).collect() };
    assert_eq!(ids("workspace_members"), ids("workspace_default_members"));
}

/// Whether a licence expression (SPDX, or the old `A/B`) can be satisfied by the allowed ones.
fn licensed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ").replace(" WITH ", "_WITH_");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let satisfied = any_of(&mut rest, allowed);
    satisfied && rest.is_empty()
}

fn any_of(rest: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut satisfied = all_of(rest, allowed);
    while let ["OR", more @ ..] = *rest {
        *rest = more;
        // Both sides are read: the cursor has to move on.
        satisfied |= all_of(rest, allowed);
    }
    satisfied
}

fn all_of(rest: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut satisfied = one(rest, allowed);
    while let ["AND", more @ ..] = *rest {
        *rest = more;
        satisfied &= one(rest, allowed);
    }
    satisfied
}

fn one(rest: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    match *rest {
        ["(", more @ ..] => {
            *rest = more;
            let satisfied = any_of(rest, allowed);
            if let [")", more @ ..] = *rest {
                *rest = more;
            }
            satisfied
        }
        [name, more @ ..] => {
            *rest = more;
            let name = name.replace("_WITH_", " WITH ");
            allowed.contains(name.trim_end_matches('+'))
        }
        [] => false,
    }
}

#[test]
fn licence_expressions_are_read_as_spdx_means_them() {
    let allowed = BTreeSet::from(["MIT".to_owned(), "MPL-2.0".to_owned(), "A WITH X".to_owned()]);
    for (expression, expected) in [
        ("MIT", true),
        ("MIT/Apache-2.0", true),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0 AND MIT", false),
        ("(MIT OR Apache-2.0) AND GPL-3.0", false),
        ("(MIT OR Apache-2.0) AND MPL-2.0+", true),
        ("A WITH X OR B", true),
        ("B WITH X", false),
        ("", false),
        ("MIT MIT", false),
    ] {
        assert_eq!(licensed(expression, &allowed), expected, "{expression}");
    }
}

/// What cargo-deny would say about licences, sources and doubled stacks, for where it is not installed.
#[test]
fn dependencies_are_licensed_and_no_stack_is_there_twice() {
    let deny: toml::Table = fs::read_to_string(root().join("deny.toml")).unwrap().parse().unwrap();
    let allowed: BTreeSet<String> =
        deny["licenses"]["allow"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect();
    let metadata = metadata(&["--filter-platform", "x86_64-unknown-linux-gnu"]);
    let mut wrong = Vec::new();
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in list(&metadata["packages"]) {
        let name = text(&package["name"]);
        let licence = package["license"].as_str().unwrap_or_default();
        if !licensed(licence, &allowed) {
            wrong.push(format!("{name}: licence {licence:?}"));
        }
        let source = package["source"].as_str().unwrap_or_default();
        let registry = "registry+https://github.com/rust-lang/crates.io-index";
        let ours = ROOMS.iter().any(|(_, package, _)| *package == name);
        if !ours && source != registry {
            wrong.push(format!("{name}: source {source:?}"));
        }
        versions.entry(name).or_default().push(text(&package["version"]));
    }
    for banned in deny["bans"]["deny"].as_array().unwrap() {
        let name = banned["crate"].as_str().unwrap();
        if banned.get("wrappers").is_none() && versions.contains_key(name) {
            wrong.push(format!("{name} is banned: {}", banned["reason"]));
        }
    }
    for stack in ["rustls", "ring", "libsqlite3-sys", "sqlx", "hickory-proto", "tokio", "x509-cert", "der"] {
        if versions.get(stack).is_some_and(|versions| versions.len() > 1) {
            wrong.push(format!("{stack} is there more than once: {:?}", versions[stack]));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_dependency_of_the_workspace_has_its_reason() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let section = manifest.split("[workspace.dependencies]").nth(1).unwrap();
    let section = section.split("\n[").next().unwrap();
    let mut explained = false;
    for line in section.lines() {
        if line.trim().is_empty() {
            explained = false;
        } else if line.starts_with('#') {
            explained = true;
        } else {
            let fine = explained || line.starts_with("certdir-") || line.starts_with("tracing-");
            assert!(fine, "no sentence above: {line}");
        }
    }
}

/// Every file that git would carry: tracked, or new and not ignored.
fn files(ending: &str) -> Vec<PathBuf> {
    let mut git = crate::world::client("git");
    git.current_dir(root());
    git.args(["-c", "safe.directory=*", "ls-files", "-co", "--exclude-standard"]);
    let listed = run(&mut git).ok().text();
    listed
        .lines()
        .filter(|name| name.ends_with(ending))
        .map(|name| root().join(name))
        .filter(|path| path.is_file())
        .collect()
}

/// The rooms' own source files: folder of the room, path, text without the tests at the end.
fn sources() -> Vec<(String, PathBuf, String)> {
    files(".rs")
        .into_iter()
        .filter_map(|path| {
            let inside = path.strip_prefix(root()).unwrap().to_str()?.to_owned();
            let (folder, rest) = inside.split_once('/')?;
            if path.ends_with("tests.rs") || rest.contains("tests/") {
                return None;
            }
            let folder = match folder {
                "src" => String::new(),
                _ if rest.starts_with("src/") && folder != "fuzz" => folder.to_owned(),
                _ => return None,
            };
            let all = fs::read_to_string(&path).unwrap();
            let shipped = all.split("\n#[cfg(test)]").next().unwrap_or_default();
            Some((folder, path, shipped.to_owned()))
        })
        .collect()
}

/// The lines of code that hold a word, comments left out.
fn lines_with<'a>(source: &'a str, words: &'a [&str]) -> impl Iterator<Item = &'a str> {
    source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .filter(move |line| words.iter().any(|word| line.contains(word)))
}

#[test]
fn what_must_stay_absent_is_absent() {
    let mut wrong = Vec::new();
    let mut rule = |path: &Path, source: &str, words: &[&str], why: &str| {
        for line in lines_with(source, words) {
            wrong.push(format!("{}: {why}: {}", path.display(), line.trim()));
        }
    };
    for (folder, path, source) in &sources() {
        if folder == "zones" {
            let impure = ["tokio", "sqlx", "std::net", "SystemTime", "Mutex", "RwLock", "async "];
            rule(path, source, &impure, "zones is pure");
        }
        if !folder.is_empty() {
            let clocks = ["SystemTime::now", "Utc::now", "now_utc"];
            rule(path, source, &clocks, "time is an argument");
        }
        if folder != "directory" {
            let writes = ["INSERT INTO", "DELETE FROM", "CREATE TABLE", "SELECT ", "UPDATE "];
            let sql: Vec<&str> = lines_with(source, &writes).filter(|line| line.contains('"')).collect();
            rule(path, &sql.join("\n"), &writes, "SQL lives in directory/");
        }
        if matches!(folder.as_str(), "dns-frontend" | "ldap-bridge") {
            rule(
                path,
                source,
                &["Store>", "Store,", "Store)", ": Store", "&Store"],
                "a view reads `Published`, it has no store",
            );
        }
        rule(path, source, &[concat!("#[", "ignore")], "a skipped test has not passed");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn nothing_is_left_to_do_without_a_number() {
    // Written in halves, so that this file does not match itself.
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let mut wrong = Vec::new();
    for path in files(".rs").iter().chain(&files(".sh")) {
        for line in fs::read_to_string(path).unwrap().lines() {
            let words = line.split(|c: char| !c.is_alphanumeric());
            if words.into_iter().any(|word| marks.contains(&word)) {
                wrong.push(format!("{}: {}", path.display(), line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_path_of_one_machine() {
    let places = ["work", "root", "home"].map(|name| format!("/{name}/"));
    let mut wrong = Vec::new();
    for ending in [".rs", ".toml", ".sh", ".md", ".txt", "run"] {
        for path in files(ending) {
            let Ok(all) = fs::read_to_string(&path) else {
                continue;
            };
            for line in all.lines() {
                if places.iter().any(|place| line.contains(place.as_str())) {
                    wrong.push(format!("{}: {}", path.display(), line.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The map at the head of each crate names every module it has.
#[test]
fn every_crate_names_its_modules() {
    let mut wrong = Vec::new();
    for (folder, package, _) in ROOMS {
        let file = if folder.is_empty() { "main.rs" } else { "lib.rs" };
        let path = root().join(folder).join("src").join(file);
        let source = fs::read_to_string(&path).unwrap();
        let map: String = source.lines().filter(|line| line.starts_with("//!")).collect();
        if map.len() < 80 {
            wrong.push(format!("{package}: {file} has no map"));
        }
        for line in source.lines() {
            let line = line.trim_start_matches("pub(crate) ").trim_start_matches("pub ");
            let module = line.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';'));
            let Some(module) = module.filter(|name| *name != "tests") else { continue };
            let forms = [format!("[`{module}`]"), format!("[`{module}()`]"), format!("`{module}`")];
            if !forms.iter().any(|form| map.contains(form)) {
                wrong.push(format!("{package}: {file} does not name [`{module}`]"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// One concept a file: above the soft ceiling a line says so, above the hard one the test fails.
#[test]
fn files_stay_short() {
    let mut wrong = Vec::new();
    for (_, path, source) in &sources() {
        let lines = source.lines().count();
        let name = path.strip_prefix(root()).unwrap().display();
        if lines > MOST_LINES {
            wrong.push(format!("{name}: {lines} lines before its tests"));
        } else if lines > FEW_LINES {
            println!("{name}: {lines} lines before its tests: more than one concept?");
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn names_that_say_nothing_are_not_taken() {
    for path in files(".rs") {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let empty = ["util", "utils", "helper", "helpers", "common", "misc", "core"];
        assert!(!empty.contains(&name), "{}", path.display());
    }
    let suffixes = ["Manager", "Handler", "Service", "Backend", "Helper", "Util"];
    let mut wrong = Vec::new();
    for (_, path, source) in &sources() {
        for line in source.lines() {
            let declared = ["struct ", "enum ", "trait ", "type "].iter().find_map(|keyword| {
                let (before, after) = line.split_once(keyword)?;
                before.trim_start_matches("pub(crate)").trim_start_matches("pub").trim().is_empty().then_some(after)
            });
            let Some(declared) = declared else { continue };
            let name = declared.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
            if suffixes.iter().any(|suffix| name.ends_with(suffix)) {
                wrong.push(format!("{}: {name}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_two_commands_stand_on_the_first_screen() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let screen: String = readme.lines().take(40).collect::<Vec<_>>().join("\n");
    for command in ["cargo run --release -- demo", "./check.sh"] {
        assert!(screen.contains(command), "{command}");
    }
    let ci = fs::read_to_string(root().join(".ci/run")).unwrap();
    assert!(ci.contains("./check.sh"));
}

/// docs/mistakes.md promises a test against each mistake: they all exist.
#[test]
fn the_tests_named_against_mistakes_exist() {
    let page = fs::read_to_string(root().join("docs/mistakes.md")).unwrap();
    let sources: Vec<String> = files(".rs").iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let named = page.split('`').skip(1).step_by(2).filter(|name| !name.contains(['/', ' ', '.', ';']));
    let mut count = 0;
    for name in named.filter(|name| name.matches('_').count() >= 2 || name.contains("::")) {
        let test = name.rsplit("::").next().unwrap();
        if test == "test" {
            continue;
        }
        count += 1;
        let there = sources.iter().any(|source| source.contains(&format!("fn {test}(")));
        let module = sources.iter().any(|source| source.contains(&format!("mod {test};")));
        assert!(there || module, "docs/mistakes.md names {name}, which is not there");
    }
    assert!(count > 40, "{count}");
}
