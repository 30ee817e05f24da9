//! Pages of the Simple index as bytes: HTML (PEP 503, with the attributes of 592, 658 and 714) and JSON (PEP 691 and 700).
//! Value to bytes; what a page holds is known before. Links are relative, so they hold behind any prefix.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::domain::wheels::{Entry, Page, ProjectName, Record};
use crate::front::html::{self, escape};

/// The version of the format that all of our pages keep.
const VERSION: &str = "1.1";

/// A file's link, where `up` leads from its page to the directory above `files/`.
fn link(record: &Record, up: &str) -> String {
    html::file(&record.sha256, &record.filename, up)
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
pub(super) fn project_html(project: &ProjectName, page: &Page, up: &str) -> String {
    document(&format!("Links for {project}"), page.files.iter().map(|entry| anchor(entry, up)))
}

fn anchor(entry: &Entry, up: &str) -> String {
    let record = &entry.record;
    let mut html = format!("<a href=\"{}#sha256={}\"", link(record, up), record.sha256);
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
pub(super) fn project_json(project: &ProjectName, page: &Page, up: &str) -> String {
    let files: Vec<Value> =
        page.files.iter().map(|entry| file(&entry.record, entry.yanked.as_deref(), up)).collect();
    let document = json!({
        "meta": { "api-version": VERSION },
        "name": project.as_str(),
        "versions": page.versions(),
        "files": files,
    });
    document.to_string()
}

/// One file, as a page in JSON has it.
pub(super) fn file(record: &Record, yanked: Option<&str>, up: &str) -> Value {
    let metadata = record.metadata_sha256.as_ref().map_or(json!(false), |digest| json!({ "sha256": digest }));
    let yanked = match yanked {
        None => json!(false),
        Some("") => json!(true),
        Some(reason) => json!(reason),
    };
    let mut value = json!({
        "filename": record.filename,
        "url": link(record, up),
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
