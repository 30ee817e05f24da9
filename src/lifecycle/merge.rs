//! From the rules that a bucket has to those that it should have: the difference, and the text to send.
//!
//! The new text is the old one but for our own rules: they are cut out, exchanged or added, and every other byte stays where
//! it is, whatever it means.

use std::ops::Range;

use super::read::{Found, RULES, Read, Unreadable, read};
use super::render;
use super::wanted::Rule;

/// What becomes of a rule of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is there as it should be.
    Same,
    /// It is new.
    Add,
    /// It is there and says something else.
    Alter,
    /// It is there and should not be.
    Drop,
}

/// One line of a difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What becomes of it.
    pub change: Change,
    /// What it says, or will say.
    pub rule: String,
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sign = match self.change {
            Change::Same => '=',
            Change::Add => '+',
            Change::Alter => '~',
            Change::Drop => '-',
        };
        write!(f, "{sign} {}", self.rule)
    }
}

/// What is to be done to a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Our rules, one by one.
    pub lines: Vec<Line>,
    /// How many rules are others'.
    pub others: usize,
    /// The text to send; `None` where no rule is left.
    pub text: Option<String>,
}

impl Plan {
    /// Whether anything is to be sent.
    pub fn changes(&self) -> bool {
        self.lines.iter().any(|line| line.change != Change::Same)
    }
}

/// More rules than a bucket can have, or a text that none can be taken out of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unplanned {
    /// The text.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// The number.
    #[error("the bucket would have {0} rules, and S3 allows 1000: {1} of them are others'")]
    Many(usize, usize),
}

/// Plans the change of a bucket's rules to those that are wanted, `ours` being the names of all that may be touched.
pub fn plan(current: Option<&str>, wanted: &[Rule], ours: &[String]) -> Result<Plan, Unplanned> {
    let Read { rules, end, namespace } = current.map(read).transpose()?.unwrap_or_default();
    let mut lines = Vec::new();
    let mut edits: Vec<(Range<usize>, String)> = Vec::new();
    let mut placed: Vec<&str> = Vec::new();
    let mut others = 0;
    for found in &rules {
        if !ours.contains(&found.id) {
            others += 1;
            continue;
        }
        let rule = wanted.iter().find(|rule| rule.id == found.id && !placed.contains(&rule.id.as_str()));
        placed.extend(rule.map(|rule| rule.id.as_str()));
        let (change, said, text) = decided(found, rule, namespace.as_deref());
        lines.push(Line { change, rule: said });
        edits.extend(text.map(|text| (found.at.clone(), text)));
    }
    let new: Vec<&Rule> = wanted.iter().filter(|rule| !placed.contains(&rule.id.as_str())).collect();
    lines.extend(new.iter().map(|rule| Line { change: Change::Add, rule: rule.to_string() }));
    let added: String = new.iter().map(|rule| render::rule_xml(rule, namespace.as_deref())).collect();
    let all = others + wanted.len();
    if all > RULES {
        return Err(Unplanned::Many(all, others));
    }
    let text = match (current, end) {
        _ if all == 0 => None,
        (Some(current), Some(end)) => {
            edits.push((end..end, added));
            Some(spliced(current, &edits))
        }
        // Nothing is there to be kept.
        (Some(_), None) | (None, _) => Some(render::xml(wanted)),
    };
    Ok(Plan { lines, others, text })
}

/// What becomes of a rule with one of our names: the change, what is said of it, and the text in its place if that is new.
fn decided(found: &Found, rule: Option<&Rule>, namespace: Option<&str>) -> (Change, String, Option<String>) {
    match rule {
        Some(rule) if found.is(rule) => (Change::Same, rule.to_string(), None),
        Some(rule) => (Change::Alter, rule.to_string(), Some(render::rule_xml(rule, namespace))),
        None => (Change::Drop, format!("{}: {}", found.id, found.prefix), Some(String::new())),
    }
}

/// A text with these parts of it exchanged, in their order.
fn spliced(text: &str, edits: &[(Range<usize>, String)]) -> String {
    let (mut new, mut at) = (String::with_capacity(text.len() + 1024), 0);
    for (range, with) in edits {
        new.push_str(text.get(at..range.start).unwrap_or_default());
        new.push_str(with);
        at = range.end;
    }
    new.push_str(text.get(at..).unwrap_or_default());
    new
}

/// What a bucket shows after a change, held against what was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// All of it.
    All,
    /// Others' rules, but not these of ours.
    Without(Vec<String>),
    /// Others' rules are not those that were sent.
    Not,
}

/// Compares what a bucket shows now with what was sent to it: a server may lay rules out anew, and their order means nothing.
pub fn kept(
    now: Option<&str>,
    sent: Option<&str>,
    wanted: &[Rule],
    ours: &[String],
) -> Result<Kept, Unreadable> {
    let rules = |text: Option<&str>| Ok(text.map(read).transpose()?.unwrap_or_default().rules);
    let others = |rules: &[Found]| {
        let others = rules.iter().filter(|found| !ours.contains(&found.id));
        let mut all: Vec<String> = others.map(|found| found.meaning.clone()).collect();
        all.sort_unstable();
        all
    };
    let (now, sent): (Vec<Found>, Vec<Found>) = (rules(now)?, rules(sent)?);
    if others(&now) != others(&sent) {
        return Ok(Kept::Not);
    }
    let is_there = |rule: &&Rule| now.iter().any(|found| found.id == rule.id && found.is(rule));
    let mut lost: Vec<String> =
        wanted.iter().filter(|rule| !is_there(rule)).map(|rule| rule.id.clone()).collect();
    let left = now.iter().filter(|found| ours.contains(&found.id));
    lost.extend(
        left.filter(|found| !wanted.iter().any(|rule| rule.id == found.id)).map(|found| found.id.clone()),
    );
    Ok(if lost.is_empty() { Kept::All } else { Kept::Without(lost) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Expiry;
    use crate::lifecycle::wanted::{ours, wanted};
    use crate::store::Prefix;
    use proptest::prelude::*;

    fn rules(place: &str) -> (Vec<Rule>, Vec<String>) {
        let root: Prefix = place.parse().unwrap();
        (wanted(&Expiry::default(), &root).unwrap(), ours(&root))
    }

    const THEIRS: &str = "<?xml version=\"1.0\"?>\n<LifecycleConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\n  \
        <Rule><ID>logs</ID> <Status>Enabled</Status><Filter><Prefix>logs/</Prefix></Filter><NewThing a='1'>&#x41;</NewThing></Rule>\
        <!-- mine --><Rule><ID>larder-please:other</ID><Status>Enabled</Status></Rule>\n</LifecycleConfiguration>\n";

    #[test]
    fn others_rules_stay_to_the_byte() {
        let (wanted, ours) = rules("");
        let plan1 = plan(Some(THEIRS), &wanted, &ours).unwrap();
        assert_eq!((plan1.others, plan1.lines.len(), plan1.changes()), (2, 9, true));
        let text = plan1.text.unwrap();
        let (before, end) = THEIRS.split_at(THEIRS.rfind("</LifecycleConfiguration>").unwrap());
        assert!(text.starts_with(before) && text.ends_with(end), "{text}");
        let again = plan(Some(&text), &wanted, &ours).unwrap();
        assert!(!again.changes());
        assert_eq!(again.text.as_deref(), Some(text.as_str()));
        let gone = plan(Some(&text), &[], &ours).unwrap();
        assert_eq!(gone.text.as_deref(), Some(THEIRS));
        assert_eq!(kept(Some(&text), Some(&text), &wanted, &ours), Ok(Kept::All));
        assert_eq!(kept(Some(THEIRS), Some(&text), &wanted, &ours).map(|kept| kept == Kept::All), Ok(false));
        assert_eq!(kept(None, Some(&text), &wanted, &ours), Ok(Kept::Not));
        let (others, names) = rules("elsewhere");
        assert_eq!(plan(Some(&text), &others, &names).unwrap().others, 2 + 9);
    }

    #[test]
    fn a_bucket_without_rules_gets_ours_and_loses_them() {
        let (wanted, ours) = rules("a b/\u{e9}&<");
        for nothing in [
            None,
            Some("<LifecycleConfiguration/>"),
            Some("<LifecycleConfiguration></LifecycleConfiguration>"),
        ] {
            let text = plan(nothing, &wanted, &ours).unwrap().text.unwrap();
            assert!(!plan(Some(&text), &wanted, &ours).unwrap().changes(), "{text}");
            let gone = plan(Some(&text), &[], &ours).unwrap();
            assert_eq!((gone.text, gone.lines.len()), (None, 9));
        }
    }

    #[test]
    fn what_is_changed_is_exchanged_in_its_place() {
        let (wanted, ours) = rules("");
        let text = plan(Some(THEIRS), &wanted, &ours).unwrap().text.unwrap();
        let broken = text.replacen("<Days>30</Days>", "<Days>31</Days>", 1);
        let mended = plan(Some(&broken), &wanted, &ours).unwrap();
        assert_eq!(mended.lines.iter().filter(|line| line.change == Change::Alter).count(), 1);
        assert_eq!(mended.text.as_deref(), Some(text.as_str()));
        let rule = render::rule_xml(&wanted[0], None);
        let twice = text.replacen(&rule, &format!("{rule}{rule}"), 1);
        let mended = plan(Some(&twice), &wanted, &ours).unwrap();
        assert_eq!(mended.lines.iter().filter(|line| line.change == Change::Drop).count(), 1);
        assert_eq!(mended.text, Some(text));
    }

    #[test]
    fn a_thousand_rules_are_the_end() {
        let (wanted, ours) = rules("");
        let full = |rules: usize| {
            let each: String = (0..rules).map(|n| format!("<Rule><ID>{n}</ID></Rule>")).collect();
            plan(Some(&format!("<LifecycleConfiguration>{each}</LifecycleConfiguration>")), &wanted, &ours)
        };
        assert!(full(991).is_ok());
        assert_eq!(full(992), Err(Unplanned::Many(1001, 992)));
    }

    #[test]
    fn prefixed_elements_get_rules_of_their_namespace() {
        let (wanted, ours) = rules("");
        let text = "<s:LifecycleConfiguration xmlns:s='urn:x'><s:Rule><s:ID>a</s:ID></s:Rule></s:LifecycleConfiguration>";
        let text = plan(Some(text), &wanted, &ours).unwrap().text.unwrap();
        assert_eq!(text.matches("<Rule xmlns=\"urn:x\">").count(), 9, "{text}");
        assert!(!plan(Some(&text), &wanted, &ours).unwrap().changes());
    }

    proptest! {
        /// Whatever others have, and wherever ours stand among it: others' texts come out as they went in.
        #[test]
        fn nothing_of_others_is_touched(
            parts in prop::collection::vec(
                prop_oneof![
                    "<Rule>( |\n)?<ID>[a-z]{1,5}</ID>(<X y='[a-z]'/>|<Z>&lt;[a-z]{0,3}</Z>|<!--[a-z<]*-->){0,3}</Rule>",
                    "( |\n|<!-- <Rule> -->)",
                    (0..9_usize).prop_map(|n| format!("{n}")),
                ],
                0..12,
            ),
        ) {
            let (wanted, ours) = rules("x");
            let with = |mine: &dyn Fn(usize) -> String| {
                let inner: String = parts
                    .iter()
                    .map(|part| part.parse().map_or_else(|_| part.clone(), mine))
                    .collect();
                format!("<LifecycleConfiguration>{inner}</LifecycleConfiguration>")
            };
            let before = with(&|n| render::rule_xml(&wanted[n], None));
            let none = with(&|_| String::new());
            let removed = plan(Some(&before), &[], &ours).unwrap();
            if removed.others > 0 {
                prop_assert_eq!(removed.text.as_deref(), Some(none.as_str()));
            }
            let applied = plan(Some(&before), &wanted, &ours).unwrap().text.unwrap();
            prop_assert!(!plan(Some(&applied), &wanted, &ours).unwrap().changes());
            prop_assert_eq!(kept(Some(&applied), Some(&before), &wanted, &ours), Ok(Kept::All));
            let back = plan(Some(&applied), &[], &ours).unwrap();
            prop_assert_eq!(back.text, removed.text);
        }
    }
}
