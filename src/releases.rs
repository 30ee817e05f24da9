//! Yanking and unpublishing Python distributions straight in the store: what `yank` and `unpublish` do.
//!
//! Side jobs of a person at a terminal. Does what admins can do over HTTP, by the same verbs of the domain, and in the
//! same order; knows no keys; prints only where it is told to.

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use pep440_rs::Version;
use serde::Serialize;

use crate::domain::wheels::{
    DistributionFilename, EnvironmentId, FilenameError, IndexName, NameError, ProjectName, Reason,
};
use crate::domain::{self, Gateway, Wheels};
use crate::store::Store;

/// Why a text names no file and no release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WhatError {
    /// Before `==`.
    #[error(transparent)]
    Project(#[from] NameError),
    /// Behind `==`.
    #[error("what stands behind == is no version that PEP 440 knows")]
    Version,
    /// Without `==`.
    #[error("neither PROJECT==VERSION nor a file's name: {0}")]
    File(#[from] FilenameError),
}

/// What a person points at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// One file.
    File(DistributionFilename),
    /// All files of a release, however its version is written.
    Release(ProjectName, Version),
}

impl FromStr for What {
    type Err = WhatError;

    fn from_str(text: &str) -> Result<Self, WhatError> {
        match text.split_once("==") {
            None => Ok(Self::File(text.parse()?)),
            Some((project, version)) => {
                let version = version.trim().parse().map_err(|_| WhatError::Version)?;
                Ok(Self::Release(project.trim().parse()?, version))
            }
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(filename) => write!(f, "{filename}"),
            Self::Release(project, version) => write!(f, "{project}=={version}"),
        }
    }
}

/// What to do to each file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Installers pass it over unless its very version is asked for.
    Yank(Reason),
    /// They no longer do.
    Unyank,
    /// It is taken out of its index, and its bytes out of the store.
    Unpublish,
}

impl Action {
    const fn done(&self) -> &'static str {
        match self {
            Self::Yank(_) => "yanked",
            Self::Unyank => "no longer yanked",
            Self::Unpublish => "unpublished",
        }
    }
}

/// What to do to what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The files and releases.
    pub what: Vec<What>,
    /// Of which environment's index; of the shared one where `None`.
    pub environment: Option<EnvironmentId>,
    /// What becomes of them.
    pub action: Action,
    /// For programs.
    pub json: bool,
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such files; all others are done.
    #[error("there is no file {0} in the index")]
    Absent(String),
    /// Standard output.
    #[error("the output cannot be written")]
    Output(#[from] io::Error),
    /// The store; its cause is in the log.
    #[error(transparent)]
    Domain(#[from] domain::Error),
}

#[derive(Debug, Serialize)]
struct Shown<'f> {
    filename: &'f str,
    done: &'static str,
}

/// Goes through all of it before it says that some was not there.
pub async fn run(store: &Store, job: &Job, out: &mut impl Write) -> Result<(), Error> {
    let gateway = Gateway::new(store.clone(), Wheels::default());
    let index = job.environment.clone().map_or(IndexName::Shared, IndexName::Built);
    let mut missing = Vec::new();
    for what in &job.what {
        let mut any = false;
        for filename in files(&gateway, &index, what).await? {
            if act(&gateway, &index, &filename, &job.action).await? {
                any = true;
                show(job, &filename, out)?;
            }
        }
        if !any {
            missing.push(what.to_string());
        }
    }
    out.flush()?;
    if missing.is_empty() { Ok(()) } else { Err(Error::Absent(missing.join(", "))) }
}

async fn files(
    gateway: &Gateway,
    index: &IndexName,
    what: &What,
) -> Result<Vec<DistributionFilename>, domain::Error> {
    match what {
        What::File(filename) => Ok(vec![filename.clone()]),
        What::Release(project, version) => {
            let shelf = gateway.reads().shelf(index, project).await?;
            let of_version = |filename: &DistributionFilename| filename.version() == version;
            Ok(shelf.map(|shelf| shelf.filenames().filter(of_version).collect()).unwrap_or_default())
        }
    }
}

async fn act(
    gateway: &Gateway,
    index: &IndexName,
    filename: &DistributionFilename,
    action: &Action,
) -> Result<bool, domain::Error> {
    let erases = gateway.erases();
    match action {
        Action::Yank(reason) => erases.yank(index, filename, reason).await,
        Action::Unyank => erases.unyank(index, filename).await,
        Action::Unpublish => erases.distribution(index, filename).await,
    }
}

fn show(job: &Job, filename: &DistributionFilename, out: &mut impl Write) -> io::Result<()> {
    let done = job.action.done();
    if job.json {
        serde_json::to_writer(&mut *out, &Shown { filename: filename.as_str(), done })?;
        return out.write_all(b"\n");
    }
    writeln!(out, "{done} {filename}")
}

#[cfg(test)]
mod tests {
    use super::{What, WhatError};
    use crate::domain::wheels::NameError;
    use proptest::prelude::*;

    #[test]
    fn a_release_or_a_file_is_meant() {
        let release = |project: &str, version: &str| {
            Ok(What::Release(project.parse().unwrap(), version.parse().unwrap()))
        };
        assert_eq!("Foo.Bar==1.0".parse::<What>(), release("foo-bar", "1.0"));
        assert_eq!("foo == 1.0rc1".parse::<What>(), release("foo", "1.0rc1"));
        assert!(matches!("foo-1.0-py3-none-any.whl".parse(), Ok(What::File(_))));
        assert_eq!("-==1".parse::<What>(), Err(WhatError::Project(NameError::Project)));
        assert_eq!("foo==".parse::<What>(), Err(WhatError::Version));
        assert!(matches!("foo".parse::<What>(), Err(WhatError::File(_))));
    }

    proptest! {
        #[test]
        fn what_parses_prints_and_parses_the_same(text in "[a-c.]{1,4}(==[0-9.a-c]{1,4}|-1\\.zip)") {
            if let Ok(what) = text.parse::<What>() {
                prop_assert_eq!(what.to_string().parse::<What>(), Ok(what));
            }
        }
    }
}
