//! The store's own verbs, done to an object of our own.

use std::fs::{self, FileTimes};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rustix::io::Errno;

use super::super::Dir;
use super::super::stage::ATTRIBUTE;
use super::{Examiner, WRITES};
use crate::budget::Budget;
use crate::metrics::Metrics;
use crate::payload::{Body, Want};
use crate::store::error::{Error, Kind, PutError};
use crate::store::examine::{PATIENCE, PLACE, Probe, Seen};
use crate::store::{Key, Mode, Put, Stored, Touched};

const BYTES: Bytes = Bytes::from_static(b"larder doctor");
const MARK: &str = "larder doctor";
/// How old an object is made before it is refreshed.
const OLD: Duration = Duration::from_secs(3600);

fn failed(error: &Error) -> Seen {
    if error.kind == Kind::Denied { Seen::Refused(error.chain()) } else { Seen::Failed(error.chain()) }
}

fn broken(error: &PutError) -> Seen {
    match error {
        PutError::Store(error) => failed(error),
        PutError::Body(error) => Seen::Failed(error.to_string()),
    }
}

impl Examiner {
    pub(super) async fn verbs(&self, say: &(dyn Fn(Probe, Seen) + Sync)) {
        if tokio::time::timeout(PATIENCE, self.all_verbs(say)).await.is_err() {
            say(Probe::Write, Seen::Failed(format!("the store's verbs do not end within {PATIENCE:?}")));
        }
    }

    async fn all_verbs(&self, say: &(dyn Fn(Probe, Seen) + Sync)) {
        let text = format!("{PLACE}/{}/object", self.ground.own);
        let config = super::Config { memory: 0, ..self.config.clone() };
        let opened = Dir::open(config, Budget::new(1 << 20), Metrics::new());
        let (Ok(key), Ok(dir)) = (text.parse::<Key>(), opened) else { return };
        let put = |mode| dir.put(&key, BYTES.into(), Put { mode, settled: 0, mark: Some(MARK.to_owned()) });
        let etag = match put(Mode::Create).await {
            Ok(Stored::Done { etag }) => {
                say(Probe::Write, Seen::Well(String::new()));
                etag
            }
            other => {
                say(
                    Probe::Write,
                    other.map_or_else(|error| broken(&error), |_| Seen::Failed("it is there".to_owned())),
                );
                let why = || Seen::Skipped("no object can be written".to_owned());
                WRITES.iter().skip(4).for_each(|probe| say(*probe, why()));
                return;
            }
        };
        say(Probe::Attributes, self.attributes());
        say(Probe::Read, read(&dir, &key).await);
        say(Probe::CreateOnly, refused(put(Mode::Create).await));
        let swapped = match refused(put(Mode::Swap("0-0".to_owned())).await).well() {
            Ok(()) => match put(Mode::Swap(etag)).await {
                Ok(Stored::Done { .. }) => Seen::Well(String::new()),
                Ok(Stored::Exists) => Seen::Wrong("the right version is refused, too".to_owned()),
                Err(error) => broken(&error),
            },
            Err(seen) => seen,
        };
        say(Probe::ReplaceSame, swapped);
        say(Probe::Refresh, self.refresh(&dir, &key).await);
        say(
            Probe::Delete,
            match dir.delete(std::slice::from_ref(&key)).await {
                Ok(()) if self.ground.root.join(&text).exists() => {
                    Seen::Wrong("it is still there".to_owned())
                }
                Ok(()) => Seen::Well(String::new()),
                Err(error) => failed(&error),
            },
        );
    }

    fn attributes(&self) -> Seen {
        let mut note = [0; 64];
        match rustix::fs::getxattr(self.ground.place().join("object"), ATTRIBUTE, &mut note) {
            Ok(_) => Seen::Well(String::new()),
            Err(Errno::NOTSUP) => Seen::Wrong("the file system has none".to_owned()),
            Err(errno) => Seen::Wrong(errno.to_string()),
        }
    }

    async fn refresh(&self, dir: &Dir, key: &Key) -> Seen {
        let path = self.ground.root.join(key.as_str());
        let old = SystemTime::now() - OLD;
        let aged = fs::File::options().write(true).open(&path);
        if let Err(error) = aged.and_then(|file| file.set_times(FileTimes::new().set_modified(old))) {
            return super::failed(&error);
        }
        match dir.touch(key, None).await {
            Err(error) => failed(&error),
            Ok(Touched::Gone) => Seen::Failed("the object is gone".to_owned()),
            Ok(Touched::Done | Touched::Young | Touched::Unmoved) => {
                match fs::metadata(&path).and_then(|stat| stat.modified()) {
                    Ok(time) if time > old + OLD / 2 => Seen::Well("its date can be set".to_owned()),
                    Ok(_) => Seen::Wrong("the date of a file does not move".to_owned()),
                    Err(error) => super::failed(&error),
                }
            }
        }
    }
}

async fn read(dir: &Dir, key: &Key) -> Seen {
    let object = match dir.get(key, &Want::default()).await {
        Err(error) => return failed(&error),
        Ok(None) => return Seen::Wrong("what was just written is not there".to_owned()),
        Ok(Some(object)) => object,
    };
    let Body::Whole(content) = object.body else { return Seen::Wrong("only a part comes back".to_owned()) };
    match content.collect().await {
        Ok(bytes) if bytes == BYTES => Seen::Well(String::new()),
        Ok(_) => Seen::Wrong("other bytes come back than were written".to_owned()),
        Err(error) => Seen::Failed(error.to_string()),
    }
}

/// What should not have been written.
fn refused(stored: Result<Stored, PutError>) -> Seen {
    match stored {
        Ok(Stored::Exists) => Seen::Well(String::new()),
        Ok(Stored::Done { .. }) => Seen::Wrong("the object that is there is replaced".to_owned()),
        Err(error) => broken(&error),
    }
}
