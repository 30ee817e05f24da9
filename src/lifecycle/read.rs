//! A bucket's rules, read out of their XML: what of each rule matters here, and where in the text it stands.
//!
//! Never writes a rule again that it has read: what is others' stays the text that it was. Takes no document type, so no
//! entity grows, and no more than [`MOST`] bytes.

use std::ops::Range;

use roxmltree::{Document, Node, ParsingOptions};

use super::wanted::{Action, Rule};
use crate::store::lifecycle::MOST;

/// Most rules of a bucket (S3 "Lifecycle configuration elements").
pub const RULES: usize = 1000;

/// Most nodes of the text: some hundred for each rule.
const NODES: u32 = 500_000;

/// How deep elements may lie; S3's reach 6.
const DEPTH: usize = 32;

/// The text is no bucket's rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// More than [`MOST`] bytes.
    #[error("the bucket's rules have {0} bytes: more than S3 allows")]
    Long(usize),
    /// No XML.
    #[error("the bucket's rules are no XML that can be read: {0}")]
    Xml(String),
    /// XML of something else.
    #[error("the bucket's rules are no LifecycleConfiguration but {0}")]
    Other(String),
}

/// One thing that a rule does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Does {
    /// Objects expire after days.
    Days(u32),
    /// Objects expire at a date, and those stored later on the day after.
    Date(String),
    /// Marks of deleted objects go.
    Markers,
    /// Old versions expire after days.
    Noncurrent(u32),
    /// Uploads are aborted after days.
    Uploads(u32),
    /// Objects move to this class of storage, after days or at a date.
    Moves { class: String, days: Option<u32> },
    /// Something else, by its element's name.
    Other(String),
}

/// A rule in a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) id: String,
    pub(super) enabled: bool,
    pub(super) prefix: String,
    /// Only objects with some tag.
    pub(super) tags: bool,
    /// Only objects of some sizes.
    pub(super) sizes: bool,
    pub(super) does: Vec<Does>,
    /// Where it stands in the text.
    pub(super) at: Range<usize>,
    /// What it says, however it is laid out: equal where two rules mean the same.
    pub(super) meaning: String,
}

impl Found {
    /// Whether it says nothing else than this rule.
    pub(super) fn is(&self, rule: &Rule) -> bool {
        self.enabled
            && self.prefix == rule.prefix
            && !self.tags
            && !self.sizes
            && self.does == expected(rule.action)
    }
}

/// What a rule with this action does, in the order that [`Found::does`] has.
pub(super) fn expected(action: Action) -> Vec<Does> {
    match action {
        Action::Expire(days) => vec![Does::Days(days)],
        Action::Uploads(days) => vec![Does::Uploads(days)],
        Action::Noncurrent(days) => vec![Does::Markers, Does::Noncurrent(days)],
    }
}

/// The rules of a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Read {
    pub(super) rules: Vec<Found>,
    /// Where another rule would go; `None` where the text has no room for any.
    pub(super) end: Option<usize>,
    /// What a new rule has to say for its elements to be S3's.
    pub(super) namespace: Option<String>,
}

/// Reads a bucket's rules.
pub(super) fn read(text: &str) -> Result<Read, Unreadable> {
    if text.len() > MOST {
        return Err(Unreadable::Long(text.len()));
    }
    let options = ParsingOptions { allow_dtd: false, nodes_limit: NODES, ..ParsingOptions::default() };
    let document =
        Document::parse_with_options(text, options).map_err(|error| Unreadable::Xml(error.to_string()))?;
    let root = document.root_element();
    if root.tag_name().name() != "LifecycleConfiguration" {
        return Err(Unreadable::Other(root.tag_name().name().chars().take(80).collect()));
    }
    let rules = named(root, "Rule").map(found).collect::<Result<_, _>>()?;
    let own = root.tag_name().namespace();
    Ok(Read {
        rules,
        end: end(text, root),
        namespace: own.filter(|own| root.default_namespace() != Some(own)).map(str::to_owned),
    })
}

/// Where the element's closing tag begins; none where it is empty.
fn end(text: &str, root: Node<'_, '_>) -> Option<usize> {
    let within = text.get(root.range())?;
    if within.ends_with("/>") && !root.has_children() {
        return None;
    }
    Some(root.range().start + within.rfind("</")?)
}

fn elements<'a, 'x: 'a>(node: Node<'a, 'x>) -> impl Iterator<Item = Node<'a, 'x>> {
    node.children().filter(Node::is_element)
}

fn named<'a, 'x: 'a>(node: Node<'a, 'x>, name: &str) -> impl Iterator<Item = Node<'a, 'x>> {
    elements(node).filter(move |child| child.tag_name().name() == name)
}

fn text(node: Node<'_, '_>) -> String {
    node.children().filter(Node::is_text).filter_map(|part| part.text()).collect()
}

fn value(node: Node<'_, '_>, name: &str) -> Option<String> {
    named(node, name).next().map(text)
}

fn days(node: Node<'_, '_>, name: &str) -> Option<u32> {
    value(node, name)?.trim().parse().ok()
}

fn found(rule: Node<'_, '_>) -> Result<Found, Unreadable> {
    let mut this = Found {
        id: String::new(),
        enabled: false,
        prefix: String::new(),
        tags: false,
        sizes: false,
        does: Vec::new(),
        at: rule.range(),
        meaning: meaning(rule, DEPTH)?,
    };
    for part in elements(rule) {
        match part.tag_name().name() {
            "ID" => this.id = text(part),
            "Status" => this.enabled = text(part).trim() == "Enabled",
            // As rules were written before 2016.
            "Prefix" => this.prefix = text(part),
            "Filter" => filter(&mut this, part),
            _ => does(part, &mut this.does),
        }
    }
    this.does.sort_by_key(|done| format!("{done:?}"));
    Ok(this)
}

fn filter(rule: &mut Found, node: Node<'_, '_>) {
    for part in elements(node) {
        match part.tag_name().name() {
            "Prefix" => rule.prefix = text(part),
            "And" => filter(rule, part),
            "Tag" => rule.tags = true,
            name if name.starts_with("ObjectSize") => rule.sizes = true,
            // A condition that we do not know may leave any object out, and no rule of ours has one.
            _ => rule.sizes = true,
        }
    }
}

fn does(node: Node<'_, '_>, all: &mut Vec<Does>) {
    let name = node.tag_name().name();
    let other = || Does::Other(name.to_owned());
    let exactly = |most: usize| elements(node).count() <= most;
    match name {
        "Expiration" => all.extend(elements(node).filter_map(|part| match part.tag_name().name() {
            "Days" => Some(text(part).trim().parse().map_or_else(|_| other(), Does::Days)),
            "Date" => Some(Does::Date(text(part).trim().to_owned())),
            "ExpiredObjectDeleteMarker" => (text(part).trim() == "true").then_some(Does::Markers),
            _ => Some(other()),
        })),
        "NoncurrentVersionExpiration" if exactly(1) => {
            all.push(days(node, "NoncurrentDays").map_or_else(other, Does::Noncurrent));
        }
        "AbortIncompleteMultipartUpload" if exactly(1) => {
            all.push(days(node, "DaysAfterInitiation").map_or_else(other, Does::Uploads));
        }
        "Transition" => {
            let class = value(node, "StorageClass").unwrap_or_default().trim().to_owned();
            all.push(Does::Moves { class, days: days(node, "Days") });
        }
        _ => all.push(other()),
    }
}

/// Elements and their texts, in an order of its own.
fn meaning(node: Node<'_, '_>, depth: usize) -> Result<String, Unreadable> {
    let Some(deeper) = depth.checked_sub(1) else {
        return Err(Unreadable::Xml(format!("elements lie more than {DEPTH} deep")));
    };
    let mut parts = elements(node).map(|child| meaning(child, deeper)).collect::<Result<Vec<_>, _>>()?;
    let mut attributes: Vec<String> =
        node.attributes().map(|a| format!("@{}={:?}", a.name(), a.value())).collect();
    parts.append(&mut attributes);
    parts.sort_unstable();
    // Between elements there is only layout.
    let own = if parts.is_empty() { text(node) } else { text(node).trim().to_owned() };
    Ok(format!("{}({own:?}{})", node.tag_name().name(), parts.concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_rule_says_is_read_however_it_is_written() {
        let text = "<?xml version='1.0'?>\n<s:LifecycleConfiguration xmlns:s='urn:x'> <!-- <Rule> -->\n\
            <s:Rule><s:ID>a&amp;b</s:ID><s:Status> Enabled </s:Status><s:Filter><s:And><s:Prefix>p/</s:Prefix><s:Tag/>\
            </s:And></s:Filter><s:Transition><s:Days>3</s:Days><s:StorageClass>GLACIER</s:StorageClass></s:Transition>\
            <s:Expiration><s:Days>4</s:Days></s:Expiration><s:New/></s:Rule>\
            <s:Rule><s:Prefix><![CDATA[q/]]></s:Prefix><s:Status>Disabled</s:Status></s:Rule></s:LifecycleConfiguration>";
        let read = read(text).unwrap();
        let [one, two] = read.rules.as_slice() else { panic!("{read:?}") };
        assert_eq!((one.id.as_str(), one.prefix.as_str(), one.enabled, one.tags), ("a&b", "p/", true, true));
        let moves = Does::Moves { class: "GLACIER".to_owned(), days: Some(3) };
        assert_eq!(one.does, [Does::Days(4), moves, Does::Other("New".to_owned())]);
        assert_eq!((two.id.as_str(), two.prefix.as_str(), two.enabled), ("", "q/", false));
        assert!(text[two.at.clone()].starts_with("<s:Rule><s:Prefix>"));
        assert_eq!(read.end.map(|end| &text[end..]), Some("</s:LifecycleConfiguration>"));
        assert_eq!(read.namespace.as_deref(), Some("urn:x"));
    }

    #[test]
    fn layout_and_order_mean_nothing() {
        let of = |text: &str| read(text).unwrap().rules.remove(0).meaning;
        let plain =
            of("<LifecycleConfiguration><Rule><ID>a</ID><X>1</X><Y/></Rule></LifecycleConfiguration>");
        let laid = of(
            "<LifecycleConfiguration>\n <Rule>\n  <Y></Y>\n  <X>1</X>\n<ID>a</ID></Rule></LifecycleConfiguration>",
        );
        assert_eq!(plain, laid);
        for other in [
            "<ID>a</ID><X>2</X><Y/>",
            "<ID>a</ID><X>1</X>",
            "<ID>a</ID><X>1</X><Y/><Y/>",
            "<ID> a</ID><X>1</X><Y/>",
        ] {
            let other = of(&format!("<LifecycleConfiguration><Rule>{other}</Rule></LifecycleConfiguration>"));
            assert_ne!(plain, other);
        }
    }

    #[test]
    fn nonsense_is_told_of() {
        let deep = |depth: usize| format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
        let rule =
            |inner: &str| format!("<LifecycleConfiguration><Rule>{inner}</Rule></LifecycleConfiguration>");
        let bomb = "<!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;'>\
                    <!ENTITY c '&b;&b;&b;&b;&b;&b;&b;&b;'>]><LifecycleConfiguration>&c;</LifecycleConfiguration>";
        for wrong in [
            "",
            "<",
            "rules",
            "<LifecycleConfiguration>",
            "<LifecycleConfiguration><Rule><ID>a</ID></Rul",
            bomb,
            &rule("&nobody;"),
            &rule(&deep(100)),
            &rule(&deep(50_000)),
            &rule(&"<a/>".repeat(600_000)),
        ] {
            assert!(matches!(read(wrong), Err(Unreadable::Xml(_))), "{}", &wrong[..wrong.len().min(80)]);
        }
        assert_eq!(read("<Error/>"), Err(Unreadable::Other("Error".to_owned())));
        assert_eq!(read(&" ".repeat(10 << 20)), Err(Unreadable::Long(10 << 20)));
    }
}
