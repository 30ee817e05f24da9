//! Promise: `larder doctor` says what is wrong with a store, and nothing else; it names the one permission that is missing;
//! and it leaves nothing behind, whatever it meets and however it ends.

mod directory;
mod healthy;
mod permissions;
mod quirks;

use std::collections::BTreeMap;
use std::process::{Command, Output, Stdio};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use serde_json::Value;

use crate::support::backends::S3Server;

/// A report, and how the command ended.
struct Told {
    code: i32,
    report: Value,
}

impl Told {
    #[track_caller]
    fn of(output: &Output) -> Self {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!("{error}; stdout: {}; stderr: {stderr}", String::from_utf8_lossy(&output.stdout))
        });
        Self { code: output.status.code().unwrap(), report }
    }

    fn checks(&self) -> impl Iterator<Item = &Value> {
        self.report["checks"].as_array().unwrap().iter()
    }

    /// The names of all checks that came out like this. How full this machine's disk is is not the tests'.
    fn that(&self, state: &str) -> Vec<&str> {
        self.checks()
            .filter(|check| check["state"] == state && check["check"] != "room")
            .map(|check| check["check"].as_str().unwrap())
            .collect()
    }

    #[track_caller]
    fn check(&self, name: &str) -> &Value {
        self.checks()
            .find(|check| check["check"] == name)
            .unwrap_or_else(|| panic!("no {name}: {}", self.report))
    }

    /// Permissions that are missing, in order, each once.
    fn missing(&self) -> Vec<&str> {
        let mut named: Vec<&str> =
            self.checks().filter_map(|check| check["permission"]["action"].as_str()).collect();
        named.sort_unstable();
        named.dedup();
        named
    }
}

/// The real binary, with nothing of this machine's environment.
fn doctor(args: &[&str], env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
    command.arg("doctor").args(args).env_clear().envs(env.iter().copied()).stdin(Stdio::null());
    command
}

/// A bucket of this test's own, with one object that is somebody's.
struct Bucket {
    server: S3Server,
    client: Client,
    name: String,
}

/// What a bucket holds: names of objects, of versions, of unfinished uploads.
type Content = BTreeMap<&'static str, Vec<String>>;

impl Bucket {
    async fn new(server: &S3Server) -> Self {
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .credentials_provider(Credentials::new(&server.key, &server.secret, None, None, "test"))
            .region(Region::from_static("us-east-1"))
            .endpoint_url(&server.endpoint)
            .force_path_style(true)
            .build();
        let client = Client::from_conf(config);
        let name = format!("doctor-{:016x}", fastrand::u64(..));
        client.create_bucket().bucket(&name).send().await.unwrap();
        let bytes = bytes::Bytes::from_static(b"somebody's").into();
        client.put_object().bucket(&name).key("pre/please/aa/somebody").body(bytes).send().await.unwrap();
        Self { server: server.clone(), client, name }
    }

    async fn content(&self) -> Content {
        let listed = self.client.list_objects_v2().bucket(&self.name).send().await.unwrap();
        let keys = listed.contents().iter().filter_map(|object| object.key().map(str::to_owned)).collect();
        let uploads = self.client.list_multipart_uploads().bucket(&self.name).send().await.unwrap();
        let uploads = uploads.uploads().iter().filter_map(|upload| upload.key().map(str::to_owned)).collect();
        // versitygw keeps no versions here, and says so.
        let versions = match self.client.list_object_versions().bucket(&self.name).send().await {
            Ok(page) => {
                let marks = page.delete_markers().iter().filter_map(|mark| mark.key().map(str::to_owned));
                let versions = page.versions().iter().filter_map(|version| version.key().map(str::to_owned));
                versions.chain(marks).collect()
            }
            Err(error) if self.server.name == "minio" => panic!("{error:?}"),
            Err(_) => Vec::new(),
        };
        [("objects", keys), ("uploads", uploads), ("versions", versions)].into()
    }

    /// Examines below `pre`, as these credentials, or as the bucket's owner.
    fn command(&self, endpoint: &str, args: &[&str], env: &[(&str, &str)]) -> Command {
        let store = format!("s3://{}/pre", self.name);
        let place = ["--json", "--store", &store, "--s3-endpoint", endpoint];
        let own = [("AWS_ACCESS_KEY_ID", &*self.server.key), ("AWS_SECRET_ACCESS_KEY", &*self.server.secret)];
        doctor(&[&place[..], args].concat(), if env.is_empty() { &own } else { env })
    }

    /// As [`Bucket::command`], to its end; and the bucket is as it was.
    async fn examined(&self, endpoint: &str, args: &[&str], env: &[(&str, &str)]) -> Told {
        let before = self.content().await;
        let told = Told::of(&self.command(endpoint, args, env).output().unwrap());
        assert_eq!(self.content().await, before, "something is left behind: {}", told.report);
        told
    }

    /// Removes it: only an empty one goes.
    async fn remove(self) {
        self.client.delete_object().bucket(&self.name).key("pre/please/aa/somebody").send().await.unwrap();
        self.client.delete_bucket().bucket(&self.name).send().await.unwrap();
    }
}
