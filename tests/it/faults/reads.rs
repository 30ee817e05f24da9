//! Reads under faults: never 404 for what is there, never a short or wrong body that looks whole.

use super::rig::{Patience, on_each};
use super::{BOTH, Fault, LARGE, MIDDLE, PASSING, Promise, SMALL, Times, artifact, bare, unless_once, verb};
use crate::support::http::{End, empty, request};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_file_is_right_or_503() {
    on_each(Patience::Long, async |rig| {
        rig.furnish().await;
        let body = [
            Fault::ResetMidBody(100),
            Fault::CloseMidBody(100),
            Fault::CloseMidBody(0),
            Fault::UnderstateLength(100),
            Fault::FlipByte(100),
            Fault::FlipByte(SMALL.length - 1),
            Fault::LoseAnswer,
        ];
        for fault in PASSING.iter().chain(&body) {
            for times in BOTH {
                let promise = unless_once(times, Promise::Good(200, Some(SMALL)));
                rig.check(bare("GET", &artifact("small")), verb("GetObject"), (fault, times), &promise).await;
            }
        }
        // Never mistaken for a miss, and not tried again: it would not pass.
        let denied = (&Fault::AccessDenied, Times::Once);
        rig.check(bare("GET", &artifact("small")), verb("GetObject"), denied, &Promise::Unavailable).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_file_is_right_or_503_or_broken() {
    on_each(Patience::Long, async |rig| {
        rig.furnish().await;
        rig.lay(&super::key(&artifact("large")), LARGE).await;
        let ask = || bare("GET", &artifact("large"));
        for fault in PASSING {
            for times in BOTH {
                let promise = unless_once(times, Promise::Good(200, Some(LARGE)));
                rig.check(ask(), verb("GetObject"), (&fault, times), &promise).await;
            }
        }
        let denied = (&Fault::AccessDenied, Times::Once);
        rig.check(ask(), verb("GetObject"), denied, &Promise::Unavailable).await;
        for fault in [
            Fault::ResetMidBody(MIDDLE),
            Fault::CloseMidBody(MIDDLE),
            Fault::CloseMidBody(LARGE.length - 1),
            Fault::UnderstateLength(MIDDLE),
            Fault::FlipByte(0),
            Fault::FlipByte(MIDDLE),
            Fault::FlipByte(LARGE.length - 1),
        ] {
            rig.check(ask(), verb("GetObject"), (&fault, Times::Always), &Promise::Broken).await;
            // Nor is a part of it, wherever the damage is.
            rig.proxy.set_when(verb("GetObject"), fault.clone(), None);
            let part =
                request("GET", &artifact("large")).header("range", "bytes=0-99").body(empty()).unwrap();
            let found = rig.client.measure(part).await;
            assert!(!found.as_ref().is_ok_and(|found| found.end == End::Complete), "{fault:?}: {found:?}");
            rig.proxy.set(Fault::Pass);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_is_right_or_503() {
    on_each(Patience::Long, async |rig| {
        rig.furnish().await;
        for fault in PASSING.iter().chain(&[Fault::LoseAnswer]) {
            for times in BOTH {
                // A HEAD's answer has no body, whatever it says.
                let status = if times == Times::Once { 200 } else { 503 };
                let ask = bare("HEAD", &artifact("small"));
                rig.check(ask, verb("HeadObject"), (fault, times), &Promise::Good(status, None)).await;
            }
        }
        let denied = (&Fault::AccessDenied, Times::Once);
        let ask = bare("HEAD", &artifact("small"));
        rig.check(ask, verb("HeadObject"), denied, &Promise::Good(503, None)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_miss_is_a_miss_or_503() {
    on_each(Patience::Long, async |rig| {
        rig.furnish().await;
        for path in [artifact("nothing"), format!("/please/{}", "ab".repeat(20))] {
            // Cut short, the store's own 404 does not say of what: it may be the bucket that is missing.
            let cut = [Fault::ResetMidBody(60), Fault::CloseMidBody(60), Fault::UnderstateLength(30)];
            for fault in PASSING.iter().chain(&cut) {
                for times in BOTH {
                    let promise = unless_once(times, Promise::Good(404, None));
                    // What is no S3 error at all is not asked for again.
                    let promise = if matches!(fault, Fault::UnderstateLength(_)) {
                        Promise::Unavailable
                    } else {
                        promise
                    };
                    rig.check(bare("GET", &path), verb("GetObject"), (fault, times), &promise).await;
                }
            }
            let denied = (&Fault::AccessDenied, Times::Once);
            rig.check(bare("GET", &path), verb("GetObject"), denied, &Promise::Unavailable).await;
        }
        for fault in PASSING {
            for times in BOTH {
                let promise = unless_once(times, Promise::Good(404, None));
                let ask = bare("GET", &artifact("nothing"));
                rig.check(ask, verb("ListObjectsV2"), (&fault, times), &promise).await;
            }
        }
        let denied = (&Fault::AccessDenied, Times::Once);
        let ask = bare("GET", &artifact("nothing"));
        rig.check(ask, verb("ListObjectsV2"), denied, &Promise::Unavailable).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_is_whole_or_503_or_broken() {
    on_each(Patience::Long, async |rig| {
        rig.furnish().await;
        let ask = || bare("GET", &artifact("gen"));
        let listing = [Fault::CloseMidBody(300), Fault::ResetMidBody(300), Fault::UnderstateLength(300)];
        for fault in PASSING.iter().chain(&listing).chain(&[Fault::OkWithError]) {
            for times in BOTH {
                let promise = unless_once(times, Promise::Good(200, None));
                // What is cut and says that it is whole is read, found out and not asked for again.
                let promise =
                    if matches!(fault, Fault::UnderstateLength(_)) { Promise::Unavailable } else { promise };
                rig.check(ask(), verb("ListObjectsV2"), (fault, times), &promise).await;
            }
        }
        let denied = (&Fault::AccessDenied, Times::Once);
        rig.check(ask(), verb("ListObjectsV2"), denied, &Promise::Unavailable).await;
        // While the first is read nothing has been said yet.
        for (member, promise) in
            [("gen/a", Promise::Unavailable), ("gen/b", Promise::Broken), ("gen/c/d", Promise::Broken)]
        {
            let on = move |seen: &super::Seen| seen.verb() == "GetObject" && seen.path().ends_with(member);
            for fault in PASSING.iter().chain(&[Fault::FlipByte(7), Fault::CloseMidBody(7)]) {
                rig.check(ask(), on, (fault, Times::Once), &Promise::Good(200, None)).await;
                rig.check(ask(), on, (fault, Times::Always), &promise).await;
            }
            rig.check(ask(), on, (&Fault::AccessDenied, Times::Once), &promise).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_failure_in_twenty_is_not_noticed() {
    on_each(Patience::Long, async |rig| {
        rig.furnish().await;
        rig.proxy.take_requests();
        rig.proxy.set(Fault::OneIn { n: 20, seed: 5 });
        for round in 0..60_u32 {
            let fresh = artifact(&format!("fresh-{round}"));
            rig.client.check(super::with_body("POST", &fresh, SMALL.bytes()), 200).await;
            for path in [&fresh, &artifact("small")] {
                assert_eq!(rig.client.check(bare("GET", path), 200).await.body, SMALL.bytes(), "{path}");
            }
            rig.client.check(bare("GET", &artifact(&format!("absent-{round}"))), 404).await;
            rig.client.check(bare("HEAD", &fresh), 200).await;
        }
        // 360 requests without a failure.
        let asked = rig.proxy.requests().len();
        assert!(asked > 365, "{}: {asked} requests: chance never struck", rig.name);
    })
    .await;
}
