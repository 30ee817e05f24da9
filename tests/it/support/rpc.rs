//! A client of the RPC cache that sends what it is told, frame by frame.

use std::net::SocketAddr;

use bytes::{Buf as _, Bytes, BytesMut};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http::{HeaderMap, Request};
use http_body_util::BodyExt as _;
use larder::front::rpc::proto::{
    Artifact, DeleteRequest, DeleteResponse, ListRequest, ListResponse, RetrieveRequest, RetrieveResponse,
    StoreRequest, StoreResponse,
};
use prost::Message;

use super::http::{Body, Client, full, request};

/// Codes of gRPC, by number.
pub(crate) const DEADLINE: i32 = 4;
pub(crate) const INVALID: i32 = 3;
pub(crate) const FORBIDDEN: i32 = 7;
pub(crate) const EXHAUSTED: i32 = 8;
pub(crate) const CONFLICT: i32 = 9;
pub(crate) const UNAVAILABLE: i32 = 14;
pub(crate) const UNAUTHENTICATED: i32 = 16;

/// How a call failed: gRPC's code and message; -1 where no answer came, or only a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) code: i32,
    pub(crate) message: String,
}

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: HeaderMap,
}

/// Speaks to one gateway.
#[derive(Debug, Clone)]
pub(crate) struct Rpc(Client);

/// What an entry is asked for by.
#[derive(Debug, Clone)]
pub(crate) struct At {
    pub(crate) package: String,
    pub(crate) target: String,
    pub(crate) hash: Bytes,
}

impl At {
    pub(crate) fn new(target: &str, seed: u8) -> Self {
        // Bytes whose base64 holds capital letters and digits.
        let hash = (0..20).map(|n: u8| n.wrapping_mul(7).wrapping_add(seed)).collect();
        Self { package: "pkg".to_owned(), target: target.to_owned(), hash }
    }

    pub(crate) fn artifact(&self, file: &str) -> Artifact {
        let (package, target) = (self.package.clone(), self.target.clone());
        Artifact { package, target, file: file.to_owned(), ..Artifact::default() }
    }

    pub(crate) fn file(&self, file: &str, body: impl Into<Bytes>) -> Artifact {
        Artifact { body: body.into(), ..self.artifact(file) }
    }

    pub(crate) fn link(&self, file: &str, to: &str) -> Artifact {
        Artifact { symlink: to.to_owned(), ..self.artifact(file) }
    }

    /// The entry's directory, as HTTP and the store have it.
    pub(crate) fn path(&self) -> String {
        use base64::Engine as _;
        let hash = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&self.hash);
        format!("artifact/linux_amd64/{}/{}/{hash}", self.package, self.target)
    }
}

/// Frames a message.
pub(crate) fn frame(packed: bool, message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[u8::from(packed)], &length[..], message].concat().into()
}

pub(crate) fn pack(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut packer = GzEncoder::new(Vec::new(), Compression::default());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

impl Rpc {
    pub(crate) fn new(addr: SocketAddr) -> Self {
        Self(Client::h2(addr))
    }

    pub(crate) fn over(client: Client) -> Self {
        Self(client)
    }

    /// Sends a request of any form; `None` where no answer came, or only a part.
    pub(crate) async fn raw(&self, method: &str, headers: &[(&str, &str)], body: Body) -> Option<Raw> {
        let path = format!("/proto.rpc_cache.RpcCache/{method}");
        let mut ask = request("POST", &path).header("te", "trailers");
        if !headers.iter().any(|(name, _)| *name == "content-type") {
            ask = ask.header("content-type", "application/grpc");
        }
        for (name, value) in headers {
            ask = ask.header(*name, *value);
        }
        let ask: Request<Body> = ask.body(body).unwrap();
        let mut connection = self.0.connect().await.ok()?;
        let answer = connection.open(ask).await.ok()?;
        let (parts, body) = answer.into_parts();
        let all = body.collect().await.ok()?;
        let trailers = all.trailers().cloned().unwrap_or_default();
        Some(Raw { status: parts.status.as_u16(), headers: parts.headers, body: all.to_bytes(), trailers })
    }

    /// Calls, and reads the answer.
    pub(crate) async fn call<A: Message + Default>(
        &self,
        method: &str,
        message: &impl Message,
        headers: &[(&str, &str)],
    ) -> Result<A, Refused> {
        let gzip = headers.contains(&("grpc-encoding", "gzip"));
        let bytes = message.encode_to_vec();
        let body = if gzip { frame(true, &pack(&bytes)) } else { frame(false, &bytes) };
        read(self.raw(method, headers, full(body)).await)
    }

    pub(crate) async fn store(&self, at: &At, artifacts: Vec<Artifact>) -> Result<(), Refused> {
        let answer: StoreResponse = self.call("Store", &storing(at, artifacts), &[]).await?;
        assert!(answer.success);
        Ok(())
    }

    /// What these names bring: the artifacts in order, or none for a miss.
    pub(crate) async fn retrieve(&self, at: &At, files: &[&str]) -> Result<Vec<Artifact>, Refused> {
        let artifacts = files.iter().map(|file| at.artifact(file)).collect();
        let message = RetrieveRequest {
            artifacts,
            os: "linux".to_owned(),
            arch: "amd64".to_owned(),
            hash: at.hash.clone(),
        };
        let answer: RetrieveResponse = self.call("Retrieve", &message, &[]).await?;
        assert_eq!(answer.success, !answer.artifacts.is_empty(), "success says whether there is anything");
        Ok(answer.artifacts)
    }

    pub(crate) async fn delete(&self, at: &At) -> Result<(), Refused> {
        let message = DeleteRequest {
            artifacts: vec![at.artifact("")],
            os: "linux".to_owned(),
            arch: "amd64".to_owned(),
            everything: false,
        };
        let answer: DeleteResponse = self.call("Delete", &message, &[]).await?;
        assert!(answer.success);
        Ok(())
    }

    pub(crate) async fn delete_everything(&self) -> Result<(), Refused> {
        let message = DeleteRequest { everything: true, ..DeleteRequest::default() };
        let answer: DeleteResponse = self.call("Delete", &message, &[]).await?;
        assert!(answer.success);
        Ok(())
    }

    pub(crate) async fn nodes(&self) -> Result<usize, Refused> {
        let answer: ListResponse = self.call("ListNodes", &ListRequest {}, &[]).await?;
        Ok(answer.nodes.len())
    }
}

pub(crate) fn storing(at: &At, artifacts: Vec<Artifact>) -> StoreRequest {
    StoreRequest {
        artifacts,
        os: "linux".to_owned(),
        arch: "amd64".to_owned(),
        hash: at.hash.clone(),
        hostname: "ci-7".to_owned(),
    }
}

/// The one message of an answer, or why there is none.
pub(crate) fn read<A: Message + Default>(raw: Option<Raw>) -> Result<A, Refused> {
    let broken = |message: &str| Refused { code: -1, message: message.to_owned() };
    let raw = raw.ok_or_else(|| broken("no whole answer"))?;
    let text = |name: &str| {
        let value = raw.trailers.get(name).or_else(|| raw.headers.get(name));
        value.map(|value| value.to_str().unwrap().to_owned())
    };
    match text("grpc-status").as_deref() {
        Some("0") => {}
        Some(code) => {
            let message = text("grpc-message").unwrap_or_default();
            let message = percent_encoding::percent_decode_str(&message).decode_utf8().unwrap().into_owned();
            return Err(Refused { code: code.parse().unwrap(), message });
        }
        None => return Err(broken("no grpc-status")),
    }
    let mut body = BytesMut::from(raw.body.as_ref());
    assert!(body.len() >= 5, "a frame has five bytes before its message");
    let packed = body.get_u8() == 1;
    let length = body.get_u32() as usize;
    assert_eq!(body.len(), length, "one message, as long as it says");
    let message = if packed {
        assert_eq!(raw.headers.get("grpc-encoding").unwrap(), "gzip");
        let mut all = Vec::new();
        std::io::Read::read_to_end(&mut GzDecoder::new(body.as_ref()), &mut all).unwrap();
        Bytes::from(all)
    } else {
        body.freeze()
    };
    Ok(A::decode(message).unwrap())
}

/// Names and bodies, for comparison.
pub(crate) fn contents(artifacts: &[Artifact]) -> Vec<(String, Bytes, String)> {
    artifacts.iter().map(|a| (a.file.clone(), a.body.clone(), a.symlink.clone())).collect()
}
