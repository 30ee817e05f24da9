//! The command line keeps its word: exit codes, boundaries of `rm`, nothing half done, one definition for all.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use clap::CommandFactory;
use larder::cli::Cli;
use serde_json::Value;
use tempfile::TempDir;

/// The real binary, with nothing of this machine's environment that could change what it does.
fn larder(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
    command.env_clear().args(args).stdin(Stdio::null());
    command
}

fn run(store: &TempDir, args: &[&str]) -> Output {
    larder(args).env("LARDER_STORE", store.path()).output().unwrap()
}

fn fed(store: &TempDir, args: &[&str], input: &[u8]) -> Output {
    let mut command = larder(args);
    command.env("LARDER_STORE", store.path()).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

#[track_caller]
fn check(output: &Output, code: i32, stdout: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "stderr: {stderr}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), stdout, "stderr: {stderr}");
    assert!(code == 0 || stderr.starts_with("larder: ") || stderr.starts_with("error: "), "stderr: {stderr}");
}

#[track_caller]
fn says(output: &Output, code: i32, text: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "stderr: {stderr}");
    assert!(stderr.contains(text), "stderr: {stderr}");
}

/// A directory with these objects, each holding its own name.
fn stored(keys: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for key in keys {
        let path = dir.path().join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, key).unwrap();
    }
    dir
}

fn names(store: &TempDir) -> String {
    String::from_utf8(run(store, &["ls", "-r"]).stdout).unwrap().replace('\n', " ")
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn help_of_the_whole() {
    insta::assert_snapshot!(Cli::command().term_width(100).render_long_help());
}

#[test]
fn every_setting_is_also_an_environment_variable() {
    let command = Cli::command();
    let serve = command.find_subcommand("serve").unwrap();
    let log = command.get_arguments().filter(|arg| arg.get_id() == "log_format");
    for arg in serve.get_arguments().chain(log) {
        let long = arg.get_long().unwrap();
        let expected = format!("LARDER_{}", long.to_ascii_uppercase().replace('-', "_"));
        assert_eq!(arg.get_env().and_then(|name| name.to_str()), Some(expected.as_str()), "--{long}");
        assert!(arg.get_help().is_some(), "--{long}");
    }
}

#[test]
fn every_command_has_examples() {
    for command in Cli::command().get_subcommands() {
        let text = command.get_after_long_help().unwrap().to_string();
        assert!(text.contains(&format!("larder {}", command.get_name())), "{}", command.get_name());
    }
}

#[test]
fn nothing_asked_is_wrong_usage() {
    for args in [&[][..], &["nonsense"], &["rm"], &["get"], &["get", "a//b"], &["ls", "../x"], &["man", "x"]]
    {
        assert_eq!(larder(args).output().unwrap().status.code(), Some(2), "{args:?}");
    }
    let help = larder(&["--help"]).output().unwrap();
    assert_eq!(help.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&help.stdout).contains("Examples:"));
}

#[test]
fn versions_completions_and_pages_come_from_the_definition() {
    let version = format!("larder {}\n", env!("CARGO_PKG_VERSION"));
    check(&larder(&["version"]).output().unwrap(), 0, &version);
    check(&larder(&["-V"]).output().unwrap(), 0, &version);
    for shell in ["bash", "zsh", "fish"] {
        let script = larder(&["completions", shell]).output().unwrap();
        assert!(String::from_utf8_lossy(&script.stdout).contains("healthcheck"), "{shell}");
    }
    let page = String::from_utf8(larder(&["man"]).output().unwrap().stdout).unwrap();
    assert!(page.contains(".TH larder 1") && page.contains("serve"), "{page}");
    let page = String::from_utf8(larder(&["man", "serve"]).output().unwrap().stdout).unwrap();
    assert!(page.contains(".TH larder\\-serve 1") || page.contains(".TH larder-serve 1"), "{page}");
    assert!(page.contains("LARDER_DRAIN_TIMEOUT"), "{page}");
}

#[test]
fn contradictions_are_wrong_usage() {
    let store = stored(&[]);
    for (args, text) in [
        (&["serve", "--groups", "g"][..], "--groups needs --users"),
        (&["serve", "--anonymous", "read"], "--anonymous read needs --users"),
        (&["serve", "--tls-cert", "c"], "--tls-cert needs --tls-key"),
        (&["serve", "--key_file", "k"], "--tls-key needs --tls-cert"),
        (&["serve", "--client-ca", "a"], "--client-ca needs --tls-cert and --tls-key"),
        (&["serve", "--writable_certs", "w"], "--writable-certs needs --tls-cert and --tls-key"),
        (&["serve", "--readonly-certs", "r"], "--readonly-certs needs --tls-cert and --tls-key"),
        (&["serve", "--max-connections", "0"], "--max-connections must be more than 0"),
        (&["serve", "--max-object-size", "lots"], "64MiB"),
        (&["serve", "--drain-timeout", "30"], "30s"),
        (&["serve", "--listen", "here"], "--listen"),
        (&["serve", "--store", "gs://bucket"], "only s3:// is known"),
        (&["ls", "--store", "s3://Bucket"], "bucket's name"),
        (&["ls", "--store", "s3://bucket", "--s3-kms-key", "k"], "--s3-sse aws:kms"),
        (&["ls", "--store", "s3://bucket", "--s3-endpoint", "minio:9000"], "--s3-endpoint"),
        (&["ls", "--s3-path-style=perhaps"], "--s3-path-style"),
    ] {
        says(&run(&store, args), 2, text);
    }
    says(&larder(&["ls"]).env("RUST_LOG", "a=b=c").output().unwrap(), 2, "RUST_LOG");
    says(&larder(&["ls"]).env("HOME", "somewhere").output().unwrap(), 2, "LARDER_STORE");
}

#[test]
fn ls_lists_one_level_or_all() {
    let store = stored(&["a/b/x", "a/b.c", "a/bc/y", "z"]);
    check(&run(&store, &["ls"]), 0, "a/\nz\n");
    check(&run(&store, &["ls", "a"]), 0, "a/b.c\na/b/\na/bc/\n");
    check(&run(&store, &["ls", "a/b"]), 0, "a/b/x\n");
    check(&run(&store, &["ls", "-r", "a/", "z"]), 0, "a/b.c\na/b/x\na/bc/y\nz\n");
    let long = String::from_utf8(run(&store, &["ls", "-l", "z"]).stdout).unwrap();
    assert!(long.starts_with("             1  20") && long.ends_with("Z  z\n"), "{long:?}");
    let line: Value = serde_json::from_slice(&run(&store, &["ls", "--json", "a/b"]).stdout).unwrap();
    assert_eq!(line["key"], "a/b/x");
    assert_eq!(line["size"], 5);
    assert!(line["modified"].as_str().unwrap().ends_with('Z'));
    check(
        &run(&store, &["ls", "--json"]).clone(),
        0,
        &format!("{{\"prefix\":\"a/\"}}\n{}", json_of(&store, "z")),
    );
    says(&run(&store, &["ls", "a/x", "z", "y"]), 1, "nothing is stored under a/x, y");
}

fn json_of(store: &TempDir, key: &str) -> String {
    String::from_utf8(run(store, &["ls", "--json", key]).stdout).unwrap()
}

#[test]
fn what_was_put_is_got() {
    let store = stored(&[]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    let path = file.to_str().unwrap();
    check(&fed(&store, &["put", "a/b"], b"from a pipe"), 0, "");
    check(&run(&store, &["get", "a/b"]), 0, "from a pipe");
    check(&run(&store, &["get", "a/b", "-o", path]), 0, "");
    assert_eq!(fs::read(&file).unwrap(), b"from a pipe");
    check(&run(&store, &["put", "a/c", path, "--create"]), 0, "");
    says(&run(&store, &["put", "a/c", path, "--create"]), 1, "already");
    let said: Value = serde_json::from_slice(&run(&store, &["put", "a/c", path, "--json"]).stdout).unwrap();
    assert_eq!(said["key"], "a/c");
    let said: Value =
        serde_json::from_slice(&run(&store, &["get", "a/c", "-o", path, "--json"]).stdout).unwrap();
    assert_eq!((&said["key"], &said["size"]), (&Value::from("a/c"), &Value::from(11)));
    says(&run(&store, &["get", "absent"]), 1, "there is no object absent");
    says(&run(&store, &["get", "absent", "-o", "/nowhere/x"]), 1, "there is no object absent");
    says(&run(&store, &["get", "a/c", "-o", "/nowhere/x"]), 1, "/nowhere/x");
    says(&run(&store, &["put", "a/d", "/nowhere/x"]), 1, "/nowhere/x");
    says(&run(&store, &["put", "a/d", dir.path().to_str().unwrap()]), 1, "directory");
    says(&run(&store, &["get", "a/c", "--json"]), 2, "--output");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing beside the file");
    assert_eq!(names(&store), "a/b a/c ");
}

#[test]
fn rm_ends_on_path_boundaries() {
    let store = stored(&["a/b/x", "a/b/y/z", "a/b.c", "a/bc", "b"]);
    let gone = "would remove a/b/x\nwould remove a/b/y/z\nwould remove 2 objects, 12 bytes\n";
    check(&run(&store, &["rm", "--dry-run", "a/b"]), 0, gone);
    check(&run(&store, &["rm", "-n", "a/b/", "a/b/y"]), 0, gone);
    assert_eq!(names(&store), "a/b.c a/b/x a/b/y/z a/bc b ");
    says(&run(&store, &["rm", "a/b"]), 2, "this would remove 2 objects (12 B): say --yes");
    assert_eq!(names(&store), "a/b.c a/b/x a/b/y/z a/bc b ");
    check(&run(&store, &["rm", "-y", "a/b"]), 0, &gone.replace("would remove", "removed"));
    assert_eq!(names(&store), "a/b.c a/bc b ");
    check(&run(&store, &["rm", "a/bc"]), 0, "removed a/bc\nremoved 1 objects, 4 bytes\n");
    says(&run(&store, &["rm", "a/bc"]), 1, "nothing is stored under a/bc");
    assert_eq!(names(&store), "a/b.c b ");
}

#[test]
fn rm_of_everything_is_said_twice() {
    let store = stored(&["a/b", "c"]);
    says(&run(&store, &["rm", "", "--yes"]), 2, "--all");
    says(&run(&store, &["rm", "/", "--yes"]), 2, "--all");
    says(&run(&store, &["rm", "--all"]), 2, "--yes");
    says(&run(&store, &["rm", "--all", "--yes", "a"]), 2, "--all removes everything");
    assert_eq!(names(&store), "a/b c ");
    check(&run(&store, &["rm", "--all", "--yes"]), 0, "removed a/b\nremoved c\nremoved 2 objects, 4 bytes\n");
}

#[test]
fn rm_tells_programs_what_it_did() {
    let store = stored(&["a/b", "a/c"]);
    let output = run(&store, &["rm", "a", "--yes", "--json"]);
    let lines: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3);
    assert_eq!((&lines[0]["key"], &lines[0]["removed"]), (&Value::from("a/b"), &Value::from(true)));
    assert_eq!(lines[2], serde_json::json!({"objects": 2, "bytes": 6, "failed": 0, "dry_run": false}));
}

#[test]
fn many_objects_go_in_batches() {
    let keys: Vec<String> = (0..2_500).map(|number| format!("a/{number:05}")).collect();
    let store = stored(&keys.iter().map(String::as_str).collect::<Vec<_>>());
    let output = run(&store, &["rm", "--yes", "a"]);
    assert!(String::from_utf8(output.stdout).unwrap().ends_with("removed 2500 objects, 17500 bytes\n"));
    assert_eq!(names(&store), "");
}

#[test]
fn readers_may_leave() {
    let keys: Vec<String> = (0..3_000).map(|number| format!("a/{number:05}/{}", "x".repeat(200))).collect();
    let store = stored(&keys.iter().map(String::as_str).collect::<Vec<_>>());
    let mut listing = larder(&["ls", "-r"]);
    listing.env("LARDER_STORE", store.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = listing.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    check(&output, 0, "");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn a_store_that_fails_is_exit_3() {
    let args = ["ls", "--store", "s3://bucket", "--s3-endpoint", "http://127.0.0.1:1", "--s3-attempts", "1"];
    let mut command = larder(&args);
    command.env("AWS_ACCESS_KEY_ID", "k").env("AWS_SECRET_ACCESS_KEY", "s").env("AWS_REGION", "us-east-1");
    says(&command.output().unwrap(), 3, "the store is unavailable");
}

#[test]
fn a_healthcheck_tells_by_its_exit_code() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = listener.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || {
        for answer in ["200 OK", "503 Service Unavailable"] {
            let (mut socket, _) = listener.accept().unwrap();
            let mut head = [0; 512];
            let length = std::io::Read::read(&mut socket, &mut head).unwrap();
            assert!(head[..length].starts_with(b"GET /readyz HTTP/1.1\r\n"));
            write!(socket, "HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n").unwrap();
        }
    });
    check(&larder(&["healthcheck"]).env("LARDER_LISTEN", &listen).output().unwrap(), 0, "");
    let ops = larder(&["healthcheck", "--ops-listen", &listen]).output().unwrap();
    says(&ops, 1, "answered 503 Service Unavailable");
    server.join().unwrap();
    says(&larder(&["healthcheck", &format!("http://{listen}")]).output().unwrap(), 1, "cannot be reached");
    says(&larder(&["healthcheck", "ftp://x"]).output().unwrap(), 2, "http://HOST");
    says(&larder(&["healthcheck", "--listen", "127.0.0.1:0"]).output().unwrap(), 2, "port 0");
}

#[test]
fn files_come_with_the_usual_permissions() {
    use std::os::unix::fs::PermissionsExt;
    let store = stored(&["a"]);
    let dir = tempfile::tempdir().unwrap();
    let usual = dir.path().join("usual");
    fs::write(&usual, b"").unwrap();
    let got = dir.path().join("got");
    check(&run(&store, &["get", "a", "-o", got.to_str().unwrap()]), 0, "");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&got), mode(&usual));
}

/// A distribution, stored as an upload leaves it.
fn published(files: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in files {
        let place = dir.path().join("wheels/shared/foo");
        fs::create_dir_all(place.join(".records")).unwrap();
        fs::write(place.join(file), "x").unwrap();
        let record = format!("{{\"filename\":\"{file}\"}}");
        fs::write(place.join(format!(".records/{file}.json")), record).unwrap();
    }
    dir
}

#[test]
fn releases_are_yanked_and_that_is_taken_back() {
    let (wheel, other) = ("foo-1.0-py3-none-any.whl", "foo-1.1.tar.gz");
    let store = published(&[wheel, "foo-1.0.tar.gz", other]);
    let yank = |file: &str| store.path().join(format!("wheels/shared/foo/.records/{file}.yank"));
    let done = format!("yanked {wheel}\nyanked foo-1.0.tar.gz\n");
    check(&run(&store, &["yank", "Foo==1.0.0", "--reason", "breaks"]), 0, &done);
    assert_eq!(fs::read_to_string(yank(wheel)).unwrap(), "breaks");
    assert!(!yank(other).exists());
    let line = format!("{{\"filename\":\"{wheel}\",\"done\":\"no longer yanked\"}}\n");
    check(&run(&store, &["yank", "--undo", "--json", wheel]), 0, &line);
    assert!(!yank(wheel).exists() && yank("foo-1.0.tar.gz").exists());
    says(&run(&store, &["yank", "foo==7", other]), 1, "there is no file foo==7 in the index");
    assert!(yank(other).exists(), "what is there is done all the same");
    check(&run(&store, &["yank", "foo==1.0", "--environment", "e"]), 1, "");
    says(&run(&store, &["yank", "foo"]), 2, "neither PROJECT==VERSION nor a file's name");
    says(&run(&store, &["yank", other, "--reason", "a\nb"]), 2, "one line");
}

#[test]
fn what_is_unpublished_is_gone() {
    let (wheel, other) = ("foo-1.0-py3-none-any.whl", "foo-1.1.tar.gz");
    let store = published(&[wheel, other]);
    check(&run(&store, &["unpublish", "foo==1.0"]), 0, &format!("unpublished {wheel}\n"));
    assert_eq!(names(&store), format!("wheels/shared/foo/.records/{other}.json wheels/shared/foo/{other} "));
    check(&run(&store, &["unpublish", "foo==1.0"]), 1, "");
}
