//! What each check is called, how bad it is where it is not well, what that means, and how it is mended.
//!
//! The page `docs/doctor.md` is held against it.

use super::report::State;
use crate::store::examine::Probe;

/// One check.
#[derive(Debug)]
pub(super) struct Entry {
    /// Its name, which does not change.
    pub(super) name: &'static str,
    /// Its name for people; of a permission, IAM's name takes its place.
    pub(super) title: &'static str,
    /// How bad it is.
    pub(super) wrong: State,
    pub(super) means: &'static str,
    pub(super) mend: &'static str,
}

const fn fail(name: &'static str, title: &'static str, means: &'static str, mend: &'static str) -> Entry {
    Entry { name, title, wrong: State::Fail, means, mend }
}

const fn warn(name: &'static str, title: &'static str, means: &'static str, mend: &'static str) -> Entry {
    Entry { name, title, wrong: State::Warn, means, mend }
}

/// What there is to say of a probe.
pub(super) fn of(probe: Probe) -> Entry {
    let found = TABLE.iter().find(|(of, _)| *of == probe);
    match found {
        Some((_, Entry { name, title, wrong, means, mend })) => {
            Entry { name, title, wrong: *wrong, means, mend }
        }
        None => unreachable!("every probe has its row: tests hold that"),
    }
}

/// The table: what an object store or a directory does, what a bucket is set to, what a directory is.
pub(super) const TABLE: &[(Probe, Entry)] = &[
    (Probe::Reach, fail("reach", "bucket is reached", "", "")),
    (Probe::Clock, warn("clock", "clock", "", "")),
    (Probe::Server, warn("server", "server", "", "")),
    (
        Probe::Transport,
        warn(
            "transport",
            "way to the bucket",
            "who listens on the way reads what is stored; credentials are not sent, only signatures",
            "https:// in --s3-endpoint",
        ),
    ),
    (
        Probe::Versioning,
        warn("versioning", "versions", "whether old versions are kept, and paid for, cannot be told", ""),
    ),
    (
        Probe::Retention,
        warn(
            "retention",
            "retention",
            "what is deleted or swept stays, and is paid for, until its time is over",
            "a bucket without a default retention (Object Lock)",
        ),
    ),
    (Probe::Rules, warn("rules", "lifecycle rules", "whether anything expires cannot be told", "")),
    (
        Probe::List,
        fail(
            "list",
            "list",
            "directories, globs, whole entries and `DELETE` fail; and AWS refuses a key that is absent: every miss becomes an error",
            "",
        ),
    ),
    (Probe::Read, fail("read", "read", "nothing can be read: every hit becomes an error", "")),
    (
        Probe::Write,
        fail(
            "write",
            "write",
            "nothing can be stored",
            "where a flag is named there: --s3-checksums when-required, or no --s3-sse, or another",
        ),
    ),
    (Probe::Delete, fail("delete", "delete", "`DELETE`, `larder rm` and `larder sweep` do not work", "")),
    (
        Probe::DeleteMany,
        fail(
            "delete-many",
            "delete many",
            "`DELETE`, `larder rm` and `larder sweep` do not work: they delete many objects by one request",
            "",
        ),
    ),
    (
        Probe::Uploads,
        fail("uploads", "list uploads", "what broken uploads left is not found, and paid for", ""),
    ),
    (
        Probe::Abort,
        fail("abort", "abort uploads", "an upload that breaks leaves its parts, and they are paid for", ""),
    ),
    (
        Probe::Encryption,
        fail(
            "encryption",
            "encryption at rest",
            "what is stored is not encrypted as --s3-sse says",
            "look at --s3-sse and --s3-kms-key, and at the key's own policy",
        ),
    ),
    (
        Probe::CreateOnly,
        fail(
            "create-only",
            "create without replacing",
            "of two who publish the same file at once the later one wins, and nobody hears of it",
            "a newer server: AWS, MinIO, versitygw, R2 and new Ceph honour `If-None-Match: *`; until then let one writer publish",
        ),
    ),
    (
        Probe::ReplaceSame,
        fail(
            "replace-same",
            "replace what was seen",
            "of two who yank or unpublish at once one is lost",
            "a newer server: AWS, MinIO and versitygw honour `If-Match` with PUT",
        ),
    ),
    (
        Probe::CopySame,
        warn(
            "copy-same",
            "copy what was seen",
            "an object that is stored anew while it is refreshed may be replaced by its old bytes",
            "--refresh off",
        ),
    ),
    (
        Probe::CreateLarge,
        fail(
            "create-large",
            "create large without replacing",
            "as with small files, for those over 8 MiB: the later one wins, and nobody hears of it",
            "a newer server: AWS, MinIO and versitygw honour `If-None-Match: *` at the end of an upload",
        ),
    ),
    (
        Probe::ChecksumRefused,
        warn(
            "checksum-refused",
            "checksum is checked",
            "bytes that change on the way are stored as they come; they are found out when they are read, if at all",
            "--s3-checksums when-required: parts are signed by their bytes then, and our own checksum rides along",
        ),
    ),
    (
        Probe::ChecksumKept,
        warn(
            "checksum-kept",
            "checksum comes back",
            "bytes that rot in the bucket are served",
            "--s3-checksums when-required: our own checksum rides as metadata then",
        ),
    ),
    (
        Probe::Metadata,
        fail(
            "metadata",
            "metadata comes back",
            "parts of entries cannot be told from whole ones, and where --s3-checksums is when-required nothing is checked",
            "a proxy may drop headers `x-amz-meta-…`; otherwise another server",
        ),
    ),
    (
        Probe::Refresh,
        warn(
            "refresh",
            "refresh",
            "a use does not make an object young: rules by age count from when it was stored",
            "--refresh off, with expiry as long as things are used, or `larder sweep` by size",
        ),
    ),
    (
        Probe::ListFresh,
        fail(
            "list-fresh",
            "listings are current",
            "whole entries, index pages and deletes miss what was just stored",
            "a server, or a proxy before it, that does not answer listings from a cache",
        ),
    ),
    (
        Probe::ListOrder,
        fail(
            "list-order",
            "listings in order",
            "listings of more than 1 000 objects are incomplete: whole entries, deletes and sweeps, too",
            "another server, or a newer one",
        ),
    ),
    (
        Probe::NotModified,
        warn(
            "not-modified",
            "unchanged objects",
            "readers who have an object get all of it again",
            "a proxy may drop `If-None-Match`; it costs traffic only",
        ),
    ),
    (
        Probe::PublicList,
        fail(
            "public-list",
            "closed to strangers: list",
            "anybody sees what the cache holds, past the gateway",
            "block public access; look at the bucket's policy and its ACL for `Principal: *`",
        ),
    ),
    (
        Probe::PublicRead,
        fail(
            "public-read",
            "closed to strangers: read",
            "anybody reads everything, past the gateway's users",
            "block public access; look at the bucket's policy and its ACL for `Principal: *`",
        ),
    ),
    (
        Probe::PublicWrite,
        fail(
            "public-write",
            "closed to strangers: write",
            "anybody puts what he likes into your builds",
            "block public access at once; look at the bucket's policy and its ACL for `Principal: *`",
        ),
    ),
    (
        Probe::PublicPolicy,
        fail(
            "public-policy",
            "closed to strangers: policy",
            "the bucket is public, as S3 sees it",
            "`aws s3api put-public-access-block`, or a policy without `Principal: *`",
        ),
    ),
    (
        Probe::ChangeRules,
        warn(
            "change-rules",
            "lifecycle rules are safe",
            "whoever gets hold of these credentials can let everything expire",
            "take s3:PutLifecycleConfiguration away from the gateway; give it to who applies rules",
        ),
    ),
    (
        Probe::ChangePolicy,
        warn(
            "change-policy",
            "policy is safe",
            "whoever gets hold of these credentials can open the bucket to all",
            "take s3:PutBucketPolicy away",
        ),
    ),
    (
        Probe::Left,
        fail(
            "left",
            "nothing is left behind",
            "",
            "`larder rm --yes .larder-doctor`, with credentials that may delete; versions go by a rule for noncurrent ones",
        ),
    ),
    (
        Probe::Root,
        fail(
            "root",
            "directory is there",
            "there is nowhere to store anything",
            "make it, and give it to the user that the gateway runs as: `install -d -o larder DIR`",
        ),
    ),
    (Probe::FileSystem, warn("file-system", "file system", "", "")),
    (
        Probe::Stage,
        fail(
            "stage",
            "stage, sync, rename",
            "nothing can be stored",
            "`chown -R` to the user that the gateway runs as; a file system that is mounted for writing and not full",
        ),
    ),
    (
        Probe::OneDevice,
        fail(
            "one-device",
            "one file system",
            "files are renamed into place, which no other file system takes: writes there fail",
            "bind-mount, or keep all of the store on one file system",
        ),
    ),
    (
        Probe::Attributes,
        warn(
            "attributes",
            "extended attributes",
            "objects are stored without checksums: bytes that rot on the disk are served, and marks of entries are lost",
            "ext4, XFS, btrfs, ZFS with xattr=sa, or tmpfs of Linux 6.6 and later",
        ),
    ),
    (
        Probe::AccessTimes,
        warn(
            "access-times",
            "times of last reading",
            "a sweep sees when an object was stored or refreshed, not when it was read",
            "mount it with relatime, or leave --refresh on",
        ),
    ),
    (Probe::Room, warn("room", "room", "", "")),
    (
        Probe::Names,
        fail(
            "names",
            "names",
            "two objects share one file, or some cannot be stored at all",
            "a file system that tells names apart byte by byte: not HFS+, FAT or a casefolded directory",
        ),
    ),
    (
        Probe::Owner,
        warn(
            "owner",
            "owner",
            "any user of this machine puts what he likes into your builds",
            "`chmod o-w` on the directory",
        ),
    ),
    (
        Probe::Alive,
        fail(
            "alive",
            "gateway is alive",
            "it does not answer, or not as one",
            "look at --url, and at the gateway's log",
        ),
    ),
    (
        Probe::Ready,
        fail(
            "ready",
            "gateway is ready",
            "it does not reach its store, or is draining",
            "look at the checks above, with the gateway's own environment, and at its log",
        ),
    ),
];
