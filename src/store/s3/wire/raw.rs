//! Single requests as they are, for who examines the bucket: the answer is handed over whole, whatever it says.
//!
//! Judges nothing, learns nothing of the server's clock, counts in no metric.

use std::time::SystemTime;

use http::header::{CONTENT_LENGTH, HOST};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Uri};
use http_body_util::{BodyExt as _, Limited};

use super::super::answers;
use super::{Call, Trouble, Wire};
use crate::store::key::Key;

/// Most bytes that are read of an answer: more than a lifecycle configuration has.
const ANSWER: usize = 4 << 20;

/// An answer.
#[derive(Debug, Clone)]
pub(in crate::store::s3) struct Raw {
    pub(in crate::store::s3) status: u16,
    pub(in crate::store::s3) headers: HeaderMap,
    pub(in crate::store::s3) body: String,
    /// When it was asked for, and when its head was there.
    pub(in crate::store::s3) between: (SystemTime, SystemTime),
}

impl Raw {
    /// A header's text.
    pub(in crate::store::s3) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The first value of an element of its XML.
    pub(in crate::store::s3) fn element(&self, name: &str) -> Option<&str> {
        answers::element(&self.body, name)
    }

    /// The error code, where the answer holds one.
    pub(in crate::store::s3) fn code(&self) -> Option<&str> {
        self.body.contains("<Error>").then(|| self.element("Code")).flatten()
    }

    /// Status, code and message on one line.
    pub(in crate::store::s3) fn line(&self) -> String {
        let parts = [self.code(), self.code().and_then(|_| self.element("Message"))];
        let said: Vec<&str> = parts.into_iter().flatten().filter(|part| !part.is_empty()).collect();
        match said.as_slice() {
            [] => format!("HTTP {}", self.status),
            said => format!("HTTP {}: {}", self.status, said.join(": ")),
        }
    }
}

impl Wire {
    /// Asks once for a key, or for the bucket itself; unsigned as a stranger would.
    pub(in crate::store::s3) async fn raw(
        &self,
        key: Option<&Key>,
        call: &Call,
        signed: bool,
    ) -> Result<Raw, Trouble> {
        let target =
            PathAndQuery::from_maybe_shared(self.target(key, &call.query)).map_err(http::Error::from)?;
        let mut headers = HeaderMap::with_capacity(call.headers.len() + 6);
        headers.insert(HOST, self.host.clone());
        headers.extend(call.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        if signed {
            let place = (target.path(), call.query.as_str());
            let signing =
                self.signer.sign(&call.method, self.authority.as_str(), place, &mut headers, &call.hash);
            signing.await.map_err(Trouble::Unsigned)?;
        }
        if call.method == Method::PUT || call.method == Method::POST {
            headers.insert(CONTENT_LENGTH, call.body.len().into());
        }
        let mut request = Request::new(call.body.clone());
        *request.method_mut() = call.method.clone();
        *request.uri_mut() = Uri::from(target);
        *request.headers_mut() = headers;
        let asked = SystemTime::now();
        let (head, body) = self.pool.send(request).await.map_err(Trouble::Connection)?.into_parts();
        let answered = SystemTime::now();
        let body = Limited::new(body, ANSWER).collect().await.map_err(|_| Trouble::Broken)?.to_bytes();
        Ok(Raw {
            status: head.status.as_u16(),
            headers: head.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
            between: (asked, answered),
        })
    }
}
