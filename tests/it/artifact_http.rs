//! Promise: Please's HTTP cache up to v13, row by row of its protocol, over every store alike.

use bytes::Bytes;
use http::Method;
use larder::metrics::RequestLabels;

use crate::support::gateway::{Options, TestGateway, eventually};
use crate::support::http::{
    Body, Client, Pattern, Response, bare, broken, chunked, full, request, with_body,
};

/// 20 bytes, as real clients send them.
const HASH: &str = "AAECAwQFBgcICQoLDA0ODxAREhM";
/// Another one.
const OTHER: &str = "_-ECAwQFBgcICQoLDA0ODxAREhM";

const OCTETS: &str = "application/octet-stream";
const MISS: &str = "not in the cache\n";

/// A path in the entry that most tests use.
fn at(file: &str) -> String {
    format!("/artifact/linux_amd64/src/core/lib/{HASH}/{file}")
}

/// The key that [`at`] comes to.
fn key(file: &str) -> String {
    format!("artifact/linux_amd64/src/core/lib/{HASH}/{file}")
}

/// A POST as Please sends it: chunked, without a length.
fn post(path: &str, bytes: impl Into<Bytes>) -> http::Request<Body> {
    let bytes = bytes.into();
    let half = bytes.len() / 2;
    let pieces = [bytes.slice(..half), bytes.slice(half..)];
    let body = chunked(pieces.into_iter().filter(|piece| !piece.is_empty()));
    request("POST", path).header("content-type", OCTETS).body(body).unwrap()
}

async fn store(client: &Client, path: &str, bytes: impl Into<Bytes>) {
    let answer = client.check(post(path, bytes), 200).await;
    assert_eq!(answer.text(), "stored\n");
}

/// Reads `multipart/form-data` by the book (RFC 2046 §5.1.1, RFC 7578): names and bytes of the parts, in order.
fn parts(answer: &Response) -> Vec<(String, Bytes)> {
    let kind = answer.header("content-type").unwrap();
    let boundary = kind.strip_prefix("multipart/form-data; boundary=").unwrap();
    let find = |text: &[u8], what: &str| text.windows(what.len()).position(|w| w == what.as_bytes()).unwrap();
    let mut rest = answer.body.strip_prefix(format!("--{boundary}").as_bytes()).unwrap();
    let mut found = Vec::new();
    while let Some(part) = rest.strip_prefix(b"\r\n") {
        let head = find(part, "\r\n\r\n");
        let end = find(&part[head + 4..], &format!("\r\n--{boundary}")) + head + 4;
        let name = filename(std::str::from_utf8(&part[..head]).unwrap());
        found.push((name, Bytes::copy_from_slice(&part[head + 4..end])));
        rest = &part[end + boundary.len() + 4..];
    }
    assert_eq!(rest, b"--\r\n", "nothing follows the last delimiter");
    found
}

/// The parameter `filename`, which has to be quoted, without its quotes and escapes.
fn filename(head: &str) -> String {
    let line = head.split("\r\n").find(|line| line.starts_with("Content-Disposition: form-data;")).unwrap();
    let (_, quoted) = line.split_once("; filename=\"").unwrap();
    let (mut name, mut letters) = (String::new(), quoted.chars());
    loop {
        match letters.next().unwrap() {
            '"' => break,
            '\\' => name.push(letters.next().unwrap()),
            letter => name.push(letter),
        }
    }
    assert_eq!(letters.as_str(), "", "the name is the last parameter");
    name
}

/// GET comes with exactly these files; HEAD says the same without them.
async fn holds(client: &Client, path: &str, expected: &[(&str, &str)]) {
    let answer = client.check(bare("GET", path), 200).await;
    let found = parts(&answer);
    let found: Vec<(&str, &str)> =
        found.iter().map(|(name, bytes)| (name.as_str(), std::str::from_utf8(bytes).unwrap())).collect();
    assert_eq!(found, expected, "{path}");
    let head = client.check(bare("HEAD", path), 200).await;
    assert!(head.header("content-type").unwrap().starts_with("multipart/form-data; boundary="), "{path}");
    assert_eq!(head.body, "");
}

/// GET and HEAD are a quiet miss.
async fn misses(client: &Client, path: &str) {
    assert_eq!(client.check(bare("GET", path), 404).await.text(), MISS, "{path}");
    assert_eq!(client.check(bare("HEAD", path), 404).await.text(), "", "{path}");
}

/// One file, of known and of unknown length on its way in, comes back to the byte.
#[tokio::test]
async fn a_file_comes_back_as_it_went_in() {
    for gateway in TestGateway::everywhere(&Options::default()) {
        for client in [gateway.client(), Client::h2(gateway.addr())] {
            for length in [0, 1, 5, 64 << 10, (64 << 10) + 1, 9 << 20] {
                let bytes = Pattern { seed: length, length }.bytes();
                store(&client, &at("one"), bytes.clone()).await;
                let got = client.check(bare("GET", &at("one")), 200).await;
                assert!(got.body == bytes, "{length} bytes on {}", gateway.name);
                let head = client.check(bare("HEAD", &at("one")), 200).await;
                for answer in [&got, &head] {
                    assert_eq!(answer.header("content-type"), Some(OCTETS));
                    assert_eq!(answer.header("content-length"), Some(length.to_string().as_str()));
                    assert_eq!(answer.header("content-encoding"), None);
                    assert!(answer.header("etag").is_some_and(|etag| etag.starts_with('"')));
                }
                assert_eq!(head.body, "");
            }
        }
        let known = with_body("POST", &at("one"), "known length");
        gateway.client().check(known, 200).await;
        assert_eq!(gateway.client().check(bare("GET", &at("one")), 200).await.text(), "known length");
        gateway.holds(&[&key("one")]).await;
    }
}

#[tokio::test]
async fn a_repeat_overwrites() {
    for gateway in TestGateway::everywhere(&Options::default()) {
        let client = gateway.client();
        for text in ["first", "second and longer", "", "4"] {
            store(&client, &at("gen/x"), text).await;
            assert_eq!(client.check(bare("GET", &at("gen/x")), 200).await.text(), text);
        }
    }
}

#[tokio::test]
async fn directories_globs_and_entries_are_multipart() {
    for gateway in TestGateway::everywhere(&Options::default()) {
        let client = gateway.client();
        for (file, bytes) in [
            ("a.txt", "a"),
            ("empty", ""),
            ("gen/a.txt", "in gen"),
            ("gen/deep/er/b.txt", "deep\r\n--"),
            ("genx/c", "not in gen"),
            ("%C3%BC%20%22q%22.txt", "odd name"),
        ] {
            store(&client, &at(file), bytes).await;
        }
        // Another version and another target are nobody's part.
        store(&client, &at("a.txt").replace(HASH, OTHER), "other hash").await;
        store(&client, &at("a.txt").replace("/lib/", "/lib2/"), "other target").await;

        let gen_a = ("gen/a.txt", "in gen");
        let gen_b = ("gen/deep/er/b.txt", "deep\r\n--");
        let odd = ("ü \"q\".txt", "odd name");
        let all = [("a.txt", "a"), ("empty", ""), gen_a, gen_b, ("genx/c", "not in gen"), odd];
        let entry = at("");
        for (path, expected) in [
            (entry.trim_end_matches('/').to_owned(), &all[..]),
            (at("*"), &all[..]),
            (at("gen"), &[gen_a, gen_b]),
            (at("gen/deep"), &[gen_b]),
            (at("gen/*"), &[gen_a, gen_b]),
            (at("gen*"), &[gen_a, gen_b, ("genx/c", "not in gen")]),
            (at("*.txt"), &[("a.txt", "a"), odd]),
            (at("*/*.txt"), &[gen_a]),
            (at("%3F.txt"), &[("a.txt", "a")]),
            (at("gen/%5Ba-c%5D.txt"), &[gen_a]),
            (at("gen/[a-c].txt"), &[gen_a]),
            (at("%C3%BC*"), &[odd]),
        ] {
            holds(&client, &path, expected).await;
        }
        for file in ["*.o", "gen/*.c", "%3F", "nothing", "gen/a", "gen/deep/e", "a.txt/x", "gen/[x-z].txt"] {
            misses(&client, &at(file)).await;
        }
        misses(&client, entry.trim_end_matches('/').replace("/lib/", "/li/").as_str()).await;
        for file in ["gen/[a", "gen/[]", "[z-"] {
            let answer = client.check(bare("GET", &at(file)), 400).await;
            assert_eq!(answer.text(), "a [ in the glob is not closed, or holds a bad range\n");
        }
    }
}

/// What Please makes of a target with `#` in its name, and other paths that end before a file.
#[tokio::test]
async fn paths_without_hash_or_file_are_refused_or_missed() {
    for gateway in TestGateway::everywhere(&Options::default()) {
        let client = gateway.client();
        let short = "the path is not {os_name}/{package}/{target}/{hash}/{file}\n";
        let no_hash = "no path segment is a hash (8 to 64 bytes in base64's URL alphabet, without padding)\n";
        for (path, line) in [
            ("/artifact", short),
            ("/artifact/", short),
            ("/artifact/linux_amd64", short),
            ("/artifact/linux_amd64/_core", short),
            ("/artifact/linux_amd64/src/core/_core", no_hash),
            ("/artifact/linux_amd64/src/core/core_package/x", no_hash),
        ] {
            assert_eq!(client.check(post(path, "x"), 400).await.text(), line, "{path}");
            misses(&client, path).await;
        }
        let entry = at("").trim_end_matches('/').to_owned();
        assert_eq!(client.check(post(&entry, "x"), 400).await.text(), "the path names no file\n");
        gateway.holds(&[]).await;
    }
}

#[tokio::test]
async fn deletes_stop_at_path_boundaries() {
    let entries = [
        "darwin_arm64/pkg/foo",
        "linux_amd64/foo",
        "linux_amd64/pkg/foo",
        "linux_amd64/pkg/foo/bar",
        "linux_amd64/pkg/foobar",
        "linux_amd64/pkg2/foo",
        "linux_amd64/pkg/_core#srcs",
        "linux_amd64/sub/pkg/foo",
    ];
    let rest = |gone: &[usize]| {
        let kept = entries.iter().enumerate().filter(|(at, _)| !gone.contains(at));
        let mut keys: Vec<String> = kept
            .flat_map(|(_, entry)| [HASH, OTHER].map(|hash| format!("artifact/{entry}/{hash}/d/f")))
            .collect();
        keys.sort();
        keys
    };
    for gateway in TestGateway::everywhere(&Options::default()) {
        let client = gateway.client();
        for (path, gone) in [
            ("/artifact/linux_amd64/pkg/foo", &[2][..]),
            ("/artifact/pkg/foo", &[0, 2]),
            ("/artifact/foo", &[1]),
            ("/artifact/linux_amd64/foo", &[1]),
            ("/artifact/linux_amd64/pkg/_core", &[]),
            ("/artifact/pkg/_core%23srcs", &[6]),
            ("/artifact/linux_amd64/pkg", &[]),
            ("/artifact/pkg", &[]),
            ("/artifact/linux_amd64/pkg/fo", &[]),
            ("/artifact/windows_amd64/pkg/foo", &[]),
            ("/artifact/nothing/like/it", &[]),
        ] {
            for key in rest(&[]) {
                store(&client, &format!("/{}", key.replace('#', "%23")), "x").await;
            }
            let answer = client.check(bare("DELETE", path), 200).await;
            assert_eq!(answer.text(), format!("{} files removed\n", gone.len() * 2), "{path}");
            assert_eq!(gateway.keys().await, rest(gone), "{path} on {}", gateway.name);
        }
        for path in ["/artifact", "/artifact/", "/artifact/linux_amd64"] {
            let answer = client.check(bare("DELETE", path), 400).await;
            assert_eq!(answer.text(), "the path names no target\n", "{path}");
        }
        assert_eq!(gateway.keys().await, rest(&[]));
    }
}

/// `DELETE /` takes all artifacts, manifests too, and nothing else; of nothing it is good as well.
#[tokio::test]
async fn everything_is_every_artifact() {
    for gateway in TestGateway::everywhere(&Options::default()) {
        let client = gateway.client();
        assert_eq!(client.check(bare("DELETE", "/"), 200).await.text(), "0 files removed\n");
        let please = format!("/please/{}", "ab".repeat(20));
        client.check(with_body("PUT", &please, "kept"), 200).await;
        store(&client, &at("a"), "a").await;
        store(&client, &at("b/c").replace("linux_amd64", "darwin_arm64"), "c").await;
        gateway.plant(&key(".larder"), b"{}").await;
        assert_eq!(
            client.check(bare("DELETE", "/"), 200).await.text(),
            "2 files removed\n",
            "a manifest is no file"
        );
        gateway.holds(&[&format!("please/ab/{}", "ab".repeat(20))]).await;
        assert_eq!(client.check(bare("DELETE", "/"), 200).await.text(), "0 files removed\n");
    }
}

/// A configured URL with a slash at its end doubles the first one, and no other.
#[tokio::test]
async fn a_doubled_slash_is_taken_in_front_and_nowhere_else() {
    for gateway in TestGateway::everywhere(&Options::default()) {
        let (plain, doubled) = (at("a"), format!("/{}", at("a")));
        for (method, path, status) in [
            ("GET", "//ping", 200),
            ("GET", "///ping", 404),
            ("POST", &doubled, 200),
            ("GET", &plain, 200),
            ("GET", &doubled, 200),
            ("HEAD", &doubled, 200),
            ("GET", &format!("/{doubled}"), 404),
            ("POST", &plain.replace("artifact/", "artifact//"), 400),
            ("GET", &plain.replace("src/", "src//"), 400),
            ("GET", &plain.replace("lib/", "lib//"), 400),
            ("GET", &format!("{plain}/"), 400),
            ("DELETE", "//artifact/linux_amd64/src/core/lib", 200),
            ("GET", &plain, 404),
            ("DELETE", "//", 200),
        ] {
            // Not every client lets such a path through; bytes do.
            let line = format!("{method} {path} HTTP/1.1\r\ncontent-length: 0");
            let answer = gateway.raw(line.as_bytes(), b"").await.unwrap();
            assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        }
    }
}

#[tokio::test]
async fn a_ping_asks_for_nothing() {
    let users = Some("ann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=".to_owned());
    let gateway = TestGateway::with(Options { users, ..Options::default() });
    for client in [gateway.client(), gateway.client().with_basic("ann", "wrong"), Client::h2(gateway.addr())]
    {
        assert_eq!(client.check(bare("GET", "/ping"), 200).await.text(), "pong\n");
        assert_eq!(client.check(bare("HEAD", "/ping"), 200).await.text(), "");
    }
}

/// An upload that ends before its end leaves nothing new, and what was there before is untouched.
#[tokio::test]
async fn an_abandoned_upload_leaves_nothing() {
    let labels = RequestLabels { protocol: "artifact", verb: "post", outcome: "broken" };
    for gateway in TestGateway::everywhere(&Options::default()) {
        let client = gateway.client();
        store(&client, &at("old"), "old").await;
        let head = |file: &str, framing: &str| {
            format!("POST {} HTTP/1.1\r\nhost: larder\r\n{framing}\r\n\r\n", at(file))
        };
        let chunks = "transfer-encoding: chunked";
        let mut broken_off = 0;
        for file in ["old", "new", "dir/new"] {
            for bytes in [
                head(file, chunks),
                head(file, chunks) + "5\r\nab",
                head(file, chunks) + "5\r\nabcde\r\n",
                head(file, chunks) + "5\r\nabcde\r\n0\r\n",
                head(file, "content-length: 9") + "abc",
            ] {
                let mut stream = std::net::TcpStream::connect(gateway.addr()).unwrap();
                std::io::Write::write_all(&mut stream, bytes.as_bytes()).unwrap();
                drop(stream);
                broken_off += 1;
                // Only then is it over, whatever it leaves.
                eventually("the upload ends", async || gateway.counted(&labels) == broken_off).await;
            }
        }
        gateway.holds(&[&key("old")]).await;
        for client in [client.clone(), Client::h2(gateway.addr())] {
            let large = Pattern { seed: 7, length: 17 << 20 };
            let upload = request("POST", &at("old")).body(broken(large.blocks())).unwrap();
            client.try_send(upload).await.unwrap_err();
            broken_off += 1;
            eventually("the upload ends", async || gateway.counted(&labels) == broken_off).await;
        }
        assert_eq!(client.check(bare("GET", &at("old")), 200).await.text(), "old");
        gateway.holds(&[&key("old")]).await;
    }
}

/// A target, a package or a file may look like a hash; what then stays ambiguous is refused.
#[tokio::test]
async fn names_like_a_hash_are_told_from_it_or_refused() {
    let long = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
    let ambiguous = "more than one path segment could be the hash\n";
    for gateway in TestGateway::everywhere(&Options::default()) {
        let client = gateway.client();
        for path in [
            format!("/artifact/linux_amd64/p/core_package/{HASH}/core_package"),
            format!("/artifact/linux_amd64/p/dGVzdF9rZXk/{HASH}/a"),
            format!("/artifact/linux_amd64/p/x/{HASH}/dGVzdF9rZXk"),
            format!("/artifact/linux_amd64/{HASH}/{OTHER}/a"),
            format!("/artifact/linux_amd64/p/x/{HASH}/{long}"),
        ] {
            store(&client, &path, path.clone()).await;
            assert_eq!(client.check(bare("GET", &path), 200).await.text(), path);
        }
        for path in [
            format!("/artifact/linux_amd64/p/{HASH}/{OTHER}/a"),
            format!("/artifact/linux_amd64/p/x/{HASH}/{HASH}"),
        ] {
            assert_eq!(client.check(post(&path, "x"), 400).await.text(), ambiguous, "{path}");
            assert_eq!(client.check(bare("GET", &path), 400).await.text(), ambiguous, "{path}");
        }
        assert_eq!(gateway.keys().await.len(), 5);
    }
}

/// Each odd name is one object: by itself, in its entry, and in the store.
#[tokio::test]
async fn odd_names_survive() {
    let names = [
        ("a%20b", "a b"),
        ("a+b", "a+b"),
        ("a%2Bc", "a+c"),
        ("%C3%BC", "ü"),
        ("u%CC%88", "u\u{308}"),
        ("100%25", "100%"),
        ("%2541", "%41"),
        ("a#b", "a"),
        ("x%23y", "x#y"),
        ("what%3Fb", "what?b"),
        ("semi;colon,@&=$!'()", "semi;colon,@&=$!'()"),
        ("...", "..."),
        (".hidden", ".hidden"),
        ("%E6%97%A5%E6%9C%AC", "日本"),
        ("%F0%9F%A6%80", "🦀"),
        ("tab%7Eend", "tab~end"),
    ];
    for gateway in TestGateway::everywhere(&Options::default()) {
        let client = gateway.client();
        let mut expected = Vec::new();
        for (raw, name) in names {
            store(&client, &at(raw), name).await;
            // A question mark makes it a glob of itself, on reads.
            if !name.contains('?') {
                assert_eq!(client.check(bare("GET", &at(raw)), 200).await.text(), name, "{raw}");
            }
            expected.push((name, name));
        }
        expected.sort_unstable();
        holds(&client, at("").trim_end_matches('/'), &expected).await;
        let keys: Vec<String> = expected.iter().map(|(name, _)| key(name)).collect();
        assert_eq!(gateway.keys().await, keys, "on {}", gateway.name);
        let longest = "x".repeat(255);
        store(&client, &at(&longest), "long").await;
        assert_eq!(client.check(bare("GET", &at(&longest)), 200).await.text(), "long");
    }
}

#[tokio::test]
async fn a_name_is_never_both_file_and_directory() {
    for gateway in TestGateway::everywhere(&Options::default()) {
        let client = gateway.client();
        let line = "the name is already a directory, or below a file\n";
        for (first, second) in [("x", "x/y"), ("z/y", "z"), ("p", "p/q/r/s"), ("d/e/f/g", "d/e")] {
            store(&client, &at(first), "first").await;
            assert_eq!(client.check(post(&at(second), "2"), 409).await.text(), line, "{first} {second}");
            assert_eq!(client.check(bare("GET", &at(first)), 200).await.text(), "first");
            client.check(bare("DELETE", "/artifact/src/core/lib"), 200).await;
            // Gone, either may be.
            store(&client, &at(second), "second").await;
            assert_eq!(client.check(post(&at(first), "2"), 409).await.text(), line, "{second} {first}");
            client.check(bare("DELETE", "/artifact/src/core/lib"), 200).await;
        }
        // An entry's own name, and those above it, can only be directories.
        store(&client, &at("f"), "f").await;
        gateway.holds(&[&key("f")]).await;
    }
}

#[tokio::test]
async fn the_manifest_is_nobodys_file() {
    for gateway in TestGateway::everywhere(&Options::default()) {
        let client = gateway.client();
        store(&client, &at("a"), "a").await;
        store(&client, &at("gen/.larder"), "deeper it is a name like any other").await;
        gateway.plant(&key(".larder"), b"{}").await;
        for file in [".larder", ".larder/x", "%2Elarder"] {
            assert_eq!(client.check(post(&at(file), "x"), 400).await.text(), "the file name is reserved\n");
            misses(&client, &at(file)).await;
        }
        misses(&client, &at(".l*")).await;
        // One that cannot be read is damage, where it would count.
        client.check(bare("GET", at("").trim_end_matches('/')), 503).await;
        gateway.store().await.delete(&[key(".larder").parse().unwrap()]).await.unwrap();
        let both = [("a", "a"), ("gen/.larder", "deeper it is a name like any other")];
        holds(&client, at("").trim_end_matches('/'), &both).await;
        holds(&client, &at("*"), &both).await;
        client.check(bare("DELETE", "/artifact/linux_amd64/src/core/lib"), 200).await;
        gateway.holds(&[]).await;
    }
}

/// A member that cannot be read breaks the answer off: never a shorter whole one.
#[tokio::test]
async fn a_directory_that_cannot_be_read_whole_is_not_whole() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    for file in ["gen/a", "gen/b", "gen/c"] {
        store(&client, &at(file), file).await;
    }
    let damaged = gateway.root().join(key("gen/b"));
    let checked = {
        let mut bytes = std::fs::read(&damaged).unwrap();
        bytes[0] ^= 1;
        std::fs::write(&damaged, bytes).unwrap();
        client.send(bare("GET", &at("gen/b"))).await.status == 503
    };
    if !checked {
        crate::support::aloud("LEFT OUT: this file system keeps no checksums");
        return;
    }
    for path in [at("gen"), at("*"), at("").trim_end_matches('/').to_owned()] {
        // So soon that perhaps not even the head has left.
        let Ok(got) = client.download(bare("GET", &path)).await else { continue };
        assert_eq!(got.status, 200);
        assert!(matches!(got.end, crate::support::http::End::Broken(_)), "{path}: {:?}", got.end);
        assert!(!got.body.ends_with(b"--\r\n"), "{path}");
    }
    assert_eq!(client.check(bare("GET", &at("gen/a")), 200).await.text(), "gen/a");
}

/// Every verb that there is not says which there are.
#[tokio::test]
async fn other_verbs_are_told_which_there_are() {
    let gateway = TestGateway::start();
    for (path, verbs, allow) in [
        (at("a"), "PUT PATCH OPTIONS TRACE", "GET, HEAD, POST, DELETE"),
        ("/artifact".to_owned(), "PUT PATCH OPTIONS", "GET, HEAD, POST, DELETE"),
        ("/".to_owned(), "POST PUT PATCH", "GET, HEAD, DELETE"),
        ("/ping".to_owned(), "POST PUT DELETE", "GET, HEAD"),
    ] {
        for verb in verbs.split(' ') {
            let asked = request(verb, &path).body(full("x")).unwrap();
            let answer = gateway.client().check(asked, 405).await;
            assert_eq!(answer.header("allow"), Some(allow), "{verb} {path}");
            if verb != Method::HEAD.as_str() {
                assert_eq!(answer.text(), format!("this route takes {allow}\n"));
            }
        }
    }
    gateway.holds(&[]).await;
}
