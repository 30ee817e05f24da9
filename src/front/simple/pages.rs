//! Pages of the Simple index as bytes: HTML (PEP 503, with the attributes of 592, 658 and 714) and JSON (PEP 691 and 700).
//! Value to bytes; what a page holds is known before. Links are relative, so they hold behind any prefix.

use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::domain::wheels::{Entry, Page, ProjectName};

/// The version of the format that all of our pages keep.
const VERSION: &str = "1.1";

/// What is escaped in a link: some clients take `+` for a blank.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'_').remove(b'-').remove(b'!');

/// From a project's page up to the directory above `files/`.
const UP: &str = "../..";

/// A file's link.
fn link(entry: &Entry) -> String {
    let name = utf8_percent_encode(&entry.record.filename, ESCAPED);
    format!("{UP}/files/{}/{name}", entry.record.sha256)
}

/// Text within an element or a quoted attribute.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            letter => safe.push(letter),
        }
    }
    safe
}

fn document(title: &str, links: impl Iterator<Item = String>) -> String {
    let mut html = format!(
        "<!DOCTYPE html>\n<html>\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"pypi:repository-version\" content=\"{VERSION}\">\n<title>{title}</title>\n</head>\n<body>\n"
    );
    links.for_each(|link| html.push_str(&link));
    html.push_str("</body>\n</html>\n");
    html
}

/// The list of projects.
pub(super) fn projects_html(projects: &[ProjectName]) -> String {
    document("Simple index", projects.iter().map(|name| format!("<a href=\"{name}/\">{name}</a><br>\n")))
}

/// The list of projects.
pub(super) fn projects_json(projects: &[ProjectName]) -> String {
    let names: Vec<Value> = projects.iter().map(|name| json!({ "name": name.as_str() })).collect();
    json!({ "meta": { "api-version": VERSION }, "projects": names }).to_string()
}

/// A project's files.
pub(super) fn project_html(project: &ProjectName, page: &Page) -> String {
    document(&format!("Links for {project}"), page.files.iter().map(anchor))
}

fn anchor(entry: &Entry) -> String {
    let record = &entry.record;
    let mut html = format!("<a href=\"{}#sha256={}\"", link(entry), record.sha256);
    let mut attribute = |name: &str, value: &str| {
        // Writing to a text cannot fail.
        write!(html, " {name}=\"{}\"", escape(value)).unwrap_or_default();
    };
    if let Some(requires) = &record.requires_python {
        attribute("data-requires-python", requires);
    }
    if let Some(digest) = &record.metadata_sha256 {
        let digest = format!("sha256={digest}");
        attribute("data-core-metadata", &digest);
        attribute("data-dist-info-metadata", &digest);
    }
    if let Some(reason) = &entry.yanked {
        attribute("data-yanked", reason);
    }
    html.push_str(&format!(">{}</a><br>\n", escape(&record.filename)));
    html
}

/// A project's files.
pub(super) fn project_json(project: &ProjectName, page: &Page) -> String {
    let files: Vec<Value> = page.files.iter().map(file).collect();
    let document = json!({
        "meta": { "api-version": VERSION },
        "name": project.as_str(),
        "versions": page.versions(),
        "files": files,
    });
    document.to_string()
}

fn file(entry: &Entry) -> Value {
    let record = &entry.record;
    let metadata = record.metadata_sha256.as_ref().map_or(json!(false), |digest| json!({ "sha256": digest }));
    let yanked = match entry.yanked.as_deref() {
        None => json!(false),
        Some("") => json!(true),
        Some(reason) => json!(reason),
    };
    let mut value = json!({
        "filename": record.filename,
        "url": link(entry),
        "hashes": { "sha256": record.sha256 },
        "size": record.size,
        "upload-time": record.upload_time,
        "core-metadata": metadata,
        "data-dist-info-metadata": metadata,
        "yanked": yanked,
    });
    if let (Some(requires), Some(object)) = (&record.requires_python, value.as_object_mut()) {
        object.insert("requires-python".to_owned(), json!(requires));
    }
    value
}
