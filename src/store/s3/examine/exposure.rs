//! What should not be possible: strangers who list, read and write, and a gateway that may change the bucket itself.
//!
//! Changes are asked for so that they cannot be carried out: what is sent is neither the rules nor the policy that it
//! should be, and has the digest of something else. Only servers whose makers say in which order they look are asked.

use base64::Engine as _;
use http::Method;
use md5::{Digest as _, Md5};

use super::ask::{Ask, expect, is_refusal, is_unknown};
use super::objects::{BYTES, OTHER};
use super::{Examiner, FIRST, Say, THIRD};
use crate::store::examine::{Probe, Seen};
use crate::store::s3::escape;
use crate::store::s3::wire::Raw;

/// Servers that refuse, first, who may not; then what is no configuration. Others are not asked.
const ORDERLY: [&str; 2] = ["AmazonS3", "MinIO"];

/// What a stranger is told: nothing is what should come of it.
fn strange(answer: &Result<Raw, String>, allowed: &str) -> Seen {
    match answer {
        Ok(raw) if raw.status < 300 => Seen::Wrong(allowed.to_owned()),
        Ok(raw) if raw.status < 500 => Seen::Well(String::new()),
        Ok(raw) => Seen::Failed(raw.line()),
        Err(why) => Seen::Failed(why.clone()),
    }
}

impl Examiner {
    pub(super) async fn public_list(&self) -> Seen {
        let prefix = escape(&self.s3.root());
        let ask = Ask::bucket(Method::GET, &format!("list-type=2&max-keys=1&prefix={prefix}")).unsigned();
        strange(&self.ask(ask).await, "anybody may list the bucket")
    }

    /// What strangers may do with an object, while there is one.
    pub(super) async fn strangers(&self, say: &Say<'_>) {
        say(Probe::PublicList, self.public_list().await);
        let read = self.ask(Ask::key(Method::GET, FIRST).unsigned()).await;
        say(Probe::PublicRead, strange(&read, "anybody may read objects"));
        let md5 = base64::engine::general_purpose::STANDARD.encode(Md5::digest(OTHER));
        let write = Ask::key(Method::PUT, THIRD).body(BYTES).unsigned().header("content-md5", &md5);
        let answer = self.ask(write).await;
        let seen = match &answer {
            // Refused for its bytes: who sent them did not matter.
            Ok(raw) if raw.status < 300 || raw.code().is_some_and(|code| code.contains("Digest")) => {
                Seen::Wrong("anybody may write objects".to_owned())
            }
            _ => strange(&answer, ""),
        };
        say(Probe::PublicWrite, seen);
    }

    pub(super) async fn exposure(&self, say: &Say<'_>) {
        let status = self.ask(Ask::bucket(Method::GET, "policyStatus=")).await;
        let seen = match &status {
            Ok(raw) if raw.element("IsPublic").is_some_and(|is| is.eq_ignore_ascii_case("true")) => {
                Seen::Wrong("its policy makes the bucket public".to_owned())
            }
            Ok(raw) if raw.status == 404 => Seen::Well("there is no policy".to_owned()),
            Ok(raw) if is_refusal(raw) => {
                Seen::Skipped(format!("may not be asked: s3:GetBucketPolicyStatus ({})", raw.line()))
            }
            _ => expect(&status, &[200], false),
        };
        say(Probe::PublicPolicy, seen);
        let server = status.as_ref().ok().and_then(|raw| raw.header("server")).unwrap_or_default();
        let orderly = ORDERLY.iter().any(|name| server.starts_with(name));
        for (probe, query) in [(Probe::ChangeRules, "lifecycle="), (Probe::ChangePolicy, "policy=")] {
            let seen = match orderly {
                true => self.change(query).await,
                false => {
                    Seen::Skipped("not asked of a server that is not known to look first who asks".to_owned())
                }
            };
            say(probe, seen);
        }
    }

    /// Asks for a change that is none.
    async fn change(&self, query: &str) -> Seen {
        let md5 = base64::engine::general_purpose::STANDARD.encode(Md5::digest(OTHER));
        let ask = Ask::bucket(Method::PUT, query).body(b"(neither XML nor JSON").header("content-md5", &md5);
        let answer = self.ask(ask).await;
        match &answer {
            Ok(raw) if is_refusal(raw) => Seen::Well("refused".to_owned()),
            Ok(raw) if is_unknown(raw) => Seen::Unknown(raw.line()),
            Ok(raw) if raw.status < 500 => Seen::Wrong(format!("allowed ({})", raw.line())),
            Ok(raw) => Seen::Failed(raw.line()),
            Err(why) => Seen::Failed(why.clone()),
        }
    }
}
