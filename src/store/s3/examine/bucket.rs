//! What the bucket is set to: versions, retention, lifecycle rules.

use http::Method;

use super::ask::{Ask, expect, is_refusal};
use super::{Examiner, Known, Say};
use crate::store::examine::{Fact, Probe, Seen};

impl Examiner {
    pub(super) async fn bucket(&self, say: &Say<'_>, known: &mut Known) {
        let answer = self.ask(Ask::bucket(Method::GET, "versioning=")).await;
        let seen = match &answer {
            Ok(raw) if raw.status == 200 => match raw.element("Status") {
                None => {
                    known.versions = Some(false);
                    Seen::Well("off".to_owned())
                }
                Some(status) => {
                    known.versions = Some(true);
                    Seen::Fact(Fact::Versions { enabled: status == "Enabled" })
                }
            },
            _ => expect(&answer, &[], false),
        };
        say(Probe::Versioning, seen);
        let (seen, retained) = self.retention().await;
        known.retained = retained;
        say(Probe::Retention, seen);
        let answer = self.ask(Ask::bucket(Method::GET, "lifecycle=")).await;
        let seen = match &answer {
            Ok(raw) if raw.status == 200 => Seen::Fact(Fact::Rules(Some(raw.body.clone()))),
            Ok(raw) if raw.code() == Some("NoSuchLifecycleConfiguration") => Seen::Fact(Fact::Rules(None)),
            _ => expect(&answer, &[], false),
        };
        say(Probe::Rules, seen);
    }

    async fn retention(&self) -> (Seen, bool) {
        let answer = self.ask(Ask::bucket(Method::GET, "object-lock=")).await;
        match &answer {
            Ok(raw) if raw.status == 200 && raw.body.contains("<DefaultRetention>") => {
                let mode = raw.element("Mode").unwrap_or("unnamed mode").to_owned();
                (Seen::Wrong(format!("what is written is kept for a while ({mode})")), true)
            }
            Ok(raw) if raw.status == 200 => (Seen::Well("no retention by default".to_owned()), false),
            Ok(raw) if raw.status == 404 => (Seen::Well("off".to_owned()), false),
            Ok(raw) if is_refusal(raw) => (
                Seen::Skipped(format!(
                    "may not be asked: s3:GetBucketObjectLockConfiguration ({})",
                    raw.line()
                )),
                false,
            ),
            _ => (expect(&answer, &[], false), false),
        }
    }
}
