//! A store that stops answering: the time-outs make a 503 or a broken answer of it. Each case has a gateway of its own,
//! so that all wait at once.

use futures_util::future::join_all;

use super::rig::{Patience, Rig};
use super::{Body, Fault, LARGE, MIDDLE, Promise, SMALL, Times, artifact, bare, upload, verb};
use crate::support::backends::servers;

/// What is asked, the store's verb that hangs, how, whether for good, and what is promised.
type Case = (http::Request<Body>, &'static str, Fault, Times, Promise);

fn cases() -> Vec<Case> {
    let get = |name: &str| bare("GET", &artifact(name));
    let (good, gone) = (|| Promise::Good(200, None), || Promise::Unavailable);
    let small = || Promise::Good(200, Some(SMALL));
    let (once, always) = (Times::Once, Times::Always);
    vec![
        (get("small"), "GetObject", Fault::Hang, once, small()),
        (get("small"), "GetObject", Fault::Hang, always, gone()),
        (get("small"), "GetObject", Fault::HangMidBody(100), once, small()),
        (get("small"), "GetObject", Fault::HangMidBody(100), always, gone()),
        (get("large"), "GetObject", Fault::Hang, once, Promise::Good(200, Some(LARGE))),
        (get("large"), "GetObject", Fault::HangMidBody(MIDDLE), always, Promise::Broken),
        (bare("HEAD", &artifact("small")), "HeadObject", Fault::Hang, once, good()),
        (bare("HEAD", &artifact("small")), "HeadObject", Fault::Hang, always, Promise::Good(503, None)),
        (get("nothing"), "GetObject", Fault::Hang, always, gone()),
        (get("nothing"), "GetObject", Fault::HangMidBody(40), always, gone()),
        (get("nothing"), "ListObjectsV2", Fault::Hang, once, Promise::Good(404, None)),
        (get("nothing"), "ListObjectsV2", Fault::Hang, always, gone()),
        (get("gen"), "ListObjectsV2", Fault::HangMidBody(300), always, gone()),
        (upload(&artifact("up"), SMALL), "PutObject", Fault::Hang, once, good()),
        (upload(&artifact("up"), SMALL), "PutObject", Fault::Hang, always, gone()),
        (upload(&artifact("up"), LARGE), "CreateMultipartUpload", Fault::Hang, always, gone()),
        (upload(&artifact("up"), LARGE), "UploadPart", Fault::Hang, once, good()),
        (upload(&artifact("up"), LARGE), "UploadPart", Fault::Hang, always, gone()),
        (upload(&artifact("up"), LARGE), "CompleteMultipartUpload", Fault::Hang, always, gone()),
        (bare("DELETE", "/artifact/linux_amd64/pkg/target"), "DeleteObjects", Fault::Hang, always, gone()),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_ends_in_time() {
    for server in servers() {
        let all = cases().into_iter().map(|(ask, on, fault, times, promise)| {
            let server = server.clone();
            async move {
                let rig = Rig::start(&server, Patience::Short).await;
                rig.furnish().await;
                if ask.uri().path().ends_with("large") {
                    rig.lay(&super::key(&artifact("large")), LARGE).await;
                }
                rig.check(ask, verb(on), (&fault, times), &promise).await;
                assert_eq!(rig.leftovers().await, 0, "{}: {on} {fault:?} {times:?}", server.name);
                if promise == Promise::Unavailable {
                    assert_eq!(rig.stored(&super::key(&artifact("up"))).await, None, "{on} {fault:?}");
                }
            }
        });
        join_all(all).await;
    }
}
