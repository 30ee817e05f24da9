//! Listings: what was just written is in them and what was deleted is not, in order, page by page.

use base64::Engine as _;
use http::Method;
use md5::{Digest as _, Md5};

use super::ask::{Ask, expect};
use super::{Examiner, FIRST, Known, SECOND, Say, THIRD, skip};
use crate::store::examine::{Probe, Seen};
use crate::store::s3::escape;

/// The leaves of the names that a page of a listing holds.
fn leaves(xml: &str) -> Vec<&str> {
    let keys = xml.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next());
    keys.filter_map(|key| key.rsplit('/').next()).collect()
}

impl Examiner {
    fn list(&self, most: u32, more: (&str, &str)) -> Ask {
        let prefix = escape(&format!("{}{}/", self.s3.root(), self.base));
        let (mut before, mut after) = (String::new(), String::new());
        match more {
            ("continuation-token", token) => before = format!("continuation-token={}&", escape(token)),
            ("start-after", leaf) => after = format!("&start-after={prefix}{leaf}"),
            (_, _) => {}
        }
        Ask::bucket(Method::GET, &format!("{before}list-type=2&max-keys={most}&prefix={prefix}{after}"))
    }

    pub(super) async fn lists(&self, say: &Say<'_>, known: &Known) {
        if !known.list {
            skip(say, &[Probe::ListFresh, Probe::ListOrder], "nothing can be listed: s3:ListBucket");
            return;
        }
        say(Probe::ListFresh, self.fresh().await.unwrap_or_else(Seen::Failed));
        say(Probe::ListOrder, self.order().await.unwrap_or_else(Seen::Failed));
    }

    async fn fresh(&self) -> Result<Seen, String> {
        let third = self.ask(self.put(THIRD)).await;
        if !matches!(expect(&third, &[200], false), Seen::Well(_)) {
            return Ok(expect(&third, &[], false));
        }
        let page = self.ask(self.list(1000, ("", ""))).await?;
        let found = leaves(&page.body);
        if page.status != 200 {
            return Err(page.line());
        }
        if !found.contains(&THIRD) {
            return Ok(Seen::Wrong("what was just written is not listed".to_owned()));
        }
        if found != [FIRST, SECOND, THIRD] {
            return Ok(Seen::Wrong(format!("of three objects it lists {found:?}")));
        }
        let gone = self.ask(Ask::key(Method::DELETE, THIRD)).await?;
        let page = self.ask(self.list(1000, ("", ""))).await?;
        Ok(match leaves(&page.body).contains(&THIRD) {
            _ if gone.status >= 300 => Seen::Failed(gone.line()),
            true => Seen::Wrong("what was just deleted is still listed".to_owned()),
            false => Seen::Well(String::new()),
        })
    }

    /// Pages of one name: the second by the first's token, and by the first's name.
    async fn order(&self) -> Result<Seen, String> {
        let first = self.ask(self.list(1, ("", ""))).await?;
        let token = first.element("NextContinuationToken").unwrap_or_default().replace("&amp;", "&");
        if leaves(&first.body) != [FIRST] || first.element("IsTruncated") != Some("true") || token.is_empty()
        {
            return Ok(Seen::Wrong(
                "a page of one name is not the first of two, or does not say so".to_owned(),
            ));
        }
        let second = self.ask(self.list(1, ("continuation-token", &token))).await?;
        if leaves(&second.body) != [SECOND] {
            return Ok(Seen::Wrong(format!("behind the first page comes {:?}", leaves(&second.body))));
        }
        let behind = self.ask(self.list(1000, ("start-after", FIRST))).await?;
        Ok(match leaves(&behind.body).as_slice() {
            [SECOND] => Seen::Well(String::new()),
            other => Seen::Wrong(format!("behind the first name it lists {other:?}")),
        })
    }

    /// Deletes in one request what is there and what is not.
    pub(super) async fn delete_many(&self, say: &Say<'_>, known: &Known) {
        let seen = match self.batch(&[FIRST, SECOND, THIRD]).await.well() {
            Ok(()) if known.list => match self.ask(self.list(1000, ("", ""))).await {
                Ok(page) if page.status == 200 && !leaves(&page.body).is_empty() => {
                    Seen::Wrong("what was deleted in one request is still listed".to_owned())
                }
                _ => Seen::Well(String::new()),
            },
            Ok(()) => Seen::Well(String::new()),
            Err(seen) => seen,
        };
        say(Probe::DeleteMany, seen);
    }

    pub(super) async fn batch(&self, names: &[&'static str]) -> Seen {
        let object =
            |leaf: &&str| format!("<Object><Key>{}{}/{leaf}</Key></Object>", xml(&self.s3.root()), self.base);
        let objects: String = names.iter().map(object).collect();
        let body = format!("<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{objects}</Delete>");
        let md5 = base64::engine::general_purpose::STANDARD.encode(Md5::digest(body.as_bytes()));
        let ask = Ask::bucket(Method::POST, "delete=").text(body).header("content-md5", &md5);
        let answer = self.ask(ask).await;
        if let Ok(raw) = &answer {
            self.note_marks(&raw.body);
            if raw.status == 200 && raw.body.contains("<Error>") {
                let code = raw.element("Code").unwrap_or_default();
                let line = format!("single objects are refused: {code}");
                return if code.contains("AccessDenied") { Seen::Refused(line) } else { Seen::Failed(line) };
            }
        }
        expect(&answer, &[200], false)
    }

    /// Where versions are kept, each delete leaves a mark, which has a version too.
    fn note_marks(&self, body: &str) {
        for deleted in body.split("<Deleted>").skip(1) {
            let part = |name: &str| crate::store::s3::answers::element(deleted, name);
            let leaf = part("Key").and_then(|key| key.rsplit('/').next());
            if let (Some(version), Some(leaf)) = (part("DeleteMarkerVersionId"), leaf)
                && let Ok(key) = self.name(leaf)
            {
                self.ledger.version(key, version);
            }
        }
    }
}

fn xml(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
