//! Writes under faults: acknowledged is stored, refused is not, and nothing is left of what broke.

use std::time::Duration;

use larder::store::PART;

use super::rig::{Patience, Rig, on_each};
use super::{
    BOTH, Fault, LARGE, PASSING, Promise, SMALL, Times, artifact, bare, key, unless_once, upload, verb,
};
use crate::support::http::Pattern;

const OLD: Pattern = Pattern { seed: 3, length: 777 };

/// What is stored after an upload that failed.
enum Left {
    /// What was there before.
    Old,
    /// The new object: it had been carried out, only nobody could say so.
    New,
}

impl Rig {
    /// Uploads over an old object under a fault; sees what is stored then, and how many uploads were left open.
    async fn check_upload(
        &self,
        pattern: Pattern,
        on: &'static str,
        (fault, times): (&Fault, Times),
        (promise, left, open): (&Promise, Left, u64),
    ) {
        let path = artifact(&format!("up-{:08x}", fastrand::u32(..)));
        self.lay(&key(&path), OLD).await;
        self.check(upload(&path, pattern), verb(on), (fault, times), promise).await;
        let name = format!("{}: {} bytes, {on} under {fault:?} {times:?}", self.name, pattern.length);
        assert_eq!(self.leftovers().await, open, "{name}: uploads left open");
        let new = matches!((promise, left), (Promise::Good(..), _) | (_, Left::New));
        let expected = super::sha256(if new { pattern } else { OLD });
        assert_eq!(self.stored(&key(&path)).await, Some(expected), "{name}: new: {new}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_upload_is_stored_or_refused() {
    on_each(Patience::Long, async |rig| {
        rig.furnish().await;
        let way = [Fault::ResetMidUpload(100), Fault::FlipUploadByte(100)];
        for fault in PASSING.iter().chain(&way) {
            for times in BOTH {
                let promise = unless_once(times, Promise::Good(200, None));
                rig.check_upload(SMALL, "PutObject", (fault, times), (&promise, Left::Old, 0)).await;
            }
        }
        let denied = (&Fault::AccessDenied, Times::Once);
        rig.check_upload(SMALL, "PutObject", denied, (&Promise::Unavailable, Left::Old, 0)).await;
        for times in BOTH {
            let promise = unless_once(times, Promise::Good(200, None));
            rig.check_upload(SMALL, "PutObject", (&Fault::LoseAnswer, times), (&promise, Left::New, 0)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_upload_is_stored_or_refused_and_leaves_nothing_open() {
    on_each(Patience::Long, async |rig| {
        rig.furnish().await;
        let steps: [(&'static str, &[Fault]); 3] = [
            ("CreateMultipartUpload", &[]),
            ("UploadPart", &[Fault::ResetMidUpload(1_000_000), Fault::FlipUploadByte(1_000_000)]),
            ("CompleteMultipartUpload", &[Fault::OkWithError]),
        ];
        for (on, more) in steps {
            for fault in PASSING.iter().chain(more) {
                for times in BOTH {
                    let promise = unless_once(times, Promise::Good(200, None));
                    rig.check_upload(LARGE, on, (fault, times), (&promise, Left::Old, 0)).await;
                }
            }
            let denied = (&Fault::AccessDenied, Times::Once);
            rig.check_upload(LARGE, on, denied, (&Promise::Unavailable, Left::Old, 0)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_lost_lose_no_upload() {
    on_each(Patience::Long, async |rig| {
        rig.furnish().await;
        let lost = |times| (&Fault::LoseAnswer, times);
        let good = Promise::Good(200, None);
        for on in ["UploadPart", "CompleteMultipartUpload"] {
            rig.check_upload(LARGE, on, lost(Times::Once), (&good, Left::New, 0)).await;
        }
        let gone = &Promise::Unavailable;
        rig.check_upload(LARGE, "UploadPart", lost(Times::Always), (gone, Left::Old, 0)).await;
        rig.check_upload(LARGE, "CompleteMultipartUpload", lost(Times::Always), (gone, Left::New, 0)).await;
        // An upload whose name nobody was told cannot be aborted: it waits to be reaped.
        rig.check_upload(LARGE, "CreateMultipartUpload", lost(Times::Once), (&good, Left::New, 1)).await;
        rig.check_upload(LARGE, "CreateMultipartUpload", lost(Times::Always), (gone, Left::Old, 3)).await;
        // So does one whose abort fails.
        let path = artifact("unaborted");
        for on in ["UploadPart", "AbortMultipartUpload"] {
            rig.proxy.set_when(verb(on), Fault::AccessDenied, None);
        }
        rig.client.check(upload(&path, LARGE), 503).await;
        rig.store.close().await;
        rig.proxy.set(Fault::Pass);
        assert_eq!((rig.leftovers().await, rig.stored(&key(&path)).await), (1, None), "{}", rig.name);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_is_done_or_503() {
    on_each(Patience::Long, async |rig| {
        rig.furnish().await;
        let doomed = artifact("small").replace("/target/", "/doomed/");
        let (target, _) = doomed.split_once("/AAEC").unwrap();
        for on in ["ListObjectsV2", "DeleteObjects"] {
            let inside = if on == "DeleteObjects" { vec![Fault::OkWithError] } else { Vec::new() };
            for fault in PASSING.iter().chain(&inside) {
                for times in BOTH {
                    rig.lay(&key(&doomed), SMALL).await;
                    let promise = unless_once(times, Promise::Good(200, None));
                    rig.check(bare("DELETE", target), verb(on), (fault, times), &promise).await;
                    let there = rig.stored(&key(&doomed)).await.is_some();
                    assert_eq!(there, times == Times::Always, "{}: {on} {fault:?} {times:?}", rig.name);
                }
            }
        }
        // Carried out, and done again.
        rig.lay(&key(&doomed), SMALL).await;
        let lost = (&Fault::LoseAnswer, Times::Once);
        rig.check(bare("DELETE", target), verb("DeleteObjects"), lost, &Promise::Good(200, None)).await;
        assert_eq!(rig.stored(&key(&doomed)).await, None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_its_client_breaks_off_leaves_nothing() {
    on_each(Patience::Long, async |rig| {
        rig.furnish().await;
        for length in [1000, 20 << 20] {
            let path = artifact(&format!("broken-{length}"));
            let pieces = Pattern { seed: 9, length }.blocks();
            let ask = super::request("POST", &path).body(crate::support::http::broken(pieces)).unwrap();
            assert!(rig.client.try_send(ask).await.is_err(), "{}: a broken upload was answered", rig.name);
            // The gateway may learn of it after us.
            let begun = || rig.metrics.calls_of("create");
            let ended = || rig.metrics.calls_of("abort") + rig.metrics.calls_of("complete");
            let mut patience = 1000;
            while length > PART as u64 && (begun() == 0 || begun() > ended()) && patience > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
                patience -= 1;
            }
            rig.well("a broken upload").await;
            assert_eq!(rig.leftovers().await, 0, "{}: {length}", rig.name);
            assert_eq!(rig.stored(&key(&path)).await, None);
        }
    })
    .await;
}
