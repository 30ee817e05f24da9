//! Each mistake that somebody can make is found, and nothing else is.

use larder::config::{Expiry, Fraction};
use larder::lifecycle::{Bucket, Finding, Weight, check, check_refresh};
use larder::store::lifecycle::Place;

use super::{DAY, everything, xml};

/// A rule of others that is no business of ours.
const LOGS: &str = "<Rule><ID>logs</ID><Filter><Prefix>logs/</Prefix></Filter><Status>Enabled</Status>\
                    <Expiration><Days>1</Days></Expiration></Rule>";

fn place() -> Place {
    Place { bucket: "b".to_owned(), root: "cache/team".parse().unwrap() }
}

/// A bucket as it should be, with this rule beside ours.
fn with(rule: &str) -> String {
    xml(&Expiry::default(), &place())
        .replace("</LifecycleConfiguration>", &format!("{LOGS}{rule}</LifecycleConfiguration>"))
}

/// A rule of others.
fn theirs(prefix: &str, does: &str) -> String {
    with(&format!(
        "<Rule><ID>theirs</ID><Filter><Prefix>{prefix}</Prefix></Filter><Status>Enabled</Status>{does}</Rule>"
    ))
}

fn days(days: u32) -> String {
    format!("<Expiration><Days>{days}</Days></Expiration>")
}

fn moves(days: u32, class: &str) -> String {
    format!("<Transition><Days>{days}</Days><StorageClass>{class}</StorageClass></Transition>")
}

/// The bucket as it should be, with one thing of it exchanged.
fn but(what: &str, with_this: &str) -> String {
    let good = with("");
    assert!(good.contains(what), "{what}");
    good.replacen(what, with_this, 1)
}

/// Our rule for artifacts.
fn artifacts() -> String {
    with("").split_inclusive("</Rule>").next().unwrap().split_once("\">").unwrap().1.to_owned()
}

fn found(expiry: &Expiry, rules: Option<&str>, versioned: bool, server: Option<&str>) -> Vec<Finding> {
    check(expiry, &Bucket { place: &place(), rules, versioned, server })
}

/// What is found: which sort, how much it matters, and of which rule.
fn sorts(found: &[Finding]) -> Vec<(&str, Weight, &str)> {
    found.iter().map(|one| (one.id, one.weight, one.rule.as_deref().unwrap_or_default())).collect()
}

#[track_caller]
fn finds(rules: &str, expected: &[(&str, &str)]) {
    let all = found(&Expiry::default(), Some(rules), true, None);
    let expected: Vec<_> = expected.iter().map(|(id, rule)| (*id, Weight::Problem, *rule)).collect();
    assert_eq!(sorts(&all), expected, "{rules}\n{all:#?}");
    for Finding { what, means, mend, .. } in &all {
        assert!(!what.is_empty() && !means.is_empty(), "{all:#?}");
        assert!(
            mend.contains("larder lifecycle apply --store s3://b/cache/team") || mend.contains("--bucket b"),
            "{mend}"
        );
    }
}

const ARTIFACTS: &str = "larder-artifacts:cache/team";

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    finds(&with(""), &[]);
    for versioned in [false, true] {
        let good = xml(&everything(), &place());
        assert_eq!(found(&everything(), Some(&good), versioned, Some("AmazonS3")), []);
    }
    let none =
        Expiry { artifacts: None, please: None, wheels: None, built: None, uploads: None, noncurrent: None };
    assert_eq!(found(&none, None, true, None), []);
}

#[test]
fn what_is_missing_is_found() {
    finds(&but(&artifacts(), ""), &[("rule-missing", ARTIFACTS)]);
    finds(
        &but("<ID>larder-please:cache/team<", "<ID>larder-please:cache/tee<"),
        &[("rule-missing", "larder-please:cache/team")],
    );
    let uploads = "larder-uploads-please:cache/team";
    finds(&but(&format!("<ID>{uploads}<"), "<ID>x<"), &[("rule-missing", uploads)]);
    let old = "larder-noncurrent-wheels:cache/team";
    finds(&but(&format!("<ID>{old}<"), "<ID>x<"), &[("rule-missing", old)]);
    // Without versions that is no harm yet.
    let idle = found(&Expiry::default(), Some(&but(&format!("<ID>{old}<"), "<ID>x<")), false, None);
    assert_eq!(sorts(&idle), [("rule-missing", Weight::Note, old)]);
    for nothing in [None, Some("<LifecycleConfiguration/>")] {
        let all = found(&Expiry::default(), nothing, false, None);
        assert_eq!(sorts(&all), [("rules-missing", Weight::Problem, "")]);
    }
}

#[test]
fn what_is_wrong_with_ours_is_found() {
    finds(&but("<Status>Enabled<", "<Status>Disabled<"), &[("rule-disabled", ARTIFACTS)]);
    finds(&but("<Days>30<", "<Days>29<"), &[("rule-days", ARTIFACTS)]);
    finds(&but("<Days>30<", "<Days>3000<"), &[("rule-days", ARTIFACTS)]);
    for prefix in ["", "cache/team/", "cache/team/artifact", "artifact/", "cache/team/artifact/linux_amd64/"]
    {
        finds(
            &but("<Prefix>cache/team/artifact/<", &format!("<Prefix>{prefix}<")),
            &[("rule-prefix", ARTIFACTS)],
        );
    }
    let date = "<Date>2020-01-01T00:00:00.000Z</Date>";
    finds(&but("<Days>30</Days>", date), &[("rule-date", ARTIFACTS)]);
    let filter = "<Filter><Prefix>cache/team/artifact/</Prefix></Filter>";
    for more in [
        "<Tag><Key>a</Key><Value>b</Value></Tag>",
        "<ObjectSizeGreaterThan>9</ObjectSizeGreaterThan>",
        "<ObjectSizeLessThan>9</ObjectSizeLessThan>",
    ] {
        let narrow = format!("<Filter><And><Prefix>cache/team/artifact/</Prefix>{more}</And></Filter>");
        finds(&but(filter, &narrow), &[("rule-filter", ARTIFACTS)]);
    }
    finds(&but(&days(30), &(days(30) + &moves(1, "GLACIER"))), &[("rule-does", ARTIFACTS)]);
    finds(&but(&days(30), ""), &[("rule-does", ARTIFACTS)]);
    finds(&but(&artifacts(), &artifacts().repeat(2)), &[("rule-twice", ARTIFACTS)]);
    let both = but("<Days>30<", "<Days>31<").replacen("<Status>Enabled<", "<Status>Disabled<", 1);
    finds(&both, &[("rule-disabled", ARTIFACTS), ("rule-days", ARTIFACTS)]);
    let extra = "larder-wheels:cache/team";
    let all = found(&Expiry::default(), Some(&xml(&everything(), &place())), true, None);
    assert_eq!(sorts(&all), [("rule-extra", Weight::Problem, extra)]);
}

#[test]
fn what_others_do_to_us_is_found() {
    finds(&theirs("", &days(29)), &[("others-whole-bucket", "theirs")]);
    // Distributions of the shared index are kept for ever.
    finds(&theirs("", &days(2000)), &[("others-whole-bucket", "theirs")]);
    finds(&theirs("cache/", &days(7)), &[("others-expire", "theirs")]);
    finds(&theirs("cache/team/please/ab/", &days(7)), &[("others-expire", "theirs")]);
    finds(
        &theirs("cache/team/please/", "<Expiration><Date>2090-01-01T00:00:00Z</Date></Expiration>"),
        &[("others-expire", "theirs")],
    );
    finds(&theirs("cache/team/wheels/shared/", &days(9999)), &[("others-expire", "theirs")]);
    for class in ["GLACIER", "DEEP_ARCHIVE"] {
        finds(&theirs("cache/team/artifact/", &moves(0, class)), &[("others-archive", "theirs")]);
        finds(&theirs("", &moves(60, class)), &[("others-archive", "theirs")]);
    }
    finds(
        &theirs("", &(days(2) + &moves(1, "GLACIER"))),
        &[("others-whole-bucket", "theirs"), ("others-archive", "theirs")],
    );
    // As rules were written before 2016.
    let old = "<Rule><ID>old</ID><Prefix>cache/</Prefix><Status>Enabled</Status><Expiration><Days>3</Days></Expiration></Rule>";
    finds(&with(old), &[("others-expire", "old")]);
    let sized = "<Rule><ID>s</ID><Filter><And><Prefix/><ObjectSizeLessThan>9</ObjectSizeLessThan></And></Filter>\
                 <Status>Enabled</Status><Expiration><Days>3</Days></Expiration></Rule>";
    finds(&with(sized), &[("others-whole-bucket", "s")]);
}

#[test]
fn what_others_do_elsewhere_is_theirs() {
    for harmless in [
        theirs("cache/team/artifact/", &days(30)),
        theirs("cache/team2/", &days(1)),
        theirs("cache/team/artifacts/", &days(1)),
        theirs("", &moves(1, "INTELLIGENT_TIERING")),
        theirs("cache/team/artifact/", &moves(30, "GLACIER")),
        theirs(
            "",
            "<AbortIncompleteMultipartUpload><DaysAfterInitiation>7</DaysAfterInitiation></AbortIncompleteMultipartUpload>",
        ),
        theirs("", "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>"),
        theirs(
            "",
            "<NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays></NoncurrentVersionExpiration>",
        ),
        theirs("", &days(1)).replace(
            "<ID>theirs</ID><Filter><Prefix></Prefix>",
            "<ID>theirs</ID><Filter><Tag><Key>a</Key><Value>b</Value></Tag>",
        ),
    ] {
        finds(&harmless, &[]);
    }
    let disabled = theirs("", &days(1));
    let at = disabled.rfind("Enabled").unwrap();
    finds(&format!("{}Disabled{}", &disabled[..at], &disabled[at + 7..]), &[]);
}

#[test]
fn what_a_server_cannot_carry_is_said() {
    let without: String =
        with("").split_inclusive("</Rule>").filter(|rule| !rule.contains("uploads")).collect();
    let all = found(&Expiry::default(), Some(&without), false, Some("MinIO"));
    assert_eq!(sorts(&all), [("server-uploads", Weight::Note, "")]);
    assert!(all[0].what.contains("MinIO"));
    let none = Expiry { uploads: None, ..Expiry::default() };
    assert_eq!(found(&none, Some(&without), false, Some("MinIO")), []);
    assert_eq!(found(&Expiry::default(), Some(&without), false, Some("AmazonS3")).len(), 3);
}

#[test]
fn flags_that_no_rule_can_keep_are_found() {
    for time in [DAY / 2, DAY + DAY / 24] {
        let odd = Expiry { please: Some(time), uploads: Some(time), ..Expiry::default() };
        let all = found(&odd, Some(&with("")), false, None);
        let problem = ("expiry-days", Weight::Problem, "");
        assert_eq!(sorts(&all), [problem, problem]);
        assert!(
            all[0].what.contains("--expire-please") && all[1].what.contains("--expire-uploads"),
            "{all:#?}"
        );
    }
    let note = check_refresh(&Expiry::default(), None).unwrap();
    assert_eq!((note.id, note.weight), ("refresh-off", Weight::Note));
    assert_eq!(check_refresh(&Expiry::default(), Some(Fraction::default())), None);
    let never = Expiry { artifacts: None, please: None, wheels: None, built: None, ..Expiry::default() };
    assert_eq!(check_refresh(&never, None), None);
}

#[test]
fn what_cannot_be_read_is_said() {
    for wrong in [
        "",
        "<LifecycleConfiguration>",
        "<!DOCTYPE x [<!ENTITY a 'b'>]><LifecycleConfiguration>&a;</LifecycleConfiguration>",
    ] {
        finds(wrong, &[("rules-unreadable", "")]);
    }
}
