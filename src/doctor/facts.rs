//! Values that were measured, judged: clocks, room, versions, rules, file systems, and the ways that end before a bucket.

use bytesize::ByteSize;

use super::report::{Check, State};
use super::table::Entry;
use crate::store::examine::{Fact, NoEntry};

/// Seconds apart that are worth a word, and those that are too many: AWS refuses signatures at 15 minutes.
const APART: (u64, u64) = (60, 600);
/// Percent of a file system that are little, and those that are too little.
const FREE: (u64, u64) = (10, 2);

/// How something came out.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) state: State,
    pub(super) seen: String,
    pub(super) means: &'static str,
    pub(super) mend: String,
}

impl Judged {
    /// Nothing to be mended.
    pub(super) fn new(state: State, seen: &str) -> Self {
        Self { state, seen: seen.to_owned(), means: "", mend: String::new() }
    }

    fn but(state: State, seen: String, means: &'static str, mend: impl Into<String>) -> Self {
        Self { state, seen, means, mend: mend.into() }
    }

    /// As the check of this entry.
    pub(super) fn check(self, entry: &Entry) -> Check {
        let Self { state, seen, means, mend } = self;
        Check {
            check: entry.name,
            title: entry.title.to_owned(),
            state,
            seen,
            means: means.into(),
            mend,
            permission: None,
        }
    }
}

pub(super) fn judge(fact: &Fact) -> Judged {
    match fact {
        Fact::NoEntry(no) => no_entry(no),
        Fact::Ahead(seconds) => clock(*seconds),
        Fact::Versions { enabled } => versions(*enabled),
        Fact::Rules(rules) => self::rules(rules.as_deref()),
        Fact::Room { bytes, files, free } => room(*bytes, *files, *free),
        Fact::FileSystem(number) => file_system(*number),
    }
}

/// Whether the bucket's lifecycle rules are there at all.
///
/// Whether they are those that the gateway's flags want [`crate::lifecycle`] knows.
fn rules(rules: Option<&str>) -> Judged {
    match rules {
        Some(xml) => {
            let count = xml.matches("<Rule>").count();
            Judged::new(State::Ok, &format!("{count} rules"))
        }
        None => no_rules("none"),
    }
}

/// Nothing expires by itself.
pub(super) fn no_rules(seen: &str) -> Judged {
    Judged::but(
        State::Warn,
        seen.to_owned(),
        "nothing expires, and what broken uploads leave is paid for while no gateway runs",
        "give the bucket rules with `larder lifecycle apply`, or run `larder sweep --every 6h` with --max-age or marks",
    )
}

fn clock(ahead: i64) -> Judged {
    let apart = ahead.unsigned_abs();
    let seen = match ahead {
        0 => "the same".to_owned(),
        1.. => format!("the store is {apart} s ahead"),
        _ => format!("the store is {apart} s behind"),
    };
    let state = match apart {
        _ if apart > APART.1 => State::Fail,
        _ if apart > APART.0 => State::Warn,
        _ => return Judged::new(State::Ok, &seen),
    };
    Judged::but(
        state,
        seen,
        "AWS refuses signatures that are 15 minutes off, and a sweep takes things for older or younger than they are",
        "set both clocks by NTP: `timedatectl set-ntp true`, chrony or the like",
    )
}

fn versions(enabled: bool) -> Judged {
    match enabled {
        true => Judged::but(
            State::Warn,
            "on".to_owned(),
            "what is replaced, refreshed, swept or expired stays as an old version, and is paid for until a rule takes it",
            "a lifecycle rule with NoncurrentVersionExpiration and ExpiredObjectDeleteMarker on Larder's prefixes, or a bucket \
             without versions",
        ),
        false => {
            Judged::but(State::Ok, "suspended: versions from before may still be there".to_owned(), "", "")
        }
    }
}

fn room(bytes: u64, files: Option<u64>, free: u64) -> Judged {
    let counted = files.map_or_else(String::new, |files| format!(", {files} % of its files"));
    let seen = format!("{bytes} % free ({}){counted}", ByteSize(free));
    let least = files.map_or(bytes, |files| files.min(bytes));
    let state = match least {
        _ if least < FREE.1 => State::Fail,
        _ if least < FREE.0 => State::Warn,
        _ => return Judged::new(State::Ok, &seen),
    };
    Judged::but(
        state,
        seen,
        "a full file system refuses writes: uploads are answered 503, reading goes on",
        "`larder sweep --high-water SIZE --low-water SIZE --every 1h`, or a larger file system",
    )
}

/// Linux's numbers of file systems: `statfs(2)`.
fn file_system(number: u64) -> Judged {
    const NETWORK: &str = "a network file system: what two machines write at once is as safe as its locks and renames are, and a \
                           server that is away holds every request up";
    let network = |name: &str| {
        let mend = "a local disk for one gateway, or a bucket for several; if it stays, mount it `hard` and not `nolock`";
        Judged::but(State::Warn, name.to_owned(), NETWORK, mend)
    };
    match number {
        0x6969 => network("NFS"),
        0xff53_4d42 | 0xfe53_4d42 | 0x517b => network("SMB"),
        0x00c3_6400 => network("Ceph"),
        0x6573_5546 => Judged::but(
            State::Warn,
            "FUSE".to_owned(),
            "a file system in a process: whether it forces bytes to a medium and renames in one step is its own affair",
            "a local disk; for a bucket that is mounted, --store s3://BUCKET instead",
        ),
        0x0102_1994 | 0x8584_58f6 => Judged::but(
            State::Warn,
            "in memory".to_owned(),
            "the cache is gone after a restart of this machine or container",
            "a directory on a disk, or a volume",
        ),
        0x794c_7630 => Judged::but(
            State::Warn,
            "overlay: the layer of a container".to_owned(),
            "the cache is gone with the container, and grows in its layer",
            "mount a volume there",
        ),
        0xef53 => Judged::new(State::Ok, "ext"),
        0x5846_5342 => Judged::new(State::Ok, "XFS"),
        0x9123_683e => Judged::new(State::Ok, "btrfs"),
        0x2fc1_2fc1 => Judged::new(State::Ok, "ZFS"),
        other => Judged::new(State::Ok, &format!("number {other:#x}")),
    }
}

fn no_entry(no: &NoEntry) -> Judged {
    let (text, means, mend): (&str, &'static str, String) = match no {
        NoEntry::Settings(text) => (text, "the settings lead to no bucket", "--s3-region, or AWS_REGION; --s3-endpoint where it is not AWS".to_owned()),
        NoEntry::Name(text) => (
            text,
            "the host's name is not known here",
            "look at --s3-endpoint and at this machine's DNS; where the server wants the bucket in the path: --s3-path-style".to_owned(),
        ),
        NoEntry::Connection(text) => {
            (text, "nobody listens there, or no way leads there", "look at --s3-endpoint, its port, and firewalls or security groups between".to_owned())
        }
        NoEntry::Tls(text) => (
            text,
            "no trusted TLS connection stands",
            "put the server's authority among this machine's root certificates (or name them in SSL_CERT_FILE); http:// in \
             --s3-endpoint where it speaks none"
                .to_owned(),
        ),
        NoEntry::Slow(text) => (text, "no answer in time", "look at the server, at proxies, and at the way there".to_owned()),
        NoEntry::Bucket(text) => (text, "there is no such bucket", "look at --store; make the bucket (`aws s3 mb`)".to_owned()),
        NoEntry::Region(Some(region)) => {
            (region, "the bucket is in another region", format!("--s3-region {region}"))
        }
        NoEntry::Region(None) => ("another region", "the bucket is in another region, which is not named", "--s3-region with the bucket's own".to_owned()),
        NoEntry::NoCredentials(text) => {
            (text, "no credentials were found", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or a role".to_owned())
        }
        NoEntry::Credentials(text) => {
            (text, "the credentials are not accepted", "look at the key, its secret, and whether a temporary token has expired".to_owned())
        }
        NoEntry::Skewed(text) => {
            (text, "this machine's clock is too far from the server's for a signature to count", "set both clocks by NTP".to_owned())
        }
        NoEntry::Foreign(text) => (
            text,
            "whoever answers there does not speak S3, or forbids it: a proxy, a console's port, a wrong path",
            "look at --s3-endpoint: it is the server's S3 port, without a path".to_owned(),
        ),
    };
    Judged { state: State::Fail, seen: text.to_owned(), means, mend }
}
