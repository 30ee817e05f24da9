//! Our rules in the words of those who take them: XML for S3, JSON for AWS's command line, Terraform.
//!
//! Pure. Knows nothing of what else a bucket has.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::wanted::{Action, Rule};
use crate::store::lifecycle::Place;

/// S3's namespace.
const S3: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// How rules are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// What `aws s3api put-bucket-lifecycle-configuration --lifecycle-configuration` takes.
    Json,
    /// A resource of Terraform's provider for AWS.
    Terraform,
    /// What S3 takes.
    Xml,
}

/// All rules, as a text that ends in a line break.
pub fn rules(rules: &[Rule], place: &Place, format: Format) -> String {
    match format {
        Format::Json => {
            format!("{:#}\n", json!({ "Rules": rules.iter().map(rule_json).collect::<Vec<_>>() }))
        }
        Format::Terraform => terraform(rules, place),
        Format::Xml => xml(rules) + "\n",
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// One rule, in a document whose elements have no other prefix than the namespace says.
pub(super) fn rule_xml(rule: &Rule, namespace: Option<&str>) -> String {
    let does = match rule.action {
        Action::Expire(days) => format!("<Expiration><Days>{days}</Days></Expiration>"),
        Action::Uploads(days) => format!(
            "<AbortIncompleteMultipartUpload><DaysAfterInitiation>{days}</DaysAfterInitiation>\
             </AbortIncompleteMultipartUpload>"
        ),
        Action::Noncurrent(days) => format!(
            "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>\
             <NoncurrentVersionExpiration><NoncurrentDays>{days}</NoncurrentDays></NoncurrentVersionExpiration>"
        ),
    };
    let namespace = namespace.map_or_else(String::new, |name| format!(" xmlns=\"{}\"", escaped(name)));
    format!(
        "<Rule{namespace}><ID>{}</ID><Filter><Prefix>{}</Prefix></Filter><Status>Enabled</Status>{does}</Rule>",
        escaped(&rule.id),
        escaped(&rule.prefix),
    )
}

/// A whole document of ours alone.
pub(super) fn xml(rules: &[Rule]) -> String {
    let each: String = rules.iter().map(|rule| rule_xml(rule, None)).collect();
    format!("<LifecycleConfiguration xmlns=\"{S3}\">{each}</LifecycleConfiguration>")
}

fn rule_json(rule: &Rule) -> Value {
    let mut value = json!({ "ID": rule.id, "Filter": { "Prefix": rule.prefix }, "Status": "Enabled" });
    match rule.action {
        Action::Expire(days) => value["Expiration"] = json!({ "Days": days }),
        Action::Uploads(days) => {
            value["AbortIncompleteMultipartUpload"] = json!({ "DaysAfterInitiation": days });
        }
        Action::Noncurrent(days) => {
            value["Expiration"] = json!({ "ExpiredObjectDeleteMarker": true });
            value["NoncurrentVersionExpiration"] = json!({ "NoncurrentDays": days });
        }
    }
    value
}

/// A string of HCL, where `${` and `%{` begin something else.
fn quoted(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", text.replace("${", "$${").replace("%{", "%%{"))
}

fn terraform(rules: &[Rule], place: &Place) -> String {
    let mut text = format!(
        "# Larder's rules for {place}.\n\
         #\n\
         # A bucket has one such resource, and it owns all of the bucket's rules: whatever is not in it, Terraform removes.\n\
         # Where the bucket has other rules too, move these blocks into the resource that has them, and do not use\n\
         # `larder lifecycle apply` beside it.\n\
         resource \"aws_s3_bucket_lifecycle_configuration\" \"larder\" {{\n  bucket = {}\n",
        quoted(&place.bucket)
    );
    for rule in rules {
        let does = match rule.action {
            Action::Expire(days) => format!("    expiration {{\n      days = {days}\n    }}\n"),
            Action::Uploads(days) => format!(
                "    abort_incomplete_multipart_upload {{\n      days_after_initiation = {days}\n    }}\n"
            ),
            Action::Noncurrent(days) => format!(
                "    expiration {{\n      expired_object_delete_marker = true\n    }}\n    \
                 noncurrent_version_expiration {{\n      noncurrent_days = {days}\n    }}\n"
            ),
        };
        let block = write!(
            text,
            "\n  rule {{\n    id     = {}\n    status = \"Enabled\"\n    filter {{\n      prefix = {}\n    }}\n{does}  }}\n",
            quoted(&rule.id),
            quoted(&rule.prefix),
        );
        debug_assert!(block.is_ok(), "a string takes everything");
    }
    text + "}\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Expiry;
    use crate::lifecycle::read::read;
    use crate::lifecycle::wanted::wanted;

    fn place(root: &str) -> Place {
        Place { bucket: "b".to_owned(), root: root.parse().unwrap() }
    }

    fn of(root: &str) -> Vec<Rule> {
        wanted(&Expiry::default(), &place(root).root).unwrap()
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        for root in ["", "a", "a&b<c>\"d\"/\u{e9}'"] {
            let rules = of(root);
            let read = read(&xml(&rules)).unwrap();
            assert_eq!(read.rules.len(), rules.len());
            assert!(read.rules.iter().zip(&rules).all(|(found, rule)| found.id == rule.id && found.is(rule)));
        }
    }

    #[test]
    fn json_is_as_the_command_line_of_aws_takes_it() {
        let value: Value = serde_json::from_str(&rules(&of("team"), &place("team"), Format::Json)).unwrap();
        let expected = json!({
            "ID": "larder-artifacts:team", "Filter": {"Prefix": "team/artifact/"}, "Status": "Enabled",
            "Expiration": {"Days": 30}
        });
        assert_eq!(value["Rules"][0], expected);
        assert_eq!(value["Rules"][3]["AbortIncompleteMultipartUpload"], json!({"DaysAfterInitiation": 1}));
        assert_eq!(value["Rules"][6]["Expiration"], json!({"ExpiredObjectDeleteMarker": true}));
        assert_eq!(value["Rules"].as_array().map(Vec::len), Some(9));
    }

    #[test]
    fn terraform_is_quoted() {
        let text = rules(&of("${x}\"%{y}"), &place("${x}\"%{y}"), Format::Terraform);
        assert!(text.contains("prefix = \"$${x}\\\"%%{y}/artifact/\""), "{text}");
        assert_eq!(text.matches("  rule {\n").count(), 9);
        assert_eq!(text.matches('{').count(), text.matches('}').count());
    }
}
