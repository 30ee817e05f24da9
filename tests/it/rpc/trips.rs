//! One call after the other: what was stored comes back, what is wrong is named, a miss is no error.

use bytes::Bytes;
use larder::front::rpc::proto::{RetrieveRequest, RetrieveResponse, StoreResponse};
use prost::Message as _;

use crate::support::gateway::{Options, TestGateway, each};
use crate::support::http::{full, with_body};
use crate::support::rpc::{
    At, CONFLICT, DEADLINE, EXHAUSTED, FORBIDDEN, INVALID, Rpc, UNAUTHENTICATED, contents, frame, pack, read,
    storing,
};

fn noise(size: usize) -> Bytes {
    (0..size).map(|n| (n % 251) as u8).collect()
}

fn names(artifacts: &[larder::front::rpc::proto::Artifact]) -> Vec<&str> {
    artifacts.iter().map(|artifact| artifact.file.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_stored_comes_back() {
    each(async |gateway| {
        let (rpc, at) = (Rpc::new(gateway.addr()), At::new("_core#x", 1));
        assert_eq!(rpc.retrieve(&at, &["a.txt"]).await.unwrap(), []);
        let unit = vec![
            at.file("a.txt", "hello"),
            at.file("empty", ""),
            at.file("gen/b c.txt", noise(20_000)),
            at.file("gen/deep/ü.bin", noise(3 << 20)),
            at.link("gen/l", "../a.txt"),
        ];
        rpc.store(&at, unit.clone()).await.unwrap();
        let all = rpc.retrieve(&at, &[""]).await.unwrap();
        assert_eq!(contents(&all), contents(&unit));
        let some = async |files: &[&str]| rpc.retrieve(&at, files).await.unwrap();
        assert_eq!(contents(&some(&["a.txt"]).await), contents(&unit[..1]));
        assert_eq!(contents(&some(&["gen"]).await), contents(&unit[2..]));
        assert_eq!(names(&some(&["e*"]).await), ["empty"]);
        assert_eq!(some(&["*"]).await.len(), 5, "a directory that is taken is taken with all in it");
        assert_eq!(names(&some(&["gen/*.txt", "empty", "gen/l"]).await), ["empty", "gen/b c.txt", "gen/l"]);
        for missing in [&["nothing"][..], &["a.txt", "nothing"], &["a"], &["*.none"], &[".larder"], &[]] {
            assert_eq!(some(missing).await, [], "{missing:?}");
        }
        // Another Store adds, and replaces what is of the same name.
        rpc.store(&at, vec![at.file("a.txt", "new"), at.link("empty", "a.txt")]).await.unwrap();
        assert_eq!(some(&["a.txt"]).await[0].body, "new");
        assert_eq!(contents(&some(&["empty"]).await), contents(&[at.link("empty", "a.txt")]));
        assert_eq!(names(&some(&[""]).await).len(), 5);
        // Exactly this target goes.
        let beside = At::new("_core", 1);
        rpc.store(&beside, vec![beside.file("a", "1")]).await.unwrap();
        rpc.delete(&at).await.unwrap();
        assert_eq!(some(&[""]).await, []);
        assert_eq!(rpc.retrieve(&beside, &["a"]).await.unwrap().len(), 1);
        rpc.delete(&at).await.unwrap();
        rpc.delete_everything().await.unwrap();
        assert_eq!(gateway.keys().await, [""; 0]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_entry_flows() {
    each(async |gateway| {
        let (rpc, at) = (Rpc::new(gateway.addr()), At::new("large", 2));
        let unit: Vec<_> = (0..20).map(|n| at.file(&format!("{n:02}"), noise(1 << 20))).collect();
        rpc.store(&at, unit.clone()).await.unwrap();
        assert_eq!(contents(&rpc.retrieve(&at, &[""]).await.unwrap()), contents(&unit));
        let one = vec![at.file("one", noise(40 << 20))];
        rpc.store(&at, one.clone()).await.unwrap();
        assert_eq!(contents(&rpc.retrieve(&at, &["one"]).await.unwrap()), contents(&one));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_named() {
    let gateway = TestGateway::start();
    let (rpc, at) = (Rpc::new(gateway.addr()), At::new("t", 3));
    for (artifact, named) in [
        (at.file("../x", ""), "artifacts[0].file"),
        (at.file("", ""), "artifacts[0].file"),
        (at.file(".larder", ""), "artifacts[0].file"),
        (At { package: "../p".to_owned(), ..at.clone() }.file("x", ""), "artifacts[0].package"),
        (At { target: String::new(), ..at.clone() }.file("x", ""), "artifacts[0].target"),
        (at.link("l", "/etc/passwd"), "artifacts[0].symlink"),
        (at.link("l", "../../x"), "artifacts[0].symlink"),
    ] {
        let refused = rpc.store(&at, vec![artifact]).await.unwrap_err();
        assert!(refused.code == INVALID && refused.message.starts_with(named), "{named}: {refused:?}");
    }
    for hash in [0, 7, 65] {
        let at = At { hash: noise(hash), ..at.clone() };
        assert_eq!(rpc.store(&at, vec![at.file("x", "")]).await.unwrap_err().code, INVALID);
        assert_eq!(rpc.retrieve(&at, &["x"]).await.unwrap_err().code, INVALID);
    }
    let twice = vec![at.file("x", "1"), at.file("x", "2")];
    assert_eq!(rpc.store(&at, twice).await.unwrap_err().code, INVALID);
    let both = vec![at.file("x", "1"), at.file("x/y", "2")];
    assert_eq!(rpc.store(&at, both).await.unwrap_err().code, CONFLICT);
    rpc.store(&at, vec![at.file("x", "1")]).await.unwrap();
    assert_eq!(rpc.store(&at, vec![at.file("x/y", "2")]).await.unwrap_err().code, CONFLICT);
    assert_eq!(gateway.keys().await.len(), 2, "only the one that was good");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_are_held_to_their_form() {
    let gateway = TestGateway::start();
    let (rpc, at) = (Rpc::new(gateway.addr()), At::new("t", 4));
    let good = storing(&at, vec![at.file("x", noise(5000))]).encode_to_vec();
    let code = async |headers: &[(&str, &str)], body: Bytes| match read::<StoreResponse>(
        rpc.raw("Store", headers, full(body)).await,
    ) {
        Ok(_) => 0,
        Err(refused) => refused.code,
    };
    let gzip = ("grpc-encoding", "gzip");
    assert_eq!(code(&[], frame(false, &good)).await, 0);
    assert_eq!(code(&[gzip], frame(true, &pack(&good))).await, 0);
    assert_eq!(code(&[gzip], frame(false, &good)).await, 0, "a message may go as it is");
    assert_eq!(code(&[("grpc-encoding", "zstd")], frame(true, &good)).await, 12);
    assert_eq!(code(&[gzip], frame(true, &good)).await, INVALID);
    let lies = [&pack(&good)[..pack(&good).len() - 4], &[1, 0, 0, 0]].concat();
    assert_eq!(code(&[gzip], frame(true, &lies)).await, INVALID);
    assert_eq!(code(&[], frame(false, b"\xff\xff")).await, INVALID);
    assert_eq!(code(&[], [frame(false, &good), frame(false, &good)].concat().into()).await, INVALID);
    assert_eq!(code(&[], Bytes::from_static(&[2, 0, 0, 0, 0])).await, INVALID);
    assert_eq!(code(&[], Bytes::from_static(&[0, 255, 255, 255, 255])).await, EXHAUSTED);
    assert_ne!(code(&[], frame(false, &good).slice(..100)).await, 0, "a message cut short");
    assert_eq!(code(&[("grpc-timeout", "1x")], frame(false, &good)).await, INVALID);
    let bomb = pack(&vec![0; 300 << 20]);
    assert_eq!(code(&[gzip], frame(true, &bomb)).await, EXHAUSTED);
    let plain = rpc.raw("Store", &[("content-type", "application/json")], full("{}")).await.unwrap();
    assert_eq!(plain.status, 415);
    gateway.client().check(with_body("POST", "/proto.rpc_cache.RpcCache/Store", good), 415).await;
    let unknown = rpc.raw("Nothing", &[], full(frame(false, b""))).await;
    assert_eq!(read::<StoreResponse>(unknown).unwrap_err().code, 12);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_compressed_for_who_accepts_it() {
    let gateway = TestGateway::start();
    let (rpc, at) = (Rpc::new(gateway.addr()), At::new("t", 5));
    rpc.store(&at, vec![at.file("x", noise(100_000))]).await.unwrap();
    let ask = RetrieveRequest {
        artifacts: vec![at.artifact("x")],
        os: "linux".to_owned(),
        arch: "amd64".to_owned(),
        hash: at.hash.clone(),
    };
    let ask = frame(false, &ask.encode_to_vec());
    for (headers, packed) in [
        (&[][..], false),
        (&[("grpc-accept-encoding", "identity, gzip")], true),
        (&[("grpc-accept-encoding", "deflate")], false),
    ] {
        let raw = rpc.raw("Retrieve", headers, full(ask.clone())).await.unwrap();
        assert_eq!(raw.headers.contains_key("grpc-encoding"), packed, "{headers:?}");
        assert_eq!(raw.body.len() < 50_000, packed, "{headers:?}");
        let answer: RetrieveResponse = read(Some(raw)).unwrap();
        assert_eq!(answer.artifacts[0].body, noise(100_000));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_are_told_as_grpc_tells_them() {
    let users = format!("reader:{0}\nwriter:{0}\nadmin:{0}\n", "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=");
    let groups = "writers: writer\nadmins: admin\n".to_owned();
    let options = Options { users: Some(users), groups: Some(groups), ..Options::default() };
    let gateway = TestGateway::with(options);
    let at = At::new("t", 6);
    let user = |name: &str, password: &str| {
        Rpc::over(crate::support::http::Client::h2(gateway.addr()).with_basic(name, password))
    };
    let code =
        |answer: Result<(), crate::support::rpc::Refused>| answer.map_or_else(|refused| refused.code, |()| 0);
    let wrong = [Rpc::new(gateway.addr()), user("reader", "wrong"), user("nobody", "password")];
    for rpc in &wrong {
        assert_eq!(rpc.nodes().await, Ok(0), "ListNodes passes no gate");
        assert_eq!(code(rpc.store(&at, vec![at.file("x", "1")]).await), UNAUTHENTICATED);
        assert_eq!(code(rpc.retrieve(&at, &["x"]).await.map(drop)), UNAUTHENTICATED);
        assert_eq!(code(rpc.delete(&at).await), UNAUTHENTICATED);
        assert_eq!(code(rpc.delete_everything().await), UNAUTHENTICATED);
    }
    for (name, store, delete, everything) in
        [("reader", FORBIDDEN, FORBIDDEN, FORBIDDEN), ("writer", 0, 0, FORBIDDEN), ("admin", 0, 0, 0)]
    {
        let rpc = user(name, "password");
        assert_eq!(code(rpc.store(&at, vec![at.file("x", "1")]).await), store, "{name}");
        assert_eq!(code(rpc.retrieve(&at, &["x"]).await.map(drop)), 0, "{name}");
        assert_eq!(code(rpc.delete(&at).await), delete, "{name}");
        assert_eq!(code(rpc.delete_everything().await), everything, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_ends_the_work() {
    let gateway = TestGateway::start();
    let (rpc, at) = (Rpc::new(gateway.addr()), At::new("t", 7));
    let unit = storing(&at, vec![at.file("x", noise(8 << 20))]);
    let late = rpc.call::<StoreResponse>("Store", &unit, &[("grpc-timeout", "1n")]).await.unwrap_err();
    assert_eq!(late.code, DEADLINE);
    assert_eq!(rpc.retrieve(&at, &["x"]).await.unwrap(), []);
    rpc.call::<StoreResponse>("Store", &unit, &[("grpc-timeout", "1M")]).await.unwrap();
    assert_eq!(rpc.retrieve(&at, &["x"]).await.unwrap().len(), 1);
}
