//! Distributions and the forms that Python's tools upload them with, made in memory.

use http::Request;
use sha2::{Digest as _, Sha256};

use super::http::{Body, full, request};

/// A file to upload.
#[derive(Debug, Clone)]
pub(crate) struct Distribution {
    /// Its name.
    pub(crate) filename: String,
    /// Whose it is, as its form says.
    pub(crate) name: String,
    /// Of which release.
    pub(crate) version: String,
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
    /// Its metadata.
    pub(crate) metadata: Vec<u8>,
}

/// Bytes in lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A zip archive of stored members.
pub(crate) fn zip(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    let put = |out: &mut Vec<u8>, values: &[(usize, usize)]| {
        values.iter().for_each(|(value, width)| out.extend_from_slice(&value.to_le_bytes()[..*width]));
    };
    for (name, bytes) in members {
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, bytes) as usize;
        let (length, at) = (bytes.len(), out.len());
        let shared =
            [(20, 2), (0, 2), (0, 2), (0, 4), (crc, 4), (length, 4), (length, 4), (name.len(), 2), (0, 2)];
        out.extend_from_slice(b"PK\x03\x04");
        put(&mut out, &shared);
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(bytes);
        directory.extend_from_slice(b"PK\x01\x02\x14\0");
        put(&mut directory, &shared);
        put(&mut directory, &[(0, 2), (0, 2), (0, 2), (0, 4), (at, 4)]);
        directory.extend_from_slice(name.as_bytes());
    }
    let (at, size, count) = (out.len(), directory.len(), members.len());
    out.extend_from_slice(&directory);
    out.extend_from_slice(b"PK\x05\x06");
    put(&mut out, &[(0, 2), (0, 2), (count, 2), (count, 2), (size, 4), (at, 4), (0, 2)]);
    out
}

/// The members of a wheel, in the order in which builders write them.
pub(crate) fn members(name: &str, version: &str, tag: &str, content: &[u8]) -> Vec<(String, Vec<u8>)> {
    let stem = name.replace(['-', '.'], "_");
    let info = format!("{stem}-{version}.dist-info");
    let metadata = format!(
        "Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Python: >=3.8\n\nAbout.\n"
    );
    vec![
        (format!("{stem}/__init__.py"), content.to_vec()),
        (format!("{info}/METADATA"), metadata.into_bytes()),
        (format!("{info}/WHEEL"), format!("Wheel-Version: 1.0\nTag: {tag}\n").into_bytes()),
        (format!("{info}/RECORD"), b"x".to_vec()),
    ]
}

impl Distribution {
    /// A wheel with this in it.
    pub(crate) fn wheel(name: &str, version: &str, tag: &str, content: &[u8]) -> Self {
        Self::of_members(name, version, tag, &members(name, version, tag, content))
    }

    /// A wheel of these members.
    pub(crate) fn of_members(name: &str, version: &str, tag: &str, members: &[(String, Vec<u8>)]) -> Self {
        let metadata = members.iter().find(|(member, _)| member.ends_with("/METADATA"));
        Self {
            filename: format!("{}-{version}-{tag}.whl", name.replace(['-', '.'], "_")),
            name: name.to_owned(),
            version: version.to_owned(),
            bytes: zip(members),
            metadata: metadata.map(|(_, bytes)| bytes.clone()).unwrap_or_default(),
        }
    }

    /// A wheel for every machine.
    pub(crate) fn pure(name: &str, version: &str) -> Self {
        Self::wheel(name, version, "py3-none-any", b"x = 1\n")
    }

    /// A zipped source archive.
    pub(crate) fn source(name: &str, version: &str) -> Self {
        let metadata = format!("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\n").into_bytes();
        Self {
            filename: format!("{name}-{version}.zip"),
            name: name.to_owned(),
            version: version.to_owned(),
            bytes: zip(&[(format!("{name}-{version}/PKG-INFO"), metadata.clone())]),
            metadata,
        }
    }

    /// Its SHA-256, in hex.
    pub(crate) fn sha256(&self) -> String {
        hex(&Sha256::digest(&self.bytes))
    }

    /// Its address.
    pub(crate) fn path(&self) -> String {
        format!("/files/{}/{}", self.sha256(), self.filename)
    }

    /// The fields that every client sends, the file last.
    pub(crate) fn form(&self) -> Form {
        let filetype = if self.filename.ends_with(".whl") { "bdist_wheel" } else { "sdist" };
        let fields = [
            (":action", "file_upload"),
            ("protocol_version", "1"),
            ("name", &self.name),
            ("version", &self.version),
            ("filetype", filetype),
            ("metadata_version", "2.1"),
            ("requires_python", ""),
            ("classifiers", "a"),
            ("classifiers", "b"),
            ("sha256_digest", &self.sha256()),
        ]
        .map(|(name, value)| Field {
            name: name.to_owned(),
            filename: None,
            value: value.as_bytes().to_vec(),
        });
        let mut form = Form { fields: fields.to_vec() };
        form.file("content", &self.filename, &self.bytes);
        form
    }

    /// Its upload to the shared index.
    pub(crate) fn upload(&self) -> Request<Body> {
        self.form().post("/legacy/")
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) filename: Option<String>,
    pub(crate) value: Vec<u8>,
}

/// `multipart/form-data`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Form {
    pub(crate) fields: Vec<Field>,
}

const BOUNDARY: &str = "0123456789abcdef";

impl Form {
    /// Adds a file.
    pub(crate) fn file(&mut self, name: &str, filename: &str, bytes: &[u8]) {
        let (name, filename) = (name.to_owned(), Some(filename.to_owned()));
        self.fields.push(Field { name, filename, value: bytes.to_vec() });
    }

    /// Gives a field another value, adding it where it is not there.
    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        match self.fields.iter_mut().find(|field| field.name == name) {
            Some(field) => field.value = value.as_bytes().to_vec(),
            None => return self.add(name, value),
        }
        self
    }

    /// Adds a field before all others.
    pub(crate) fn add(mut self, name: &str, value: &str) -> Self {
        let value = value.as_bytes().to_vec();
        self.fields.insert(0, Field { name: name.to_owned(), filename: None, value });
        self
    }

    /// Takes a field away.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.fields.retain(|field| field.name != name);
        self
    }

    /// As it goes over the wire.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for field in &self.fields {
            let file = field.filename.as_ref();
            let file =
                file.map(|name| format!("; filename=\"{name}\"\r\nContent-Type: application/octet-stream"));
            let head = format!(
                "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{}\"{}\r\n\r\n",
                field.name,
                file.unwrap_or_default()
            );
            out.extend_from_slice(head.as_bytes());
            out.extend_from_slice(&field.value);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
        out
    }

    /// What `Content-Type` says of it.
    pub(crate) fn kind() -> String {
        format!("multipart/form-data; boundary={BOUNDARY}")
    }

    /// A request with it.
    pub(crate) fn send(&self, method: &str, path: &str) -> Request<Body> {
        request(method, path)
            .header("content-type", Self::kind())
            .body(full(self.bytes()))
            .expect("a request")
    }

    /// An upload with it.
    pub(crate) fn post(&self, path: &str) -> Request<Body> {
        self.send("POST", path)
    }
}
