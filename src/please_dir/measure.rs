//! One entry, file by file: what it takes, and when it was used last.
//!
//! An access time is the newest of the entry's files', for directories are read by whoever cleans up. A file system that
//! is mounted without access times has none to go by: there the time of the last write stands for it, the directories'
//! own among them, which some releases of Please set when they use an entry.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::at::{self, Facts, Nanos};
use super::plan::Shared;

/// What a file system tells of when files are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Times {
    /// When they were read.
    Read,
    /// Only when they were written.
    Written,
}

impl Times {
    /// Of the file system that holds a directory. Never of an inode: a single file may be kept from having access times
    /// in ways of its own.
    #[cfg(target_os = "linux")]
    pub(super) fn of(dir: impl AsFd) -> io::Result<Self> {
        let mount = rustix::fs::fstatvfs(dir)?;
        let none = mount.f_flag.contains(rustix::fs::StatVfsMountFlags::NOATIME);
        Ok(if none { Self::Written } else { Self::Read })
    }

    /// Other systems do not say it in a way that is the same for all of them.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn of(_dir: impl AsFd) -> io::Result<Self> {
        Ok(Self::Read)
    }

    /// When a file was used. One that was never read has the access time 0 on some file systems.
    fn used(self, facts: &Facts) -> Nanos {
        match self {
            Self::Read if facts.read > 0 => facts.read,
            Self::Read => facts.written,
            Self::Written => facts.written.max(facts.read),
        }
    }
}

/// What an entry adds up to.
#[derive(Debug, Clone, Default)]
pub(super) struct Measured {
    /// Bytes of disk of all that has one name only.
    pub(super) own: u64,
    pub(super) shared: Vec<Shared>,
    /// `None` where there is no file.
    read: Option<Nanos>,
    pub(super) written: Nanos,
}

impl Measured {
    /// Adds a file, a link, or a directory itself.
    pub(super) fn add(&mut self, facts: &Facts, times: Times) {
        self.written = self.written.max(facts.written);
        if facts.is_dir() {
            self.own += facts.disk;
            if times == Times::Written {
                self.read = self.read.max(Some(facts.written));
            }
            return;
        }
        self.read = self.read.max(Some(times.used(facts)));
        if facts.links > 1 {
            self.shared.push(Shared { id: facts.id, disk: facts.disk });
        } else {
            self.own += facts.disk;
        }
    }

    /// When it was used last; what holds no file was used when it was made.
    pub(super) fn used(&self) -> Nanos {
        self.read.unwrap_or(self.written)
    }
}

/// Adds up a directory and all below it. What vanishes meanwhile is left out.
pub(super) fn directory(dir: &OwnedFd, times: Times) -> io::Result<Measured> {
    let mut sum = Measured::default();
    below(dir, times, &mut sum)?;
    Ok(sum)
}

fn below(dir: &OwnedFd, times: Times, sum: &mut Measured) -> io::Result<()> {
    sum.add(&Facts::of(dir)?, times);
    for name in at::names(dir)? {
        match inner(dir, &name, times, sum) {
            Err(error) if at::is_gone(&error) => {}
            done => done?,
        }
    }
    Ok(())
}

fn inner(dir: &OwnedFd, name: &OsStr, times: Times, sum: &mut Measured) -> io::Result<()> {
    let facts = Facts::at(dir, name)?;
    if facts.is_dir() {
        return below(&at::directory(dir, name)?, times, sum);
    }
    sum.add(&facts, times);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File, FileTimes};
    use std::time::{Duration, SystemTime};

    fn ago(minutes: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 - minutes * 60)
    }

    fn touch(path: &std::path::Path, read: SystemTime, written: SystemTime) {
        let times = FileTimes::new().set_accessed(read).set_modified(written);
        File::open(path).unwrap().set_times(times).unwrap();
    }

    fn used(dir: &std::path::Path, times: Times) -> SystemTime {
        at::moment(directory(&at::root(dir).unwrap(), times).unwrap().used())
    }

    #[test]
    fn the_newest_file_tells() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("gen")).unwrap();
        let (old, new) = (dir.path().join("old"), dir.path().join("gen/new"));
        fs::write(&old, b"x").unwrap();
        fs::write(&new, b"x").unwrap();
        touch(&old, ago(90), ago(10));
        touch(&new, ago(30), ago(80));
        touch(&dir.path().join("gen"), ago(1), ago(70));
        touch(dir.path(), ago(1), ago(70));
        assert_eq!(used(dir.path(), Times::Read), ago(30), "directories are read by cleaners");
        assert_eq!(used(dir.path(), Times::Written), ago(10));
        touch(dir.path(), ago(1), ago(5));
        assert_eq!(
            used(dir.path(), Times::Written),
            ago(5),
            "where there is nothing else, directories tell too"
        );
        assert_eq!(used(dir.path(), Times::Read), ago(30));
        // No access time at all.
        touch(&new, SystemTime::UNIX_EPOCH, ago(20));
        assert_eq!(used(dir.path(), Times::Read), ago(20));
    }

    #[test]
    fn what_holds_no_file_was_used_when_it_was_made() {
        let dir = tempfile::tempdir().unwrap();
        touch(dir.path(), ago(1), ago(40));
        assert_eq!(used(dir.path(), Times::Read), ago(40));
    }

    /// What the system's own table of mounts says of each place that can be asked.
    #[cfg(target_os = "linux")]
    #[test]
    fn mounts_without_access_times_are_known() {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let mut asked = 0;
        for line in table.lines() {
            let [device, place, options] = [2, 4, 5].map(|at| words(line)[at].clone());
            let Ok(dir) = at::root(std::path::Path::new(&place)) else { continue };
            // What another mount hides cannot be asked.
            let there = Facts::of(&dir).unwrap().id.0;
            let seen = format!("{}:{}", rustix::fs::major(there), rustix::fs::minor(there)) == device;
            if !seen || table.lines().filter(|other| words(other)[4] == place).count() > 1 {
                continue;
            }
            let none = options.split(',').any(|option| option == "noatime");
            assert_eq!(Times::of(&dir).unwrap() == Times::Written, none, "{line}");
            asked += 1;
        }
        assert!(asked > 0);
    }
}
