//! Who needs which permission of a bucket, on what, and the policy that says so.

use std::fmt;

use serde::Serialize;

use crate::store::examine::Probe;

/// What the credentials are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `larder serve`, behind which somebody writes.
    Gateway,
    /// `larder sweep`.
    Sweep,
    /// `larder serve`, behind which nobody may write.
    Reader,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Gateway => "gateway",
            Self::Sweep => "sweep",
            Self::Reader => "reader",
        })
    }
}

impl Serialize for Role {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Where the objects are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a directory: permissions are the file system's.
    Directory,
    /// In a bucket.
    Bucket {
        /// Its name.
        name: String,
        /// What all keys begin with.
        prefix: Option<String>,
    },
}

/// A permission, as IAM calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    List,
    Get,
    Put,
    Delete,
    ListUploads,
    Abort,
    GetVersioning,
    GetRules,
}

/// Whether a role should have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Needed,
    /// For this command, or for a part of the work.
    Useful,
    Unwanted,
}

impl Action {
    /// What a probe asks for; in a directory nothing that has such a name.
    pub(super) fn of(probe: Probe, place: &Place) -> Option<Self> {
        if *place == Place::Directory {
            return None;
        }
        PERMISSIONS.iter().find(|(of, _)| *of == probe).map(|(_, action)| *action)
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::List => "s3:ListBucket",
            Self::Get => "s3:GetObject",
            Self::Put => "s3:PutObject",
            Self::Delete => "s3:DeleteObject",
            Self::ListUploads => "s3:ListBucketMultipartUploads",
            Self::Abort => "s3:AbortMultipartUpload",
            Self::GetVersioning => "s3:GetBucketVersioning",
            Self::GetRules => "s3:GetLifecycleConfiguration",
        }
    }

    pub(super) const fn wanted(self, role: Role) -> Wanted {
        match (role, self) {
            (_, Self::GetVersioning | Self::GetRules) => Wanted::Useful,
            (_, Self::List | Self::Get) => Wanted::Needed,
            (Role::Gateway | Role::Sweep, Self::Delete | Self::ListUploads | Self::Abort) => Wanted::Needed,
            (Role::Gateway, Self::Put) => Wanted::Needed,
            (Role::Sweep | Role::Reader, Self::Put) | (Role::Reader, Self::Delete | Self::Abort) => {
                Wanted::Unwanted
            }
            (Role::Reader, Self::ListUploads) => Wanted::Useful,
        }
    }

    const fn of_objects(self) -> bool {
        match self {
            Self::Get | Self::Put | Self::Delete | Self::Abort => true,
            Self::List | Self::ListUploads | Self::GetVersioning | Self::GetRules => false,
        }
    }

    /// What it has to be allowed on.
    pub(super) fn resource(self, place: &Place) -> String {
        match place {
            Place::Directory => String::new(),
            Place::Bucket { name, .. } if !self.of_objects() => format!("arn:aws:s3:::{name}"),
            Place::Bucket { name, prefix: None } => format!("arn:aws:s3:::{name}/*"),
            Place::Bucket { name, prefix: Some(prefix) } => format!("arn:aws:s3:::{name}/{prefix}/*"),
        }
    }
}

const PERMISSIONS: [(Probe, Action); 9] = [
    (Probe::List, Action::List),
    (Probe::Read, Action::Get),
    (Probe::Write, Action::Put),
    (Probe::Delete, Action::Delete),
    (Probe::DeleteMany, Action::Delete),
    (Probe::Uploads, Action::ListUploads),
    (Probe::Abort, Action::Abort),
    (Probe::Versioning, Action::GetVersioning),
    (Probe::Rules, Action::GetRules),
];

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Policy {
    version: &'static str,
    statement: Vec<Statement>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Statement {
    sid: &'static str,
    effect: &'static str,
    action: Vec<&'static str>,
    resource: String,
}

/// The smallest policy that a role does with, as JSON; `None` of a directory, which has no such thing. What only this
/// command asks for is a statement of its own. Listing is not bound to the prefix: where it is, AWS refuses to say that a
/// key is absent.
pub fn policy(role: Role, place: &Place) -> Option<String> {
    use Action::{Abort, Delete, Get, GetRules, GetVersioning, List, ListUploads, Put};
    let needed = |all: &[Action]| -> Vec<&'static str> {
        all.iter()
            .filter(|action| action.wanted(role) == Wanted::Needed)
            .map(|action| action.name())
            .collect()
    };
    if *place == Place::Directory {
        return None;
    }
    let allow =
        |sid, action, of: Action| Statement { sid, effect: "Allow", action, resource: of.resource(place) };
    let doctor = vec![
        GetVersioning.name(),
        GetRules.name(),
        "s3:GetBucketPolicyStatus",
        "s3:GetBucketObjectLockConfiguration",
    ];
    let statement = vec![
        allow("Bucket", needed(&[List, ListUploads]), List),
        allow("Objects", needed(&[Get, Put, Delete, Abort]), Get),
        allow("Doctor", doctor, List),
    ];
    serde_json::to_string_pretty(&Policy { version: "2012-10-17", statement }).ok()
}
