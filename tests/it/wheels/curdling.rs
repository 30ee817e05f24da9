//! Curdling's API, as its client asks.

use serde_json::{Value, json};

use larder::domain::Wheels;
use larder::front::origin::Proxies;

use crate::support::gateway::{Options, TestGateway};
use crate::support::http::{bare, request};
use crate::support::python::{Distribution, Form};

pub(super) fn put(file: &Distribution) -> http::Request<crate::support::http::Body> {
    let mut form = Form::default();
    form.file(&file.filename, &file.filename, &file.bytes);
    form.send("PUT", &format!("/p/{}", file.filename))
}

#[tokio::test]
async fn the_documented_calls_are_answered() {
    for gateway in TestGateway::everywhere(&Options::default()) {
        let client = gateway.client();
        let files = [
            Distribution::source("Forbidden_Fruit", "0.9"),
            Distribution::source("Forbidden_Fruit", "0.10"),
            Distribution::pure("Forbidden_Fruit", "0.10"),
        ];
        assert_eq!(client.check(bare("GET", "/api"), 200).await.text(), "[]");
        for file in &files {
            assert_eq!(client.check(put(file), 200).await.text(), "ok");
            assert_eq!(client.check(put(file), 200).await.text(), "ok");
        }
        let other = Distribution::wheel("Forbidden_Fruit", "0.10", "py3-none-any", b"other");
        client.check(put(&other), 409).await;
        for path in ["/api", "/api/"] {
            let names: Value =
                serde_json::from_slice(&client.check(bare("GET", path), 200).await.body).unwrap();
            assert_eq!(names, json!(["forbidden-fruit"]));
        }
        for asked in ["forbidden-fruit", "Forbidden_Fruit"] {
            let answer = client.check(bare("GET", &format!("/api/{asked}")), 200).await;
            let url = |n: usize| {
                json!({
                    "url": format!("http://{}/p/{}", gateway.addr(), files[n].filename), "sha256": files[n].sha256(),
                })
            };
            let found: Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(
                found,
                json!([
                    { "name": asked, "version": "0.10", "urls": [url(2), url(1)] },
                    { "name": asked, "version": "0.9", "urls": [url(0)] },
                ])
            );
        }
        let absent = client.check(bare("GET", "/api/nothing"), 404).await;
        assert_eq!(absent.text(), "{\"status\":\"error\"}");
        for file in &files {
            let path = format!("/p/{}", file.filename);
            assert_eq!(client.check(bare("GET", &path), 200).await.body, file.bytes);
            client.check(bare("HEAD", &path), 200).await;
        }
        client.check(bare("GET", "/p/absent-1.0.zip"), 404).await;
        client.check(bare("GET", "/p/README"), 404).await;
        assert!(client.check(bare("GET", "/"), 200).await.text().contains(">forbidden-fruit</a>"));
        search(&gateway, &files).await;
    }
}

async fn search(gateway: &TestGateway, files: &[Distribution]) {
    let client = gateway.client();
    for (query, at) in [
        ("forbidden_fruit", 2),
        ("forbidden-fruit==0.10", 2),
        ("forbidden-fruit%3E=0.1,%3C0.10", 0),
        ("forbidden-fruit;~whl", 1),
        ("forbidden-fruit;whl", 2),
    ] {
        let answer = client.check(bare("GET", &format!("/s/{query}")), 200).await;
        assert_eq!(answer.body, files[at].bytes, "{query}");
        let named = format!("attachment; filename=\"{}\"", files[at].filename);
        assert_eq!(answer.header("content-disposition"), Some(named.as_str()));
    }
    for query in ["forbidden-fruit==7", "nothing", "forbidden-fruit;bz2"] {
        let answer = client.check(bare("GET", &format!("/s/{query}")), 404).await;
        assert_eq!(answer.text(), "package not found\n");
    }
    for query in ["foo==", "foo~=1", "foo%20==1", "foo;a;b"] {
        let answer = client.check(bare("GET", &format!("/s/{query}")), 400).await;
        assert!(answer.text().starts_with("your query is wrong"), "{}", answer.text());
    }
}

#[tokio::test]
async fn what_does_not_parse_is_refused_before_it_is_stored() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let file = Distribution::pure("a", "1");
    let mut two = Form::default();
    two.file("a", "a", &file.bytes);
    two.file("b", "b", &file.bytes);
    let mut named = Form::default();
    named.file("x", "x", &file.bytes);
    for (form, path) in [
        (&named, "/p/README"),
        (&named, "/p/a-1.exe"),
        (&named, "/p/b-1-py3-none-any.whl"),
        (&two, "/p/a-1-py3-none-any.whl"),
        (&Form::default().add("a", "b"), "/p/a-1-py3-none-any.whl"),
    ] {
        client.check(form.send("PUT", path), 400).await;
    }
    gateway.holds(&[]).await;
    client.check(named.send("PUT", "/p/a-1-py3-none-any.whl"), 200).await;
}

#[tokio::test]
async fn the_challenge_is_curdlings() {
    let users = Some("ann:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n".to_owned());
    let gateway = TestGateway::with(Options { users, ..Options::default() });
    for path in ["/api", "/api/a", "/p/a-1.zip", "/s/a", "/"] {
        let answer = gateway.client().check(bare("GET", path), 401).await;
        assert_eq!(answer.header("www-authenticate"), Some("Basic realm=\"Login Required\""), "{path}");
    }
    let deleted = gateway
        .client()
        .check(request("DELETE", "/").body(crate::support::http::empty()).unwrap(), 401)
        .await;
    assert_eq!(deleted.header("www-authenticate"), Some("Basic realm=\"larder\", charset=\"UTF-8\""));
}

#[tokio::test]
async fn addresses_are_those_that_a_trusted_proxy_is_seen_at() {
    let file = Distribution::pure("a", "1");
    let here = Proxies::new(vec!["127.0.0.0/8".parse().unwrap()]);
    for (proxies, trusted) in [(here, true), (Proxies::default(), false)] {
        let gateway = TestGateway::with(Options { proxies, ..Options::default() });
        let client = gateway.client();
        client.check(put(&file), 200).await;
        for (name, value) in [
            ("forwarded", "for=192.0.2.1;proto=https;host=cache.example"),
            ("x-forwarded-host", "cache.example"),
        ] {
            let asked = request("GET", "/api/a").header(name, value).header("x-forwarded-proto", "https");
            let asked =
                asked.header("x-forwarded-prefix", "/py").body(crate::support::http::empty()).unwrap();
            let found: Value = serde_json::from_slice(&client.check(asked, 200).await.body).unwrap();
            let origin = match trusted {
                true => "https://cache.example/py".to_owned(),
                false => format!("http://{}", gateway.addr()),
            };
            assert_eq!(found[0]["urls"][0]["url"], format!("{origin}/p/{}", file.filename));
        }
    }
}

#[tokio::test]
async fn linux_tags_are_taken_where_the_operator_says_so() {
    let file = Distribution::wheel("a", "1", "cp312-cp312-linux_x86_64", b"x");
    let strict = TestGateway::start();
    let refused = strict.client().check(put(&file), 400).await;
    assert!(refused.text().contains("/built/ENVIRONMENT/legacy/"), "{}", refused.text());
    strict.holds(&[]).await;
    let wheels = Wheels { linux_tags: true, folder: false };
    let lax = TestGateway::with(Options { wheels, ..Options::default() });
    lax.client().check(put(&file), 200).await;
    assert_eq!(super::files(&lax.client(), "/simple/a/").await, [file.filename]);
}
