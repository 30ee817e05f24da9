//! Pages for people: `/`, the packages, and how to point tools here; `/project/{project}`, its releases and their files.
//!
//! HTML that needs no script, and nothing from elsewhere. Values to bytes, but for the two handlers. Links are relative,
//! so they hold behind any prefix; only the commands to copy hold absolute addresses.

use axum::extract::{Request, State};
use axum::response::Response;
use bytesize::ByteSize;
use http::HeaderValue;
use http::header::CONTENT_SECURITY_POLICY;
use percent_encoding::percent_decode_str;

use super::super::auth::Reader;
use super::super::status::Failure;
use super::super::{App, html, origin};
use super::{found, operand};
use crate::domain::wheels::{Entry, IndexName, Page, ProjectName};
use html::escape;

/// Most letters of a filter.
const MOST: usize = 100;

const KIND: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

/// Whatever a page should come to hold by somebody's fault, it does nothing.
const NOTHING_ELSE: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
);

// Nothing is wider than a phone: names and commands break, and neither is cut off.
const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8884;--dim:#666;--link:#0a58b8;--warn:#a33c00}\
@media(prefers-color-scheme:dark){:root{--dim:#999;--link:#7db4f5;--warn:#f0a070}}\
*{box-sizing:border-box}\
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1rem}\
a{color:var(--link)}li a{text-decoration:none}a:hover{text-decoration:underline}\
h1{font-size:1.6rem;margin:.5rem 0;overflow-wrap:anywhere}h2{font-size:1.15rem;margin:1.5rem 0 .5rem}\
pre{background:#8881;border:1px solid var(--line);border-radius:6px;padding:.6rem .75rem;margin:.5rem 0;white-space:normal}\
code{display:block;font:14px/1.5 ui-monospace,monospace;white-space:pre-wrap;overflow-wrap:anywhere;\
padding:.1rem 0 .1rem 2ch;text-indent:-2ch}\
code span{display:inline-block;max-width:100%;text-indent:0}\
form{display:flex;gap:.5rem;margin:.5rem 0}\
input{font:inherit;flex:1;min-width:0;padding:.4rem .6rem;border:1px solid var(--line);border-radius:6px}\
button{font:inherit;padding:.4rem .9rem;border:1px solid var(--line);border-radius:6px}\
ul{list-style:none;padding:0;margin:0}li{overflow-wrap:anywhere}\
ul.packages{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(17rem,100%),1fr));column-gap:1.5rem}\
ul.packages a{display:block;padding:.25rem 0}\
ul.files li{border-top:1px solid var(--line);padding:.5rem 0}\
.dim{color:var(--dim);font-size:.875rem}\
.yanked a{color:var(--dim);text-decoration:line-through}.yanked b{color:var(--warn)}";

fn document(title: &str, body: &str) -> Response {
    let page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    );
    let mut response = found(page, KIND);
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, NOTHING_ELSE);
    response
}

/// `GET /`, also with `?q=`: only packages whose name has this in it.
pub(super) async fn home(
    Reader(reads): Reader,
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let (parts, _) = request.into_parts();
    let projects = reads.projects(&IndexName::Shared).await?;
    let filter = filter(parts.uri.query().unwrap_or_default());
    let body = packages(&projects, &filter, &origin::of(&parts, &app.proxies));
    Ok(document("Packages", &body))
}

/// What a query filters by, as its field was filled in.
fn filter(query: &str) -> String {
    let field =
        query.split('&').find_map(|pair| pair.strip_prefix("q=")).unwrap_or_default().replace('+', " ");
    let text = percent_decode_str(&field).decode_utf8_lossy();
    text.trim().chars().filter(|letter| !letter.is_control()).take(MOST).collect()
}

fn packages(projects: &[ProjectName], filter: &str, origin: &str) -> String {
    // Names compare as they are stored.
    let wanted = filter.to_lowercase().replace(['_', '.'], "-");
    let shown: Vec<&ProjectName> = projects.iter().filter(|name| name.as_str().contains(&wanted)).collect();
    let count = match (projects.len(), wanted.is_empty()) {
        (0, _) => "Nothing has been uploaded yet.".to_owned(),
        (1, true) => "1 package".to_owned(),
        (all, true) => format!("{all} packages"),
        (all, false) => format!("{} of {all} packages · <a href=\"./\">all</a>", shown.len()),
    };
    // Projects' names are letters, digits and dashes.
    let items: String =
        shown.iter().map(|name| format!("<li><a href=\"project/{name}\">{name}</a></li>\n")).collect();
    format!(
        "<h1>Packages</h1>\n<form action=\"./\" role=\"search\"><input type=\"search\" name=\"q\" value=\"{}\" \
         placeholder=\"Part of a name\" aria-label=\"Part of a name\"><button>Find</button></form>\n\
         <p class=\"dim\">{count}</p>\n<ul class=\"packages\">\n{items}</ul>\n\
         <h2>Installing from here</h2>\n{}<h2>Uploading to here</h2>\n{}",
        escape(filter),
        commands(&installs(origin, "PACKAGE")),
        commands(&uploads(origin))
    )
}

/// How to install from here. Pip wants to be told that plain HTTP is meant.
fn installs(origin: &str, what: &str) -> [String; 3] {
    let host = origin.strip_prefix("http://").map(|rest| rest.split('/').next().unwrap_or_default());
    let trusted = host.filter(|host| !host.starts_with("localhost") && !host.starts_with("127."));
    let pip = trusted.map(|host| format!("--trusted-host {host} ")).unwrap_or_default();
    let uv = trusted.map(|host| format!("--allow-insecure-host {host} ")).unwrap_or_default();
    [
        format!("pip install {pip}--index-url {origin}/simple/ {what}"),
        format!("uv pip install {uv}--index-url {origin}/simple/ {what}"),
        format!("curd install -c {origin}/ {what}"),
    ]
}

/// How to upload to here.
fn uploads(origin: &str) -> [String; 2] {
    [
        format!("twine upload --repository-url {origin}/legacy/ dist/*"),
        format!("uv publish --publish-url {origin}/legacy/ dist/*"),
    ]
}

/// Commands to copy. Where one takes several lines, it goes on between words, and not behind their dashes.
fn commands(lines: &[String]) -> String {
    let word = |word: &str| format!("<span>{}</span>", escape(word));
    let line =
        |line: &String| format!("<code>{}</code>", line.split(' ').map(word).collect::<Vec<_>>().join(" "));
    format!("<pre>{}</pre>\n", lines.iter().map(line).collect::<Vec<_>>().join("\n"))
}

/// `GET /project/{project}`, however its name is written.
pub(super) async fn project(
    Reader(reads): Reader,
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let (parts, _) = request.into_parts();
    let project: ProjectName = operand(&parts.uri)?.parse().map_err(|_| Failure::Absent)?;
    let shelf = reads.shelf(&IndexName::Shared, &project).await?.ok_or(Failure::Absent)?;
    let page = reads.page(&shelf).await?;
    Ok(document(project.as_str(), &releases(&project, &page, &origin::of(&parts, &app.proxies))))
}

fn releases(project: &ProjectName, page: &Page, origin: &str) -> String {
    // First, since releases may be many.
    let commands = commands(&installs(origin, project.as_str()));
    let mut body = format!("<p><a href=\"../\">← Packages</a></p>\n<h1>{project}</h1>\n{commands}");
    for (version, files) in page.releases().into_iter().rev() {
        let files: String = files.into_iter().map(file).collect();
        body.push_str(&format!("<h2>{}</h2>\n<ul class=\"files\">\n{files}</ul>\n", escape(version)));
    }
    body
}

fn file(entry: &Entry) -> String {
    let record = &entry.record;
    let day = record.upload_time.get(..10).unwrap_or_default();
    let mut about = format!("{} · {}", ByteSize(record.size), escape(day));
    if let Some(requires) = &record.requires_python {
        about.push_str(&format!(" · Python {}", escape(requires)));
    }
    let class = match entry.yanked.as_deref() {
        None => "",
        Some(reason) => {
            let reason = if reason.is_empty() { String::new() } else { format!(": {}", escape(reason)) };
            about.push_str(&format!(" · <b>yanked</b>{reason}"));
            " class=\"yanked\""
        }
    };
    let to = html::file(&record.sha256, &record.filename, "..");
    format!(
        "<li{class}><a href=\"{to}\">{}</a><br><span class=\"dim\">{about}</span></li>\n",
        breakable(&record.filename)
    )
}

/// A file's name: long ones break between the parts of their tags, and are copied as one.
fn breakable(filename: &str) -> String {
    escape(filename).replace('_', "_<wbr>")
}

#[cfg(test)]
mod tests {
    use super::{commands, filter, installs, packages};
    use crate::domain::wheels::ProjectName;

    #[test]
    fn a_filter_is_what_was_typed() {
        for (query, typed) in [
            ("", ""),
            ("q=a%2Bb", "a+b"),
            ("x=1&q=Foo+bar%0A", "Foo bar"),
            ("q=%ff", "\u{fffd}"),
            ("aq=b", ""),
        ] {
            assert_eq!(filter(query), typed, "{query}");
        }
        assert_eq!(filter(&format!("q={}", "a".repeat(500))).len(), super::MOST);
    }

    #[test]
    fn names_are_found_however_they_are_written() {
        let projects: Vec<ProjectName> =
            ["foo-bar", "zope-interface"].map(|name| name.parse().unwrap()).into();
        for (typed, count) in [("Foo_Bar", 1), ("o", 2), ("x", 0)] {
            let body = packages(&projects, typed, "http://h");
            assert_eq!(body.matches("<li>").count(), count, "{typed}");
        }
        let odd = packages(&projects, "\"><script>", "http://h");
        assert!(!odd.contains("<script>") && odd.contains("&quot;&gt;&lt;script&gt;"));
    }

    #[test]
    fn plain_http_is_said_to_be_meant() {
        let [pip, uv, _] = installs("http://cache:80/x", "a");
        assert_eq!(pip, "pip install --trusted-host cache:80 --index-url http://cache:80/x/simple/ a");
        assert_eq!(
            uv,
            "uv pip install --allow-insecure-host cache:80 --index-url http://cache:80/x/simple/ a"
        );
        for quiet in ["https://cache", "http://localhost:8080", "http://127.0.0.1:1"] {
            let said = installs(quiet, "a").join("\n");
            assert!(!said.contains("trusted") && !said.contains("insecure"), "{quiet}");
        }
    }

    #[test]
    fn commands_read_the_same_without_their_tags() {
        let html = commands(&["a -b c-d".to_owned(), "e <f>".to_owned()]);
        let text = ["<pre>", "</pre>", "<code>", "</code>", "<span>", "</span>"]
            .iter()
            .fold(html, |html, tag| html.replace(tag, ""));
        assert_eq!(text, "a -b c-d\ne &lt;f&gt;\n");
    }

    #[test]
    fn names_of_files_break_between_parts() {
        assert_eq!(super::breakable("a_b-1-py3-none-any.whl"), "a_<wbr>b-1-py3-none-any.whl");
        assert_eq!(super::breakable("<_>"), "&lt;_<wbr>&gt;");
    }
}
