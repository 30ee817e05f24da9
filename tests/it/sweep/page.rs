//! The commands: exit codes, output for people and programs, and a job that goes on until it is told to stop.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::{date, hash};

const DAY: Duration = Duration::from_secs(86400);

fn larder(store: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
    command.env_clear().env("LARDER_STORE", store).args(args).stdin(Stdio::null());
    command
}

fn run(store: &Path, args: &[&str]) -> Output {
    larder(store, args).output().unwrap()
}

#[track_caller]
fn ends(output: &Output, code: i32, says: &str) {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{out}{err}");
    assert!(out.contains(says) || err.contains(says), "{says:?} in {out}{err}");
}

/// One entry of each of these ages in days, 1000 bytes in two files.
fn stored(ages: &[u32]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (n, age) in ages.iter().enumerate() {
        let dir = format!("artifact/linux_amd64/pkg{}/t/{}", n % 2, hash(n));
        std::fs::create_dir_all(root.path().join(&dir)).unwrap();
        for file in ["a", "b"] {
            let key = format!("{dir}/{file}");
            std::fs::write(root.path().join(&key), [b'x'; 500]).unwrap();
            let then = SystemTime::now() - DAY * *age;
            date(root.path(), &key, then, then);
        }
    }
    root
}

fn entries(root: &Path) -> usize {
    let listed = run(root, &["ls", "-r"]);
    String::from_utf8(listed.stdout).unwrap().lines().filter(|line| line.ends_with("/a")).count()
}

#[test]
fn exit_codes_are_the_documented_ones() {
    let root = stored(&[1, 5, 40]);
    let at = root.path();
    ends(&run(at, &["sweep", "--dry-run", "--max-age", "30d"]), 0, "would remove 1 entries (2 objects");
    assert_eq!(entries(at), 3);
    ends(&run(at, &["sweep", "--max-age", "30d"]), 0, "removed 1 entries (2 objects");
    assert_eq!(entries(at), 2);
    let water = |high, low| ["sweep", "--high-water", high, "--low-water", low];
    ends(&run(at, &water("2000", "1000")), 0, "removed 0 entries");
    ends(&run(at, &water("1999", "1000")), 0, "removed 1 entries");
    let kept = [&water("1", "0")[..], &["--min-age", "3d"]].concat();
    ends(&run(at, &kept), 1, "above the mark");
    assert_eq!(entries(at), 1);

    ends(&run(at, &water("1", "2")), 2, "--low-water must not be above --high-water");
    ends(&run(at, &["sweep", "--high-water", "1"]), 2, "--low-water");
    ends(&run(at, &["sweep", "--low-water", "1"]), 2, "--high-water");
    ends(&run(at, &["sweep", "--every", "0s"]), 2, "more than 0");
    let half = format!("artifact/linux_amd64/pkg0/t/{}/gen", hash(0));
    ends(&run(at, &["sweep", "--prefix", &half]), 2, "lies within an entry");
    let file = at.join("file");
    std::fs::write(&file, b"").unwrap();
    ends(&run(&file, &["sweep", "--max-age", "1d"]), 3, "the store");
}

#[test]
fn what_is_not_larders_is_left_alone_unless_named() {
    let root = stored(&[9]);
    let then = SystemTime::now() - 9 * DAY;
    std::fs::create_dir_all(root.path().join("theirs/a")).unwrap();
    std::fs::write(root.path().join("theirs/a/b"), b"x").unwrap();
    date(root.path(), "theirs/a/b", then, then);
    ends(&run(root.path(), &["sweep", "--max-age", "1d"]), 0, "removed 1 entries");
    assert!(root.path().join("theirs/a/b").exists());
    ends(&run(root.path(), &["sweep", "--max-age", "1d", "--prefix", "theirs"]), 0, "removed 1 entries");
    assert!(!root.path().join("theirs/a/b").exists());
}

#[test]
fn programs_are_told_in_json() {
    let root = stored(&[1, 5, 40]);
    let told = run(
        root.path(),
        &["sweep", "--json", "--high-water", "2000", "--low-water", "1500", "--max-age", "30d"],
    );
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    let expected = serde_json::json!({
        "dry_run": false, "seen": {"objects": 6, "bytes": 3000},
        "removed": {"entries": 1, "objects": 2, "bytes": 1000},
        "expired": 1, "surplus": 0, "partial": 0, "orphans": 0, "uploads": 0, "spared": 0, "failed": 0,
        "low_water": 1500, "reached": true,
    });
    assert_eq!(told, expected);
}

#[test]
fn a_job_sweeps_until_it_is_told_to_stop() {
    let root = stored(&[40, 1]);
    let mut child = larder(root.path(), &["sweep", "--max-age", "30d", "--every", "1h", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let told: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(told["removed"]["entries"], 1);
    let kill = Command::new("/bin/sh").args(["-c", &format!("kill -TERM {}", child.id())]).status().unwrap();
    assert!(kill.success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_job_shows_what_it_did() {
    let root = stored(&[40, 1]);
    let args = [
        "-v",
        "--log-format",
        "json",
        "sweep",
        "--max-age",
        "30d",
        "--every",
        "1h",
        "--ops-listen",
        "127.0.0.1:0",
    ];
    let mut child = larder(root.path(), &args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let addr = loop {
        let mut line = String::new();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "it says where it listens");
        let line: Value = serde_json::from_str(&line).unwrap();
        if let Some(addr) = line.get("listen").and_then(Value::as_str) {
            break addr.to_owned();
        }
    };
    let mut told = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut told).unwrap();
    let page = |path: &str| {
        let mut connection = std::net::TcpStream::connect(&addr).unwrap();
        write!(connection, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut page = String::new();
        connection.read_to_string(&mut page).unwrap();
        page
    };
    // Counted before it is told.
    let numbers = page("/metrics");
    for line in [
        r#"larder_sweeps_total{result="done"} 1"#,
        r#"larder_sweep_removed_total{of="bytes"} 1000"#,
        r#"larder_sweep_seen{of="objects"} 4"#,
        r#"larder_sweep_ended_seconds{result="done"}"#,
    ] {
        assert!(numbers.contains(line), "{line} in {numbers}");
    }
    assert!(page("/healthz").starts_with("HTTP/1.1 200"));
    let kill = Command::new("/bin/sh").args(["-c", &format!("kill -TERM {}", child.id())]).status().unwrap();
    assert!(kill.success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_directory_cache_knows_no_terms_of_a_store() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("please").display().to_string();
    for flag in [["--min-age", "7d"], ["--leftovers", "all"], ["--max-age", "7d"]] {
        let args = [&["sweep", "--please-dir", &dir][..], &flag].concat();
        ends(&run(root.path(), &args), 2, "cannot be used with");
    }
}

#[test]
fn du_says_what_there_is() {
    let root = stored(&[1, 5, 40]);
    std::fs::create_dir_all(root.path().join("please/ab")).unwrap();
    std::fs::write(root.path().join("please/ab/abababababababab"), b"12").unwrap();
    let told = |args: &[&str]| -> Vec<(String, u64, u64, u64)> {
        let out = run(root.path(), &[&["du", "--json"], args].concat());
        assert_eq!(out.status.code(), Some(0));
        let lines = String::from_utf8(out.stdout).unwrap();
        let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines
            .map(|line| {
                let number = |name: &str| line[name].as_u64().unwrap();
                let place = line["place"].as_str().unwrap_or("total").to_owned();
                assert!(line["oldest"].as_str() <= line["newest"].as_str() && line["newest"].is_string());
                (place, number("entries"), number("objects"), number("bytes"))
            })
            .collect()
    };
    let line = |place: &str, entries, objects, bytes| (place.to_owned(), entries, objects, bytes);
    assert_eq!(
        told(&[]),
        [line("artifact/", 3, 6, 3000), line("please/", 1, 1, 2), line("total", 4, 7, 3002)]
    );
    let packages = [
        line("artifact/linux_amd64/pkg0/", 2, 4, 2000),
        line("artifact/linux_amd64/pkg1/", 1, 2, 1000),
        line("please/", 1, 1, 2),
        line("total", 4, 7, 3002),
    ];
    assert_eq!(told(&["--by", "package"]), packages);
    let targets = [line("artifact/linux_amd64/pkg1/t/", 1, 2, 1000), line("total", 1, 2, 1000)];
    assert_eq!(told(&["--by", "target", "--prefix", "artifact/linux_amd64/pkg1"]), targets);
    ends(&run(root.path(), &["du"]), 0, "artifact/");
    ends(&run(root.path(), &["du", "--prefix", "nothing"]), 0, "total");
}
