//! `ls`: one level or all, for people or for programs. Memory does not grow with what is listed.

use std::io::Write;

use futures_util::{StreamExt, pin_mut};
use serde::Serialize;

use super::{Error, Shown, Target, json_line, timestamp, walk};
use crate::store::{Listed, Prefix, Store};

/// What to list, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ls {
    /// Where; nowhere means everywhere.
    pub targets: Vec<Target>,
    /// Sizes and times too.
    pub long: bool,
    /// Everything below, not one level.
    pub recursive: bool,
    /// For programs.
    pub json: bool,
}

#[derive(Debug, Serialize)]
struct Level<'p> {
    prefix: &'p str,
}

/// Lists. Goes through all targets before it says that there was nothing under some.
pub async fn ls(store: &Store, what: &Ls, out: &mut impl Write) -> Result<(), Error> {
    let everything = [Target::Everything];
    let targets = if what.targets.is_empty() { &everything[..] } else { &what.targets };
    let mut missing = Vec::new();
    for target in targets {
        let found = walk(store, target, !what.recursive);
        pin_mut!(found);
        let mut any = false;
        while let Some(line) = found.next().await {
            any = true;
            show(what, &line?, out)?;
        }
        if !any {
            missing.push(target.to_string());
        }
    }
    out.flush()?;
    if missing.is_empty() { Ok(()) } else { Err(Error::Nothing(missing.join(", "))) }
}

fn show(what: &Ls, line: &Listed, out: &mut impl Write) -> std::io::Result<()> {
    match line {
        Listed::Object { key, size, modified } if what.json => {
            json_line(out, &Shown::new(key, *size, *modified))
        }
        Listed::Object { key, size, modified } if what.long => {
            writeln!(out, "{size:>14}  {}  {key}", timestamp(*modified))
        }
        Listed::Object { key, .. } => writeln!(out, "{key}"),
        Listed::Prefix(prefix) => level(what, prefix, out),
    }
}

fn level(what: &Ls, prefix: &Prefix, out: &mut impl Write) -> std::io::Result<()> {
    if what.json {
        json_line(out, &Level { prefix: prefix.as_str() })
    } else if what.long {
        writeln!(out, "{:>14}  {:20}  {prefix}", "-", "-")
    } else {
        writeln!(out, "{prefix}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    fn shown(long: bool, json: bool) -> String {
        let what = Ls { targets: Vec::new(), long, recursive: false, json };
        let mut out = Vec::new();
        let object = Listed::Object { key: "a/x".parse().unwrap(), size: 12, modified: UNIX_EPOCH };
        show(&what, &object, &mut out).unwrap();
        show(&what, &Listed::Prefix("a/b".parse().unwrap()), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_are_for_people_or_for_programs() {
        assert_eq!(shown(false, false), "a/x\na/b/\n");
        assert_eq!(
            shown(true, false),
            "            12  1970-01-01T00:00:00Z  a/x\n             -  -                     a/b/\n"
        );
        assert_eq!(
            shown(true, true),
            "{\"key\":\"a/x\",\"size\":12,\"modified\":\"1970-01-01T00:00:00Z\"}\n{\"prefix\":\"a/b/\"}\n"
        );
    }
}
