//! Directories: good ones, those that cannot be had, those that are not ours; and nothing is left in any.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use super::{Told, doctor};
use crate::support::gateway::TestGateway;

fn examined(root: &Path, args: &[&str]) -> Told {
    Told::of(&doctor(&[&["--json", "--store", root.to_str().unwrap()], args].concat(), &[]).output().unwrap())
}

/// Every name below a directory.
fn names(root: &Path) -> Vec<String> {
    let mut left = vec![root.to_owned()];
    let mut found = Vec::new();
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            left.extend(path.is_dir().then(|| path.clone()));
            found.push(path.to_str().unwrap().to_owned());
        }
    }
    found.sort();
    found
}

/// All but what depends on this machine's disk.
fn troubles(told: &Told) -> Vec<&str> {
    let all = [told.that("fail"), told.that("warn")].concat();
    all.into_iter().filter(|name| !["room", "file-system", "access-times"].contains(name)).collect()
}

#[test]
fn a_good_directory_is_well_and_stays_as_it_was() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("please/aa")).unwrap();
    fs::write(root.path().join("please/aa/somebody"), "x").unwrap();
    let before = names(root.path());
    let told = examined(root.path(), &[]);
    let attributes = told.check("attributes")["state"].clone();
    let expected: &[&str] = if attributes == "ok" { &[] } else { &["attributes"] };
    assert_eq!(troubles(&told), expected, "{}", told.report);
    assert_eq!(names(root.path()), before);
    for role in ["sweep", "reader"] {
        let told = examined(root.path(), &["--for", role]);
        assert_eq!((troubles(&told), told.check("write")["state"].as_str()), (vec![], Some("skipped")));
        assert_eq!(names(root.path()), before);
    }
}

#[test]
fn one_that_is_not_there_is_tried_and_not_made() {
    let parent = tempfile::tempdir().unwrap();
    let root = parent.path().join("a/b");
    let told = examined(&root, &[]);
    assert!(told.check("root")["seen"].as_str().unwrap().contains("can be made"), "{}", told.report);
    assert_eq!(told.check("write")["state"], "ok", "{}", told.report);
    assert_eq!(names(parent.path()), Vec::<String>::new());
    // A reader makes none, and finds none.
    assert_eq!(examined(&root, &["--for", "reader"]).code, 3);
    fs::write(parent.path().join("file"), "x").unwrap();
    for root in ["file", "file/below"] {
        let told = examined(&parent.path().join(root), &[]);
        assert_eq!((told.code, &told.report["reached"]), (3, &false.into()), "{}", told.report);
    }
}

/// As a user who may not write there.
#[test]
fn one_that_may_not_be_written_is_told() {
    let root = tempfile::tempdir().unwrap();
    let us = fs::metadata(root.path()).unwrap().uid();
    let mut command = doctor(&["--json", "--store", root.path().to_str().unwrap()], &[]);
    let copy = tempfile::tempdir().unwrap();
    if us == 0 {
        // Root may write everywhere, so it is done as nobody, who may not look where the binary was built.
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(copy.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let binary = copy.path().join("larder");
        fs::copy(env!("CARGO_BIN_EXE_larder"), &binary).unwrap();
        command = std::process::Command::new(binary);
        command
            .args(["doctor", "--json", "--store", root.path().to_str().unwrap()])
            .env_clear()
            .uid(65534)
            .gid(65534);
    } else {
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o555)).unwrap();
    }
    let told = Told::of(&command.output().unwrap());
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!((told.code, told.that("fail")), (1, vec!["stage"]), "{}", told.report);
    assert!(told.check("stage")["seen"].as_str().unwrap().contains("ermission denied"), "{}", told.report);
    assert_eq!(told.check("write")["state"], "skipped");
    assert_eq!(names(root.path()), Vec::<String>::new());
}

#[test]
fn one_that_everybody_may_write_is_told() {
    let root = tempfile::tempdir().unwrap();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(examined(root.path(), &[]).check("owner")["state"], "warn");
}

/// A rename goes no further than a file system does.
#[test]
fn a_part_on_another_file_system_is_told() {
    let root = tempfile::tempdir().unwrap();
    let here = fs::metadata(root.path()).unwrap().dev();
    let elsewhere = ["/dev/shm", "/proc", "/sys"]
        .into_iter()
        .find(|place| fs::metadata(place).is_ok_and(|stat| stat.is_dir() && stat.dev() != here));
    std::os::unix::fs::symlink(elsewhere.expect("a second file system"), root.path().join("artifact"))
        .unwrap();
    let told = examined(root.path(), &[]);
    assert_eq!((told.code, told.check("one-device")["state"].as_str()), (1, Some("fail")), "{}", told.report);
}

#[tokio::test]
async fn a_gateway_is_asked_too() {
    let gateway = TestGateway::start();
    let root = tempfile::tempdir().unwrap();
    let told = examined(root.path(), &["--url", &format!("http://{}", gateway.addr())]);
    // A test's gateway never says that it is ready.
    assert_eq!((told.code, told.that("fail")), (1, vec!["ready"]), "{}", told.report);
    assert_eq!(told.check("alive")["state"], "ok");
    let addr = gateway.addr();
    drop(gateway);
    let told = examined(root.path(), &["--url", &format!("http://{addr}/readyz")]);
    assert_eq!((told.code, told.that("fail")), (1, vec!["alive", "ready"]));
}

#[test]
fn wrong_usage_is_two() {
    for args in [
        &["--for", "nobody"][..],
        &["--policy", "--store", "/tmp"],
        &["--url", "nonsense"],
        &["--store", "gs://x"],
    ] {
        assert_eq!(
            doctor(args, &[("HOME", "/nonexistent")]).output().unwrap().status.code(),
            Some(2),
            "{args:?}"
        );
    }
}
