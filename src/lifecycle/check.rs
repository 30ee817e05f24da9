//! A bucket's rules held against what the gateway is told: each mistake, what it means for the cache, and its mend.
//!
//! Pure; asks no bucket. What others' rules do is looked at only where it falls on our places.

use serde::Serialize;

use super::read::{Does, Found, expected, read};
use super::wanted::{Action, Kept, Rule, Unfit, days, is_noncurrent, is_uploads, kept, ours, plural, wanted};
use crate::config::{Expiry, Fraction};
use crate::store::lifecycle::Place;

/// Classes of storage whose objects cannot be read until somebody has asked for them hours before (S3 "Storage classes").
const ARCHIVES: [&str; 2] = ["GLACIER", "DEEP_ARCHIVE"];

/// How `Server` of their answers begins for servers that take no rule about incomplete uploads.
const NO_UPLOADS: [&str; 1] = ["MinIO"];

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Weight {
    /// It should be mended.
    Problem,
    /// It should be known.
    Note,
}

/// One thing that is not as the gateway's flags want it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which sort of mistake: one word for scripts.
    pub id: &'static str,
    /// How much it matters.
    pub weight: Weight,
    /// The rule that it is about, by its name in the bucket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// What is wrong.
    pub what: String,
    /// What that means for the cache.
    pub means: String,
    /// What to do, as a command.
    pub mend: String,
}

/// What is known of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket<'b> {
    /// Where in which bucket the store lies.
    pub place: &'b Place,
    /// Its rules, as it gave them; `None` where it has none.
    pub rules: Option<&'b str>,
    /// Whether it keeps what was overwritten or deleted.
    pub versioned: bool,
    /// What its server calls itself.
    pub server: Option<&'b str>,
}

/// Whether a server of this name takes rules about incomplete uploads.
pub(super) fn carries_uploads(server: Option<&str>) -> bool {
    !server.is_some_and(|server| NO_UPLOADS.iter().any(|name| server.starts_with(name)))
}

/// Everything that is wrong with a bucket's rules; nothing where they are what the flags say.
pub fn check(expiry: &Expiry, bucket: &Bucket<'_>) -> Vec<Finding> {
    let root = &bucket.place.root;
    let unfit = unfit(expiry);
    let Ok(mut wanted) = wanted(expiry, root) else { return unfit };
    let rules = match bucket.rules.map(read).transpose() {
        Ok(read) => read.unwrap_or_default().rules,
        Err(error) => return vec![unreadable(&error.to_string(), bucket)],
    };
    let mut all = Vec::new();
    if !carries_uploads(bucket.server) {
        let before = wanted.len();
        wanted.retain(|rule| !is_uploads(&rule.id, root));
        all.extend((wanted.len() < before).then(uploads_uncarried));
    }
    let names = ours(root);
    let (mine, others): (Vec<&Found>, Vec<&Found>) =
        rules.iter().partition(|found| names.contains(&found.id));
    if mine.is_empty() && !wanted.is_empty() {
        all.push(none_at_all(bucket, &wanted));
    } else {
        all.extend(wanted.iter().flat_map(|rule| one(rule, &mine, bucket)));
    }
    let extra = mine.iter().filter(|found| !wanted.iter().any(|rule| rule.id == found.id));
    all.extend(extra.map(|found| surplus(found, bucket)));
    let places = kept(expiry, root);
    all.extend(others.iter().flat_map(|found| foreign(found, &places, bucket)));
    all
}

/// What is to be known where uses do not make objects young again.
pub fn check_refresh(expiry: &Expiry, refresh: Option<Fraction>) -> Option<Finding> {
    let expires = expiry.artifacts.or(expiry.please).or(expiry.wheels).or(expiry.built).is_some();
    (refresh.is_none() && expires).then(|| Finding {
        id: "refresh-off",
        weight: Weight::Note,
        rule: None,
        what: "--refresh is off, and objects expire".to_owned(),
        means: "objects go by their age since they were stored, however much they are used: what every build needs is \
                built anew each time its days are over"
            .to_owned(),
        mend: "larder serve --refresh 0.5".to_owned(),
    })
}

/// What is to be said where a server knows no rules.
pub(super) fn unsupported(place: &Place, expiry: &Expiry, why: &str) -> Finding {
    let places = [
        ("artifact", expiry.artifacts),
        ("please", expiry.please),
        ("wheels/shared", expiry.wheels),
        ("wheels/built", expiry.built),
    ];
    let sweeps: Vec<String> = places
        .into_iter()
        .filter_map(|(prefix, time)| {
            let time = humantime::format_duration(time?).to_string().replace(' ', "");
            Some(format!("larder sweep --store {place} --prefix {prefix} --max-age {time} --every 6h"))
        })
        .collect();
    Finding {
        id: "server-rules",
        weight: if sweeps.is_empty() { Weight::Note } else { Weight::Problem },
        rule: None,
        what: format!("the server of this bucket carries no rules at all ({why})"),
        means: "nothing expires: the store grows until somebody sweeps it".to_owned(),
        mend: sweeps.join("; "),
    }
}

fn unfit(expiry: &Expiry) -> Vec<Finding> {
    let flags = [
        ("--expire-artifacts", expiry.artifacts),
        ("--expire-please", expiry.please),
        ("--expire-wheels", expiry.wheels),
        ("--expire-built", expiry.built),
        ("--expire-uploads", expiry.uploads),
        ("--expire-noncurrent", expiry.noncurrent),
    ];
    let wrong = flags.into_iter().filter_map(|(flag, time)| days(flag, time).err());
    let finding = |unfit: Unfit| {
        Finding {
        id: "expiry-days",
        weight: Weight::Problem,
        rule: None,
        what: unfit.to_string(),
        means: "no rule of the bucket can mean the same as this flag, so the gateway refreshes objects too early or too \
                late; nothing else was compared"
            .to_owned(),
        mend: match unfit.flag {
            flag @ ("--expire-uploads" | "--expire-noncurrent") => format!("larder lifecycle apply {flag} 1d"),
            flag => format!("larder serve {flag} 30d"),
        },
    }
    };
    wrong.map(finding).collect()
}

fn unreadable(why: &str, bucket: &Bucket<'_>) -> Finding {
    Finding {
        id: "rules-unreadable",
        weight: Weight::Problem,
        rule: None,
        what: why.to_owned(),
        means: "nobody can tell what expires; `larder lifecycle apply` leaves such a bucket alone".to_owned(),
        mend: show(bucket),
    }
}

fn uploads_uncarried() -> Finding {
    Finding {
        id: "server-uploads",
        weight: Weight::Note,
        rule: None,
        what: "this server (MinIO) carries no rules for incomplete uploads: it refuses them, or drops them without a word"
            .to_owned(),
        means: "uploads that broke are removed by each gateway after --leftover-age, and by MinIO itself after its \
                stale_uploads_expiry"
            .to_owned(),
        mend: "mc admin config set ALIAS api stale_uploads_expiry=24h".to_owned(),
    }
}

fn none_at_all(bucket: &Bucket<'_>, wanted: &[Rule]) -> Finding {
    Finding {
        id: "rules-missing",
        weight: Weight::Problem,
        rule: None,
        what: format!("none of the {} rules that the flags want is in {}", wanted.len(), bucket.place),
        means: "nothing expires by these flags: the cache grows for ever".to_owned(),
        mend: apply(bucket),
    }
}

fn apply(bucket: &Bucket<'_>) -> String {
    format!("larder lifecycle apply --store {}", bucket.place)
}

fn show(bucket: &Bucket<'_>) -> String {
    format!("aws s3api get-bucket-lifecycle-configuration --bucket {}", bucket.place.bucket)
}

/// What a rule's absence means.
fn without(rule: &Rule, versioned: bool) -> String {
    match rule.action {
        Action::Expire(_) => format!("nothing in {} expires: it grows for ever", rule.prefix),
        Action::Uploads(_) => format!(
            "parts of uploads to {} that broke are kept, invisible and paid for, until a gateway removes them",
            rule.prefix
        ),
        Action::Noncurrent(_) if versioned => format!(
            "the bucket keeps versions: what expires or is replaced in {} is still there, and still paid for",
            rule.prefix
        ),
        Action::Noncurrent(_) => {
            format!("nothing now; once the bucket keeps versions, nothing in {} would really go", rule.prefix)
        }
    }
}

/// Whether a rule of ours is there, once, and says what it should.
fn one(rule: &Rule, mine: &[&Found], bucket: &Bucket<'_>) -> Vec<Finding> {
    let idle = !bucket.versioned && is_noncurrent(&rule.id, &bucket.place.root);
    let finding = |id: &'static str, what: String, means: String| Finding {
        id,
        weight: if idle { Weight::Note } else { Weight::Problem },
        rule: Some(rule.id.clone()),
        what,
        means,
        mend: apply(bucket),
    };
    let same: Vec<&&Found> = mine.iter().filter(|found| found.id == rule.id).collect();
    let Some(found) = same.first() else {
        let what = format!("there is no rule {}", rule.id);
        return vec![finding("rule-missing", what, without(rule, bucket.versioned))];
    };
    let wrong = differences(rule, found).into_iter();
    let mut all: Vec<Finding> = wrong.map(|(id, what, means)| finding(id, what, means)).collect();
    if same.len() > 1 {
        let what = format!("{} rules are called {}", same.len(), rule.id);
        let means =
            "which of them the server goes by, nobody knows; the shortest time of all wins".to_owned();
        all.push(finding("rule-twice", what, means));
    }
    all
}

fn differences(rule: &Rule, found: &Found) -> Vec<(&'static str, String, String)> {
    let mut all = Vec::new();
    let gone = || without(rule, true);
    if !found.enabled {
        all.push(("rule-disabled", format!("{} is disabled", rule.id), gone()));
    }
    if found.prefix != rule.prefix {
        let what = format!("{} is about {:?}, not {:?}", rule.id, found.prefix, rule.prefix);
        let inside = rule.prefix.starts_with(&found.prefix);
        let means = if inside { "others' objects expire with ours".to_owned() } else { gone() };
        all.push(("rule-prefix", what, means));
    }
    if found.tags || found.sizes {
        let what = format!("{} is only for objects with some tag, size or the like", rule.id);
        all.push((
            "rule-filter",
            what,
            "objects that it leaves out never go; Larder sets no tags".to_owned(),
        ));
    }
    if found.does != expected(rule.action) {
        all.push(other_deed(rule, found));
    }
    all
}

fn other_deed(rule: &Rule, found: &Found) -> (&'static str, String, String) {
    let dated =
        found.does.iter().find_map(|done| if let Does::Date(date) = done { Some(date) } else { None });
    if let Some(date) = dated {
        let what = format!("{} goes by the date {date}, not by age", rule.id);
        return (
            "rule-date",
            what,
            "from that day on everything in its place goes as soon as it is stored".to_owned(),
        );
    }
    let is = match (rule.action, found.does.as_slice()) {
        (Action::Expire(_), [Does::Days(is)]) | (Action::Uploads(_), [Does::Uploads(is)]) => Some(*is),
        (Action::Noncurrent(_), [Does::Markers, Does::Noncurrent(is)]) => Some(*is),
        (Action::Expire(_) | Action::Uploads(_) | Action::Noncurrent(_), _) => None,
    };
    let (Action::Expire(wanted) | Action::Uploads(wanted) | Action::Noncurrent(wanted)) = rule.action;
    match is {
        Some(is) => {
            let what = format!("{} says {}, the flags say {}", rule.id, plural(is), plural(wanted));
            let means = match is < wanted {
                true => {
                    "it goes before the gateway's refreshing, which goes by the flags, has made it young again"
                }
                false => "it is kept longer than was asked for",
            };
            ("rule-days", what, means.to_owned())
        }
        None => {
            let what = format!("{} does something else than its name says: {:?}", rule.id, found.does);
            ("rule-does", what, "what happens in its place is not what the flags say".to_owned())
        }
    }
}

fn surplus(found: &Found, bucket: &Bucket<'_>) -> Finding {
    Finding {
        id: "rule-extra",
        weight: Weight::Problem,
        rule: Some(found.id.clone()),
        what: format!("there is a rule {}, and the flags say `never` there", found.id),
        means: format!("what lies in {} goes, and nobody may be there to make it again", found.prefix),
        mend: apply(bucket),
    }
}

/// Whether this takes objects sooner than they are to go, if ever.
fn takes_sooner(done: &Does, ours: Option<u32>) -> bool {
    match done {
        Does::Days(theirs) => ours.is_none_or(|ours| *theirs < ours),
        Does::Date(_) => true,
        Does::Markers | Does::Noncurrent(_) | Does::Uploads(_) | Does::Moves { .. } | Does::Other(_) => false,
    }
}

/// Whether this moves objects to where they cannot be read, before they go.
fn archives(done: &Does, ours: Option<u32>) -> bool {
    let Does::Moves { class, days } = done else { return false };
    let gone_before = days.zip(ours).is_some_and(|(days, ours)| ours <= days);
    ARCHIVES.contains(&class.as_str()) && !gone_before
}

/// What a rule of others does to our places.
fn foreign(found: &Found, places: &[Kept], bucket: &Bucket<'_>) -> Vec<Finding> {
    // What Larder stores has no tags.
    if !found.enabled || found.tags {
        return Vec::new();
    }
    let met =
        |place: &&Kept| place.prefix.starts_with(&found.prefix) || found.prefix.starts_with(&place.prefix);
    let struck = |hits: &dyn Fn(&Does, Option<u32>) -> bool| -> Vec<&str> {
        let hit = places.iter().filter(met).filter(|place| {
            let ours = days(place.flag, place.time).ok().flatten();
            found.does.iter().any(|done| hits(done, ours))
        });
        hit.map(|place| place.prefix.as_str()).collect()
    };
    let (sooner, archived) = (struck(&takes_sooner), struck(&archives));
    let finding = |id, what: &str, means: &str, places: &[&str]| Finding {
        id,
        weight: Weight::Problem,
        rule: Some(found.id.clone()),
        what: format!("{} {what} {}", whose(found), places.join(", ")),
        means: means.to_owned(),
        mend: format!("{}  # give {:?} another prefix, and put it back", show(bucket), found.id),
    };
    let expires = if found.prefix.is_empty() { "others-whole-bucket" } else { "others-expire" };
    let mut all = Vec::new();
    if !sooner.is_empty() {
        let means = "of all rules the one with the shortest time wins: objects go before the gateway thinks so, \
                     those in use too, and distributions whose makers may be gone";
        all.push(finding(expires, "expires sooner than the flags say what lies in", means, &sooner));
    }
    if !archived.is_empty() {
        let means = "an archived object cannot be read at once: each hit on one is an error";
        all.push(finding("others-archive", "moves to an archive what lies in", means, &archived));
    }
    all
}

fn whose(found: &Found) -> String {
    let about =
        if found.prefix.is_empty() { "the whole bucket".to_owned() } else { format!("{:?}", found.prefix) };
    format!("the rule {:?}, which is not Larder's and about {about},", found.id)
}
