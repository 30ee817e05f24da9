//! What a file system is and does, below the store: each probe one function, blocking.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::StatVfsMountFlags;

use super::{Ground, failed};
use crate::store::examine::{Fact, Seen};

/// Most names of the root that are looked at.
const LOOKED_AT: usize = 1000;

fn or_failed(seen: io::Result<Seen>) -> Seen {
    seen.unwrap_or_else(|error| failed(&error))
}

/// Whether the root is a directory, or can become one.
pub(super) fn root(ground: &Ground, write: bool) -> Seen {
    let root = ground.root.display();
    match fs::metadata(&ground.root) {
        Ok(stat) if stat.is_dir() => match fs::read_dir(&ground.root) {
            Ok(_) => Seen::Well(root.to_string()),
            Err(error) => failed(&error),
        },
        Ok(_) => Seen::Failed(format!("{root} is not a directory")),
        Err(error) if error.kind() == io::ErrorKind::NotFound && write => or_failed(
            ground
                .make(&ground.root)
                .map(|()| Seen::Well(format!("{root} is not there yet, and can be made"))),
        ),
        Err(error) => failed(&error),
    }
}

/// What sort of file system it is.
#[cfg(target_os = "linux")]
pub(super) fn sort(ground: &Ground) -> Seen {
    match rustix::fs::statfs(&ground.root) {
        // As the kernel has it: 32 bits, whatever the width of the field.
        Ok(stat) => Seen::Fact(Fact::FileSystem(u64::from(stat.f_type as u32))),
        Err(errno) => failed(&errno.into()),
    }
}

/// What sort of file system it is.
#[cfg(not(target_os = "linux"))]
pub(super) fn sort(_: &Ground) -> Seen {
    Seen::Unknown("this system does not say".to_owned())
}

/// What is free of it.
pub(super) fn room(ground: &Ground) -> Seen {
    let stat = match rustix::fs::statvfs(&ground.root) {
        Ok(stat) => stat,
        Err(errno) => return failed(&errno.into()),
    };
    if stat.f_blocks == 0 {
        return Seen::Skipped("the file system does not tell its size".to_owned());
    }
    let percent = |free: u64, all: u64| (u128::from(free) * 100).checked_div(u128::from(all));
    let percent = |free, all| percent(free, all).and_then(|part| u64::try_from(part).ok());
    Seen::Fact(Fact::Room {
        bytes: percent(stat.f_bavail, stat.f_blocks).unwrap_or(0),
        files: percent(stat.f_favail, stat.f_files),
        free: stat.f_bavail.saturating_mul(stat.f_frsize),
    })
}

/// Whether it notes when a file was read.
pub(super) fn access_times(ground: &Ground) -> Seen {
    match rustix::fs::statvfs(&ground.root) {
        Err(errno) => failed(&errno.into()),
        Ok(stat) if stat.f_flag.contains(StatVfsMountFlags::NOATIME) => Seen::Wrong("noatime".to_owned()),
        Ok(stat) if stat.f_flag.contains(StatVfsMountFlags::RELATIME) => Seen::Well("relatime".to_owned()),
        Ok(_) => Seen::Well("kept".to_owned()),
    }
}

/// Whose it is.
pub(super) fn owner(ground: &Ground) -> Seen {
    or_failed(fs::metadata(&ground.root).map(|stat| {
        let (mode, us) = (stat.permissions().mode(), rustix::process::geteuid().as_raw());
        if mode & 0o002 != 0 && mode & 0o1000 == 0 {
            Seen::Wrong(format!("everybody on this machine may write there (mode {:o})", mode & 0o7777))
        } else if stat.uid() != us {
            Seen::Well(format!("it is user {}'s, and we are user {us}", stat.uid()))
        } else {
            Seen::Well(format!("ours (user {us})"))
        }
    }))
}

/// A file's way: staged, forced to the medium, renamed, its directory forced too.
pub(super) fn stage(ground: &Ground) -> Seen {
    let way = || {
        ground.make(&ground.staging())?;
        ground.make(&ground.place())?;
        let (staged, target) =
            (ground.staging().join(format!("doctor-{}", ground.own)), ground.place().join("staged"));
        let done = write(&staged).and_then(|()| fs::rename(&staged, &target));
        if let Err(error) = done {
            drop(fs::remove_file(&staged));
            return Err(error);
        }
        match File::open(ground.place()).and_then(|dir| dir.sync_all()) {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                Ok(Seen::Well("files are forced to the medium, directories cannot be".to_owned()))
            }
            done => done.map(|()| Seen::Well(String::new())),
        }
    };
    or_failed(way())
}

fn write(path: &Path) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(b"larder doctor")?;
    file.sync_all()
}

/// How far the file system's clock is from ours, by a file that was just written.
pub(super) fn clock(ground: &Ground) -> Seen {
    let seconds = |time: SystemTime| {
        time.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
    };
    let path = ground.place().join("clock");
    let before = seconds(SystemTime::now());
    match write(&path).and_then(|()| fs::metadata(&path)?.modified()) {
        Ok(time) => {
            let (time, after) = (seconds(time), seconds(SystemTime::now()));
            Seen::Fact(Fact::Ahead(if time > after { time - after } else { (time - before).min(0) }))
        }
        Err(_) => Seen::Skipped("no file can be written".to_owned()),
    }
}

/// Whether what lies in the root is on the root's own file system: files are renamed from there.
pub(super) fn one_device(ground: &Ground) -> Seen {
    let look = || {
        let device = fs::metadata(&ground.root)?.dev();
        for entry in fs::read_dir(&ground.root)?.take(LOOKED_AT) {
            let path = entry?.path();
            if let Ok(stat) = fs::metadata(&path)
                && stat.is_dir()
                && stat.dev() != device
            {
                return Ok(Seen::Wrong(format!(
                    "{} is on another file system than the root",
                    path.display()
                )));
            }
        }
        Ok(Seen::Well(String::new()))
    };
    or_failed(look())
}

/// Whether names that are different are different files, and as long as they may be.
pub(super) fn names(ground: &Ground) -> Seen {
    let place = ground.place();
    let look = || {
        write(&place.join("name-a"))?;
        if place.join("NAME-A").exists() {
            return Ok(Seen::Wrong("it does not tell `a` from `A`".to_owned()));
        }
        write(&place.join("name-\u{e9}"))?;
        if place.join("name-e\u{301}").exists() {
            return Ok(Seen::Wrong("it does not tell one spelling of `é` from the other".to_owned()));
        }
        match write(&place.join("n".repeat(255))) {
            Ok(()) => Ok(Seen::Well(String::new())),
            Err(error) => Ok(Seen::Wrong(format!("it takes no names of 255 bytes: {error}"))),
        }
    };
    or_failed(look())
}
