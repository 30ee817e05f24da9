//! Whether there is a way into the bucket, and where it ends if there is none; whose clock is right; who answers.

use std::time::SystemTime;

use headers::HeaderMapExt as _;
use http::Method;

use super::ask::{Ask, chain};
use super::{Examiner, NOBODY, Say};
use crate::store::examine::{Fact, NoEntry, Probe, Seen};
use crate::store::s3::answers::{self, Answer};
use crate::store::s3::pool::Broken;
use crate::store::s3::wire::{Raw, Trouble};

/// Codes of credentials that are not accepted, whatever they may do.
const CREDENTIALS: [&str; 11] = [
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "InvalidTokenId",
    "InvalidClientTokenId",
    "TokenRefreshRequired",
    "InvalidSecurity",
    "AccountProblem",
    "NotSignedUp",
    // versitygw's, of a key that it does not know.
    "XAdminUserNotFound",
];

/// Codes of a bucket that is elsewhere.
const ELSEWHERE: [&str; 4] = [
    "PermanentRedirect",
    "TemporaryRedirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
];

impl Examiner {
    /// Asks for a key that is not there: the answer tells what is wrong on the way, if anything is.
    pub(super) async fn reach(&self, say: &Say<'_>) -> bool {
        let answer = self.trouble_or(Ask::key(Method::GET, NOBODY)).await;
        if let Ok(raw) = &answer {
            say(Probe::Clock, clock(raw));
            say(Probe::Server, server(raw));
        }
        let entry = answer.map_err(|trouble| no_way(&trouble)).and_then(|raw| entry(&raw));
        let reached = entry.is_ok();
        say(
            Probe::Reach,
            match entry {
                Ok(()) => Seen::Well(self.s3.to_string()),
                Err(no) => Seen::Fact(Fact::NoEntry(no)),
            },
        );
        if reached {
            say(
                Probe::Transport,
                match self.plain && !self.s3.wire.is_local() {
                    true => Seen::Wrong("plain HTTP to another host".to_owned()),
                    false => Seen::Well(String::new()),
                },
            );
        }
        reached
    }
}

fn no_way(trouble: &Trouble) -> NoEntry {
    let line = chain(trouble);
    match trouble {
        Trouble::Unsigned(_) => NoEntry::NoCredentials(line),
        Trouble::Slow(_) | Trouble::Connection(Broken::Slow(_)) => NoEntry::Slow(line),
        Trouble::Connection(Broken::Connect(_)) => {
            let has = |words: &[&str]| words.iter().any(|word| line.contains(word));
            if has(&["dns error", "failed to lookup", "Name or service not known"]) {
                NoEntry::Name(line)
            } else if has(&[
                "certificate",
                "tls",
                "TLS",
                "handshake",
                "InvalidContentType",
                "corrupt message",
            ]) {
                NoEntry::Tls(line)
            } else {
                NoEntry::Connection(line)
            }
        }
        Trouble::Connection(Broken::Exchange(_)) | Trouble::Broken | Trouble::Corrupt => {
            NoEntry::Foreign(line)
        }
        Trouble::Request(_) => NoEntry::Settings(line),
        Trouble::Answer { .. } | Trouble::Long(_) => NoEntry::Foreign(line),
    }
}

/// Whether an answer to the question for a key that is not there is one of an S3 that lets us in.
fn entry(raw: &Raw) -> Result<(), NoEntry> {
    let region = || raw.header("x-amz-bucket-region").or_else(|| raw.element("Region")).map(str::to_owned);
    match (raw.status, raw.code()) {
        (_, Some("NoSuchBucket" | "InvalidBucketName")) => Err(NoEntry::Bucket(raw.line())),
        (_, Some("RequestTimeTooSkewed")) => Err(NoEntry::Skewed(raw.line())),
        (_, Some(code)) if CREDENTIALS.contains(&code) => Err(NoEntry::Credentials(raw.line())),
        (_, Some(code)) if ELSEWHERE.contains(&code) => Err(NoEntry::Region(region())),
        (status, code) if answers::judge(status, code) == Answer::Absent && code.is_some() => Ok(()),
        (403, Some("AccessDenied")) => Ok(()),
        (500.., Some(_)) => Err(NoEntry::Slow(raw.line())),
        (301 | 307, _) if region().is_some() => Err(NoEntry::Region(region())),
        (_, _) => Err(NoEntry::Foreign(raw.line())),
    }
}

fn clock(raw: &Raw) -> Seen {
    let Some(date) = raw.headers.typed_get::<headers::Date>() else {
        return Seen::Unknown("its answers have no date".to_owned());
    };
    let seconds = |time: SystemTime| {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        i64::try_from(since).unwrap_or(i64::MAX)
    };
    let (date, asked, answered) = (seconds(date.into()), seconds(raw.between.0), seconds(raw.between.1));
    // It may have been said at any time in between.
    Seen::Fact(Fact::Ahead(if date > answered { date - answered } else { (date - asked).min(0) }))
}

fn server(raw: &Raw) -> Seen {
    match raw.header("server") {
        Some(name) if !name.is_empty() => Seen::Well(name.to_owned()),
        _ => Seen::Unknown("it does not say".to_owned()),
    }
}
