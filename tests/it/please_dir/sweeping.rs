//! `larder sweep --please-dir` and `larder cache_cleaner` on real trees.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

use rustix::fs::{FlockOperation, flock};
use serde_json::Value;

use super::tree::{Cache, hash, larder, last_line};
use crate::support::{aloud, variable};

const MIB: usize = 1 << 20;
/// Two days.
const OLD: u64 = 2 * 24 * 60;

/// Four entries of a mebibyte, of both forms and both lengths of hash, the oldest first; by path.
fn four(cache: &Cache) -> [String; 4] {
    let long = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let paths = [
        format!("src/core/core/{}", hash(1)),
        format!("src/core/_core#srcs/{}.tar.gz", hash(2)),
        format!("root/{}", hash(3)),
        format!("third_party/go/x/{long}"),
    ];
    cache.sized(&paths[0], MIB, 400);
    cache.lump(&paths[1], MIB, 300);
    cache.sized(&paths[2], MIB, 200);
    cache.sized(&paths[3], MIB, 100);
    paths
}

fn there(cache: &Cache, paths: &[String]) -> Vec<bool> {
    paths.iter().map(|path| cache.has(path)).collect()
}

#[test]
fn under_the_high_mark_nothing_is_touched() {
    let cache = Cache::new();
    let paths = four(&cache);
    let left = format!("src/core/core/{}=", hash(9));
    cache.sized(&left, MIB, OLD);
    let total = cache.du();
    // Between the marks too.
    for low in [0, total / 2] {
        let sum = cache.swept(total + 1, low);
        assert_eq!((sum["before"].as_u64(), sum["after"].as_u64()), (Some(total), Some(total)));
        assert_eq!((&sum["removed"], &sum["entries"]), (&Value::from(0), &Value::from(4)));
    }
    assert_eq!(there(&cache, &paths), [true; 4]);
    assert!(cache.has(&left), "not even what is left over");
}

#[test]
fn at_the_high_mark_the_oldest_go_until_it_is_under_the_low_one() {
    let cache = Cache::new();
    let paths = four(&cache);
    let total = cache.du();
    let sum = cache.swept(total, total - 1);
    assert_eq!(sum["removed"], 1);
    assert_eq!(there(&cache, &paths), [false, true, true, true]);
    assert_eq!(sum["after"].as_u64(), Some(cache.du()), "what it says is what du says");
    assert_eq!(sum["freed"].as_u64(), Some(total - cache.du()));
    // Exactly at the low mark is not under it.
    let total = cache.du();
    cache.swept(total, total - MIB as u64);
    assert_eq!(there(&cache, &paths), [false, false, false, true]);
}

#[test]
fn of_those_used_together_the_larger_goes_first() {
    let cache = Cache::new();
    let paths = [1, 2, 3].map(|number| format!("p/x/{}", hash(number)));
    cache.sized(&paths[0], MIB, 100);
    cache.sized(&paths[1], 3 * MIB, 93);
    cache.sized(&paths[2], 5 * MIB, 80);
    let total = cache.du();
    cache.swept(total, total - 1);
    assert_eq!(there(&cache, &paths), [true, false, true]);
    let total = cache.du();
    cache.swept(total, total - 1);
    assert_eq!(there(&cache, &paths), [false, false, true], "twenty minutes are not together");
}

#[test]
fn what_is_being_written_or_deleted_stays_for_a_day() {
    let cache = Cache::new();
    let unfinished = |number: u32| {
        [
            format!("p/x/{}=", hash(number)),
            format!("p/x/{}=.tar.gz", hash(number + 1)),
            format!("p/x/{}.tar.gz=", hash(number + 2)),
            format!("p/x/{}==", hash(number + 3)),
        ]
    };
    let (young, old) = (unfinished(10), unfinished(20));
    for (paths, minutes) in [(&young, 23 * 60), (&old, 25 * 60)] {
        cache.sized(&paths[0], MIB, minutes);
        cache.lump(&paths[1], MIB, minutes);
        cache.lump(&paths[2], MIB, minutes);
        cache.sized(&paths[3], MIB, minutes);
    }
    let whole = format!("p/y/{}", hash(1));
    cache.sized(&whole, MIB, 5 * OLD);
    let total = cache.du();
    let sum = cache.swept(total, total - 1);
    assert_eq!(there(&cache, &old), [false; 4], "first goes what nobody will finish");
    assert_eq!(there(&cache, &young), [true; 4]);
    assert_eq!((&sum["leftovers"], &sum["removed"]), (&Value::from(4), &Value::from(0)));
    assert!(cache.has(&whole));
    let total = cache.du();
    let output = cache.sweep(total, 1, &["--json"]);
    assert_eq!(last_line(&output, 1)["removed"], 1, "only what is whole could go: the mark is not reached");
    assert!(String::from_utf8_lossy(&output.stderr).contains("the mark is not reached"));
    assert_eq!(there(&cache, &young), [true; 4]);
}

#[test]
fn directories_that_were_empty_for_a_day_go_too() {
    let cache = Cache::new();
    let paths = four(&cache);
    for (path, minutes) in [("gone/target", OLD), ("new/target", 5)] {
        fs::create_dir_all(cache.path(path)).unwrap();
        cache.age(path, minutes);
    }
    let total = cache.du();
    let sum = cache.swept(total, total - 1);
    assert_eq!(sum["leftovers"], 1);
    assert!(!cache.has("gone/target") && cache.has("new/target"));
    assert_eq!(sum["after"].as_u64(), Some(cache.du()));
    assert_eq!(there(&cache, &paths), [true; 4], "one empty directory was enough");
}

#[test]
fn links_are_never_followed() {
    let outside = Cache::new();
    let theirs = format!("p/x/{}", hash(1));
    outside.sized(&theirs, 4 * MIB, 5 * OLD);
    let cache = Cache::new();
    let paths = four(&cache);
    // A package, an entry, an archive and the inside of an entry that lead out.
    symlink(outside.path("p"), cache.path("p")).unwrap();
    symlink(outside.path(&theirs), cache.path("root").join(hash(7))).unwrap();
    symlink(outside.path(&theirs).join("out"), cache.path("root").join(format!("{}.tar.gz", hash(8))))
        .unwrap();
    symlink(outside.dir.path(), cache.path(&paths[0]).join("up")).unwrap();
    let total = cache.du();
    assert!(total < 5 * MIB as u64, "du follows none either");
    let output = cache.sweep(total, 1, &["--json"]);
    let sum = last_line(&output, 1);
    assert_eq!(sum["before"].as_u64(), Some(total));
    assert_eq!((&sum["entries"], &sum["removed"]), (&Value::from(4), &Value::from(4)));
    assert_eq!(there(&cache, &paths), [false; 4]);
    assert!(outside.path(&theirs).join("out").exists());
    assert!(cache.has("p") && cache.path("root").join(hash(7)).symlink_metadata().is_ok());
    // The person may name the whole by a link.
    let link = outside.path("link");
    symlink(cache.dir.path(), &link).unwrap();
    let output = larder(&["sweep", "--json", "--please-dir"]).arg(link).output().unwrap();
    assert_eq!(last_line(&output, 0)["before"].as_u64(), Some(cache.du()));
}

#[test]
fn locked_entries_are_left_alone() {
    let cache = Cache::new();
    let paths = four(&cache);
    let beside = cache.path(&format!("{}.lock", paths[2]));
    fs::write(&beside, b"").unwrap();
    let locks = [cache.path(&paths[0]), cache.path(&paths[1]), beside];
    let held: Vec<File> = locks.iter().map(|path| File::open(path).unwrap()).collect();
    // Shared or not.
    flock(&held[0], FlockOperation::LockShared).unwrap();
    flock(&held[1], FlockOperation::LockExclusive).unwrap();
    flock(&held[2], FlockOperation::LockExclusive).unwrap();
    let total = cache.du();
    let sum = cache.swept(total, total - 1);
    assert_eq!((&sum["removed"], &sum["spared"]), (&Value::from(1), &Value::from(3)));
    assert_eq!(there(&cache, &paths), [true, true, true, false]);
    drop(held);
    let total = cache.du();
    assert_eq!(cache.swept(total, total - 1)["removed"], 1);
    assert_eq!(there(&cache, &paths), [false, true, true, false]);
}

#[test]
fn files_with_several_names_count_once_and_go_with_the_last() {
    let cache = Cache::new();
    let paths = [1, 2].map(|number| format!("p/x/{}", hash(number)));
    cache.sized(&paths[0], MIB, 200);
    fs::create_dir_all(cache.path(&paths[1])).unwrap();
    fs::hard_link(cache.path(&paths[0]).join("out"), cache.path(&paths[1]).join("out")).unwrap();
    fs::write(cache.path(&paths[1]).join("own"), vec![b'x'; MIB]).unwrap();
    // A link of the build's outputs, outside.
    let outside = tempfile::tempdir_in(cache.dir.path().parent().unwrap()).unwrap();
    fs::hard_link(cache.path(&paths[1]).join("own"), outside.path().join("own")).unwrap();
    cache.age(&paths[0], 200);
    cache.age(&paths[1], 100);
    fs::write(cache.path("p/stray"), vec![b'x'; MIB]).unwrap();
    let total = cache.du();
    let output = cache.sweep(total, total - 2 * MIB as u64, &["--json"]);
    let sum = last_line(&output, 0);
    assert_eq!((sum["before"].as_u64(), sum["after"].as_u64()), (Some(total), Some(cache.du())));
    assert_eq!(sum["removed"], 2);
    assert!(cache.has("p/stray") && outside.path().join("own").exists());
}

#[test]
fn entries_that_nobody_may_write_to_go_like_others() {
    let cache = Cache::of_somebody();
    let path = format!("p/x/{}", hash(1));
    cache.directory(&path, &[("gen/deep/a", b"a"), ("b", b"b")], 100);
    for (name, mode) in
        [("b", 0o444), ("gen/deep/a", 0o555), ("gen/deep", 0o555), ("gen", 0o500), ("", 0o555)]
    {
        let place = cache.path(&path).join(name);
        fs::set_permissions(place, fs::Permissions::from_mode(mode)).unwrap();
    }
    cache.sized(&format!("p/y/{}", hash(2)), MIB, 50);
    cache.give();
    // Nor does its owner go into it without ado.
    let refused = cache.shell(&format!("rm -r '{}'", cache.path(&path).display()));
    assert!(!refused.success());
    let total = cache.du();
    cache.swept(total, total - 1);
    assert_eq!(fs::read_dir(cache.path("p/x")).unwrap().count(), 0);
}

/// In a sticky directory nobody removes what is another's. Only root can make one with somebody else's files in it.
#[test]
fn what_may_not_be_removed_is_a_failure_and_is_counted() {
    if !rustix::process::geteuid().is_root() {
        assert!(variable("CI").is_none_or(|ci| ci != "true"), "root is required");
        aloud("SKIPPED: files that another owns can be made by root only");
        return;
    }
    let cache = Cache::of_somebody();
    let paths = [1, 2].map(|number| format!("p/x/{}", hash(number)));
    cache.sized(&paths[0], MIB, 100);
    cache.sized(&paths[1], MIB, 50);
    cache.give();
    let (kept, file) = (cache.path(&paths[0]), cache.path(&paths[0]).join("out"));
    chown(&kept, Some(0), Some(0)).unwrap();
    chown(&file, Some(0), Some(0)).unwrap();
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o1777)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    cache.age(&paths[0], 100);
    let total = cache.du();
    let output = cache.sweep(total, 1, &["--json"]);
    let sum = last_line(&output, 1);
    let counts = ["removed", "spared", "failed"].map(|name| sum[name].as_u64().unwrap());
    assert_eq!(counts, [1, 0, 1], "{sum}");
    assert_eq!(sum["after"].as_u64(), Some(cache.du()), "it takes its room still");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("cannot be removed") && stderr.contains(&hash(1)), "{stderr}");
}

#[test]
fn a_dry_run_says_what_would_go_and_leaves_it() {
    let cache = Cache::new();
    let paths = four(&cache);
    let total = cache.du();
    let low = total - MIB as u64 * 3 / 2;
    let output = cache.sweep(total, low, &["--dry-run"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2 + 1, "{text}");
    assert!(lines[0].starts_with(&format!("would remove {}, ", paths[0])), "{text}");
    assert!(lines[1].starts_with(&format!("would remove {}, ", paths[1])), "{text}");
    assert!(lines[2].starts_with("would remove 2 of 4 entries, "), "{text}");
    assert_eq!(there(&cache, &paths), [true; 4]);
    // What it says is what happens.
    let planned = cache.sweep(total, low, &["--json", "-n"]);
    let done = cache.sweep(total, low, &["--json"]);
    let entries = |output: &std::process::Output| -> Vec<Value> {
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line.get("entry").is_some()).map(|line| line["entry"].clone()).collect()
    };
    assert_eq!(entries(&planned), entries(&done));
    assert_eq!(last_line(&planned, 0)["after"], last_line(&done, 0)["after"]);
    assert_eq!(there(&cache, &paths), [false, false, true, true]);
}

#[test]
fn the_old_command_line_does_the_same() {
    for called in [false, true] {
        let cache = Cache::new();
        let paths = four(&cache);
        let total = cache.du().to_string();
        let link = tempfile::tempdir().unwrap();
        let mut command = if called {
            let name = link.path().join("cache_cleaner");
            symlink(env!("CARGO_BIN_EXE_larder"), &name).unwrap();
            let mut command = std::process::Command::new(name);
            command.env_clear();
            command
        } else {
            larder(&["cache_cleaner"])
        };
        let args = ["--high_water_mark", &total, "--low_water_mark", "3M", "-v"];
        let output = command.arg("--dir").arg(cache.dir.path()).args(args).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{stderr}");
        assert_eq!(there(&cache, &paths), [false, false, true, true]);
        assert!(stderr.contains(&hash(1)) && stderr.contains(&hash(2)), "-v names what goes: {stderr}");
        assert!(String::from_utf8_lossy(&output.stdout).starts_with("removed 2 of 4 entries, "));
    }
    // The short names, and a level behind -v.
    let cache = Cache::new();
    let paths = four(&cache);
    let mut command = larder(&["cache_cleaner", "-i", "1M", "-l", "1M", "-v", "4", "-d"]);
    assert_eq!(command.arg(cache.dir.path()).output().unwrap().status.code(), Some(0));
    assert_eq!(there(&cache, &paths), [false; 4]);
    // The marks are those of old where none are said.
    let mut command = larder(&["cache_cleaner", "--dir"]);
    assert_eq!(command.arg(cache.dir.path()).output().unwrap().status.code(), Some(0));
}

#[test]
fn what_cannot_be_done_has_its_exit_code() {
    let cache = Cache::new();
    assert_eq!(cache.sweep(1, 2, &[]).status.code(), Some(2));
    // Half of the marks of a store; a whole sweep of neither.
    assert_eq!(larder(&["sweep", "--high-water", "1M"]).output().unwrap().status.code(), Some(2));
    let both = larder(&["sweep", "--please-dir", "x", "--max-age", "1d"]).output().unwrap();
    assert_eq!(both.status.code(), Some(2));
    assert_eq!(larder(&["cache_cleaner"]).output().unwrap().status.code(), Some(2));
    let absent = larder(&["sweep", "--please-dir", "/nowhere/at/all"]).output().unwrap();
    assert_eq!(absent.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&absent.stderr).contains("/nowhere/at/all cannot be read"));
    assert_eq!(larder(&["cache_cleaner", "--dir", "/dev/null"]).output().unwrap().status.code(), Some(3));
}

/// Whatever two sweeps at once leave is whole, and it is under the mark.
#[test]
fn two_sweeps_at_once_harm_nobody() {
    let cache = Cache::new();
    for number in 0..400 {
        let files: [(&str, &[u8]); 3] = [("a", &[b'a'; 5000]), ("gen/b", &[b'b'; 5000]), ("c", b"")];
        cache.directory(
            &format!("p{}/x/{}", number % 7, hash(number)),
            &files,
            1000 + u64::from(number) * 20,
        );
    }
    let total = cache.du();
    let run = || {
        let args = [total.to_string(), (total / 2).to_string()];
        let mut command = larder(&["sweep", "--json", "--high-water", &args[0], "--low-water", &args[1]]);
        command.arg("--please-dir").arg(cache.dir.path());
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap()
    };
    let sweeps = [run(), run()];
    for sweep in sweeps {
        let output = sweep.wait_with_output().unwrap();
        let sum = last_line(&output, 0);
        assert_eq!(sum["failed"], 0);
    }
    assert!(cache.du() < total / 2);
    let mut left = 0;
    for number in 0..400 {
        let entry = cache.path(&format!("p{}/x/{}", number % 7, hash(number)));
        let whole = ["a", "gen/b", "c"].map(|name| entry.join(name).exists());
        assert!(whole == [entry.exists(); 3], "{whole:?}");
        left += u64::from(entry.exists());
    }
    assert!(left > 150, "they take half of it together, not each: {left} are left");
}

#[test]
fn a_large_tree_is_what_du_says() {
    let cache = Cache::new();
    for number in 0..3_000_u32 {
        let target = format!("pkg{}/deep/er/t{}", number % 97, number % 1009);
        if number % 3 == 0 {
            cache.lump(&format!("{target}/{}.tar.gz", hash(number)), 100, u64::from(number));
        } else {
            cache.directory(
                &format!("{target}/{}", hash(number)),
                &[("a", b"x"), ("b/c", b"y")],
                u64::from(number),
            );
        }
    }
    let total = cache.du();
    let sum = cache.swept(total, total / 2);
    assert_eq!((&sum["entries"], sum["before"].as_u64()), (&Value::from(3_000), Some(total)));
    assert_eq!(sum["after"].as_u64(), Some(cache.du()));
    assert!(cache.du() < total / 2);
}
