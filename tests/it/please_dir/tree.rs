//! Directory caches of both generations, made as Please makes them.

use std::fs::{self, File, FileTimes};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::lchown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::io::{FdFlags, fcntl_setfd};
use serde_json::Value;
use tempfile::TempDir;

/// A key of 20 bytes, as the tree spells it.
pub(super) fn hash(number: u32) -> String {
    let mut bytes = *b"0123456789abcdefghij";
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    URL_SAFE.encode(bytes)
}

/// Nobody in particular, but not root.
const SOMEBODY: u32 = 65534;

/// A directory cache.
pub(super) struct Cache {
    pub(super) dir: TempDir,
    /// Whose it is, and who sweeps it, where that is not who runs the tests.
    owner: Option<u32>,
}

impl Cache {
    pub(super) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), owner: None }
    }

    /// One that is not root's, who may do everything; once it is laid out it is [given](Self::give) to its owner.
    pub(super) fn of_somebody() -> Self {
        Self { owner: rustix::process::geteuid().is_root().then_some(SOMEBODY), ..Self::new() }
    }

    /// Gives all of it to its owner.
    pub(super) fn give(&self) {
        if let Some(owner) = self.owner {
            give(self.dir.path(), owner);
        }
    }

    /// Runs a line of shell as the cache's owner.
    pub(super) fn shell(&self, line: &str) -> ExitStatus {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", line]).stdin(Stdio::null()).stderr(Stdio::null());
        self.as_owner(&mut command).status().unwrap()
    }

    fn as_owner<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        match self.owner {
            Some(owner) => command.uid(owner).gid(owner),
            None => command,
        }
    }

    pub(super) fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    /// An entry that is a directory: `{package}/{target}/{hash}`, its files, and how long ago it was used.
    pub(super) fn directory(&self, path: &str, files: &[(&str, &[u8])], minutes: u64) {
        for (name, bytes) in files {
            let file = self.path(path).join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, bytes).unwrap();
        }
        self.age(path, minutes);
    }

    /// An entry of one file of this size.
    pub(super) fn sized(&self, path: &str, size: usize, minutes: u64) {
        self.directory(path, &[("out", &vec![b'x'; size])], minutes);
    }

    /// An entry that is an archive; the path has its `.tar.gz`.
    pub(super) fn archive(&self, path: &str, files: &[(&str, &[u8])], minutes: u64) {
        let path_on_disk = self.path(path);
        fs::create_dir_all(path_on_disk.parent().unwrap()).unwrap();
        let packed = GzEncoder::new(File::create(path_on_disk).unwrap(), Compression::fast());
        let mut archive = tar::Builder::new(packed);
        for (name, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o664);
            archive.append_data(&mut header, name, *bytes).unwrap();
        }
        archive.into_inner().unwrap().finish().unwrap();
        self.age(path, minutes);
    }

    /// An archive of so many bytes on disk that is none: for who does not look into it.
    pub(super) fn lump(&self, path: &str, size: usize, minutes: u64) {
        let file = self.path(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, vec![b'x'; size]).unwrap();
        self.age(path, minutes);
    }

    /// Sets the times of a place and all below it.
    pub(super) fn age(&self, path: &str, minutes: u64) {
        age(&self.path(path), SystemTime::now() - Duration::from_secs(minutes * 60));
    }

    /// Whether a place is there.
    pub(super) fn has(&self, path: &str) -> bool {
        self.path(path).symlink_metadata().is_ok()
    }

    /// What it takes, by the system's own `du`.
    pub(super) fn du(&self) -> u64 {
        let output =
            Command::new("du").args(["-s", "--block-size=1"]).arg(self.dir.path()).output().expect("du");
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_whitespace().next().and_then(|bytes| bytes.parse().ok()).expect("bytes")
    }

    /// Runs `larder sweep` on it, between these marks.
    pub(super) fn sweep(&self, high: u64, low: u64, more: &[&str]) -> Output {
        let (high, low) = (high.to_string(), low.to_string());
        let marks = ["--high-water", &high, "--low-water", &low];
        // Opened here, and inherited: it may lie where the cache's owner does not get to.
        let binary = File::open(env!("CARGO_BIN_EXE_larder")).unwrap();
        let mut command = larder(&["sweep", "--please-dir"]);
        if self.owner.is_some() {
            fcntl_setfd(&binary, FdFlags::empty()).unwrap();
            command = Command::new(format!("/proc/self/fd/{}", binary.as_raw_fd()));
            command.env_clear().args(["sweep", "--please-dir"]).stdin(Stdio::null());
        }
        self.as_owner(&mut command).arg(self.dir.path()).args(marks).args(more).output().unwrap()
    }

    /// The same, which ends well; its sum.
    #[track_caller]
    pub(super) fn swept(&self, high: u64, low: u64) -> Value {
        last_line(&self.sweep(high, low, &["--json"]), 0)
    }
}

fn give(path: &Path, owner: u32) {
    lchown(path, Some(owner), Some(owner)).unwrap();
    if path.symlink_metadata().unwrap().is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| give(&entry.unwrap().path(), owner));
    }
}

fn age(path: &Path, then: SystemTime) {
    let meta = path.symlink_metadata().unwrap();
    if meta.is_symlink() {
        return;
    }
    if meta.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            age(&entry.unwrap().path(), then);
        }
    }
    let times = FileTimes::new().set_accessed(then).set_modified(then);
    File::open(path).unwrap().set_times(times).unwrap();
}

/// The real binary, with nothing of this machine's environment.
pub(super) fn larder(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
    command.env_clear().args(args).stdin(Stdio::null());
    command
}

/// The last line of what a command says to programs.
#[track_caller]
pub(super) fn last_line(output: &Output, code: i32) -> Value {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    serde_json::from_str(text.lines().last().unwrap_or_else(|| panic!("nothing said: {stderr}"))).unwrap()
}
