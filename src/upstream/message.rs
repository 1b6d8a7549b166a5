//! What is asked of Telnyx.

use bytes::Bytes;
use http::Method;
use http::header::HeaderValue;

/// What is asked of Telnyx, built from parts of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub(super) method: Method,
    /// Below the base URL, with the query, both already encoded.
    pub(super) path_and_query: String,
    /// JSON, or nothing.
    pub(super) body: Bytes,
    pub(super) accept: HeaderValue,
}

impl Message {
    /// Reads a path.
    pub fn get(path_and_query: impl Into<String>) -> Self {
        Self::new(Method::GET, path_and_query, Bytes::new())
    }

    /// Posts JSON to a path.
    pub fn post(path_and_query: impl Into<String>, json: impl Into<Bytes>) -> Self {
        Self::new(Method::POST, path_and_query, json)
    }

    /// Any method on a path, with JSON or nothing.
    pub fn new(method: Method, path_and_query: impl Into<String>, json: impl Into<Bytes>) -> Self {
        Self { method, path_and_query: path_and_query.into(), body: json.into(), accept: HeaderValue::from_static("application/json") }
    }

    /// What is to be done.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// Whether it deletes something.
    pub fn is_delete(&self) -> bool {
        self.method == Method::DELETE
    }

    /// The same, to be answered with a PDF, or with an error in JSON.
    #[must_use]
    pub fn for_pdf(self) -> Self {
        Self { accept: HeaderValue::from_static("application/pdf, application/json;q=0.5"), ..self }
    }
}
