//! Promise: the house keeps its rules. Who may name whom, who may touch files, environment and SDK, and how large a file
//! may grow, read out of the source as text.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Which rooms a room may name beside itself. The coins (`COINS`) are everybody's.
const ROOMS: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    // The command line: arguments to values, values to side jobs.
    (
        "cli",
        &[
            "config",
            "serve",
            "healthcheck",
            "objects",
            "releases",
            "sweep",
            "lifecycle",
            "doctor",
            "telemetry",
            "server",
            "store",
            "client",
            "please_dir",
            // The names that flags are parsed into.
            "domain",
        ],
    ),
    ("config", &["store"]),
    ("telemetry", &["config"]),
    // Puts the three doors together.
    ("serve", &["config", "domain", "front", "server", "store", "telemetry", "watch"]),
    // `watch` for the files of TLS.
    ("server", &["watch"]),
    // `telemetry` for the access log's line.
    ("front", &["domain", "watch", "telemetry"]),
    ("domain", &["store"]),
    ("store", &[]),
    ("objects", &["config", "domain", "store", "cli"]),
    ("releases", &["domain", "store"]),
    // The pure plan, and its execution: what entries are, and where they rest.
    ("sweep", &["domain", "store"]),
    // As `sweep`, over the times that the gateway is told.
    ("lifecycle", &["config", "domain", "store"]),
    // Only what was seen: who asks is the store's own examination.
    ("doctor", &["store"]),
    ("healthcheck", &["config"]),
    // The other side of the protocols: neither front nor store.
    ("client", &["domain"]),
    // Please's tree on this machine's disk, and whom it is sent to: no store.
    ("please_dir", &["client", "domain"]),
    ("watch", &[]),
    ("payload", &[]),
    ("peer", &[]),
    ("reach", &[]),
    ("budget", &[]),
    ("metrics", &[]),
    ("lib", &[]),
];

/// What every room may name.
const COINS: [&str; 5] = ["payload", "peer", "reach", "budget", "metrics"];

/// Each protocol's file: none names another's.
const PROTOCOLS: [&str; 6] = ["artifact", "please", "rpc", "simple", "legacy", "curdling"];

/// Words that only some files may say: the words, the files that may (a file, or all below a name ending in `/`), why.
const WORDS: &[(&[&str], &[&str], &str)] = &[
    (&["aws_"], &["store/s3.rs", "store/s3/"], "one S3 in the house"),
    (&["axum", "tonic"], &["front.rs", "front/", "server.rs", "server/"], "the wire stops at the front"),
    (
        &["http", "hyper", "headers", "StatusCode"],
        // Configuration checks that an endpoint is a URI.
        &[
            "front.rs",
            "front/",
            "server/",
            "store/s3.rs",
            "store/s3/",
            "healthcheck.rs",
            "config.rs",
            "client.rs",
            "client/",
            "reach.rs",
        ],
        "what things are does not depend on what carries them",
    ),
    (
        &["std::fs", "tokio::fs", "rustix::fs", "tempfile"],
        &[
            "store/dir.rs",
            "store/dir/",
            // Files that are the operator's own: password files, and what `get` and `put` copy to and from.
            "watch/files.rs",
            "objects/transfer.rs",
            // A tree that is Please's, and that only a side job touches.
            "please_dir/",
        ],
        "only a directory store's files hold objects",
    ),
    (&["std::env", "env"], &["cli.rs", "cli/", "main.rs"], "one reader of the environment"),
    (&["unsafe", "todo", "dbg"], &[], "not in this house"),
];

/// Words that these files do not say though their room may.
const SILENT: &[(&str, &[&str])] =
    &[("server/", &["StatusCode", "aws_"]), ("server.rs", &["StatusCode"]), ("config.rs", &["StatusCode"])];

/// Most lines of code of one file, tests apart; most lines of all, tests apart; most lines of a function.
const MOST_CODE: usize = 350;
const MOST_LINES: usize = 500;
const MOST_OF_A_FUNCTION: usize = 50;
/// The middle of all files.
const MEDIAN: usize = 150;

/// One file of the source.
struct Source {
    /// Below `src`.
    path: String,
    text: String,
}

fn below(root: &Path) -> Vec<Source> {
    let mut left = vec![root.to_owned()];
    let mut found = Vec::new();
    while let Some(place) = left.pop() {
        for entry in std::fs::read_dir(&place).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.push(Source { path, text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn sources() -> Vec<Source> {
    let found = below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(found.len() > 50, "the source is read");
    found
}

impl Source {
    /// The lines before the tests.
    fn body(&self) -> impl Iterator<Item = &str> {
        self.text.lines().take_while(|line| *line != "#[cfg(test)]")
    }

    /// The lines before the tests that are neither empty nor comment nor only for rustdoc.
    fn code(&self) -> impl Iterator<Item = &str> {
        let mut doc_only = false;
        self.body().filter(move |line| {
            let line = line.trim_start();
            let skip = std::mem::replace(&mut doc_only, line == "#[cfg(doc)]") || doc_only;
            !(skip || line.is_empty() || line.starts_with("//"))
        })
    }

    /// Where it is in the tree of modules: `front/auth/basic.rs` is `front`, `auth`, `basic`.
    fn module(&self) -> Vec<&str> {
        self.path.trim_end_matches(".rs").split('/').collect()
    }

    fn room(&self) -> &str {
        self.module()[0]
    }

    /// What it names of the crate, as room and the name behind it, however it spells it.
    fn names(&self) -> BTreeSet<(String, String)> {
        let code = self.code().collect::<Vec<_>>().join("\n");
        let module = self.module();
        let mut found = BTreeSet::new();
        for start in ["crate::", "larder::", "super::"] {
            for (at, _) in code.match_indices(start) {
                // In the middle of a path that was seen at its beginning, or of a longer word.
                if code[..at]
                    .ends_with(|before: char| before.is_alphanumeric() || before == '_' || before == ':')
                {
                    continue;
                }
                let mut rest = &code[at..];
                let mut base: Vec<&str> = if start == "super::" { module.clone() } else { Vec::new() };
                while let Some(after) = rest.strip_prefix("super::") {
                    base.pop();
                    rest = after;
                }
                rest = rest.strip_prefix(start).unwrap_or(rest);
                for path in paths(rest) {
                    let mut whole = base.iter().map(|name| (*name).to_owned()).chain(path);
                    let room = whole.next().unwrap_or_default();
                    found.insert((room, whole.next().unwrap_or_default()));
                }
            }
        }
        found
    }
}

/// The first two names of each path that a text begins with: `a::b`, or a group of such.
fn paths(text: &str) -> Vec<Vec<String>> {
    if let Some(group) = text.strip_prefix('{') {
        return members(group).into_iter().flat_map(paths).collect();
    }
    let end = text.find(|letter: char| !(letter.is_alphanumeric() || letter == '_')).unwrap_or(text.len());
    let first = text[..end].to_owned();
    match text[end..].strip_prefix("::") {
        Some(rest) if !first.is_empty() => {
            let deeper = paths(rest).into_iter();
            deeper.map(|path| [vec![first.clone()], path].concat().into_iter().take(2).collect()).collect()
        }
        _ => vec![vec![first]],
    }
}

/// What a group holds, up to its closing brace.
fn members(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0_usize, 0, Vec::new());
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' if depth > 0 => {}
            '}' | ',' => {
                found.push(group[start..at].trim());
                start = at + 1;
                if letter == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    found.retain(|member| !member.is_empty());
    found
}

fn is_among(path: &str, files: &[&str]) -> bool {
    files.iter().any(|file| if file.ends_with('/') { path.starts_with(file) } else { path == *file })
}

/// Whether a line says a word: by itself, or as the beginning of one where it ends in `_`.
fn says(line: &str, word: &str) -> bool {
    // What is quoted is said to people.
    let line = line.split('"').step_by(2).collect::<Vec<_>>().join("\"");
    let part = |letter: char| letter.is_alphanumeric() || letter == '_';
    line.match_indices(word).any(|(at, _)| {
        let after = &line[at + word.len()..];
        // `crate::http` and `x.env` are something else.
        let starts =
            !line[..at].ends_with(|before: char| part(before) || matches!(before, ':' | '.' | '"' | '-'));
        let path =
            after.starts_with("::") || after.starts_with(';') || after.starts_with('!') || word.len() > 4;
        starts && (word.ends_with('_') || (path && !after.starts_with(part)))
    })
}

fn report(broken: &[String]) {
    assert!(broken.is_empty(), "the house's rules are broken:\n{}", broken.join("\n"));
}

#[test]
fn rooms_name_only_whom_they_may() {
    let mut broken = Vec::new();
    for source in sources() {
        let room = source.room();
        let Some((_, may)) = ROOMS.iter().find(|(name, _)| *name == room) else {
            broken.push(format!("{}: no such room: say in ROOMS whom it may name", source.path));
            continue;
        };
        for (named, _) in source.names() {
            let known = ROOMS.iter().any(|(name, _)| *name == named);
            if known && named != room && !may.contains(&named.as_str()) && !COINS.contains(&named.as_str()) {
                broken.push(format!("{}: {room} does not name {named}", source.path));
            }
        }
    }
    report(&broken);
}

#[test]
fn protocols_do_not_know_each_other() {
    let mut broken = Vec::new();
    for source in sources() {
        let module = source.module();
        let [room, own, ..] = module.as_slice() else { continue };
        if *room != "front" {
            continue;
        }
        for (named, inner) in source.names() {
            if named == "front" && inner != *own && PROTOCOLS.contains(&inner.as_str()) {
                broken.push(format!("{}: names the protocol {inner}", source.path));
            }
        }
    }
    report(&broken);
}

#[test]
fn words_are_said_only_where_they_belong() {
    let mut broken = Vec::new();
    for source in sources() {
        for line in source.code() {
            for (words, files, why) in WORDS {
                for word in *words {
                    if !is_among(&source.path, files) && says(line, word) {
                        broken.push(format!("{}: {word} ({why}): {}", source.path, line.trim()));
                    }
                }
            }
            for (files, words) in SILENT {
                for word in *words {
                    if is_among(&source.path, &[files]) && says(line, word) {
                        broken.push(format!("{}: {word}: {}", source.path, line.trim()));
                    }
                }
            }
        }
    }
    report(&broken);
}

#[test]
fn files_are_one_idea_each_and_say_which() {
    let mut broken = Vec::new();
    let mut sizes = Vec::new();
    for source in sources() {
        let (code, lines) = (source.code().count(), source.body().count());
        if code > MOST_CODE || lines > MOST_LINES {
            broken.push(format!("{}: {code} lines of code, {lines} in all", source.path));
        }
        if !source.text.starts_with("//! ") {
            broken.push(format!("{}: does not say what it is for", source.path));
        }
        let after = source.text.lines().skip_while(|line| *line != "#[cfg(test)]").nth(1);
        if after.is_some_and(|line| !line.starts_with("mod ")) {
            broken.push(format!("{}: has something of the tests' before its end", source.path));
        }
        sizes.push(code);
    }
    sizes.sort_unstable();
    let median = sizes[sizes.len() / 2];
    if median > MEDIAN {
        broken.push(format!("half of all files have more than {median} lines of code"));
    }
    for source in below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it")) {
        let code = source.code().count();
        if code > MOST_LINES {
            broken.push(format!("tests/it/{}: {code} lines of code", source.path));
        }
        if !source.text.starts_with("//! ") {
            broken.push(format!("tests/it/{}: does not say what it is for", source.path));
        }
    }
    report(&broken);
}

/// As rustfmt leaves them, a function ends at the brace under its first letter.
#[test]
fn functions_fit_a_screen() {
    let mut broken = Vec::new();
    for source in sources() {
        let lines: Vec<&str> = source.body().collect();
        for (at, line) in lines.iter().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let words: Vec<&str> = line.split_whitespace().take_while(|word| *word != "fn").collect();
            let head = words.iter().all(|word| {
                ["pub", "async", "const", "pub(crate)", "pub(super)"].contains(word)
                    || word.starts_with("pub(in")
            });
            if !head || !line.contains("fn ") || line.trim_end().ends_with([';', '}']) {
                continue;
            }
            let close = format!("{}}}", " ".repeat(indent));
            let end = lines[at..].iter().position(|line| *line == close).unwrap_or(0);
            if end + 1 > MOST_OF_A_FUNCTION {
                broken.push(format!("{}:{}: {} lines: {}", source.path, at + 1, end + 1, line.trim()));
            }
        }
    }
    report(&broken);
}

/// The reader above reads what it is meant to.
#[test]
fn names_are_found_however_they_are_spelled() {
    let source = |path: &str, text: &str| Source { path: path.to_owned(), text: text.to_owned() };
    let text = "//! use crate::nobody;\nuse crate::{budget, store::{self, Key}, front};\nuse super::status::Failure;\n\
                use super::{App, please};\nfn f() -> super::super::domain::Error { crate::metrics::X }\n\
                #[cfg(test)]\nmod tests { use crate::sweep; }\n";
    let names = source("front/artifact.rs", text).names();
    let found: Vec<String> = names.iter().map(|(room, inner)| format!("{room}:{inner}")).collect();
    let expected = [
        "budget:",
        "domain:Error",
        "front:",
        "front:App",
        "front:please",
        "front:status",
        "metrics:X",
        "store:Key",
        "store:self",
    ];
    assert_eq!(found, expected);
    for (line, word, said) in [
        ("use aws_config::x;", "aws_", true),
        ("use std::fs::File;", "std::fs", true),
        ("let x = std::fs::metadata(p);", "std::fs", true),
        ("use std::fsync;", "std::fs", false),
        ("use http::Uri;", "http", true),
        ("use crate::http::Uri;", "http", false),
        ("format!(\"http://x\")", "http", false),
        ("x(\"axum\", tempfile())", "axum", false),
        ("x(\"axum\", tempfile())", "tempfile", true),
        ("http1();", "http", false),
        ("std::env::var_os(\"X\")", "std::env", true),
        ("use std::env;", "std::env", true),
        ("a.env(1)", "env", false),
        ("-> (StatusCode, &str)", "StatusCode", true),
    ] {
        assert_eq!(says(line, word), said, "{line} {word}");
    }
}
