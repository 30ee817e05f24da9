//! What people see in a browser.

use crate::support::gateway::TestGateway;
use crate::support::http::{bare, with_body};
use crate::support::python::Distribution;

#[tokio::test]
async fn packages_releases_and_files_are_shown() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    assert!(client.check(bare("GET", "/"), 200).await.text().contains("Nothing has been uploaded yet."));
    let (old, new) = (Distribution::source("Foo.Bar", "1.9"), Distribution::pure("Foo.Bar", "1.10"));
    for file in [&old, &new, &Distribution::pure("other", "1")] {
        client.check(file.upload(), 200).await;
    }
    let yank = format!("/simple/foo-bar/{}/yank", old.filename);
    client.check(with_body("PUT", &yank, "1 < 2"), 200).await;

    let home = client.check(bare("GET", "/"), 200).await;
    assert_eq!(home.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(home.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
    let text = home.text();
    for part in ["2 packages", "<a href=\"project/foo-bar\">foo-bar</a>", "name=\"viewport\""] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let install = format!("<span>http://{}/simple/</span> <span>PACKAGE</span>", gateway.addr());
    assert!(text.contains(&install), "{text}");
    assert!(!text.contains("<script"));
    let found = client.check(bare("GET", "/?q=Foo_"), 200).await.text();
    assert!(found.contains("1 of 2 packages") && !found.contains("project/other"), "{found}");

    let page = client.check(bare("GET", "/project/Foo_Bar"), 200).await.text();
    let at = |part: &str| page.find(part).unwrap_or_else(|| panic!("{part}: {page}"));
    assert!(at("<span>foo-bar</span></code>") < at("<h2>1.10</h2>"));
    assert!(at("<h2>1.10</h2>") < at("<h2>1.9</h2>"));
    at("<b>yanked</b>: 1 &lt; 2");
    at("Python &gt;=3.8");
    for file in [&old, &new] {
        at(&format!("href=\"..{}\"", file.path()));
    }
    client.check(bare("GET", "/project/absent"), 404).await;
    client.check(bare("GET", "/project/-"), 404).await;
    client.check(bare("GET", "/project/"), 404).await;
}
