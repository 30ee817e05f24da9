//! What may be in the bucket because of an examination, and its removal.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use http::Method;

use super::Examiner;
use super::ask::{Ask, chain};
use crate::store::examine::Seen;
use crate::store::key::Key;
use crate::store::s3::escape;
use crate::store::s3::wire::{Call, Raw};

/// All that may be there.
#[derive(Debug, Default)]
struct Page {
    /// Objects.
    keys: BTreeSet<Key>,
    /// Versions of them, and marks of their deletion.
    versions: BTreeSet<(Key, String)>,
    /// Uploads that have begun.
    uploads: BTreeSet<(Key, String)>,
    /// Names of uploads that may have begun without our hearing of it.
    unheard: BTreeSet<Key>,
    /// Why something could not be removed.
    why: Option<String>,
}

/// Kept by everybody who asks.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<Page>);

impl Ledger {
    fn page(&self) -> MutexGuard<'_, Page> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what a request may bring about, before it is sent. Whether nothing of that name was noted before.
    pub(super) fn before(&self, key: &Key, call: &Call) -> bool {
        let mut page = self.page();
        if call.method == Method::POST && call.query == "uploads=" {
            page.unheard.insert(key.clone())
        } else if (call.method == Method::PUT && call.query.is_empty()) || call.method == Method::POST {
            page.keys.insert(key.clone())
        } else {
            false
        }
    }

    /// Notes what a request has brought about; `first` is what [`Ledger::before`] said.
    pub(super) fn after(&self, key: &Key, call: &Call, raw: &Raw, first: bool) {
        let mut page = self.page();
        if first && (400..500).contains(&raw.status) {
            page.keys.remove(key);
        }
        // Where versions are suspended a mark of what was deleted has the version `null`, and stays otherwise.
        let marks = raw.header("x-amz-delete-marker") == Some("true");
        if let Some(version) = raw.header("x-amz-version-id").filter(|version| *version != "null" || marks)
            && raw.status < 300
            && !call.query.contains("versionId=")
        {
            page.versions.insert((key.clone(), version.to_owned()));
        }
        if call.method == Method::POST && call.query == "uploads=" {
            page.unheard.remove(key);
            if let Some(id) = raw.element("UploadId").filter(|_| raw.status < 300) {
                page.uploads.insert((key.clone(), id.to_owned()));
            }
        }
    }

    /// Notes a version that only the body of an answer tells of.
    pub(super) fn version(&self, key: Key, version: &str) {
        self.page().versions.insert((key, version.to_owned()));
    }

    /// Whether versions of what is deleted would remain, as far as has been seen.
    pub(super) fn has_versions(&self) -> bool {
        !self.page().versions.is_empty()
    }

    /// What is left, in words.
    pub(super) fn rest(&self) -> Seen {
        let page = self.page();
        let why = page.why.as_deref().unwrap_or_default();
        let names: Vec<String> = page.keys.iter().map(ToString::to_string).collect();
        match (names.as_slice(), page.versions.len(), page.uploads.len() + page.unheard.len()) {
            ([], 0, 0) => Seen::Well(String::new()),
            ([], versions, 0) => Seen::Failed(format!("{versions} hidden versions remain: {why}")),
            (_, _, 0) => Seen::Wrong(format!("{} could not be removed: {why}", names.join(", "))),
            (_, _, uploads) => Seen::Wrong(format!("{uploads} uploads could not be aborted: {why}")),
        }
    }
}

impl Examiner {
    /// Asks about a key by its name.
    async fn end(&self, key: &Key, query: &str) -> Result<(), String> {
        let call =
            Call { query: query.to_owned(), ..Call::new(crate::store::Op::Probe, "examine", Method::DELETE) };
        let asking = self.s3.wire.raw(Some(key), &call, true);
        let raw = match tokio::time::timeout(crate::store::examine::PATIENCE, asking).await {
            Err(_) => return Err("no answer in time".to_owned()),
            Ok(answer) => answer.map_err(|trouble| chain(&trouble))?,
        };
        self.ledger.after(key, &call, &raw, false);
        if raw.status < 300 || raw.status == 404 { Ok(()) } else { Err(raw.line()) }
    }

    pub(super) async fn abort_uploads(&self) {
        let unheard = self.ledger.page().unheard.clone();
        for key in unheard {
            let query = format!("prefix={}&uploads=", escape(&self.s3.name(&key)));
            if let Ok(raw) = self.ask(Ask::bucket(Method::GET, &query)).await
                && raw.status < 300
            {
                let ids = raw.body.split("<UploadId>").skip(1).filter_map(|rest| rest.split("</").next());
                let ids: Vec<_> = ids.map(|id| (key.clone(), id.to_owned())).collect();
                let mut page = self.ledger.page();
                page.uploads.extend(ids);
                page.unheard.remove(&key);
            }
        }
        let uploads = self.ledger.page().uploads.clone();
        for (key, id) in uploads {
            let ended = self.end(&key, &format!("uploadId={}", escape(&id))).await;
            let mut page = self.ledger.page();
            match ended {
                Ok(()) => drop(page.uploads.remove(&(key, id))),
                Err(why) => page.why = Some(why),
            }
        }
    }

    pub(super) async fn delete_objects(&self) {
        let keys = self.ledger.page().keys.clone();
        for key in keys {
            let ended = self.end(&key, "").await;
            let mut page = self.ledger.page();
            match ended {
                Ok(()) => drop(page.keys.remove(&key)),
                Err(why) => page.why = Some(why),
            }
        }
    }

    pub(super) async fn delete_versions(&self) {
        let versions = self.ledger.page().versions.clone();
        for (key, version) in versions {
            let ended = self.end(&key, &format!("versionId={}", escape(&version))).await;
            let mut page = self.ledger.page();
            match ended {
                Ok(()) => drop(page.versions.remove(&(key, version))),
                Err(why) => page.why = Some(why),
            }
        }
    }
}
