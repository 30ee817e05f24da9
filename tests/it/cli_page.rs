//! `docs/` tells no tales of the command line: one page is generated from its definition, the others name only flags
//! that exist, and lead only to files that are there.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use clap::{Command, CommandFactory as _};
use larder::cli::Cli;

use crate::metrics_page::{file, held};

const HEAD: &str = "\
<!-- Generated from src/cli.rs by tests/it/cli_page.rs: UPDATE_DOCS=1 cargo test --test it page:: -->

# The command line

What `--help` says of each command. `larder completions SHELL` prints a completion script and `larder man [COMMAND]` a
manual page, from the same definition.

";

/// Flags in the pages that are other programs'.
const FOREIGN: &[&str] = &[
    "--extra-index-url",
    "--index-url",
    "--publish-url",
    "--repository-url",
    "--build",
    "--bucket",
    "--cacert",
    "--cert",
    "--checksum-mode",
    "--data-binary",
    "--endpoint-url",
    "--head",
    "--http1",
    "--key",
    "--lifecycle-configuration",
    "--nobackground",
    "--only",
    "--only-values",
    "--profile",
    "--recursive",
    "--release",
    "--remote",
    "--summarize",
    "--test",
    "--upload-file",
    "--wait",
    "--xattrs",
    "--xattrs-include",
];

/// The definition as it prints, whatever this machine's environment holds.
fn command() -> Command {
    fn plain(command: Command) -> Command {
        command.mut_args(|arg| arg.hide_env_values(true)).mut_subcommands(plain)
    }
    let mut command = plain(Cli::command()).term_width(100);
    command.build();
    command
}

fn section(text: &mut String, name: &str, mut command: Command) {
    let help = command.render_long_help().to_string();
    let lines: Vec<&str> = help.trim_end().lines().map(str::trim_end).collect();
    write!(text, "## {name}\n\n```text\n{}\n```\n\n", lines.join("\n")).unwrap();
}

/// The commands below a command, each with those below it.
fn sections(text: &mut String, above: &str, command: &Command) {
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        let name = format!("{above} {}", sub.get_name());
        section(text, &name, sub.clone().term_width(100));
        sections(text, &name, sub);
    }
}

/// A command and all below it.
fn all(command: &Command) -> Vec<&Command> {
    let below = command.get_subcommands().flat_map(all);
    std::iter::once(command).chain(below).collect()
}

fn generated() -> String {
    let command = command();
    let mut text = HEAD.to_owned();
    section(&mut text, "larder", command.clone());
    sections(&mut text, "larder", &command);
    text.truncate(text.trim_end().len());
    text + "\n"
}

/// README and everything in `docs/`, by name.
fn pages() -> Vec<(PathBuf, String)> {
    let docs = fs::read_dir(file("docs")).unwrap().map(|entry| entry.unwrap().path());
    let all = docs.chain([file("README.md"), file("CHANGELOG.md")]);
    all.filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .map(|path| (path.clone(), fs::read_to_string(path).unwrap()))
        .collect()
}

/// The long flags that a text names.
fn flags(text: &str) -> BTreeSet<&str> {
    let part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    let starts = text.match_indices("--").filter(|(at, _)| {
        !text[..*at].ends_with(|c: char| part(c) || c == '<' || c == '!')
            && text[at + 2..].starts_with(|c: char| c.is_ascii_lowercase())
    });
    let whole = |at: usize| {
        let end = text[at..].find(|c| !part(c)).map_or(text.len(), |length| at + length);
        text[at..end].trim_end_matches('-')
    };
    starts.map(|(at, _)| whole(at)).collect()
}

#[test]
fn the_page_is_what_help_says() {
    held("docs/cli.md", &generated());
}

#[test]
fn pages_name_flags_that_exist() {
    let command = command();
    let all = all(&command).into_iter().flat_map(Command::get_arguments);
    // Hidden names too: some pages tell of them.
    let names =
        all.flat_map(|arg| arg.get_long().into_iter().chain(arg.get_all_aliases().unwrap_or_default()));
    let mut known: BTreeSet<String> = names.map(|long| format!("--{long}")).collect();
    known.extend(FOREIGN.iter().map(|flag| (*flag).to_owned()));
    // The page on benchmarks names those of `benches/`.
    for (path, text) in pages().into_iter().filter(|(path, _)| !path.ends_with("benchmarks.md")) {
        let odd: Vec<&str> = flags(&text).into_iter().filter(|flag| !known.contains(*flag)).collect();
        assert!(odd.is_empty(), "{} names {odd:?}", path.display());
    }
}

#[test]
fn every_setting_of_serve_is_explained_with_its_default() {
    let text = fs::read_to_string(file("docs/operations.md")).unwrap();
    let command = command();
    let serve = command.find_subcommand("serve").unwrap();
    for arg in serve.get_arguments().filter(|arg| !arg.is_hide_set()) {
        let Some(long) = arg.get_long().filter(|long| *long != "help") else { continue };
        let cell = format!("| `--{long}");
        let row = text
            .lines()
            .find(|line| line.strip_prefix(&cell).is_some_and(|rest| rest.starts_with(['`', ' ', '['])));
        let row = row.unwrap_or_else(|| panic!("docs/operations.md has no row for --{long}"));
        for default in arg.get_default_values().iter().filter_map(|value| value.to_str()) {
            let counted = default == "0" || default == "false";
            assert!(counted || row.contains(&format!("`{default}`")), "--{long} is {default}: {row}");
        }
    }
}

#[test]
fn links_lead_somewhere() {
    for (path, text) in pages() {
        let folder = path.parent().unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(to, _)| to) {
            let (name, anchor) = target.split_once('#').unwrap_or((target, ""));
            if target.contains("://") {
                continue;
            }
            let to = if name.is_empty() { path.clone() } else { folder.join(name) };
            assert!(to.exists(), "{} leads to {target}", path.display());
            let headings = fs::read_to_string(&to).unwrap_or_default();
            let found = anchor.is_empty() || headings.lines().any(|line| slug(line) == anchor);
            assert!(found, "{} leads to {target}", path.display());
        }
    }
}

/// The anchor of a heading.
fn slug(line: &str) -> String {
    let Some(heading) = line.strip_prefix('#') else { return String::new() };
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}
