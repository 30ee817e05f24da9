//! What goes over the wire, and what is said of it, where the bucket's server does what it likes.

use http::Method;
use larder::config::{Expiry, Fraction};
use larder::lifecycle::{Error, Finding, Weight, apply, examine, remove};
use larder::store::Store;

use super::fake::{Fake, MINIMUM};
use super::{larder, said, texts};
use crate::support::backends::directory;
use crate::support::proxy::{Fault, FaultProxy};

/// Rules of others, with what no Larder knows among it.
const THEIRS: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<LifecycleConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\n\
    <Rule><ID>a</ID><Filter><Prefix>logs/</Prefix></Filter><Status>Enabled</Status><NewIn2030 mode='x'><Deep>&#65;&amp;</Deep></NewIn2030></Rule>\n\
    <Rule ><ID>larder-artifacts:other</ID><Status>Disabled</Status><Prefix>\u{e9}</Prefix><Expiration><Days>3</Days></Expiration></Rule></LifecycleConfiguration>";

async fn applied(store: &Store) -> Result<String, Error> {
    let mut out = Vec::new();
    apply(store, &Expiry::default(), false, &mut out).await.map(|()| String::from_utf8(out).unwrap())
}

async fn removed(store: &Store) -> Result<String, Error> {
    let mut out = Vec::new();
    remove(store, false, &mut out).await.map(|()| String::from_utf8(out).unwrap())
}

async fn examined(store: &Store) -> Vec<Finding> {
    examine(store, &Expiry::default(), Some(Fraction::default())).await.unwrap()
}

#[tokio::test]
async fn what_nobody_knows_survives() {
    let fake = Fake::start(Some(THEIRS));
    fake.held().minimum = Some("varies_by_storage_class".to_owned());
    let store = fake.store("team").await;
    let text = applied(&store).await.unwrap();
    assert!(text.ends_with("s3://bucket/team: done; 2 rules of others stayed as they were\n"), "{text}");
    let after = fake.held().text.clone().unwrap();
    assert_eq!(texts(&after)[..2], texts(THEIRS)[..]);
    assert_eq!(texts(&after).len(), 2 + 9);
    // The setting beside the text would be lost where it is not sent along.
    assert_eq!(fake.held().minimum.as_deref(), Some("varies_by_storage_class"));
    let put = fake.held().asked.iter().find(|asked| asked.method == Method::PUT).cloned().unwrap();
    assert_eq!(put.headers[MINIMUM], "varies_by_storage_class");
    assert_eq!(examined(&store).await, []);

    let text = applied(&store).await.unwrap();
    assert!(text.ends_with("s3://bucket/team: nothing to change; 2 rules are others'\n"), "{text}");
    assert_eq!(fake.held().count(&Method::PUT), 1);

    removed(&store).await.unwrap();
    assert_eq!(fake.held().text.as_deref(), Some(THEIRS));
    let text = removed(&store).await.unwrap();
    assert!(text.contains("nothing to change"), "{text}");
    let held = fake.held();
    assert_eq!((held.count(&Method::PUT), held.count(&Method::DELETE)), (2, 0));
}

#[tokio::test]
async fn the_last_rule_takes_the_rest_with_it() {
    let fake = Fake::start(None);
    let store = fake.store("team").await;
    applied(&store).await.unwrap();
    assert_eq!(fake.held().minimum, None);
    removed(&store).await.unwrap();
    let held = fake.held();
    assert_eq!((&held.text, held.count(&Method::DELETE)), (&None, 1));
}

#[tokio::test]
async fn two_in_one_bucket_do_not_fight() {
    let fake = Fake::start(Some(THEIRS));
    let (one, two) = (fake.store("one").await, fake.store("two").await);
    applied(&one).await.unwrap();
    applied(&two).await.unwrap();
    assert_eq!((examined(&one).await, examined(&two).await), (Vec::new(), Vec::new()));
    assert!(applied(&one).await.unwrap().contains("nothing to change; 11 rules"));
    removed(&one).await.unwrap();
    assert_eq!(examined(&two).await, []);
    removed(&two).await.unwrap();
    assert_eq!(fake.held().text.as_deref(), Some(THEIRS));
}

/// Somebody adds a rule at the request of this number, before it is answered.
fn edited_at(number: usize) -> Fake {
    Fake::beside(Some(THEIRS), move |_, held| {
        if held.asked.len() + 1 == number {
            let new = "<Rule><ID>new</ID></Rule></LifecycleConfiguration>";
            held.text = held.text.take().map(|text| text.replace("</LifecycleConfiguration>", new));
        }
    })
}

#[tokio::test]
async fn concurrent_edits_are_seen() {
    // Requests: look, look again, change, look at what came of it.
    let fake = edited_at(2);
    let store = fake.store("team").await;
    let error = applied(&store).await.unwrap_err();
    assert!(matches!(error, Error::Raced), "{error}");
    assert_eq!(fake.held().count(&Method::PUT), 0);
    assert!(fake.held().text.as_ref().unwrap().contains("<ID>new<"));
    // Again, as it says.
    assert!(applied(&store).await.unwrap().contains("3 rules of others stayed"));
    assert!(fake.held().text.as_ref().unwrap().contains("<ID>new<"));

    let fake = edited_at(4);
    let store = fake.store("team").await;
    let error = applied(&store).await.unwrap_err();
    assert!(matches!(error, Error::Overtaken), "{error}");
    let fake = edited_at(2);
    let (code, text) = said(&larder(&fake.server, "team", &["apply"]));
    assert!(code == 1 && text.contains("somebody else changed the bucket's rules"), "{code} {text}");
}

#[tokio::test]
async fn a_bucket_that_shows_the_old_rules_for_a_while_is_waited_for() {
    let mut kept = None;
    let fake = Fake::beside(Some(THEIRS), move |_, held| match held.asked.len() + 1 {
        4 => kept = held.text.replace(THEIRS.to_owned()),
        6 => held.text = kept.take(),
        _ => {}
    });
    applied(&fake.store("team").await).await.unwrap();
    let held = fake.held();
    assert_eq!((held.count(&Method::GET), held.count(&Method::PUT)), (2 + 3, 1));
}

#[tokio::test]
async fn what_a_server_cannot_carry_is_left_out_and_said() {
    for (server, puts) in [(Some("MinIO"), 1), (None, 2)] {
        let fake = Fake::start(Some(THEIRS));
        fake.held().server = server;
        fake.held().refuses = Some("AbortIncomplete");
        let store = fake.store("team").await;
        let text = applied(&store).await.unwrap();
        assert_eq!(text.matches("this server carries no such rule; left out").count(), 3, "{text}");
        assert_eq!(fake.held().count(&Method::PUT), puts);
        assert_eq!(texts(fake.held().text.as_ref().unwrap()).len(), 2 + 6);
        let found = examined(&store).await;
        let expected = if server.is_some() { vec!["server-uploads"] } else { vec!["rule-missing"; 3] };
        assert_eq!(found.iter().map(|finding| finding.id).collect::<Vec<_>>(), expected);
    }
    let fake = Fake::start(Some(THEIRS));
    fake.held().refuses = Some("larder-please:team");
    let error = applied(&fake.store("team").await).await.unwrap_err();
    assert!(matches!(&error, Error::Refused(why) if why == "InvalidArgument: as asked"), "{error}");
    assert_eq!(fake.held().text.as_deref(), Some(THEIRS));

    let fake = Fake::start(None);
    fake.held().forgets =
        Some("<NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays></NoncurrentVersionExpiration>");
    let error = applied(&fake.store("team").await).await.unwrap_err();
    assert!(
        matches!(&error, Error::Lost(rules) if rules.matches("larder-noncurrent-").count() == 3),
        "{error}"
    );
}

#[tokio::test]
async fn versions_make_old_ones_matter() {
    let fake = Fake::start(None);
    let store = fake.store("team").await;
    applied(&store).await.unwrap();
    let without: String = {
        let text = fake.held().text.clone().unwrap();
        text.split_inclusive("</Rule>").filter(|rule| !rule.contains("noncurrent-please")).collect()
    };
    for (versions, weight) in
        [("", Weight::Note), ("Enabled", Weight::Problem), ("Suspended", Weight::Problem)]
    {
        fake.held().text = Some(without.clone());
        fake.held().versions = versions;
        let found = examined(&store).await;
        assert_eq!(
            found.iter().map(|one| (one.id, one.weight)).collect::<Vec<_>>(),
            [("rule-missing", weight)]
        );
    }
}

#[tokio::test]
async fn nonsense_is_an_error_and_changes_nothing() {
    let bomb = "<!DOCTYPE x [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;&a;'>]><LifecycleConfiguration>&b;</LifecycleConfiguration>";
    let huge = format!("<LifecycleConfiguration>{}</LifecycleConfiguration>", "<Rule/>".repeat(1_500_000));
    assert!(huge.len() > 10 << 20);
    let thousand = format!("<LifecycleConfiguration>{}</LifecycleConfiguration>", "<Rule/>".repeat(1000));
    for (wrong, code, why) in [
        (bomb, 1, "no XML that can be read"),
        ("", 1, "no XML that can be read"),
        ("<html>It works!</html>", 1, "no LifecycleConfiguration but html"),
        (THEIRS.trim_end_matches("</LifecycleConfiguration>"), 1, "no XML that can be read"),
        (&thousand, 1, "S3 allows 1000"),
        (&huge, 3, "more than 4194304 bytes"),
    ] {
        let fake = Fake::start(Some(wrong));
        let (ended, text) = said(&larder(&fake.server, "team", &["apply"]));
        assert!(ended == code && text.contains(why), "{ended} {text}");
        assert_eq!(fake.held().count(&Method::PUT), 0);
        let (ended, text) = said(&larder(&fake.server, "team", &["check"]));
        assert!(
            ended == code && (text.contains(why) || text.contains("none of the 9 rules")),
            "{ended} {text}"
        );
    }
    let fake = Fake::start(Some(THEIRS));
    let proxy = FaultProxy::start(fake.server.endpoint.trim_start_matches("http://").parse().unwrap());
    proxy.set(Fault::CloseMidBody(100));
    let error = applied(&fake.store_at(&proxy.endpoint(), "team").await).await.unwrap_err();
    assert!(matches!(error, Error::Store(_)), "{error}");
    proxy.set(Fault::AccessDenied);
    let error = applied(&fake.store_at(&proxy.endpoint(), "team").await).await.unwrap_err();
    assert!(matches!(error, Error::Store(_)), "{error}");
    fake.is_untouched(THEIRS);
}

#[tokio::test]
async fn the_command_line_says_what_it_did() {
    let fake = Fake::start(Some(THEIRS));
    let run = |args: &[&str]| said(&larder(&fake.server, "team", args));
    let (code, text) = run(&["check"]);
    assert!(code == 1 && text.contains("PROBLEM rules-missing: none of the 9 rules"), "{text}");
    assert!(text.contains("mend:  larder lifecycle apply --store s3://bucket/team\n"), "{text}");
    let (code, text) = run(&["apply", "--dry-run"]);
    assert!(
        code == 0 && text.contains("+ larder-please:team: team/please/ expires after 30 days\n"),
        "{text}"
    );
    fake.is_untouched(THEIRS);
    let (code, text) = run(&["apply"]);
    assert!(
        code == 0 && text.ends_with("s3://bucket/team: done; 2 rules of others stayed as they were\n"),
        "{text}"
    );
    let (code, text) = run(&["check"]);
    assert_eq!((code, text.as_str()), (0, "s3://bucket/team: the rules are as the flags say\n"));
    let (code, text) = run(&["check", "--refresh", "off", "--expire-please", "14d", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &value["ok"], &value["place"]), (1, &false.into(), &"s3://bucket/team".into()));
    assert_eq!(
        (&value["findings"][0]["id"], &value["findings"][0]["weight"]),
        (&"rule-days".into(), &"problem".into())
    );
    assert_eq!(
        (&value["findings"][1]["id"], &value["findings"][1]["weight"]),
        (&"refresh-off".into(), &"note".into())
    );
    let (code, text) = run(&["apply", "--expire-please", "14d", "--expire-built", "never"]);
    assert_eq!(code, 0);
    for line in [
        "= larder-artifacts:team: ",
        "~ larder-please:team: team/please/ expires after 14 days",
        "- larder-built:team: ",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let (code, text) = run(&["remove", "-n"]);
    assert!(code == 0 && text.contains("- larder-please:team"), "{text}");
    let (code, _) = run(&["remove"]);
    assert_eq!((code, fake.held().text.as_deref()), (0, Some(THEIRS)));
    for args in [
        &["apply", "--expire-please", "12h"][..],
        &["print", "--expire-uploads", "25h"],
        &["apply", "--expire-built", "0d"],
        &[],
        &["nothing"],
    ] {
        assert_eq!(run(args).0, 2, "{args:?}");
    }
    let (code, text) = run(&["check", "--expire-please", "12h"]);
    assert!(code == 1 && text.contains("PROBLEM expiry-days: --expire-please is 12h"), "{text}");
}

#[tokio::test]
async fn printing_asks_no_bucket() {
    let fake = Fake::start(None);
    let run = |args: &[&str]| said(&larder(&fake.server, "team", args));
    let (code, text) = run(&["print"]);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, value["Rules"].as_array().map(Vec::len)), (0, Some(9)));
    let (code, text) = run(&["print", "--format", "xml", "--expire-wheels", "2y"]);
    assert_eq!((code, texts(&text).len()), (2, 0), "a year has a quarter of a day more than 365");
    let (code, text) = run(&["print", "--format", "xml", "--expire-wheels", "730d"]);
    assert_eq!((code, texts(&text).len()), (0, 10), "{text}");
    let (code, text) = run(&["print", "--format", "terraform"]);
    assert!(
        code == 0
            && text.contains("bucket = \"bucket\"")
            && text.contains("it owns all of the bucket's rules"),
        "{text}"
    );
    assert_eq!(fake.held().asked.len(), 0);
}

#[tokio::test]
async fn a_directory_has_no_rules() {
    let place = directory();
    assert!(matches!(applied(&place.store).await, Err(Error::Directory)));
    for what in ["print", "apply", "check", "remove"] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_larder"));
        command.env_clear().env("LARDER_STORE", place.root()).args(["lifecycle", what]);
        let (code, text) = said(&command.output().unwrap());
        assert!(code == 2 && text.contains("a directory has no rules"), "{what}: {text}");
    }
}
